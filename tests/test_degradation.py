"""The laws of steps and chains: composition, statistics of samples, slopes, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import degradation as dg
from pdn_jax import image as im
from pdn_jax.types import Physics

STEPS = {
    "linearize": dg.linearize(),
    "linearize_power": dg.linearize(2.2),
    "render": dg.render(),
    "render_power": dg.render(2.2),
    "expose": dg.expose(),
    "exposure_curve": dg.exposure_curve(),
    "channel_gains": dg.channel_gains(),
    "black_offset": dg.black_offset(),
    "tone": dg.tone(),
    "illumination": dg.illumination(),
    "shot_read_noise": dg.shot_read_noise(),
    "quantize": dg.quantize(8),
    "clip": dg.clip(),
    "camera": dg.camera(),
}
OWN_FIELDS = {
    "expose": {"exposure"},
    "exposure_curve": {"exposure"},
    "channel_gains": {"gains"},
    "black_offset": {"offset"},
    "tone": {"gamma"},
    "illumination": {"illumination"},
    "shot_read_noise": {"shot_noise", "read_noise"},
    "camera": set(Physics.__dataclass_fields__),
}
steps = pytest.mark.parametrize("name", STEPS)
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def physics(**changes):
    """A camera with a little of everything, one image."""
    fields = {
        "exposure": 0.3,
        "gains": [1.1, 1.0, 0.9],
        "offset": [0.004, 0.002, 0.003],
        "gamma": 1.2,
        "illumination": [0.1, 0.3, -0.2, 0.05, -0.1],
        "shot_noise": 2e-3,
        "read_noise": 1e-5,
    }
    return Physics(**{k: jnp.asarray(v, jnp.float32) for k, v in (fields | changes).items()})


def uniform(*shape, low=0.15, high=0.85):
    return jnp.asarray(np.random.default_rng(0).uniform(low, high, shape), jnp.float32)


def stack(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def read(step, image, physics):
    return step.mean(image, physics), step.variance(image, physics), step.slope(image, physics)


def same(ours, expected, rtol=1e-5, atol=1e-7):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, expected
    )


def exactly(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def draw(step, image, physics, number):
    """`number` independent samples of one image."""
    sample = jax.jit(jax.vmap(step.sample, in_axes=(0, None, None)))
    return np.asarray(sample(jax.random.split(KEY, number), image, physics), np.float64)


def assert_samples_spread_as_said(step, image, physics, number=4000):
    """Mean and variance of many samples lie within five standard errors of the two readings."""
    samples = draw(step, image, physics, number)
    mean, variance, _ = jax.jit(lambda z, p: read(step, z, p))(image, physics)
    assert (np.abs(samples.mean(0) - mean) < 5.0 * np.sqrt(variance / number)).all()
    assert (np.abs(samples.var(0) / variance - 1.0) < 5.0 * np.sqrt(2.0 / number)).all()


# --- every step ------------------------------------------------------------------------------


@steps
def test_jit_vmap_and_leading_axes_agree_with_one_image_at_a_time(name):
    step, images, keys = STEPS[name], uniform(2, 5, 4, 3), jax.random.split(KEY)
    thetas = physics(), physics(exposure=0.1, gamma=0.9, shot_noise=1e-2, offset=[0.0, 0.01, 0.02])

    def everything(key, image, physics):
        return step.sample(key, image, physics), *read(step, image, physics)

    sample, *expected = stack(*map(everything, keys, images, thetas))

    @jax.jit
    def batched(keys, images, thetas):
        return jax.vmap(everything)(keys, images, thetas), read(step, images, thetas)

    (ours, *by_vmap), by_axes = batched(keys, images, stack(*thetas))
    same(by_vmap, expected, atol=1e-6)
    same(list(by_axes), expected, atol=1e-6)
    # Rounding may tip a sample of the camera over to the next of its 256 levels.
    same(ours, sample, atol=1.01 / 255.0 if name == "camera" else 1e-6)


@steps
def test_slope_is_the_numeric_derivative_of_the_mean(name):
    step, theta, h = STEPS[name], physics(), 4e-3
    image = uniform(5, 4, 3).at[0, :2].set(1.3)  # what clips, is flat
    rise = step.mean(image + h, theta) - step.mean(image - h, theta)
    same(step.slope(image, theta), rise / (2.0 * h), rtol=2e-3, atol=1e-4)


@steps
def test_gradients_are_finite_at_black_and_white(name):
    step, image = STEPS[name], jnp.zeros((3, 2, 3)).at[1:].set(1.0)

    def totals(image, physics):
        deviation = jnp.sqrt(step.variance(image, physics) + 1e-8)
        sample = step.sample(KEY, image, physics)
        return step.mean(image, physics).sum(), sample.sum(), deviation.sum()

    jacobian = jax.jit(jax.jacrev(totals, argnums=(0, 1)))
    for theta in (physics(), dg.neutral_physics(jnp.float32(0.2))):
        for leaf in jax.tree.leaves(jacobian(image, theta)):
            assert jnp.isfinite(leaf).all()


@steps
def test_samples_spread_as_the_mean_and_variance_say(name):
    """With noise in front that is small against the curvature and dithers the 8 bits."""
    theta = physics(shot_noise=2e-5, read_noise=1e-6)
    chain = dg.chain(dg.shot_read_noise(), STEPS[name])
    assert_samples_spread_as_said(chain, uniform(2, 3, 3, low=0.4), theta)


@steps
def test_each_step_answers_to_its_own_parameters_only(name):
    image = uniform(3, 2, 3)

    def total(theta):
        mean, variance, _ = read(STEPS[name], image, theta)
        return (mean**2).sum() + jnp.sqrt(variance + 1e-6).sum()

    gradient = jax.jit(jax.grad(total))(physics())
    moved = {field for field in Physics.__dataclass_fields__ if np.all(gradient[field] != 0)}
    still = {field for field in Physics.__dataclass_fields__ if np.all(gradient[field] == 0)}
    assert moved == OWN_FIELDS.get(name, set())
    assert still == set(Physics.__dataclass_fields__) - moved


# --- chain -----------------------------------------------------------------------------------


def opaque(step):
    """The same step with its inside hidden, so that chain cannot flatten it."""
    return step._replace(parts=())


@pytest.mark.parametrize("name", ["linearize", "shot_read_noise", "camera"])
def test_the_empty_chain_is_the_identity(name):
    image, theta, empty, step = uniform(3, 2, 3), physics(), dg.chain(), STEPS[name]
    exactly(read(empty, image, theta), (image, jnp.zeros_like(image), jnp.ones_like(image)))
    exactly(empty.sample(KEY, image, theta), image)
    expected, drawn = read(step, image, theta), step.sample(KEY, image, theta)
    for padded in (dg.chain(step), dg.chain(empty, step), dg.chain(dg.chain(step, empty), empty)):
        exactly(read(padded, image, theta), expected)
        exactly(padded.sample(KEY, image, theta), drawn)
    blank = dg.step(lambda image, physics: image)  # an identity that chain does not know as one
    same(read(dg.chain(blank, opaque(step), blank), image, theta), expected)


def test_chain_is_associative():
    image, theta = uniform(3, 2, 3), physics()
    a, b = dg.chain(dg.linearize(), dg.expose()), dg.shot_read_noise()
    c, d = dg.chain(dg.render(), dg.quantize(6)), dg.shot_read_noise()
    left, right = dg.chain(dg.chain(dg.chain(a, b), c), d), dg.chain(a, dg.chain(b, dg.chain(c, d)))
    exactly(read(left, image, theta), read(right, image, theta))
    exactly(left.sample(KEY, image, theta), right.sample(KEY, image, theta))
    # The law itself, without the flattening.
    left = dg.chain(opaque(dg.chain(opaque(a), b)), opaque(dg.chain(opaque(c), d)))
    same(read(left, image, theta), read(right, image, theta))


def test_chain_draws_every_step_anew():
    image, theta = jnp.full((64, 64, 3), 0.5), physics()
    noise = dg.shot_read_noise()
    twice, single = dg.chain(noise, noise), noise.sample(KEY, image, theta)
    exactly(single, noise.sample(KEY, image, theta))
    assert not jnp.array_equal(single, noise.sample(jax.random.key(1), image, theta))
    spread = np.var(twice.sample(KEY, image, theta))
    same(spread, 2.0 * noise.variance(image, theta)[0, 0, 0], rtol=0.07)  # 4 with one key for both


def test_a_linear_chain_by_hand():
    camera = (
        dg.linearize(),
        dg.expose(),
        dg.channel_gains(),
        dg.black_offset(),
        dg.shot_read_noise(),
    )
    tenfold = dg.step(lambda light, physics: 10.0 * light)
    theta = physics(
        exposure=0.1, gains=[1.2, 1, 0.8], offset=[0.01, 0, 0], shot_noise=0.01, read_noise=1e-4
    )
    image = jnp.full((1, 1, 3), 0.5)  # .2140411 in linear light
    mean = np.asarray([0.0356849, 0.0214041, 0.0171233])
    variance = np.asarray([4.56849e-4, 3.14041e-4, 2.71233e-4])
    slope = np.asarray([0.12, 0.1, 0.08]) * 2.4 / 1.055 * (0.555 / 1.055) ** 1.4
    ours = read(dg.chain(*camera, tenfold), image, theta)
    same([each[0, 0] for each in ours], [10.0 * mean, 100.0 * variance, 10.0 * slope])


def test_readings_are_exact_where_what_follows_the_noise_is_linear():
    light = dg.expose(), dg.channel_gains(), dg.illumination()
    chain = dg.chain(dg.linearize(), dg.shot_read_noise(), *light)
    assert_samples_spread_as_said(
        chain, uniform(2, 3, 3), physics(shot_noise=0.05, read_noise=0.01)
    )


def test_the_first_order_readings_get_better_as_noise_falls():
    """Both errors fall with the square of the deviation, fourfold at each halving."""
    chain = dg.chain(dg.shot_read_noise(), dg.render())
    light, errors = jnp.full((1, 1, 3), 0.05), []
    for deviation in (0.016, 0.008, 0.004):
        theta = physics(shot_noise=0.0, read_noise=deviation**2)
        samples = draw(chain, light, theta, 400_000)
        mean, variance, _ = read(chain, light, theta)
        errors.append(
            [abs(samples.mean() - mean[0, 0, 0]), abs(samples.var() / variance[0, 0, 0] - 1)]
        )
    errors = np.asarray(errors)
    assert (errors[:-1] > 2.5 * errors[1:]).all()
    assert (errors[0] > [3e-3, 0.05]).all()
    assert (errors[-1] < [5e-4, 0.015]).all()


# --- single steps ----------------------------------------------------------------------------


def test_clip_cuts_values_and_variance_but_passes_the_gradient():
    step, theta = dg.clip(), physics()
    image = jnp.asarray([-0.5, 0.0, 0.3, 1.0, 1.5]).reshape(1, 5, 1)
    same(step.mean(image, theta).ravel(), [0.0, 0.0, 0.3, 1.0, 1.0])
    same(step.sample(KEY, image, theta).ravel(), [0.0, 0.0, 0.3, 1.0, 1.0])
    exactly(jax.grad(lambda z: step.mean(z, theta).sum())(image), jnp.ones_like(image))
    noisy = dg.chain(dg.shot_read_noise(), step)
    exactly(noisy.variance(image, theta).ravel() > 0, [False, True, True, True, False])


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantize_has_its_levels_its_variance_and_a_gradient(bits):
    step, theta, top = dg.quantize(bits), physics(), 2**bits - 1
    image = jnp.linspace(0.0, 1.0, 200 * top + 1).reshape(1, -1, 1)
    coded = step.sample(KEY, image, theta)
    exactly(np.unique(np.round(np.asarray(coded) * top, 4)), np.arange(top + 1, dtype=np.float32))
    error = np.asarray(coded - image)
    assert np.abs(error).max() <= 0.5 / top + 1e-6
    same(step.variance(image, theta)[0, 0, 0], np.mean(error**2), rtol=2e-2)
    exactly(step.mean(image, theta), image)
    exactly(jax.grad(lambda z: step.sample(KEY, z, theta).sum())(image), jnp.ones_like(image))


def test_illumination_is_one_at_the_centre_and_follows_its_coefficients():
    light, half = jnp.ones((5, 7, 3)), 0.5 * np.eye(5)
    v, u, vv, vu, uu = (
        np.asarray(dg.illumination().mean(light, physics(illumination=row)))[..., 0] for row in half
    )
    for field in (v, u, vv, vu, uu):
        same(field[2, 3], 1.0)
        same(field[-1, -1], np.exp(0.5))
    assert (np.diff(u, axis=1) > 0).all()  # brighter to the right
    assert (np.diff(v, axis=0) > 0).all()
    same([u[0, 0], v[0, 0], vv[0, 0], vu[0, 0], uu[0, 0]], np.exp([-0.5, -0.5, 0.5, 0.5, 0.5]))


def test_exposure_curve_is_a_group_under_chain():
    def curve(exposure):
        fixed = physics(exposure=exposure)
        return dg.step(lambda image, physics: dg.exposure_curve().mean(image, fixed))

    image, theta = uniform(4, 3, 3), physics(exposure=0.4)
    for k1, k2 in ((0.5, 0.3), (0.8, 0.8), (0.3, 1.0 / 0.3)):
        both, once = dg.chain(curve(k1), curve(k2)), curve(k1 * k2)
        same(both.mean(image, theta), once.mean(image, theta))
        same(both.slope(image, theta), once.slope(image, theta))
    twice = dg.chain(dg.exposure_curve(), dg.exposure_curve())
    same(twice.mean(image, theta), curve(0.16).mean(image, theta))


def test_the_curves_undo_each_other():
    image, theta = uniform(4, 3, 3, low=0.0, high=1.0), physics()
    for gamma in (None, 2.2):
        there_and_back = dg.chain(dg.linearize(gamma), dg.render(gamma))
        same(there_and_back.mean(image, theta), jnp.maximum(image, im.FLOOR), atol=2e-6)
    same(dg.linearize(2.0).mean(image, theta), image**2, atol=1e-5)


def test_neutral_physics_only_underexposes():
    image, exposure = uniform(2, 4, 3, 3), jnp.asarray([1.0, 0.25])
    theta, camera = dg.neutral_physics(exposure), dg.camera()
    expected = im.render(im.broadcast(exposure, image) * im.linearize(image))
    same(camera.mean(image, theta), expected, atol=1e-5)
    same(camera.sample(KEY, image, theta), expected, atol=0.5 / 255.0 + 1e-5)


# --- a user's own steps ----------------------------------------------------------------------


def haze(transmission, airlight=0.8):
    return dg.step(lambda light, physics: transmission * light + (1.0 - transmission) * airlight)


def hot_pixels(rate):
    return dg.step(
        lambda image, physics: (1.0 - rate) * image + rate,
        sample=lambda key, z, p: jnp.where(jax.random.bernoulli(key, rate, z.shape), 1.0, z),
        variance=lambda image, physics: rate * (1.0 - rate) * (1.0 - image) ** 2,
    )


def test_a_users_own_steps_compose():
    image, theta = uniform(2, 3, 3), physics()
    chain = dg.chain(haze(0.6), hot_pixels(0.3), dg.expose(), dg.shot_read_noise())
    hazy = 0.6 * image + 0.32
    mean = 0.3 * (0.7 * hazy + 0.3)
    variance = 0.09 * 0.21 * (1.0 - hazy) ** 2 + 2e-3 * mean + 1e-5
    same(read(chain, image, theta), (mean, variance, jnp.full_like(image, 0.3 * 0.7 * 0.6)))
    assert_samples_spread_as_said(chain, image, theta)
