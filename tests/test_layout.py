"""Where photographs go in arrays of few shapes: tiles cover, grids are large enough, cells are means."""

import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import enhancement, layout
from pdn_jax import image as im

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("depths", "blocks", "expected"),
    [
        # 4 + 4·2 = 12, and its own pixel, 13: the next multiple of 8.
        ((1,), (2,), 16),
        # 4 + 4·4 + 2 = 22, in blocks of 2: 22 + 6·2 + 1 = 35.
        ((1, 2), (2, 2), 40),
        # 4 in blocks of 8: 8 + 4·8 + 2 = 42; in blocks of 4: 44 + 6·4 + 1 = 69.
        ((1, 2), (4, 4), 72),
        # 4 in blocks of 8: 8 + 4·8 + 4 = 44; 44 + 4·4 + 2 = 62; 62 + 4·2 + 1 = 71.
        ((1, 1, 1), (2, 2, 2), 72),
        # 8 + 8·8 + 4 = 76; 76 + 6·4 + 2 = 102; 104 + 4·4 + 1 = 121.
        ((3, 2, 1), (2, 2, 4), 128),
    ],
)
def test_margin_by_hand(depths, blocks, expected):
    assert layout.margin(depths, blocks) == expected


# --- tiles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [160, 200, 640, 1000, 1536])
@pytest.mark.parametrize("size", [(16, 16), (16, 400), (264, 136), (1536, 1544), (3000, 4000)])
def test_kept_parts_cover_the_photograph_once_and_lie_well_inside(size, largest):
    overlap = layout.margin((1, 1, 1), (2, 2, 2))
    assert overlap == 72
    covered = np.zeros(size, int)
    shape, tiles = layout.tiles(*size, overlap=overlap, largest=largest)
    for tile in tiles:
        covered[tile.kept_rows, tile.kept_columns] += 1
        for span, kept, length, side in zip(tile[:2], tile[2:], size, shape, strict=True):
            assert span.start % 8 == span.stop % 8 == kept.start % 8 == side % 8 == 0
            assert span.stop - span.start <= side <= largest
            assert span.stop - span.start in (side, length)
            assert span.start == 0 or kept.start - span.start >= overlap
            assert span.stop == length or span.stop - kept.stop >= overlap
    assert (covered == 1).all()
    assert (len(tiles) == 1) == (max(size) <= largest - largest % 8)


def test_inner_is_the_kept_part_as_the_tile_counts():
    tile = layout.Tile(slice(8, 48), slice(0, 32), slice(16, 40), slice(0, 24))
    assert tile.inner == (slice(8, 32), slice(0, 24))


def test_tiles_have_few_shapes():
    """Two for photographs around 600×400, level and upright; a dozen for all up to 1536."""
    shapes = set()
    for height, width in RANDOM.integers((380, 560), (440, 640), (40, 2)).tolist():
        for size in ((height, width), (width, height)):
            shapes.add(layout.tiles(*map(layout.up, size), overlap=96, largest=1536)[0])
    assert shapes == {(512, 640), (640, 512)}


def test_large_photographs_waste_less_than_half():
    for size in [(3000, 4000), (1608, 1608), (8664, 11552), (2160, 3840)]:
        shape, tiles = layout.tiles(*size, overlap=96, largest=1536)
        assert len(tiles) * np.prod(shape) < 1.5 * np.prod(size)


def test_tiles_of_nothing_but_margin_are_refused():
    with pytest.raises(ValueError, match="200 pixels a side or more, got 199"):
        layout.tiles(16, 16, overlap=96, largest=199)


# --- the grid --------------------------------------------------------------------------------


def test_grids_are_large_enough_and_few():
    assert layout.grid_shape(50, 75) == layout.grid_shape(75, 50) == (96, 96)
    assert layout.grid_shape(2, 25) == (32, 32)
    for length in range(97, 2000, 7):
        side, other = layout.grid_shape(length, 97)
        assert length <= side < max(1.125 * length, length + 32)
        assert other == 128


@pytest.mark.parametrize("size", [(16, 16), (25, 41), (600, 33)])
@pytest.mark.parametrize("texture", ["rows", "both"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_observing_is_what_the_network_sees(size, texture, dtype):
    photo = RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)
    low = photo.astype(np.float32) / 255
    padded = im.pad_to_multiple(jnp.asarray(low)[None], 8)
    wanted = enhancement.observe(padded, texture)
    result = layout.observe(photo if dtype == np.uint8 else low, texture)
    for grid, truth in zip(result, wanted, strict=True):
        assert grid.dtype == np.float32
        np.testing.assert_allclose(grid, truth[0], atol=1e-6)


def test_parts_are_mirrored_beyond_the_last_pixel():
    photo = RANDOM.integers(0, 256, (19, 21, 3), dtype=np.uint8)
    whole = np.asarray(im.pad_to_multiple(jnp.asarray(photo, jnp.float32)[None], 8))[0]
    rows, columns = slice(8, 24), slice(16, 24)
    np.testing.assert_array_equal(layout.part(photo, rows, columns), whole[rows, columns])
    inner = layout.part(photo, slice(0, 16), slice(8, 16))
    assert inner.base is photo


def test_filled_by_hand():
    values = np.arange(4.0).reshape(2, 2, 1)
    np.testing.assert_array_equal(
        layout.filled(values, (3, 3))[..., 0], [[0, 1, 0], [2, 3, 0], [0, 0, 0]]
    )
    np.testing.assert_array_equal(
        layout.filled(values, (3, 3), "edge")[..., 0], [[0, 1, 1], [2, 3, 3], [2, 3, 3]]
    )
    assert layout.filled(values, (2, 2)) is values


def test_cells_that_are_there_by_hand():
    there = np.zeros((20, 41), bool)
    there[9, 17] = True  # in the second row and third column of cells
    mask = layout.cells_there(there)
    assert mask.shape == (3, 6, 1)
    np.testing.assert_array_equal(np.argwhere(mask[..., 0]).min(axis=0), (0, 1))
    assert mask.sum() == 9
    assert layout.cells_there(np.ones((20, 41), bool)).all()
