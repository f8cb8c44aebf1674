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
    sides = [slice(0, length) for length in light.shape]
    # From outside to inside: a bar may end at another.
    for _ in range(4):
        before = list(sides)
        for axis in (0, 1):
            part, seen = light[tuple(sides)], there[tuple(sides)]
            if part.size == 0:
                return None
            empty = ~seen.any(axis=1 - axis)
            largest = np.where(seen, part, 0).max(axis=1 - axis)
            pure = ((part == 0) | ~seen).mean(axis=1 - axis) >= PURE
            bar = empty | ((largest <= BAR) & pure)
            inner = np.flatnonzero(~bar)
            if not len(inner):
                return None
            start = sides[axis].start
            sides[axis] = slice(start + inner[0], start + inner[-1] + 1)
        if sides == before:
            break
    return sides[0], sides[1]


def seen(photo: Photo) -> tuple[np.ndarray, np.ndarray | None]:
    """What the network gets to see, float32 [h, w, 3] in sRGB's curve, and where it is a picture.

    The second is bool [h, w], False in bars and where transparent; None where all of it is.
    """
    values = to_float(photo.pixels)
    there = None if photo.alpha is None else photo.alpha > 0
    inside = box(values.max(axis=-1), there)
    if inside is not None and values[inside].shape != values.shape:
        bars = np.zeros(photo.size, bool)
        bars[inside] = True
        there = bars if there is None else bars & there
    if there is not None and (there.all() or not there.any()):
        there = None
    return _network_colours(values, photo), there


def _network_colours(values: np.ndarray, photo: Photo) -> np.ndarray:
    result = colour.to_network(values, photo.colour)
    return np.repeat(result, 3, axis=-1) if result.shape[-1] == 1 else result


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
    if there is not None and not there.any():
        return Developed(photo.pixels, (CLEAR,))
    light = values.max(axis=-1)
    inside = box(light, there)
    if inside is None or (light if there is None else light[there]).max() < NOTHING:
        return Developed(photo.pixels, (BLACK,))
    inside = tuple(
        _at_least(part, length) for part, length in zip(inside, light.shape, strict=True)
    )
    low, here = values[inside], None if there is None else there[inside]
    here = None if here is None or here.all() else here
    grey = bool((low == low[..., :1]).all())
    given = _network_colours(low, photo)
    if here is not None:
        given = filled(given, here)
    restored = np.array(restore(np.ascontiguousarray(given, np.float32), here), np.float32)
    restored = without_veil(given, restored, here)
    if grey:
        restored = np.repeat(luminance(restored), low.shape[-1], axis=-1)
    bright = colour.from_network(restored.clip(0.0, 1.0), photo.colour)
    if grey:  # the three curves of a profile may differ
        bright = np.repeat(bright[..., :1], low.shape[-1], axis=-1)
    result = photo.pixels.copy()
    new = to_dtype(bright, photo.pixels.dtype)
    result[inside] = new if here is None else np.where(here[..., None], new, result[inside])
    return Developed(result, ())


CELL, UNLIT, SHARE = 8, 1 / 255, 0.005
"""A square of so many pixels a side is unlit if its brightest channel is at most so bright on average;
a photograph has a black of its own if that is so for at least so large a part of it."""


def without_veil(low: np.ndarray, restored: np.ndarray, there: np.ndarray | None) -> np.ndarray:
    """The restored photograph with the light taken out that the network put where there was none.

        x' = (x − v) / (1 − v)   in linear light, per channel, not below 0

    v is the median that the restored photograph has in unlit squares: a veil, as where there was no
    light nothing is to be seen. It lies over the whole photograph and is taken from all of it, so no
    edge comes in. Where there are no unlit squares, nothing changes.

    Args:
        low: [h, w, 3] in sRGB, before.
        restored: of that shape, after.
        there: bool [h, w], False for what does not count; None for all.
    """
    rows, columns = (side // CELL * CELL for side in low.shape[:2])
    cells = (rows // CELL, CELL, columns // CELL, CELL)
    bright = low[:rows, :columns].max(axis=-1).reshape(cells).mean(axis=(1, 3))
    unlit = bright <= UNLIT
    if there is not None:
        unlit &= there[:rows, :columns].reshape(cells).all(axis=(1, 3))
    if unlit.mean() < SHARE:
        return restored
    squares = restored[:rows, :columns].reshape(*cells, 3).transpose(0, 2, 1, 3, 4)[unlit]
    veil = np.median(colour.linear(squares.clip(0, 1)).mean(axis=(1, 2)), axis=0).astype(np.float32)
    result = np.empty_like(restored)
    for top in range(0, len(restored), 256):  # a part at a time, for the memory
        light = colour.linear(restored[top : top + 256].clip(0, 1))
        result[top : top + 256] = colour.encoded(((light - veil) / (1 - veil)).clip(0, 1))
    return result


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
