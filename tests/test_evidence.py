"""Histograms of the whole, how bright they say it is to be, and the amount that makes it so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import enhancement, evidence
from pdn_jax import image as im
from pdn_jax.evidence import AMOUNTS, OWN, Histogram, Target, soft_histogram
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork

BINS = Histogram(0.0, 1.0, 5)
LOW = jax.random.uniform(jax.random.key(1), (2, 32, 40, 3))


@functools.cache
def network():
    """`tiny` with random parameters, and a head that does not say the same of everything."""
    module = ProgressiveDualNetwork(**VARIANTS["tiny"], evidence=True)
    params = jax.jit(module.init)(jax.random.key(0), LOW)
    head = params["params"]["enhancement"]["target"]["change"]
    head["kernel"] = jax.random.normal(jax.random.key(2), head["kernel"].shape)
    return module, params


def changing(params, bias: float):
    """The same parameters, with a target whose log-odds are so much more than the stages' own."""
    copy = jax.tree.map(jnp.asarray, params)
    head = copy["params"]["enhancement"]["target"]["change"]
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


def test_an_untrained_head_wants_what_the_stages_make():
    own = jnp.asarray([0.02, 0.5, 0.97])
    target, params = Target().init_with_output(jax.random.key(0), jnp.ones((3, 92)), own)
    np.testing.assert_allclose(target, own, rtol=1e-5)
    assert set(params["params"]) == {"first", "second", "change"}


def test_the_amount_by_hand():
    """Between two amounts the mean is a straight line; beyond the ends there is no more."""
    tried = jnp.asarray([[0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7]])
    for target, amount in ((0.0, 0), (0.1, 0), (0.25, 0.375), (0.5, 1), (0.575, 1.375), (0.9, 2)):
        found = evidence.amount_of(jnp.asarray([target]), tried, jnp.ones(1))
        np.testing.assert_allclose(found, amount, atol=1e-5)


def test_black_is_left_alone_and_one_bright_cell_is_not_black():
    black = jnp.zeros((1, 6, 8, 3))
    for image, there in (
        (black, 0.0),
        (black + 1.0 / 255.0, 0.0),
        (black + 2.0 / 255.0, 0.5),
        (black.at[0, 2, 3].set(0.1), 1.0),
    ):
        np.testing.assert_allclose(evidence.lit(image), there, atol=1e-5)
    mask = jnp.ones((1, 6, 8, 1)).at[0, 2, 3].set(0.0)
    np.testing.assert_allclose(evidence.lit(black.at[0, 2, 3].set(0.1), mask), 0.0)
    module, params = network()
    output = module.apply(changing(params, 3.0), jnp.zeros_like(LOW))
    np.testing.assert_allclose(output.restored, 0.0, atol=1.1 / 1020.0)


def test_means_are_those_of_what_is_brightened():
    """Of the cells that count, with the black level and the path that each amount leaves."""
    small, path = LOW[:, :5, :7], 2.0 * LOW[:, 5:10, :7]
    black = jnp.asarray([[0.05, 0.02, 0.0], [0.0, 0.1, 0.03]])
    tried = evidence.means(small, black, path)
    assert tried.shape == (2, len(AMOUNTS))
    for amount, mean in zip(AMOUNTS, np.asarray(tried).T, strict=True):
        start = enhancement.remove_black(small, amount * black)
        bright = np.minimum(im.expose_curve(start, amount * path), 1.0)
        np.testing.assert_allclose(mean, bright.mean((1, 2, 3)), rtol=1e-5)
    assert (np.diff(tried, axis=1) > 0).all()
    larger = [
        jnp.pad(x, ((0, 0), (0, 3), (0, 1), (0, 0)), constant_values=0.7) for x in (small, path)
    ]
    mask = jnp.zeros((2, 8, 8, 1)).at[:, :5, :7].set(1.0)
    np.testing.assert_allclose(evidence.means(larger[0], black, larger[1], mask), tried, rtol=1e-5)


def test_the_brightened_photograph_has_the_mean_that_is_wanted():
    """On the 1/8 grid, to what straight lines between amounts leave."""
    _, params = network()
    stages, dark = enhancement.Enhancement(16, 4, "both", True), 0.2 * LOW
    for bias in (-0.3, 0.0, 0.3):
        own = changing(params, bias)["params"]["enhancement"]
        small, texture = enhancement.observe(dark)
        estimate = stages.apply({"params": own}, small, texture, method="on_grid")
        start = enhancement.remove_black(small, estimate.black)
        bright = np.minimum(im.expose_curve(start, sum(estimate.increments)), 1.0)
        without = enhancement.Enhancement(16, 4).apply({"params": own}, dark)
        tried = evidence.means(small, without.black, sum(without.increments))
        wanted = jax.nn.sigmoid(evidence.log_odds(tried[:, OWN]) + bias)
        within = np.clip(wanted, tried[:, 0], tried[:, -1])
        np.testing.assert_allclose(bright.mean((1, 2, 3)), within, atol=5e-3)


def test_a_target_of_nothing_leaves_the_photograph_as_it_is():
    module, params = network()
    output = jax.jit(module.apply)(changing(params, -60.0), LOW)
    for image in (output.restored, *output.enhanced):
        np.testing.assert_allclose(image, LOW, atol=1.1 / 1020.0)  # the curve's floor
    np.testing.assert_allclose(output.exposure, 1.0, rtol=1e-6)


def test_more_is_brighter():
    module, params = network()
    apply = jax.jit(module.apply)
    outputs = [apply(changing(params, bias), LOW) for bias in (-0.4, -0.2, 0.0, 0.2)]
    paths = [float(output.path.mean()) for output in outputs]
    assert paths == sorted(paths)
    assert paths[0] > 0.0


def test_gradients_reach_the_head_and_are_finite():
    module, params = network()
    for low in (LOW, jnp.zeros_like(LOW), jnp.ones_like(LOW)):
        slope = jax.jit(jax.grad(lambda p, low: module.apply(p, low).restored.mean()))(params, low)
        head = slope["params"]["enhancement"]["target"]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
        reached = float(jnp.abs(head["change"]["bias"]).max()) > 0.0
        assert reached == (low is LOW)  # black and white have nowhere to go
