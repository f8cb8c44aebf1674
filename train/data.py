"""Crops to batches on the device, where everything arithmetic happens, and whole pairs to judge by.

Every draw is keyed by (seed, step, place in the global batch).
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pdn_jax import degradation
from pdn_jax.degradation import Step
from pdn_jax.types import Batch, Image, Physics, PRNGKey
from train.datasets import Split

PhysicsSampler = Callable[[PRNGKey, Image], Physics]
Crops = dict[str, Array]
"""uint8 crops as `pipeline` makes them, and `compressed` where `compress` added it."""


class Fitted(NamedTuple):
    """θ of real pairs by `record`, which counts from 1; `known` is 0 where none was fitted."""

    physics: Physics
    known: Array


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
) -> Batch:
    """uint8 crops [n, …] to a `Batch`: photographs are darkened, each from its own key.

    Real dark photographs (record > 0) stay as they are, with the θ that was fitted to them, if any.
    """
    real = crops["record"] > 0 if "record" in crops else None

    def one(key, normal):
        physics_key, sample_key = jax.random.split(key)
        physics = sample_physics(physics_key, normal)
        return degrade.sample(sample_key, normal, physics), physics

    def choose(is_real, its, drawn):
        return jnp.where(is_real.reshape(-1, *(1,) * (drawn.ndim - 1)), its, drawn)

    normal = as_float(crops["normal"])
    low, physics = jax.vmap(one)(keys, normal)
    known = between = None
    if real is not None:
        low = choose(real, as_float(crops["low"]), low)
        known = jnp.where(real, 0.0, 1.0)
        its = degradation.neutral_physics(jnp.ones(len(keys)))  # without noise
        if fitted is not None:
            its, known = jax.tree.map(lambda table: jnp.asarray(table)[crops["record"]], fitted)
            known = jnp.where(real, known, 1.0)
        physics = jax.tree.map(functools.partial(choose, real), its, physics)
    if "compressed" in crops:
        low = as_float(crops["compressed"])
    if "between" in crops:
        between = as_float(crops["between"])
    return Batch(low=low, normal=normal, physics=physics, known=known, between=between)


def as_float(image: Array) -> Array:
    """uint8 to float32 in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255.0


# --- JPEG on the host --------------------------------------------------------------------------


def compress(
    batches: Iterator[Crops],
    darken: Callable[[int, Crops], Array],
    *,
    start: int,
    places: np.ndarray,
    seed: int,
    share: float,
    quality: tuple[int, int],
) -> Iterator[Crops]:
    """Add to every batch its dark images as `compressed`: a `share` of them through a JPEG.

    darken(step, crops) -> low [n, h, w, 3], as the step itself would make it. Quality is uniform in
    `quality`. All is drawn from (seed, step, place in the global batch).
    """
    for step, crops in enumerate(batches, start):
        low = np.rint(255.0 * np.asarray(darken(step, crops))).astype(np.uint8)
        for index, place in enumerate(places):
            rng = np.random.default_rng((seed, step, int(place)))
            if rng.random() < share:
                low[index] = degradation.jpeg(
                    low[index], int(rng.integers(*quality, endpoint=True))
                )
        yield crops | {"compressed": low}


# --- whole pairs to judge by -------------------------------------------------------------------

Pair = tuple[str, np.ndarray, np.ndarray]
"""(name, low, normal), float32 sRGB [h, w, 3]."""


@functools.partial(jax.jit, static_argnames=("degrade", "sample_physics"))
def _degrade_one(key, image, degrade, sample_physics):
    return synthesise(key[None], {"normal": image[None]}, degrade, sample_physics).low[0]


def whole_pairs(
    split: Split,
    *,
    seed: int,
    draws: int,
    degrade: Step,
    sample_physics: PhysicsSampler,
    most: int = 0,
) -> Iterator[Pair]:
    """The pairs of a split, `most` of them evenly spread (0 for all), one by one.

    Each photograph without a dark partner is darkened `draws` times by the forward model, a
    function of the seed alone; its name then tells the dark frame's mean, of 255.
    """
    items = list(enumerate(split.items))
    if most and most < len(items):
        items = [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]
    for place, item in items:
        normal, name = split.frame(item.example, -1), split.item_name(item)
        truth = normal.astype(np.float32) / 255.0
        if split.kind != "photos":
            yield name, split.frame(item.example, item.low).astype(np.float32) / 255.0, truth
            continue
        for draw in range(draws):
            key = jax.random.fold_in(jax.random.key(seed), place * 1000 + draw)
            low = np.asarray(_degrade_one(key, jnp.asarray(normal), degrade, sample_physics))
            yield f"{name} at {255 * low.mean():.0f}", low, truth
