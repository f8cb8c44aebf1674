"""The numbers of a run: metrics.csv, TensorBoard, and Weights & Biases where asked for.

A row of metrics.csv is whole whatever became of the run that wrote it.
"""

import csv
import io
import os
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from pdn_jax import files
from pdn_jax.types import InputError

FILENAME = "metrics.csv"
EVALUATION = ("eval/psnr", "eval/ssim")

Row = dict[str, str]
"""Column -> number as it is written, or ''."""


class Metrics:
    """metrics.csv and the boards of a run folder, written as they come; a context that closes them.

    Rows of steps after `start`, which will be written again, are dropped, and so is half a row.
    project: of Weights & Biases, '' for none, with the run's `options`.
    """

    def __init__(
        self, run_dir: Path, *, start: int, project: str = "", options: dict[str, Any] | None = None
    ):
        self.path = run_dir / FILENAME
        self.rows = [row for row in read_rows(self.path) if int(row["step"]) <= start]
        if self.path.exists():
            write_rows(self.path, self.rows)
        asked = [WeightsAndBiases(project, run_dir, options=options or {})] if project else []
        self._tensorboard = TensorBoard(run_dir, start=start)
        self.boards = [*asked, self._tensorboard]

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row, or more of the last; the file is rewritten whole when a new column appears."""
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in values.items()}
        known, more = columns(self.rows), False
        if self.rows and self.rows[-1]["step"] == row["step"]:
            row, more = self.rows.pop() | row, True
        self.rows.append(row)
        if not more and known == columns(self.rows) and self.path.exists():
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, known).writerow(row)
        else:
            write_rows(self.path, self.rows)
        for board in self.boards:
            board.scalars(step, values)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """A uint8 image for the boards."""
        for board in self.boards:
            board.picture(step, name, image)

    def histogram(self, step: int, name: str, counts: np.ndarray, edges: np.ndarray) -> None:
        """Counts between edges, one more, for the boards; nothing where there is nothing in any."""
        if counts.any():
            for board in self.boards:
                board.histogram(step, name, counts, edges)

    def files(self) -> list[Path]:
        """What a checkpoint goes on from and does not write again."""
        return [path for path in (self.path, self._tensorboard.path) if path.exists()]

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, kind, *_) -> None:
        for board in self.boards:
            board.close(failed=kind is not None)


def columns(rows: Sequence[Row]) -> list[str]:
    """Step first, evaluation last, the others in between, by name."""
    names = {name for row in rows for name in row} - {"step"}
    return ["step", *sorted(names - set(EVALUATION)), *sorted(names & set(EVALUATION))]


def read_rows(path: Path) -> list[Row]:
    """Every whole row, none where there is no file.

    A row without its end, as a kill or a full disk leaves it, is passed by, and so is one that has
    no step, or something else than numbers and blanks.
    """
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if _is_whole(row)]


def _is_whole(row: Row) -> bool:
    try:
        numbers = [float(cell) for cell in row.values() if cell != ""]
        return int(row["step"]) >= 0 and len(numbers) > 0
    except (KeyError, TypeError, ValueError):  # a cell too few is None, those too many are a list
        return False


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The file as a whole: there is the old one or the new one at any moment, never a part."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns(rows))
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, file.getvalue())


class TensorBoard:
    """An event file of a run folder; what the others hold of steps after `start` is hidden.

    Written as it comes, without a thread, which a full disk would end unheard, and without waiting
    for the disk, as tensorboardX's own writers do.
    """

    def __init__(self, run_dir: Path, *, start: int):
        folder = run_dir / "tensorboard"
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{start}"
        self.path = folder / name
        self._file = self.path.open("ab")
        self._write(0, file_version="brain.Event:2")
        self._write(start + 1, session_log=SessionLog(status=SessionLog.START))

    def _write(self, step: int, **content: Any) -> None:
        event = Event(step=step, wall_time=time.time(), **content)
        self._file.write(record(event.SerializeToString()))
        self._file.flush()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by name."""
        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, summary=Summary(value=numbers))

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """A uint8 image [h, w, 3]."""
        self._write(step, summary=summary.image(name, image, dataformats="HWC"))

    def histogram(self, step: int, name: str, counts: np.ndarray, edges: np.ndarray) -> None:
        """Counts between edges, one more, at least one of them not 0; with the centres' moments."""
        filled, centres = np.flatnonzero(counts), (edges[1:] + edges[:-1]) / 2
        shown = summary.histogram_raw(
            name,
            min=float(edges[filled[0]]),
            max=float(edges[filled[-1] + 1]),
            num=int(counts.sum()),
            sum=float(counts @ centres),
            sum_squares=float(counts @ centres**2),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
        )
        self._write(step, summary=shown)

    def close(self, failed: bool = False) -> None:
        """No more will come."""
        self._file.close()


def record(content: bytes) -> bytes:
    """One record of a TFRecord file: its length, its content, and the check sum of either."""
    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + sums[0] + content + sums[1]


def wandb_library() -> Any:
    """The module `wandb`; raises InputError where it is not installed."""
    try:
        import wandb
    except ImportError:
        wandb = None
    if not hasattr(wandb, "init"):  # a mere folder of that name can be imported too
        raise InputError(
            "log.wandb asks for Weights & Biases, which is not installed: "
            "pip install wandb, or leave --config.log.wandb out"
        )
    return wandb


class WeightsAndBiases:
    """A run of a project of Weights & Biases, which goes on when the training is resumed.

    Its files and its id are in run_dir/wandb. Where it writes to is its own affair (`wandb login`,
    WANDB_MODE=offline). Raises InputError with what it says where it refuses.
    """

    def __init__(self, project: str, run_dir: Path, *, options: dict[str, Any]):
        self._library = wandb_library()
        kept = run_dir / "wandb" / "id"
        kept.parent.mkdir(exist_ok=True)
        if not kept.exists():
            kept.write_text(secrets.token_hex(8))
        try:
            self._run = self._library.init(
                project=project,
                name=run_dir.resolve().name,
                id=kept.read_text(),
                resume="allow",
                dir=str(run_dir),
                config=options,
            )
        except self._library.Error as error:
            raise InputError(
                f"Weights & Biases refused log.wandb={project} ({error}); "
                "`wandb login`, set WANDB_MODE=offline, or leave --config.log.wandb out; then the same "
                "command with --config.resume=true"
            ) from error

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by name; those of steps that it has already are ignored by it."""
        self._run.log(values, step=step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """A uint8 image [h, w, 3]."""
        self._run.log({name: self._library.Image(image)}, step=step)

    def histogram(self, step: int, name: str, counts: np.ndarray, edges: np.ndarray) -> None:
        """Counts between edges, one more."""
        shown = self._library.Histogram(np_histogram=(counts.tolist(), edges.tolist()))
        self._run.log({name: shown}, step=step)

    def close(self, failed: bool = False) -> None:
        """End the run there, as failed if it was."""
        self._run.finish(exit_code=int(failed))
