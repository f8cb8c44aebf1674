"""The interval of a paired difference over seeds and scenes."""

import numpy as np
import pytest
from scipy import stats

from train.tools import comparison


@pytest.mark.parametrize(
    ("seed", "scene", "rest", "count"),
    [(1.0, 0.0, 0.3, 10), (1.0, 1.0, 1.0, 52), (1.0, 3.0, 1.0, 52), (0.3, 1.0, 1.0, 52)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(seed, scene, rest, count):
    """Three seeds, scenes of one to three frames, no effect: 0 is inside in 95 of 100 draws."""
    rng, draws, inside = np.random.default_rng(0), 400, 0
    scenes = np.arange(count) % 19
    for _ in range(draws):
        by_scene = scene * rng.normal(size=19)[scenes]
        apart = seed * rng.normal(size=(3, 1)) + by_scene + rest * rng.normal(size=(3, count))
        found = comparison.difference(apart, np.zeros_like(apart), scenes)
        inside += found.low <= 0.0 <= found.high
    assert 0.90 <= inside / draws <= 0.985


def test_one_seed_leaves_the_interval_of_the_scenes():
    """Student's t over scenes; frames of one scene count once when they agree."""
    apart, scenes = np.random.default_rng(0).normal(0.5, 1.0, 12), np.arange(12)
    found = comparison.difference(apart[None], np.zeros((1, 12)), scenes)
    low, high = stats.t.interval(0.95, 11, apart.mean(), apart.std(ddof=1) / 12**0.5)
    np.testing.assert_allclose(found, (apart.mean(), low, high))
    twice = comparison.difference(np.tile(apart, 2)[None], np.zeros((1, 24)), np.tile(scenes, 2))
    np.testing.assert_allclose(twice, found)
    assert comparison.difference(apart[None], apart[None], scenes) == (0.0, 0.0, 0.0)
