"""From the config to functions: the only place where a config becomes keyword arguments."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pdn_jax import calibration, degradation, losses
from pdn_jax import weights as weight_files
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError, PRNGKey
from train import head, imports
from train.config import choose
from train.data import augmentation, calibrated_camera, synthesis
from train.step import make_train_step, rematerialised

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
DISTANCES = {"charbonnier": losses.charbonnier, "l1": losses.l1}

STREAMS = ("parameters", "batches")
"""What is drawn from the seed; `batches`: folded with the step, then with the image's index."""

PHYSICS_STREAMS = ("wide", "ranges", "calibrated")


def keys(config) -> dict[str, PRNGKey]:
    """A key for each of `STREAMS` from `config.seed`."""
    root = jax.random.key(config.seed)
    return dict(zip(STREAMS, jax.random.split(root, len(STREAMS)), strict=True))


def keywords(config) -> dict[str, Any]:
    """Keyword arguments of the network of `config.model`: those of its variant, with its changes.

    It has the head of `pdn_jax.evidence` where the weights that it starts from have it.
    """
    variant = dict(choose("model.variant", config.model.variant, VARIANTS))
    if config.model.weights:
        variant["evidence"] = head.is_there(config.model.weights)
    known = (*variant, "noise_map", "evidence")
    for change in config.model.change:
        if not (isinstance(change, tuple) and len(change) == 2 and change[0] in known):
            raise InputError(
                f"model.change has {change!r}; expected (keyword, value), one of {', '.join(known)}"
            )
        variant[change[0]] = change[1]
    if fault := fault_of(variant):
        raise InputError(f"model.change makes {fault}")
    return variant


def fault_of(model: dict[str, Any]) -> str:
    """What is wrong with a network's numbers, '' where nothing is."""
    for name in ("stages", "width"):
        if type(model[name]) is not int or model[name] < 1:
            return f"{name} {model[name]!r}; expected a whole number, 1 or more"
    lengths = set()
    for name, least in (("widths", 1), ("depths", 0), ("blocks", 2)):
        values = model[name]
        whole = isinstance(values, tuple) and all(type(v) is int and v >= least for v in values)
        if not whole or not values:
            return f"{name} {values!r}; expected a tuple of whole numbers, {least} or more"
        lengths.add(len(values))
    if len(lengths) > 1:
        return "widths, depths and blocks of different lengths; expected one of each per level"
    return ""


def network(config) -> ProgressiveDualNetwork:
    """The network of `config.model`."""
    dtype = choose("model.dtype", config.model.dtype, DTYPES)
    return ProgressiveDualNetwork(**keywords(config), dtype=dtype)


def initial_params(config, model: ProgressiveDualNetwork):
    """Random parameters from the seed, or those of `config.model.weights` if it names any.

    The head that decides how much is wanted is theirs, new or left out, as the network has it.
    """
    size = config.data.crop_size
    shape = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    key = keys(config)["parameters"]
    expected = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), shape)
    if config.model.weights:
        loaded = weight_files.load(config.model.weights, variant=config.model.variant)
        loaded = head.fitted_to(loaded, model.evidence)
        weight_files.check(loaded.params, expected)
        return jax.tree.map(jnp.asarray, loaded.params)
    # Run once, so that its compilation counts and its speed does not.
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    return init(key, jnp.zeros(shape.shape))


def ranges_sampler(brightness, snr, *spreads: float):
    """`sample_physics` with these ranges; brightness of 255, then cast, veil, tone and field."""
    return functools.partial(
        degradation.sample_physics,
        brightness=tuple(value / 255.0 for value in brightness),
        snr=tuple(snr),
        **dict(zip(("cast", "veil", "tone", "field"), spreads, strict=True)),
    )


def physics_sampler(config):
    """θ to train with: drawn from the ranges of `config.data`, or like those of its calibration.

    With a calibration, a fraction `data.wide` is drawn from the ranges all the same.
    """
    options = config.data
    spreads = options.cast, options.veil, options.tone, options.field
    ranges = ranges_sampler(options.brightness, options.snr, *spreads)
    if not options.physics:
        return ranges
    fits, _ = calibrated_camera.load_calibration(options.physics)
    calibrated = functools.partial(calibration.sample_like, calibration=fits, field=options.field)
    if not options.wide:
        return calibrated

    def either(key, normal):
        split = jax.random.split(key, len(PHYSICS_STREAMS))
        keys = dict(zip(PHYSICS_STREAMS, split, strict=True))
        wide = jax.random.uniform(keys["wide"], normal.shape[:-3]) < options.wide

        def choose(a, b):
            return jnp.where(wide.reshape(*wide.shape, *(1,) * (a.ndim - wide.ndim)), a, b)

        drawn = ranges(keys["ranges"], normal), calibrated(keys["calibrated"], normal)
        return jax.tree.map(choose, *drawn)

    return either


def eval_sampler(config):
    """θ to judge by, where a photograph has no dark partner: the ranges of `config.eval` alone."""
    options = config.eval
    spreads = options.cast, options.veil, options.tone, options.field
    return ranges_sampler(options.brightness, options.snr, *spreads)


def camera(config):
    """The forward model of `config.data`."""
    options = config.data
    return degradation.camera(options.grain, _steps(config, "data.scene", options.scene))


def eval_camera(config):
    """The forward model of `config.eval`."""
    options = config.eval
    return degradation.camera(options.grain, _steps(config, "eval.scene", options.scene))


def _steps(config, option: str, paths):
    """The steps that `config` names; those of nothing need no trial."""
    if not (isinstance(paths, tuple) and all(isinstance(path, str) for path in paths)):
        raise InputError(f"{option} is {paths!r}; expected import paths, as ('my_lab.steps:haze',)")
    return imports.steps(option, paths, _tiny(config)) if paths else ()


def _tiny(config):
    """What a function of a person's own is tried on."""
    return imports.tiny_batch(config.data.crop_size)


def _chosen(option: str, value: str, table: dict, imported):
    """What `table` makes of a name of ours, or `imported` of an import path."""
    if imports.is_path(value):
        return imported(value)
    return choose(option, value, table, ", or an import path as my_lab.terms:name")()


def synthesiser(config, degrade, fitted: synthesis.Fitted | None = None):
    """(keys, crops) -> Batch: the forward model at work on the device."""
    options = config.augment
    reexposure = augmentation.Reexposure(
        options.probability, options.stops, options.cast, tuple(options.snr)
    )
    restraint = augmentation.Restraint(
        options.identity,
        options.mild,
        tuple(options.mild_stops),
        tuple(options.mild_snr),
        options.mild_cast,
    )
    return functools.partial(
        synthesis.synthesise,
        degrade=degrade,
        sample_physics=physics_sampler(config),
        fitted=fitted,
        reexposure=reexposure if options.probability else None,
        restraint=restraint if options.identity or options.mild else None,
        bars=options.bars,
    )


def loss(config, degrade) -> losses.Bidirectional:
    """The bidirectional loss of `config.loss`."""
    options = config.loss
    distance = _chosen(
        "loss.distance",
        options.distance,
        DISTANCES,
        lambda path: imports.distance(path, _tiny(config)),
    )
    extra = imports.terms(options.extra, _tiny(config)) if options.extra else ()
    levels = {
        "levels": options.pyramid,
        "finest": options.finest,
        "correlation": options.correlation,
    }
    negatives = {
        "whitened": lambda: losses.whitened(distance, **levels),
        "likelihood": lambda: losses.likelihood(levels=options.pyramid),
    }
    floors = {"truth": lambda: None, "noise": lambda: losses.expected(**levels)}
    floor = choose("loss.floor", options.floor, floors)()
    if floor and (options.negative, options.distance) != ("whitened", "charbonnier"):
        raise InputError(
            "loss.floor is 'noise', which is known of loss.negative=whitened with "
            "loss.distance=charbonnier alone"
        )
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
    positive = losses.positive(
        distance,
        structure=options.structure,
        blind=options.blind,
        stages=options.stages,
        levels=options.levels,
        noise=options.noise,
        sigma=options.blur,
    )
    return losses.bidirectional(
        degrade,
        positive=losses.combine(losses.where_true(positive), *extra),
        negative=_chosen(
            "loss.negative",
            options.negative,
            negatives,
            lambda path: imports.residual(path, degrade, _tiny(config)),
        ),
        balance=_chosen("loss.balance", options.balance, balances, imports.balance),
        floor=floor,
    )


def rate(config):
    """The learning rate of `config.train`, a function of the step.

    Linear from 0 over `warmup` of the steps, then a cosine down to `final_rate` of the peak.
    """
    options = config.train
    warmup = max(1, round(options.warmup * options.steps))
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=options.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(options.steps, warmup + 1),
        end_value=options.final_rate * options.learning_rate,
    )


def optimizer(config) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW with decay of the kernels, as `config.train` says."""
    options = config.train
    return optax.chain(
        optax.clip_by_global_norm(options.clip_norm),
        optax.adamw(rate(config), b2=0.99, weight_decay=options.weight_decay, mask=kernels),
    )


def kernels(params) -> dict:
    """True for what weight decay acts on: kernels, not biases or norms."""
    return jax.tree.map_with_path(lambda path, leaf: path[-1].key == "kernel", params)


def step_maker(config, *, model, degrade, loss, optimizer, fitted=None):
    """axis_name -> the per-device train step, as `parallel` wants it."""
    return lambda axis_name: make_train_step(
        keys(config)["batches"],
        apply=rematerialised(model.apply, config.train.remat),
        loss=loss,
        optimizer=optimizer,
        synthesise=synthesiser(config, degrade, fitted),
        ema_decay=config.train.ema_decay,
        accumulate=config.train.accumulate,
        axis_name=axis_name,
    )
