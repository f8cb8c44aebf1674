"""The training benchmark: its tables at the smallest settings, and PyTorch's loop against ours."""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import timing, train_parts
from benchmarks import train as training
from pdn_jax import degradation
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError
from train import build
from train.step import rematerialised

SMALLEST = {"stages": 2, "width": 8, "widths": (8, 8), "depths": (1, 1), "blocks": (2, 2)}


@pytest.fixture
def smallest(monkeypatch):
    """A small network for `tiny`; a terminal that wraps nothing."""
    monkeypatch.setitem(VARIANTS, "tiny", SMALLEST)
    monkeypatch.setenv("COLUMNS", "200")


@functools.cache
def parameters():
    """Weights of no special form of the smallest network."""
    shapes = jax.eval_shape(
        ProgressiveDualNetwork(**SMALLEST).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    )
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(0.0, 0.15, x.shape), x.dtype), shapes)


def setting(balance="positive_only", side=24, count=3):
    """A small network, and crops of noise."""
    config = training.configured("tiny", count, None, balance)
    params = parameters()
    crops = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    return train_parts.Setting(config, params, {"normal": crops})


def rows(text):
    """First cell -> the other cells, of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {name: values for name, *values in cells}


@pytest.mark.slow
@pytest.mark.usefixtures("smallest")
def test_every_table_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(train_parts.importlib.util, "find_spec", lambda name: None)
    training.main(
        [
            "--variant",
            "tiny",
            "--batch",
            "4",
            "--crop",
            "32",
            "--steps",
            "2",
            "--rounds",
            "1",
            "--repeats",
            "1",
        ]
    )
    text = capsys.readouterr().out
    assert 'pip install -e ".[compare]"' in text
    table = rows(text)
    expected = "photographs,one batch repeated,ratio,gradient_ratio,positive_only,forward,backward,"
    expected += "loss: restored,loss: structure,loss: stages,loss: levels,loss: noise,"
    expected += (
        "loss: negative,loss: gradient statistics,optimiser,sum of the parts,whole step,stored"
    )
    assert set(expected.split(",")) <= set(table)
    assert float(table["whole step"][2]) > 0
    assert float(table["photographs"][1]) == pytest.approx(
        4 * float(table["photographs"][0]), abs=0.1
    )


def test_numbers_follow_from_the_times():
    def cells(table, column):
        return list(table.columns[column].cells)

    table = training.speed_table({"a": 1.5, "b": 2.0}, 8, 10**9)
    assert cells(table, 1) == ["1.500", "2.000", "0.750"]
    assert cells(table, 2)[:2] == ["12.00", "16.00"]
    assert cells(table, 3)[:2] == ["3.0", "4.0"]
    times = {"a": timing.Timing((0.3, 0.5, 0.7)), "b": timing.Timing((0.2, 0.4, 0.8))}
    table = training.ratio_table("", times)
    assert (cells(table, 1)[-1], cells(table, 2)[-1]) == ("1.500", "1.250")
    names = {"whole step": 0.2, "forward": 0.04, "forward and backward": 0.1, "optimiser": 0.05}
    table = training.parts_table(
        "",
        {name: timing.Timing((value,)) for name, value in names.items()},
        {"whole step": 10**9, "forward": 3 * 10**8, "backward": 6 * 10**8},
    )
    assert cells(table, 0) == ["forward", "backward", "optimiser", "sum of the parts", "whole step"]
    assert cells(table, 1) == ["40.00", "60.00", "50.00", "150.00", "200.00"]
    assert cells(table, 3) == ["15.0", "20.0", "", "", "10.0"]


@pytest.mark.slow
@pytest.mark.usefixtures("smallest")
def test_reverse_takes_about_twice_the_products_of_the_network():
    forward, backward = train_parts.network_macs(setting())
    assert forward > 0
    assert 1.5 * forward < backward < 2.1 * forward


def test_a_crop_that_no_network_takes_is_refused():
    with pytest.raises(InputError, match="crop_size is 8"):
        training.main(["--crop", "8"])


@pytest.mark.slow
@pytest.mark.usefixtures("smallest")
@pytest.mark.parametrize(("crops", "side"), [(1, 27), (2, 24), (4, 21)])
def test_rematerialisation_changes_no_gradient(crops, side):
    ours = setting("gradient_ratio", side)
    score, loss = ours.score()
    batch = ours.batch()
    apply = rematerialised(build.network(ours.config).apply, crops)

    def again(params, batch):
        return loss.measure(apply(params, batch.low), batch, loss.init())

    def gradient(score):
        return jax.jit(jax.value_and_grad(score, has_aux=True))(ours.params, batch)

    ((plain, _), wanted), ((found, _), slopes) = gradient(score), gradient(again)
    np.testing.assert_allclose(found, plain, rtol=1e-5)
    norm = float(optax.tree.norm(wanted))
    for mine, theirs in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5 * norm)


@pytest.mark.slow
def test_rematerialisation_saves_memory(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", SMALLEST)
    results = train_parts.rematerialisation(setting(side=64, count=8), 1, 1)
    (stored, _), (recomputed, _) = results.values()
    assert 0 < recomputed < 0.8 * stored


@pytest.mark.slow
@pytest.mark.usefixtures("smallest")
@pytest.mark.parametrize("side", [24, 29])
def test_torch_has_the_same_loss_and_gradient(side):
    pytest.importorskip("torch")
    times = train_parts.against_torch(setting(side=side), 1, 1)
    assert list(times) == ["pdn_jax", "PyTorch"]
    assert all(found.minimum > 0 for found in times.values())


@pytest.mark.slow
@pytest.mark.usefixtures("smallest")
def test_the_terms_add_up_to_the_loss():
    ours = setting("gradient_ratio")
    batch, degrade = ours.batch(), degradation.camera()
    output = jax.jit(build.network(ours.config).apply)(ours.params, batch.low)
    parts = {
        name: float(jax.jit(term)(output, batch))
        for name, term in train_parts.loss_terms(ours.config, degrade).items()
    }
    loss = build.loss(ours.config, degrade)
    _, (terms, _) = jax.jit(loss.measure)(output, batch, loss.init())
    assert parts == pytest.approx({name: float(terms[name]) for name in parts}, rel=1e-4)


def test_logs_are_read_one_step_late(monkeypatch):
    """As the training loop does: the logs of a step are read once the next one is under way."""
    events = []
    monkeypatch.setattr(training, "read", lambda logs: events.append(f"read {logs}"))
    mapped = argparse.Namespace(collect=lambda logs: logs)

    def step(batch):
        events.append(f"step {batch}")
        return batch

    assert training.seconds_of(step, mapped, iter(np.arange(9)), 3) >= 0
    assert events == ["step 0", "step 1", "read 0", "step 2", "read 1", "read 2"]
