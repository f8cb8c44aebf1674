"""A run that is killed, against one that is not: the short form of `benchmarks.survive`."""

import json
import re

import numpy as np
import pytest
from PIL import Image as PILImage
from rich.console import Console
from test_inference import tiny

from benchmarks import survive
from configs import debug
from train import loop, metrics, run_dir
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


@pytest.mark.slow
def test_a_resume_without_a_checkpoint_says_so_and_keeps_the_numbers(tmp_path, capsys):
    """As where a run ended before its first checkpoint: it starts from step 0, once again."""
    config, folder = debug.get_config(), tmp_path / "run"
    for split in ("train", "dev"):
        (tmp_path / "photographs" / split).mkdir(parents=True)
        pixels = np.linspace(0, 255, 48 * 48 * 3).reshape(48, 48, 3).astype(np.uint8)
        PILImage.fromarray(pixels).save(tmp_path / "photographs" / split / "a.png")
    changes = {"run_dir": str(folder), "resume": True, "train.steps": 1, "log.images": False}
    changes |= {"data.sources": (("photos", "one", str(tmp_path / "photographs")),)}
    smallest = {"data.crop_size": 32, "model.change": NETWORK, "parallel.devices": 1}
    config.update_from_flattened_dict(changes | smallest)
    run_dir.make(config, {})
    with metrics.Metrics(folder, start=0) as before:
        for step in (1, 2, 3):
            before.write(step, {"loss": 0.5})
    (events,) = (folder / "tensorboard").iterdir()
    loop.train(config)
    said = " ".join(capsys.readouterr().out.split())
    aside = folder / "earlier-1"
    assert f"no checkpoint is in {folder}: starting from step 0" in said
    assert f"what was there is in {aside}" in said
    assert survive.losses(aside) == [("1", "0.5"), ("2", "0.5"), ("3", "0.5")]
    assert [path.name for path in (aside / "tensorboard").iterdir()] == [events.name]
    assert [step for step, _ in survive.losses(folder)] == ["1"]
    assert run_dir.numbered(folder / "checkpoints") == [1]


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
