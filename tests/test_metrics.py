"""Metrics against scikit-image, hand-computed numbers, and intervals that must cover."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import skimage.data
from skimage.exposure import equalize_hist
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pdn_jax import image as im
from pdn_jax import metrics

ASTRONAUT = (skimage.data.astronaut() / 255.0).astype(np.float32)
CHELSEA = (skimage.data.chelsea() / 255.0).astype(np.float32)


def noisy(image, deviation, seed=0):
    noise = np.random.default_rng(seed).normal(0.0, deviation, image.shape)
    return np.clip(image + noise, 0.0, 1.0).astype(np.float32)


def flat(value, height=24, width=24):
    return np.full((height, width, 3), value, np.float32)


def uniform(height, width, seed):
    return np.random.default_rng(seed).uniform(size=(height, width, 3)).astype(np.float32)


PAIRS = {
    "random": (uniform(33, 47, 1), uniform(33, 47, 2)),
    "photo": (ASTRONAUT[:128, 100:260], noisy(ASTRONAUT[:128, 100:260], 0.05)),
    "mirrored": (CHELSEA[:151, :201], CHELSEA[:151, 200::-1]),
    "dark": (0.04 * ASTRONAUT[100:200, 100:177], noisy(0.04 * ASTRONAUT[100:200, 100:177], 0.003)),
    "smallest": (uniform(11, 11, 3), uniform(11, 11, 4)),
    "bright": (flat(0.95), noisy(flat(0.95), 0.004)),
    "constants": (flat(1.0), flat(0.9)),
    "black": (flat(0.0), flat(0.5)),
}
SSIM_MAP = jax.jit(metrics.ssim_map)
SSIM_GRADIENT = jax.jit(jax.grad(metrics.ssim))
pairs = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


@pytest.fixture
def unchecked():
    """What a caller without the annotation checks meets: our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_psnr_by_hand():
    truth = jnp.zeros((3, 2, 2, 3))
    image = truth.at[0].set(0.1).at[1, 0, 0, 0].set(1.0)
    expected = [20.0, 10.0 * np.log10(12.0), np.inf]
    np.testing.assert_allclose(metrics.psnr(image, truth), expected, rtol=1e-6)


def scores(image, truth):
    return metrics.psnr(image, truth), metrics.ssim(image, truth), metrics.ssim_map(image, truth)


@pairs
def test_psnr_and_ssim_are_those_of_scikit_image(pair):
    psnr, ssim, ssim_map = jax.jit(scores)(*pair)
    expected = peak_signal_noise_ratio(*pair, data_range=1.0)
    np.testing.assert_allclose(psnr, expected, atol=1e-3)
    expected, full = structural_similarity(
        *(frame.astype(np.float64) for frame in pair),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=1.0,
        full=True,
    )
    np.testing.assert_allclose(ssim, expected, atol=1e-5)
    np.testing.assert_allclose(ssim_map, full[5:-5, 5:-5], atol=3e-4)


def plain_ssim_map(image, truth):
    """`metrics.ssim_map` with all moments under `image.separable` at once."""
    centre = jax.lax.stop_gradient(0.5 * jnp.mean(image + truth, axis=(-3, -2), keepdims=True))
    x, y = image - centre, truth - centre
    moments = jnp.stack([x, y, x * x + y * y, x * y])
    mean_x, mean_y, square, product = im.separable(moments, metrics.WINDOW, mode="valid")
    contrast = 2.0 * (product - mean_x * mean_y) + 0.03**2
    contrast /= square - mean_x**2 - mean_y**2 + 0.03**2
    mean_x, mean_y = mean_x + centre, mean_y + centre
    return contrast * (2.0 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)


@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_ssim_map_is_its_plain_form(batch):
    image, truth = (
        jnp.asarray(np.stack([uniform(17, 14, 10 * seed + n) for n in range(2)])) for seed in (1, 2)
    )
    image, truth = (x.reshape(2, *batch[1:], 17, 14, 3) if batch else x[0] for x in (image, truth))
    weights = jnp.asarray(np.linspace(-1.0, 1.0, 7 * 4 * 3).reshape(7, 4, 3), jnp.float32)
    weights = jnp.broadcast_to(weights, (*batch, 7, 4, 3))

    @jax.jit
    def both(image, truth):
        def scored(form):
            score = jax.vjp(form, image, truth)
            return score[0], score[1](weights)

        return scored(metrics.ssim_map), scored(plain_ssim_map)

    (ours, slopes), (plain, plain_slopes) = both(image, truth)
    np.testing.assert_allclose(ours, plain, atol=1e-5)
    for slope, plain_slope in zip(slopes, plain_slopes, strict=True):
        np.testing.assert_allclose(slope, plain_slope, rtol=1e-4, atol=1e-4 * jnp.abs(slope).max())


def test_ssim_of_constants_by_hand():
    expected = (2.0 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    ours = np.asarray(SSIM_MAP(flat(0.2, 11, 11), flat(0.6, 11, 11)))
    np.testing.assert_allclose(ours[0, 0], [expected] * 3, atol=1e-4)


@pairs
def test_ssim_properties(pair):
    image, truth = (frame[:11, :11] for frame in pair)
    similarity = SSIM_MAP(image, truth)
    assert similarity.shape == (1, 1, 3)
    assert np.abs(similarity).max() <= 1.0 + 1e-5
    np.testing.assert_allclose(similarity, SSIM_MAP(truth, image), atol=1e-5)
    np.testing.assert_allclose(SSIM_MAP(image, image), 1.0, atol=1e-5)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_metrics_fall_with_noise_and_keep_leading_axes(metric):
    truth = ASTRONAUT[:48, 200:260]
    levels = (0.01, 0.03, 0.1, 0.3)
    images = np.stack([noisy(truth, level) for level in levels]).reshape(2, 2, 48, 60, 3)
    images, truths = map(jnp.asarray, (images, np.broadcast_to(truth, images.shape)))
    table = np.asarray(metric(images, truths))
    assert table.shape == (2, 2)
    assert (np.diff(table.ravel()) < 0).all()

    @jax.jit
    def compiled(images, truths):
        return metric(images[1, 0], truths[1, 0]), jax.vmap(metric)(images, truths)

    one, mapped = compiled(images, truths)
    np.testing.assert_allclose(one, table[1, 0], rtol=1e-5)
    np.testing.assert_allclose(mapped, table, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("other", [0.0, 1.0])
def test_ssim_gradient_is_finite_at_constant_images(value, other):
    image, truth = jnp.asarray(flat(value, 16, 13)), jnp.asarray(flat(other, 16, 13))
    gradient = SSIM_GRADIENT(image, truth)
    assert np.isfinite(gradient).all()
    if value == other:
        assert np.abs(gradient).max() < 1e-5


def test_ssim_gradient_is_the_slope():
    image, truth = (jnp.asarray(uniform(16, 13, seed)) for seed in (5, 6))
    step = 1e-2 * (jnp.asarray(uniform(16, 13, 7)) - 0.5)
    rise = metrics.ssim(image + step, truth) - metrics.ssim(image - step, truth)
    slope = jnp.vdot(SSIM_GRADIENT(image, truth), 2.0 * step)
    np.testing.assert_allclose(slope, rise, rtol=1e-2)


def test_gt_mean_matches_the_mean_grey():
    truth = jnp.asarray(0.6 * ASTRONAUT[:64, :64])
    dark = jnp.stack([0.25 * truth, 0.5 * truth[::-1]])
    rescaled = metrics.gt_mean(dark, jnp.stack([truth, truth]))
    np.testing.assert_allclose(rescaled[0], truth, rtol=1e-5)
    np.testing.assert_allclose(rescaled[1], truth[::-1], rtol=1e-5)
    # Grey by Rec. 601: red alone of mean 1 weighs .299.
    red = jnp.zeros((4, 4, 3)).at[..., 0].set(1.0)
    grey = jnp.full((4, 4, 3), 0.0299)
    np.testing.assert_allclose(metrics.gt_mean(red, grey), 0.1 * red, rtol=1e-5)


def test_gt_mean_clips_and_survives_black():
    bright, black = jnp.ones((4, 4, 3)), jnp.zeros((4, 4, 3))
    assert metrics.gt_mean(bright.at[0].set(0.1), bright).max() == 1.0
    np.testing.assert_array_equal(metrics.gt_mean(black, bright), black)


def test_shapes_that_do_not_fit_are_refused(unchecked):
    image = jnp.zeros((12, 12, 3))
    for function in (metrics.psnr, metrics.ssim, metrics.ssim_map, metrics.gt_mean):
        with pytest.raises(ValueError, match=r"\(12, 12, 3\).*\(12, 11, 3\)"):
            function(image, image[:, :11])
        with pytest.raises(ValueError, match="one shape"):
            function(image, image[None])
    with pytest.raises(ValueError, match="11×11"):
        metrics.ssim(image[:10], image[:10])


def test_interval_by_hand():
    interval = jax.jit(metrics.bootstrap_interval, static_argnames=("samples", "level"))
    key, coins = jax.random.key(0), np.tile(np.float32([0, 1]), 200)
    low, high = interval(key, np.full(400, 3.0, np.float32), samples=4000)
    assert (float(low), float(high)) == (3.0, 3.0)
    # The mean of n fair coins is normal: ±1.96/(2√n) about a half, and ±.674/(2√n) holds half.
    for level, width in ((0.95, 0.049), (0.5, 0.0169)):
        ours = interval(key, coins, samples=4000, level=level)
        np.testing.assert_allclose(ours, [0.5 - width, 0.5 + width], atol=0.004)


@pytest.mark.slow
def test_interval_covers_the_mean_as_often_as_it_says():
    experiments = jax.random.exponential(jax.random.key(1), (400, 60))
    keys = jax.random.split(jax.random.key(2), 400)
    interval = jax.jit(jax.vmap(lambda k, v: metrics.bootstrap_interval(k, v, samples=400)))
    low, high = interval(keys, experiments)
    coverage = jnp.mean((low <= 1.0) & (high >= 1.0))
    assert 0.89 <= coverage <= 0.98  # .95 but for skewness and 400 trials


def test_paired_interval_sees_what_single_intervals_hide():
    scene, noise = jax.random.split(jax.random.key(3))
    a = 20.0 + 4.0 * jax.random.normal(scene, (40,))
    b = a - 0.5 + 0.3 * jax.random.normal(noise, (40,))
    key = jax.random.key(4)
    low, high = metrics.paired_interval(key, a, b)
    assert 0.0 < low < 0.5 < high
    assert metrics.bootstrap_interval(key, b)[1] > metrics.bootstrap_interval(key, a)[0]
    np.testing.assert_allclose(metrics.paired_interval(key, b, a), [-high, -low], atol=0.02)


def test_intervals_refuse_what_they_cannot_use(unchecked):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="non-empty"):
        metrics.bootstrap_interval(key, jnp.zeros(0))
    with pytest.raises(ValueError, match="non-empty"):
        metrics.bootstrap_interval(key, jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="level"):
        metrics.bootstrap_interval(key, jnp.zeros(3), level=95.0)
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        metrics.paired_interval(key, jnp.zeros(3), jnp.zeros(2))


def test_gamma_baseline():
    image = jnp.asarray([0.0, 0.25, 1.0, 1.5]).reshape(1, 4, 1)
    np.testing.assert_allclose(metrics.gamma(image, 0.5).ravel(), [0.0, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(metrics.gamma(image).ravel()[1], 0.25**0.45, rtol=1e-6)


def test_equalize_by_hand():
    """Half the pixels darkest, a quarter next, a quarter brightest: 0, 1/2 and 1."""
    equalize = jax.jit(metrics.equalize)
    image = np.broadcast_to(np.float32([20, 20, 60, 90])[:, None] / 255, (1, 4, 3))
    equal = np.asarray(equalize(image))
    np.testing.assert_allclose(equal[0, :, 0], [0.0, 0.0, 0.5, 1.0], atol=1e-5)
    constant = np.full((1, 4, 3), 0.3, np.float32)
    np.testing.assert_allclose(equalize(constant), constant)


def test_equalize_flattens_a_dark_photo_as_scikit_image_does():
    equalize, photo = jax.jit(metrics.equalize), ASTRONAUT[:128, :128]
    levels = np.round(25.0 * photo.mean(-1)).astype(np.uint8)
    expected = equalize_hist(levels)
    darkest = expected.min()
    grey = np.stack([np.float32(levels) / 255] * 3, axis=-1)
    ours = np.asarray(equalize(grey))[..., 0]
    np.testing.assert_allclose(ours, (expected - darkest) / (1.0 - darkest), atol=1e-4)
    dark = 0.1 * photo
    equal = np.asarray(equalize(dark))
    assert equal.min() >= 0.0
    assert equal.max() <= 1.0
    assert np.square(equal - photo).mean() < 0.5 * np.square(dark - photo).mean()
