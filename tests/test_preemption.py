"""Signals: a step is finished, a checkpoint written, the exit code says that one can go on."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from test_survive import SMALLEST
from train.ending import EXIT_CODE

from train import ending
from train.preemption import AGAIN, Stopped, Stopping, native_handler

ROOT = Path(__file__).parents[1]
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def not_under_nohup():
    """SIGHUP as it is by itself, also for the processes that a test starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_asks_and_handlers_come_back(number, monkeypatch):
    monkeypatch.setattr(ending, "hung_up", lambda: None)  # this terminal is there
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
with Stopping(Console(), ends=True, grace={grace}) as stopping:
    {begin}
    print("ready", flush=True)
    {work}
"""


@pytest.mark.parametrize(
    ("begin", "grace", "apart", "said"),
    [
        ("stopping.begin(Console())", 0.5, [], "SIGTERM: not done in 0 s, ended"),
        ("stopping.begin(Console())", 2, [0, 0.001], "SIGTERM: not done in 2 s, ended"),
        ("stopping.begin(Console())", 30, [AGAIN + 0.2], "SIGTERM again: ended at once"),
        ("", 30, [], "SIGTERM: ended before the first step"),
    ],
)
def test_a_main_thread_that_never_comes_round_is_ended(begin, grace, apart, said):
    """It is in one long call, as in a compilation; after the grace, or at one more signal, or where
    nothing has begun, the process is gone. `timeout` sends the same signal twice at once."""
    code = BUSY.format(begin=begin, grace=grace, work="time.sleep(1000)")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert running.stdout.readline() == "ready\n"
    sent = time.monotonic()
    for pause in [0, *apart]:
        time.sleep(pause)
        running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=30)
    assert running.returncode == EXIT_CODE
    assert time.monotonic() - sent < 10
    assert ("SIGTERM: stopping, with a checkpoint" in out) == bool(begin)
    assert f"pdn_jax: {said}" in err
    assert "--config.resume=true" in err


TALK = """
while True:
        stopping.console.print("x" * 1000)
"""


@pytest.mark.parametrize(("grace", "times"), [(1, 1), (60, 2)])
def test_a_main_thread_that_cannot_print_is_ended(grace, times):
    """A terminal on Ctrl-S, or a pipe that nobody empties: neither is waited for, in either stream;
    at one signal after the grace, at two before."""
    code = BUSY.format(begin="stopping.begin(stopping.console)", grace=grace, work=TALK.strip())
    read, write = os.pipe()
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=write)
    try:
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(read, 1)
        time.sleep(1.0)  # 64 KiB are full by then
        for _ in range(times):
            running.send_signal(signal.SIGTERM)
            time.sleep(AGAIN + 0.2)
        assert running.wait(20) == EXIT_CODE
    finally:
        running.kill()
        running.wait()
        os.close(read)
        os.close(write)


HUNG_UP = """
while not stopping.asked():
        time.sleep(0.01)
    print("to nobody", flush=True)
    print("to nobody", file=sys.stderr, flush=True)
    raise SystemExit(7)
"""


def test_a_terminal_that_is_gone_can_be_printed_to(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    code = BUSY.format(begin="stopping.begin(Console())", grace=60, work=HUNG_UP.strip())
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", code]
    running = subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=theirs)
    try:
        os.close(theirs)
        assert b"ready" in os.read(ours, 100)
        os.close(ours)
        running.send_signal(signal.SIGHUP)
        assert running.wait(20) == 7
    finally:
        running.kill()
        running.wait()


def test_what_nohup_has_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping(QUIET) as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            assert not stopping.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_the_program_is_loaded_has_its_exit_code(tmp_path, number):
    """Before anything heavy is imported: told by the modules that Python says it imports."""
    command = [sys.executable, "-v", *training(tmp_path / "run")[1:]]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(120, running.kill)
    limit.start()
    try:
        for line in running.stderr:
            if line.startswith("import 'train.ending'"):
                break
        for line in running.stderr:
            if line.startswith("import 'pdn_jax"):
                running.send_signal(number)
                break
        rest = running.stderr.read()
        assert running.wait() == EXIT_CODE
    finally:
        limit.cancel()
        running.kill()
        running.wait()
        running.stderr.close()
    assert f"pdn_jax: {number.name}: ended, with no step under way" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "run").exists()


def test_in_a_notebook_nothing_ends_but_by_an_exception():
    """A second signal, to a main thread that never asks, is an interrupt of the usual kind."""

    def interrupted():
        for pause in (0, 0.001, AGAIN + 0.2):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            told.append(stopping.reason)

    told = []
    with Stopping(QUIET, grace=0.01) as stopping, pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told == ["SIGINT", "SIGINT"]


def test_a_native_handler_is_found_and_called():
    """As JAX's is, which Python does not know of."""
    called = []
    native = ctypes.CDLL(None).signal
    native.restype, native.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(called.append)
    before = native(signal.SIGUSR1, ctypes.cast(handler, ctypes.c_void_p))
    try:
        native_handler(signal.SIGUSR1)(signal.SIGUSR1)
    finally:
        native(signal.SIGUSR1, before)
    assert called == [signal.SIGUSR1]
    assert native_handler(signal.SIGUSR1) is None


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
