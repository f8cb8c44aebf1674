"""From the config to functions: the only place where a config becomes keyword arguments."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from pdn_jax import calibration, degradation, losses
from pdn_jax import weights as weight_files
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError
from train.data import calibrated_camera, synthesis
from train.optimizer import make_optimizer, schedule
from train.step import make_train_step, rematerialised

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
DISTANCES = {"charbonnier": losses.charbonnier, "l1": losses.l1}


AT_LEAST = {
    "data.crop_size": 32,
    "data.threads": 1,
    "data.workers": 0,
    "data.between": 0,
    "loss.pyramid": 1,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.remat": 0,
    "eval.every": 1,
    "eval.draws": 1,
    "eval.max_pairs": 0,
    "checkpoint.every": 1,
    "checkpoint.keep": 2,
    "checkpoint.keep_every": 0,
    "parallel.devices": 0,
    "parallel.processes": 0,
    "parallel.process": -1,
    "parallel.patience": 1,
    "parallel.heartbeat": 5,
    "log.every": 1,
}
"""Whole numbers and the least that they may be."""

NOT_NEGATIVE = (
    *("data.cast", "data.veil", "data.tone", "data.field", "data.cache", "data.grain"),
    *("augment.stops", "augment.cast"),
    *("loss.structure", "loss.stages", "loss.levels", "loss.noise", "loss.ratio", "loss.weight"),
    *("loss.rate", "train.learning_rate", "train.weight_decay"),
)
POSITIVE = (
    "data.smallest_crop",
    "augment.enlarged",
    "loss.blur",
    "loss.maximum",
    "train.clip_norm",
)
PARTS = (
    "data.smallest_crop",
    "data.final_fraction",
    "data.jpeg",
    "data.wide",
    "augment.probability",
    "augment.scaled",
    "augment.enlarged",
    "loss.ramp",
    "loss.decay",
    "train.warmup",
    "train.final_rate",
)
"""Options between 0 and 1; `train.ema_decay` too, but below 1."""


def validate(config) -> None:
    """Raise InputError for the first number that makes no sense, with its key and what would."""

    def need(key, good, wanted):
        section, name = key.split(".")
        value = config[section][name]
        if not good(value):
            raise InputError(f"{key} is {value}; expected {wanted}")

    if config.seed < 0:
        raise InputError(f"seed is {config.seed}; expected at least 0")
    for key, least in AT_LEAST.items():
        need(key, lambda value, least=least: value >= least, f"at least {least}")
    need("data.crop_size", lambda value: value % 8 == 0, "a multiple of 8")
    need(
        "data.final_size",
        lambda value: value == 0 or (value % 8 == 0 and value >= config.data.crop_size),
        f"0, or a multiple of 8 from data.crop_size={config.data.crop_size} on",
    )
    for key in NOT_NEGATIVE:
        need(key, lambda value: 0 <= value < math.inf, "a finite number, 0 or more")
    for key in POSITIVE:
        need(key, lambda value: 0 < value < math.inf, "a finite number above 0")
    for key in PARTS:
        need(key, lambda value: 0 <= value <= 1, "a part, from 0 to 1")
    need("train.ema_decay", lambda value: 0 <= value < 1, "from 0 to below 1")
    need(
        "data.brightness",
        lambda value: _rising(value) and value[0] > 0 and value[1] < 255,
        "(darkest, brightest) mean, of 255",
    )
    need("data.snr", _rising, "(worst, best) in dB")
    need("augment.snr", _rising, "(worst, best) in dB")
    need(
        "data.jpeg_quality",
        lambda value: _rising(value) and value[0] >= 1 and value[1] <= 95 and _whole(value),
        "(worst, best), whole numbers from 1 to 95",
    )
    options = config.parallel
    if not options.distributed:
        for name, unsaid in (("coordinator", ""), ("processes", 0), ("process", -1)):
            if options[name] != unsaid:
                raise InputError(
                    f"parallel.{name} is {options[name]}, but this is not one of several processes; "
                    "add --config.parallel.distributed=true, or leave it out"
                )


def _rising(value) -> bool:
    return len(value) == 2 and value[0] <= value[1]


def _whole(value) -> bool:
    return all(type(number) is int for number in value)


def choose(key: str, value: str, table: dict):
    """table[value], or an InputError that names the key and what there is."""
    if value not in table:
        raise InputError(f"{key} is {value!r}; expected one of {', '.join(table)}")
    return table[value]


def keywords(config) -> dict[str, Any]:
    """Keyword arguments of the network of `config.model`: those of its variant, with its changes."""
    variant = dict(choose("model.variant", config.model.variant, VARIANTS))
    known = (*variant, "noise_map")
    for change in config.model.change:
        if not (isinstance(change, tuple) and len(change) == 2 and change[0] in known):
            raise InputError(
                f"model.change has {change!r}; expected (keyword, value), one of {', '.join(known)}"
            )
        variant[change[0]] = change[1]
    return variant


def network(config) -> ProgressiveDualNetwork:
    """The network of `config.model`."""
    dtype = choose("model.dtype", config.model.dtype, DTYPES)
    return ProgressiveDualNetwork(**keywords(config), dtype=dtype)


def initial_params(config, model: ProgressiveDualNetwork):
    """Random parameters from the seed, or those of `config.model.weights` if it names any."""
    size = config.data.crop_size
    shape = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(config.seed), shape)
    if config.model.weights:
        loaded = weight_files.load(config.model.weights, variant=config.model.variant)
        weight_files.check(loaded.params, expected)
        return jax.tree.map(jnp.asarray, weight_files.single(loaded.params))
    # Run once, so that its compilation counts and its speed does not.
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    return init(jax.random.key(config.seed), jnp.zeros(shape.shape))


def physics_sampler(config):
    """`sample_physics` with the ranges of `config.data`, or draws like those of its calibration.

    With a calibration, a part `data.wide` is drawn from the ranges all the same.
    """
    options = config.data
    ranges = functools.partial(
        degradation.sample_physics,
        brightness=tuple(value / 255.0 for value in options.brightness),
        snr=tuple(options.snr),
        cast=options.cast,
        veil=options.veil,
        tone=options.tone,
        field=options.field,
    )
    if not options.physics:
        return ranges
    found, _ = calibrated_camera.load_calibration(options.physics)
    like = functools.partial(calibration.sample_like, calibration=found, field=options.field)
    if not options.wide:
        return like

    def either(key, normal):
        keys = dict(zip(("wide", "ranges", "like"), jax.random.split(key, 3), strict=True))
        wide = jax.random.uniform(keys["wide"], normal.shape[:-3]) < options.wide

        def choose(a, b):
            return jnp.where(wide.reshape(*wide.shape, *(1,) * (a.ndim - wide.ndim)), a, b)

        return jax.tree.map(choose, ranges(keys["ranges"], normal), like(keys["like"], normal))

    return either


def camera(config):
    """The forward model of `config.data`."""
    return degradation.camera(config.data.grain)


def synthesiser(config, degrade, fitted: synthesis.Fitted | None = None):
    """(keys, crops) -> Batch: the forward model at work on the device."""
    options = config.augment
    reexposure = synthesis.Reexposure(
        options.probability, options.stops, options.cast, tuple(options.snr)
    )
    return functools.partial(
        synthesis.synthesise,
        degrade=degrade,
        sample_physics=physics_sampler(config),
        fitted=fitted,
        reexposure=reexposure if options.probability else None,
    )


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


def rate(config):
    """The learning rate of `config.train`, a function of the step."""
    options = config.train
    return schedule(
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        final_rate=options.final_rate,
        steps=options.steps,
    )


def optimizer(config):
    """The optax chain of `config.train`."""
    options = config.train
    return make_optimizer(
        rate(config), weight_decay=options.weight_decay, clip_norm=options.clip_norm
    )


def step_maker(config, *, model, degrade, loss, optimizer, fitted=None):
    """axis_name -> the per-device train step, as `parallel` wants it."""
    return lambda axis_name: make_train_step(
        apply=rematerialised(model.apply, config.train.remat),
        loss=loss,
        optimizer=optimizer,
        synthesise=synthesiser(config, degrade, fitted),
        seed=config.seed,
        ema_decay=config.train.ema_decay,
        accumulate=config.train.accumulate,
        axis_name=axis_name,
    )
