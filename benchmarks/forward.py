"""How fast a photograph is restored, beside what else could run the same network.

    python -m benchmarks.forward --sizes 400x600 1080x1920 3000x4000 --variants tiny small base

Batch 1, on the present device. Before every size the roofline is measured (see `benchmarks.roofline`;
the best so far counts). Then, per variant, XLA and what a user would take instead run the same graph with the same weights:
ONNX Runtime with our exported file and with a port through PyTorch, PyTorch with channels last,
PyTorch compiled. Each has a process of its own, as many
threads and the same allocator; their results must agree to 0.001 before they are timed, in turn.

A photograph of up to 1536² pixels is one call of the jitted network on a float32 image. A larger one
is what a user gets: `Enhancer`, uint8 in and out, in tiles that overlap, all of it in
XLA's time; the others get it as one float32 image, whose conversion is not in theirs. GFLOP/s are
2 × the multiply-accumulates of the whole photograph over the fastest call, overlaps not counted.
Memory is the peak of the whole process, Python, libraries, weights and compilation included; on a
GPU it is the device's peak. `XLA takes` is the ratio of the fastest
calls, XLA's over that engine's. Other work on the same cores slows the engines by unequal factors:
compare on a machine that is otherwise idle; the load before is printed.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import engines, roofline, timing, workers
from benchmarks.count import positive_integer, size
from benchmarks.engines import TITLES, Task
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError

SIZES = ((400, 600), (1080, 1920), (3000, 4000))
"""Height and width; the last is 12 megapixels."""

AGREEMENT = {"cpu": 1e-3, "gpu": 1e-2}
"""By how much results may differ; on a GPU, products of float32 are rounded to TF32 by default."""

FEWEST_ROUNDS = 2

WIDEST = 110
"""Columns that the table needs, where the terminal does not say how many there are."""

COLUMNS = (
    "fastest, ms",
    "median, ms",
    "Mpixel/s",
    "GFLOP/s",
    "of roofline",
    "memory, MB",
    "XLA takes",
)


class Result(NamedTuple):
    """The times of all calls of an engine, and its peak of memory in bytes, where it is known."""

    times: timing.Timing
    memory: int | None


class Disagreement(Exception):
    """Two engines with the same weights make different images of a photograph."""


def available(names: Iterable[str], platform: str, dtype: str) -> tuple[list[str], list[str]]:
    """(engines that can run, XLA first; a line for each of the others, which says why not)."""
    usable, lines = ["xla"], []
    for name in [name for name in names if name != "xla"]:
        if platform not in AGREEMENT:
            lines.append(f"{TITLES[name]} is left out: it is not compared on a {platform}")
        elif dtype != "float32":
            lines.append(f"{TITLES[name]} is left out: it is compared in float32, not in {dtype}")
        elif missing := engines.missing(name):
            lines.append(
                f"{TITLES[name]} is left out: not installed: {', '.join(missing)}; "
                'pip install -e ".[compare]"'
            )
        else:
            usable.append(name)
    return usable, lines


def difference(reference: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two images; beside uint8, what rounding and clipping explain aside."""
    other = np.asarray(other, np.float32)
    if reference.dtype == np.uint8:
        largest = max(
            np.abs(row / np.float32(255) - other_row.clip(0.0, 1.0)).max()
            for row, other_row in zip(reference, other, strict=True)
        )
        return max(float(largest) - 0.5 / 255, 0.0)
    return float(np.abs(reference - other).max())


def compare(task: Task, name: str, folder: Path) -> None:
    """Hold what an engine made against what XLA made; raises Disagreement."""
    images = [np.load(folder / f"{engine}.npy", mmap_mode="r") for engine in ("xla", name)]
    if name == "exported" and images[0].dtype != np.uint8:
        images[0] = images[0].clip(0.0, 1.0)  # which that does itself
    apart, allowed = difference(*images), AGREEMENT[task.platform]
    if not apart <= allowed:
        raise Disagreement(
            f"{task.name}: the result of {TITLES[name]} differs from that of XLA by {apart:.2g}, "
            f"more than {allowed:g}; nothing is compared"
        )


def measure(
    task: Task, names: Sequence[str], *, rounds: int, seconds: float
) -> tuple[dict[str, Result], list[str]]:
    """Engine -> its result, timed in turn; and a line for each that failed to start, with the reason.

    No further round is begun after `rounds`, or after two once that many seconds are over.
    Raises Disagreement, and workers.Failure where XLA fails, or another in the middle.
    """
    running: dict[str, workers.Worker] = {}
    failures = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pdn-jax-forward-")))
        for name in names:
            try:
                if name == "onnx":
                    workers.apart(engines.export, task, folder)
                worker = stack.enter_context(workers.Worker(engines.serve, name, task, folder))
            except workers.Failure as failure:
                if name == "xla":
                    raise
                failures.append(f"{TITLES[name]} is left out at {task.name}: {failure}")
                continue
            running[name] = worker
            if name != "xla":
                compare(task, name, folder)
        return in_turn(running, rounds, seconds), failures


def in_turn(running: dict[str, workers.Worker], rounds: int, seconds: float) -> dict[str, Result]:
    """The results of workers of `engines.serve`, every other round backwards."""
    times: dict[str, list[float]] = {name: [] for name in running}
    memory, names, started = {}, list(running), time.perf_counter()
    for index in range(rounds):
        if index >= FEWEST_ROUNDS and time.perf_counter() - started > seconds:
            break
        for name in names:
            answer = running[name].ask()
            times[name] += answer.seconds
            memory[name] = answer.memory
        names.reverse()
    return {name: Result(timing.Timing(tuple(times[name])), memory[name]) for name in running}


def row(
    task: Task, result: Result, xla: Result, machine: roofline.Roofline, cost: tuple[int, int]
) -> tuple[str, ...]:
    """A result as the text of `COLUMNS`; cost: as `engines.cost` gives it."""
    macs, moved = cost
    fastest = result.times.minimum
    return (
        f"{1e3 * fastest:.1f}",
        f"{1e3 * result.times.median:.1f}",
        f"{1e-6 * task.height * task.width / fastest:.2f}",
        f"{2e-9 * macs / fastest:.1f}",
        f"{100 * machine.seconds(macs, moved) / fastest:.0f} %",
        "–" if result.memory is None else f"{1e-6 * result.memory:.0f}",
        f"{xla.times.minimum / fastest:.2f}×",
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.forward",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", type=size, nargs="+", default=list(SIZES), metavar="HxW")
    parser.add_argument("--variants", choices=VARIANTS, nargs="+", default=list(VARIANTS))
    parser.add_argument("--engines", choices=TITLES, nargs="+", default=list(TITLES))
    parser.add_argument("--rounds", type=positive_integer, default=8, help="at most")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of a row, after which no round is begun"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the convolutions; bfloat16 is for accelerators, and for XLA in one piece alone",
    )
    parser.add_argument(
        "--peaks", type=positive_integer, default=10, help="repeats for the roofline"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """The command line: the roofline, a table per size, and who is not in it and why.

    Raises InputError, at the end, where two engines disagree or one dies.
    """
    options = parse(argv)
    console = Console()
    console.width = max(console.width, WIDEST)
    busy = f", load before {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    failed: list[str] = []
    try:
        machine = workers.apart(roofline.measure, options.dtype, options.peaks)
    except workers.Failure as failure:
        raise InputError(f"the device cannot be measured: {failure}") from failure
    console.print(f"{machine.device}, {workers.threads()} threads{busy}", highlight=False)
    names, lines = available(options.engines, machine.platform, options.dtype)
    for height, width in options.sizes:
        machine = machine.best(workers.apart(roofline.measure, options.dtype, options.peaks))
        table = Table("variant", title=f"{height}×{width}, {options.dtype}", caption=str(machine))
        table.add_column("engine", no_wrap=True)
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for variant in options.variants:
            task = Task(variant, VARIANTS[variant], height, width, machine.platform, options.dtype)
            try:
                results, failures = measure(
                    task, names, rounds=options.rounds, seconds=options.seconds
                )
            except (Disagreement, workers.Failure) as error:
                failed.append(f"{task.name} is left out: {error}")
                continue
            lines += failures
            cost = engines.cost(task)
            table.add_section()
            for name, result in results.items():
                values = row(task, result, results["xla"], machine, cost)
                table.add_row(variant, TITLES[name], *values)
        console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False)
    if failed:
        raise InputError("; ".join(failed))


if __name__ == "__main__":
    sys.exit(explained(main))
