"""The folder of a run: what it keeps, and data that is no longer what the run began with."""

import errno
import json
from types import SimpleNamespace

import pytest

from configs import debug
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
    run_dir = made(config, [split("a", "b")])
    assert json.loads((run_dir / "config.json").read_text())["model"]["variant"] == "tiny"
    assert list(json.loads((run_dir / "data.json").read_text())) == ["lol/train"]
    assert made(config, [split("a", "b")]) == run_dir
    (run_dir / "data.json").unlink()  # as a run has it that began before there was one
    assert made(config, [split("a", "c")]) == run_dir


@pytest.mark.parametrize("photographs", ["ac", "a", "abc", "ba"])
def test_data_that_was_built_again_is_noticed(config, photographs):
    """Other, fewer, more, or in another order."""
    run_dir = made(config, [split("a", "b"), split("c", name="sice")])
    before = (run_dir / "data.json").read_bytes()
    with pytest.raises(InputError, match=r"^lol/train: not what .*run began with"):
        made(config, [split(*photographs), split("c", name="sice")])
    assert (run_dir / "data.json").read_bytes() == before


def test_a_camera_that_was_calibrated_again_is_noticed(config, tmp_path):
    config.data.physics = str(tmp_path / "calibrated.json")
    (tmp_path / "calibrated.json").write_text("{}")
    made(config, [split("a")])
    (tmp_path / "calibrated.json").write_text("{ }")
    with pytest.raises(InputError, match=r"^data\.physics: not what .*run began with"):
        made(config, [split("a")])


def test_what_a_kill_left_half_written_is_removed(config):
    run_dir = made(config, [split("a")])
    whole = {path.name for path in run_dir.iterdir()} | {"weights.safetensors"}
    for name in ("weights.safetensors", ".weights.safetensors.7.tmp", "evaluation.csv.new"):
        (run_dir / name).write_text("")
    made(config, [split("a")])
    assert {path.name for path in run_dir.iterdir()} == whole


def test_a_damaged_list_of_data_is_one_line(config):
    run_dir = made(config, [split("a")])
    (run_dir / "data.json").write_text("[1]")
    with pytest.raises(InputError, match=r"data\.json cannot be read"):
        made(config, [split("a")])


@pytest.mark.parametrize("left", [[], ["config.json.new"], ["data.json", "config.json.new"]])
def test_a_folder_that_a_kill_left_without_options_is_new(config, tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("{")
    run_dir.check(config)
    (tmp_path / "run" / "photograph.jpg").write_text("")
    with pytest.raises(InputError, match="exists; go on with"):
        run_dir.check(config)


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
    monkeypatch.setattr(run_dir.distributed, "told", lambda name: ".met-0")
    monkeypatch.setattr(run_dir.distributed, "first", lambda task: task() if sees else None)
    monkeypatch.setattr(run_dir.distributed, "together", lambda task: task())
    if sees:
        run_dir.check_shared(tmp_path, seconds=0.1)
        return
    with pytest.raises(InputError, match=r"does not see the run folder .* all hosts share"):
        run_dir.check_shared(tmp_path, seconds=0.1)


def test_a_refused_training_changes_nothing_of_one_at_work(config, tmp_path):
    run_dir = made(config, [split("a")])
    before = (run_dir / "config.json").read_bytes()
    config.log.every += 1
    with run_dir.held(run_dir), pytest.raises(InputError, match="another training is at work"):
        made(config, [split("a")])
    assert (run_dir / "config.json").read_bytes() == before


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
    with pytest.raises(kind, match=said), run_dir.full_disk_told(tmp_path):
        raise error


def test_a_full_disk_is_told_where_the_run_goes_on_too(config, monkeypatch):
    """With another option, which `config.json` is to say."""
    run_dir = made(config, [split("a")])
    (run_dir / "checkpoints/7").mkdir(parents=True)
    config.log.every += 1

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(run_dir.files, "replace", full)
    with pytest.raises(InputError, match=r"is full \(No space left\); last .*checkpoints/7;"):
        made(config, [split("a")])
