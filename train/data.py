"""Photographs in, batches out: a batch is a function of (seed, step) alone.

The host only decodes and crops; degradation and everything arithmetic runs on the device,
inside the step (`synthesise`). Crops are uint8 until then.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as PILImage

from pdn_jax import photo
from pdn_jax.degradation import Step
from pdn_jax.types import Batch, Image, InputError, PRNGKey

PACKAGED = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
"""Colour photographs that scikit-image and scikit-learn carry in their wheels: nothing is downloaded."""


class Photos(NamedTuple):
    """Well-exposed photographs in memory: their names and uint8 images [h, w, 3]."""

    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]


def packaged_photos() -> Photos:
    """The photographs of `PACKAGED`, by name."""
    from importlib.resources import files

    images = [photo.read(Path(str(files(package) / path))) for package, path in PACKAGED.values()]
    return Photos(tuple(PACKAGED), tuple(images))


def folder_photos(folder: str) -> Photos:
    """Every photograph of a folder; raises InputError for a folder without any or a broken file."""
    paths = photo.images_in(Path(folder))
    return Photos(tuple(path.stem for path in paths), tuple(photo.read(path) for path in paths))


def split(photos: Photos, held_out: tuple[str, ...]) -> tuple[Photos, Photos]:
    """(training photographs, those held out by name); InputError where a name or a side is missing."""
    missing = [name for name in held_out if name not in photos.names]
    if missing:
        raise InputError(
            f"data.held_out names {', '.join(missing)}, which is not among {', '.join(photos.names)}"
        )

    def pick(wanted):
        chosen = [pair for pair in zip(*photos, strict=True) if (pair[0] in held_out) == wanted]
        return Photos(tuple(name for name, _ in chosen), tuple(image for _, image in chosen))

    kept, held = pick(False), pick(True)
    if not kept.names or not held.names:
        raise InputError(
            f"data.held_out must leave photographs on both sides, got {held_out} of {photos.names}"
        )
    return kept, held


def load(folder: str, held_out: tuple[str, ...]) -> tuple[Photos, Photos]:
    """`split` of a folder's photographs, or of the packaged ones where folder is ''."""
    return split(folder_photos(folder) if folder else packaged_photos(), held_out)


# --- crops on the host -------------------------------------------------------------------------

SCALES = 8
"""Sizes in which every photograph is held, so that a crop of any of them is only a slice."""


def scaled(image: np.ndarray, size: int, smallest: float) -> list[np.ndarray]:
    """A photograph at `SCALES` sizes, from one whose shorter side is `size` pixels upwards.

    In the largest a crop's side is `smallest` of the photograph's shorter side, but it is never
    enlarged. Brightness is global: the network must see whole scenes as well as details.
    """
    shorter = min(image.shape[:2])
    most = min(1.0, size / (smallest * shorter))
    photograph, copies = PILImage.fromarray(image), []
    for scale in np.geomspace(size / shorter, max(most, size / shorter), SCALES):
        width, height = (max(size, round(scale * side)) for side in photograph.size)
        copy = photograph.resize((width, height), PILImage.Resampling.BICUBIC)
        copies.append(np.asarray(copy))
    return copies


def crop(image: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """A random size×size square of an image, flipped and turned at random; uint8."""
    top, left = (rng.integers(side - size + 1) for side in image.shape[:2])
    part = np.rot90(image[top : top + size, left : left + size], rng.integers(4))
    return np.ascontiguousarray(part[:, ::-1] if rng.integers(2) else part)


class _Crop(grain.transforms.RandomMap):
    """Grain's hook for `crop`, at a random scale."""

    def __init__(self, copies: list[list[np.ndarray]], size: int):
        self.copies, self.size = copies, size

    def random_map(self, index, rng):
        copies = self.copies[index]
        return crop(copies[rng.integers(len(copies))], rng, self.size)


def batches(
    photos: Photos, *, seed: int, batch_size: int, crop_size: int, smallest: float
) -> grain.MapDataset:
    """An endless random-access data set: element `step` is a uint8 batch [n, size, size, 3].

    Each photograph is seen once per round, in an order shuffled anew every round.
    """
    too_small = [
        name for name, image in zip(*photos, strict=True) if min(image.shape[:2]) < crop_size
    ]
    if too_small:
        raise InputError(
            f"photograph {too_small[0]} is smaller than data.crop_size={crop_size}; "
            "take it away or lower data.crop_size"
        )
    copies = [scaled(image, crop_size, smallest) for image in photos.images]
    return (
        grain.MapDataset.range(len(photos.images))
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(_Crop(copies, crop_size))
        .batch(batch_size)
    )


def stream(dataset: grain.MapDataset, start: int, threads: int) -> Iterator[np.ndarray]:
    """The batches from step `start` on, prefetched by `threads` threads."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(dataset[start:].to_iter_dataset(options))


# --- degradation on the device -----------------------------------------------------------------

PhysicsSampler = Callable[[PRNGKey, Image], object]


def image_keys(root: PRNGKey, step: jax.Array, indices: jax.Array) -> PRNGKey:
    """A key per image from (root, step, its place in the global batch): devices change nothing."""
    step_key = jax.random.fold_in(root, step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)


def synthesise(
    keys: PRNGKey, crops: jax.Array, degrade: Step, sample_physics: PhysicsSampler
) -> Batch:
    """uint8 crops [n, h, w, 3] to a `Batch`: exposure, cast and noise drawn per image from its key."""

    def one(key, crop):
        normal = crop.astype(jnp.float32) / 255.0
        physics_key, sample_key = jax.random.split(key)
        physics = sample_physics(physics_key, normal)
        return Batch(
            low=degrade.sample(sample_key, normal, physics), normal=normal, physics=physics
        )

    return jax.vmap(one)(keys, crops)


@functools.partial(jax.jit, static_argnames=("degrade", "sample_physics"))
def _degrade_one(key, image, degrade, sample_physics):
    batch = synthesise(key[None], image[None], degrade, sample_physics)
    return batch.low[0]


def held_out_pairs(
    photos: Photos, *, seed: int, draws: int, degrade: Step, sample_physics: PhysicsSampler
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, low, normal) float32 for each held-out photograph, `draws` degradations of each.

    A function of the seed alone. The name tells the dark frame's mean, of 255.
    """
    pairs = []
    for place, (name, image) in enumerate(zip(*photos, strict=True)):
        for draw in range(draws):
            key = jax.random.fold_in(jax.random.key(seed), place * 1000 + draw)
            low = np.asarray(_degrade_one(key, jnp.asarray(image), degrade, sample_physics))
            title = f"{name} at {255 * low.mean():.0f}"
            pairs.append((title, low, image.astype(np.float32) / 255.0))
    return pairs
