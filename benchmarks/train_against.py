"""Images a second of whole trainings in two checkouts, in turn, as `train.main` writes them down.

Every run is a process of its own with a run folder of its own. The rate of a run is the median of the
rows of its metrics.csv after those in which it compiles and the disk is cold.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from pdn_jax.types import InputError

ROOT = Path(__file__).parents[1]

EVERY = 10
"""Steps between rows."""

WARM = 30
"""Steps at the beginning that do not count."""


class Pace(NamedTuple):
    """Images a second of a training, and the mean loss of the rows that count."""

    rate: float
    loss: float


def train(checkout: Path, config: str, steps: int, options: Sequence[str]) -> Pace:
    """Train in a checkout, `steps` steps beside `WARM`; raises InputError where that fails."""
    whole = WARM + steps
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "train.main", "--config", config),
            f"--config.run_dir={folder}/run",
            f"--config.train.steps={whole}",
            f"--config.log.every={EVERY}",
            "--config.log.images=False",
            f"--config.eval.every={whole}",
            "--config.eval.draws=1",
            f"--config.checkpoint.every={whole}",
            *options,
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
        environment["PYTHONPATH"] = str(checkout)
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise InputError(f"train.main in {checkout} ended with {done.returncode}: {last}")
        with open(Path(folder) / "run" / "metrics.csv") as file:
            rows = list(csv.DictReader(file))
    counted = [row for row in rows if int(row["step"]) > WARM and row.get("images_per_second")]
    rates, losses = ([float(row[n]) for row in counted] for n in ("images_per_second", "loss"))
    return Pace(statistics.median(rates), statistics.fmean(losses))


def in_turn(
    checkouts: Mapping[str, Path], config: str, steps: int, rounds: int, options: Sequence[str]
) -> dict[str, list[Pace]]:
    """Name of a checkout -> its runs, in turn, every other round backwards."""
    names, paces = list(checkouts), {name: [] for name in checkouts}
    for _ in range(rounds):
        for name in names:
            paces[name].append(train(checkouts[name], config, steps, options))
        names.reverse()
    return paces


def table(title: str, paces: Mapping[str, Sequence[Pace]]) -> Table:
    """Images a second and losses of both, and the ratio of the fastest runs."""
    result = Table(title)
    for name in ("images/s, fastest", "images/s, median", "loss"):
        result.add_column(name, justify="right")
    for name, runs in paces.items():
        rates = [run.rate for run in runs]
        loss = statistics.fmean(run.loss for run in runs)
        result.add_row(name, f"{max(rates):.1f}", f"{statistics.median(rates):.1f}", f"{loss:.4f}")
    first, second = (max(run.rate for run in runs) for runs in paces.values())
    result.add_row("ratio", f"{first / second:.2f}", "", "", style="bold")
    return result
