"""Archives: photographs/s of one process and of Ray, workers and a node killed, memory of the names.

    python -m benchmarks.archive --photographs 2000 --names 10000000

makes small photographs, then prints
 - photographs/s of the plain pipeline (as `enhance` runs it), of `archive` in one process, and
   on Ray with one and two nodes of one core, of the last two thirds, so without the start;
 - what became of a run on two nodes in which a worker was killed twice and a node once, against
   what `enhance` makes of the same photographs;
 - the most memory that listing so many names takes,
 - with `--only build --photographs 50000`, what a data set of as many to train on takes to build, and
   crops/s of one thread that reads it, with no photograph held in memory.
Needs `pip install -e ".[archive]"`. Exit code 1 where a photograph is missing or differs.
"""

import contextlib
import importlib
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import data
from pdn_jax.archive import walk, work
from pdn_jax.archive.lists import Lists
from pdn_jax.archive.walk import Entry
from pdn_jax.cli import Parser, explained
from pdn_jax.types import InputError
from train.data import store

SIDES = ((120, 160), (160, 120))
PART = 25
MARK = "PDN_ARCHIVE_BENCHMARK"
"""Environment variable by which the processes of this run are known."""

PATIENCE = 900.0
"""Seconds without a new result after which the kill test is given up."""


def make(folder: Path, count: int) -> None:
    """Small dark JPEGs of two shapes, in folders of a hundred."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 100:03}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        low = rng.integers(0, 60, (8, 8, 3), np.uint8)
        height, width = SIDES[number % 2]
        exif = Image.Exif()
        exif[0x010F] = f"camera {number}"
        Image.fromarray(low).resize((width, height)).save(path, quality=92, exif=exif)


def asked_of(source: Path, out: Path, options) -> work.Asked:
    """What the workers are told."""
    return work.Asked(str(source), str(out), options.weights, 1.0, 1.0, "same", None, False, 4)


def listed(source: Path, out: Path) -> int:
    """Write the lists; how many parts."""
    return Lists(str(out)).write(walk.names(source, "", out), PART)[0]


# --- rates ---------------------------------------------------------------------------------------


def rate(counts: Iterator[work.Counts], parts: int) -> float:
    """Photographs/s of the last two thirds of the parts."""
    for _ in range(max(1, parts // 3)):
        next(counts)
    begun, written = time.perf_counter(), 0
    for one in counts:
        written += one.written
    return written / (time.perf_counter() - begun)


def plain(source: Path, out: Path, options) -> float:
    """Photographs/s of the pipeline in one go, once a few have been enhanced."""
    worker = work.Worker(asked_of(source, out, options))
    entries: list[Entry] = list(walk.names(source, "", out))
    list(worker.enhanced(entries[:PART]))
    begun = time.perf_counter()
    list(worker.enhanced(entries[PART:]))
    return len(entries[PART:]) / (time.perf_counter() - begun)


@contextlib.contextmanager
def cluster(nodes: int):
    """A Ray cluster on this machine of so many nodes of one core."""
    simulated, ray = importlib.import_module("ray.cluster_utils"), importlib.import_module("ray")
    os.environ[MARK] = secrets.token_hex(8)
    made = simulated.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def on_ray(source: Path, out: Path, nodes: int, options) -> float:
    """Photographs/s of as many workers as nodes."""
    asked = asked_of(source, out, options)
    with cluster(nodes) as made:
        parts = listed(source, out)
        return rate(work.on_ray(asked, parts, nodes, address=made.address), parts)


def rates(folder: Path, options, console: Console) -> None:
    """The table of rates: medians of `--rounds`, in which all ways take turns."""
    source = folder / "scans"

    def one_process(out: Path) -> float:
        parts = listed(source, out)
        return rate(work.here(asked_of(source, out, options), parts), parts)

    ways: dict[str, Callable[[Path], float]] = {
        "plain pipeline": lambda out: plain(source, out, options),
        "one process": one_process,
        "Ray, one node": lambda out: on_ray(source, out, 1, options),
        "Ray, two nodes": lambda out: on_ray(source, out, 2, options),
    }
    table = Table("", "photographs/s", "least to most", "of the plain pipeline")
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds):
        for number, (name, way) in enumerate(ways.items()):
            measured[name].append(way(folder / f"rate-{turn}-{number}"))
            console.print(f"{name}: {measured[name][-1]:.1f}/s")
    for name, values in measured.items():
        share = np.median(values) / np.median(measured["plain pipeline"])
        span = f"{min(values):.1f}–{max(values):.1f}"
        table.add_row(name, f"{np.median(values):.1f}", span, f"{share:.2f}")
    console.print(table)


# --- kills ---------------------------------------------------------------------------------------


def workers() -> list[int]:
    """The actors of this run, by process."""
    mark, pids = f"{MARK}={os.environ[MARK]}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            called = (path / "cmdline").read_bytes()
            if called.startswith(b"ray::MapWorker") and mark in (path / "environ").read_bytes():
                pids.append(int(path.name))
    return pids


def kills(folder: Path, options, console: Console) -> bool:
    """A run with two workers and a node killed; whether every photograph is there and as it should be."""
    source, out = folder / "scans", folder / "killed"
    table = Table("when", "killed", "results then")
    with cluster(2) as made:
        argv = [source, "-o", out, "--weights", options.weights]
        argv += ["--workers", 2, "--part", PART, "--address", made.address]
        driver = subprocess.Popen([sys.executable, "-m", "pdn_jax", "archive", *map(str, argv)])
        begun = time.monotonic()
        for share, what in ((0.2, "worker"), (0.4, "node"), (0.7, "worker")):
            if not _waited(out, round(share * options.photographs), driver):
                break
            if what == "worker":
                os.kill(workers()[0], signal.SIGKILL)
            else:
                made.remove_node(max(made.worker_nodes, key=id), allow_graceful=False)
                made.add_node(num_cpus=1)
            when = f"{time.monotonic() - begun:.0f} s"
            table.add_row(when, what, str(_count(out)))
        code = driver.wait()
    console.print(table)
    console.print(f"the driver ended with {code} after {time.monotonic() - begun:.0f} s")
    return code == 0 and same(source, out, folder / "plain", options, console)


def _count(out: Path) -> int:
    return sum(1 for _ in out.glob("*/*.jpg"))


def _waited(out: Path, count: int, driver: subprocess.Popen) -> bool:
    """Until so many results are there; False where the driver has ended."""
    until, before = time.monotonic() + PATIENCE, 0
    while (now := _count(out)) < count:
        if now > before:
            until, before = time.monotonic() + PATIENCE, now
        if driver.poll() is not None:
            return False
        if time.monotonic() > until:
            driver.kill()
            raise InputError(f"no new result in {PATIENCE:.0f} s")
        time.sleep(0.2)
    return True


def same(source: Path, out: Path, there: Path, options, console: Console) -> bool:
    """Whether a run has left what `enhance` makes, every photograph once and nothing else."""
    argv = [sys.executable, "-m", "pdn_jax", "enhance", str(source), "-o", str(there)]
    subprocess.run([*argv, "--weights", options.weights], check=True, stderr=subprocess.DEVNULL)
    ours, theirs = (
        {path.relative_to(root).as_posix(): path for path in root.glob("[0-9]*/**/*")}
        for root in (out, there)
    )
    equal = sum(
        ours[name].read_bytes() == theirs[name].read_bytes() for name in ours & theirs.keys()
    )
    console.print(
        f"{len(theirs)} photographs: {len(ours & theirs.keys())} there once, {equal} equal to "
        f"enhance's, {len(ours.keys() - theirs.keys())} other files"
    )
    return ours.keys() == theirs.keys() and equal == len(theirs)


# --- memory --------------------------------------------------------------------------------------


def memory(count: int, console: Console) -> None:
    """Most memory of a process that lists so many names, which no folder holds."""
    before, begun = _resident(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        entries = (
            Entry(f"{n // 1000:07}/scan-{n:09}.jpg", 2_000_000 + n % 1000) for n in range(count)
        )
        parts, _ = Lists(folder).write(entries, 256)
    console.print(
        f"{count} names in {parts} parts: {_resident():.0f} MB at most ({before:.0f} MB before), "
        f"{time.perf_counter() - begun:.0f} s"
    )


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- a data set ----------------------------------------------------------------------------------


def build(folder: Path, count: int, console: Console) -> None:
    """Prepare the photographs as a data set in a process of its own, and read crops of it."""
    argv = ["-m", "train.tools.prepare", "photos", "--source", str(folder / "scans")]
    argv += ["--name", "many", "--data-dir", str(folder / "data")]
    for what in ("build", "the same again"):
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
        took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        console.print(
            f"{what} of {count}: {took:.0f} s, {cpu:.0f} s of a processor, {count / cpu:.0f}/s of it, "
            f"{after.ru_maxrss / 1024:.0f} MB at most"
        )
    split = store.Split("many", "train", folder / "data")
    begun, cpu = time.perf_counter(), time.process_time()
    way = {"budget": 0, "threads": 1, "workers": 0, "seconds": 10.0}
    _, _, rate, _ = data.reading([split], batch=8, crop=64, **way)
    share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    console.print(
        f"one thread reads {rate:.0f} crops/s of 64×64, {rate / share:.0f} for a second of a processor; "
        f"{_resident():.0f} MB at most"
    )


# --- the command ---------------------------------------------------------------------------------


def run(argv: list[str]) -> int:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.archive", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--photographs", type=int, default=2000, help="of the runs (default 2000)")
    add("--names", type=int, default=10_000_000, help="to list (default 10000000)")
    add("--rounds", type=int, default=3, help="of the rates (default 3)")
    add("--weights", default="tiny", help="of the runs (default tiny)")
    parts = ("rates", "kills", "memory", "build")
    add("--only", choices=parts, nargs="+", default=parts[:3], help="(default all but build)")
    options = parser.parse_args(argv)
    console, good = Console(soft_wrap=True, highlight=False), True
    if "memory" in options.only:
        memory(options.names, console)
    with tempfile.TemporaryDirectory(prefix="archive-") as folder:
        make(Path(folder, "scans"), options.photographs)
        if "build" in options.only:
            build(Path(folder), options.photographs, console)
        if "rates" in options.only:
            rates(Path(folder), options, console)
        if "kills" in options.only:
            good = kills(Path(folder), options, console)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(explained(lambda: run(sys.argv[1:])))
