"""The training loop: what is due when, what a stop leaves, what is refused; two trainings of seconds."""

import csv
import math

import jax.numpy as jnp
import pytest
from rich.console import Console
from test_survive import NETWORK

from configs import debug
from pdn_jax import weights
from train import loop
from train.preemption import Preemption, Stopped


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (1, (False, False, False)),
        (2, (True, False, False)),
        (3, (False, True, False)),
        (5, (False, False, True)),
        (6, (True, True, False)),
        (7, (False, False, True)),
        (11, (True, True, True)),
    ],
)
def test_what_is_due(step, wanted):
    """Each in its own rhythm, and everything at the last step."""
    config = debug.get_config()
    config.log.every, config.eval.every, config.checkpoint.every = 2, 3, 5
    config.checkpoint.keep_every, config.train.steps = 7, 11
    assert loop.due(config, step) == wanted


class Checkpoints:
    def last_good(self, step):
        return f"runs/1/checkpoints/{step - 2}"


def test_numbers_that_are_not_finite_end_the_run(monkeypatch):
    monkeypatch.setattr(loop.mixture, "names_at", lambda splits, parts, step: [f"a {step}", "b"])
    values = {"loss": jnp.asarray(1.5), "negative": jnp.asarray(2.0)}
    assert loop.check_finite(7, values, ((), ()), Checkpoints()) == {"loss": 1.5, "negative": 2.0}
    values |= {"negative": jnp.asarray(math.inf)}
    said = "step 7 is not finite: negative inf; its batch: a 6, b; last good .*/5; resume with"
    with pytest.raises(loop.Diverged, match=said):
        loop.check_finite(7, values, ((), ()), Checkpoints())
    with pytest.raises(loop.Diverged, match=r"checkpoints/5; log at x\.py:3"):
        loop.check_finite(7, values, ((), ()), Checkpoints(), lambda: "log at x.py:3")


def broken():
    yield 1
    yield 2
    raise OSError("a reader died")


def test_readers_that_a_signal_ended_end_the_batches_alone():
    preemption = Preemption(Console(quiet=True))
    with pytest.raises(OSError, match="died"):
        list(loop.until_stopped(broken(), preemption))
    preemption.heard = "SIGINT"
    assert list(loop.until_stopped(broken(), preemption)) == [1, 2]
    assert list(loop.until_stopped(iter("abc"), preemption)) == ["a", "b", "c"]


def smallest(run_dir):
    config = debug.get_config()
    config.update_from_flattened_dict(
        {
            **{"run_dir": str(run_dir), "resume": True, "model.change": NETWORK},
            **{"data.crop_size": 32, "train.batch_size": 2, "parallel.strategy": "single"},
            **{"train.steps": 2, "log.every": 1, "log.images": False},
            **{"eval.every": 100, "eval.max_pairs": 1, "eval.draws": 1, "checkpoint.every": 100},
            # What compiles soonest
            **{"loss.balance": "positive_only", "loss.structure": 0.0, "loss.stages": 0.0},
        }
    )
    return config


def test_a_run_that_is_stopped_goes_on(tmp_path):
    """Asked to stop as it starts: after its first step, with a checkpoint; then on to the end."""
    config, preemption = smallest(tmp_path / "run"), Preemption(Console(quiet=True))
    preemption.ask("a test")
    with pytest.raises(Stopped, match="a test: stopped after step 1 of 2, with a checkpoint"):
        loop.train(config, preemption)
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"1"}
    assert loop.train(config) == tmp_path / "run"
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"1", "2"}
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert [bool(row["eval/psnr"]) for row in rows] == [False, True]
    assert weights.load(tmp_path / "run").metadata["steps"] == "2"
