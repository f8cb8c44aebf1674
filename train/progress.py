"""What a run shows and records: numbers, where it stands, how fast it is, pictures, a profile."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pdn_jax import inference, photo
from pdn_jax.sheet import contact_sheet
from pdn_jax.weights import Weights
from train import distributed
from train.data.synthesis import Pair
from train.metrics import Metrics
from train.step import EXPOSURE_EDGES

SHOWN = ("loss", "restored", "structure", "negative")
WIDE = 120
"""Columns of a terminal that has room for all of these; others show the loss alone."""

PROFILED = (10, 15)
"""First and last step of a profile, counted from where the run starts or goes on."""

CELL_HEIGHT = 160
PICTURED = 8
"""Pairs at most on the picture of a run."""


class Log(Console):
    """Where a training says what it does. It goes on where nobody reads any more: `| head`, a closed
    terminal. Where it is to say one text `instead` of another, it does."""

    instead = ("", "")

    def print(self, *objects: Any, **keywords: Any) -> None:
        """As rich's."""
        here, there = self.instead
        if here:
            objects = [o.replace(here, there) if isinstance(o, str) else o for o in objects]
        super().print(*objects, **keywords)

    def on_broken_pipe(self) -> None:
        """Rich's hook."""
        self.quiet = True
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError as error:
            if error.errno != errno.EIO:  # what a terminal says that is gone
                raise
            self.on_broken_pipe()


class Recorder:
    """All that a run leaves beside its checkpoints, and what it shows; a context that closes it.

    Every process has one; that of process 0 writes. start: the step that the run goes on from.
    """

    def __init__(self, config, folder: Path, start: int, console: Console):
        first = distributed.is_first()
        self.folder, self.total = folder, config.train.steps
        self._pictures, self._exposures = config.log.images and first, 0
        self._bar = Bar(self.total, start, console)
        self.restart_clock(start)
        self._profile = Profile(config.log.profile and first, folder, start, console)
        boards = {"project": config.log.wandb, "options": config.to_dict()}
        opened = distributed.first(lambda: Metrics(folder, start=start, **boards))
        self._metrics = opened or distributed.Silent()
        self._open = contextlib.ExitStack()

    @contextlib.contextmanager
    def step(self, step: int, state: Any) -> Iterator[None]:
        """Around one step, which starts from `state`."""
        with self._profile.step(step, state):
            yield
        self._bar.advance(step)

    def count(self, exposures: Any) -> None:
        """More estimated exposures, counted in the bins of `EXPOSURE_EDGES`."""
        self._exposures = self._exposures + exposures

    def restart_clock(self, step: int) -> None:
        """Measure speed from here: what came before was no training step."""
        self._from, self._since = step, time.perf_counter()

    def log(self, step: int, values: dict[str, float], images: int = 0) -> None:
        """Numbers of a step, written and shown; images: of a step, for the speed, 0 to show nothing."""
        speed = (step - self._from) / (time.perf_counter() - self._since) if images else 0.0
        values = values | ({"images_per_second": speed * images} if speed else {})
        if images:
            self._bar.show(step, values, (self.total - step) / speed if speed else float("inf"))
        self._metrics.write(step, values)

    def picture(self, step: int, weights: Weights, pairs: Sequence[Pair]) -> None:
        """Every stage of the first pair, on the boards and as stages.png, if `log.images`."""
        if self._pictures:
            image = stages_picture(weights, pairs[:1])
            self._metrics.picture(step, "pictures/stages", image)
            photo.write(self.folder / "stages.png", image, overwrite=True)

    def flush(self, step: int) -> list[Path]:
        """Write what was counted; the files that a checkpoint goes on from and does not write again."""
        self._metrics.histogram(step, "log_exposure", np.asarray(self._exposures), EXPOSURE_EDGES)
        self._exposures = 0
        return self._metrics.files() or []

    def __enter__(self) -> "Recorder":
        for part in (self._metrics, self._profile, self._bar.progress):
            self._open.enter_context(part)
        return self

    def __exit__(self, *error) -> None:
        self._open.__exit__(*error)


class Bar:
    """The progress bar: step, loss terms, images/s and time left; plain lines where there is no terminal."""

    def __init__(self, total: int, start: int, console: Console):
        self.console, self.total = console, total
        narrow = console.is_terminal and console.width < WIDE
        self.shown = SHOWN[:1] if narrow else SHOWN
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=10 if narrow else 40),
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
        terms = "  ".join(f"{name} {values[name]:.4f}" for name in self.shown if name in values)
        if "images_per_second" in values:
            terms += f"  {values['images_per_second']:.0f} images/s"
        self.progress.update(self.task, terms=terms)
        if not self.console.is_terminal:
            time_left = f"  {left:.0f} s left" if left < float("inf") else ""
            self.console.print(f"step {step}/{self.total}  {terms}{time_left}", soft_wrap=True)


class Profile:
    """Steps 10 to 15 after `start`, traced into run_dir/profile where asked for; a context.

    It says where the trace lies, and which steps it has of a run that ends sooner.
    """

    def __init__(self, asked: bool, run_dir: Path, start: int, console: Console):
        self.folder, self.console = run_dir / "profile", console
        self.first, self.last = start + PROFILED[0], start + PROFILED[1]
        self.asked, self.seen = asked, start

    def step(self, step: int, state: Any):
        """A context for one step, named in the trace; state: what the step starts from."""
        if self.asked and step in (self.first, self.last + 1):
            jax.block_until_ready(state)
            if step == self.first:
                jax.profiler.start_trace(str(self.folder))
            else:
                self._end()
        self.seen = step
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def _end(self) -> None:
        said = f"no profile: the run ended before step {self.first}"
        if self.seen >= self.first:
            jax.profiler.stop_trace()
            said = (
                f"a profile of steps {self.first} to {self.seen} is in {self.folder}: open it with "
                f"`xprof {self.folder}`, or its trace.json.gz at ui.perfetto.dev"
            )
        self.console.print(said, soft_wrap=True)
        self.asked = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_) -> None:
        if self.asked:
            self._end()


def some(pairs: Sequence[Pair]) -> list[Pair]:
    """At most `PICTURED` of the pairs, evenly spread."""
    places = np.linspace(0, len(pairs) - 1, min(PICTURED, len(pairs))).round().astype(int)
    return [pairs[place] for place in places]


def stages_picture(weights: Weights, pairs: Iterable[Pair]) -> np.ndarray:
    """Rows of low, every enhancement stage, every denoising level, restored, truth; uint8."""
    cells, names, titles = [], [], []
    for name, low, normal in pairs:
        stages = inference.stages(low, weights)
        images = [low, *stages.enhanced, *stages.denoised, stages.restored, normal]
        cells.append([np.rint(image * 255.0).astype(np.uint8) for image in images])
        names.append(name)
        steps = [f"stage {index + 1}" for index in range(len(stages.enhanced))]
        levels = [f"level 1/{2**level}" for level in reversed(range(len(stages.denoised)))]
        titles = ["low", *steps, *levels, "restored", "truth"]
    return contact_sheet(cells, titles, names, CELL_HEIGHT)
