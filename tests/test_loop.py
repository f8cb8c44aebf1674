"""The training loop: what is due when, what a stop leaves, what is refused; two trainings of seconds."""

import csv
import math

import jax.numpy as jnp
import numpy as np
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
            **{"train.steps": 3, "log.every": 1, "log.images": False},
            **{"eval.every": 100, "eval.max_pairs": 1, "checkpoint.every": 100},
        }
    )
    return config


def test_a_run_that_is_stopped_goes_on_as_if_it_was_not(tmp_path):
    """Asked to stop as it starts: after its first step, with a checkpoint; then on to the end."""
    preemption = Preemption(Console(quiet=True))
    preemption.ask("a test")
    with pytest.raises(Stopped, match="a test: stopped after step 1 of 3, with a checkpoint"):
        loop.train(smallest(tmp_path / "parts"), preemption)
    assert [path.name for path in (tmp_path / "parts/checkpoints").iterdir()] == ["1"]
    for name in ("parts", "whole"):
        assert loop.train(smallest(tmp_path / name)) == tmp_path / name
    rows = []
    for name in ("parts", "whole"):
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows.append([(row["step"], row["loss"]) for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    assert [step for step, _ in rows[0]] == ["1", "2", "3"]
    ours, theirs = (weights.load(tmp_path / name).params for name in ("parts", "whole"))
    np.testing.assert_equal(ours, theirs)
    one, other = ((tmp_path / n / "weights.safetensors").read_bytes() for n in ("parts", "whole"))
    assert one == other
