"""Every operator of `image` against hand-computed numbers or a naive reference, and its laws."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from pdn_jax import image as im

ASTRONAUT = jnp.asarray(skimage.data.astronaut()[:96, 180:260] / 255.0, jnp.float32)
LEVELS = jnp.asarray(np.linspace(0.0, 1.0, 101).reshape(1, 101, 1), jnp.float32)
RATIOS = (0.2, 0.5, 1.0, 2.0, 5.0)


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def unchecked():
    """What a caller without the annotation checks meets: our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def uniform(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def pixels(*values):
    return jnp.asarray(np.reshape(values, (1, -1, 1)), jnp.float32)


def same(ours, expected, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol)


OPERATORS = {
    "linearize": im.linearize,
    "render": im.render,
    "linearize_slope": im.linearize_slope,
    "luminance": im.luminance,
    "darken": lambda x: im.expose_curve(x, jnp.float32(-3.0)),
    "brighten": lambda x: im.expose_curve(x, jnp.float32(3.0)),
    "curve_slope": lambda x: im.curve_slope(
        x, im.apply_curve(x, jnp.float32(0.4)), jnp.float32(0.4)
    ),
    "blur": lambda x: im.blur(x, 1.2),
    "valid": lambda x: im.separable(x, im.gaussian_kernel(1.5, 2), mode="valid"),
    "pool": lambda x: im.pool(x, 3),
    "upsample": lambda x: im.upsample(x, 2),
    "space_to_depth": lambda x: im.space_to_depth(x, 2),
    "depth_to_space": lambda x: im.depth_to_space(im.space_to_depth(x, 2), 2),
    "pad_to_multiple": lambda x: im.pad_to_multiple(x, 8),
    "unpad": lambda x: im.unpad(x, 5, 4),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_operators_jit_vmap_and_differentiate(operator):
    images = np.array(uniform(2, 10, 12, 3))
    images[:, :2] = np.reshape([0.0, 1.0], (2, 1, 1, 1))
    expected = operator(jnp.asarray(images))
    assert expected.dtype == jnp.float32

    @jax.jit
    def compiled(images):
        gradient = jax.grad(lambda z: operator(z).sum())(images)
        return operator(images), jax.vmap(operator)(images), operator(images[1]), gradient

    whole, mapped, single, gradient = map(np.asarray, compiled(images))
    same(whole, expected)
    same(mapped, expected)
    same(single, np.asarray(expected)[1])
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


# --- colour curves ---------------------------------------------------------------------------


def test_srgb_curve_by_hand():
    same(
        im.linearize(pixels(0.0, 0.02, 0.5, 1.0, -0.5)),
        pixels(0, 0.00154799, 0.2140411, 1, -0.2140411),
    )
    same(
        im.render(pixels(0.0, 0.001, 0.18, 1.0, -0.18)),
        pixels(0, 0.01292, 0.4613561, 1, -0.4613561),
    )


def test_srgb_round_trip_and_order():
    levels = pixels(*np.linspace(-0.5, 1.5, 401))
    same(im.render(im.linearize(levels)), levels, atol=2e-6)
    same(im.linearize(im.render(levels)), levels, atol=2e-6)
    for curve in (im.linearize, im.render):
        assert (np.diff(curve(levels), axis=1) > 0).all()


def test_srgb_slopes():
    levels = pixels(-1.0, -0.5, -0.01, 0.0, 0.01, 0.04, 0.05, 0.5, 1.0)
    slope = jax.grad(lambda z: im.linearize(z).sum())(levels)
    same(im.linearize_slope(levels), slope)
    same(np.asarray(slope)[0, 3], [1.0 / 12.92])
    inverse = jax.grad(lambda z: im.render(z).sum())(im.linearize(levels))
    same(np.multiply(slope, inverse), np.ones((1, 9, 1)))


def test_luminance_by_hand():
    colours = jnp.concatenate([jnp.eye(3), jnp.ones((1, 3))])[None]
    same(im.luminance(colours), [[0.2126, 0.7152, 0.0722, 1.0]])


# --- the exposure group ----------------------------------------------------------------------


def test_expose_curve_by_hand():
    exponent = 0.25**-0.3293
    expected = math.exp(1.1258 * (1.0 - exponent)) * 0.5**exponent
    same(im.expose_curve(pixels(0.5), jnp.log(jnp.float32(0.25))), pixels(expected))
    same(im.curve_exponent(jnp.log(jnp.float32(0.25))), exponent)


@pytest.mark.parametrize("first", RATIOS)
@pytest.mark.parametrize("second", RATIOS)
def test_expose_curve_is_a_group(first, second):
    image = pixels(*np.linspace(0.1, 1.0, 91))
    k1, k2 = jnp.log(jnp.float32(first)), jnp.log(jnp.float32(second))
    once = im.expose_curve(image, k1)
    assert once.min() > im.FLOOR
    same(im.expose_curve(once, k2), im.expose_curve(image, k1 + k2))
    same(im.expose_curve(once, -k1), image)
    same(im.expose_curve(image, jnp.float32(0.0)), image)


def test_expose_curve_is_monotone_in_light_and_exposure():
    logs = jnp.log(jnp.asarray(RATIOS, jnp.float32))[:, None, None]
    curves = im.expose_curve(jnp.broadcast_to(LEVELS[:, 1:], (5, 100, 1)), logs)
    assert (np.diff(curves, axis=1) > 0).all()
    assert (np.diff(curves, axis=0) > 0).all()


def test_expose_curve_takes_a_number_per_image_or_per_pixel():
    images, logs = uniform(3, 4, 5, 3), jnp.asarray([-2.0, 0.0, 1.0])
    expected = np.stack([im.expose_curve(*pair) for pair in zip(images, logs, strict=True)])
    same(im.expose_curve(images, im.broadcast(logs, images)), expected)
    map_of_logs = jnp.broadcast_to(logs[:, None, None, None], (3, 4, 5, 1))
    same(im.expose_curve(images, map_of_logs), expected)


def test_the_floor_ends_the_group_near_black():
    dark, k = pixels(0.0, 0.5 * im.FLOOR), jnp.float32(-1.0)
    at_floor = im.expose_curve(pixels(im.FLOOR), k)
    same(im.expose_curve(dark, k), jnp.broadcast_to(at_floor, dark.shape), atol=0)
    same(im.expose_curve(dark, jnp.float32(0.0)), jnp.full_like(dark, im.FLOOR))
    # Darkened below the floor and back again, a value comes back as the floor would: brighter.
    grey, deep = pixels(0.05), jnp.float32(-4.0)
    assert im.expose_curve(grey, deep)[0, 0, 0] < im.FLOOR
    back = im.expose_curve(im.expose_curve(grey, deep), -deep)
    same(back, im.expose_curve(pixels(im.FLOOR), -deep))
    assert back[0, 0, 0] > 1.05 * grey[0, 0, 0]


@pytest.mark.parametrize("log_exposure", [-2.0, -0.5, 0.0, 1.5])
def test_curve_slope_is_the_derivative_above_the_floor(log_exposure):
    log_exposure, levels = jnp.float32(log_exposure), LEVELS[:, 1:]
    exponent = im.curve_exponent(log_exposure)
    slope = im.curve_slope(levels, im.apply_curve(levels, exponent), exponent)
    same(slope, jax.grad(lambda z: im.expose_curve(z, log_exposure).sum())(levels))
    at_floor = im.curve_slope(
        pixels(0.0, im.FLOOR), im.apply_curve(pixels(0.0, im.FLOOR), exponent), exponent
    )
    same(at_floor[0, 0], at_floor[0, 1])


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_expose_curve_has_finite_gradients_in_exposure(level):
    image = jnp.full((2, 2, 3), level)
    slope = jax.grad(lambda k: im.expose_curve(image, k).sum())(jnp.float32(-3.0))
    assert jnp.isfinite(slope)
    assert slope > 0


def test_match_exposure_recovers_the_exposure():
    logs = jnp.log(jnp.asarray([0.9, 0.3, 0.1, 0.02], jnp.float32))
    photos = jnp.stack([ASTRONAUT, ASTRONAUT[::-1] ** 2, 0.5 * ASTRONAUT, uniform(96, 80, 3)])
    lows = im.expose_curve(photos, im.broadcast(logs, photos))
    same(im.match_exposure(lows, photos), logs, rtol=0, atol=1e-3)
    same(im.match_exposure(lows[2], photos[2]), logs[2], rtol=0, atol=1e-3)
    same(jax.jit(jax.vmap(im.match_exposure))(lows, photos), logs, rtol=0, atol=1e-3)


def bisected(low, normal):
    """ln κ as `match_exposure` finds it, by 24 halvings."""
    lower, upper = math.log(1e-3), 0.0
    for _ in range(24):
        middle = 0.5 * (lower + upper)
        if im.expose_curve(normal, jnp.float32(middle)).mean() > low.mean():
            upper = middle
        else:
            lower = middle
    return middle


@pytest.mark.parametrize("contrast", [0.2, 1.0, 6.0])
@pytest.mark.parametrize("brightness", [3.0, 20.0, 120.0])
def test_match_exposure_is_that_of_bisection(contrast, brightness):
    normal = jnp.asarray(ASTRONAUT) ** contrast
    low = jnp.full_like(normal, brightness / 255.0)
    same(im.match_exposure(low, normal), bisected(low, normal), rtol=0, atol=1e-5)


def test_match_exposure_stays_in_its_range():
    same(im.match_exposure(jnp.ones_like(ASTRONAUT), ASTRONAUT), 0.0, atol=1e-3)
    same(im.match_exposure(jnp.zeros_like(ASTRONAUT), ASTRONAUT), math.log(1e-3), atol=1e-3)


# --- blur, pyramid, resampling ---------------------------------------------------------------


def test_gaussian_kernel_by_hand():
    kernel = im.gaussian_kernel(2.0, 3)
    assert kernel.shape == (7,)
    same(kernel.sum(), 1.0)
    same(kernel / kernel[3], np.exp([-1.125, -0.5, -0.125, 0.0, -0.125, -0.5, -1.125]))


def test_valid_filter_is_a_correlation():
    image, kernel = uniform(9, 12, 2), np.asarray([0.1, 0.2, 0.4, 0.8, 1.6])
    expected = scipy.ndimage.correlate1d(np.asarray(image), kernel, axis=0)
    expected = scipy.ndimage.correlate1d(expected, kernel, axis=1)[2:-2, 2:-2]
    same(im.separable(image, kernel, mode="valid"), expected)


@pytest.mark.parametrize(("sigma", "height", "width"), [(1.5, 31, 20), (0.4, 8, 9), (4.0, 16, 7)])
def test_blur_is_the_renormalised_gaussian(sigma, height, width):
    image = uniform(height, width, 3, seed=1)
    radius = max(1, round(3 * sigma))
    options = {"sigma": (sigma, sigma, 0), "radius": (radius, radius, 0), "mode": "constant"}
    inside = scipy.ndimage.gaussian_filter(np.asarray(image), **options)
    weight = scipy.ndimage.gaussian_filter(np.ones_like(image), **options)
    same(im.blur(image, sigma), inside / weight, atol=1e-5)
    same(im.blur(jnp.full_like(image, 0.7), sigma), jnp.full_like(image, 0.7))


@pytest.mark.parametrize(
    ("factor", "height", "width"), [(1, 3, 4), (2, 6, 8), (3, 7, 11), (4, 9, 4)]
)
def test_pool_is_the_mean_of_blocks(factor, height, width):
    image = uniform(2, height, width, 3)
    pixel = np.asarray(image)
    expected = [
        [
            pixel[:, factor * i : factor * (i + 1), factor * j : factor * (j + 1)].mean((1, 2))
            for j in range(width // factor)
        ]
        for i in range(height // factor)
    ]
    same(im.pool(image, factor), np.moveaxis(expected, 2, 0))


@pytest.mark.parametrize(
    ("factor", "height", "width"), [(1, 5, 7), (2, 5, 7), (3, 4, 5), (4, 1, 4), (8, 3, 2)]
)
def test_upsample_is_bilinear_resize(factor, height, width):
    image = uniform(2, height, width, 3)
    shape = (2, factor * height, factor * width, 3)
    expected = jax.image.resize(image, shape, "bilinear")
    same(jax.jit(im.upsample, static_argnums=1)(image, factor), expected)


@pytest.mark.parametrize("factor", [2, 3])
def test_space_to_depth_moves_blocks_into_channels(factor):
    image = uniform(2, 6, 12, 3)
    deep = im.space_to_depth(image, factor)
    before, after = np.asarray(image), np.asarray(deep)
    for i in range(6 // factor):
        for j in range(12 // factor):
            block = before[:, factor * i : factor * (i + 1), factor * j : factor * (j + 1)]
            np.testing.assert_array_equal(after[:, i, j], block.reshape(2, -1))
    np.testing.assert_array_equal(im.depth_to_space(deep, factor), image)


# --- padding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("multiple", "height", "width"), [(4, 8, 4), (4, 9, 6), (16, 3, 5)])
def test_pad_mirrors_and_unpad_undoes_it(multiple, height, width):
    image = uniform(2, height, width, 3)
    padded = im.pad_to_multiple(image, multiple)
    rows, columns = -height % multiple, -width % multiple
    widths = ((0, 0), (0, rows), (0, columns), (0, 0))
    np.testing.assert_array_equal(padded, np.pad(image, widths, mode="symmetric"))
    assert padded.shape[1] % multiple == padded.shape[2] % multiple == 0
    np.testing.assert_array_equal(im.unpad(padded, height, width), image)


def test_bad_shapes_are_refused(unchecked):
    image = jnp.zeros((6, 4, 3))
    with pytest.raises(ValueError, match=r"\(6, 4, 3\).*\(6, 3, 3\).*same shape"):
        im.match_exposure(image, image[:, :3])
    with pytest.raises(ValueError, match=r"5-tap.*\(6, 4, 3\)"):
        im.separable(image, im.gaussian_kernel(1.0, 2), mode="valid")
    with pytest.raises(ValueError, match="'wrap'"):
        im.separable(image, im.gaussian_kernel(1.0, 2), mode="wrap")
    with pytest.raises(ValueError, match=r"pool \(6, 4, 3\) by 5"):
        im.pool(image, 5)
    with pytest.raises(ValueError, match=r"divide by 4.*\(6, 4, 3\)"):
        im.space_to_depth(image, 4)
    with pytest.raises(ValueError, match=r"divide by 4.*\(6, 4, 3\)"):
        im.depth_to_space(image, 2)
