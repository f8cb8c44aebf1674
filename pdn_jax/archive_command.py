"""The `archive` command: `enhance` for any number of photographs, on any number of machines.

    python -m pdn_jax archive 's3://scans/**' -o s3://bright/ --workers 32
    python -m pdn_jax archive scans -o bright      # in this process, without Ray

The same command goes on where it was stopped. Photographs that fail are in OUTPUT/failures.csv at the
end. Exit code 0, 1 where photographs failed, 2 for what was asked wrongly.
"""

import argparse
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pdn_jax import places
from pdn_jax.enhance_photos import count, quality
from pdn_jax.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from pdn_jax.archive.walk import Entry
    from pdn_jax.archive.work import Asked

SAMPLE = 12
"""Photographs that --dry-run enhances."""


def add_options(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """The options of the command.

    Args:
        parser: gets them.
        formats: what --format may be.
    """
    add = parser.add_argument
    add("input", help="a folder, a store's URL, or a pattern with * and **")
    add("-o", "--output", required=True, help="a folder or a store's URL")
    add("--weights", help="tiny, small, base, a file, a run folder (default small)")
    add("--exposure", type=float, default=1.0, help="as of enhance (default 1)")
    add("--denoise", type=float, default=1.0, help="as of enhance (default 1)")
    add("--format", choices=formats, default="same", help="of results")
    add("--quality", type=quality, metavar="1-100", help="as of enhance")
    add("--strip", action="store_true", help="drop all metadata but the colour profile")
    add("--workers", type=int, default=0, help="actors of Ray; 0 for this process (default 0)")
    add("--address", default="", help="of a Ray cluster, or auto (default: one of this machine)")
    add("--cpus", type=float, default=1.0, help="of each worker (default 1)")
    add("--gpus", type=float, default=0.0, help="of each worker (default 0)")
    part = "photographs that a worker takes at once (default 256)"
    add("--part", type=count, default=256, metavar="N", help=part)
    jobs = "of them in flight at most (default 4; 32 on a GPU)"
    add("-j", "--jobs", type=count, metavar="N", help=jobs)
    add("--dry-run", action="store_true", help="count, and estimate time and cost from a sample")
    add("--price", type=float, default=0.0, help="of an hour of a worker, for --dry-run")


def run(arguments: argparse.Namespace) -> int:
    """Enhance an archive, or go on with one.

    Args:
        arguments: what a parser with `add_options` gives.

    Returns:
        The exit code: 0, or 1 where photographs failed.

    Raises:
        InputError: for options that cannot be, an input without photographs, and where Ray is missing.
    """
    from rich.console import Console

    from pdn_jax.archive import lists, walk, work

    asked, pattern = _asked(arguments)
    names = walk.names(places.place(asked.input), pattern, places.place(asked.output))
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if arguments.dry_run:
        return _estimated(asked, names, arguments, console)
    kept = lists.Lists(asked.output)
    if (first := next(names, None)) is None:
        raise InputError(f"{arguments.input} holds no photographs")
    kept.claim(f"{asked.input.rstrip('/')}/{pattern}" if pattern else asked.input)
    parts, listed = kept.write(itertools.chain([first], names), arguments.part)
    console.print(f"{listed} photographs in {parts} parts")
    done = work.here(asked, parts)
    if arguments.workers:
        cluster = {name: getattr(arguments, name) for name in ("address", "cpus", "gpus")}
        done = work.on_ray(asked, parts, arguments.workers, **cluster)
    begun, counts = time.perf_counter(), work.Counts(0, 0, 0)
    for one in done:
        counts += one
    failures = kept.gather(parts)
    took = time.perf_counter() - begun
    console.print(
        f"{counts.written} written, {counts.there} were there, {counts.failed} failed, in {took:.0f} s "
        f"({counts.written / took:.2f}/s); failures: {failures}"
    )
    return int(counts.failed > 0)


def _asked(arguments: argparse.Namespace) -> tuple["Asked", str]:
    """What workers are told, checked, with whole paths; and the pattern of names below the input."""
    from pdn_jax import checks, weights
    from pdn_jax.archive import walk, work

    named = arguments.weights or weights.DEFAULT
    weights.load(named)
    checks.check_dials(arguments.exposure, arguments.denoise)
    if arguments.workers < 0:
        raise InputError(f"--workers {arguments.workers}: expected 0 or more")
    root, pattern = walk.root_of(arguments.input)
    output = str(walk.whole(arguments.output))
    if output.rstrip("/") == str(root).rstrip("/"):
        raise InputError(f"--output {output} is the input: name another place for results")
    asked = work.Asked(
        input=str(root),
        output=output,
        weights=named if named in weights.SHIPPED else str(walk.whole(named)),
        exposure=arguments.exposure,
        denoise=arguments.denoise,
        form=arguments.format,
        quality=arguments.quality,
        strip=arguments.strip,
        jobs=arguments.jobs,
    )
    return asked, pattern


def _estimated(
    asked: "Asked",
    names: Iterable["Entry"],
    arguments: argparse.Namespace,
    console: "Console",
) -> int:
    """Count, sample, say; nothing is written."""
    from pdn_jax.archive import walk, work

    total, size, sample = walk.counted(names, SAMPLE)
    if not total:
        raise InputError(f"{arguments.input} holds no photographs")
    workers = max(1, arguments.workers)
    seconds, errors = work.sampled(asked, sample)
    for error in errors:
        console.print(f"failed: {error}")
    if len(errors) == len(sample):
        raise InputError(f"none of {len(sample)} photographs could be enhanced: nothing to go by")
    hours = total * seconds / 3600 / workers
    price = arguments.price
    cost = f", {hours * workers * price:.2f} at {price:g} an hour" if price else ""
    console.print(
        f"{total} photographs, {size / 1e9:.3f} GB; a sample of {len(sample)} took {seconds:.3f} s each: "
        f"{hours:.2f} h with {workers} worker(s){cost}"
    )
    return 0
