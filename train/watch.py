"""What a run shows and leaves: progress, metrics.csv, TensorBoard, the picture of the stages."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from pdn_jax import inference, photo
from pdn_jax.sheet import contact_sheet
from pdn_jax.weights import Weights
from train.evaluate import Pair

EVALUATION = ("eval/psnr", "eval/ssim")
SHOWN = ("loss", "restored", "structure", "negative")
CELL_HEIGHT = 160
ROWS = 8
"""Pairs at most on the picture of a run."""


class Metrics:
    """metrics.csv and TensorBoard scalars and images of a run folder, written as they come.

    Resuming drops the rows of steps after `start`, which will be written again.
    """

    def __init__(self, run_dir: Path, *, start: int):
        self.path = run_dir / "metrics.csv"
        self.rows: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]
        self.board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row; the file is rewritten whole when a new column appears."""
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in values.items()}
        known = self.columns()
        self.rows.append(row)
        if known == self.columns() and self.path.exists():
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, known).writerow(row)
        else:
            self._rewrite()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def columns(self) -> list[str]:
        """Step first, evaluation last, the loss terms in between, by name."""
        names = {name for row in self.rows for name in row} - {"step"}
        return ["step", *sorted(names - set(EVALUATION)), *sorted(names & set(EVALUATION))]

    def _rewrite(self) -> None:
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns())
            writer.writeheader()
            writer.writerows(self.rows)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """A uint8 image for TensorBoard."""
        self.board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush everything."""
        self._rewrite()
        self.board.close()


class Bar:
    """The progress bar: step, loss terms, images/s and time left; plain lines where there is no terminal."""

    def __init__(self, total: int, start: int, console: Console):
        self.console, self.total = console, total
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[terms]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("train", total=total, completed=start, terms="compiling")

    def advance(self, step: int) -> None:
        """A step was done."""
        self.progress.update(self.task, completed=step)

    def show(self, step: int, values: dict[str, float], left: float) -> None:
        """New terms and the speed, where known; without a terminal they are printed as a line."""
        terms = "  ".join(f"{name} {values[name]:.4f}" for name in SHOWN if name in values)
        if "images_per_second" in values:
            terms += f"  {values['images_per_second']:.0f} images/s"
        self.progress.update(self.task, terms=terms)
        if not self.console.is_terminal:
            time_left = f"  {left:.0f} s left" if left < float("inf") else ""
            self.console.print(f"step {step}/{self.total}  {terms}{time_left}", soft_wrap=True)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()


def some(pairs: Sequence[Pair]) -> list[Pair]:
    """At most `ROWS` of the pairs, evenly spread."""
    places = np.linspace(0, len(pairs) - 1, min(ROWS, len(pairs))).round().astype(int)
    return [pairs[place] for place in places]


def stages_picture(weights: Weights, pairs: Iterable[Pair]) -> np.ndarray:
    """Rows of low, every enhancement stage, every denoising level, restored, truth; uint8."""
    rows, names, titles = [], [], []
    for name, low, normal in pairs:
        found = inference.stages(low, weights)
        images = [low, *found.enhanced, *found.denoised, found.restored, normal]
        rows.append([np.rint(image * 255.0).astype(np.uint8) for image in images])
        names.append(name)
        levels = range(len(found.denoised) - 1, -1, -1)
        titles = [
            "low",
            *(f"stage {index + 1}" for index in range(len(found.enhanced))),
            *(f"level 1/{2**level}" for level in levels),
            "restored",
            "truth",
        ]
    return contact_sheet(rows, titles, names, CELL_HEIGHT)


def write_picture(path: Path, image: np.ndarray) -> None:
    """A PNG, replaced if a resumed run had written it before."""
    photo.write(path, image, overwrite=True)
