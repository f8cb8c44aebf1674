"""Crops to batches on the device, where everything arithmetic happens, and whole pairs to judge by.

Every draw is keyed by (seed, step, place in the global batch). Photographs without a dark partner
are darkened by the forward model; of real dark photographs some are exposed once more by it
(re-exposure augmentation), which widens brightness, cast and noise beyond what was taken. Some
crops need little or nothing (restraint): their truth, darkened a little or as it is.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pdn_jax import degradation
from pdn_jax.compiled import Compiled
from pdn_jax.degradation import Step
from pdn_jax.types import Batch, Image, Physics, PRNGKey
from train.data.augmentation import (
    Reexposure,
    Restraint,
    compose_physics,
    draw_bars,
    draw_reexposure,
    draw_restraint,
)
from train.data.store import Split

CAMERA = degradation.camera()

PhysicsSampler = Callable[[PRNGKey, Image], Physics]
Crops = dict[str, Any]
"""uint8 crops as `mixture` makes them, and a `Dark` as `dark` where `compress` added it."""

STREAMS = ("physics", "sample", "reexposure", "restraint", "bars")
"""Streams of random numbers that the key of an image is split into."""

HOST_STREAMS = ("order", "crops", "jpeg", "evaluation", "truths")
"""Streams of random numbers that are drawn on the host, or that have a root key of their own."""


class Fitted(NamedTuple):
    """θ of real pairs by `record`, which counts from 1; `known` is 0 where none was fitted."""

    physics: Physics
    known: Array


def host_seed(stream: str, *counts: int) -> int:
    """A seed of 31 bits for a stream and what counts in it, the run's seed first."""
    entropy = np.random.SeedSequence([HOST_STREAMS.index(stream), *counts])
    return int(entropy.generate_state(1)[0] >> 1)


def image_keys(root: PRNGKey, step: jax.Array, indices: jax.Array) -> PRNGKey:
    """A key per image from (root, step, its place in the global batch): devices change nothing."""
    step_key = jax.random.fold_in(root, step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)


def synthesise(
    keys: PRNGKey,
    crops: Crops,
    degrade: Step,
    sample_physics: PhysicsSampler,
    fitted: Fitted | None = None,
    reexposure: Reexposure | None = None,
    restraint: Restraint | None = None,
    bars: float = 0.0,
) -> Batch:
    """uint8 crops [n, …] to a `Batch`: photographs are darkened, each from its own key.

    Real dark photographs (record > 0) stay as they are, with the θ that was fitted to them, if any;
    with `reexposure` some of them go through the forward model as well. With `restraint` the truth
    of some crops takes the place of whatever was dark; a part `bars` of the crops has black bars.
    """
    normal = as_float(crops["normal"])
    between = as_float(crops["between"]) if "between" in crops else None
    split, lightly = jax.vmap(streams)(keys), None
    if restraint is not None:
        draw = functools.partial(draw_restraint, options=restraint)
        lightly = jax.vmap(draw)(split["restraint"])
    if "dark" in crops:
        low, physics, known = crops["dark"]
        low = as_float(low)
    elif "record" in crops:
        physics = degradation.neutral_physics(jnp.ones(len(keys)))  # without noise
        known = jnp.zeros(len(keys))
        if fitted is not None:
            physics, known = jax.tree.map(lambda table: jnp.asarray(table)[crops["record"]], fitted)
        if "kept" in crops:
            noise = {"shot_noise": physics.shot_noise, "read_noise": physics.read_noise}
            physics = physics.replace(**{k: crops["kept"] * v for k, v in noise.items()})
        real = Real(as_float(crops["low"]), crops["record"] > 0, physics, known)
        one = functools.partial(
            _real_or_darkened,
            degrade=degrade,
            sample_physics=sample_physics,
            reexposure=reexposure,
        )
        low, physics, known = jax.vmap(one)(split, normal, real, lightly)
    else:
        one = functools.partial(_darkened, degrade=degrade, sample_physics=sample_physics)
        (low, physics), known = jax.vmap(one)(split, normal, lightly), None
    if lightly is not None and between is not None:
        # Real exposures of the scene lead to its truth from what was dark, and from nothing else.
        needed = (lightly.identity | lightly.mild)[:, None, None, None, None]
        between = jnp.where(needed, normal[:, None], between)
    if bars:
        draw = functools.partial(draw_bars, probability=bars, size=normal.shape[1:3])
        seen = jax.vmap(draw)(split["bars"])
        low, normal = seen * low, seen * normal
        between = None if between is None else seen[:, None] * between
    truth = crops.get("truth")
    return Batch(low=low, normal=normal, physics=physics, known=known, between=between, truth=truth)


class Dark(NamedTuple):
    """What was made of crops beforehand: dark images [n, h, w, 3] of uint8, θ, whether it is known."""

    low: Array
    physics: Physics
    known: Array | None


class Real(NamedTuple):
    """Real dark photographs `low`, whether each is one, its θ, and whether that is `known`."""

    low: Image
    real: Array
    physics: Physics
    known: Array


def streams(key: PRNGKey) -> dict[str, PRNGKey]:
    """An image's key, split into one for each of `STREAMS`."""
    return dict(zip(STREAMS, jax.random.split(key, len(STREAMS)), strict=True))


def _darkened(keys, normal, lightly, *, degrade, sample_physics):
    """One photograph -> (darkened, θ)."""
    physics = sample_physics(keys["physics"], normal)
    if lightly is None:
        return degrade.sample(keys["sample"], normal, physics), physics
    physics = where(lightly.mild, lightly.physics, physics)
    dark = degrade.sample(keys["sample"], normal, physics)
    return where(lightly.identity, (normal, unchanging()), (dark, physics))


def _real_or_darkened(keys, normal, real, lightly, *, degrade, sample_physics, reexposure):
    """One photograph, real or to be darkened -> (dark, θ, whether θ is known).

    The forward model runs once, on whichever of the two it is to see.
    """
    drawn = sample_physics(keys["physics"], normal)
    if lightly is not None:
        drawn = where(lightly.mild, lightly.physics, drawn)
        real = real._replace(real=real.real & ~lightly.mild)
    chosen = functools.partial(where, real.real)
    if reexposure is None:
        dark = chosen(real.low, degrade.sample(keys["sample"], normal, drawn))
        physics = chosen(real.physics, drawn)
    else:
        second, twice = draw_reexposure(keys["reexposure"], real.low, normal, reexposure)
        dark = degrade.sample(keys["sample"], *chosen((real.low, second), (normal, drawn)))
        physics = chosen(compose_physics(real.physics, second), drawn)
        unchanged = real.real & ~twice
        dark, physics = where(unchanged, (real.low, real.physics), (dark, physics))
    known = chosen(real.known, 1.0)
    if lightly is not None:
        same = normal, unchanging(), 1.0
        dark, physics, known = where(lightly.identity, same, (dark, physics, known))
    return dark, physics, known


def where(condition, its, other):
    """`jnp.where` over trees, of scalars and images, by one truth value."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), its, other)


def unchanging() -> Physics:
    """θ of a camera that changes nothing."""
    return degradation.neutral_physics(jnp.ones(()))


def as_float(image: Array) -> Array:
    """uint8 to float32 in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255.0


# --- JPEG on the host --------------------------------------------------------------------------


def compress(
    batches: Iterator[Crops],
    synthesise: Callable[[PRNGKey, Crops], Batch],
    *,
    start: int,
    places: np.ndarray,
    root: PRNGKey,
    seed: int,
    share: float,
    quality: tuple[int, int],
) -> Iterator[Crops]:
    """Add to every batch its dark images as `dark`: a `share` of them through a JPEG.

    synthesise(keys, crops) makes them, as the step itself would from the same `root`. Quality is
    uniform in `quality`, drawn from (seed, step, place in the global batch).
    """

    @jax.jit
    def darken(step, crops):
        batch = synthesise(image_keys(root, step, places), crops)
        return Dark(jnp.rint(255.0 * batch.low).astype(jnp.uint8), batch.physics, batch.known)

    for step, crops in enumerate(batches, start):
        dark = jax.tree.map(np.asarray, darken(step, crops))
        low = dark.low.copy()
        for index, place in enumerate(places):
            rng = np.random.default_rng(host_seed("jpeg", seed, step, int(place)))
            if rng.random() < share:
                low[index] = degradation.jpeg(
                    low[index], int(rng.integers(*quality, endpoint=True))
                )
        yield crops | {"dark": dark._replace(low=low)}


# --- whole pairs to judge by -------------------------------------------------------------------

Pair = tuple[str, np.ndarray, np.ndarray]
"""(name, low, normal), float32 sRGB [h, w, 3]."""


@functools.partial(Compiled, static_argnames=("degrade", "sample_physics"))
def _degrade_one(key, image, degrade, sample_physics):
    return synthesise(key[None], {"normal": image[None]}, degrade, sample_physics).low[0]


def whole_pairs(
    split: Split,
    *,
    seed: int = 0,
    draws: int = 1,
    degrade: Step = CAMERA,
    sample_physics: PhysicsSampler = degradation.sample_physics,
    max_pairs: int = 0,
) -> Iterator[Pair]:
    """The pairs of a split, `max_pairs` of them evenly spread (0 for all), one by one.

    Each photograph without a dark partner is darkened `draws` times by the forward model, a
    function of the seed alone; its name then tells the dark frame's mean, of 255.
    """
    items = list(enumerate(split.items))
    if max_pairs and max_pairs < len(items):
        spread = np.linspace(0, len(items) - 1, max_pairs).round().astype(int)
        items = [items[place] for place in spread]
    root = jax.random.key(host_seed("evaluation", seed))
    for place, item in items:
        normal, name = split.frame(item.example, -1), split.item_name(item)
        truth = normal.astype(np.float32) / 255.0
        if split.kind != "photos":
            yield name, split.frame(item.example, item.low).astype(np.float32) / 255.0, truth
            continue
        for key in image_keys(root, place, jnp.arange(draws)):
            low = np.asarray(_degrade_one(key, jnp.asarray(normal), degrade, sample_physics))
            yield f"{name} at {255 * low.mean():.0f}", low, truth
