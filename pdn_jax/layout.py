"""Where a photograph of any size goes in arrays of few shapes: its 1/8 grid, and tiles that overlap.

NumPy alone, so that a program that is compiled already starts without the library that made it.
Photographs here are [h, w, 3], uint8, uint16 or float in [0, 1]; up to a multiple of 8 they are mirrored.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

REDUCTION = 8
"""How much smaller than the image the grid is on which its brightening is estimated."""

SIDES = (128, 256, 512, *range(640, 2049, 128))
"""Pixels that a side of a tile has which one tile covers: a program is compiled for each pair."""

STEP = 64
"""Of what pixels a side of a tile has multiples which several tiles cover."""

STRIP = 256
"""Rows of a photograph that are looked at together, so that they stay within the caches."""

SMALL_GRIDS = (32, 64, 96)
"""Cells a side of grids that are square: up to these, one program serves upright and level."""


class GlobalPass(NamedTuple):
    """What the whole photograph is needed for, on the 1/8 grid where it is a map.

    black: black level per image and channel [n, 3], sRGB. increments: ln k of each stage
    [n, S, h/8, w/8, 3]; where only their sum is asked for, it may stand for them with S = 1. noise:
    the standard deviation that the camera's noise has after brightening [n, h/8, w/8, 3]. context:
    what is remembered of the image [n, h/8, w/8, width]. shot_noise, read_noise: σs and σr [n].
    """

    black: Any
    increments: Any
    noise: Any
    context: Any
    shot_noise: Any
    read_noise: Any


class Tile(NamedTuple):
    """Which part of a photograph to compute, and which of that to keep, in slices of pixels.

    All begin at multiples of `REDUCTION`; the kept parts of a photograph's tiles cover it.
    """

    rows: slice
    columns: slice
    kept_rows: slice
    kept_columns: slice

    @property
    def inner(self) -> tuple[slice, slice]:
        """The kept rows and columns as counted within the tile."""
        return _within(self.kept_rows, self.rows), _within(self.kept_columns, self.columns)


def _within(kept: slice, whole: slice) -> slice:
    return slice(kept.start - whole.start, kept.stop - whole.start)


def cells(blocks: Sequence[int]) -> list[int]:
    """Side of a denoising level's blocks in full-size pixels: block·2^l.

    Args:
        blocks: of each level, coarsest first.

    Returns:
        One number per level, coarsest first.

    Raises:
        ValueError: unless every block is even and each level's cell divides that of the level
            before, as features of coarser levels are handed on by repeating them.
    """
    sides = [block * 2 ** (len(blocks) - 1 - index) for index, block in enumerate(blocks)]
    nested = all(coarse % fine == 0 for coarse, fine in itertools.pairwise(sides))
    if not nested or any(block % 2 for block in blocks):
        raise ValueError(f"blocks {tuple(blocks)}: even ones, none coarser than the level before")
    return sides


def margin(depths: Sequence[int], blocks: Sequence[int]) -> int:
    """Pixels at a tile's cut edge that are not those of the whole.

    The enlarged exponent is off by half a cell of the grid. Level l, coarsest first, sees blocks,
    through 2 + 2·depth convolutions that each look one block further, and its enlargement one pixel
    of 2^l.

    Args:
        depths: residual pairs of each level, coarsest first.
        blocks: of each level, coarsest first.

    Returns:
        A multiple of `REDUCTION`.
    """
    off = REDUCTION // 2
    for depth, block, side in zip(depths, blocks, cells(blocks), strict=True):
        off = math.ceil(off / side) * side + (2 + 2 * depth) * side + side // block
    return math.ceil(off / REDUCTION) * REDUCTION


def grid_shape(height: int, width: int) -> tuple[int, int]:
    """Size of the array in which a photograph's grid is computed.

    Args:
        height: rows of cells that the photograph has.
        width: columns of cells.

    Returns:
        A square of `SMALL_GRIDS`, or at each side up to an eighth, or 32 cells, more.
    """
    largest = max(height, width)
    if largest <= SMALL_GRIDS[-1]:
        side = next(side for side in SMALL_GRIDS if largest <= side)
        return side, side
    return _eighths(height), _eighths(width)


def _eighths(length: int) -> int:
    step = max(32, 2 ** (length - 1).bit_length() // 16)
    return math.ceil(length / step) * step


def tiles(
    height: int, width: int, *, overlap: int, largest: int
) -> tuple[tuple[int, int], list[Tile]]:
    """The shape that all tiles of a photograph have, and the tiles, by rows.

    Args:
        height: of the photograph, divisible by `REDUCTION`.
        width: of the photograph, divisible by `REDUCTION`.
        overlap: the network's `margin`.
        largest: pixels that a side of a tile may have.

    Returns:
        Rows and columns of every tile's array, and the tiles. A side that one tile covers may be
        shorter than its array, others are not.

    Raises:
        ValueError: where such tiles would be all margin.
    """
    if largest < 2 * overlap + REDUCTION:
        raise ValueError(
            f"a tile must have {2 * overlap + REDUCTION} pixels a side or more, got {largest}"
        )
    (rows, along_rows), (columns, along_columns) = (
        _along(length, overlap, largest - largest % REDUCTION) for length in (height, width)
    )
    parts = [
        Tile(row, column, kept_row, kept_column)
        for (row, kept_row), (column, kept_column) in itertools.product(along_rows, along_columns)
    ]
    return (rows, columns), parts


def _along(length: int, overlap: int, largest: int) -> tuple[int, list[tuple[slice, slice]]]:
    """The size of tiles along one axis, and (tile, kept part) of each: the fewest pixels in all."""
    if length <= largest:
        whole = slice(0, length)
        return min(largest, next(side for side in SIDES if length <= side)), [(whole, whole)]

    def cost(size: int) -> tuple[int, int]:
        count = math.ceil((length - 2 * overlap) / (size - 2 * overlap))
        return size * count, count

    steps = range(math.ceil((2 * overlap + REDUCTION) / STEP) * STEP, largest + 1, STEP)
    size = min([*steps, largest], key=cost)
    parts, done = [], 0
    while done < length:
        begin = min(max(done - overlap, 0), length - size)
        stop = begin + size
        until = length if stop == length else stop - overlap
        parts.append((slice(begin, stop), slice(done, until)))
        done = until
    return size, parts


# --- photographs to arrays -------------------------------------------------------------------


def up(length: int) -> int:
    """Round up.

    Args:
        length: in pixels.

    Returns:
        The next multiple of `REDUCTION`.
    """
    return math.ceil(length / REDUCTION) * REDUCTION


def observe(photo: np.ndarray, texture: str) -> tuple[np.ndarray, np.ndarray]:
    """As `enhancement.observe`, for one photograph of any size.

    Args:
        photo: [h, w, 3], uint8, uint16 or float in [0, 1].
        texture: "rows" or "both".

    Returns:
        Means and textures of 8×8 pixels, float32 [⌈h/8⌉, ⌈w/8⌉, 3], in [0, 1].
    """
    height, width = photo.shape[:2]
    shape = (up(height) // REDUCTION, up(width) // REDUCTION, 3)
    small, grain = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for begin in range(0, height, STRIP):
        # One row more, for differences to the next row; the last of all has those of the one before.
        rows = slice(begin, min(begin + STRIP, height))
        below = slice(begin, min(begin + STRIP + 1, up(height)))
        strip = part(photo, below, slice(0, up(width)))
        cells = slice(rows.start // REDUCTION, up(rows.stop) // REDUCTION)
        kept = strip[: up(rows.stop) - rows.start]
        small[cells] = _pooled(kept)
        grain[cells] = _pooled(_differences(kept, axis=1))
        if texture == "both":
            grain[cells] += _pooled(_differences(strip, axis=0)[: len(kept)])
            grain[cells] *= 0.5
    return small, grain


def cells_there(there: np.ndarray) -> np.ndarray:
    """Which cells of the 1/8 grid count where not all of a photograph does.

    Cells next to those that have something of it count too, as the grid is lifted in straight lines.

    Args:
        there: bool [h, w], somewhere true.

    Returns:
        Ones and zeros, float32 [⌈h/8⌉, ⌈w/8⌉, 1].
    """
    height, width = there.shape
    padded = np.pad(there, ((0, -height % REDUCTION), (0, -width % REDUCTION)))
    cells = (padded.shape[0] // REDUCTION, REDUCTION, padded.shape[1] // REDUCTION, REDUCTION)
    mask = np.pad(padded.reshape(cells).any(axis=(1, 3)), 1)
    mask = mask[:-2] | mask[1:-1] | mask[2:]
    mask = mask[:, :-2] | mask[:, 1:-1] | mask[:, 2:]
    return mask[..., None].astype(np.float32)


def _differences(values: np.ndarray, axis: int) -> np.ndarray:
    """|difference| to the next along an axis; the last takes the one before."""
    result = np.empty_like(values)
    line, target = np.moveaxis(values, axis, 0), np.moveaxis(result, axis, 0)
    np.maximum(line[1:], line[:-1], out=target[:-1])
    target[:-1] -= np.minimum(line[1:], line[:-1])
    target[-1] = target[-2]
    return result


def _pooled(values: np.ndarray) -> np.ndarray:
    """Means of 8×8, in [0, 1]: rows first, in loops over whole rows."""
    height, width, channels = values.shape
    sums = {1: np.uint16, 2: np.uint32}.get(values.dtype.itemsize, np.float32)
    largest = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    lines = values.reshape(height // REDUCTION, REDUCTION, width * channels)
    lines = lines.sum(axis=1, dtype=sums)
    cells = lines.reshape(height // REDUCTION, width // REDUCTION, REDUCTION, channels)
    total = cells.sum(axis=2, dtype=np.float32)
    return total / np.float32(REDUCTION**2 * largest)


def part(photo: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A part of a photograph that is mirrored beyond its last row and column.

    Args:
        photo: [h, w, 3].
        rows: with a start and a stop, which may lie beyond the last.
        columns: likewise.

    Returns:
        That part; a view where nothing is mirrored.
    """
    height, width = photo.shape[:2]
    if rows.stop <= height and columns.stop <= width:
        return photo[rows, columns]
    sides = ((rows, height), (columns, width))
    mirrored = ([min(i, 2 * n - 1 - i) for i in range(span.start, span.stop)] for span, n in sides)
    return photo[np.ix_(*mirrored)]


def filled(values: np.ndarray, shape: tuple[int, int], mode: str = "constant") -> np.ndarray:
    """An array in the top left of a larger one.

    Args:
        values: [h, w, …].
        shape: rows and columns of the larger one.
        mode: what the rest is, as `np.pad` names it; zeros by default.

    Returns:
        An array of that shape, `values` itself where it has it.
    """
    more = [(0, wanted - there) for wanted, there in zip(shape, values.shape[:2], strict=True)]
    if not any(after for _, after in more):
        return values
    return np.pad(values, (*more, *[(0, 0)] * (values.ndim - 2)), mode=mode)


def over_grid(tile: Tile) -> tuple[slice, slice]:
    """The cells of the grid that lie under a tile.

    Args:
        tile: of `tiles`.

    Returns:
        Rows and columns of cells.
    """
    rows, columns = (
        slice(span.start // REDUCTION, span.stop // REDUCTION) for span in (tile.rows, tile.columns)
    )
    return rows, columns


def cells_of(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells that an array of pixels has.

    Args:
        shape: rows and columns of pixels, divisible by `REDUCTION`.

    Returns:
        Those of its grid.
    """
    return shape[0] // REDUCTION, shape[1] // REDUCTION
