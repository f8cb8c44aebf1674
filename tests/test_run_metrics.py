"""What a run writes for those who watch it: metrics.csv, TensorBoard, Weights & Biases, a profile."""

import gzip
import io
import json
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX.record_writer import RecordWriter

from pdn_jax import files
from pdn_jax.types import InputError
from train import metrics, progress

ROOT = Path(__file__).parents[1]


def filled(run_dir, steps, *, start=0):
    """A run's metrics written for these steps; what metrics.csv then holds."""
    with metrics.Metrics(run_dir, start=start) as run:
        for step in steps:
            more = {"eval/psnr": 20.0} if step % 2 == 0 else {}
            run.write(step, {"loss": 1.0 / step, "balance/ratio": 0.0} | more)
    return metrics.read_rows(run_dir / "metrics.csv")


def read_back(run_dir, start):
    with metrics.Metrics(run_dir, start=start) as run:
        return [int(row["step"]) for row in run.rows]


# --- metrics.csv ---------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path):
    found = filled(tmp_path, [1, 2, 3])
    assert [list(row) for row in found] == 3 * [["step", "balance/ratio", "loss", "eval/psnr"]]
    assert [row["loss"] for row in found] == ["1", "0.5", "0.333333"]
    assert [row["eval/psnr"] for row in found] == ["", "20", ""]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["metrics.csv", "tensorboard"]


def test_a_kill_within_a_row_costs_that_row_alone(tmp_path):
    """Wherever it struck: the rows before are there, the next one is on a line of its own."""
    filled(tmp_path, [1, 2, 3])
    path = tmp_path / "metrics.csv"
    whole = path.read_bytes()
    for length in range(whole.rindex(b"\n", 0, -1) + 2, len(whole)):
        path.write_bytes(whole[:length])
        assert [row["step"] for row in metrics.read_rows(path)] == ["1", "2"]
        assert [row["step"] for row in filled(tmp_path, [3], start=3)] == ["1", "2", "3"]
        assert path.read_bytes() == whole


def test_a_resumed_run_drops_the_rows_that_it_will_write_again(tmp_path):
    """At once, not at its end: who looks in between sees no step twice."""
    filled(tmp_path, [1, 2, 3, 4])
    assert read_back(tmp_path, 3) == [1, 2, 3]
    assert [row["step"] for row in metrics.read_rows(tmp_path / "metrics.csv")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "line", ["x,1,1,", "2,1", "2,1,1,1,1", "-1,1,1,", ",,,", "2,one,1,", "\0\0"]
)
def test_a_line_that_is_no_row_is_passed_by(tmp_path, line):
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,a,loss,eval/psnr\n1,0,0,\n{line}\n3,1,1,2\n")
    assert [row["step"] for row in metrics.read_rows(path)] == ["1", "3"]


@pytest.mark.parametrize("content", ["", "st", "step,lo"])
def test_a_file_without_a_first_line_has_no_rows(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    assert filled(tmp_path, [1])[0]["loss"] == "1"


def test_a_kill_while_the_file_is_rewritten_leaves_the_old_one(tmp_path, monkeypatch):
    filled(tmp_path, [1, 2])
    before = (tmp_path / "metrics.csv").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            metrics.write_rows(tmp_path / "metrics.csv", [{"step": "9", "new": "1"}])
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert read_back(tmp_path, 2) == [1, 2]


# --- TensorBoard, Weights & Biases ---------------------------------------------------------------

EDGES = np.asarray([-4.0, -3.0, -2.0, -1.0, 0.0])


def test_tensorboard_reads_the_histogram(tmp_path):
    """Of counts 0 3 1 0: from −3 to −1, with the moments of the bins' centres."""
    with metrics.Metrics(tmp_path, start=0) as run:
        run.histogram(5, "log_exposure", np.asarray([0, 3, 1, 0]), EDGES)
        run.histogram(6, "log_exposure", np.zeros(4, int), EDGES)
    board = EventAccumulator(str(tmp_path / "tensorboard"), {"histograms": 0}).Reload()
    (event,) = board.Histograms("log_exposure")
    found = event.histogram_value
    assert (event.step, found.min, found.max, found.num) == (5, -3, -1, 4)
    assert (found.sum, found.sum_squares) == (3 * -2.5 - 1.5, 3 * 6.25 + 2.25)
    limits = dict(zip(found.bucket_limit, found.bucket, strict=True))
    assert (limits[-2.0], limits[-1.0], sum(limits.values())) == (3, 1, 4)


def test_what_was_written_no_kill_can_take(tmp_path):
    """Read while the writer is still open, as after a kill."""
    with metrics.Metrics(tmp_path, start=0) as run:
        for step in range(1, 4):
            run.write(step, {"loss": 0.5})
        found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [event.step for event in found.Scalars("loss")] == [1, 2, 3]
        assert len(metrics.read_rows(run.path)) == 3


def test_what_is_watched_waits_for_no_disk(tmp_path, monkeypatch):
    """But for a new column, which rewrites the file; a checkpoint has all on the disk before it counts."""
    with metrics.Metrics(tmp_path, start=0) as run:
        run.write(1, {"loss": 0.5})
        monkeypatch.setattr(files.os, "fsync", None)
        run.write(2, {"loss": 0.4})
        run.picture(2, "pictures/stages", np.zeros((4, 5, 3), np.uint8))
        run.histogram(2, "log_exposure", np.asarray([0, 3, 1, 0]), EDGES)
        (events,) = (tmp_path / "tensorboard").iterdir()
        assert run.files() == [tmp_path / "metrics.csv", events]


def test_a_record_is_one_that_tensorboardx_writes(tmp_path):
    writer = RecordWriter(str(tmp_path / "theirs"))
    writer.write(b"content")
    writer.close()
    assert metrics.record(b"content") == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize(("width", "terms"), [(80, 1), (160, 4)])
def test_the_bar_shows_the_speed_on_every_terminal(width, terms):
    """What does not fit is left out instead of being cut off."""
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        color_system=None,
        legacy_windows=False,
    )
    values = dict.fromkeys(progress.SHOWN, 12.3456) | {"images_per_second": 1234.5}
    bar = progress.Bar(1000000, 123456, console)
    with bar.progress:
        bar.show(123456, values, 3600.0)
    last = console.file.getvalue().rpartition("training")[2]
    assert "1234 images/s" in last
    assert "123456/1000000" in last
    assert last.count("12.3456") == terms


GONE = """
import sys
from train.progress import Log
log = Log()
for line in range(20000):
    log.print(line)
print("went on", file=sys.stderr)
"""


@pytest.mark.slow
def test_a_training_goes_on_where_nobody_reads_any_more():
    """As after `| head -1`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", GONE], cwd=ROOT, **pipes)
    assert running.stdout.readline() == "0\n"
    running.stdout.close()
    assert running.stderr.read() == "went on\n"
    assert running.wait(60) == 0
    running.stderr.close()


def test_weights_and_biases_is_given_everything(wandb, tmp_path):
    run_dir = tmp_path / "mine"
    run_dir.mkdir()
    options = {"train": {"steps": 7}}
    with metrics.Metrics(run_dir, start=0, project="dark", options=options) as run:
        run.picture(2, "stages", np.zeros((4, 5, 3), np.uint8))
        run.histogram(2, "log_exposure", np.asarray([0, 3, 1, 0]), EDGES)
        run.write(2, {"loss": 0.5})
    (_, begun), *logged, last = wandb.calls
    assert (begun["project"], begun["name"], begun["config"]) == ("dark", "mine", options)
    assert (begun["resume"], begun["dir"]) == ("allow", str(run_dir))
    assert logged == [
        ("log", 2, {"stages": ("image", (4, 5, 3))}),
        ("log", 2, {"log_exposure": ("histogram", ([0, 3, 1, 0], EDGES.tolist()))}),
        ("log", 2, {"loss": 0.5}),
    ]
    assert last == ("finish", 0)


def test_a_resumed_run_goes_on_there_and_another_does_not(wandb, tmp_path):
    for name in ("one", "one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        with metrics.Metrics(tmp_path / name, start=0, project="dark"):
            pass
    first, again, other = (call[1]["id"] for call in wandb.calls if call[0] == "init")
    assert first == again != other


def fail(tmp_path):
    with metrics.Metrics(tmp_path, start=0, project="dark") as run:
        run.write(1, {"loss": 0.25})
        raise ZeroDivisionError


def test_a_run_that_fails_ends_there_as_failed_and_loses_nothing(wandb, tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path)
    assert wandb.calls[-1] == ("finish", 1)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("loss")] == [0.25]


def test_its_refusal_is_one_line(wandb, tmp_path):
    def refuse(**_):
        raise wandb.Error("no key")

    wandb.init = refuse
    with pytest.raises(InputError, match=r"refused log\.wandb=dark \(no key\); `wandb login`"):
        metrics.Metrics(tmp_path, start=0, project="dark")


@pytest.mark.parametrize("there", [None, types.ModuleType("wandb")])
def test_without_the_library_the_remedy_is_said(monkeypatch, there):
    """Also where a folder of its name, as it leaves them, is what is imported."""
    monkeypatch.setitem(sys.modules, "wandb", there)
    with pytest.raises(InputError, match="not installed: pip install wandb"):
        metrics.wandb_library()


# --- the profile ---------------------------------------------------------------------------------


def stepped(run_dir, start, stop):
    """Steps start + 1 … stop under a profile; the steps in the trace, and what was said."""
    console = Console(record=True, width=400, file=sys.stderr)
    double = jax.jit(lambda x: 2 * x)
    state = jnp.ones(8)
    with progress.Profile(True, run_dir, start, console) as profile:
        for step in range(start + 1, stop + 1):
            with profile.step(step, state):
                state = double(state)
    traces = list(run_dir.glob("profile/**/*.trace.json.gz"))
    assert len(traces) == len(list(run_dir.glob("profile/**/*.xplane.pb")))
    events = [
        e for path in traces for e in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    ]
    named = [event["args"] for event in events if event.get("name") == "train"]
    return sorted(int(args["step_num"]) for args in named), console.export_text()


@pytest.mark.parametrize(
    ("start", "stop", "traced"),
    [
        (0, 20, range(10, 16)),
        (300, 317, range(310, 316)),
        (0, 15, range(10, 16)),
        (0, 12, (10, 11, 12)),
    ],
)
def test_a_profile_has_its_steps_and_says_where_it_is(tmp_path, start, stop, traced):
    steps, said = stepped(tmp_path, start, stop)
    assert steps == list(traced)
    assert f"a profile of steps {steps[0]} to {steps[-1]} is in {tmp_path / 'profile'}" in said


def test_a_run_too_short_for_a_profile_says_so(tmp_path):
    assert stepped(tmp_path, 5, 14) == ([], "no profile: the run ended before step 15\n")
    assert not (tmp_path / "profile").exists()


def test_no_profile_is_made_unasked(tmp_path):
    with progress.Profile(False, tmp_path, 0, Console(quiet=True)) as profile:
        for step in range(1, 20):
            with profile.step(step, None):
                pass
    assert list(tmp_path.iterdir()) == []
