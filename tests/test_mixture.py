"""The mixture of data sets: a batch is a function of (seed, step), whatever cache, workers, resumption."""

import functools

import chex
import numpy as np
import pytest
from PIL import Image as PILImage

from configs import base
from pdn_jax import degradation
from train import build
from train.data import crops, mixture
from train.tools import prepare

CHANGE, STEPS = 3, 5
"""The step at which the size of the crops changes, and how many there are."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Photographs of 700 pixels, more than crops of either size are reduced to, and plain ones."""
    root = tmp_path_factory.mktemp("mixture")
    rng = np.random.default_rng(0)
    (root / "large" / "train").mkdir(parents=True)
    for index in range(3):
        small = PILImage.fromarray(rng.integers(60, 200, (70, 80, 3), dtype=np.uint8))
        small.resize((800, 700)).save(root / "large" / "train" / f"{index}.png")
    (root / "plain" / "train").mkdir(parents=True)
    for index in range(3):
        plain = PILImage.new("RGB", (150, 140), 3 * (40 * (1 + index),))
        plain.save(root / "plain" / "train" / f"{index}.png")
    for name in ("large", "plain"):
        where = ["--source", str(root / name), "--data-dir", str(root / "built")]
        prepare.run(["photos", *where, "--name", name])
    return root / "built"


def configured(directory, *, cache=0.0, workers=0, jpeg=0.0):
    """Crops of 64 pixels of photographs reduced to 213, then of 128 of such reduced to 427."""
    config = base.get_config()
    config.data.directory = str(directory)
    config.data.mixture = (("large", 1.0),)
    config.data.crop_size, config.data.final_size = 64, 128
    config.data.cache, config.data.workers = cache, workers
    config.data.jpeg = jpeg
    config.train.steps, config.train.batch_size, config.data.final_fraction = STEPS, 4, 0.4
    assert [stop for _, stop, *_ in mixture.shapes(config)] == [CHANGE, STEPS]
    return config


def batches(config, start):
    """Every batch from a step on, as a training that begins or goes on there reads them."""
    splits, weights = mixture.mixture(config)
    parts = mixture.parts(config, splits, weights)
    return list(mixture.stream(config, parts, start, degradation.camera(), None))


@pytest.fixture(scope="module")
def uninterrupted(directory):
    """All batches of a run that goes through, without a cache, by the part of JPEG."""
    return functools.cache(lambda jpeg: batches(configured(directory, jpeg=jpeg), 0))


@pytest.mark.parametrize(
    ("cache", "workers", "jpeg"),
    [
        (1.0, 0, 0.0),
        (0.0, 0, 0.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, 2, 0), (1, 2, 0.5))),
    ],
)
@pytest.mark.parametrize("start", [0, CHANGE - 1, CHANGE, CHANGE + 1])
def test_a_resumed_stream_is_the_uninterrupted_one(
    directory, uninterrupted, start, cache, workers, jpeg
):
    config = configured(directory, cache=float(cache), workers=workers, jpeg=float(jpeg))
    resumed, whole = batches(config, start), uninterrupted(float(jpeg))
    assert len(resumed) == len(whole) - start == STEPS - start
    for (one, places), (two, others) in zip(resumed, whole[start:], strict=True):
        np.testing.assert_array_equal(places, others)
        assert one.keys() == two.keys() == {"normal", *(["dark"] if jpeg else [])}
        chex.assert_trees_all_equal(one, two)


def test_photographs_are_reduced_for_either_size(directory):
    """Or the test above would see no difference between a shared cache and none."""
    config = configured(directory)
    (split,), _ = mixture.mixture(config)
    assert split.frame(0, 0).shape == (700, 800, 3)
    for size in (config.data.crop_size, config.data.final_size):
        reduced = crops.reduced(split.frame(0, 0), round(size / config.data.smallest_crop))
        assert min(reduced.shape[:2]) < 700


def test_batches_of_another_seed_or_step_are_others(directory, uninterrupted):
    config = configured(directory)
    config.seed = 1
    other, whole = batches(config, 0), uninterrupted(0.0)
    assert not np.array_equal(other[0][0]["normal"], whole[0][0]["normal"])
    assert not np.array_equal(whole[0][0]["normal"], whole[1][0]["normal"])


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("large", "expected \\(name, weight\\)"),
        (("large", 0.0), "expected above 0"),
        (("none", 1.0), "no data set 'none'"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(directory, entry, says):
    config = configured(directory)
    config.data.mixture = (entry,)
    with pytest.raises(build.InputError, match=says):
        mixture.mixture(config)


def test_names_say_what_a_batch_is_made_of(directory):
    """Photographs of one colour each: the crops tell which they are of."""
    config = configured(directory)
    config.data.mixture = (("large", 0.5), ("plain", 0.5))
    splits, weights = mixture.mixture(config)
    levels = {f"plain/train/{place}.png": 40 * (1 + place) for place in range(3)}
    parts = mixture.parts(config, splits, weights)
    seen = set()
    for step, part in ((0, parts[0]), (1, parts[0]), (CHANGE, parts[1])):
        names = mixture.names_at(splits, parts, step)
        crops_of = part.batches[step]["normal"]
        assert len(names) == len(crops_of) == part.size
        for name, crop in zip(names, crops_of, strict=True):
            assert (np.ptp(crop) == 0) == name.startswith("plain/")
            assert name not in levels or crop.min() == levels[name]
        seen |= set(names)
    assert len(seen & levels.keys()) == 3


def test_parts_that_share_a_cache_do_not_share_reduced_photographs(directory):
    """Each size has copies of its own, in whichever order batches are read."""
    splits, weights = mixture.mixture(configured(directory))
    cached = mixture.parts(configured(directory, cache=1.0), splits, weights)
    plain = mixture.parts(configured(directory), splits, weights)
    assert cached[0].cache is cached[1].cache
    for place, step in ((0, 0), (1, CHANGE), (0, 1), (1, CHANGE + 1)):
        one, two = (parts[place].batches[step]["normal"] for parts in (cached, plain))
        np.testing.assert_array_equal(one, two)
    assert cached[0].cache.used > 0
    assert plain[0].cache.used == 0
