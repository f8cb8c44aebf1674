"""Signals: a step is finished, a checkpoint written, the exit code says that one can go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from test_survive import SMALLEST

from train.stopping import EXIT_CODE, Stopped, Stopping

ROOT = Path(__file__).parents[1]
QUIET = Console(quiet=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Stopping(QUIET) as stopping:
        assert not stopping.asked()
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while not stopping.asked() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stopping.reason == number.name
        with pytest.raises(Stopped):
            list(stopping.watched([1, 2]))
    assert signal.getsignal(number) is before


def test_nothing_is_asked_of_items_in_peace():
    with Stopping(QUIET) as stopping:
        assert list(stopping.watched([1, 2])) == [1, 2]


BUSY = """
import sys, time
from rich.console import Console
from train.stopping import Stopping
with Stopping(Console(), grace=0.5):
    print("ready", flush=True)
    {work}
"""


@pytest.mark.parametrize("signals", [1, 2])
def test_a_main_thread_that_never_comes_round_is_ended(signals):
    """It is in one long call, as in a compilation; after the grace, or at a second signal, the process is gone."""
    code = BUSY.format(work="time.sleep(1000)")
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "ready\n"
    begin = time.monotonic()
    for _ in range(signals):
        running.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == EXIT_CODE
    assert time.monotonic() - begin < 10
    assert "SIGTERM: finishing this step" in out
    assert ("not done in 0 s, ended" in out) == (signals == 1)


def training(run_dir):
    settings = {"run_dir": run_dir, "resume": "true", "train.steps": 100000, "log.every": 1}
    settings |= {"eval.every": 100000, "checkpoint.every": 100000, "log.images": "false"}
    options = [f"--config.{name}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "train.main", "--config", "configs/debug.py", *options, *SMALLEST]


def test_a_training_stops_with_a_checkpoint_and_goes_on(tmp_path):
    """SIGTERM once it runs, SIGINT to the one that goes on: each leaves a later checkpoint."""
    steps = [0]
    for number in (signal.SIGTERM, signal.SIGINT):
        running = subprocess.Popen(
            training(tmp_path / "run"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said = []
        for line in running.stdout:
            said.append(line)
            if line.startswith(f"step {steps[-1] + 2}/"):
                running.send_signal(number)
                begin = time.monotonic()
                break
        rest, _ = running.communicate(timeout=60)
        assert running.returncode == EXIT_CODE, "".join(said) + rest
        assert time.monotonic() - begin < 10
        assert f"pdn_jax: {number.name}: stopped after step" in rest
        assert "--config.resume=true" in rest
        found = [int(p.name) for p in (tmp_path / "run/checkpoints").iterdir() if p.name.isdigit()]
        steps.append(max(found))
        if len(steps) == 3:
            assert any(f"resumed at step {steps[1]}" in line for line in said)
    assert steps[0] < steps[1] < steps[2]
