"""Draws like fitted θ: their mean and covariance, ranges, leading axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pdn_jax import calibration, degradation
from pdn_jax.types import Physics

ROOM = jnp.full((8, 8, 3), 0.5)


def fitted(count=40, seed=0):
    """θ of `count` pairs whose κ, red gain and σs go together."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=count)
    exposure = 0.02 * np.exp(0.5 * common)
    gains = np.stack([0.2 * common, 0.05 * rng.normal(size=count), np.zeros(count)], axis=-1)
    gains -= gains.mean(axis=-1, keepdims=True)
    shot = 1e-4 * np.exp(-common + 0.3 * rng.normal(size=count))
    return Physics(
        exposure=jnp.asarray(exposure, jnp.float32),
        gains=jnp.asarray(np.exp(gains), jnp.float32),
        offset=jnp.asarray(exposure[:, None] * rng.normal(0.1, 0.05, (count, 3)), jnp.float32),
        shot_noise=jnp.asarray(shot, jnp.float32),
        read_noise=jnp.asarray(np.exp(rng.normal(-16, 0.5, count)), jnp.float32),
    )


def columns(physics):
    """The drawn coordinates, side by side [n, 9]."""
    exposure = physics.exposure[:, None]
    parts = (
        *(jnp.log(exposure), jnp.log(physics.gains), physics.offset / exposure),
        *(jnp.log(physics.shot_noise)[:, None], jnp.log(physics.read_noise)[:, None]),
    )
    return np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def drawn():
    camera = calibration.calibrate(fitted())
    normal = jnp.broadcast_to(ROOM, (20000, *ROOM.shape))
    draw = jax.jit(functools.partial(calibration.sample_like, field=0.0))
    return draw(jax.random.key(0), normal, camera)


def test_draws_have_the_mean_and_the_covariance_of_the_fits(drawn):
    ours, theirs = columns(drawn), columns(fitted())
    spread = theirs.std(axis=0)
    np.testing.assert_allclose((ours - theirs.mean(axis=0)).mean(axis=0) / spread, 0.0, atol=0.03)
    scale = spread[:, None] * spread
    gap = (np.cov(ours.T, bias=True) - np.cov(theirs.T, bias=True)) / scale
    np.testing.assert_allclose(gap, 0.0, atol=0.06)
    correlation = np.corrcoef(ours.T)
    assert correlation[0, 1] > 0.85  # κ with the red gain
    assert correlation[0, 7] < -0.85  # κ with σs


def test_the_field_is_independent_of_all_that_was_fitted():
    """Ranks of 5,000 draws; 5 standard errors are 0.07."""
    camera, normal = calibration.calibrate(fitted()), jnp.broadcast_to(ROOM, (5000, *ROOM.shape))
    physics = jax.jit(calibration.sample_like)(jax.random.key(7), normal, camera)
    field, others = np.asarray(physics.illumination), columns(physics)
    ranks = stats.spearmanr(field, others).statistic
    between = [ranks[i, j] for i in range(5) for j in range(len(ranks)) if i < j]
    assert len(between) == 10 + 5 * 9
    assert np.abs(between).max() < 0.07
    np.testing.assert_allclose(field.mean(axis=0), 0.0, atol=5 * 0.2 / 5000**0.5)
    np.testing.assert_allclose(field.std(axis=0), 0.2, rtol=0.05)


def test_draws_are_no_mere_copies(drawn):
    exposures = np.asarray(fitted().exposure)
    nearest = np.abs(np.log(np.asarray(drawn.exposure[:200])[:, None] / exposures)).min(axis=1)
    assert (nearest > 1e-4).mean() > 0.9


def test_draws_are_sound_physics(drawn):
    assert (drawn.exposure <= 1.0).all()
    np.testing.assert_allclose(np.prod(np.asarray(drawn.gains), axis=-1), 1.0, rtol=1e-4)
    assert (drawn.shot_noise > 0).all()
    np.testing.assert_array_equal(drawn.gamma, 1.0)
    np.testing.assert_array_equal(drawn.illumination, 0.0)
    one = jax.tree.map(lambda leaf: leaf[0], drawn)
    low = jax.jit(degradation.camera().sample)(jax.random.key(1), ROOM, one)
    assert np.isfinite(low).all()
    assert low.mean() < 0.3


@pytest.mark.slow
def test_exposure_never_passes_one():
    bright = fitted().replace(exposure=jnp.full(40, 0.99))
    camera = calibration.calibrate(
        bright.replace(exposure=bright.exposure * fitted().exposure * 50)
    )
    normal = jnp.broadcast_to(ROOM, (2000, *ROOM.shape))
    exposure = calibration.sample_like(jax.random.key(0), normal, camera).exposure
    assert exposure.max() == 1.0
    assert exposure.min() < 0.9


@pytest.mark.slow
def test_leading_axes_and_keys():
    camera = calibration.calibrate(fitted())
    one = calibration.sample_like(jax.random.key(0), ROOM, camera)
    assert one.exposure.shape == ()
    many = calibration.sample_like(jax.random.key(0), jnp.zeros((2, 5, 8, 8, 3)), camera, field=0.3)
    assert many.offset.shape == (2, 5, 3)
    assert float(jnp.abs(many.illumination).min()) > 0.0
    other = calibration.sample_like(jax.random.key(1), ROOM, camera)
    assert float(other.exposure) != float(one.exposure)


def test_noise_that_no_pair_shows_does_not_stretch_the_distribution():
    silent = fitted().replace(read_noise=jnp.full(40, np.float32(np.exp(-30.0))))
    camera = calibration.calibrate(silent)
    np.testing.assert_allclose(camera.log_read, np.log(calibration.NOISE_FLOOR), rtol=1e-6)


def test_one_pair_is_no_distribution():
    with pytest.raises(ValueError, match="at least 2"):
        calibration.calibrate(fitted(1))
    with pytest.raises(ValueError, match="one leading axis"):
        calibration.calibrate(jax.tree.map(lambda leaf: leaf[0], fitted()))
