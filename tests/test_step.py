"""The train step: one device and four agree, accumulation adds up, it compiles once, it learns."""

import contextlib
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from pdn_jax import degradation
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.types import InputError
from train import build, parallel
from train.data import synthesis
from train.step import EXPOSURE_EDGES, exposure_counts, init_state, make_train_step

CAMERA = degradation.camera()
NETWORK = ProgressiveDualNetwork(stages=2, width=8, widths=(8, 8), depths=(1, 1), blocks=(2, 2))


def parts(**loss):
    config = base.get_config()
    config.data.crop_size = 32
    config.loss.ramp = 7 / 40
    config.loss.update(loss)
    config.train.update(steps=40, warmup=0.1, final_rate=0.1, weight_decay=1e-2)
    return config


def crops(step, size=8):
    rng = np.random.default_rng(step)
    low = rng.integers(60, 200, (size, 4, 4, 3))
    return {"normal": np.kron(low, np.ones((1, 8, 8, 1))).astype(np.uint8)}


class Run(NamedTuple):
    """A short run: scalars, exposures and state after every step, traces of the network, compilations
    after step 1."""

    logs: list
    exposures: list
    states: list
    traces: int
    late_compilations: int


@contextlib.contextmanager
def optimised(wanted):
    """At the level of `conftest.py`: 20 steps are compared to a rounding that plain loops do not have."""
    asked = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", asked and not wanted)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", asked)


COMPILATIONS = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILATIONS.append(name) if "backend_compile" in name else None
)


@functools.cache
def train(strategy, devices, *, steps, accumulate=1, balance="gradient_ratio"):
    """A run of a small network under a strategy; that of the usual balance is compared to others."""
    with optimised(balance == "gradient_ratio"):
        return trained(strategy, devices, steps, accumulate, balance)


def trained(strategy, devices, steps, accumulate, balance, size=8):
    config = parts(balance=balance)
    loss = build.loss(config, CAMERA)
    optimizer = build.optimizer(config)
    traces = []

    def apply(params, low):
        traces.append(low.shape)
        return NETWORK.apply(params, low)

    def make_step(axis_name):
        return make_train_step(
            build.keys(config)["batches"],
            apply=apply,
            loss=loss,
            optimizer=optimizer,
            synthesise=build.synthesiser(config, CAMERA),
            ema_decay=0.9,
            accumulate=accumulate,
            axis_name=axis_name,
        )

    mapped = parallel.STRATEGIES[strategy](make_step, jax.local_devices()[:devices])
    state = mapped.replicate(init_state(build.initial_params(config, NETWORK), optimizer, loss))
    logs, exposures, states = [], [], [jax.tree.map(np.array, mapped.collect(state))]
    early = 0
    for step in range(steps):
        early = len(COMPILATIONS) if step == 1 else early
        state, log = mapped.step(state, *mapped.shard((crops(step, size), np.arange(size))))
        log = mapped.collect(log)
        logs.append(jax.tree.map(float, log.scalars))
        exposures.append(np.asarray(log.exposures))
        states.append(jax.tree.map(np.array, mapped.collect(state)))
    return Run(logs, exposures, states, len(traces), len(COMPILATIONS) - early)


def alone():
    return train("single", 1, steps=20)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["pmap", "shard_map"])
def test_four_devices_agree_with_one(strategy):
    """Loss, balance (measured over the global batch), weights and their average, for 20 steps."""
    assert len(jax.local_devices()) >= 4
    four, one = train(strategy, 4, steps=20), alone()
    for ours, theirs in zip(four.logs, one.logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-4)
        for name in ("balance/weight", "balance/ratio", "balance/cosine"):
            assert ours[name] == pytest.approx(theirs[name], rel=5e-3, abs=1e-6)
    chex.assert_trees_all_close(four.states[-1].params, one.states[-1].params, atol=1e-4)
    chex.assert_trees_all_close(four.states[-1].average, one.states[-1].average, atol=1e-4)
    assert one.states[-1].balance.average > 0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["pmap", "shard_map"])
def test_micro_batches_agree_with_the_whole(strategy):
    """On four devices, each of which sees one crop at a time, for 20 steps."""
    parts, one = train(strategy, 4, steps=20, accumulate=2), alone()
    for ours, theirs in zip(parts.logs, one.logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-4)
        assert ours["negative"] == pytest.approx(theirs["negative"], rel=1e-3)
        assert ours["balance/weight"] == pytest.approx(theirs["balance/weight"], rel=5e-3, abs=1e-6)
    chex.assert_trees_all_close(parts.states[-1].params, one.states[-1].params, atol=1e-4)
    assert int(parts.states[-1].step) == 20


@pytest.mark.slow
def test_estimated_exposures_are_counted_over_the_global_batch():
    """As NumPy counts those of the network, by then of several kinds; over devices and micro-batches
    alike."""
    step = 18
    low = jax.jit(build.synthesiser(parts(), CAMERA))(
        synthesis.image_keys(build.keys(parts())["batches"], step, jnp.arange(8)), crops(step)
    ).low
    estimates = np.log(jax.jit(NETWORK.apply)(alone().states[step].params, low).exposure)
    wanted, _ = np.histogram(estimates, EXPOSURE_EDGES)
    assert np.count_nonzero(wanted) > 1
    several = train("pmap", 4, steps=20, accumulate=2), train("shard_map", 4, steps=20)
    for run in (alone(), *several):
        np.testing.assert_array_equal(run.exposures[step], wanted)
        assert [counts.sum() for counts in run.exposures] == [8] * len(run.logs)


def test_exposures_are_in_their_bins():
    """Beside the edge between the first two; what is out of range is in the outer ones."""
    edge = EXPOSURE_EDGES[1]
    estimates = jnp.exp(jnp.asarray([-50.0, edge - 0.24, edge - 0.01, edge + 0.01, -0.01, 3.0]))
    counts = np.asarray(exposure_counts(estimates))
    assert (counts[0], counts[1], counts[-1], counts.sum()) == (3, 1, 2, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "devices"),
    [("single", 1), ("pmap", 4), ("shard_map", 4)],
)
def test_a_step_compiles_once(strategy, devices):
    """However many steps follow: the state comes back laid out as it went in."""
    run = train(strategy, devices, steps=20)
    assert run.traces == 1
    assert run.late_compilations == 0
    assert COMPILATIONS


@pytest.mark.slow
def test_training_lowers_the_loss():
    losses = [logs["loss"] for logs in train("single", 1, steps=60, balance="fixed").logs]
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["uncertainty", "positive_only"])
def test_every_balance_trains(balance):
    run = train("single", 1, steps=2, balance=balance)
    assert all(np.isfinite(value) for logs in run.logs for value in logs.values())
    assert int(run.states[-1].balance.steps) == 2


@pytest.mark.slow
def test_the_average_follows_the_weights():
    """With decay min(0.9, (1 + t) / (10 + t)): by hand over three steps."""
    states = alone().states
    average = states[0].params
    for step, later in enumerate(states[1:4]):
        decay = min(0.9, (1 + step) / (10 + step))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, later.params)
        chex.assert_trees_all_close(later.average, average, atol=1e-6)


def optimizer_of(**changes):
    """At a rate of 1 from its second update on; the first moves nothing."""
    config = parts()
    config.train.update(learning_rate=1.0, final_rate=1.0, steps=2, clip_norm=1.0, **changes)
    return build.optimizer(config)


@pytest.mark.slow
def test_decay_spares_biases():
    params = alone().states[0].params
    mask = build.kernels(params)
    for path, wanted in jax.tree.leaves_with_path(mask):
        assert wanted == (path[-1].key == "kernel")
    optimizer = optimizer_of(weight_decay=0.1)
    zero = jax.tree.map(jnp.zeros_like, params)
    ones = jax.tree.map(jnp.ones_like, params)
    update = jax.jit(optimizer.update)
    _, state = update(zero, optimizer.init(ones), ones)
    updates, _ = update(zero, state, ones)
    for path, leaf in jax.tree.leaves_with_path(updates):
        np.testing.assert_allclose(leaf, -0.1 if path[-1].key == "kernel" else 0.0, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    optimizer = optimizer_of(weight_decay=0.0)
    big = {"kernel": jnp.asarray([300.0, 400.0])}
    clipped, _ = optax.clip_by_global_norm(1.0).update(big, optax.EmptyState())
    np.testing.assert_allclose(clipped["kernel"], [0.6, 0.8], rtol=1e-5)
    _, state = optimizer.update(big, optimizer.init(big), big)
    moments = optax.tree_utils.tree_get(state, "mu")
    np.testing.assert_allclose(moments["kernel"], [0.06, 0.08], rtol=1e-5)


def test_schedule_warms_up_and_decays():
    config = parts()
    config.train.update(learning_rate=1.0, warmup=0.1, final_rate=0.01, steps=100)
    rate = build.rate(config)
    assert float(rate(0)) == 0
    assert float(rate(10)) == pytest.approx(1.0)
    assert float(rate(5)) == pytest.approx(0.5)
    assert float(rate(55)) == pytest.approx(0.5 * 1.01, rel=1e-3)
    assert float(rate(100)) == pytest.approx(0.01)


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_a_rate_may_rise_to_the_end(steps):
    config = parts()
    config.train.update(learning_rate=1.0, warmup=1.0, steps=steps)
    rises = [float(build.rate(config)(step)) for step in range(steps + 1)]
    np.testing.assert_allclose(rises, np.linspace(0, 1, steps + 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "devices", "batch", "accumulate", "said"),
    [
        ("pmap", 4, 6, 1, r"batch_size=6 .* 4 devices"),
        ("pmap", 2, 6, 2, r"batch_size=6 .* 2 devices times train.accumulate=2"),
        ("pmap", 99, 99, 1, r"devices is 99, but there are \d+"),
        ("pnap", 1, 1, 1, r"'pnap'; expected one of pmap, shard_map, single"),
    ],
)
def test_devices_that_do_not_fit_are_refused(strategy, devices, batch, accumulate, said):
    with pytest.raises(InputError, match=said):
        parallel.choose_devices(strategy, devices, batch, accumulate)


@pytest.mark.slow
def test_draws_do_not_depend_on_devices():
    config = parts()
    synthesise = jax.jit(build.synthesiser(config, CAMERA))
    root = jax.random.key(0)
    whole = synthesise(synthesis.image_keys(root, 3, jnp.arange(4)), crops(0, 4))
    part = synthesise(
        synthesis.image_keys(root, 3, jnp.arange(2, 4)), {"normal": crops(0, 4)["normal"][2:]}
    )
    np.testing.assert_allclose(whole.low[2:], part.low, atol=1e-6)
