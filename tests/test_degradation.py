"""The laws of steps and chains: composition, statistics of samples, slopes, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import degradation as dg
from pdn_jax import image as im
from pdn_jax.types import Physics

ALL_FIELDS = set(Physics.__dataclass_fields__)
CASES = {
    "linearize": (dg.linearize(), set()),
    "linearize_power": (dg.linearize(2.2), set()),
    "render": (dg.render(), set()),
    "render_power": (dg.render(2.2), set()),
    "expose": (dg.expose(), {"exposure"}),
    "exposure_curve": (dg.exposure_curve(), {"exposure"}),
    "channel_gains": (dg.channel_gains(), {"gains"}),
    "black_offset": (dg.black_offset(), {"offset"}),
    "tone": (dg.tone(), {"gamma"}),
    "illumination": (dg.illumination(), {"illumination"}),
    "shot_read_noise": (dg.shot_read_noise(), {"shot_noise", "read_noise"}),
    "quantize": (dg.quantize(8), set()),
    "clip": (dg.clip(), set()),
    "camera": (dg.camera(), ALL_FIELDS),
}
STEPS = {name: step for name, (step, _) in CASES.items()}
steps = pytest.mark.parametrize("name", CASES)
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def physics(**changes):
    """A camera with a little of everything, one image."""
    fields = {"exposure": 0.3, "gamma": 1.2, "shot_noise": 2e-3, "read_noise": 1e-4}
    fields |= {"gains": [1.1, 1.0, 0.9], "offset": [0.004, 0.002, 0.003]}
    fields |= {"illumination": [0.1, 0.3, -0.2, 0.05, -0.1]}
    return Physics(**{k: jnp.asarray(v, jnp.float32) for k, v in (fields | changes).items()})


def uniform(*shape, low=0.15, high=0.85):
    return jnp.asarray(np.random.default_rng(0).uniform(low, high, shape), jnp.float32)


def stack(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def read(step, image, physics):
    return step.mean(image, physics), step.variance(image, physics), step.slope(image, physics)


def same(ours, expected, rtol=1e-5, atol=1e-7):
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    jax.tree.map(close, ours, expected)


def exactly(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def draw(step, image, physics, number):
    """`number` independent samples of one image: a batch of copies, not compiled afresh."""
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), (image, physics))
    return np.asarray(step.sample(KEY, *many), np.float64)


def assert_samples_spread_as_said(step, image, physics, number=4000):
    """Mean and variance of many samples lie within five standard errors of the two readings."""
    samples = draw(step, image, physics, number)
    mean, variance, _ = read(step, image, physics)
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
    batched = jax.jit(lambda k, z, p: (jax.vmap(everything)(k, z, p), read(step, z, p)))
    (ours, *by_vmap), by_axes = batched(keys, images, stack(*thetas))
    same(by_vmap, expected, atol=1e-6)
    same(list(by_axes), expected, atol=1e-6)
    # Rounding may tip a sample of the camera over to the next of its 256 levels.
    same(ours, sample, atol=1.01 / 255.0 if name == "camera" else 1e-6)


@steps
def test_slope_is_the_numeric_derivative_of_the_mean(name):
    step, theta, h = STEPS[name], physics(), 4e-3
    image = uniform(5, 4, 3, high=1.3)  # what clips, is flat
    rise = step.mean(image + h, theta) - step.mean(image - h, theta)
    same(step.slope(image, theta), rise / (2.0 * h), rtol=2e-3, atol=1e-4)


@steps
def test_gradients_are_finite_at_black_and_white(name):
    step, image = STEPS[name], jnp.asarray(np.float32([0, 1, 1, 0])[:, None] * np.ones((5, 4, 3)))

    def total(image, physics):
        deviation = jnp.sqrt(step.variance(image, physics) + 1e-8)
        return (step.mean(image, physics) + step.sample(KEY, image, physics) + deviation).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    for theta in (physics(), dg.neutral_physics(jnp.float32(0.2))):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(image, theta)))


@steps
def test_samples_spread_as_the_mean_and_variance_say(name):
    """With noise in front that is small against the curvature and dithers the 8 bits."""
    theta = physics(shot_noise=2e-5, read_noise=1e-6)
    chain = dg.chain(dg.shot_read_noise(), STEPS[name])
    assert_samples_spread_as_said(chain, uniform(5, 4, 3, low=0.4), theta)


@steps
def test_each_step_answers_to_its_own_parameters_only(name):
    (step, own_fields), image = CASES[name], uniform(5, 4, 3)

    def total(theta):
        return (step.mean(image, theta) ** 2 + jnp.sqrt(step.variance(image, theta) + 1e-6)).sum()

    gradient = jax.jit(jax.grad(total))(physics())
    for field in ALL_FIELDS:
        moved = np.asarray(getattr(gradient, field)) != 0
        assert moved.all() if field in own_fields else not moved.any(), field


@pytest.mark.slow
def test_grain_keeps_the_variance_and_smears_over_neighbours():
    """Correlation 2g/(1 + 2g²) of neighbours, g from 0 to `grain`, another for each image."""
    grain, light = 0.4, jnp.full((400, 48, 48, 3), 0.3)
    theta = jax.tree.map(lambda x: jnp.broadcast_to(x, (400, *x.shape)), physics())
    noise = np.asarray(dg.shot_read_noise(grain).sample(KEY, light, theta)) - 0.3
    variance = 0.3 * 2e-3 + 1e-4
    assert noise.var() == pytest.approx(variance, rel=0.01)
    for ahead, behind in ((noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1])):
        found = (ahead * behind).mean(axis=(1, 2, 3)) / noise.var(axis=(1, 2, 3))
        g = np.linspace(0.0, grain, 1001)
        assert found.mean() == pytest.approx((2 * g / (1 + 2 * g**2)).mean(), abs=0.02)
        assert found.min() == pytest.approx(0.0, abs=0.05)
        assert found.max() == pytest.approx(2 * grain / (1 + 2 * grain**2), abs=0.05)
    assert dg.camera(grain).mean(light, theta).shape == light.shape


# --- chain -----------------------------------------------------------------------------------


def opaque(step):
    """The same step with its inside hidden, so that chain cannot flatten it."""
    return step._replace(parts=())


@pytest.mark.parametrize("shape", [(4, 6, 3), (5, 7, 3)])
def test_noise_is_added_as_in_one_loop(shape):
    noise, light = dg.shot_read_noise(), jax.random.uniform(jax.random.key(3), (2, *shape))
    theta = jax.tree.map(lambda field: jnp.stack([field, field]), physics())
    keys = jax.random.split(KEY)

    def plain(light):
        drawn = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        return light + jnp.sqrt(noise.variance(light, theta)) * drawn

    def ours(light):
        return jax.vmap(noise.sample)(keys, light, theta)

    (a, pull_a), (b, pull_b) = (jax.vjp(form, light) for form in (ours, plain))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(pull_a(light)[0], pull_b(light)[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["linearize", "shot_read_noise", "camera"])
def test_the_empty_chain_is_the_identity(name):
    image, theta, empty, step = uniform(5, 4, 3), physics(), dg.chain(), STEPS[name]
    exactly(read(empty, image, theta), (image, jnp.zeros_like(image), jnp.ones_like(image)))
    exactly(empty.sample(KEY, image, theta), image)
    expected, drawn = read(step, image, theta), step.sample(KEY, image, theta)
    for padded in (dg.chain(step), dg.chain(empty, step), dg.chain(dg.chain(step, empty), empty)):
        exactly(read(padded, image, theta), expected)
        exactly(padded.sample(KEY, image, theta), drawn)
    blank = dg.step(lambda image, physics: image)  # an identity that chain does not know as one
    same(read(dg.chain(blank, opaque(step), blank), image, theta), expected)


def test_chain_is_associative():
    image, theta = uniform(5, 4, 3), physics()
    a, b = dg.chain(dg.linearize(), dg.expose()), dg.shot_read_noise()
    c, d = dg.chain(dg.render(), dg.quantize(6)), dg.shot_read_noise()
    left, right = dg.chain(dg.chain(dg.chain(a, b), c), d), dg.chain(a, dg.chain(b, dg.chain(c, d)))
    exactly(read(left, image, theta), read(right, image, theta))
    exactly(left.sample(KEY, image, theta), right.sample(KEY, image, theta))
    # The law itself, without the flattening.
    left = dg.chain(opaque(dg.chain(opaque(a), b)), opaque(dg.chain(opaque(c), d)))
    same(read(left, image, theta), read(right, image, theta))


def test_chain_draws_every_step_anew():
    image, theta, noise = jnp.full((5, 4, 3), 0.5), physics(), dg.shot_read_noise()
    one, again, other = (noise.sample(k, image, theta) for k in (KEY, KEY, jax.random.key(1)))
    exactly(one, again)
    assert not np.array_equal(one, other)
    twice = draw(dg.chain(noise, noise), image, theta, 4000)
    same(twice.var(), 2.0 * 1.1e-3, rtol=0.02)  # 4 times with one key for both


def test_a_linear_chain_by_hand():
    light = dg.linearize(), dg.expose(), dg.channel_gains(), dg.black_offset()
    tenfold = dg.step(lambda light, physics: 10.0 * light)
    chain = dg.chain(*light, dg.shot_read_noise(), tenfold)
    theta = physics(exposure=0.1, gains=[1.2, 1, 0.8], offset=[0.01, 0, 0], shot_noise=0.01)
    image = jnp.full((5, 4, 3), 0.5)  # .2140411 in linear light
    mean = np.asarray([0.0356849, 0.0214041, 0.0171233])
    variance = np.asarray([4.56849e-4, 3.14041e-4, 2.71233e-4])
    slope = np.asarray([0.12, 0.1, 0.08]) * 2.4 / 1.055 * (0.555 / 1.055) ** 1.4
    ours = [np.asarray(each)[0, 0] for each in read(chain, image, theta)]
    same(ours, [10 * mean, 100 * variance, 10 * slope])


def test_the_first_order_readings_get_better_as_noise_falls():
    """Both errors fall with the square of the deviation, fourfold at each halving."""
    chain = dg.chain(dg.shot_read_noise(), dg.render())
    light, errors = jnp.full((5, 4, 3), 0.05), []
    for deviation in (0.016, 0.008, 0.004):
        theta = physics(shot_noise=0.0, read_noise=deviation**2)
        samples = draw(chain, light, theta, 4000)
        mean, variance, _ = (np.mean(each) for each in read(chain, light, theta))
        errors.append([samples.mean() / mean - 1.0, samples.var() / variance - 1.0])
    errors = np.abs(errors)
    assert (errors[:-1] > 2.5 * errors[1:]).all()
    assert (errors[0] > [0.01, 0.05]).all()  # else there is nothing to see fall


# --- single steps ----------------------------------------------------------------------------


def test_clip_cuts_values_and_variance_but_passes_the_gradient():
    step, theta = dg.clip(), physics()
    image = jnp.asarray([-0.5, 0.0, 0.3, 1.0, 1.5]).reshape(1, 5, 1)
    same(step.mean(image, theta).ravel(), np.asarray([0.0, 0.0, 0.3, 1.0, 1.0]))
    exactly(jax.grad(lambda z: step.mean(z, theta).sum())(image), jnp.ones_like(image))
    noisy = dg.chain(dg.shot_read_noise(), step)
    exactly(noisy.variance(image, theta).ravel() > 0, np.asarray([False, True, True, True, False]))


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantize_has_its_levels_its_variance_and_a_gradient(bits):
    step, theta, top = dg.quantize(bits), physics(), 2**bits - 1
    image = jnp.asarray(np.linspace(0.0, 1.0, 25_501).reshape(1, -1, 1), jnp.float32)
    coded = np.asarray(step.sample(KEY, image, theta))
    exactly(np.unique(np.round(coded * top, 3)), np.arange(top + 1, dtype=np.float32))
    error = np.mean((coded - np.asarray(image)) ** 2)
    same(np.mean(step.variance(image, theta)), error, rtol=2e-2)
    exactly(step.mean(image, theta), image)
    exactly(jax.grad(lambda z: step.sample(KEY, z, theta).sum())(image), jnp.ones_like(image))


def test_illumination_is_one_at_the_centre_and_follows_its_coefficients():
    light, thetas = jnp.ones((5, 7, 3)), [physics(illumination=row) for row in 0.5 * np.eye(5)]
    fields = (dg.illumination().mean(light, theta) for theta in thetas)
    v, u, vv, vu, uu = (np.asarray(field)[..., 0] for field in fields)
    for field in (v, u, vv, vu, uu):
        same(field[2, 3], 1.0)
        same(field[-1, -1], np.exp(0.5))
    assert (np.diff(u, axis=1) > 0).all()  # brighter to the right
    corner = np.asarray([u[0, 0], v[0, 0], vv[0, 0], vu[0, 0], uu[0, 0]])
    same(corner, np.exp([-0.5, -0.5, 0.5, 0.5, 0.5]))


def test_exposure_curve_is_a_group_under_chain():
    def curve(exposure):
        fixed = physics(exposure=exposure)
        return dg.step(lambda image, physics: dg.exposure_curve().mean(image, fixed))

    image, theta = uniform(5, 4, 3), physics(exposure=0.4)
    for k1, k2 in ((0.5, 0.3), (0.8, 0.8), (0.3, 1.0 / 0.3)):
        both, once = dg.chain(curve(k1), curve(k2)), curve(k1 * k2)
        same(both.mean(image, theta), once.mean(image, theta))
        same(both.slope(image, theta), once.slope(image, theta))
    twice = dg.chain(dg.exposure_curve(), dg.exposure_curve())
    same(twice.mean(image, theta), im.expose_curve(image, jnp.log(jnp.float32(0.16))))


@pytest.mark.parametrize("gamma", [None, 2.2])
def test_linearize_and_render_undo_each_other(gamma):
    image, theta = uniform(5, 4, 3, low=2 * im.FLOOR, high=1.0), physics()
    same(dg.chain(dg.linearize(gamma), dg.render(gamma)).mean(image, theta), image, atol=2e-6)
    same(dg.linearize(2.0).mean(image, theta), image**2)
    same(dg.tone().mean(image, theta), image**1.2)


def test_camera_is_the_formula_of_its_parts():
    image, theta = uniform(5, 4, 3), physics()
    field = dg.illumination().mean(jnp.ones_like(image), theta)
    light = 0.3 * im.broadcast_channels(theta.gains, image) * field * im.linearize(image)
    expected = im.render(light + im.broadcast_channels(theta.offset, image)) ** 1.2
    same(dg.camera().mean(image, theta), expected)
    neutral = jax.tree.map(lambda leaf: leaf[1, 3], dg.neutral_physics(jnp.full((2, 4), 0.25)))
    dark, expected = dg.camera().sample(KEY, image, neutral), im.render(0.25 * im.linearize(image))
    same(dark, expected, atol=0.5 / 255.0 + 1e-5)


def hot_pixels(rate):
    return dg.step(
        lambda image, physics: (1.0 - rate) * image + rate,
        sample=lambda key, z, p: jnp.where(jax.random.bernoulli(key, rate, z.shape), 1.0, z),
        variance=lambda image, physics: rate * (1.0 - rate) * (1.0 - image) ** 2,
    )


def test_a_users_own_steps_compose():
    image, theta = uniform(5, 4, 3), physics()
    haze = dg.step(lambda light, physics: 0.6 * light + 0.4 * 0.8)
    chain = dg.chain(haze, hot_pixels(0.3), dg.expose(), dg.shot_read_noise())
    hazy = 0.6 * image + 0.32
    mean = 0.3 * (0.7 * hazy + 0.3)
    variance = 0.09 * 0.21 * (1.0 - hazy) ** 2 + 2e-3 * mean + 1e-4
    same(read(chain, image, theta), (mean, variance, jnp.full_like(image, 0.3 * 0.7 * 0.6)))
    assert_samples_spread_as_said(chain, image, theta)


def test_jpeg_loses_more_at_lower_quality():
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    errors = [
        np.abs(dg.jpeg(image, quality).astype(int) - image).mean() for quality in (95, 50, 10)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]
    flat = np.full((16, 16, 3), 128, np.uint8)
    np.testing.assert_array_equal(dg.jpeg(flat, 90), flat)
    with pytest.raises(ValueError, match="float"):
        dg.jpeg(np.zeros((16, 16, 3), np.float32), 90)
