"""The folder of a run: what it keeps, and data that is no longer what the run began with."""

import contextlib
import errno
import fcntl
import json
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from configs import debug
from pdn_jax.files import DRAFT
from pdn_jax.types import InputError
from train import run_dir


def split(*digests, name="lol"):
    """What is asked of a split: its photographs, by their digests."""
    examples = [{"name": str(i), "frames": [{"data": d}]} for i, d in enumerate(digests)]
    return SimpleNamespace(name=name, split="train", examples=examples)


@pytest.fixture
def config(tmp_path):
    given = debug.get_config()
    given.run_dir = str(tmp_path / "run")
    return given


def made(config, splits):
    return run_dir.make(config, run_dir.used(config, splits))


def test_the_same_data_is_gone_on_with(config):
    folder = made(config, [split("a", "b")])
    assert json.loads((folder / "config.json").read_text())["model"]["variant"] == "tiny"
    assert list(json.loads((folder / "data.json").read_text())) == ["lol/train"]
    assert made(config, [split("a", "b")]) == folder
    (folder / "data.json").unlink()  # as a run has it that began before there was one
    assert made(config, [split("a", "c")]) == folder


@pytest.mark.parametrize("photographs", ["ac", "a", "abc", "ba"])
def test_data_that_was_built_again_is_noticed(config, photographs):
    """Other, fewer, more, or in another order."""
    folder = made(config, [split("a", "b"), split("c", name="sice")])
    before = (folder / "data.json").read_bytes()
    with pytest.raises(InputError, match=r"^lol/train: not what .*run began with"):
        made(config, [split(*photographs), split("c", name="sice")])
    assert (folder / "data.json").read_bytes() == before


def test_a_camera_that_was_calibrated_again_is_noticed(config, tmp_path):
    config.data.physics = str(tmp_path / "calibrated.json")
    (tmp_path / "calibrated.json").write_text("{}")
    made(config, [split("a")])
    (tmp_path / "calibrated.json").write_text("{ }")
    with pytest.raises(InputError, match=r"^data\.physics: not what .*run began with"):
        made(config, [split("a")])


def test_what_a_kill_left_half_written_is_removed(config):
    folder = made(config, [split("a")])
    whole = {path.name for path in folder.iterdir()} | {"weights.safetensors"}
    for name in ("weights.safetensors", f"{DRAFT}0a1b2c3d.tmp"):
        (folder / name).write_text("")
    made(config, [split("a")])
    assert {path.name for path in folder.iterdir()} == whole


def test_a_damaged_list_of_data_is_one_line(config):
    folder = made(config, [split("a")])
    (folder / "data.json").write_text("[1]")
    with pytest.raises(InputError, match=r"data\.json cannot be read"):
        made(config, [split("a")])


@pytest.mark.parametrize("left", [[], [f"{DRAFT}1.tmp"], ["data.json", f"{DRAFT}1.tmp"]])
def test_a_folder_that_a_kill_left_without_options_is_new(config, tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("{")
    run_dir.check(config)
    (tmp_path / "run" / "photograph.jpg").write_text("")
    with pytest.raises(InputError, match="exists; go on with"):
        run_dir.check(config)


def left(folder, rows="3,0.5\n"):
    """What a run leaves that was ended before its first checkpoint."""
    for name in ("checkpoints", "tensorboard"):
        (folder / name).mkdir()
    (folder / "tensorboard/events").write_text("curve")
    (folder / "metrics.csv").write_text(f"step,loss\n{rows}")


def test_without_a_checkpoint_what_was_there_is_kept_under_another_name(config, capsys):
    folder = made(config, [split("a")])
    stays = {path.name for path in folder.iterdir()} | {"checkpoints"}
    for number in (1, 2):
        left(folder, rows=f"{number},0.5\n")
        run_dir.set_aside(folder, Console(soft_wrap=True))
        (said,) = capsys.readouterr().out.splitlines()
        aside = folder / f"earlier-{number}"
        assert said == (
            f"no checkpoint is in {folder}: starting from step 0; what was there is in {aside}"
        )
        assert (aside / "metrics.csv").read_text() == f"step,loss\n{number},0.5\n"
        assert (aside / "tensorboard/events").read_text() == "curve"
        (folder / "checkpoints").rmdir()
    assert {path.name for path in folder.iterdir()} == stays - {"checkpoints"} | {
        "earlier-1",
        "earlier-2",
    }


def test_what_has_no_numbers_yet_is_kept_as_well(config, capsys):
    folder = made(config, [split("a")])
    left(folder, rows="3,0.")  # half a row, as a kill may leave it
    run_dir.set_aside(folder, Console(soft_wrap=True))
    assert "starting from step 0" in capsys.readouterr().out
    assert (folder / "earlier-1/tensorboard/events").read_text() == "curve"
    assert not (folder / "tensorboard").exists()


def test_a_new_run_has_nothing_to_keep(config, capsys):
    folder = made(config, [split("a")])
    before = {path.name for path in folder.iterdir()}
    run_dir.set_aside(folder, Console())
    assert {path.name for path in folder.iterdir()} == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("missing", ["in the system", "on the disk"])
def test_where_there_are_no_locks_nothing_is_held(tmp_path, monkeypatch, missing):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if missing == "in the system":
        monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    else:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    with run_dir.held(tmp_path), run_dir.held(tmp_path):
        pass


@pytest.mark.parametrize(
    ("number", "raised"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EOPNOTSUPP, False)]
)
def test_room_is_asked_for_where_a_disk_can_say_so(tmp_path, monkeypatch, number, raised):
    asked = []

    def answer(handle, begin, size):
        asked.append((begin, size))
        raise OSError(number, "the disk's answer")

    run_dir.check_room(tmp_path, 1000)
    monkeypatch.setattr(run_dir.os, "posix_fallocate", answer)
    with pytest.raises(OSError, match="answer") if raised else contextlib.nullcontext():
        run_dir.check_room(tmp_path, 1000)
    assert asked == [(0, 1000)]
    assert list(tmp_path.iterdir()) == []


def test_one_training_at_a_time_holds_a_folder(tmp_path):
    with (
        run_dir.held(tmp_path),
        pytest.raises(InputError, match="another training is at work in run folder"),
    ):
        run_dir.held(tmp_path)
    run_dir.held(tmp_path).close()


@pytest.mark.parametrize("sees", [True, False])
def test_a_folder_that_another_host_does_not_see_is_refused(tmp_path, monkeypatch, sees):
    """As process 1, which looks for what process 0 puts there."""
    monkeypatch.setattr(run_dir.jax, "process_count", lambda: 2)
    monkeypatch.setattr(run_dir.distributed, "is_first", lambda: False)
    monkeypatch.setattr(run_dir.distributed, "broadcast_json", lambda name: ".met-0")
    monkeypatch.setattr(run_dir.distributed, "first", lambda task: task() if sees else None)
    monkeypatch.setattr(run_dir.distributed, "same_outcome", contextlib.nullcontext)
    if sees:
        run_dir.check_shared(tmp_path, seconds=0.1)
        return
    with pytest.raises(InputError, match=r"does not see the run folder .* all hosts share"):
        run_dir.check_shared(tmp_path, seconds=0.1)


def test_a_refused_training_changes_nothing_of_one_at_work(config, tmp_path):
    folder = made(config, [split("a")])
    before = (folder / "config.json").read_bytes()
    config.log.every += 1
    with run_dir.held(folder), pytest.raises(InputError, match="another training is at work"):
        made(config, [split("a")])
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left"),
            InputError,
            r"is full \(No space left\); last .*/7;",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: profile; No space left on device"),
            InputError,
            r"is full \(No space left on device\); last .*/7;",
        ),
        (FileNotFoundError("gone"), FileNotFoundError, "gone"),
        (InputError("make room, says another"), InputError, "^make room, says another$"),
    ],
)
def test_a_full_disk_is_told_once(tmp_path, error, kind, said):
    for step in (7, 5):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    (tmp_path / "checkpoints" / "9.half").mkdir()
    with pytest.raises(kind, match=said), run_dir.disk_full_explained(tmp_path):
        raise error


def test_a_full_disk_is_told_where_the_run_goes_on_too(config, monkeypatch):
    """With another option, which `config.json` is to say."""
    folder = made(config, [split("a")])
    (folder / "checkpoints/7").mkdir(parents=True)
    config.log.every += 1

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(run_dir.files, "write_text", full)
    with pytest.raises(InputError, match=r"is full \(No space left\); last .*checkpoints/7;"):
        made(config, [split("a")])
