"""Several processes as one run, for real: two of two devices each, over loopback."""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import chex
import numpy as np
import pytest
from PIL import Image as PILImage

from benchmarks import scaling
from configs import debug
from pdn_jax import weights
from pdn_jax.types import InputError
from train import distributed, loop, parallel
from train.preemption import EXIT_CODE
from train.tools import prepare

ROOT = Path(__file__).parents[1]
PATIENCE = 7200
"""Seconds that a process may take, on a machine that has other things to do."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of three small smooth photographs, one of them to judge by."""
    folder = tmp_path_factory.mktemp("photographs")
    y, x = np.mgrid[0:40, 0:48] / 40
    for index, name in enumerate(["train/a", "train/b", "dev/c"]):
        planes = [0.5 + 0.4 * np.sin(3 * y + (4 + index) * x + c) for c in range(3)]
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        PILImage.fromarray(np.rint(255 * np.stack(planes, axis=-1)).astype(np.uint8)).save(path)
    return folder


def options(photographs, run_dir):
    """A run of seconds, saved every four steps."""
    return {
        "run_dir": str(run_dir),
        "data.sources": (("photos", "for_hosts", str(photographs)),),
        "data.crop_size": 32,
        "model.change": (
            *(("stages", 2), ("width", 8), ("widths", (8, 8))),
            *(("depths", (1, 1)), ("blocks", (2, 2))),
        ),
        "train.steps": 20,
        "eval.every": 4,
        "eval.max_pairs": 1,
        "eval.draws": 1,
        "checkpoint.every": 4,
        "log.every": 1,
        "log.images": False,
    }


def start(process, port, given, **more):
    """A process of two, with two devices of its own."""
    given = given | {
        "parallel.distributed": True,
        "parallel.coordinator": f"127.0.0.1:{port}",
        "parallel.processes": 2,
        "parallel.process": process,
        **more,
    }
    flags = [f"--config.{name}={value}" for name, value in given.items()]
    command = [sys.executable, "-m", "train.main", "--config", "configs/debug.py", *flags]
    environment = scaling.pretending(2) | {
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "400",  # one line a message
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **pipes)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def both(given, more=({}, {})):
    port = free_port()
    return [start(process, port, given, **more[process]) for process in range(2)]


def ended(process):
    """(exit code, what it printed, what it complained of); gloo's own lines left out."""
    out, err = process.communicate(timeout=PATIENCE)
    lines = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
    return process.returncode, "\n".join(lines), err


def stopped(processes):
    for process in processes:
        process.kill()
        process.communicate()


def saved(run_dir):
    """The step of its newest checkpoint."""
    return max(int(p.name) for p in (run_dir / "checkpoints").iterdir() if p.name.isdigit())


def losses(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_are_one_run_even_where_one_is_killed(photographs, tmp_path):
    """pmap until process 1 is killed, which ends process 0; on until it is told to stop, which stops
    both; then on with shard_map, to the weights of one process with four devices."""
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    config = debug.get_config()
    config.update_from_flattened_dict(options(photographs, whole))
    loop.train(config)

    given = options(photographs, run_dir)
    processes = both(given)
    try:
        until = time.monotonic() + PATIENCE
        while not (run_dir / "checkpoints" / "4").exists() and time.monotonic() < until:
            assert all(process.poll() is None for process in processes), ended(processes[0])
            time.sleep(0.02)
        processes[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        ended(processes[1])
        code, _, err = ended(processes[0])
        assert time.monotonic() - killed < 60
    finally:
        stopped(processes)
    assert code not in (0, 2, EXIT_CODE), err
    assert not (run_dir / "weights.safetensors").exists()

    before = saved(run_dir)
    processes = both(given | {"resume": True, "checkpoint.every": 1})
    try:
        out = iter(processes[0].stdout.readline, "")
        assert any(f"resumed at step {before}" in line for line in out)
        assert any(line.startswith("step ") for line in out)
        processes[1].send_signal(signal.SIGTERM)
        (code, _, err), (other, _, complaint) = map(ended, processes)
    finally:
        stopped(processes)
    assert (code, other) == (EXIT_CODE, EXIT_CODE), err + complaint
    assert f"stopped after step {saved(run_dir)} of 20, with a checkpoint" in err
    assert before < saved(run_dir) < 20

    processes = both(given | {"resume": True, "parallel.strategy": "shard_map"})
    try:
        (code, out, err), (other, nothing, complaint) = map(ended, processes)
    finally:
        stopped(processes)
    assert (code, other) == (0, 0), err + complaint
    said = r"4 cpu device\(s\) of 2 processes, shard_map, .* resumed at step \d+"
    assert re.search(said, " ".join(out.split()))
    assert nothing == ""
    assert {path.name for path in run_dir.iterdir()} == {path.name for path in whole.iterdir()}
    np.testing.assert_allclose(losses(run_dir), losses(whole), rtol=2e-4)
    ours, theirs = weights.load(run_dir).params, weights.load(whole).params
    chex.assert_trees_all_close(ours, theirs, atol=1e-4)


@pytest.mark.slow
def test_processes_with_other_options_are_refused(photographs, tmp_path):
    """By the one that has them, and the other stops too."""
    processes = both(options(photographs, tmp_path / "run"), ({}, {"train.steps": 7, "seed": 3}))
    try:
        (code, _, err), (other, _, complaint) = map(ended, processes)
    finally:
        stopped(processes)
    assert (code, other) == (2, 2), err + complaint
    assert "process 1 of 2 stops; it says why" in err
    assert "seed: 0 there, 3 here, train.steps: 20 there, 7 here" in complaint
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_other_photographs_are_refused(photographs, tmp_path):
    """Prepared on each host by itself, under the same name."""
    given = options(photographs, tmp_path / "run") | {"data.mixture": (("mine", 1.0),)}
    del given["data.sources"]
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        source = folder / "photographs"
        shutil.copytree(photographs, source)
        if folder is folders[1]:
            PILImage.open(source / "train/b.png").rotate(180).save(source / "train/b.png")
        where = ["--source", str(source), "--data-dir", str(folder)]
        prepare.run(["photos", "--name", "mine", *where])
    processes = both(given, [{"data.directory": str(folder)} for folder in folders])
    try:
        (code, _, err), (other, _, complaint) = map(ended, processes)
    finally:
        stopped(processes)
    assert (code, other) == (2, 2), err + complaint
    assert "process 1 has other data than process 0 (mine/train: " in complaint
    assert not (tmp_path / "run").exists()


FULL = """
import errno, time
from pathlib import Path
import orbax.checkpoint
from rich.console import Console
from test_checkpoint import at, opened, save
from configs import debug
from train import checkpoint, distributed, run_dir

def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")

config = debug.get_config()
config.parallel.update(
    distributed=True, coordinator="127.0.0.1:{port}", processes=2, process={process}
)
folder = Path({folder!r})
with distributed.joined(config), run_dir.disk_full_explained(folder), opened(folder) as checkpoints:
    save(checkpoints, 1)
    checkpoints.wait()
    {failing} = full
    save(checkpoints, 2)
    while True:
        checkpoints.check()
        time.sleep(0.1)
"""

FAILING = ("checkpoint.write_checksums", "orbax.checkpoint.PyTreeCheckpointHandler.async_save")


@pytest.mark.slow
@pytest.mark.parametrize("failing", FAILING)
def test_a_full_disk_ends_several_processes_at_once(tmp_path, failing):
    """Told by process 0, which writes, before others have waited for it."""
    port, pipes = free_port(), {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    processes = []
    for process in range(2):
        given = {"failing": failing, "port": port, "process": process}
        command = [sys.executable, "-c", FULL.format(folder=str(tmp_path), **given)]
        processes.append(subprocess.Popen(command, cwd=ROOT / "tests", env=environment, **pipes))
    begin = time.monotonic()
    try:
        (code, _, err), (other, _, _) = map(ended, processes)
    finally:
        stopped(processes)
    assert time.monotonic() - begin < 300
    assert code == 2, err
    assert other != 0
    assert re.search("the disk of run folder .*No space left.*checkpoints/1;", err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"processes": 2, "process": 0, "patience": 1}, "not all of the processes met"),
        ({"coordinator": "", "process": -1, "processes": 0}, "give --config.parallel.coordinator"),
    ],
    ids=["alone", "nothing is said"],
)
def test_a_process_that_finds_no_others_says_so(photographs, tmp_path, given, said):
    more = {f"parallel.{name}": value for name, value in given.items()}
    process = start(0, free_port(), options(photographs, tmp_path / "run"), **more)
    code, _, err = ended(process)
    assert code == 2, err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"coordinator": "nowhere"}, "coordinator is 'nowhere'; expected HOST:PORT"),
        ({"coordinator": "localhost:99999"}, "with a port from 1 to 65535"),
        ({"coordinator": "no.such.host.anywhere:1234"}, "expected a host that is known here"),
        ({"processes": 2, "process": 2}, "process is 2, but parallel.processes is 2"),
        ({"heartbeat": 0}, "parallel.heartbeat is 0; expected at least 5"),
    ],
)
def test_options_that_cannot_be_are_refused(given, said):
    config = debug.get_config()
    config.parallel.update({"distributed": True, **given})
    with pytest.raises(InputError, match=said), distributed.joined(config):
        pass


def test_a_port_that_is_taken_is_refused():
    config = debug.get_config()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config.parallel.update(distributed=True, coordinator=address, process=0, processes=2)
        with pytest.raises(InputError, match="port that is free"), distributed.joined(config):
            pass


@pytest.mark.parametrize(
    ("name", "value"), [("coordinator", "a:1"), ("processes", 2), ("process", 0)]
)
def test_numbers_of_several_processes_mean_nothing_to_one(name, value):
    config = debug.get_config()
    config.parallel[name] = value
    with pytest.raises(InputError, match=f"parallel.{name} is {value}.*distributed=true"):
        loop.train(config)


def test_training_alone_as_one_of_several_is_a_fault():
    config = debug.get_config()
    config.parallel.distributed = True
    with pytest.raises(RuntimeError, match=r"within distributed\.joined"):
        loop.train(config)


def test_one_process_agrees_with_itself():
    """Nothing is sent, no number changes, errors are raised as they are."""
    tree = {"a": 0.1, "b": np.arange(3)}
    assert distributed.broadcast(tree) is tree
    done = []
    distributed.first_then_others(lambda: done.append(1))
    assert done == [1]

    def task():
        raise InputError("mine")

    with pytest.raises(InputError, match="mine"):
        distributed.first(task)
    assert distributed.Silent().write(3, {"loss": 1.0}) is None


# --- devices of several processes ----------------------------------------------------------------


@pytest.fixture
def two_hosts(monkeypatch):
    """jax as it is with a process of two devices and one of three, named in no special order."""
    devices = [SimpleNamespace(process_index=p, id=i) for p, i in [(1, 7), (0, 4), (1, 5), (0, 6)]]
    devices.append(SimpleNamespace(process_index=1, id=9))
    monkeypatch.setattr(parallel.jax, "devices", lambda: devices)
    monkeypatch.setattr(parallel.jax, "process_count", lambda: 2)


@pytest.mark.usefixtures("two_hosts")
def test_devices_come_process_by_process():
    devices = parallel.choose_devices("pmap", 2, 8, 1)
    assert [(d.process_index, d.id) for d in devices] == [(0, 4), (0, 6), (1, 7), (1, 5)]
    assert [d.id for d in parallel.choose_devices("shard_map", 1, 8, 1)] == [4, 7]


@pytest.mark.usefixtures("two_hosts")
@pytest.mark.parametrize(
    ("strategy", "wanted", "batch", "said"),
    [
        ("pmap", 0, 8, r"the processes have 2, 3 devices.*parallel\.devices=2"),
        ("pmap", 3, 6, "devices is 3, but there are 2"),
        ("pmap", 2, 6, r"batch_size=6 .* 4 devices of 2 processes .* a multiple of 4"),
        ("single", 1, 8, "'single', but there are 2 processes; use pmap or shard_map"),
    ],
)
def test_devices_of_hosts_that_do_not_fit_are_refused(strategy, wanted, batch, said):
    with pytest.raises(InputError, match=said):
        parallel.choose_devices(strategy, wanted, batch, 1)
