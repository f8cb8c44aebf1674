"""Histograms of the whole, and how much of the enhancement they say is wanted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import evidence
from pdn_jax.evidence import Amount, Histogram, soft_histogram
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork

BINS = Histogram(0.0, 1.0, 5)
LOW = jax.random.uniform(jax.random.key(1), (2, 32, 40, 3))


@functools.cache
def network():
    """`tiny` with random parameters, and a head that does not say the same of everything."""
    module = ProgressiveDualNetwork(**VARIANTS["tiny"], evidence=True)
    params = jax.jit(module.init)(jax.random.key(0), LOW)
    head = params["params"]["enhancement"]["amount"]["decision"]
    head["kernel"] = jax.random.normal(jax.random.key(2), head["kernel"].shape)
    return module, params


def deciding(params, bias: float):
    """The same parameters, with an amount of 2σ(bias) whatever is seen."""
    copy = jax.tree.map(jnp.asarray, params)
    head = copy["params"]["enhancement"]["amount"]["decision"]
    head["kernel"], head["bias"] = jnp.zeros_like(head["kernel"]), jnp.full((1,), bias)
    return copy


def test_soft_histogram_by_hand():
    values = jnp.asarray([[[0.0, 0.125], [0.5, 7.0]]])  # of two bins half each; beyond the end
    expected = [1.5 / 4, 0.5 / 4, 1 / 4, 0.0, 1 / 4]
    np.testing.assert_allclose(soft_histogram(values, BINS)[0], expected, atol=1e-7)


@pytest.mark.parametrize("bins", [BINS, evidence.STOPS, evidence.TEXTURE, evidence.RELATIVE])
def test_soft_histogram_counts_every_cell_once(bins):
    values = jax.random.uniform(jax.random.key(0), (3, 5, 7), minval=-2.0, maxval=2.0)
    np.testing.assert_allclose(soft_histogram(values, bins).sum(-1), 1.0, rtol=1e-5)


def test_evidence_looks_at_cells_that_count_alone():
    small, texture = LOW, 0.1 * LOW
    mask = jnp.zeros((2, 32, 40, 1)).at[:, :20, :30].set(1.0)
    cut = evidence.evidence(small[:, :20, :30], texture[:, :20, :30])
    np.testing.assert_allclose(evidence.evidence(small, texture, mask), cut, atol=1e-6)
    assert cut.shape == (2, 92)


def test_evidence_tells_dim_from_dark_from_white():
    """Mean and maximum alone would be those of a grey one for a half white, half black photograph."""
    halves = jnp.concatenate([jnp.zeros((1, 8, 4, 3)), jnp.ones((1, 8, 4, 3))], axis=2)
    grey = jnp.full((1, 8, 8, 3), 0.5)
    seen = [np.asarray(evidence.evidence(x, 0.0 * x)[0, :32]) for x in (halves, grey)]
    np.testing.assert_allclose(seen[0][[0, -1]], 0.5, atol=0.05)
    assert seen[1].max() > 0.5
    assert seen[1][[0, -1]].max() < 1e-6


def test_an_untrained_head_wants_all_of_it():
    amount, params = Amount().init_with_output(jax.random.key(0), jnp.ones((3, 92)))
    np.testing.assert_allclose(amount, 1.0)
    assert set(params["params"]) == {"first", "second", "decision"}


def test_an_amount_of_nothing_leaves_the_photograph_as_it_is():
    module, params = network()
    output = jax.jit(module.apply)(deciding(params, -60.0), LOW)
    for image in (output.restored, *output.enhanced):
        np.testing.assert_allclose(image, LOW, atol=1.1 / 1020.0)  # the curve's floor
    np.testing.assert_allclose(output.exposure, 1.0, rtol=1e-6)


def test_more_is_brighter():
    module, params = network()
    apply = jax.jit(module.apply)
    outputs = [apply(deciding(params, bias), LOW) for bias in (-2.0, -1.0, 0.0, 1.0)]
    paths = [float(output.path.mean()) for output in outputs]
    assert paths == sorted(paths)
    assert paths[0] > 0.0
    share = [1.0 / (1.0 + np.exp(-bias)) for bias in (-2.0, 0.0)]
    increments = [-np.log(np.asarray(output.exposure)) for output in outputs]
    # ln of the mean path grows as the amount does, but for the enlargement of a curved exponent
    np.testing.assert_allclose(increments[0] / increments[2], share[0] / share[1], rtol=0.2)


def test_gradients_reach_the_head_and_are_finite():
    module, params = network()
    for low in (LOW, jnp.zeros_like(LOW), jnp.ones_like(LOW)):
        slope = jax.jit(jax.grad(lambda p, low: module.apply(p, low).restored.mean()))(params, low)
        head = slope["params"]["enhancement"]["amount"]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
        assert float(jnp.abs(head["decision"]["bias"]).max()) > 0.0 or not low.any()
