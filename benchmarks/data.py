"""How fast crops come, next to how fast training takes them.

    python -m benchmarks.data [--data lol sice] [--variant small]

Without --data, pairs of 600×400 PNG files are made of the packaged photographs and prepared, in a
folder that is removed at the end. Each way of reading is timed from its first batch on: the first
crops, which are decoded, and the later ones, most of which come from decoded images held in memory.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from rich.console import Console
from rich.table import Table

from benchmarks import timing
from benchmarks.count import positive_integer
from benchmarks.train import configured, make_training, seconds_of
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from train import build, parallel
from train.data import crops, mixture, store
from train.data.prefetch import prefetched
from train.tools import prepare

SIZE = 600, 400
MIB = 2**20


def make_pairs(folder: Path, copies: int) -> None:
    """Prepare pairs of PNG files as data set 'made': packaged photographs, darkened with noise."""
    photos, rng = store.Split("packaged", "train", folder), np.random.default_rng(0)
    for index, copy in itertools.product(range(len(photos)), range(copies)):
        image = PILImage.fromarray(photos.frame(index, 0)).resize(SIZE)
        normal = np.roll(np.asarray(image), 50 * copy, axis=1)
        low = np.clip(normal / 12.0 + rng.normal(0.0, 2.0, normal.shape), 0, 255)
        for side, pixels in (("low", low), ("high", normal)):
            path = folder / "made" / "train" / side / f"{index}-{copy}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(pixels.astype(np.uint8)).save(path)
    asked = ["paired", "--source", str(folder / "made"), "--name", "made"]
    asked += ["--data-dir", str(folder / "built")]
    prepare.prepare(prepare.options_of(asked), Console(quiet=True))


def reading(splits, *, batch: int, crop: int, budget: int, threads: int, workers: int, seconds):
    """(seconds to the first batch, crops/s while decoding, crops/s after, bytes held)."""
    cache = crops.Cache(budget)
    dataset = mixture.batches(
        splits,
        [1.0] * len(splits),
        seed=0,
        batch_size=batch,
        taken=crops.Crops(crop, 0.3, 3),
        cache=cache,
    )
    started = time.perf_counter()
    with prefetched(dataset, 0, threads=threads, workers=workers) as batches:
        next(batches)
        first = time.perf_counter() - started
        once = max(1, sum(map(len, splits)) // batch)
        cold = speed(batches, once, 0.0, batch)
        warm = speed(batches, 1, seconds, batch)
    return first, cold, warm, cache.used


def speed(batches, least: int, seconds: float, batch: int) -> float:
    """Crops per second over at least that many batches and seconds."""
    started, count = time.perf_counter(), 0
    while count < least or time.perf_counter() - started < seconds:
        next(batches)
        count += 1
    return count * batch / (time.perf_counter() - started)


def consumption(variant: str, batch: int, crop: int, steps: int) -> float:
    """Crops per second that training takes, on one batch over and over."""
    config = configured(variant, batch, crop, "gradient_ratio")
    devices = parallel.choose_devices(config.parallel.strategy, 0, batch, 1)
    step, mapped = make_training(
        config, build.initial_params(config, build.network(config)), devices
    )
    crops = {"normal": np.full((batch, crop, crop, 3), 128, np.uint8)}
    batches = itertools.repeat(mapped.shard((crops, np.arange(batch))))
    seconds_of(step, mapped, batches, 2)
    return steps * batch / seconds_of(step, mapped, batches, steps)


def main(argv: list[str] | None = None) -> None:
    """The command line: a table; raises InputError for a data set that is not there."""
    parser = Parser(
        prog="python -m benchmarks.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", metavar="NAME", help="built data sets")
    parser.add_argument("--data-dir", default="", help="where they were built")
    parser.add_argument("--variant", choices=VARIANTS, default="small")
    parser.add_argument("--batch", type=positive_integer, default=8)
    parser.add_argument("--crop", type=positive_integer, default=128, help="pixels a side")
    parser.add_argument("--threads", type=positive_integer, default=2)
    parser.add_argument("--workers", type=positive_integer, default=2, help="processes, where any")
    parser.add_argument("--copies", type=positive_integer, default=10, help="pairs per photograph")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timing, at least")
    parser.add_argument("--steps", type=positive_integer, default=20, help="of training")
    options = parser.parse_args(argv)

    with tempfile.TemporaryDirectory(prefix="pdn-jax-benchmark-") as folder:
        where, names = options.data_dir, options.data or ["made"]
        if not options.data:
            make_pairs(Path(folder), options.copies)
            where = str(Path(folder) / "built")
        splits = [store.Split(name, "train", where) for name in names]
        table = Table(title=f"{', '.join(names)}: {options.crop}×{options.crop} crops per second")
        table.add_column("", no_wrap=True)
        for column in ("first batch", "decoding", "then", "MiB held"):
            table.add_column(column, justify="right")
        ways = {
            f"{options.threads} threads": {"workers": 0, "budget": 4 * 2**30},
            f"{options.threads} threads, none held": {"workers": 0, "budget": 0},
            f"{options.workers} processes": {"workers": options.workers, "budget": 4 * 2**30},
        }
        for name, way in ways.items():
            first, cold, warm, used = reading(
                splits,
                batch=options.batch,
                crop=options.crop,
                threads=options.threads,
                seconds=options.seconds,
                **way,
            )
            held = f"{used / MIB:.0f}" if not way["workers"] else "in each"
            table.add_row(name, f"{first:.2f} s", f"{cold:.0f}", f"{warm:.0f}", held)
        taken = consumption(options.variant, options.batch, options.crop, options.steps)
        table.add_section()
        table.add_row(f"{options.variant} takes", "", "", f"{taken:.0f}", "")
    console = Console()
    console.print(table)
    console.print(timing.present_device())


if __name__ == "__main__":
    sys.exit(explained(main))
