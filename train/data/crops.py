"""How a crop is taken: from one photograph, pair or bracket, by grain, with decoded images held.

An element holds uint8 crops `normal` [h, w, 3]; where the mixture has real dark photographs, also
`low` and `record` (0 for a photograph, which is darkened later; else 1 + the place of the dark
photograph among all real ones); where it has brackets, also `between` [b, h, w, 3], real exposures
from dark to light between `low` and `normal`; where some have no truth, also `truth`, 0 for those,
whose `normal` and `between` are the dark photograph itself; where real crops are taken at other scales,
`kept`, the part of the noise's variance that resampling has left, by which θ of the photograph is that
of the crop. All of one element are cropped, flipped and turned alike. Degradation is not done here but
on the device (`synthesis`).
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import numpy as np
from PIL import Image as PILImage

from pdn_jax.types import InputError
from train.data.store import Split
from train.data.truths import Faults


class Crops(NamedTuple):
    """How crops are taken: `size` pixels a side; from photographs a square of at least `smallest`
    of the shorter side, reduced to that; `between` real exposures of a bracket. Of the real dark
    photographs' crops, a part `scaled` is taken at another scale, from `enlarged`·size to all.
    The truths of pairs have `faults`."""

    size: int
    smallest: float
    between: int
    scaled: float = 0.0
    enlarged: float = 1.0
    faults: Faults | None = None


# --- decoded images ------------------------------------------------------------------------------


class Cache:
    """Decoded images by key, held until `budget` bytes are used; the others are decoded each time.

    Nothing is ever thrown out: with every image as likely as the other, what is held stays right.
    """

    def __init__(self, budget: int):
        self.budget, self.used = budget, 0
        self.held: dict = {}
        self.lock = threading.Lock()

    def get(self, key, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The image of that key, from `make` where it is not held."""
        if (image := self.held.get(key)) is None:
            image = make()
            with self.lock:
                if key not in self.held and self.used + image.nbytes <= self.budget:
                    self.held[key] = image
                    self.used += image.nbytes
        return image

    def clear(self) -> None:
        """Let all go."""
        with self.lock:
            self.held, self.used = {}, 0

    def __reduce__(self) -> tuple:
        """Only the budget goes to another process."""
        return Cache, (self.budget,)


def reduced(image: np.ndarray, shorter: int) -> np.ndarray:
    """The image with its shorter side at most that many pixels, and never enlarged."""
    height, width = image.shape[:2]
    scale = shorter / min(height, width)
    if scale >= 1.0:
        return image
    size = max(shorter, round(scale * width)), max(shorter, round(scale * height))
    return np.asarray(PILImage.fromarray(image).resize(size, PILImage.Resampling.BICUBIC))


# --- crops ---------------------------------------------------------------------------------------


def crop(images: Sequence[np.ndarray], rng: np.random.Generator, size: int, side: int) -> list:
    """One random side×side square of all the images, resized to size×size, flipped and turned alike."""
    top, left = (int(rng.integers(length - side + 1)) for length in images[0].shape[:2])
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    parts = []
    for image in images:
        part = image[top : top + side, left : left + side]
        if side != size:
            square = PILImage.fromarray(np.ascontiguousarray(part))
            part = np.asarray(square.resize((size, size), PILImage.Resampling.BICUBIC))
        part = np.rot90(part, turns)
        parts.append(np.ascontiguousarray(part[:, ::-1] if mirrored else part))
    return parts


def photograph_side(image: np.ndarray, rng: np.random.Generator, crops: Crops) -> int:
    """Side of a photograph's crop, log-uniform from `smallest` of its shorter side to all of it."""
    shorter = min(image.shape[:2])
    return log_uniform(rng, min(shorter, max(crops.size, crops.smallest * shorter)), shorter)


def pair_side(image: np.ndarray, rng: np.random.Generator, crops: Crops) -> int:
    """Side of a real pair's crop: as it is, or a part `scaled` of the time enlarged or reduced."""
    if rng.random() >= crops.scaled:
        return crops.size
    return log_uniform(rng, crops.enlarged * crops.size, min(image.shape[:2]))


def log_uniform(rng: np.random.Generator, least: float, most: float) -> int:
    """A whole number whose logarithm is uniform."""
    return round(float(np.exp(rng.uniform(np.log(least), np.log(most)))))


BICUBIC = 57 / 70
"""∫k² of Keys's cubic kernel with a = −1/2, which is Pillow's."""


def noise_kept(side: int, size: int) -> float:
    """The part of white noise's variance that is left where a crop of `side` pixels is resized to `size`.

    Pillow's bicubic filter k is as wide as a pixel of the result where that is the larger, so along each
    axis ∫k² = `BICUBIC` of the variance is left, times size / side where it is reduced; both axes count.
    """
    return 1.0 if side == size else (BICUBIC * min(1.0, size / side)) ** 2


def between(example: dict, low: int, count: int) -> list[int]:
    """`count` frames between frame `low` and the target, evenly spread; the target where none is."""
    target = len(example["frames"]) - 1
    inner = np.arange(low + 1, target)
    if not len(inner):
        return [target] * count
    places = np.round(np.linspace(0, len(inner) - 1, count)).astype(int)
    return [int(inner[place]) for place in places]


def check_sizes(split: Split, size: int) -> None:
    """Raise InputError for an image from which no crop of that size can be taken."""
    for example in split.examples:
        frame = example["frames"][-1]
        if min(frame["width"], frame["height"]) < size:
            raise InputError(
                f"{example['name']} in data set {split.name} is {frame['width']}×{frame['height']} "
                f"pixels, smaller than data.crop_size={size}; lower data.crop_size"
            )


class Cropping(grain.transforms.RandomMap):
    """(source, item) -> an element of crops."""

    def __init__(self, splits: Sequence[Split], crops: Crops, cache: Cache):
        self.splits, self.crops, self.cache = tuple(splits), crops, cache
        counts = [0 if split.kind == "photos" else len(split) for split in splits]
        self.first = np.concatenate([[1], 1 + np.cumsum(counts)]).astype(int)
        self.real = any(counts)
        brackets = any(split.kind == "brackets" for split in splits)
        self.between = crops.between if brackets else 0
        self.untold = not all(split.has_truth for split in splits)

    def image(self, source: int, example: int, index: int) -> np.ndarray:
        """A decoded image, from the cache; photographs no larger than crops can make use of."""
        split = self.splits[source]
        frame = index % len(split.examples[example]["frames"])
        # Everything that the pixels depend on is in the key: crops of another size share the cache.
        shorter = round(self.crops.size / self.crops.smallest) if split.kind == "photos" else 0

        def decode():
            image = split.frame(example, frame)
            if self.crops.faults and split.kind == "paired" and frame == 1:
                return self.crops.faults.done_to(split.examples[example]["name"], image)
            return reduced(image, shorter) if shorter else image

        return self.cache.get((source, example, frame, shorter), decode)

    def random_map(self, element, rng):
        """Grain's hook."""
        source, place = element
        split, size = self.splits[source], self.crops.size
        example, low = split.items[place]
        if split.kind == "photos":
            image = self.image(source, example, 0)
            (normal,) = crop([image], rng, size, photograph_side(image, rng, self.crops))
            dark, inner, record, kept = np.zeros_like(normal), [normal] * self.between, 0, 1.0
        else:
            frames = between(split.examples[example], low, self.between)
            indices = (low, *frames, -1) if split.has_truth else [low] * (len(frames) + 2)
            images = [self.image(source, example, index) for index in indices]
            side = pair_side(images[-1], rng, self.crops)
            dark, *inner, normal = crop(images, rng, size, side)
            record, kept = int(self.first[source]) + place, noise_kept(side, size)
        fields = {"normal": normal}
        if self.real:
            fields |= {"low": dark, "record": np.int32(record)}
        if self.real and self.crops.scaled:
            fields["kept"] = np.float32(kept)
        if self.between:
            fields["between"] = np.stack(inner)
        if self.untold:
            fields["truth"] = np.float32(split.has_truth)
        return fields
