"""What the programs take, from a photograph, its global pass and a tile, as NumPy arrays."""

from collections.abc import Sequence

import numpy as np

from pdn_jax import layout
from pdn_jax.layout import GlobalPass, Tile


def grids(
    small: np.ndarray, texture: np.ndarray, mask: np.ndarray | None = None
) -> list[np.ndarray]:
    """What the global pass takes of one photograph.

    Args:
        small: as `layout.observe` gives it.
        texture: as `layout.observe` gives it.
        mask: [rows, columns, 1], 0 for cells that count for nothing, 1 for the others; None for all.

    Returns:
        Both in arrays of `layout.grid_shape`, and which cells count.
    """
    shape = layout.grid_shape(*small.shape[:2])
    mask = np.ones((*small.shape[:2], 1), np.float32) if mask is None else mask
    return [layout.filled(grid, shape)[None] for grid in (small, texture, mask)]


def tile_arrays(
    photo: np.ndarray, estimate: GlobalPass, tile: Tile, shape: tuple[int, int]
) -> list[np.ndarray]:
    """What rendering takes of one tile.

    Args:
        photo: [h, w, 3].
        estimate: its global pass, of one image.
        tile: which part.
        shape: rows and columns of the tile's array.

    Returns:
        low, black, increments, noise, context and valid, without the axis of images.
    """
    cells, grid = layout.cells_of(shape), layout.over_grid(tile)
    low = layout.filled(layout.part(photo, tile.rows, tile.columns), shape)
    stages = [layout.filled(stage[grid], cells, "edge") for stage in estimate.increments[0]]
    noise = layout.filled(estimate.noise[0][grid], cells, "edge")
    context = layout.filled(estimate.context[0][grid], cells)
    valid = np.asarray([span.stop - span.start for span in (tile.rows, tile.columns)], np.int32)
    return [low, estimate.black[0], np.stack(stages), noise, context, valid]


def path_arrays(
    log_exposure: np.ndarray, tile: Tile, shape: tuple[int, int], size: tuple[int, int]
) -> list[np.ndarray]:
    """What a tile's part of the mean path takes.

    Args:
        log_exposure: ln k of the whole path on the photograph's grid.
        tile: which part.
        shape: rows and columns of the tile's array.
        size: height and width of the photograph.

    Returns:
        ln k on the tile's grid, and weights of rows and columns: 1 for those that it keeps.
    """
    cells = layout.filled(log_exposure[layout.over_grid(tile)], layout.cells_of(shape), "edge")
    kept = (tile.kept_rows, tile.kept_columns)
    weights = [np.zeros((1, side), np.float32) for side in shape]
    for weight, span, inner, length in zip(weights, kept, tile.inner, size, strict=True):
        weight[:, inner.start : inner.start + min(span.stop, length) - span.start] = 1.0
    return [cells[None], *weights]


def numbers(values: Sequence[float]) -> list[np.ndarray]:
    """Dials as programs take them.

    Args:
        values: numbers.

    Returns:
        Arrays of float32.
    """
    return [np.asarray(value, np.float32) for value in values]
