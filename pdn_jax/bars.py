"""Black bars around a picture: where they end, and the picture enhanced as if they were not there."""

from collections.abc import Callable

import numpy as np

from pdn_jax.checks import SMALLEST, white

BAR, PURE = 4 / 255, 0.98
"""A border's row is a bar if nothing in it is above BAR and so large a part of it is exactly black."""

RIM, BLOCK = 0.25, 18
"""A row is of the bar before it, smeared by compression over a block of 16 rows and the next one's edge,
if so much darker than as many rows behind those."""

Box = tuple[slice, slice]
"""Rows and columns."""


def box(light: np.ndarray, there: np.ndarray | None) -> Box | None:
    """Where the picture within bars is.

    Args:
        light: the brightest channel of every pixel, [h, w], of any dtype.
        there: bool [h, w], False where transparent; None for all there.

    Returns:
        Rows and columns that hold it, None where there is none.
    """
    opaque = there is None
    there = np.ones_like(light, bool) if there is None else there
    sides = [slice(0, length) for length in light.shape]
    # From outside to inside: a bar may end at another.
    for _ in range(4):
        before = list(sides)
        for axis in (0, 1):
            part, seen = light[tuple(sides)], there[tuple(sides)]
            if part.size == 0:
                return None
            bar = _is_bar(part, seen, axis)
            inner = np.flatnonzero(~bar)
            if not len(inner):
                return None
            means = part.mean(axis=1 - axis)
            first = inner[0] + _rim(means[inner[0] :], opaque and bool(inner[0] > 0))
            end = inner[-1] + 1
            end -= _rim(means[first:end][::-1], opaque and bool(end < len(bar)))
            start = sides[axis].start
            sides[axis] = slice(start + first, start + end)
        if sides == before:
            break
    return sides[0], sides[1]


def _is_bar(light: np.ndarray, there: np.ndarray, axis: int) -> np.ndarray:
    """Which rows (axis 0) or columns (axis 1) are those of a bar, or have nothing in them, bool."""
    empty = ~there.any(axis=1 - axis)
    largest = light.max(axis=1 - axis, where=there, initial=0)
    pure = ((light == 0) | ~there).mean(axis=1 - axis) >= PURE
    return empty | ((largest <= BAR * white(light.dtype)) & pure)


def _rim(means: np.ndarray, behind_a_bar: bool) -> int:
    """How many rows behind a bar are what a JPEG made of its end: less than a block of its colours.

    Args:
        means: of the rows from the bar on.
        behind_a_bar: False for 0.
    """
    if not behind_a_bar or len(means) < 2 * BLOCK:
        return 0
    lit = means[:BLOCK] >= RIM * np.median(means[BLOCK : 2 * BLOCK])
    return int(np.argmax(lit)) if lit.any() else 0


def at_least(part: slice, length: int, least: int = SMALLEST) -> slice:
    """A part of a side, widened where it is too small for the network.

    Args:
        part: of the side.
        length: of the side.
        least: what the part is to have, as far as the side goes.

    Returns:
        The part, or one around it.
    """
    missing = max(0, least - (part.stop - part.start))
    start = min(max(0, part.start - missing // 2), max(0, length - least))
    return part if not missing else slice(start, min(length, start + least))


def picture(photo: np.ndarray) -> Box | None:
    """Where the picture of a photograph is, large enough for the network.

    Args:
        photo: [h, w, 3], of any dtype.

    Returns:
        Rows and columns; None where it has no bars, or is black all over.
    """
    borders = (photo[[0, -1]].max(axis=-1), 0), (photo[:, [0, -1]].max(axis=-1), 1)
    if not any(_is_bar(light, np.ones_like(light, bool), axis).any() for light, axis in borders):
        return None
    inside = box(photo.max(axis=-1), None)
    if inside is None:
        return None
    rows, columns = map(at_least, inside, photo.shape[:2])
    return rows, columns


def kept(
    photos: np.ndarray, there: np.ndarray | None, restore: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Photographs restored as if they had no bars; the bars stay as they are.

    Args:
        photos: [n, h, w, 3], of any dtype.
        there: bool [h, w], where it is known what counts; then no bars are looked for.
        restore: photographs -> the restored ones, both [m, h', w', 3].

    Returns:
        The restored photographs [n, h, w, 3].
    """
    pictures = [picture(photo) for photo in photos] if there is None else []
    if not any(pictures):
        return restore(photos)
    restored = photos.copy()
    for photo, result, inside in zip(photos, restored, pictures, strict=True):
        rows, columns = inside or (slice(None), slice(None))
        result[rows, columns] = restore(photo[None, rows, columns])[0]
    return restored
