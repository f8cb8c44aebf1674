"""Truths that are few, missing or wrong: which and how, what crops and batches then hold."""

import numpy as np
import pytest
from PIL import Image as PILImage

from configs import base
from pdn_jax import degradation
from pdn_jax.types import InputError
from train.data import crops, mixture, store, truths
from train.tools import prepare


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Six pairs of random pixels, low a tenth of normal."""
    root, rng = tmp_path_factory.mktemp("truths"), np.random.default_rng(0)
    for index in range(6):
        image = rng.integers(60, 200, (40, 48, 3), dtype=np.uint8)
        for side, whole in (("low", image // 10), ("high", image)):
            path = root / "pairs" / "train" / side / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(whole).save(path)
    where = ["--source", str(root / "pairs"), "--data-dir", str(root / "built")]
    prepare.run(["paired", *where, "--name", "pairs"])
    return root / "built"


def configured(directory, **more):
    config = base.get_config()
    config.data.directory = str(directory)
    config.data.mixture = (("pairs", 1.0),)
    config.data.crop_size = 32
    config.loss.floor = "noise"
    config.train.steps, config.train.batch_size = 6, 4
    config.data.update(more)
    return config


def batches(config):
    splits, weights = mixture.mixture(config)
    parts = mixture.parts(config, splits, weights)
    return [b for b, _ in mixture.stream(config, parts, 0, degradation.camera(), None)]


def split(directory):
    return store.Split("pairs", "train", directory)


# --- what is wrong with a truth ------------------------------------------------------------------


def test_a_shift_moves_the_picture_and_repeats_its_edge():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * np.ones(3, np.uint8)
    moved = truths.shifted(image, (1, -2))
    np.testing.assert_array_equal(moved[1, :2], image[0, 2:])
    np.testing.assert_array_equal(moved[0], moved[1])
    np.testing.assert_array_equal(moved[:, 3], moved[:, 2])
    np.testing.assert_array_equal(truths.shifted(image, (0, 0)), image)


def test_a_stop_doubles_linear_light_up_to_white():
    """sRGB 128 is 0.2159 of light; 0.4317 of light is sRGB 0.6885, 175.6 of 255."""
    image = np.asarray([[[0, 128, 255]]], np.uint8)
    np.testing.assert_array_equal(truths.reexposed(image, 1.0), [[[0, 176, 255]]])
    np.testing.assert_allclose(truths.reexposed(truths.reexposed(image, -1.0), 1.0), image, atol=1)
    np.testing.assert_array_equal(truths.reexposed(image, 0.0), image)


def test_faults_are_drawn_by_seed_and_pair_within_their_range():
    faults = truths.Faults(0, (1, 3), 2 / 3)
    drawn = [faults.of(f"pair {i}") for i in range(200)]
    reach = [max(map(abs, place)) for place, _ in drawn]
    assert set(reach) == {1, 2, 3}
    assert {stops for _, stops in drawn} == {-2 / 3, 2 / 3}
    assert drawn == [faults.of(f"pair {i}") for i in range(200)]
    assert drawn != [faults._replace(seed=1).of(f"pair {i}") for i in range(200)]
    assert truths.Faults(0).of("pair 0")[0] == (0, 0)


# --- what a batch holds --------------------------------------------------------------------------


def test_more_pairs_hold_the_fewer_and_the_others_have_no_truth(directory):
    few, others = truths.divided(split(directory), 2, 0)
    more, _ = truths.divided(split(directory), 4, 0)
    assert set(few.items) < set(more.items)
    assert len(few) == 2
    assert len(others) == 4
    assert set(few.items).isdisjoint(others.items)
    assert (few.has_truth, others.has_truth) == (True, False)
    seeds = [tuple(truths.divided(split(directory), 2, seed)[0].items) for seed in range(5)]
    assert len(set(seeds)) > 1


def test_what_has_no_truth_shows_its_dark_photograph_in_its_place(directory):
    read = batches(configured(directory, truths=2, untold=0.5))
    flags = np.concatenate([batch["truth"] for batch in read])
    assert 0.4 < flags.mean() < 0.6
    for batch in read:
        for low, normal, truth in zip(batch["low"], batch["normal"], batch["truth"], strict=True):
            np.testing.assert_array_equal(low, normal // 10 if truth else normal)


def test_few_pairs_alone_are_those_pairs(directory):
    config = configured(directory, truths=2)
    splits, weights = mixture.mixture(config)
    assert [(len(one), one.has_truth) for one in splits] == [(2, True)]
    assert weights == [1.0]
    assert "truth" not in batches(config)[0]
    (alone,), _ = mixture.mixture(configured(directory, truths=0))
    assert (len(alone), alone.has_truth) == (6, False)


def test_wrong_truths_are_beside_their_place_and_differ_in_light(directory):
    plain = batches(configured(directory))
    for wrong in ({"shift": (2, 2)}, {"misexposed": 1.0}):
        for right, batch in zip(plain, batches(configured(directory, **wrong)), strict=True):
            np.testing.assert_array_equal(batch["low"], right["low"])
            assert (batch["normal"] != right["normal"]).mean() > 0.9


@pytest.mark.parametrize(
    "section", ["loss.floor=truth", "augment.identity=0.1", "augment.mild=0.1"]
)
def test_what_would_take_a_dark_photograph_for_a_truth_is_refused(directory, section):
    config = configured(directory, truths=2, untold=0.5)
    option, value = section.split("=")
    config.update_from_flattened_dict({option: type(config[option])(value)})
    with pytest.raises(InputError, match=r"loss\.floor=noise"):
        mixture.mixture(config)


def test_the_cache_holds_truths_as_they_are_told(directory):
    taken = crops.Crops(32, 0.4, 0, faults=truths.Faults(0, (0, 0), 1.0))
    cropping = crops.Cropping([split(directory)], taken, crops.Cache(10**8))
    first, again = (cropping.image(0, 0, -1) for _ in range(2))
    assert first is again
    np.testing.assert_array_equal(cropping.image(0, 0, 0), split(directory).frame(0, 0))
