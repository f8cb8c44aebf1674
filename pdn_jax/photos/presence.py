"""Where a photograph is one: not in black bars, not where it is transparent; and the black that stays."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pdn_jax.photos import colour
from pdn_jax.photos.record import Photo, to_dtype, to_float

BAR, PURE = 4 / 255, 0.98
"""A border's row is a bar if nothing in it is above BAR and so large a part of it is exactly black."""

NOTHING = 1.5 / 255
"""Light below this, everywhere, is no photograph: it would be noise brightened."""

BLACK = "nothing in it but black: left as it is"
CLEAR = "all of it is transparent: left as it is"


class Developed(NamedTuple):
    """A result of the shape and dtype of the photo's own pixels, and what is to be said of it."""

    pixels: np.ndarray
    notes: tuple[str, ...]


def box(light: np.ndarray, there: np.ndarray | None) -> tuple[slice, slice] | None:
    """Rows and columns that hold the picture, None where there is none.

    Args:
        light: the brightest channel of every pixel, [h, w] in [0, 1].
        there: bool [h, w], False where transparent; None for all there.
    """
    if there is None:
        there = np.ones_like(light, bool)
    found = [slice(0, length) for length in light.shape]
    # From outside to inside: a bar may end at another.
    for _ in range(4):
        before = list(found)
        for axis in (0, 1):
            part, seen = light[tuple(found)], there[tuple(found)]
            if part.size == 0:
                return None
            empty = ~seen.any(axis=1 - axis)
            largest = np.where(seen, part, 0).max(axis=1 - axis)
            pure = ((part == 0) | ~seen).mean(axis=1 - axis) >= PURE
            inner = np.flatnonzero(~(empty | ((largest <= BAR) & pure)))
            if not len(inner):
                return None
            start = found[axis].start
            found[axis] = slice(start + inner[0], start + inner[-1] + 1)
        if found == before:
            break
    return found[0], found[1]


def developed(
    photo: Photo, restore: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
) -> Developed:
    """A photograph through the network, its depth, colours, grey, bars and transparency kept.

    Args:
        photo: see `record.Photo`.
        restore: float32 [h, w, 3] in sRGB's curve and bool [h, w], False where no picture is or None,
            -> the restored one, float [h, w, 3] in [0, 1].
    """
    values = to_float(photo.pixels)
    there = None if photo.alpha is None else photo.alpha > 0
    if there is not None and there.all():
        there = None
    light = values.max(axis=-1)
    if there is not None and not there.any():
        return Developed(photo.pixels, (CLEAR,))
    if (light if there is None else light[there]).max() < NOTHING:
        return Developed(photo.pixels, (BLACK,))
    inside = box(light, there)
    if inside is None:
        return Developed(photo.pixels, (BLACK,))
    inside = tuple(
        _at_least(part, length) for part, length in zip(inside, light.shape, strict=True)
    )
    low, here = values[inside], None if there is None else there[inside]
    if here is not None and here.all():
        here = None
    grey = bool((low == low[..., :1]).all())
    seen = colour.to_network(low, photo.colour)
    seen = np.repeat(seen, 3, axis=-1) if seen.shape[-1] == 1 else seen
    if here is not None:
        seen = filled(seen, here)
    restored = np.asarray(restore(np.ascontiguousarray(seen, np.float32), here), np.float32)
    if grey:
        restored = luminance(restored)
        restored = np.repeat(restored, low.shape[-1], axis=-1)
    bright = colour.from_network(restored.clip(0.0, 1.0), photo.colour)
    if grey:
        bright = np.repeat(bright[..., :1], low.shape[-1], axis=-1)
    result = photo.pixels.copy()
    new = to_dtype(bright, photo.pixels.dtype)
    result[inside] = new if here is None else np.where(here[..., None], new, result[inside])
    return Developed(result, ())


def _at_least(part: slice, length: int, least: int = 16) -> slice:
    """The part, widened where it is too small for the network."""
    missing = max(0, least - (part.stop - part.start))
    start = min(max(0, part.start - missing // 2), max(0, length - least))
    return part if not missing else slice(start, min(length, start + least))


def luminance(values: np.ndarray) -> np.ndarray:
    """The grey of the same light: Y of BT.709 through sRGB's curve, [..., 3] -> [..., 1]."""
    weights = np.array([0.2126, 0.7152, 0.0722], np.float32)
    light = colour.linear(values.clip(0.0, 1.0)) @ weights
    return colour.encoded(light)[..., None].astype(np.float32)


def filled(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Pixels that are not there as the mean of those around, by halving until all are known."""
    if there.all() or min(values.shape[:2]) == 1:
        return np.where(there[..., None], values, values[there].mean(axis=0))
    height, width = there.shape
    odd = ((0, height % 2), (0, width % 2))
    weight = np.pad(there, odd).astype(np.float32)
    sums = np.pad(values * there[..., None], (*odd, (0, 0)))
    weight, sums = (
        part.reshape(part.shape[0] // 2, 2, part.shape[1] // 2, 2, -1).sum(axis=(1, 3))
        for part in (weight[..., None], sums)
    )
    small = filled(sums / np.maximum(weight, 1), weight[..., 0] > 0)
    large = small.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(there[..., None], values, large).astype(np.float32)
