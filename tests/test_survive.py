"""A run that is killed, against one that is not: the short form of `benchmarks.survive`."""

import json
import re

import numpy as np
import pytest
from rich.console import Console
from test_inference import tiny

from benchmarks import survive
from train.checkpoint import Checkpoints

NETWORK = (
    *(("stages", 2), ("width", 8), ("widths", (8, 8))),
    *(("depths", (1, 1)), ("blocks", (2, 2))),
)
SMALLEST = ["--config.data.crop_size=32", f"--config.model.change={NETWORK}"]
"""Options of a run whose steps are as short as can be."""


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_it_were_not(tmp_path, capsys):
    """Twice with SIGKILL, once as it starts, once in the middle of writing a checkpoint."""
    out = ["--out", str(tmp_path / "out")]
    assert survive.run(["--kills", "2", "--steps", "150", *out, *SMALLEST]) == 0
    said = capsys.readouterr().out
    assert "kill 2: killed" in said
    assert "loss of every step: identical, 150 steps" in said
    for part in ("params", "average", "optimizer", "balance", "step"):
        (line,) = (line for line in said.splitlines() if line.startswith(f"{part}:"))
        done, of = re.findall(r"\d+", line)
        assert done == of != "0"


def run_of(folder, number, loss="0.5"):
    """What is compared of a run: its last state, its losses, its options."""
    state = {"params": {"a": np.ones(3, np.float32)}, "step": np.asarray(number, np.int32)}
    with Checkpoints(folder, keep=1, console=Console(quiet=True)) as checkpoints:
        checkpoints.save(4, state, tiny())
    (folder / "metrics.csv").write_text(f"step,loss\n1,{loss}\n")
    (folder / "config.json").write_text(json.dumps({"run_dir": str(folder)}))
    return folder


def test_a_difference_would_be_seen(tmp_path, capsys):
    """One bit of one number of the state, or another loss on the way."""
    one = run_of(tmp_path / "one", 4)
    for name, same, other in (
        ("same", True, (4,)),
        ("state", False, (5,)),
        ("loss", False, (4, "0.6")),
    ):
        two = run_of(tmp_path / name, *other)
        assert survive.compare(one, two, Console()) == same
    said = capsys.readouterr().out
    assert said.count("step: 0 of 1 arrays bit-identical") == 1
    assert said.count("loss of every step: different") == 1
