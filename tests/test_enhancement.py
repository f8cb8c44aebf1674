"""Enhancement: monotone for any parameters, S stages equal one, noise as brightening amplifies it."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import degradation, enhancement
from pdn_jax import image as im
from pdn_jax.enhancement import Brightening, Enhancement, Stage
from pdn_jax.types import Physics

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiled in half the time; how fast it runs does not matter here."""

RANDOM = np.random.default_rng(0)
PICTURES = jnp.asarray(
    [
        RANDOM.uniform(0.0, 1.0, (24, 32, 3)),
        RANDOM.uniform(0.0, 0.1, (24, 32, 3)),
        np.zeros((24, 32, 3)),
        np.ones((24, 32, 3)),
    ],
    jnp.float32,
)


@functools.cache
def module():
    return Enhancement(width=8, stages=3)


@functools.cache
def parameters(scale=1.0):
    """Random parameters, every one of them alive; weights and biases `scale` times as large."""
    shapes = jax.eval_shape(module().init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda s: jnp.asarray(scale * random.normal(0.0, 0.3, s.shape), s.dtype), shapes
    )


@functools.cache
def found(scale=1.0):
    return jit(module().apply)(parameters(scale), PICTURES)


@functools.cache
def lifted(scale=1.0):
    return jit(enhancement.lift)(PICTURES, found(scale))


def brightening(*increments, black=0.0, shot_noise=0.0, read_noise=0.0):
    """A `Brightening` of one image, the same everywhere: increments are δ_s, scalars or maps."""
    maps = tuple(jnp.broadcast_to(jnp.float32(d), (1, 4, 4, 3)) for d in increments)
    numbers = (jnp.full(1, value, jnp.float32) for value in (shot_noise, read_noise))
    return Brightening(
        maps, jnp.full((1, 3), black, jnp.float32), *numbers, jnp.zeros((1, 4, 4, 8))
    )


def smooth_maps(count):
    """`count` random maps of δ ≥ 0 on a 4×4 grid."""
    return [np.random.default_rng(seed).uniform(0, 1, (1, 4, 4, 3)) for seed in range(count)]


# --- the module ------------------------------------------------------------------------------


def test_what_is_found_lies_on_the_grid_within_its_ranges():
    result = found()
    assert [d.shape for d in result.increments] == [(4, 3, 4, 3)] * 3
    assert result.black.shape == (4, 3)
    assert result.context.shape == (4, 3, 4, 8)
    assert all((d >= 0).all() for d in result.increments)
    assert ((result.black > 0) & (result.black < enhancement.MAX_BLACK)).all()
    assert ((result.shot_noise > 0) & (result.read_noise > 0)).all()


def test_stages_share_their_weights():
    few, many = Enhancement(width=8, stages=1), Enhancement(width=8, stages=5)
    shapes = [
        jax.eval_shape(m.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))) for m in (few, many)
    ]
    assert shapes[0] == shapes[1]
    first = jit(few.apply)(parameters(), PICTURES).increments[0]
    np.testing.assert_allclose(first, found().increments[0], rtol=1e-5, atol=1e-6)


def test_stages_differ_by_their_memory():
    first, second = found().increments[:2]
    assert abs(first - second)[:2].max() > 1e-3


def test_each_stage_sees_the_whole_image():
    """A lamp at one end reaches δ at the other, far beyond 3×3 windows; the black level is held."""
    params = jax.tree.map(lambda leaf: leaf, parameters())
    params["params"]["black"]["kernel"] = jnp.zeros((8, 3))
    dark = jnp.full((1, 16, 256, 3), 0.1)
    step = jit(lambda image: module().apply(params, image).increments[0])
    change = abs(step(dark) - step(dark.at[:, :, :8].set(1.0)))
    assert change[:, :, -1].max() > 1e-4


@pytest.mark.slow
def test_an_image_of_zeros_or_ones_has_a_finite_gradient():
    def total(params, low):
        result = module().apply(params, low)
        return sum(leaf.sum() for leaf in jax.tree.leaves((result, enhancement.lift(low, result))))

    gradients = jit(jax.grad(total, argnums=(0, 1)))(parameters(), PICTURES)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


# --- monotone by construction ----------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0], ids=["no", "random", "absurd"])
def test_every_stage_is_at_least_as_bright_as_the_one_before(scale):
    """x_s ≥ x_{s−1} ≥ x_0, for every pixel, whatever the parameters; x_0 is floored, so no exception."""
    stages = [enhancement.remove_black(PICTURES, found(scale).black), *lifted(scale)[0]]
    assert len(stages) == 4
    for darker, brighter in itertools.pairwise(stages):
        assert jnp.isfinite(brighter).all()
        assert (brighter >= darker * (1 - 1e-5)).all()
    assert (stages[-1] > 1.01 * stages[0]).any()


def test_removing_black_never_brightens_what_is_above_the_floor():
    start = enhancement.remove_black(PICTURES, found().black)
    assert (start <= np.maximum(PICTURES, im.FLOOR)).all()
    assert (start >= im.FLOOR).all()
    assert (start[0] < PICTURES[0]).mean() > 0.9
    exact = enhancement.remove_black(jnp.full((1, 1, 1, 3), 0.5), jnp.asarray([[0.0, 0.1, 0.6]]))
    np.testing.assert_allclose(exact[0, 0, 0], [0.5, 0.4, im.FLOOR], rtol=1e-6)


# --- the group law: S stages are one ---------------------------------------------------------


def test_applying_increments_one_by_one_equals_their_sum_on_the_grid():
    """g(…g(g(x, e^δ1), e^δ2)…, e^δS) = g(x, e^Σδ), what `lift` rests on."""
    start = jnp.maximum(PICTURES[:1, :4, :4], im.FLOOR)
    increments = [jnp.asarray(d, jnp.float32) for d in smooth_maps(4)]
    naive = start
    for increment in increments:
        naive = im.expose_curve(naive, increment)
    np.testing.assert_allclose(naive, im.expose_curve(start, sum(increments)), rtol=1e-5)


def test_lift_equals_the_curve_applied_stage_by_stage_at_full_size():
    """Stage s takes stage s − 1 up by its own part of the path, exponents enlarged to full size."""
    found = brightening(*smooth_maps(4), black=0.02)
    low = jnp.asarray(np.random.default_rng(2).uniform(0, 0.5, (1, 32, 32, 3)), jnp.float32)
    enhanced, path, _ = enhancement.lift(low, found)
    naive, total, before = enhancement.remove_black(low, found.black), 0.0, 1.0
    for increment, image in zip(found.increments, enhanced, strict=True):
        total = total + increment
        exponent = im.upsample(jnp.exp(im.CURVE_A * total), 8)
        naive = im.apply_curve(naive, exponent / before)
        before = exponent
        np.testing.assert_allclose(image, naive, rtol=1e-5)
    np.testing.assert_allclose(path, jnp.log(before) / im.CURVE_A, rtol=1e-4, atol=1e-5)


def test_a_constant_brightening_is_one_exposure():
    low = jnp.asarray(np.random.default_rng(2).uniform(0, 0.5, (1, 32, 32, 3)), jnp.float32)
    enhanced, path, _ = enhancement.lift(low, brightening(0.5, 0.25, 1.0))
    for image, total in zip(enhanced, (0.5, 0.75, 1.75), strict=True):
        np.testing.assert_allclose(image, im.expose_curve(low, jnp.float32(total)), rtol=1e-5)
    np.testing.assert_allclose(path, 1.75, rtol=1e-5)


def test_no_increment_means_no_change():
    (image,), path, _ = enhancement.lift(jnp.full((1, 32, 32, 3), 0.3), brightening(0.0))
    np.testing.assert_allclose(image, 0.3, rtol=1e-6)
    np.testing.assert_array_equal(path, 0.0)


def test_each_stage_looks_at_what_the_stages_before_have_made():
    """x_{s−1} on the grid, the observation less its black level taken up by δ_1 + … + δ_{s−1}."""
    seen = []

    def listen(call, args, kwargs, context):
        if isinstance(context.module, Stage) and context.method_name == "__call__":
            seen.append(args[1])
        return call(*args, **kwargs)

    with nn.intercept_methods(listen):
        result = module().apply(parameters(), PICTURES)
    naive = enhancement.remove_black(im.pool(PICTURES, 8), result.black)
    assert len(seen) == 3
    for current, increment in zip(seen, result.increments, strict=True):
        np.testing.assert_allclose(current, naive, rtol=1e-4)
        naive = im.expose_curve(naive, increment)


# --- noise -----------------------------------------------------------------------------------

NOISES = {"shot": (5e-4, 0.0), "read": (0.0, 2e-6), "both": (2e-4, 1e-6), "none": (0.0, 0.0)}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
@pytest.mark.parametrize(("level", "black"), [(0.12, 0.0), (0.12, 0.03), (0.4, 0.05)])
def test_amplified_noise_is_what_a_camera_shows_once_brightened(level, black, noise):
    """Shot and read noise in linear light, 8 bits, less black, brightened: against 2^17 pixels.

    The patch is constant but for two 8-bit steps, which make the rounding's error uniform.
    """
    shot_noise, read_noise = noise
    jitter = np.random.default_rng(0).uniform(-1, 1, (1, 256, 512, 1)) / 255.0
    patch = jnp.asarray(level + jitter, jnp.float32)
    physics = Physics(
        exposure=jnp.ones(1),
        gains=jnp.ones((1, 3)),
        offset=jnp.zeros((1, 3)),
        gamma=jnp.ones(1),
        illumination=jnp.zeros((1, 5)),
        shot_noise=jnp.full(1, shot_noise),
        read_noise=jnp.full(1, read_noise),
    )
    camera = degradation.chain(
        degradation.linearize(),
        degradation.shot_read_noise(),
        degradation.render(),
        degradation.quantize(8),
    )
    seen = camera.sample(jax.random.key(0), patch, physics)
    stops = jnp.float32(np.log(6.0))
    measured = (im.expose_curve(seen - black, stops) - im.expose_curve(patch - black, stops)).std()

    low = jnp.full((1, 1, 1, 1), level)
    predicted = enhancement.amplified_noise(
        low, low - black, stops, physics.shot_noise, physics.read_noise
    )
    assert predicted.item() == pytest.approx(measured.item(), rel=0.1)


def test_lift_tells_the_amplified_noise_of_the_whole_path():
    low = jnp.full((1, 32, 32, 3), 0.12)
    found = brightening(0.5, 1.0, black=0.03, shot_noise=1e-3, read_noise=2e-6)
    _, _, noise = enhancement.lift(low, found)
    small = low[:, ::8, ::8]
    expected = enhancement.amplified_noise(
        small, small - 0.03, jnp.float32(1.5), found.shot_noise, found.read_noise
    )
    assert noise.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(noise, expected, rtol=1e-5)
