"""From the config to functions: the only place where a config becomes keyword arguments."""

import functools

import jax
import jax.numpy as jnp

from pdn_jax import degradation, losses
from pdn_jax import weights as weight_files
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError
from train.data import synthesise

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
DISTANCES = {"charbonnier": losses.charbonnier, "l1": losses.l1}


def choose(key: str, value: str, table: dict):
    """table[value], or an InputError that names the key and what there is."""
    if value not in table:
        raise InputError(f"{key} is {value!r}; expected one of {', '.join(table)}")
    return table[value]


def network(config) -> ProgressiveDualNetwork:
    """The network of `config.model`."""
    variant = choose("model.variant", config.model.variant, VARIANTS)
    dtype = choose("model.dtype", config.model.dtype, DTYPES)
    return ProgressiveDualNetwork(**variant, dtype=dtype)


def initial_params(config, model: ProgressiveDualNetwork):
    """Random parameters from the seed, or those of `config.model.weights` if it names any."""
    size = config.data.crop_size
    shape = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(config.seed), shape)
    if config.model.weights:
        loaded = weight_files.load(config.model.weights, variant=config.model.variant)
        weight_files.check(loaded.params, expected)
        return jax.tree.map(jnp.asarray, loaded.params)
    # Run once, so that its compilation counts and its speed does not.
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    return init(jax.random.key(config.seed), jnp.zeros(shape.shape))


def physics_sampler(config):
    """`sample_physics` with the ranges of `config.data`."""
    data = config.data
    return functools.partial(
        degradation.sample_physics,
        brightness=tuple(value / 255.0 for value in data.brightness),
        snr=tuple(data.snr),
        cast=data.cast,
        veil=data.veil,
        tone=data.tone,
        field=data.field,
    )


def synthesiser(config, degrade):
    """(keys, crops) -> Batch: the forward model at work on the device."""
    return functools.partial(synthesise, degrade=degrade, sample_physics=physics_sampler(config))


def loss(config, degrade) -> losses.Bidirectional:
    """The bidirectional loss of `config.loss`."""
    options = config.loss
    distance = choose("loss.distance", options.distance, DISTANCES)()
    negatives = {
        "whitened": lambda: losses.whitened(distance, levels=options.pyramid),
        "likelihood": lambda: losses.likelihood(levels=options.pyramid),
    }
    balances = {
        "gradient_ratio": lambda: losses.gradient_ratio(
            options.ratio,
            ramp_steps=round(options.ramp * config.train.steps),
            decay=options.decay,
            maximum=options.maximum,
        ),
        "fixed": lambda: losses.fixed(options.weight),
        "uncertainty": lambda: losses.uncertainty(options.rate, maximum=options.maximum),
        "positive_only": losses.positive_only,
    }
    return losses.bidirectional(
        degrade,
        positive=losses.positive(
            distance,
            structure=options.structure,
            stages=options.stages,
            levels=options.levels,
            noise=options.noise,
            sigma=options.blur,
        ),
        negative=choose("loss.negative", options.negative, negatives)(),
        balance=choose("loss.balance", options.balance, balances)(),
    )
