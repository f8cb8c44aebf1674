"""Windows: what they give is what the whole gives, to rounding, and no margin less would do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import inference, tiling
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.weights import Weights

SMALL = {"stages": 2, "width": 8, "widths": (8, 8), "depths": (1, 2), "blocks": (4, 4)}
NETWORKS = {
    "tiny": VARIANTS["tiny"],
    "three levels": SMALL | {"widths": (8, 8, 8), "depths": (1, 1, 1), "blocks": (2, 2, 2)},
    "two levels": SMALL,
    "one level": SMALL | {"widths": (8,), "depths": (1,), "blocks": (2,)},
}


@functools.cache
def weights(name):
    """Random parameters, every one alive, large enough for a pixel to reach as far as it can."""
    model = NETWORKS[name]
    module = ProgressiveDualNetwork(**model)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda s: random.normal(0, 0.15, s.shape).astype(np.float32), shapes)
    return Weights(name, model, params, {})


def photograph(*shape, dtype=np.float32):
    values = np.random.default_rng(2).uniform(0, 0.3, (*shape, 3))
    return (values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


# --- windows ---------------------------------------------------------------------------------


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
    assert tiling.margin(depths, blocks) == expected


@pytest.mark.parametrize("tile", [16, 40, 100, 1000])
@pytest.mark.parametrize("size", [(16, 400), (264, 136)])
def test_kept_parts_cover_the_photograph_and_lie_well_inside(size, tile):
    margin = tiling.margin((1, 1, 1), (2, 2, 2))
    covered = np.zeros(size, bool)
    found = list(tiling.windows(*size, tile=tile, overlap=margin))
    assert len({(w.rows.stop - w.rows.start, w.columns.stop - w.columns.start) for w in found}) == 1
    for window in found:
        covered[window.kept_rows, window.kept_columns] = True
        for whole, kept, length in (
            (window.rows, window.kept_rows, size[0]),
            (window.columns, window.kept_columns, size[1]),
        ):
            assert whole.start % 8 == whole.stop % 8 == 0
            assert kept.stop - kept.start <= -(-tile // 8) * 8
            assert whole.start == 0 or kept.start - whole.start >= margin
            assert whole.stop == length or whole.stop - kept.stop >= margin
    assert covered.all()
    assert (len(found) == 1) == (tile >= max(size))


# --- what they give --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(152, 200), (83, 251)])
def test_windows_give_what_the_whole_gives(name, size):
    photo = photograph(*size)
    whole = inference.enhance(photo, weights(name))
    parts = inference.enhance(photo, weights(name), tile=56)
    np.testing.assert_allclose(parts, whole, atol=2e-5)
    assert whole.std() > 0.05


@pytest.mark.parametrize("dials", [{"exposure": 0.4}, {"exposure": 2.0, "denoise": 0.3}])
def test_dials_reach_the_windows(dials):
    photo = photograph(83, 251)
    whole = inference.enhance(photo, weights("one level"), **dials)
    parts = inference.enhance(photo, weights("one level"), tile=56, **dials)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert abs(whole - inference.enhance(photo, weights("one level"))).max() > 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_a_batch_in_windows_keeps_shape_and_dtype(dtype):
    photos = photograph(2, 60, 50, dtype=dtype)
    whole = inference.enhance(photos, weights("one level"))
    parts = inference.enhance(photos, weights("one level"), tile=16)
    assert (parts.shape, parts.dtype) == (photos.shape, dtype)
    step = 1 if dtype == np.uint8 else 1e-3
    assert abs(parts.astype(np.float32) - whole.astype(np.float32)).max() <= step


def test_the_margin_is_needed(monkeypatch):
    """With half of it the windows' edges show."""
    photo = photograph(152, 200)
    whole = inference.enhance(photo, weights("tiny"))
    _, network = inference.prepare(weights("tiny"))
    monkeypatch.setattr(inference, "_network", lambda model: network._replace(margin=32))
    parts = inference.enhance(photo, weights("tiny"), tile=56)
    assert abs(parts - whole).max() > 1e-4


def test_windows_compile_once():
    _, network = inference.prepare(weights("one level"))
    inference.enhance(photograph(120, 168), weights("one level"), tile=24)
    before = network.plain_window.compiled._cache_size()
    inference.enhance(photograph(120, 168), weights("one level"), tile=24)
    assert network.plain_window.compiled._cache_size() == before


def test_a_tile_too_small_is_refused():
    with pytest.raises(ValueError, match="tile must be 16"):
        inference.enhance(photograph(20, 20), weights("one level"), tile=8)
