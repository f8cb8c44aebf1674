"""Black bars: where they end, and the picture between them as without them."""

import io

import numpy as np
import pytest
from photo_files import scene
from PIL import Image
from test_inference import tiny

from pdn_jax import bars
from pdn_jax.enhancer import Enhancer


def test_bars_of_a_jpeg_are_nearly_black():
    whole = np.pad(scene(), ((16, 16), (0, 0), (0, 0)))
    whole[15, 59:60] = 3  # what a lossy format puts next to the picture's edge
    assert bars.box(whole.max(-1), None) == (slice(16, 80), slice(0, 96))


@pytest.mark.parametrize("quality", [60, 85, 95])
@pytest.mark.parametrize("bar", [17, 27, 31])
def test_where_a_bar_ends_within_a_block_of_a_jpeg(bar, quality):
    """What compression makes of the last rows of a bar does not steer the exposure."""
    inner = scene() + np.uint8(20)
    data = io.BytesIO()
    whole = np.pad(inner, ((bar, bar), (0, 0), (0, 0)))
    Image.fromarray(whole).save(data, "JPEG", quality=quality)
    pixels = np.asarray(Image.open(data))
    rows, columns = bars.box(pixels.max(-1), None)
    assert abs(rows.start - bar) <= 1
    assert abs(rows.stop - bar - len(inner)) <= 1
    assert columns == slice(0, 96)


def test_shadow_next_to_a_bar_is_picture():
    """What is dark for more than a block's height belongs to it, and so does a slow ramp."""
    shadow = scene() + np.uint8(20)
    shadow[:20] //= 8
    shadow[0, ::2] = 6
    assert bars.box(np.pad(shadow.max(-1), ((20, 0), (0, 0))), None)[0] == slice(20, 84)
    ramp = np.tile(np.linspace(8, 60, 64).astype(np.uint8)[:, None], (1, 96))
    assert bars.box(np.pad(ramp, ((20, 0), (0, 0))), None)[0] == slice(20, 84)


def test_dark_is_not_a_bar():
    """A row of deep shadow with some light in it belongs to the picture."""
    pixels = scene()
    pixels[:20] = 1
    assert bars.box(pixels.max(-1), None) == (slice(0, 64), slice(0, 96))


def test_black_all_over_is_no_box():
    assert bars.box(np.zeros((20, 30)), None) is None


def test_a_photograph_without_bars_has_no_picture_within():
    assert bars.picture(scene()) is None
    assert bars.picture(np.zeros((20, 30, 3), np.uint8)) is None


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (15, 15)])
def test_a_small_picture_is_given_with_some_of_its_bars(size):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20 : 20 + size[0], 10 : 10 + size[1]] = 40
    rows, columns = bars.picture(pixels)
    assert pixels[rows, columns].sum() == pixels.sum()
    assert min(pixels[rows, columns].shape[:2]) == 16


def test_each_of_a_batch_by_its_own_bars():
    inner = scene()
    batch = np.stack(
        [np.pad(inner, ((8, 16), (0, 0), (0, 0))), np.pad(inner, ((24, 0), (0, 0), (0, 0)))]
    )
    seen = []

    def doubled(part):
        seen.append(part.shape)
        return 2 * part

    result = bars.kept(batch, None, doubled)
    assert seen == [(1, *inner.shape)] * 2
    np.testing.assert_array_equal(result, 2 * batch)
    seen.clear()
    bars.kept(batch, np.ones(batch.shape[1:3], bool), doubled)
    assert seen == [batch.shape]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("around", [(20, 12, 0, 0), (0, 0, 9, 40), (16, 16, 24, 24)])
def test_the_network_does_not_see_bars(dtype, around):
    """Of arrays as of files."""
    top, bottom, left, right = around
    inner = (scene() / 255.0).astype(np.float32)
    if dtype != np.float32:
        inner = np.rint(inner * np.iinfo(dtype).max).astype(dtype)
    padding = ((top, bottom), (left, right), (0, 0))
    enhancer = Enhancer(tiny())
    for dials in ({}, {"exposure": 1.5, "denoise": 0.5}):
        alone, barred = (enhancer(photo, **dials) for photo in (inner, np.pad(inner, padding)))
        assert alone.mean() > 1.2 * inner.mean()
        np.testing.assert_array_equal(barred, np.pad(alone, padding))
