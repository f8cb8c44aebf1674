"""θ drawn, and θ estimated from pairs."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from scipy import stats

from pdn_jax import degradation, fitting, physics
from pdn_jax import image as im
from pdn_jax.types import NEUTRAL, Physics

CAMERA = degradation.camera()
fit = jax.jit(physics.fit_physics)
sample = jax.jit(CAMERA.sample)
plain_physics = jax.jit(functools.partial(physics.sample_physics, tone=0.0, field=0.0))


def photographs():
    images = [
        skimage.data.astronaut(),
        skimage.data.coffee(),
        skimage.data.chelsea(),
        sklearn.datasets.load_sample_image("flower.jpg"),
    ]
    return jnp.stack([jnp.asarray(image[:256, :256], jnp.float32) / 255 for image in images])


@pytest.fixture(scope="module")
def normal():
    return photographs()


# --- θ itself ----------------------------------------------------------------------------------


def test_a_field_that_is_not_given_is_neutral():
    photograph = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)) / 255.0)
    theta = Physics(exposure=jnp.ones(2), gamma=jnp.full(2, 1.0))
    assert {name: theta[name].shape for name in NEUTRAL} == {
        name: (2, *value.shape) for name, value in NEUTRAL.items()
    }
    unchanged = jax.jit(CAMERA.sample)(jax.random.key(0), photograph, theta)
    np.testing.assert_allclose(unchanged, jnp.maximum(photograph, im.FLOOR), atol=1e-3)
    assert Physics().gains.shape == (3,)
    halved = jax.tree.map(lambda leaf: leaf / 2, Physics(exposure=jnp.ones(4)))
    np.testing.assert_array_equal(halved.gains, 0.5)  # a tree's leaves are never replaced


# --- drawing -----------------------------------------------------------------------------------


def independent(theta):
    """What `sample_physics` draws, one column [n] each, from θ of one grey photograph.

    The three log gains are less their mean, so each has −0.5 with the others; two of their
    combinations are independent.
    """
    scatter = jnp.log(theta.read_noise) - 2.18 * jnp.log(theta.shot_noise)
    red, green, blue = jnp.log(theta.gains).T
    veil = theta.offset / theta.exposure[:, None]
    fields = {
        "exposure": [theta.exposure],
        "gains": [red - green, red + green - 2 * blue],
        "offset": veil.T,
        "gamma": [theta.gamma],
        "illumination": theta.illumination.T,
        "shot_noise": [physics.brightened_snr(theta)],
        "read_noise": [scatter],
    }
    assert set(fields) == {field.name for field in dataclasses.fields(Physics)}
    return {f"{name} {i}": np.asarray(c) for name, cs in fields.items() for i, c in enumerate(cs)}


@pytest.mark.parametrize(
    "keyed", [pytest.param("one key", marks=pytest.mark.slow), "a key for each"]
)
def test_every_pair_of_drawn_fields_is_independent(keyed):
    """Rank correlations of 5,000 draws, also of the distances from the middle; 5 errors are 0.07."""
    count, grey, root = 5000, jnp.full((4, 4, 3), 0.6), jax.random.key(11)
    draw = functools.partial(physics.sample_physics, brightness=(0.03, 0.1), cast=0.1)
    if keyed == "one key":
        theta = jax.jit(draw)(root, jnp.broadcast_to(grey, (count, *grey.shape)))
    else:
        keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(count))
        theta = jax.jit(jax.vmap(lambda key: draw(key, grey)))(keys)
    drawn = independent(theta)
    spread = {f"|{name}|": np.abs(c - np.median(c)) for name, c in drawn.items()}
    ranks = stats.spearmanr(np.stack([*drawn.values(), *spread.values()], axis=1)).statistic
    names = [*drawn, *spread]
    assert len(drawn) == 14
    together = {
        (a, b): ranks[i, j]
        for (i, a), (j, b) in itertools.combinations(enumerate(names), 2)
        if a.strip("|") != b.strip("|")
    }
    assert {pair: rank for pair, rank in together.items() if abs(rank) > 0.07} == {}
    gains = np.log(np.asarray(theta.gains))
    error = 0.1 * (2 / 3) ** 0.5 / count**0.5
    np.testing.assert_allclose(gains.mean(axis=0), 0.0, atol=4 * error)
    np.testing.assert_allclose(gains.std(axis=0), 0.1 * (2 / 3) ** 0.5, rtol=0.05)


@pytest.mark.slow
def test_drawn_exposure_gives_the_wanted_brightness(normal):
    none = {"cast": 0, "veil": 0, "tone": 0, "field": 0}
    draw = functools.partial(physics.sample_physics, brightness=(0.05, 0.0501), **none)
    theta = jax.jit(draw)(jax.random.key(0), normal)
    dark = jax.jit(CAMERA.mean)(normal, theta).mean((1, 2, 3))
    np.testing.assert_allclose(dark, 0.05, rtol=0.02)
    assert theta.exposure.min() > 0
    assert theta.exposure.max() < 1


@pytest.mark.slow
def test_drawn_noise_keeps_the_brightened_signal_to_noise_ratio(normal):
    small = im.pool(normal, 8)
    draw = jax.jit(jax.vmap(lambda key: physics.sample_physics(key, small)))
    theta = draw(jax.random.split(jax.random.key(1), 64))
    decibel = physics.brightened_snr(theta)
    assert decibel.min() > 4.9
    assert decibel.max() < 28.1
    assert decibel.max() - decibel.min() > 15
    by_hand = 10 * np.log10(
        0.18**2 / (theta.shot_noise * 0.18 / theta.exposure + theta.read_noise / theta.exposure**2)
    )
    np.testing.assert_allclose(decibel, by_hand, rtol=1e-4)


def test_brightened_ratio_is_what_a_grey_patch_shows():
    grey = jnp.full((128, 128, 3), im.render(jnp.asarray(0.18)))
    theta = degradation.neutral_physics(0.05).replace(
        shot_noise=jnp.asarray(2e-4), read_noise=jnp.asarray(1e-6)
    )
    light = degradation.chain(
        degradation.linearize(), degradation.expose(), degradation.shot_read_noise()
    ).sample(jax.random.key(0), grey, theta)
    bright = light / theta.exposure
    measured = 10 * jnp.log10(0.18**2 / jnp.var(bright))
    np.testing.assert_allclose(measured, physics.brightened_snr(theta), atol=0.1)


def test_read_noise_follows_the_published_line(normal):
    small = im.pool(normal, 8)
    draw = jax.jit(jax.vmap(lambda key: physics.sample_physics(key, small)))
    theta = draw(jax.random.split(jax.random.key(2), 200))
    scatter = jnp.log(theta.read_noise) - 2.18 * jnp.log(theta.shot_noise) - 1.20
    assert abs(float(scatter.mean())) < 0.05
    assert 0.22 < float(scatter.std()) < 0.30


def test_gains_have_geometric_mean_one(normal):
    theta = jax.jit(physics.sample_physics)(jax.random.key(3), normal)
    np.testing.assert_allclose(jnp.log(theta.gains).mean(-1), 0, atol=1e-6)


@pytest.mark.slow
def test_a_dark_photograph_is_never_brightened():
    dark = jnp.full((1, 64, 64, 3), 10 / 255)
    theta = physics.sample_physics(jax.random.key(4), dark, brightness=(0.3, 0.31))
    assert theta.exposure[0] < 1


# --- fitting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_fit_recovers_what_was_drawn(normal, seed):
    """κ to 2 %, σs to 20 %, colour to 2 %; σr to 20 % where it is a third of the darkest variance.

    Where σr is far below the rounding of 8 bits or the shot noise, no fit can tell it.
    """
    image = normal[seed % len(normal)]
    key = jax.random.key(seed)
    true = plain_physics(key, image)
    estimate = fit(sample(jax.random.key(100 + seed), image, true), image)
    assert abs(float(estimate.exposure / true.exposure) - 1) < 0.02
    assert abs(float(estimate.shot_noise / true.shot_noise) - 1) < 0.2
    np.testing.assert_allclose(estimate.gains, true.gains, rtol=0.02)
    light = CAMERA.parts[0].mean(image, true) * true.exposure
    darkest = float(jnp.quantile(light, 1 / fitting.BINS)) * float(true.shot_noise)
    rounding = (1 / 255 / 12.92) ** 2 / 12
    if true.read_noise > 0.5 * (darkest + rounding):
        assert abs(float(estimate.read_noise / true.read_noise) - 1) < 0.2


@pytest.mark.slow
def test_fit_recovers_a_known_camera(normal):
    true = degradation.neutral_physics(jnp.full(4, 0.08)).replace(
        gains=jnp.tile(jnp.asarray([1.1, 1.0, 1 / 1.1]), (4, 1)),
        offset=jnp.full((4, 3), 2e-4),
        shot_noise=jnp.full(4, 1e-3),
        read_noise=jnp.full(4, 2e-6),
    )
    low = sample(jax.random.key(5), normal, true)
    estimate = fit(low, normal)
    np.testing.assert_allclose(estimate.exposure, true.exposure, rtol=0.02)
    np.testing.assert_allclose(estimate.gains, true.gains, rtol=0.02)
    np.testing.assert_allclose(estimate.offset, true.offset, atol=5e-5)
    np.testing.assert_allclose(estimate.shot_noise, true.shot_noise, rtol=0.2)
    np.testing.assert_allclose(estimate.read_noise, true.read_noise, rtol=0.2)


@pytest.mark.slow
def test_fit_is_robust_to_a_strange_object_and_a_shift(normal):
    image = normal[0]
    true = plain_physics(jax.random.key(6), image)
    low = sample(jax.random.key(7), image, true)
    low = low.at[60:100, 60:100].set(0.5)
    low = jnp.roll(low, 1, axis=0)
    estimate = fit(low, image)
    assert abs(float(estimate.exposure / true.exposure) - 1) < 0.02
    assert abs(float(estimate.shot_noise / true.shot_noise) - 1) < 0.2


@pytest.mark.slow
def test_fit_is_the_same_batched_and_jitted(normal):
    theta = plain_physics(jax.random.key(8), normal[:2])
    low = sample(jax.random.key(9), normal[:2], theta)
    together = fit(low, normal[:2])
    alone = fit(low[1], normal[1])
    np.testing.assert_allclose(together.exposure[1], alone.exposure, rtol=1e-4)
    np.testing.assert_allclose(together.shot_noise[1], alone.shot_noise, rtol=1e-2)
    assert together.gains.shape == (2, 3)


def test_fit_names_wrong_shapes():
    with pytest.raises(ValueError, match=r"\(40, 40, 3\).*\(40, 41, 3\)"):
        physics.fit_physics(jnp.zeros((40, 40, 3)), jnp.zeros((40, 41, 3)))
    with pytest.raises(ValueError, match="at least 32"):
        physics.fit_physics(jnp.zeros((16, 40, 3)), jnp.zeros((16, 40, 3)))


@pytest.mark.parametrize("level", [0.2, 3.0, 3.5, 40.0])
@pytest.mark.parametrize("noise", [1e-9, 1e-6])
def test_readout_is_the_mean_and_variance_of_many_readings(level, noise):
    light = im.linearize(jnp.asarray(level / 255))
    shot, read = jnp.asarray(1e-5), jnp.asarray(noise)
    mean, variance = fitting.readout(light, shot, read)
    count = 200_000
    sigma = jnp.sqrt(shot * light + read)
    drawn = im.render(light + sigma * jax.random.normal(jax.random.key(0), (count,)))
    read_out = im.linearize(jnp.round(jnp.clip(drawn, 0, 1) * 255) / 255)
    error = float(read_out.std()) / count**0.5
    assert abs(float(read_out.mean() - mean)) < 5 * error + 1e-9
    assert float(variance) == pytest.approx(float(read_out.var()), rel=0.03, abs=1e-12)
