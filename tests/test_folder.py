"""The folder of a run: what it keeps, and data that is no longer what the run began with."""

import json
from types import SimpleNamespace

import pytest

from configs import debug
from pdn_jax.types import InputError
from train import folder


def split(*digests, name="lol"):
    """What is asked of a split: its photographs, by their digests."""
    examples = [{"name": str(i), "frames": [{"data": d}]} for i, d in enumerate(digests)]
    return SimpleNamespace(name=name, split="train", examples=examples)


@pytest.fixture
def config(tmp_path):
    given = debug.get_config()
    given.run_dir = str(tmp_path / "run")
    return given


def test_the_same_data_is_gone_on_with(config):
    run_dir = folder.make(config, [split("a", "b")])
    assert json.loads((run_dir / "config.json").read_text())["model"]["variant"] == "tiny"
    assert list(json.loads((run_dir / "data.json").read_text())) == ["lol/train"]
    assert folder.make(config, [split("a", "b")]) == run_dir
    (run_dir / "data.json").unlink()  # as a run has it that began before there was one
    assert folder.make(config, [split("a", "c")]) == run_dir


@pytest.mark.parametrize("photographs", ["ac", "a", "abc", "ba"])
def test_data_that_was_built_again_is_noticed(config, photographs):
    """Other, fewer, more, or in another order."""
    run_dir = folder.make(config, [split("a", "b"), split("c", name="sice")])
    before = (run_dir / "data.json").read_bytes()
    with pytest.raises(InputError, match=r"^lol/train: not the photographs that .*run began with"):
        folder.make(config, [split(*photographs), split("c", name="sice")])
    assert (run_dir / "data.json").read_bytes() == before


def test_a_damaged_list_of_data_is_one_line(config):
    run_dir = folder.make(config, [split("a")])
    (run_dir / "data.json").write_text("[1]")
    with pytest.raises(InputError, match=r"data\.json cannot be read"):
        folder.make(config, [split("a")])
