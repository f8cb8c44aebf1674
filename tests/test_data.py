"""Synthesis on the device, real dark photographs among it, JPEG on the host, whole pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from pdn_jax import degradation
from train import data, datasets, prepare

CAMERA = degradation.camera()


def synthesise(indices, step=0, seed=0):
    crops = {"normal": jnp.full((len(indices), 32, 32, 3), 128, jnp.uint8)}
    keys = data.image_keys(jax.random.key(seed), jnp.asarray(step), jnp.asarray(indices))
    return data.synthesise(keys, crops, CAMERA, degradation.sample_physics)


def test_synthesis_is_keyed_by_seed_step_and_place():
    whole = synthesise([0, 1, 2, 3])
    half = synthesise([2, 3])
    np.testing.assert_array_equal(whole.low[2:], half.low)
    assert not np.array_equal(whole.low[0], whole.low[1])
    assert not np.array_equal(whole.low, synthesise([0, 1, 2, 3], step=1).low)
    assert not np.array_equal(whole.low, synthesise([0, 1, 2, 3], seed=1).low)


def test_synthesis_darkens_to_eight_bits():
    batch = synthesise([0, 1, 2])
    np.testing.assert_allclose(batch.normal, 128 / 255, rtol=1e-6)
    assert batch.low.max() < 0.5
    levels = np.asarray(batch.low) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert batch.physics.exposure.shape == (3,)


def mixed(**more):
    """Two synthetic and two real images; the real ones have records 2 and 1."""
    crops = {
        "normal": jnp.full((4, 32, 32, 3), 128, jnp.uint8),
        "low": jnp.asarray([0, 7, 0, 9], jnp.uint8)[:, None, None, None]
        * jnp.ones((4, 32, 32, 3), jnp.uint8),
        "record": jnp.asarray([0, 2, 0, 1]),
    }
    keys = data.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(4))
    return data.synthesise(keys, crops | more, CAMERA, degradation.sample_physics)


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
    fitted = data.Fitted(degradation.neutral_physics(exposures), jnp.asarray([0.0, 1.0, 0.0]))
    keys = data.image_keys(jax.random.key(0), jnp.asarray(0), jnp.arange(4))
    crops = {
        "normal": jnp.full((4, 32, 32, 3), 128, jnp.uint8),
        "low": jnp.full((4, 32, 32, 3), 7, jnp.uint8),
        "record": jnp.asarray([0, 2, 0, 1]),
    }
    batch = data.synthesise(keys, crops, CAMERA, degradation.sample_physics, fitted)
    np.testing.assert_allclose(batch.physics.exposure[1], 0.2)
    np.testing.assert_allclose(batch.physics.exposure[3], 0.1)
    np.testing.assert_array_equal(batch.known, [1, 0, 1, 1])


def test_frames_between_become_part_of_the_batch():
    between = jnp.full((4, 2, 32, 32, 3), 51, jnp.uint8)
    np.testing.assert_allclose(mixed(between=between).between, 0.2, rtol=1e-6)
    assert mixed().between is None


# --- JPEG ----------------------------------------------------------------------------------------


def compressed(*, start=0, count=4, places=(0, 1, 2, 3), share=0.5, quality=(40, 60)):
    rng = np.random.default_rng(5)
    dark = rng.integers(0, 60, (4, 32, 32, 3), dtype=np.uint8)
    places = np.asarray(places)
    stream = data.compress(
        iter([{"normal": dark[places]}] * count),
        lambda step, crops: crops["normal"].astype(np.float32) / 255.0,
        start=start,
        places=places,
        seed=3,
        share=share,
        quality=quality,
    )
    return dark[places], [batch["compressed"] for batch in stream]


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
    given = jnp.full((4, 32, 32, 3), 13, jnp.uint8)
    np.testing.assert_allclose(mixed(compressed=given).low, 13 / 255, rtol=1e-6)


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


def pairs(built, name, seed=0, most=0, draws=2):
    split = datasets.open_split(name, "dev", built / "built")
    return list(
        data.whole_pairs(
            split,
            seed=seed,
            draws=draws,
            degrade=CAMERA,
            sample_physics=degradation.sample_physics,
            most=most,
        )
    )


def test_photographs_are_darkened_by_the_seed(built):
    one, two, other = (pairs(built, "photos", seed) for seed in (0, 0, 1))
    assert len(one) == 10
    for (name, low, normal), (again, same, _), (_, different, _) in zip(
        one, two, other, strict=True
    ):
        assert name == again
        np.testing.assert_array_equal(low, same)
        assert not np.array_equal(low, different)
        assert low.mean() < normal.mean()


def test_some_photographs_are_darkened_as_among_all(built):
    every, some = pairs(built, "photos"), pairs(built, "photos", most=3)
    assert [name for name, _, _ in some] == [every[i][0] for i in (0, 1, 4, 5, 8, 9)]


def test_real_pairs_are_what_the_files_hold(built):
    found = pairs(built, "pairs")
    assert len(found) == 5
    for name, low, normal in found:
        letter = name[-1]
        for image, folder in ((low, "low"), (normal, "gt")):
            with PILImage.open(built / "pairs" / "dev" / folder / f"{letter}.png") as file:
                np.testing.assert_array_equal(np.rint(255 * image).astype(np.uint8), file)
