"""Programs for photographs of ever new sizes: as many are kept as is said, and no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import compiled
from pdn_jax.compiled import Compiled
from pdn_jax.weights import load
from train import evaluate


@pytest.fixture(autouse=True)
def four(monkeypatch):
    monkeypatch.setattr(compiled, "PROGRAMS", 4)


def test_programs_are_bounded_and_answers_stay_right():
    total = Compiled(lambda image, factor: image.sum() * factor)
    for size in [*range(1, 12), 1, 11]:
        assert total(jnp.ones(size), 2.0) == 2 * size
        assert total.compiled._cache_size() <= 4


def test_a_shape_is_compiled_once_whatever_the_values():
    times = []
    total = Compiled(lambda image, factor: times.append(1) or image.sum() * factor)
    for factor in np.linspace(0, 1, 9):
        for size in range(1, 5):
            total(jnp.ones(size), float(factor))
    assert len(times) == 4


def test_static_arguments_count_by_value():
    head = Compiled(lambda image, size: image[: size[0]], static_argnums=1)
    for size in range(1, 12):
        assert head(jnp.ones(20), (size,)).shape == (size,)
        assert head.compiled._cache_size() <= 4


def test_a_folder_of_many_sizes_keeps_few_programs():
    """What scoring leaves behind."""
    jax.clear_caches()  # of what other tests have scored in this process
    for rows in range(16, 80, 8):
        photo = np.full((rows, 24, 3), 0.1, np.float32)
        pairs = [("", photo, photo)]
        for scores in evaluate.comparison(load("tiny"), pairs).values():
            assert np.isfinite(scores.values[:, 1]).all()
        for method in (evaluate._score, evaluate.BASELINES["equalised"]):
            assert 0 < method.compiled._cache_size() <= 4
