"""Synthesis on the device, real dark photographs among it, JPEG on the host, whole pairs."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage
from scipy.stats import rankdata

from configs import base
from pdn_jax import degradation
from pdn_jax import image as im
from pdn_jax.physics import brightened_snr
from pdn_jax.types import Batch
from train import build
from train.data import augmentation, calibrated_camera, store, synthesis
from train.tools import prepare

CAMERA = degradation.camera()


FAST = {"xla_backend_optimization_level": 0}
"""Compiles in a quarter of the time."""


@functools.partial(jax.jit, compiler_options=FAST)
def compiled(keys, crops, fitted=None, reexposure=None):
    """`synthesise`, compiled once for all tests of the same shapes."""
    sample = degradation.sample_physics
    return synthesis.synthesise(keys, crops, CAMERA, sample, fitted, reexposure)


def synthesise(indices, step=0, seed=0):
    crops = {"normal": jnp.full((len(indices), 32, 32, 3), 128, jnp.uint8)}
    keys = synthesis.image_keys(jax.random.key(seed), jnp.asarray(step), jnp.asarray(indices))
    return compiled(keys, crops)


def test_synthesis_is_keyed_by_seed_step_and_place():
    whole = synthesise([0, 1, 2, 3])
    half = synthesise([2, 3])
    np.testing.assert_array_equal(whole.low[2:], half.low)
    assert not np.array_equal(whole.low[0], whole.low[1])
    assert not np.array_equal(whole.low, synthesise([0, 1, 2, 3], step=1).low)
    assert not np.array_equal(whole.low, synthesise([0, 1, 2, 3], seed=1).low)


def test_synthesis_darkens_to_eight_bits():
    batch = synthesise([0, 1, 2, 3])
    np.testing.assert_allclose(batch.normal, 128 / 255, rtol=1e-6)
    assert batch.low.max() < 0.5
    levels = np.asarray(batch.low) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert batch.physics.exposure.shape == (4,)


def mixed(**more):
    """Two synthetic and two real images; the real ones have records 2 and 1."""
    crops = {
        "normal": jnp.full((4, 32, 32, 3), 128, jnp.uint8),
        "low": jnp.asarray([0, 7, 0, 9], jnp.uint8)[:, None, None, None]
        * jnp.ones((4, 32, 32, 3), jnp.uint8),
        "record": jnp.asarray([0, 2, 0, 1]),
    }
    keys = synthesis.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(4))
    return compiled(keys, crops | more)


def test_real_dark_photographs_stay_as_they_are():
    batch, drawn = mixed(), synthesise([0, 1, 2, 3])
    np.testing.assert_array_equal(batch.low[0], drawn.low[0])
    np.testing.assert_array_equal(batch.low[2], drawn.low[2])
    np.testing.assert_allclose(batch.low[1], 7 / 255, rtol=1e-6)
    np.testing.assert_allclose(batch.low[3], 9 / 255, rtol=1e-6)
    np.testing.assert_array_equal(batch.known, [1, 0, 1, 0])
    assert batch.physics.shot_noise[1] == 0.0
    assert batch.physics.exposure[0] == drawn.physics.exposure[0]


def test_fitted_physics_goes_to_its_own_record():
    exposures = jnp.asarray([1.0, 0.1, 0.2])
    fitted = synthesis.Fitted(degradation.neutral_physics(exposures), jnp.asarray([0.0, 1.0, 0.0]))
    keys = synthesis.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(4))
    crops = {
        "normal": jnp.full((4, 32, 32, 3), 128, jnp.uint8),
        "low": jnp.full((4, 32, 32, 3), 7, jnp.uint8),
        "record": jnp.asarray([0, 2, 0, 1]),
    }
    batch = compiled(keys, crops, fitted)
    np.testing.assert_allclose(batch.physics.exposure[1], 0.2)
    np.testing.assert_allclose(batch.physics.exposure[3], 0.1)
    np.testing.assert_array_equal(batch.known, [1, 0, 1, 1])


def test_fitted_noise_of_a_crop_is_what_resampling_has_left():
    """Exposure and gains are those of the photograph; both variances are less by what the filter took."""
    table = degradation.neutral_physics(jnp.asarray([1.0, 0.1])).replace(
        shot_noise=jnp.asarray([0.0, 4e-4]), read_noise=jnp.asarray([0.0, 1e-5])
    )
    crops = {
        "normal": jnp.full((3, 32, 32, 3), 128, jnp.uint8),
        "low": jnp.full((3, 32, 32, 3), 7, jnp.uint8),
        "record": jnp.asarray([1, 1, 0]),
        "kept": jnp.asarray([1.0, 0.25, 1.0]),
    }
    keys = synthesis.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(3))
    physics = compiled(keys, crops, synthesis.Fitted(table, jnp.asarray([0.0, 1.0]))).physics
    np.testing.assert_allclose(physics.shot_noise[:2], [4e-4, 1e-4], rtol=1e-6)
    np.testing.assert_allclose(physics.read_noise[:2], [1e-5, 2.5e-6], rtol=1e-6)
    np.testing.assert_allclose(physics.exposure[:2], 0.1)
    assert physics.shot_noise[2] > 0.0


def test_frames_between_become_part_of_the_batch():
    between = jnp.full((4, 2, 32, 32, 3), 51, jnp.uint8)
    np.testing.assert_allclose(mixed(between=between).between, 0.2, rtol=1e-6)
    assert mixed().between is None


# --- restraint and black bars ----------------------------------------------------------------------


def restrained(identity=0.0, mild=0.0, bars=0.0, count=100, **more):
    """Half photographs, half real pairs of a flat grey; the real dark frames are all 20 of 255."""
    crops = {
        "normal": jnp.full((count, 16, 16, 3), 128, jnp.uint8),
        "low": jnp.full((count, 16, 16, 3), 20, jnp.uint8),
        "record": jnp.arange(count, dtype=jnp.int32) % 2,
    }
    keys = synthesis.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(count))
    options = augmentation.Restraint(identity, mild, (0.25, 1.5), (18.0, 42.0), 0.0)
    return lightly(keys, crops | more, options, bars)


@functools.partial(jax.jit, compiler_options=FAST, static_argnums=3)
def lightly(keys, crops, restraint, bars):
    sample = degradation.sample_physics
    return synthesis.synthesise(keys, crops, CAMERA, sample, restraint=restraint, bars=bars)


@pytest.mark.slow
def test_identities_are_seen_as_they_are_of_photographs_and_of_pairs():
    batch = restrained(identity=1.0)
    np.testing.assert_array_equal(batch.low, batch.normal)
    np.testing.assert_array_equal(batch.physics.exposure, 1.0)
    np.testing.assert_array_equal(batch.physics.shot_noise, 0.0)
    np.testing.assert_array_equal(batch.known, 1.0)


def test_mild_darkness_is_that_of_its_stops():
    batch = restrained(mild=1.0)
    stops = -np.log2(np.asarray(batch.physics.exposure))
    assert stops.min() >= 0.25
    assert stops.max() <= 1.5
    assert np.ptp(stops) > 1.0
    light = im.linearize(batch.low).mean((1, 2, 3)) / im.linearize(batch.normal).mean((1, 2, 3))
    np.testing.assert_allclose(light, 2.0**-stops, rtol=0.1)
    np.testing.assert_array_equal(batch.known, 1.0)


@pytest.mark.slow
def test_each_kind_has_its_part_and_the_rest_is_as_before():
    batch, before = restrained(identity=0.3, mild=0.2, count=1000), restrained(count=1000)
    same = (batch.low == batch.normal).all((1, 2, 3))
    rest = (batch.low == before.low).all((1, 2, 3))
    assert same.mean() == pytest.approx(0.3, abs=0.05)
    assert rest.mean() == pytest.approx(0.5, abs=0.05)
    assert not (same & rest).any()


def test_real_exposures_lead_to_what_was_dark_alone():
    between = jnp.full((100, 2, 16, 16, 3), 51, jnp.uint8)
    np.testing.assert_allclose(
        restrained(identity=1.0, between=between).between, 128 / 255, rtol=1e-6
    )
    np.testing.assert_allclose(restrained(between=between).between, 0.2, rtol=1e-6)


@pytest.mark.slow
def test_bars_are_black_in_both_and_their_part_is_drawn():
    between = jnp.full((400, 1, 16, 16, 3), 51, jnp.uint8)
    batch = restrained(identity=1.0, bars=0.5, count=400, between=between)
    seen = np.asarray(batch.normal > 0).all(-1)
    np.testing.assert_array_equal(np.asarray(batch.low > 0).all(-1), seen)
    np.testing.assert_array_equal(np.asarray(batch.between[:, 0] > 0).all(-1), seen)
    share = seen.mean((1, 2))
    assert (share < 1).mean() == pytest.approx(0.5, abs=0.08)
    assert (share == 0).mean() == pytest.approx(0.05, abs=0.04)
    across = (seen == seen[:, :1]).all((1, 2)) | (seen == seen[:, :, :1]).all((1, 2))
    assert across.all()


# --- re-exposure augmentation --------------------------------------------------------------------


def reexposed(probability=1.0, stops=1.0, cast=0.1, snr=(15.0, 40.0), count=200, dark=20):
    """Real pairs of a flat grey, through a second camera; θ of the first is exact."""
    normal, low = 128, dark
    crops = {
        "normal": jnp.full((count, 16, 16, 3), normal, jnp.uint8),
        "low": jnp.full((count, 16, 16, 3), low, jnp.uint8),
        "record": jnp.ones(count, jnp.int32),
    }
    light = [im.linearize(jnp.asarray(value / 255.0)) for value in (low, normal)]
    first = degradation.neutral_physics(jnp.stack([jnp.ones(()), light[0] / light[1]]))
    first = first.replace(shot_noise=jnp.full((2,), 1e-6), read_noise=jnp.full((2,), 1e-9))
    fitted = synthesis.Fitted(first, jnp.asarray([0.0, 1.0]))
    keys = synthesis.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(count))
    options = augmentation.Reexposure(probability, stops, cast, snr)
    return compiled(keys, crops, fitted, options)


@pytest.mark.slow
def test_real_dark_photographs_are_reexposed_with_the_probability_given():
    for probability in (0.0, 0.3, 1.0):
        batch = reexposed(probability)
        changed = np.any(np.asarray(batch.low) != np.float32(20 / 255), axis=(1, 2, 3))
        assert changed.mean() == pytest.approx(probability, abs=0.1)
        untouched = ~changed
        np.testing.assert_allclose(batch.physics.shot_noise[untouched], 1e-6)


@pytest.mark.slow
def test_two_cameras_in_sequence_are_one():
    """What was made of the truth by both has the mean and the variance that their common θ says."""
    batch = reexposed()
    expected = jax.jit(CAMERA.mean)(batch.normal, batch.physics)
    spread = np.sqrt(np.asarray(CAMERA.variance(batch.normal, batch.physics)))
    residual = np.asarray(batch.low - expected)
    bias = residual.mean(axis=(1, 2)) / (spread.mean(axis=(1, 2)) / 16 + 0.3 / 255)
    assert np.abs(bias).max() < 5.0
    ratio = residual.std(axis=(1, 2, 3)) / spread.mean(axis=(1, 2, 3))
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    np.testing.assert_array_equal(batch.known, 1.0)
    light = np.asarray(im.linearize(jnp.asarray(20 / 255)) / im.linearize(jnp.asarray(128 / 255)))
    stops = np.log2(np.asarray(batch.physics.exposure) / light)
    assert -1.0 <= stops.min() < -0.8
    assert 0.8 < stops.max() <= 1.0


def test_a_second_photograph_stays_darker_than_the_truth():
    batch = reexposed(stops=4.0, cast=0.0, snr=(60.0, 60.0), dark=100)
    light = np.asarray(im.linearize(batch.low).mean(axis=(1, 2, 3)))
    assert light.max() < 0.82 * float(im.linearize(batch.normal).mean())
    assert light.min() < 0.2 * light.max()
    kept = reexposed(stops=4.0, cast=0.0, snr=(60.0, 60.0), dark=3)
    assert np.asarray(kept.low).mean(axis=(1, 2, 3)).min() > 2.5 / 255


def test_noise_that_nobody_knows_stays_unknown():
    first = degradation.neutral_physics(jnp.asarray(0.1))
    second = first.replace(shot_noise=jnp.asarray(1e-3), read_noise=jnp.asarray(1e-4))
    assert float(augmentation.compose_physics(first, second).shot_noise) == 0.0


def test_noise_of_two_cameras_in_sequence():
    """σs·κ' + σs' and σr·κ'² + σr', measured: a first camera with read noise alone, then a darker one."""
    first = degradation.neutral_physics(jnp.asarray(0.5)).replace(
        shot_noise=jnp.asarray(1e-6), read_noise=jnp.asarray(4e-4)
    )
    second = degradation.neutral_physics(jnp.asarray(0.25)).replace(
        shot_noise=jnp.asarray(1e-4), read_noise=jnp.asarray(1e-6)
    )
    linear = degradation.chain(degradation.expose(), degradation.shot_read_noise())
    light = jnp.full((256, 256, 3), 0.4)
    keys = jax.random.split(jax.random.key(0), 2)
    seen = linear.sample(keys[1], linear.sample(keys[0], light, first), second)
    both = augmentation.compose_physics(first, second)
    np.testing.assert_allclose(linear.mean(light, both), 0.05, rtol=1e-5)
    np.testing.assert_allclose(seen.mean(), 0.05, rtol=2e-3)
    np.testing.assert_allclose(seen.var(), linear.variance(light, both).mean(), rtol=0.02)
    assert float(both.read_noise) == pytest.approx(4e-4 / 16 + 1e-6, rel=1e-5)
    assert float(both.shot_noise) == pytest.approx(1e-6 / 4 + 1e-4, rel=1e-5)


# --- independence of what is drawn -------------------------------------------------------------

DRAWS = 4096
HALVES = slice(DRAWS), slice(DRAWS, None)


def fields(physics, light):
    """What an image's θ was made of, each drawn by itself: name -> [n]."""
    log_gains = jnp.log(physics.gains)
    log_shot, log_read = jnp.log(physics.shot_noise), jnp.log(physics.read_noise)
    return {
        "exposure": physics.exposure,
        "snr": brightened_snr(physics),
        "scatter": log_read - 2.18 * log_shot,
        "gain, red to green": log_gains[:, 0] - log_gains[:, 1],
        "gain, blue to both": log_gains[:, 2],
        **{f"offset {c}": physics.offset[:, c] / (physics.exposure * light) for c in range(3)},
        "gamma": physics.gamma,
        **{f"illumination {place}": physics.illumination[:, place] for place in range(5)},
    }


def drawn(tmp_path):
    """Every number that the synthesiser of a config draws for an image: name -> [DRAWS].

    Choices are drawn at 0.5, what they choose at 1, of the same keys: so it is known of all images.
    """
    low, grey = 60, jnp.full((2 * DRAWS, 8, 8, 3), 200, jnp.uint8)
    dark = im.linearize(jnp.asarray(low / 255)) / im.linearize(jnp.asarray(200 / 255))
    first = degradation.neutral_physics(jnp.stack([jnp.ones(()), dark]))
    first = first.replace(shot_noise=jnp.full(2, 1e-20), read_noise=jnp.full(2, 1e-20))
    fitted = synthesis.Fitted(first, jnp.ones(2))
    camera = jax.tree.map(lambda leaf: np.asarray(leaf[1]), first)
    known = [calibrated_camera.Fit(f"pairs/{place}", camera, {}) for place in range(2)]
    calibrated_camera.save(tmp_path / "camera.json", known, data=["pairs"], split="train", window=0)
    config = base.get_config()
    config.data.physics, config.data.snr = str(tmp_path / "camera.json"), (5.0, 28.0)
    config.augment.stops, config.augment.snr = 0.4, (15.0, 40.0)
    keys = synthesis.image_keys(jax.random.key(0), 0, jnp.tile(jnp.arange(DRAWS), 2))
    crops = {"normal": grey, "low": jnp.full_like(grey, low)}
    crops["record"] = jnp.repeat(jnp.arange(2), DRAWS)

    def batches(chance):
        config.data.wide = config.augment.probability = chance
        synthesise = jax.jit(build.synthesiser(config, CAMERA, fitted), compiler_options=FAST)
        batch = synthesise(keys, crops)
        noise = (batch.low - jax.jit(CAMERA.mean)(batch.normal, batch.physics))[:, 0, 0, 0]
        return [
            jax.tree.map(lambda x, half=half: x[half], (batch.physics, noise)) for half in HALVES
        ]

    light = im.linearize(jnp.asarray(200 / 255))
    (photographs, noise), (reexposed, _) = batches(1.0)
    draws, second = fields(photographs, light), fields(reexposed, light)
    draws["noise"] = noise
    for name in ("exposure", "snr", "scatter", "gain, red to green", "gain, blue to both"):
        draws[f"re-exposure, {name}"] = second[name]
    (photographs, _), (reexposed, _) = batches(0.5)
    draws["wide"], draws["re-exposed"] = photographs.gamma != 1.0, reexposed.exposure != dark
    for place, stream in enumerate(synthesis.HOST_STREAMS):
        seeds = [synthesis.host_seed(stream, 0, 0, draw) for draw in range(DRAWS)]
        draws[f"host {place}"] = [np.random.default_rng(seed).random() for seed in seeds]
    return {name: np.asarray(values, np.float64) for name, values in draws.items()}


@pytest.mark.slow
def test_all_that_is_drawn_for_an_image_is_independent(tmp_path):
    """Rank correlations of every pair; their standard deviation is 1/√4096 = 0.016."""
    draws = drawn(tmp_path)
    assert len(draws) == 24 + len(synthesis.HOST_STREAMS) - 2
    for name in ("wide", "re-exposed"):
        assert draws[name].mean() == pytest.approx(0.5, abs=0.03)
    assert all(values.std() > 0 for values in draws.values())
    correlation = np.abs(np.corrcoef([rankdata(values) for values in draws.values()]))
    np.fill_diagonal(correlation, 0.0)
    worst = np.unravel_index(correlation.argmax(), correlation.shape)
    assert correlation.max() < 0.06, [list(draws)[place] for place in worst]


# --- JPEG ----------------------------------------------------------------------------------------


def compressed(*, start=0, count=4, places=(0, 1, 2, 3), share=0.5, quality=(40, 60)):
    rng = np.random.default_rng(5)
    dark = rng.integers(0, 60, (4, 32, 32, 3), dtype=np.uint8)
    places = np.asarray(places)
    stream = synthesis.compress(
        iter([{"normal": dark[places]}] * count),
        lambda keys, crops: Batch(
            low=synthesis.as_float(crops["normal"]),
            normal=synthesis.as_float(crops["normal"]),
            physics=degradation.neutral_physics(jnp.ones(len(keys))),
        ),
        start=start,
        places=places,
        root=jax.random.key(3),
        seed=3,
        share=share,
        quality=quality,
    )
    return dark[places], [batch["dark"].low for batch in stream]


def test_a_share_of_the_dark_images_goes_through_a_jpeg():
    dark, batches = compressed(count=100)
    changed = np.array(
        [[not np.array_equal(a, b) for a, b in zip(x, dark, strict=True)] for x in batches]
    )
    assert changed.mean() == pytest.approx(0.5, abs=0.08)
    _, batches = compressed(count=2, share=1.0, quality=(50, 50))
    np.testing.assert_array_equal(batches[0][1], degradation.jpeg(dark[1], 50))


def test_compression_depends_on_seed_step_and_place_alone():
    _, whole = compressed(count=6)
    _, rest = compressed(start=3, count=3)
    np.testing.assert_array_equal(whole[3:], rest)
    _, share = compressed(count=6, places=(1, 3))
    np.testing.assert_array_equal(np.asarray(whole)[:, [1, 3]], share)


def test_the_step_takes_what_was_compressed():
    low = jnp.full((4, 32, 32, 3), 13, jnp.uint8)
    physics, known = degradation.neutral_physics(jnp.full(4, 0.3)), jnp.ones(4)
    batch = mixed(dark=synthesis.Dark(low, physics, known))
    np.testing.assert_allclose(batch.low, 13 / 255, rtol=1e-6)
    chex.assert_trees_all_equal((batch.physics, batch.known), (physics, known))


# --- whole pairs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in "abcde":
        for folder in ("photos/dev", "pairs/dev/low", "pairs/dev/gt"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            PILImage.fromarray(image).save(root / folder / f"{name}.png")
    where = ["--data-dir", str(root / "built")]
    prepare.run(["photos", "--source", str(root / "photos"), "--name", "photos", *where])
    prepare.run(["paired", "--source", str(root / "pairs"), "--name", "pairs", *where])
    return root


def pairs(built, name, seed=0, max_pairs=0, draws=2):
    split = store.Split(name, "dev", built / "built")
    return list(
        synthesis.whole_pairs(
            split,
            seed=seed,
            draws=draws,
            degrade=CAMERA,
            sample_physics=degradation.sample_physics,
            max_pairs=max_pairs,
        )
    )


def test_photographs_are_darkened_by_the_seed(built):
    one, two, other = (pairs(built, "photos", seed) for seed in (0, 0, 1))
    assert len(one) == 10
    for (name, low, normal), (other_name, same, _), (_, different, _) in zip(
        one, two, other, strict=True
    ):
        assert name == other_name
        np.testing.assert_array_equal(low, same)
        assert not np.array_equal(low, different)
        assert low.mean() < normal.mean()


def test_some_photographs_are_darkened_as_among_all(built):
    every, some = pairs(built, "photos"), pairs(built, "photos", max_pairs=3)
    assert [name for name, _, _ in some] == [every[i][0] for i in (0, 1, 4, 5, 8, 9)]


def test_real_pairs_are_what_the_files_hold(built):
    real = pairs(built, "pairs")
    assert len(real) == 5
    for name, low, normal in real:
        letter = name[-1]
        for image, folder in ((low, "low"), (normal, "gt")):
            with PILImage.open(built / "pairs" / "dev" / folder / f"{letter}.png") as file:
                np.testing.assert_array_equal(np.rint(255 * image).astype(np.uint8), file)
