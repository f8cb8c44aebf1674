"""Inference: any photo comes back as itself but brighter; the dial keeps to the exposure group."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import dial, inference, weights
from pdn_jax import image as im
from pdn_jax.model import VARIANTS, Noise, PDNOutput, ProgressiveDualNetwork
from pdn_jax.types import InputError
from pdn_jax.weights import Weights

RANDOM = np.random.default_rng(0)
PHOTO = RANDOM.integers(0, 80, (50, 41, 3), dtype=np.uint8)


@functools.cache
def tiny():
    """Variant tiny with random parameters, every one of them alive."""
    module = ProgressiveDualNetwork(**VARIANTS["tiny"])
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda s: random.normal(0, 0.1, s.shape).astype(np.float32), shapes)
    return Weights("tiny", VARIANTS["tiny"], params, {})


@functools.cache
def applied():
    """PHOTO through the network by hand."""
    low = (PHOTO / np.float32(255))[None]
    return jax.jit(ProgressiveDualNetwork(**VARIANTS["tiny"]).apply)(tiny().params, low)


def output(restored, *, path, enhanced=None):
    """What a network might give that brightened by `path`."""
    path = jnp.broadcast_to(path, restored.shape)
    enhanced = restored if enhanced is None else enhanced
    exposure = jnp.exp(-path.mean(axis=(1, 2, 3)))
    noise = Noise(jnp.zeros(len(restored)), jnp.zeros(len(restored)))
    return PDNOutput((enhanced,), (restored,), restored, path, exposure, noise)


def picture(*, lowest=0.05, seed=0):
    values = np.random.default_rng(seed).uniform(lowest, 0.9, (2, 16, 16, 3))
    return jnp.asarray(values, jnp.float32)


# --- enhance ---------------------------------------------------------------------------------


def test_enhance_is_the_network_clipped():
    expected = np.clip(applied().restored[0, :50, :41], 0, 1)
    result = inference.enhance(PHOTO / np.float32(255), tiny())
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert (np.asarray(applied().restored) > 1).any()


def test_eight_bits_are_rounded():
    expected = np.clip(applied().restored[0, :50, :41], 0, 1) * 255
    result = inference.enhance(PHOTO, tiny())
    assert result.dtype == np.uint8
    assert abs(result - expected).max() <= 0.501
    assert abs((result - expected).mean()) < 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", [(), (1,)])
def test_shape_and_dtype_are_kept(dtype, batch):
    photo = np.zeros((*batch, 16, 33, 3), dtype)
    result = inference.enhance(photo, tiny())
    assert (result.shape, result.dtype) == (photo.shape, photo.dtype)


def test_a_batch_gives_what_its_photos_give():
    photos = np.stack([PHOTO, PHOTO[::-1]])
    together = inference.enhance(photos, tiny()).astype(int)
    apart = np.stack([inference.enhance(photo, tiny()) for photo in photos])
    assert abs(together - apart).max() <= 1


def test_weights_may_be_a_path(tmp_path):
    weights.save(tmp_path, tiny())
    expected = inference.enhance(PHOTO, tiny())
    np.testing.assert_array_equal(inference.enhance(PHOTO, tmp_path), expected)
    np.testing.assert_array_equal(inference.enhance(PHOTO, str(tmp_path)), expected)


def test_dials_reach_the_result_and_one_means_untouched():
    own = inference.enhance(PHOTO, tiny()).astype(int)
    means = [inference.enhance(PHOTO, tiny(), exposure=k).mean() for k in (0.2, 0.999, 1.001, 4.0)]
    assert np.all(np.diff([means[0], means[1], own.mean(), means[2], means[3]]) > 0)
    noisy = inference.enhance(PHOTO, tiny(), denoise=0.0)
    brightened = np.clip(applied().enhanced[-1][0, :50, :41], 0, 1) * 255
    assert abs(noisy - brightened).max() <= 0.501
    assert abs(noisy - own).max() > 5


@pytest.mark.parametrize("exposure", [1e-300, 1e-6, 1e6, 1e300])
def test_extreme_exposures_are_black_or_white(exposure):
    result = inference.enhance(PHOTO, tiny(), exposure=exposure)
    assert (result == (0 if exposure < 1 else 255)).mean() > 0.9


def test_stages_are_all_there_and_clipped():
    result = inference.stages(PHOTO, tiny())
    assert [x.shape for x in result.enhanced] == [(50, 41, 3)] * 4
    assert [x.shape for x in result.denoised] == [(13, 11, 3), (25, 21, 3), (50, 41, 3)]
    np.testing.assert_array_equal(result.restored, inference.enhance(PHOTO, tiny()))
    for image, truth in zip(
        [*result.enhanced, *result.denoised],
        [*applied().enhanced, *applied().denoised],
        strict=True,
    ):
        height, width = image.shape[:2]
        assert image.dtype == np.uint8
        assert abs(image - np.clip(truth[0, :height, :width], 0, 1) * 255).max() <= 0.501


# --- the dial --------------------------------------------------------------------------------


def test_exposure_one_is_the_restored_image_to_the_bit():
    restored = picture(lowest=-0.2)
    assert restored.min() < 0
    result = dial.dial(output(restored, path=1.5), 1.0, 1.0)
    np.testing.assert_array_equal(result, restored)


def test_denoise_mixes_the_brightened_image_in():
    restored, brightened = picture(), picture(seed=1)
    given = output(restored, path=1.5, enhanced=brightened)
    np.testing.assert_array_equal(dial.dial(given, 1.0, 0.0), brightened)
    mixed = dial.dial(given, 1.0, 0.25)
    np.testing.assert_allclose(mixed, 0.25 * restored + 0.75 * brightened, atol=1e-6)


@pytest.mark.parametrize("path", [1.5, 3.0])
def test_exposure_of_the_camera_gives_what_the_camera_saw(path):
    low = picture()
    given = output(im.expose_curve(low, jnp.asarray(path)), path=path)
    result = dial.dial(given, given.exposure[0], 1.0)
    np.testing.assert_allclose(result, low, atol=1e-5)


def test_an_even_path_is_the_exposure_curve():
    restored = picture()
    for exposure in (0.3, 2.0):
        expected = im.expose_curve(restored, jnp.log(exposure))
        result = dial.dial(output(restored, path=2.0), exposure, 1.0)
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_the_dial_is_a_group():
    path = jnp.asarray(np.random.default_rng(2).uniform(0, 3, (2, 16, 16, 3)), jnp.float32)
    restored = picture()
    halfway = dial.dial(output(restored, path=path), 0.7, 1.0)
    twice = dial.dial(output(halfway, path=path), 0.6, 1.0)
    once = dial.dial(output(restored, path=path), 0.42, 1.0)
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_a_lamp_that_was_not_brightened_is_hardly_darkened():
    lamp = np.zeros((1, 16, 16, 3), bool)
    lamp[:, :4, :4] = True
    restored = jnp.full((1, 16, 16, 3), 0.7)
    given = output(restored, path=jnp.where(lamp, 0.0, 2.0))
    result = dial.dial(given, given.exposure[0], 1.0)
    assert result[lamp].min() > 0.67
    assert result[~lamp].max() < 0.35


def test_a_cast_does_not_come_back_with_the_darkness():
    """Grey that the network made of a purple dark stays grey at any exposure."""
    path = jnp.broadcast_to(jnp.asarray([1.0, 2.0, 1.2]), (1, 16, 16, 3))
    for exposure in (0.3, 0.6, 2.0):
        grey = dial.dial(output(jnp.full((1, 16, 16, 3), 0.5), path=path), exposure, 1.0)
        np.testing.assert_allclose(grey[..., 0], grey[..., 1], rtol=1e-6)
        np.testing.assert_allclose(grey[..., 2], grey[..., 1], rtol=1e-6)


def test_a_sky_that_came_out_white_gets_its_colour_back():
    """What was hardly brightened walks each channel's own path."""
    sky = np.zeros((1, 16, 16, 1), bool)
    sky[:, :4] = True
    path = jnp.where(sky, jnp.asarray([0.4, 0.25, 0.1]), 3.0)
    given = output(jnp.full((1, 16, 16, 3), 0.95), path=path)
    result = np.asarray(dial.dial(given, given.exposure[0], 1.0))
    red, green, blue = result[0, 0, 0]
    assert red < green < blue
    assert np.ptp(result[0, 8, 8]) < 1e-6


@pytest.mark.parametrize(("share", "apart"), [(0.2, 1.0), (0.25, 1.0), (0.375, 0.5), (0.5, 0.0)])
def test_how_far_channels_walk_apart_by_hand(share, apart):
    """m = 2 − 4·s, held in [0, 1], where a pixel's path, softened, is s of the softened mean path."""
    tilt, soft = jnp.asarray([0.1, 0.0, -0.1]), dial.SOFTENING
    mean = 1.0
    level = share * (mean + soft) - soft
    sky = np.zeros((1, 16, 16, 1), bool)
    sky[:, :1, :1] = True
    rest = (mean * 256 - level) / 255
    path = jnp.where(sky, level + tilt, rest)
    restored = jnp.full((1, 16, 16, 3), 0.9)
    result = dial.dial(output(restored, path=path), 0.3, 1.0)
    wanted = (level + apart * tilt + soft) / (mean + soft)
    expected = im.expose_curve(restored[0, 0, 0], jnp.log(0.3) * wanted)
    np.testing.assert_allclose(result[0, 0, 0], expected, rtol=1e-5)


def test_gradients_are_finite_at_black_and_white():
    for value in (0.0, 1.0):
        given = output(jnp.full((1, 16, 16, 3), value), path=2.0)

        def total(restored, exposure, given=given):
            return dial.dial(given._replace(restored=restored), exposure, 1.0).sum()

        for exposure in (0.1, 1.0, 4.0):
            found = jax.grad(total, (0, 1))(given.restored, exposure)
            assert all(bool(jnp.isfinite(leaf).all()) for leaf in found)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("exposure", [0.0, -1.0, float("nan"), float("inf")])
def test_exposures_that_are_none(exposure):
    with pytest.raises(ValueError, match=f"exposure must be .* got {exposure}"):
        inference.enhance(PHOTO, tiny(), exposure=exposure)


@pytest.mark.parametrize("denoise", [-0.1, 1.1, float("nan")])
def test_denoising_beyond_its_range(denoise):
    with pytest.raises(ValueError, match=f"denoise must lie in 0 to 1, got {denoise}"):
        inference.enhance(PHOTO, tiny(), denoise=denoise)


@pytest.mark.parametrize(
    "shape", [(32, 32), (32, 32, 1), (32, 32, 4), (15, 32, 3), (1, 32, 15, 3), (0, 32, 32, 3), ()]
)
@pytest.mark.parametrize("function", [inference.enhance, inference.stages])
def test_shapes_that_are_no_photo(function, shape):
    with pytest.raises(ValueError, match=r"\[h, w, 3\]") as caught:
        function(np.zeros(shape, np.uint8), tiny())
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int32, bool, complex])
def test_dtypes_that_are_no_photo(dtype):
    with pytest.raises(ValueError, match=f"got {np.dtype(dtype)}"):
        inference.enhance(np.zeros((32, 32, 3), dtype), tiny())


@pytest.mark.parametrize("value", [-0.1, 1.1, 255.0, np.nan])
def test_floats_beyond_their_range(value):
    photo = np.zeros((32, 32, 3), np.float32)
    photo[3, 3, 1] = value
    with pytest.raises(ValueError, match="lies in 0 to 1, got"):
        inference.enhance(photo, tiny())


def test_parameters_of_another_network_are_refused():
    other = VARIANTS["tiny"] | {"width": 8}
    with pytest.raises(InputError, match=r"do not fit the network at params/denoising/lift"):
        inference.enhance(PHOTO, tiny()._replace(model=other))
    fewer = {name: value for name, value in VARIANTS["tiny"].items() if name != "stages"}
    with pytest.raises(InputError, match="stages"):
        inference.enhance(PHOTO, tiny()._replace(model=fewer))
    unknown = VARIANTS["tiny"] | {"hats": 3}
    with pytest.raises(InputError, match="hats"):
        inference.enhance(PHOTO, tiny()._replace(model=unknown))
