"""Bars, transparency, black: what is no picture stays as it is and counts for nothing."""

import functools

import numpy as np
import pytest
from photo_files import deep_scene, photo_of, scene
from test_inference import tiny

from pdn_jax import inference, weights
from pdn_jax.photos import colour, presence
from pdn_jax.photos.record import to_dtype, to_float

SLOW = pytest.mark.slow


def brightened(low, there):
    """A stand-in for the network: what it does hangs on the mean of all that it is given."""
    values = to_float(low)
    return to_dtype(np.clip(values * (0.4 / values.mean()), 0, 1), low.dtype)


def veiled(low, there):
    """A stand-in that puts a green veil where no light is."""
    veil = np.array([0.007, 0.01, 0.005])
    light = colour.linear(np.clip(4 * to_float(low), 0, 1))
    return to_dtype(colour.encoded(veil + (1 - veil) * light).astype(np.float32), low.dtype)


# --- bars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [0, 9])
@pytest.mark.parametrize("left", [0, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bars_stay_and_the_picture_is_as_without_them(top, left, dtype):
    inner = scene() if dtype == np.uint8 else deep_scene()
    whole = np.pad(inner, ((top, top), (left, 2 * left), (0, 0)))
    alone = presence.developed(photo_of(inner), brightened).pixels
    barred = presence.developed(photo_of(whole), brightened).pixels
    expected = np.pad(alone, ((top, top), (left, 2 * left), (0, 0)))
    np.testing.assert_array_equal(barred, expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (15, 15)])
def test_a_small_picture_within_bars(size):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[20 : 20 + size[0], 10 : 10 + size[1]] = 40
    seen = []

    def restore(low, there):
        seen.append(low.shape)
        return low

    np.testing.assert_array_equal(presence.developed(photo_of(pixels), restore).pixels, pixels)
    assert min(seen[0][:2]) >= 16


# --- transparency --------------------------------------------------------------------------------


def test_a_cut_out_subject_is_exposed_as_alone():
    inner = scene()
    pixels = np.full((120, 160, 3), 255, np.uint8)
    pixels[20:84, 30:126] = inner
    alpha = np.zeros((120, 160), np.uint8)
    alpha[20:84, 30:126] = 255
    alone = presence.developed(photo_of(inner), brightened).pixels
    result = presence.developed(photo_of(pixels, alpha), brightened).pixels
    np.testing.assert_array_equal(result[20:84, 30:126], alone)
    assert (result[alpha == 0] == 255).all()


def test_what_is_transparent_does_not_steer_the_exposure():
    """A disc, its surroundings black, white or grey: the same result, near that of a full frame."""
    y, x = np.mgrid[:64, :96]
    alpha = np.where((y - 32) ** 2 + (x - 48) ** 2 < 900, 255, 0).astype(np.uint8)
    results = []
    for value in (0, 90, 255):
        pixels = np.where(alpha[..., None] > 0, scene(), np.uint8(value))
        result = presence.developed(photo_of(pixels, alpha), brightened).pixels
        assert (result[alpha == 0] == value).all()
        results.append(result[alpha > 0].astype(int))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    mean = scene()[alpha > 0].mean() / 255
    np.testing.assert_allclose(results[0].mean() / 255, 0.4, atol=0.4 * 0.03)
    assert mean < 0.2


def test_the_network_is_told_where_the_picture_is():
    alpha = np.zeros((64, 96), np.uint8)
    alpha[:, :50] = 1
    alpha[:20, :20] = 0
    seen = []

    def restore(low, there):
        seen.append(there)
        return low

    presence.developed(photo_of(scene(), alpha), restore)
    np.testing.assert_array_equal(seen[0], alpha[:, :50] > 0)


@pytest.mark.slow
def test_half_a_frame_is_exposed_about_as_the_whole_of_it():
    """Texture that is alike everywhere, cut along a slant: whatever lies beneath what is transparent.

    A frame cut straight through its middle differs by 5 % itself: the network sees other edges.
    """
    random = np.random.default_rng(0)
    pixels = random.integers(5, 45, (24, 36, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    y, x = np.mgrid[:96, :144]
    alpha = np.where(x * 96 > y * 144, 255, 0).astype(np.uint8)
    whole = presence.developed(photo_of(pixels), network("tiny")).pixels[alpha > 0]
    results = []
    for beneath in (0, 255):
        cut = np.where(alpha[..., None] > 0, pixels, np.uint8(beneath))
        results.append(presence.developed(photo_of(cut, alpha), network("tiny")).pixels[alpha > 0])
    np.testing.assert_array_equal(*results)
    assert results[0].mean() == pytest.approx(whole.mean(), rel=0.08)


def test_all_transparent_is_left():
    result = presence.developed(photo_of(scene(), np.zeros((64, 96), np.uint8)), brightened)
    np.testing.assert_array_equal(result.pixels, scene())
    assert result.notes == (presence.CLEAR,)


def test_filled_is_the_mean_around():
    values = np.zeros((9, 14, 3), np.float32)
    there = np.zeros((9, 14), bool)
    there[0, 0] = there[8, 13] = True
    values[0, 0], values[8, 13] = 0.2, 0.6
    result = presence.filled(values, there)
    assert result[0, 0] == pytest.approx(0.2)
    assert result[1, 1] == pytest.approx(0.2)
    assert result[8, 12] == pytest.approx(0.6)
    assert result.min() >= 0.2
    assert result.max() <= 0.6 + 1e-6


# --- black ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value", [0, 1])
def test_an_all_black_frame_stays_black_and_neutral(channels, value):
    pixels = np.full((64, 96, channels), value, np.uint8)
    result = presence.developed(photo_of(pixels), veiled)
    np.testing.assert_array_equal(result.pixels, pixels)
    assert result.notes == (presence.BLACK,)


def test_no_veil_over_what_has_no_light():
    """A night scene, black for a third: the blackest tenth is black, the light hardly changed."""
    pixels = scene(96, 96)
    pixels[:32] = 0
    pixels[40, 40] = 255  # so that the black is no bar: some light in it
    pixels[2:6, 5::9] = 12
    result = presence.developed(photo_of(pixels), veiled).pixels.astype(int)
    black = result[10:32]
    assert black.max() <= 2
    bright = np.clip(4.0 * scene(96, 96)[50:], 0, 255)
    assert abs(result[50:] - bright).mean() < 1
    plain = 255 * veiled(pixels / np.float32(255), None)
    assert plain[10:32].min() > 14


def test_without_black_nothing_is_taken():
    low = scene()
    assert presence.unlit_cells(low, None) is None
    result = presence.developed(photo_of(low), lambda low, there: low).pixels
    np.testing.assert_array_equal(result, low)


def test_the_veil_by_hand():
    """(x − v) / (1 − v) in linear light, with v the light of the unlit half."""
    low = np.zeros((32, 32, 3), np.float32)
    low[:, 16:] = 0.2
    restored = np.where(low > 0, 0.5, 0.1).astype(np.float32)
    result = presence.without_veil(
        restored, presence.veil_of(restored, presence.unlit_cells(low, None))
    )
    veil, light = (float(colour.linear(np.array([v]))[0]) for v in (0.1, 0.5))
    wanted = colour.encoded(np.array([(light - veil) / (1 - veil)]))[0]
    assert abs(result[:, :16]).max() < 1e-4
    assert result[0, 20, 1] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(("part", "strength"), [(0.002, 0), (0.00375, 0.5), (0.005, 1), (0.1, 1)])
def test_the_veil_comes_in_by_degrees(part, strength):
    """By how much of a photograph is unlit: two copies that differ by one square differ by little."""
    low = np.full((400, 400, 3), 0.2, np.float32)
    for cell in range(round(part * 2500)):
        low[8 * (cell // 50) :, 8 * (cell % 50) :][:8, :8] = 0
    unlit = presence.unlit_cells(low, None)
    if strength == 0:
        assert unlit is None
        return
    full = float(colour.linear(np.array([0.1]))[0])
    veil = presence.veil_of(np.full_like(low, 0.1), unlit)
    np.testing.assert_allclose(veil, strength * full, rtol=0.15)  # whole squares


# --- grey and depth ------------------------------------------------------------------------------


@functools.cache
def network(name):
    enhancer = inference.Enhancer(tiny() if name == "untrained" else name)
    return lambda low, there: enhancer(low, there=there)


@pytest.mark.parametrize(
    "name",
    [n if n == "tiny" else pytest.param(n, marks=SLOW) for n in ("untrained", *weights.SHIPPED)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey_with_every_weights_file(name, dtype):
    grey = (scene() if dtype == np.uint8 else deep_scene())[..., :1]
    one = presence.developed(photo_of(grey), network(name)).pixels
    assert (one.shape, one.dtype) == (grey.shape, dtype)
    three = presence.developed(photo_of(grey.repeat(3, -1)), network(name)).pixels
    np.testing.assert_array_equal(three, one.repeat(3, -1))
    assert one.mean() > 1.2 * grey.mean() or name == "untrained"


def test_sixteen_bits_agree_with_eight_and_have_no_bands():
    eight = scene()
    one = presence.developed(photo_of(eight), network("tiny")).pixels
    two = presence.developed(photo_of(eight.astype(np.uint16) * 257), network("tiny")).pixels
    assert abs(one.astype(float) - two / 257).max() <= 1
    ramp = np.linspace(300, 6000, 96 * 64).reshape(64, 96, 1).repeat(3, -1).astype(np.uint16)
    deep = presence.developed(photo_of(ramp), network("tiny")).pixels
    shallow = presence.developed(photo_of((ramp // 257).astype(np.uint8)), network("tiny")).pixels
    assert len(np.unique(deep)) > 20 * len(np.unique(shallow))


def test_luminance_by_hand():
    light = colour.linear(np.array([0.9, 0.5, 0.1]))
    y = np.array([0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]])
    values = np.array([[[0.9, 0.5, 0.1]]], np.float32)
    assert presence.luminance(values)[0, 0, 0] == pytest.approx(colour.encoded(y)[0], abs=1e-6)
    grey = np.linspace(0, 1, 99, dtype=np.float32).reshape(1, -1, 1)
    np.testing.assert_allclose(presence.luminance(grey.repeat(3, -1)), grey, atol=1e-6)


def test_the_noise_of_a_lens_cap_is_no_photograph():
    noise = np.random.default_rng(0).integers(0, 4, (128, 160, 3), dtype=np.uint8)
    assert presence.place(photo_of(noise)) == presence.BLACK
    lamp = noise.copy()
    lamp[40:44, 40:44] = 120  # a star is one
    assert isinstance(presence.place(photo_of(lamp)), presence.Place)
    deep = noise.astype(np.uint16) * 257  # 16 bits tell more apart
    assert isinstance(presence.place(photo_of(deep)), presence.Place)


def test_a_night_of_16_bits_comes_out_as_the_one_of_8():
    """Squares of 1 and 2 of 255 in turns: whether they are unlit hangs on no number of bits."""
    eight = scene(96, 96)
    eight[:64] = np.random.default_rng(0).integers(0, 4, (64, 96, 1), dtype=np.uint8)
    eight[:, ::9] += 1  # no bar
    one = presence.developed(photo_of(eight), veiled).pixels
    two = presence.developed(photo_of(eight.astype(np.uint16) * 257), veiled).pixels
    assert abs(one.astype(float) - two / 257).max() <= 1


def test_a_sky_is_unlit_in_16_bits_where_it_is_in_8():
    deep = np.full((64, 64, 3), round(1.3 * 257), np.uint16)
    deep[32:] = 40 * 257
    eight = np.rint(deep / 257).astype(np.uint8)
    np.testing.assert_array_equal(
        presence.unlit_cells(deep, None), presence.unlit_cells(eight, None)
    )
    assert presence.unlit_cells(deep, None).sum() == 32
