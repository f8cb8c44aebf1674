"""Signals: a step is finished, a checkpoint written, the exit code says that one can go on."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from test_survive import SMALLEST

from train.preemption import EXIT_CODE, REPEAT, Preemption, Stopped

ROOT = Path(__file__).parents[1]
QUIET = Console(quiet=True)
INTERRUPTED = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
LONG = 600
"""Seconds that a process may take, on a machine that has other things to do."""


@pytest.fixture(autouse=True)
def not_under_nohup():
    """SIGHUP as it is by itself, also for the processes that a test starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", INTERRUPTED)
def test_a_signal_asks_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Preemption(QUIET) as preemption:
        assert not preemption.asked()
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 5
        while not preemption.asked() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert preemption.reason == number.name
        with pytest.raises(Stopped):
            list(preemption.watched([1, 2]))
    assert signal.getsignal(number) is before


def test_nothing_is_asked_of_items_in_peace():
    with Preemption(QUIET) as preemption:
        assert list(preemption.watched([1, 2])) == [1, 2]


BUSY = """
import time
from rich.console import Console
from train.preemption import Preemption
with Preemption(Console(), ends=True, grace={grace}) as preemption:
    {begin}
    print("ready", flush=True)
    {work}
"""
BEGIN = "preemption.begin(Console())"


def started(code):
    """A process, once it says that it is ready."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert running.stdout.readline() == "ready\n"
    return running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "grace", "numbers", "said"),
    [
        (BEGIN, 0.5, [signal.SIGTERM], "SIGTERM: not done in 0.5 s (checkpoint.grace), ended"),
        (BEGIN, 2, 2 * [signal.SIGTERM], "SIGTERM: not done in 2 s (checkpoint.grace), ended"),
        (BEGIN, 90, [signal.SIGTERM, None, signal.SIGTERM], "a second signal (SIGTERM): ended at"),
        (BEGIN, 0.5, [signal.SIGINT, None, signal.SIGINT], "a second signal (SIGINT): ended at"),
        (BEGIN, 0.5, [signal.SIGHUP, None, signal.SIGTERM], "a second signal (SIGTERM): ended at"),
        ("", 90, [signal.SIGINT], "SIGINT: ended before the first step was done"),
        ("", 90, [signal.SIGTERM], "SIGTERM: ended before the first step was done"),
    ],
)
def test_a_main_thread_that_never_comes_round_is_ended(begin, grace, numbers, said):
    """It is in one long call, as in a compilation: ended at the limit of a SIGTERM, at a second signal,
    or where no step was done. `timeout` sends the same signal twice at once."""
    running = started(BUSY.format(begin=begin, grace=grace, work="time.sleep(100)"))
    sent = time.monotonic()
    for number in numbers:
        time.sleep(0.001 if number else REPEAT + 0.2)
        if number:
            running.send_signal(number)
    out, err = running.communicate(timeout=200)
    assert running.returncode == EXIT_CODE
    assert time.monotonic() - sent < 45
    assert (f"{numbers[0].name}: stopping after this step" in out) == bool(begin)
    assert f"pdn_jax: {said}" in err
    assert "--config.resume=true" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "grace", "said"),
    [
        (signal.SIGINT, 0.2, "as long as that takes; a second signal ends at once"),
        (signal.SIGHUP, 0.2, "as long as that takes; a second signal ends at once"),
        (signal.SIGTERM, 0, "as long as that takes; a second signal ends at once"),
        (signal.SIGTERM, 60, "within 60 s (checkpoint.grace); a second signal ends at once"),
    ],
)
def test_who_interrupts_waits_for_the_step(number, grace, said):
    """A step that takes longer than the limit of a SIGTERM is finished, and so is what comes after."""
    work = "time.sleep(3)\n    print(preemption.asked(), 'saved', flush=True)"
    running = started(BUSY.format(begin=BEGIN, grace=grace, work=work))
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert "stopping after this step, with a checkpoint, " + said in " ".join(out.split())
    assert "True saved" in out


TALK = """
while True:
        preemption.console.print("x" * 1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("grace", "times"), [(1, 1), (60, 2)])
def test_a_main_thread_that_cannot_print_is_ended(grace, times):
    """A terminal on Ctrl-S, or a pipe that nobody empties: neither is waited for, in either stream;
    at one signal after the grace, at two before."""
    code = BUSY.format(begin="preemption.begin(preemption.console)", grace=grace, work=TALK.strip())
    read, write = os.pipe()
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=write)
    try:
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(read, 1)
        time.sleep(1.0)  # 64 KiB are full by then
        for _ in range(times):
            running.send_signal(signal.SIGTERM)
            time.sleep(REPEAT + 0.2)
        assert running.wait(40) == EXIT_CODE
    finally:
        running.kill()
        running.wait()
        os.close(read)
        os.close(write)


def test_what_nohup_has_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Preemption(QUIET) as preemption:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            assert not preemption.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("number", INTERRUPTED)
def test_a_signal_while_the_program_is_loaded_has_its_exit_code(tmp_path, number):
    """Before anything heavy is imported: told by the modules that Python says it imports."""
    command = [sys.executable, "-v", *training(tmp_path / "run")[1:]]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(LONG, running.kill)
    limit.start()
    try:
        for line in running.stderr:
            if line.startswith("import 'train.preemption'"):
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
        for pause in (0, 0.001, REPEAT + 0.2):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            reasons.append(preemption.reason)

    reasons = []
    with Preemption(QUIET, grace=0.01) as preemption, pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reasons == ["SIGINT", "SIGINT"]


# --- a training ----------------------------------------------------------------------------------

SLOW_STEPS = """
import sys, time
from train import loop, main, parallel

def slow(make_step, devices):
    mapped = on_one(make_step, devices)
    def step(state, *batch):
        print("step begins", flush=True)
        for _ in range(20 if int(state.step) else 0):
            time.sleep(0.25)
        return mapped.step(state, *batch)
    return mapped._replace(step=step)

on_one = parallel.STRATEGIES["single"]
parallel.STRATEGIES["single"] = slow
code = main.main(sys.argv[1:])
sys.stdout.flush()
sys.exit(code)
"""


def training(run_dir, *more):
    settings = {"run_dir": run_dir, "resume": "true", "train.steps": 100000, "log.every": 1}
    settings |= {"eval.every": 100000, "checkpoint.every": 100000, "log.images": "false"}
    options = [f"--config.{name}={value}" for name, value in settings.items()]
    given = ["--config", "configs/debug.py", *options, *SMALLEST, *more]
    return [sys.executable, "-m", "train.main", *given]


def begun(command, line):
    """A training with the lines that it printed, once one of them begins like this."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)
    said = []
    for printed in running.stdout:
        said.append(printed)
        if printed.startswith(line):
            break
    return running, said


def saved(run_dir):
    return [int(p.name) for p in (run_dir / "checkpoints").iterdir() if p.name.isdigit()]


@pytest.mark.slow
def test_a_training_stops_with_a_checkpoint_and_goes_on(tmp_path):
    """SIGTERM once it runs, SIGINT to the one that goes on: each leaves a later checkpoint."""
    steps = [0]
    for number in (signal.SIGTERM, signal.SIGINT):
        command = training(tmp_path / "run", "--config.checkpoint.grace=0")
        running, said = begun(command, f"step {steps[-1] + 2}/")
        running.send_signal(number)
        rest, _ = running.communicate(timeout=LONG)
        assert running.returncode == EXIT_CODE, "".join(said) + rest
        assert f"pdn_jax: {number.name}: stopped after step" in rest
        assert "--config.resume=true" in rest
        steps.append(max(saved(tmp_path / "run")))
        if len(steps) == 3:
            assert any(f"resumed at step {steps[1]}" in line for line in said)
    assert steps[0] < steps[1] < steps[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "grace", "said", "left"),
    [
        ([signal.SIGINT], 1, "SIGINT: stopped after step 2 of 100000, with a checkpoint", [2]),
        ([signal.SIGINT, signal.SIGINT], 1, "a second signal (SIGINT): ended at once", []),
        ([signal.SIGTERM], 1, "SIGTERM: not done in 1 s (checkpoint.grace), ended", []),
    ],
)
def test_a_step_of_five_seconds(tmp_path, numbers, grace, said, left):
    """Interrupted in the middle of its second step: finished and saved; unless told twice, or by one
    that takes the machine away."""
    more = ["--config.parallel.strategy=single", f"--config.checkpoint.grace={grace}"]
    command = training(tmp_path / "run", *more)
    command[1:3] = ["-c", SLOW_STEPS]
    running, printed = begun(command, "step begins")
    for line in running.stdout:
        printed.append(line)
        if line.startswith("step begins"):
            break
    for index, number in enumerate(numbers):
        time.sleep(REPEAT + 0.2 if index else 0.5)
        running.send_signal(number)
    rest, _ = running.communicate(timeout=LONG)
    assert running.returncode == EXIT_CODE, "".join(printed) + rest
    assert f"pdn_jax: {said}" in rest
    assert "--config.resume=true" in rest
    assert saved(tmp_path / "run") == left
    assert re.search("stopping after this step, with a checkpoint", " ".join(rest.split()))


@pytest.mark.slow
def test_a_training_whose_terminal_is_gone_is_saved(tmp_path):
    ours, theirs = os.openpty()
    command = training(tmp_path / "run")
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=theirs, stderr=theirs, start_new_session=True
    )
    try:
        os.close(theirs)
        printed = b""
        while b"images/s" not in printed:  # the training is at work
            printed += os.read(ours, 1000)  # an error where it has ended
        os.close(ours)
        running.send_signal(signal.SIGHUP)
        assert running.wait(LONG) == EXIT_CODE
    finally:
        running.kill()
        running.wait()
    assert len(saved(tmp_path / "run")) == 1


# --- what reaches the terminal -------------------------------------------------------------------

FOLD = """
import sys
if sys.argv[1] == "command":
    from pdn_jax import cli
    cli.explained(lambda: None)
if sys.argv[1] == "module":
    import train.step
import jax, jax.numpy as jnp
def f(x):
    ones = jnp.ones((200, 200))
    return x + jax.lax.reduce_window(ones, 0.0, jax.lax.add, (15, 15), (1, 1), "SAME").sum()
print(jax.jit(f)(1.0))
jax.jit(lambda x: jax.pure_callback(fault, x, x))(1.0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "alarms"), [("command", False), ("module", False), ("loud", True)])
def test_the_compiler_asks_for_no_bug_report(how, alarms):
    """Where it takes long, as here with one operation; what fails is heard of all the same."""
    command = [sys.executable, "-c", FOLD, how]
    unset = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    unset["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # each compiles it
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LONG, env=unset
    )
    assert bool(done.stderr.count("file a bug")) == alarms
    assert "NameError: name 'fault' is not defined" in done.stderr
