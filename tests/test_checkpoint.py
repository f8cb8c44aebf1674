"""Checkpoints: which are kept, damage that is noticed, a disk that is full, weights within."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from test_inference import tiny

from pdn_jax import inference
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import checkpoint, run_dir
from train.checkpoint import Checkpoints, read_checksums, write_checksums

ROOT = Path(__file__).parents[1]
STATE = {
    "step": np.zeros((), np.int32),
    "params": {"a": np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)},
    "none": (),
}


def at(step):
    """A state that knows its step."""
    return jax.tree.map(lambda x: x + np.asarray(step, x.dtype), STATE)


def opened(folder, *, keep=3, keep_every=0, console=None):
    console = console or Console(quiet=True)
    return Checkpoints(folder, keep=keep, keep_every=keep_every, console=console)


def save(checkpoints, step, psnr=None):
    checkpoints.save(step, at(step), tiny(), psnr)


def test_newest_few_the_best_and_every_nth_are_kept(tmp_path):
    with opened(tmp_path, keep=2) as checkpoints:
        for step, psnr in enumerate([10.0, 14.0, 12.0, 11.0, 13.0], start=1):
            save(checkpoints, step, psnr)
    with opened(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        step, found = checkpoints.restore(STATE)
        assert (step, int(found["step"])) == (5, 5)
        for step in (6, 7):
            save(checkpoints, step)
    with opened(tmp_path, keep=1, keep_every=3) as checkpoints:
        assert checkpoints.steps() == [2, 6, 7]
        for step in (8, 9, 10):
            save(checkpoints, step, 9.0)
    with opened(tmp_path, keep=1, keep_every=3) as checkpoints:
        assert checkpoints.steps() == [2, 6, 9, 10]


def test_what_is_there_is_not_written_again(tmp_path):
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        checkpoints.save(1, at(5), tiny())
        checkpoints.wait()
        _, found = checkpoints.restore(STATE)
    assert int(found["step"]) == 1


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        checkpoints.wait()
        wrong = {"step": jnp.zeros((), jnp.int32), "params": jnp.zeros((3,))}
        with pytest.raises(InputError, match="does not hold the state of this config"):
            checkpoints.restore(wrong)
        assert checkpoints.steps() == [1]


@pytest.mark.slow
def test_weights_of_a_checkpoint_enhance_a_photo(tmp_path):
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
    photo = np.full((20, 30, 3), 9, np.uint8)
    result = inference.enhance(photo, tmp_path / "checkpoints/1")
    np.testing.assert_array_equal(result, inference.enhance(photo, tiny()))


# --- damage --------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def files_of(folder, part):
    """Files of a checkpoint that hold something: `part`, or those in it."""
    paths = [folder / part, *sorted((folder / part).rglob("*"))]
    return [path for path in paths if path.is_file() and path.stat().st_size > 20]


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("part", ["state", "weights", "checksums.json"])
def test_any_damaged_file_of_the_newest_is_noticed(tmp_path, capsys, damage, part):
    """One file after another: it is named, moved aside, and the one before is taken."""
    model = tmp_path / "model"
    with opened(model) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    files = files_of(model / "checkpoints/2", part)
    assert files
    for index, file in enumerate(files):
        folder = tmp_path / str(index)
        shutil.copytree(model, folder)
        damage(folder / file.relative_to(model))
        with opened(folder, console=Console()) as checkpoints:
            step, state = checkpoints.restore(STATE)
            assert step == 1
            jax.tree.map(np.testing.assert_array_equal, state, at(1))
            said = " ".join(capsys.readouterr().out.split())
            assert "checkpoints/2 is damaged" in said
            assert file.name in said
            assert checkpoints.steps() == [1]
            assert (folder / "checkpoints/damaged-2").exists()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()], ids=type)
def test_a_disk_that_cannot_be_read_just_now_costs_nothing(tmp_path, monkeypatch, error):
    """The one before is taken, and what could not be read is still there, under another name."""
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2, 30.0)
    read_bytes = Path.read_bytes

    def content(path):
        if "2" in path.parts and "state" in path.parts:
            raise error
        return read_bytes(path)

    with monkeypatch.context() as patch, opened(tmp_path) as checkpoints:
        patch.setattr(Path, "read_bytes", content)
        assert checkpoints.restore(STATE)[0] == 1
        assert not checkpoints.is_judged(2)
    (tmp_path / "checkpoints/damaged-2").rename(tmp_path / "checkpoints/2")
    with opened(tmp_path) as checkpoints:
        assert checkpoints.best() == 30.0
        step, state = checkpoints.restore(STATE)
    assert (step, int(state["step"])) == (2, 2)


def test_what_was_damaged_is_written_again(tmp_path):
    """Twice: what was set aside the first time makes room."""
    with opened(tmp_path, keep=2) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    for value in (7, 8):
        flip(files_of(tmp_path / "checkpoints/2", "weights")[0])
        with opened(tmp_path, keep=2) as checkpoints:
            assert checkpoints.restore(STATE)[0] == 1
            checkpoints.save(2, at(value), tiny())
    with opened(tmp_path, keep=2) as checkpoints:
        step, state = checkpoints.restore(STATE)
    assert (step, int(state["step"])) == (2, 8)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"1", "2", "damaged-2"}


@pytest.mark.parametrize("content", ["null", "[]", '"sum"', "{}"])
def test_a_checksum_file_that_is_something_else_is_damage(tmp_path, content):
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    (tmp_path / "checkpoints/2/checksums.json").write_text(content)
    with opened(tmp_path) as checkpoints:
        assert checkpoints.restore(STATE)[0] == 1


def test_checksums_name_every_file_and_have_one_of_their_own(tmp_path):
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1, 12.5)
    folder = tmp_path / "checkpoints/1"
    known = read_checksums(folder)
    there = [p for part in ("state", "weights") for p in (folder / part).rglob("*") if p.is_file()]
    assert sorted(known["files"]) == sorted(str(path.relative_to(folder)) for path in there)
    assert known["psnr"] == 12.5
    write_checksums(folder, known | {"psnr": 13.5})
    assert read_checksums(folder) == known | {"psnr": 13.5}
    text = json.loads((folder / "checksums.json").read_text())
    (folder / "checksums.json").write_text(json.dumps(text | {"psnr": 14.5}))
    with pytest.raises(checkpoint.Damaged, match="not what was written"):
        read_checksums(folder)


def test_a_write_that_fails_is_told_at_the_next_look(tmp_path, monkeypatch):
    """Not only when another one is due."""
    release = threading.Event()

    def full(*_):
        release.wait(60)
        raise OSError(errno.ENOSPC, "No space left on device")

    def look(checkpoints):
        save(checkpoints, 2)
        checkpoints.check()
        release.set()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            checkpoints.check()
            time.sleep(0.01)
        raise AssertionError("nothing was told")

    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
    monkeypatch.setattr(checkpoint, "write_checksums", full)
    told = pytest.raises(InputError, match=r"last whole checkpoint: .*checkpoints/1;")
    with told, run_dir.disk_full_explained(tmp_path), opened(tmp_path) as checkpoints:
        look(checkpoints)


def test_a_write_is_not_waited_for(tmp_path, monkeypatch):
    """`save` comes back while the checksums, and so the checkpoint, are still being written."""
    release, write = threading.Event(), write_checksums
    monkeypatch.setattr(
        checkpoint, "write_checksums", lambda *given: release.wait(60) and write(*given)
    )
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        assert checkpoints.writing()
        assert not (tmp_path / "checkpoints/1").exists()
        release.set()
        checkpoints.wait()
        assert (tmp_path / "checkpoints/1").exists()


def test_all_is_on_the_disk_before_a_checkpoint_counts(tmp_path, monkeypatch):
    """A power cut then finds it whole, or not at all."""
    secured, fsync = [], os.fsync

    def watched(handle):
        secured.append((os.fstat(handle).st_ino, (tmp_path / "checkpoints/1").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    row = tmp_path / "metrics.csv"
    row.write_text("step,loss\n")
    with opened(tmp_path) as checkpoints:
        checkpoints.save(1, at(1), tiny(), beside=[row])
    before = {file for file, counts in secured if not counts}
    assert row.stat().st_ino in before
    written = [path for path in (tmp_path / "checkpoints/1").rglob("*") if path.is_file()]
    assert len(written) > 5
    late = {path.name for path in written if path.stat().st_ino not in before}
    assert late <= {"commit_success.txt"}


@pytest.mark.parametrize("reopened", [True, False])
def test_the_best_can_be_told_later_and_is_remembered(tmp_path, reopened):
    with opened(tmp_path, keep=2) as checkpoints:
        assert checkpoints.best() == -np.inf
        save(checkpoints, 1)
        save(checkpoints, 2, 10.0)
        checkpoints.wait()
        assert not checkpoints.is_judged(1)
        checkpoints.judge(1, 11.0)
        if not reopened:
            three_more(checkpoints)
    if reopened:
        with opened(tmp_path, keep=2) as checkpoints:
            three_more(checkpoints)
    with opened(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [1, 4, 5]


def three_more(checkpoints):
    """Steps 3 to 5, none of them better than the first."""
    assert checkpoints.best() == 11.0
    assert checkpoints.is_judged(1)
    for step in (3, 4, 5):
        save(checkpoints, step, 9.0)


@pytest.mark.parametrize(
    ("steps", "failed", "left", "said"),
    [
        ([3, 6, 9], 11, [3, 6, 9], "9"),
        ([3, 6, 9], 10, [3, 6], "6, those after it deleted (1)"),
        (
            [9],
            10,
            [9],
            "9, which no finite loss has proven; where it fails again, start in another run_dir",
        ),
        ([], 2, [], "none was written"),
    ],
)
def test_the_last_good_one_is_proven_where_there_is_one(tmp_path, steps, failed, left, said):
    with opened(tmp_path) as checkpoints:
        for step in steps:
            save(checkpoints, step)
        assert checkpoints.last_good(failed).endswith(said)
        assert checkpoints.steps() == left


def test_what_is_said_of_the_weights_has_a_checksum_too(tmp_path):
    """Another number of stages would make another picture of the same parameters."""
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
        save(checkpoints, 2)
    file = tmp_path / "checkpoints/2/weights/weights.safetensors"
    other = weight_files.load(file)
    weight_files.save(file, other._replace(model=other.model | {"stages": 3}))
    with opened(tmp_path) as checkpoints:
        assert checkpoints.restore(STATE)[0] == 1


def test_where_all_are_damaged_nothing_is_started_over(tmp_path):
    with opened(tmp_path) as checkpoints:
        save(checkpoints, 1)
    cut(tmp_path / "checkpoints/1/checksums.json")
    with opened(tmp_path) as checkpoints:
        with pytest.raises(InputError, match="is damaged"):
            checkpoints.restore(STATE)
        assert checkpoints.steps() == [1]


FULL = """
import resource, signal
from rich.console import Console
from test_checkpoint import STATE, at, opened, save
from pathlib import Path
from pdn_jax.cli import explained
from train.run_dir import disk_full_explained

def run():
    folder = Path({folder!r})
    with disk_full_explained(folder), opened(folder) as checkpoints:
        save(checkpoints, 1)
        checkpoints.wait()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        save(checkpoints, 2)
        checkpoints.wait()

raise SystemExit(explained(run))
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100, 3000, 60000])
def test_a_full_disk_is_said_and_the_last_checkpoint_is_whole(tmp_path, limit):
    """Files of at most `limit` bytes: the json, the state or the weights no longer fit."""
    code = FULL.format(folder=str(tmp_path), limit=limit)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("pdn_jax: error"))
    assert f"the disk of run folder {tmp_path} is full" in said
    assert "checkpoints/1;" in said
    assert "Traceback" not in done.stderr
    with opened(tmp_path) as checkpoints:
        step, found = checkpoints.restore(STATE)
    assert step == 1
    jax.tree.map(np.testing.assert_array_equal, found, at(1))
