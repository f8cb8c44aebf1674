"""What a checkpoint costs the loop: the time of a step while one is being written, and of the call.

    python -m benchmarks.saving --variant base

trains on one batch again and again and saves the whole state every few steps, in turn in the
background as `train.loop` does, and waiting until it is written. Every step is waited for, so that
its time is its own.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import train as training
from benchmarks.count import positive_integer
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from train import build, checkpoint, loop, parallel

BETWEEN = 5
"""Steps between two saves."""

ROWS = {
    "alone": "a step, nothing being written",
    "during": "a step, a checkpoint being written",
    "call": "the call that has one written, behind the loop",
    "whole": "the same, waiting until it is on the disk",
}


def measured(options: argparse.Namespace, folder: Path) -> tuple[dict[str, list[float]], int]:
    """(seconds of each of `ROWS`, bytes of a checkpoint's state)."""
    config = training.configured(options.variant, options.batch, options.crop, "gradient_ratio")
    devices = parallel.choose_devices("pmap", 0, options.batch, 1)
    params = build.initial_params(config, build.network(config))
    mapped, state = training.assembled(config, params, devices)
    normal = np.random.default_rng(0).integers(
        60, 200, (options.batch, options.crop, options.crop, 3), dtype=np.uint8
    )
    batch = mapped.shard(({"normal": normal}, np.arange(options.batch)))
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    with checkpoint.Checkpoints(folder, keep=1, console=Console(quiet=True)) as checkpoints:
        state, _ = jax.block_until_ready(mapped.step(state, *batch))  # compiles
        saves = 0
        for step in range(2, options.saves * BETWEEN + 2):
            writing = checkpoints.writing()
            begin = time.perf_counter()
            state, _ = jax.block_until_ready(mapped.step(state, *batch))
            times["during" if writing else "alone"].append(time.perf_counter() - begin)
            if step % BETWEEN:
                continue
            saves += 1
            waiting = saves % 2 == 0
            begin = time.perf_counter()
            save(config, mapped, state, step, checkpoints)
            if waiting:
                checkpoints.wait()
            times["whole" if waiting else "call"].append(time.perf_counter() - begin)
    return times, sum(x.nbytes for x in jax.tree.leaves(mapped.collect(state)))


def save(config, mapped: parallel.Mapped, state: Any, step: int, checkpoints) -> None:
    """What `train.loop` does."""
    weights = loop.weights_of(config, mapped.collect(state.average), step)
    checkpoints.save(step, mapped.collect(state), weights)


def table(times: dict[str, list[float]]) -> Table:
    """How often each was measured, its median and its longest time."""
    shown = Table("")
    for name in ("times", "median ms", "longest ms"):
        shown.add_column(name, justify="right")
    for name, what in ROWS.items():
        seconds = [1e3 * value for value in times[name]]
        cells = (
            (f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}") if seconds else ("", "")
        )
        shown.add_row(what, str(len(seconds)), *cells)
    return shown


def run(argv: list[str]) -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.saving", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default="base", help="(default base)")
    parser.add_argument("--batch", type=positive_integer, default=8, help="crops (default 8)")
    parser.add_argument("--crop", type=positive_integer, default=64, help="pixels (default 64)")
    parser.add_argument("--saves", type=positive_integer, default=20, help="in all (default 20)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="saving-") as folder:
        times, size = measured(options, Path(folder))
    Console().print(
        f"{options.variant}, {options.batch} crops of {options.crop}×{options.crop}, a state of "
        f"{size / 1e6:.1f} MB, saved every {BETWEEN} steps",
        table(times),
    )


if __name__ == "__main__":
    sys.exit(explained(lambda: run(sys.argv[1:])))
