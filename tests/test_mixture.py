"""The mixture of data sets: a batch is a function of (seed, step), whatever cache, workers, resumption."""

import numpy as np
import pytest
from PIL import Image as PILImage

from configs import base
from pdn_jax import degradation
from train import build
from train.data import crops, mixture
from train.tools import prepare

CHANGE = 6
"""The step at which the size of the crops changes."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Photographs of 700 pixels a side, more than crops of either size are reduced to."""
    root = tmp_path_factory.mktemp("mixture")
    rng = np.random.default_rng(0)
    (root / "large" / "train").mkdir(parents=True)
    for index in range(3):
        small = PILImage.fromarray(rng.integers(60, 200, (70, 80, 3), dtype=np.uint8))
        small.resize((800, 700)).save(root / "large" / "train" / f"{index}.png")
    where = ["--source", str(root / "large"), "--data-dir", str(root / "built")]
    prepare.run(["photos", *where, "--name", "large"])
    return root / "built"


def configured(directory, *, cache, workers):
    """Crops of 64 pixels of photographs reduced to 213, then of 128 of such reduced to 427."""
    config = base.get_config()
    config.data.directory = str(directory)
    config.data.mixture = (("large", 1.0),)
    config.data.crop_size, config.data.final_size = 64, 128
    config.data.cache, config.data.workers = cache, workers
    config.data.jpeg = 0.5
    config.train.steps, config.train.batch_size = 8, 4
    assert [stop for _, stop, *_ in mixture.shapes(config)] == [CHANGE, 8]
    return config


def batches(config, start):
    """Every batch from a step on, as a training that begins or goes on there reads them."""
    splits, weights = mixture.mixture(config)
    parts = mixture.parts(config, splits, weights)
    return list(mixture.stream(config, parts, start, degradation.camera(), None))


@pytest.fixture(scope="module")
def uninterrupted(directory):
    return batches(configured(directory, cache=0.0, workers=0), 0)


@pytest.mark.parametrize(
    ("cache", "workers"),
    [(0.0, 0), (1.0, 0), *(pytest.param(c, 2, marks=pytest.mark.slow) for c in (0.0, 1.0))],
)
@pytest.mark.parametrize("start", [0, CHANGE - 1, CHANGE, CHANGE + 1])
def test_a_resumed_stream_is_the_uninterrupted_one(directory, uninterrupted, start, cache, workers):
    resumed = batches(configured(directory, cache=cache, workers=workers), start)
    assert len(resumed) == len(uninterrupted) - start
    for (one, places), (two, others) in zip(resumed, uninterrupted[start:], strict=True):
        np.testing.assert_array_equal(places, others)
        assert one.keys() == two.keys() == {"normal", "compressed"}
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_photographs_are_reduced_for_either_size(directory):
    """Or the test above would see no difference between a shared cache and none."""
    config = configured(directory, cache=0.0, workers=0)
    (split,), _ = mixture.mixture(config)
    assert split.frame(0, 0).shape == (700, 800, 3)
    for size in (config.data.crop_size, config.data.final_size):
        reduced = crops.reduced(split.frame(0, 0), round(size / config.data.smallest_crop))
        assert min(reduced.shape[:2]) < 700


def test_batches_of_another_seed_or_step_are_others(directory, uninterrupted):
    config = configured(directory, cache=0.0, workers=0)
    config.seed = 1
    other = batches(config, 0)
    assert not np.array_equal(other[0][0]["normal"], uninterrupted[0][0]["normal"])
    assert not np.array_equal(uninterrupted[0][0]["normal"], uninterrupted[1][0]["normal"])


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("large", "expected \\(name, weight\\)"),
        (("large", 0.0), "expected above 0"),
        (("none", 1.0), "no data set 'none'"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(directory, entry, says):
    config = configured(directory, cache=0.0, workers=0)
    config.data.mixture = (entry,)
    with pytest.raises(build.InputError, match=says):
        mixture.mixture(config)


def test_the_choice_of_wide_draws_is_independent_of_what_is_drawn(tmp_path):
    """At wide = 0.5 the red gain of wide draws is as often below 1 as above."""
    import jax
    import jax.numpy as jnp

    from train.data import calibrated_camera

    theta = degradation.neutral_physics(jnp.asarray(0.01)).replace(
        gains=jnp.full(3, 1.0), shot_noise=jnp.asarray(1e-4), read_noise=jnp.asarray(1e-6)
    )
    estimates = [calibrated_camera.Fit(f"pairs/train/{i}", theta, {}) for i in range(2)]
    path = tmp_path / "camera.json"
    calibrated_camera.save(path, estimates, data=["pairs"], split="train", window=0)
    config = base.get_config()
    config.data.physics, config.data.wide = str(path), 0.5
    sample = build.physics_sampler(config)
    normal = jnp.full((16, 16, 3), 0.5)
    keys = jax.random.split(jax.random.key(3), 4000)
    drawn = jax.jit(jax.vmap(lambda key: sample(key, normal)))(keys)
    log_red = np.log(np.asarray(drawn.gains[:, 0]))
    wide = np.abs(np.log(np.asarray(drawn.exposure) / 0.01)) > 1e-3
    assert wide.mean() == pytest.approx(0.5, abs=0.04)
    assert (log_red[wide] < 0).mean() == pytest.approx(0.5, abs=0.05)
    assert log_red[wide].mean() == pytest.approx(0.0, abs=0.01)
