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
from pdn_jax.compiled import Compiled
from pdn_jax.degradation import Step
from pdn_jax.types import Batch, Image, Physics, PRNGKey
from train import again as photographed
from train.data.store import Split

CAMERA = degradation.camera()

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
    again: photographed.Again | None = None,
) -> Batch:
    """uint8 crops [n, …] to a `Batch`: photographs are darkened, each from its own key.

    Real dark photographs (record > 0) stay as they are, with the θ that was fitted to them, if any;
    with `again` some of them go through the camera a second time.
    """
    normal = as_float(crops["normal"])
    between = as_float(crops["between"]) if "between" in crops else None
    if "record" in crops:
        physics = degradation.neutral_physics(jnp.ones(len(keys)))  # without noise
        known = jnp.zeros(len(keys))
        if fitted is not None:
            physics, known = jax.tree.map(lambda table: jnp.asarray(table)[crops["record"]], fitted)
        real = Real(as_float(crops["low"]), crops["record"] > 0, physics, known)
        one = functools.partial(
            _one_of_both, degrade=degrade, sample_physics=sample_physics, again=again
        )
        low, physics, known = jax.vmap(one)(keys, normal, real)
    else:
        one = functools.partial(_darkened, degrade=degrade, sample_physics=sample_physics)
        (low, physics), known = jax.vmap(one)(keys, normal), None
    if "compressed" in crops:
        low = as_float(crops["compressed"])
    return Batch(low=low, normal=normal, physics=physics, known=known, between=between)


class Real(NamedTuple):
    """Real dark photographs `low`, whether each is one, its θ, and whether that is `known`."""

    low: Image
    real: Array
    physics: Physics
    known: Array


def _darkened(key, normal, *, degrade, sample_physics):
    """One photograph -> (darkened, θ)."""
    physics_key, sample_key = jax.random.split(key)
    physics = sample_physics(physics_key, normal)
    return degrade.sample(sample_key, normal, physics), physics


def _one_of_both(key, normal, real, *, degrade, sample_physics, again):
    """One photograph, real or to be darkened -> (dark, θ, whether θ is known).

    The camera runs once, on whichever of the two it is to see.
    """

    def choose(its, drawn):
        return jax.tree.map(lambda a, b: jnp.where(real.real, a, b), its, drawn)

    physics_key, sample_key = jax.random.split(key)
    drawn = sample_physics(physics_key, normal)
    if again is None:
        dark = choose(real.low, degrade.sample(sample_key, normal, drawn))
        return dark, choose(real.physics, drawn), choose(real.known, 1.0)
    second, taken = photographed.draw(jax.random.fold_in(key, 2), real.low, normal, again)
    dark = degrade.sample(sample_key, *choose((real.low, second), (normal, drawn)))
    is_kept = real.real & (taken == 0.0)
    physics = choose(photographed.together(real.physics, second), drawn)
    dark, physics = jax.tree.map(
        lambda a, b: jnp.where(is_kept, a, b), (real.low, real.physics), (dark, physics)
    )
    return dark, physics, choose(real.known, 1.0)


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
