"""Functions that a config names by import path, 'my_lab.terms:edges': imported, and tried once.

The trial is a call, compiled as in training, on two small images; what it shows to be wrong is one
line before any training begins.
"""

import difflib
import functools
import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pdn_jax
from pdn_jax import degradation
from pdn_jax.balance import Balance, GradientStatistics, Weights
from pdn_jax.degradation import Step
from pdn_jax.image import pool
from pdn_jax.model import Noise, PDNOutput
from pdn_jax.types import Batch, InputError, Physics

TERM = ("output", "restored", "batch")
RESIDUAL = ("degrade", "image", "batch")
DISTANCE = ("prediction", "target")
MEAN = ("image", "physics")
"""What each kind of function is called with."""

TAKEN = re.compile(
    "restored|structure|stages|levels|noise|positive|negative|loss|step|gradient_norm|learning_rate"
    "|images_per_second|(balance|eval)/.*"
)
"""Names in a run's metrics that are not free for a term."""


OURS = (str(Path(pdn_jax.__file__).parent), str(Path(__file__).parent))
"""Folders whose lines are not the person's own."""


def is_path(value: str) -> bool:
    """Whether a value names something to import, rather than one of ours."""
    return ":" in value


def load(option: str, path: str) -> Any:
    """What 'package.module:name' names; raises InputError where it is not there."""
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        raise InputError(f"{option} is {path!r}; expected an import path, as my_lab.terms:edges")
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        if absent:
            remedy = "start from the folder that holds it, or add that to PYTHONPATH"
            raise InputError(f"{option}: there is no module {error.name!r}; {remedy}") from error
        raise InputError(f"{option}: importing {name} failed: {_said(error)}") from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, dir(module), 1)
        meant = f"; did you mean {name}:{near[0]}?" if near else ""
        raise InputError(f"{option}: {name} has no {attribute!r}{meant}")
    return getattr(module, attribute)


def function(option: str, path: str, arguments: Sequence[str]) -> Callable:
    """A function that can be called with these; raises InputError that says which argument is wrong."""
    value = load(option, path)
    wanted = f"it is called with ({', '.join(arguments)})"
    if not callable(value) or isinstance(value, Step | Balance):
        raise InputError(f"{option}: {path} is a {type(value).__name__}, no function; {wanted}")
    places = list(inspect.signature(value).parameters.values())
    if any(place.kind == place.VAR_POSITIONAL for place in places):
        return value
    taken = [place for place in places if place.kind != place.KEYWORD_ONLY]
    taken = [place for place in taken if place.kind != place.VAR_KEYWORD]
    if len(taken) < len(arguments):
        raise InputError(f"{option}: {path} has no argument {arguments[len(taken)]!r}; {wanted}")
    for count, place in enumerate(taken[: len(arguments)]):
        if place.name in arguments and place.name != arguments[count]:
            raise InputError(
                f"{option}: argument {count + 1} of {path} is {place.name!r}; expected "
                f"{arguments[count]!r}, {wanted}"
            )
    for place in places:
        known = place in taken[: len(arguments)] or place.kind == place.VAR_KEYWORD
        if not known and place.default is place.empty:
            raise InputError(
                f"{option}: argument {place.name!r} of {path} is never given; {wanted}"
            )
    return value


# --- what a config may name ------------------------------------------------------------------


def distance(path: str, batch: Batch) -> Callable:
    """The distance of `loss.distance`, tried on a batch."""
    option, value = "loss.distance", function("loss.distance", path, DISTANCE)
    _try(option, path, lambda low, batch: {"": value(low, batch.normal)}, batch.low, batch, True)
    return value


def residual(path: str, degrade: Step, batch: Batch) -> Callable:
    """The negative direction of `loss.negative`, tried on a batch."""
    option, value = "loss.negative", function("loss.negative", path, RESIDUAL)
    start = output_of(batch.normal).restored
    _try(option, path, lambda image, batch: {"": value(degrade, image, batch)}, start, batch)
    return value


def terms(extra: Sequence, batch: Batch) -> list[Callable]:
    """The directions of `loss.extra`, each weighed, tried on a batch.

    extra: ('my_lab.terms:edges', 0.1), or several of them.
    """
    directions, names = [], {}
    for pair in (extra,) if extra and isinstance(extra[0], str) else extra:
        number = isinstance(pair, tuple) and len(pair) == 2 and type(pair[1]) in (int, float)
        if not (number and isinstance(pair[0], str) and np.isfinite(pair[1])):
            raise InputError(f"loss.extra has {pair!r}; expected ('my_lab.terms:edges', weight)")
        path, weight = pair
        value = function("loss.extra", path, TERM)

        def term(restored, batch, value=value):
            return value(output_of(restored), restored, batch)

        tried = _try("loss.extra", path, term, output_of(batch.normal).restored, batch)
        for name in tried:
            if name in names or TAKEN.fullmatch(name):
                of = names.get(name, "the loss itself")
                raise InputError(
                    f"loss.extra: the term {name!r} of {path} is one of {of}; rename it"
                )
            names[name] = path

        def weighed(output, restored, batch, value=value, weight=weight):
            values = value(output, restored, batch)
            return {name: weight * each for name, each in values.items()}

        directions.append(weighed)
    return directions


def balance(path: str) -> Balance:
    """The balance of `loss.balance`, tried with the statistics of a step, also where the hinge is shut."""
    option, value = "loss.balance", load("loss.balance", path)
    if not isinstance(value, Balance):
        raise InputError(
            f"{option}: {path} is a {type(value).__name__}; expected a "
            "pdn_jax.balance.Balance(init, weights, update)"
        )

    def trial(statistics):
        state = value.init()
        moved, logs = value.update(state, statistics)
        return state, moved, value.weights(state), value.weights(moved), logs

    for numbers in ((1.0, 0.5, 0.4, 1e-4, 2e-4, 1e-5), (1.0, 0.5, 0.0, 1e-4, 0.0, 0.0)):
        statistics = GradientStatistics(*map(jnp.asarray, numbers))
        state, moved, *weights, logs = _called(option, path, trial, statistics)
        before, after = (jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, moved))
        if before != after:
            raise InputError(
                f"{option}: {path} turned a state {before} into {after}; both must be one"
            )
        for each in weights:
            if not isinstance(each, Weights):
                raise InputError(f"{option}: weights of {path} gave {each!r}; expected Weights")
        for name, number in (*weights[0]._asdict().items(), *weights[1]._asdict().items()):
            _check(option, path, f"weight {name!r}", number, ())
        if not isinstance(logs, dict):
            raise InputError(f"{option}: update of {path} gave logs {logs!r}; expected a dict")
        for name, number in logs.items():
            _check(option, path, f"{name!r} in the logs", number, ())
    return value


def steps(option: str, paths: Sequence[str], batch: Batch) -> list[Step]:
    """Physics steps, or functions (image, physics) -> image that are their means, tried on a batch."""
    several = []
    for path in paths:
        value = load(option, path)
        if not isinstance(value, Step):
            value = degradation.step(function(option, path, MEAN))
        image, keys = batch.normal, jax.random.split(jax.random.key(0), len(batch.normal))
        readings = {
            "mean": (value.mean, image, batch.physics),
            "variance": (value.variance, image, batch.physics),
            "slope": (value.slope, image, batch.physics),
        }
        for name, (reading, *arguments) in readings.items():
            together = _called(option, path, reading, *arguments)
            _check(option, path, name, together, image.shape)
            alone = _called(option, path, jax.vmap(reading), *arguments)
            _check_apart(option, path, name, together, alone)
        drawn = _called(option, path, jax.vmap(value.sample), keys, image, batch.physics)
        _check(option, path, "sample", drawn, image.shape)
        several.append(value)
    return several


# --- the trial -------------------------------------------------------------------------------


@functools.cache
def tiny_batch(size: int) -> Batch:
    """Two images of size×size with black, white and textured parts, darkened by the default camera."""
    y, x = jnp.mgrid[0:size, 0:size] / size
    waves = [
        0.5 + 0.45 * jnp.sin(9 * y + (7 + 3 * n) * x * (1 + c)) for n in (0, 1) for c in range(3)
    ]
    normal = jnp.stack(waves).reshape(2, 3, size, size).transpose(0, 2, 3, 1)
    part = size // 4
    normal = normal.at[:, :part, :part].set(0.0).at[:, -part:, -part:].set(1.0)
    physics = Physics(
        exposure=jnp.asarray([0.05, 0.2]),
        gains=jnp.asarray([[1.25, 1.0, 0.8], [0.8, 1.0, 1.25]]),
        shot_noise=jnp.asarray([1e-3, 1e-4]),
        read_noise=jnp.asarray([1e-5, 1e-6]),
    )
    low = jax.jit(degradation.camera().sample)(jax.random.key(0), normal, physics)
    return Batch(low=low, normal=normal, physics=physics)


def output_of(restored) -> PDNOutput:
    """A network's output with a restored image that is near this one, and black and white where it is."""
    restored = restored + 0.1 * restored * (1.0 - restored)
    ones = jnp.ones(len(restored))
    return PDNOutput(
        enhanced=(0.5 * restored, restored),
        denoised=(pool(restored, 4), pool(restored, 2), restored),
        restored=restored,
        path=jnp.full_like(restored, 2.0),
        exposure=0.1 * ones,
        noise=Noise(shot=1e-3 * ones, read=1e-5 * ones),
    )


def _try(option: str, path: str, value: Callable, image, batch: Batch, maps: bool = False) -> dict:
    """Values per image of {name: [n]} = value(image, batch), checked along with their gradient.

    maps: [n, …] is as good. The second image is then replaced by the first, which must not move what
    the first one is given.
    """

    def both(image, batch):
        gradient, values = jax.grad(summed, has_aux=True)(image, batch)
        return values, gradient

    def summed(image, batch):
        values = value(image, batch)
        leaves = jax.tree.leaves(values)
        return sum((jnp.sum(leaf) for leaf in leaves), jnp.zeros(())), values

    values, gradient = _called(option, path, both, image, batch)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        kind = f"shape {values.shape}" if hasattr(values, "shape") else type(values).__name__
        raise InputError(f"{option}: {path} gave {kind}; expected {{name: [n]}}, values per image")
    count = len(image)
    for name, each in values.items():
        wanted = (count, *getattr(each, "shape", ())[1:]) if maps else (count,)
        _check(option, path, repr(name) if name else "what it gives", each, wanted)
    _check(option, path, "the gradient", gradient, image.shape)
    first = jax.tree.map(lambda x: jnp.stack([x[0]] * count), (image, batch))
    others, _ = _called(option, path, both, *first)
    for name, each in values.items():
        _check_apart(
            option, path, repr(name) if name else "what it gives", each[:1], others[name][:1]
        )
    return values


def _called(option: str, path: str, value: Callable, *arguments):
    """What a function gives, compiled; raises InputError that says where it failed."""
    try:
        return jax.jit(value)(*arguments)
    except Exception as error:
        raise InputError(f"{option}: {path} cannot be used: {_said(error)}") from error


def _check(option: str, path: str, name: str, value, shape: tuple[int, ...]) -> None:
    """Raise InputError for another shape, or for what is not finite."""
    given = getattr(value, "shape", type(value).__name__)
    if given != shape:
        hint = "; it must not reduce over the batch" if shape and given == () else ""
        raise InputError(f"{option}: {name} of {path} has shape {given}; expected {shape}{hint}")
    if not np.isfinite(value).all():
        raise InputError(f"{option}: {name} of {path} is not finite for an image in [0, 1]")


def _check_apart(option: str, path: str, name: str, one, other) -> None:
    """Raise InputError where an image is given something else in other company."""
    if not np.allclose(one, other, rtol=1e-3, atol=1e-6):
        raise InputError(
            f"{option}: {name} of {path} depends on the other images of the batch; "
            "it must not reduce over the batch"
        )


def _said(error: Exception) -> str:
    """'my_lab.py, line 3: NameError: …', the first line of it, and where in the person's own file."""
    text = str(error).strip().splitlines() or [""]
    frames = traceback.extract_tb(error.__traceback__)
    files = [(f.filename, f.lineno) for f in frames if not f.filename.startswith(OURS)]
    own = [file for file in files if not re.search("site-packages|importlib", file[0])]
    where = "{}, line {}: ".format(*own[-1]) if own else ""
    return f"{where}{type(error).__name__}: {text[0]}"
