"""Where a photograph is one: not in black bars, not where it is transparent; and the black that stays."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pdn_jax.bars import at_least, box
from pdn_jax.photos import colour
from pdn_jax.photos.record import Photo, full_scale, to_dtype, to_float

CELL = 8
"""Pixels a side of the squares that are looked at."""

NOTHING = 1.5 / 255
"""Light below this, everywhere, is no photograph: it would be noise brightened."""

FAINT, SPARK = 2.5 / 255, 8 / 255
"""In 8 bits, no square of 8×8 pixels above FAINT on average and nothing above SPARK is none either: a
lens cap's noise."""

BLACK = "nothing in it but black: left as it is"
"""What is said of a black frame."""
CLEAR = "all of it is transparent: left as it is"
"""What is said of a transparent one."""


class Developed(NamedTuple):
    """A result of the shape and dtype of the photo's own pixels, and what is to be said of it."""

    pixels: np.ndarray
    notes: tuple[str, ...]


class Place(NamedTuple):
    """Where the picture is: rows and columns that hold it, and in them bool, False where transparent."""

    inside: tuple[slice, slice]
    there: np.ndarray | None


def place(photo: Photo) -> Place | str:
    """Where a photograph's picture is, or why there is none.

    Args:
        photo: see `record.Photo`.

    Returns:
        Its place, or a line that says why it is left as it is.
    """
    there = None if photo.alpha is None or photo.alpha.all() else photo.alpha > 0
    if there is not None and not there.any():
        return CLEAR
    light = photo.pixels.max(axis=-1)
    inside = box(light, there)
    brightest = (light if there is None else light[there]).max(keepdims=True)
    if inside is None or to_float(brightest) < NOTHING or _is_faint(photo.pixels, there):
        return BLACK
    sides = [at_least(part, length) for part, length in zip(inside, photo.size, strict=True)]
    inside = sides[0], sides[1]
    here = None if there is None else there[inside]
    return Place(inside, None if here is None or here.all() else here)


def _is_faint(pixels: np.ndarray, there: np.ndarray | None) -> bool:
    """Whether 8 bits hold nothing but noise around their first levels."""
    if pixels.dtype != np.uint8 or pixels.max() > 255 * SPARK:
        return False
    seen = pixels.mean(axis=-1, dtype=np.float32) / 255.0
    seen = seen if there is None else np.where(there, seen, 0.0)
    return bool(_cell_means(seen[..., None]).max() <= FAINT)


def glimpse(photo: Photo, most: int = 1 << 20) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Enough of a photograph to judge it by.

    Args:
        photo: see `record.Photo`.
        most: pixels of either, about.

    Returns:
        Every so-many-th pixel in sRGB's curve, float32 [h, w, 3]; which of them count, or None; and
        neighbouring pixels from the middle, [h, w, 3].
    """
    where = place(photo)
    inside, there = where if isinstance(where, Place) else ((slice(None), slice(None)), None)
    part = photo.pixels[inside]
    step = math.ceil(math.sqrt(part.shape[0] * part.shape[1] / most))
    few = _seen(part[::step, ::step], photo)
    counts = None if there is None else there[::step, ::step]
    counts = None if counts is None or not counts.any() else counts
    side = math.isqrt(most)
    starts = [max(0, (length - side) // 2) for length in part.shape[:2]]
    middle = part[starts[0] : starts[0] + side, starts[1] : starts[1] + side]
    return few, counts, _seen(middle, photo)


def _seen(pixels: np.ndarray, photo: Photo) -> np.ndarray:
    """Stored pixels as the network sees them, float32 [h, w, 3]."""
    result = colour.to_network(to_float(pixels), photo.colour)
    return np.repeat(result, 3, axis=-1) if result.shape[-1] == 1 else result


def developed(
    photo: Photo, restore: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
) -> Developed:
    """A photograph through the network, its depth, colours, grey, bars and transparency kept.

    Args:
        photo: see `record.Photo`.
        restore: [h, w, 3] in sRGB's curve, of integers or float32 in [0, 1], and bool [h, w], False where
            no picture is, or None for all -> the restored one, of the same dtype.

    Returns:
        The result's pixels, of the photograph's own shape and dtype, and notes on them.
    """
    where = place(photo)
    if not isinstance(where, Place):
        return Developed(photo.pixels, (where,))
    inside, here = where
    stored = photo.pixels[inside]
    grey = bool((stored == stored[..., :1]).all())
    unlit = unlit_cells(stored, here)
    plain = stored.dtype.kind == "u" and not grey and here is None and unlit is None
    if plain and colour.is_srgb(photo.colour):
        new = np.asarray(restore(np.ascontiguousarray(stored), None))
    else:
        new = _restored(photo, stored, here, grey, unlit, restore)
    if here is None and new.shape == photo.pixels.shape:
        return Developed(new, ())
    result = photo.pixels.copy()
    result[inside] = new if here is None else np.where(here[..., None], new, stored)
    return Developed(result, ())


STRIP = 256
"""Rows that are converted at a time, for the memory."""


def _strips(length: int) -> list[slice]:
    return [slice(top, top + STRIP) for top in range(0, length, STRIP)]


def _restored(photo: Photo, stored, here, grey: bool, unlit, restore) -> np.ndarray:
    """Stored pixels through the network, which sees all but floats in 16 bits of sRGB's curve."""
    if stored.dtype.kind == "u" and here is None:
        given = np.empty((*stored.shape[:2], 3), np.uint16)
    else:
        given = np.empty((*stored.shape[:2], 3), np.float32)
    for rows in _strips(len(stored)):
        given[rows] = to_dtype(_seen(stored[rows], photo), given.dtype)
    if here is not None:
        given = filled(given, here)
    restored = restore(given, here)
    del given
    veil = None if unlit is None else veil_of(restored, unlit)
    result = np.empty_like(stored)
    for rows in _strips(len(stored)):
        part = to_float(restored[rows]).clip(0.0, 1.0)
        if veil is not None:
            part = without_veil(part, veil)
        if grey:
            part = np.repeat(luminance(part), stored.shape[-1], axis=-1)
        part = colour.from_network(part, photo.colour)
        if grey:  # the three curves of a profile may differ
            part = np.repeat(part[..., :1], stored.shape[-1], axis=-1)
        result[rows] = to_dtype(part, stored.dtype)
    return result


UNLIT, SHARE = 1 / 255, 0.005
"""A square is unlit if its brightest channel is at most so bright on average; a photograph has a black of
its own if that is so for so large a part of it, by halves from half as much on."""


def _cells(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    return shape[0] // CELL, CELL, shape[1] // CELL, CELL


def _cell_means(stored: np.ndarray) -> np.ndarray:
    """The brightest channel's mean in every whole square, float32 [h/8, w/8], white 1."""
    cells = _cells(stored.shape)
    bright = stored[: cells[0] * CELL, : cells[2] * CELL].max(axis=-1).reshape(cells)
    return bright.mean(axis=(1, 3), dtype=np.float32) / full_scale(stored.dtype)


def unlit_cells(stored: np.ndarray, there: np.ndarray | None) -> np.ndarray | None:
    """Which squares of a photograph no light fell on, bool [h/8, w/8]; None if too few to speak of.

    As 8 bits show it, so that copies of more bits are of the same mind.

    Args:
        stored: [h, w, c], of any dtype.
        there: bool [h, w], False for what does not count; None for all.
    """
    cells = _cells(stored.shape)
    rows, columns = cells[0] * CELL, cells[2] * CELL
    bright = stored.max(axis=-1, keepdims=True)
    unlit = _cell_means(to_dtype(bright, np.dtype(np.uint8))) <= UNLIT
    if there is not None:
        unlit &= there[:rows, :columns].reshape(cells).all(axis=(1, 3))
    return unlit if unlit.mean() > SHARE / 2 else None


def veil_of(restored: np.ndarray, unlit: np.ndarray) -> np.ndarray:
    """The light that the network put where there was none.

    Args:
        restored: [h, w, 3] in sRGB, of any dtype.
        unlit: of `unlit_cells`, some of it true.

    Returns:
        The median of unlit squares, per channel, linear light, float32 [3]; less of it where those are
        less than `SHARE` of all, down to nothing at half of that.
    """
    cells = _cells(restored.shape)
    squares = restored[: cells[0] * CELL, : cells[2] * CELL].reshape(*cells, 3)
    squares = to_float(squares.transpose(0, 2, 1, 3, 4)[unlit])
    light = np.median(colour.linear(squares.clip(0, 1)).mean(axis=(1, 2)), axis=0)
    return (min(1.0, 2 * unlit.mean() / SHARE - 1) * light).astype(np.float32)


def without_veil(restored: np.ndarray, veil: np.ndarray) -> np.ndarray:
    """Take that light out again.

        x' = (x − v) / (1 − v)   in linear light, per channel, not below 0

    A veil, as where there was no light nothing is to be seen. It lies over the whole photograph and is
    taken from all of it, so no edge comes in.

    Args:
        restored: float32 [h, w, 3] in sRGB, in [0, 1].
        veil: of `veil_of`.
    """
    light = colour.linear(restored)
    return colour.encoded(((light - veil) / (1 - veil)).clip(0, 1)).astype(np.float32)


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
