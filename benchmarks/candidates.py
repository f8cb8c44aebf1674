"""Candidates for the network, compared after the same short training: quality per millisecond.

    python -m benchmarks.candidates --mixture lol:0.6 holiday:0.4 --dev lol sice_pairs --minutes 7

Every candidate trains for the same minutes: as many steps as fit into them by the time of a step,
which is measured first, all candidates in turn. So a frugal network sees more crops, as it would in
earnest, and what else the machine does while one of them trains does not count. Same data, same
seed, same options. Rows are added to `--out` as they come in; a row that is there is not computed
again, and other options need another table. Milliseconds are in this process, in turn, with the
allocator as it is. Prints parameters, GMACs and milliseconds of a restored 600×400 image, training steps, and
plain PSNR and SSIM on whole dev photographs.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import count, engines, timing
from benchmarks import train as training
from configs import base
from pdn_jax import weights as weight_files
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError
from train import build, evaluate, loop, parallel
from train.data import mixture


def candidate(
    width: int, widths: Sequence[int], depths: Sequence[int], blocks: Sequence[int] = (2, 2, 2)
) -> dict[str, Any]:
    """Keyword arguments of `ProgressiveDualNetwork`, of four stages."""
    return {
        "stages": 4,
        "width": width,
        "widths": tuple(widths),
        "depths": tuple(depths),
        "blocks": tuple(blocks),
    }


CANDIDATES: dict[str, dict[str, Any]] = {
    "tiny, short fine level": candidate(16, (24, 12, 8), (1, 1, 0)),
    "tiny, short finer levels": candidate(16, (24, 12, 8), (1, 0, 0)),
    "tiny, two levels of 4×4 blocks": candidate(16, (16, 12), (1, 1), (4, 4)),
    "small, even": candidate(32, (56, 40, 24), (2, 2, 1)),
    "small, coarse-heavy": candidate(32, (96, 48, 16), (2, 2, 1)),
    "small, deep fine level": candidate(32, (64, 48, 24), (2, 2, 2)),
    "small, two levels of 4×4 blocks": candidate(32, (96, 64), (2, 2), (4, 4)),
    "small, wider enhancement": candidate(48, (56, 40, 24), (2, 2, 1)),
    "base, even": candidate(48, (128, 80, 48), (3, 2, 1)),
    "base, coarse-heavy": candidate(48, (160, 80, 32), (3, 2, 1)),
}
"""Name -> keyword arguments of `ProgressiveDualNetwork`."""

SIZE = (400, 600)


def configured(options, name: str, run_dir: Path):
    """`configs.base` with a candidate as its variant, and what the command line asks for."""
    config = base.get_config()
    config.run_dir = str(run_dir)
    config.resume = True  # a run that was stopped is gone on with
    config.model.variant = name
    config.data.directory = options.data_dir
    config.data.mixture = tuple(options.mixture)
    config.data.crop_size = options.crop
    config.train.batch_size = options.batch
    config.eval.data = tuple(options.dev[:1])
    config.eval.max_pairs = 1
    config.log.images = False
    return config


def forward_seconds(names: list[str], repeats: int) -> dict[str, float]:
    """Seconds of a restored image of `SIZE`, the fastest of `repeats`, in turn."""
    calls = {}
    for name in names:
        task = engines.Task(name, VARIANTS[name], *SIZE)
        engine = engines.xla(task, engines.parameters(task), Path())
        low = engine.feed(engines.photograph(task))
        calls[name] = lambda engine=engine, low=low: engine.run(low)
    return {name: times.minimum for name, times in timing.in_turn(calls, repeats).items()}


def step_seconds(configs: dict[str, Any], repeats: int) -> dict[str, float]:
    """Seconds of a training step of each candidate on one batch, the fastest of `repeats`, in turn."""
    first = next(iter(configs.values()))
    crops = next(training.photographs(first))
    places = np.arange(first.train.batch_size)
    calls = {}
    for name, config in configs.items():
        devices = parallel.choose_devices("single", 1, config.train.batch_size, 1)
        params = build.initial_params(config, build.network(config))
        step, mapped = training.make_training(config, params, devices)
        batch = mapped.shard((crops, places))
        calls[name] = lambda step=step, batch=batch: step(batch)
    return {name: times.minimum for name, times in timing.in_turn(calls, repeats).items()}


def trained(config, steps: int, dev: list[str]) -> dict[str, float]:
    """Train for `steps` steps, then plain PSNR and SSIM on every photograph of the dev splits."""
    config.train.steps = config.eval.every = config.checkpoint.every = steps
    run_dir = loop.train(config)
    method = evaluate.model_method(weight_files.load(run_dir))
    results = {}
    for name in dev:
        split = mixture.opened(name, "dev", config.data.directory)
        config.eval.max_pairs = 0
        pairs = mixture.pairs(config, [split])
        scores = evaluate.score(method, pairs)
        results |= {f"{name} PSNR": scores.mean("psnr"), f"{name} SSIM": scores.mean("ssim")}
    return results


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table that was begun, none where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows, replacing the file at once."""
    draft = path.with_name(path.name + ".new")
    with draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The rows as they are printed."""
    table = Table(next(iter(rows[0])))
    for name in list(rows[0])[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    return table


def check(options) -> None:
    """Raise InputError for what would fail only after a training, or mix one with another.

    The options that rows depend on are stored beside the table, as OUT.json.
    """
    for name in options.dev:
        mixture.opened(name, "dev", options.data_dir)
    record = options.out.with_suffix(".json")
    asked = {name: getattr(options, name) for name in ("dev", "minutes", "crop", "batch")}
    asked = json.dumps(asked | {"mixture": dict(options.mixture)}, sort_keys=True)
    if options.out.exists():
        there = record.read_text().strip() if record.exists() else "other options"
        if there != asked:
            raise InputError(f"--out {options.out} was made with {there}; name another for {asked}")
        return
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(asked + "\n")
    except OSError as error:
        raise InputError(f"--out {options.out} cannot be written: {error.strerror}") from error


def compare(options, console: Console) -> None:
    """Measure, then train what is not in the table yet."""
    check(options)
    VARIANTS.update(CANDIDATES)
    names = options.only or list(CANDIDATES)
    rows = read_rows(options.out)
    there = {row["candidate"] for row in rows}
    names = [name for name in names if name not in there]
    configs = {
        name: configured(options, name, options.runs / str(i)) for i, name in enumerate(names)
    }
    for name, config in configs.items():
        config.run_dir = str(options.runs / name.replace(",", "").replace(" ", "-"))
    if names:
        seconds = forward_seconds(names, options.repeats)
        steps = step_seconds(configs, options.repeats)
    for name, config in configs.items():
        parameters, *parts = count.network_macs(name, (1, *SIZE, 3))
        budget = round(60 * options.minutes / steps[name])
        scores = trained(config, budget, options.dev)
        rows.append(
            {
                "candidate": name,
                "parameters": parameters,
                "GMACs": f"{sum(parts) / 1e9:.2f}",
                "ms": f"{1e3 * seconds[name]:.1f}",
                "steps": budget,
            }
            | {key: f"{value:.3f}" for key, value in scores.items()}
        )
        write_rows(options.out, rows)
    console.print(table_of(rows))


def weighted(text: str) -> tuple[str, float]:
    """'lol:0.5' -> ('lol', 0.5); argparse's own error for anything else."""
    name, _, weight = text.rpartition(":")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:WEIGHT, as lol:0.5") from None


def main(argv: list[str] | None = None) -> None:
    """The command line; raises InputError for a data set or candidate that is not there."""
    parser = Parser(
        prog="python -m benchmarks.candidates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mixture", type=weighted, nargs="+", required=True, metavar="NAME:WEIGHT")
    parser.add_argument("--dev", nargs="+", required=True, metavar="NAME", help="sets to judge by")
    parser.add_argument("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    parser.add_argument("--minutes", type=float, default=7.0, help="of training, each")
    parser.add_argument("--crop", type=count.positive_integer, default=128)
    parser.add_argument("--batch", type=count.positive_integer, default=8)
    parser.add_argument("--repeats", type=count.positive_integer, default=10)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, metavar="CANDIDATE")
    parser.add_argument("--out", type=Path, default=Path("candidates.csv"), help="csv, added to")
    parser.add_argument("--runs", type=Path, default=Path("runs/candidates"), help="run folders")
    options = parser.parse_args(argv)
    if not 0 < options.minutes < math.inf:
        raise InputError(f"--minutes is {options.minutes}; expected a finite number above 0")
    compare(options, Console())


if __name__ == "__main__":
    sys.exit(explained(main))
