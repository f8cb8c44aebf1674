"""The `enhance` command: which photographs, how, and what is said of each.

Photographs that fail are named, and the others go on. Exit codes: 0, 1 where some failed, 2 for what
was asked wrongly.
"""

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pdn_jax import __version__, enhance_films, places
from pdn_jax.enhance_films import network
from pdn_jax.errors import InputError
from pdn_jax.photos import walk
from pdn_jax.places import Location
from pdn_jax.report import Report

if TYPE_CHECKING:
    from pdn_jax.enhancer import Enhancer
    from pdn_jax.photo import Job

CELL_HEIGHT = 240
"""Pixels a photograph is high on the contact sheet."""

BYTES_PER_PIXEL, BYTES_PER_BYTE = 40, 60
"""What a photograph in flight weighs, by its pixels, or by its file where those are not known."""


def add_options(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """The options of the command.

    Args:
        parser: gets them.
        formats: what --format may be.
    """
    add = parser.add_argument
    add(
        "input",
        nargs="+",
        help="photos, folders of them with all below, or patterns; s3://…, gs://…",
    )
    add("-o", "--output", required=True, help="the file to write, or a folder, which is made")
    add("--suffix", default="", help="put behind the names of results (default none)")
    add(
        "--format",
        choices=formats,
        default="same",
        help="of results; same is each photo's own (default same)",
    )
    add(
        "--quality",
        type=quality,
        metavar="1-100",
        help="of JPEG and WebP (default 95), AVIF and HEIC (default 90)",
    )
    add("--strip", action="store_true", help="drop all metadata but the colour profile")
    add("--weights", help="tiny, small or base, a .safetensors file, or a run folder")
    add(
        "--variant", help="the weights of that name, or insist that those named are of this variant"
    )
    add(
        "--exposure",
        type=float,
        default=1.0,
        help="relative to the network's own result, 2 is one stop brighter (default 1)",
    )
    add(
        "--denoise",
        type=float,
        default=1.0,
        help="0 leaves the noise in, 1 takes it out (default 1)",
    )
    add("--auto", action="store_true", help="leave photos alone that are not dark")
    add("--compare", action="store_true", help="write before and after side by side")
    add(
        "--stages", type=places.argument, metavar="FILE", help="also write every stage of one photo"
    )
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--skip-existing", action="store_true", help="pass by photos whose result exists")
    add("--dry-run", action="store_true", help="say what would be written, and write nothing")
    add("--json", action="store_true", help="print a line of JSON for each photo")
    add(
        "-j",
        "--jobs",
        type=count,
        metavar="N",
        help="photos in flight at most (default 4; 32 on a GPU)",
    )


def quality(text: str) -> int:
    """The quality of a format that loses something, for argparse.

    Args:
        text: what was given.

    Returns:
        From 1 to 100.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100, got {text}")
    return int(text)


def count(text: str) -> int:
    """A whole number above 0 from a command line, for argparse.

    Args:
        text: what was given.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)


# --- the run -------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Enhance all that the arguments name.

    Args:
        arguments: what a parser with `add_options` gives.

    Returns:
        The exit code, 0, or 1 where a photograph failed.

    Raises:
        InputError: for arguments that cannot be: nothing was done.
    """
    films, arguments.input = enhance_films.apart(arguments.input)
    if films and not arguments.input:
        return enhance_films.run(films, arguments)
    report = Report(arguments.json)
    plan = walk.plan(
        arguments.input, arguments.output, suffix=arguments.suffix, form=arguments.format
    )
    code = enhance_films.run(films, arguments) if films else 0
    for path, reason in plan.left_out:
        report.left_out(path, reason)
    jobs = plan.jobs
    if arguments.skip_existing:
        done = _done(jobs, arguments.output)
        for job in filter(done.__contains__, jobs):
            report.left_out(job.source, "its result exists")
        jobs = [job for job in jobs if job not in done]
    if arguments.stages:
        _check_stages(arguments, jobs)
    if arguments.dry_run:
        return _planned(jobs, arguments.overwrite, report) or code
    from pdn_jax import photo  # which imports NumPy and Pillow

    if len(jobs) == 1 and not plan.left_out:
        photo.check_target(jobs[0], arguments.overwrite)
    if jobs:
        enhancer = network(arguments)
        photo.remove_litter(job.target.parent for job in jobs)
        _each(jobs, enhancer, arguments, report)
    report.summary(len(jobs))
    return 1 if report.failed or code else 0


def _done(jobs: list["Job"], output: str) -> set["Job"]:
    """Those whose results exist; a store is asked for the names of all at once."""
    if len(jobs) == 1 or not places.is_url(output):
        return {job for job in jobs if places.exists(job.target)}
    there = {str(path) for path in places.objects(places.place(output))}
    return {job for job in jobs if str(job.target) in there}


def _planned(jobs: list["Job"], overwrite: bool, report: Report) -> int:
    """Say of each what would be done, or why it would not; the exit code."""
    from pdn_jax import photo

    for job in jobs:
        try:
            photo.check_target(job, overwrite)
        except InputError as error:
            report.failure(job, error)
        else:
            report.planned(job)
    return int(report.failed > 0)


def _each(jobs: list["Job"], enhancer: "Enhancer", arguments, report: Report) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from pdn_jax import photo, pipeline

    options = photo.Options(
        quality=arguments.quality,
        strip=arguments.strip,
        overwrite=arguments.overwrite,
        auto=arguments.auto,
        compare=arguments.compare,
        note=f"pdn_jax {__version__}",
    )
    dials = {"exposure": arguments.exposure, "denoise": arguments.denoise}

    def restore(low, there):
        return enhancer(low, there=there, **dials)

    def write(job, done):
        loaded, developed = done
        outcome = photo.store(job, loaded, developed, options)
        if arguments.stages and developed is not None:
            _write_stages(loaded.photo, developed.pixels, enhancer, job.source.name, arguments)
        return outcome

    at_once = pipeline.at_once(enhancer.batch)
    results = pipeline.run(
        jobs,
        lambda job: photo.load(job, options),
        lambda _, loaded: (loaded, photo.enhance(loaded, restore)),
        write,
        weigh=_weight,
        threads=arguments.jobs or 2 * at_once,
        at_once=at_once,
    )
    pool, prepared = ThreadPoolExecutor(1), None
    if len(jobs) == 1 and (size := photo.size(jobs[0].source)):
        # The programs for its size are fetched while it is decoded.
        prepared = pool.submit(enhancer.prepare, *size, dialled=set(dials.values()) != {1.0})
    with contextlib.closing(results), pool:
        for job, result in _tracked(results, len(jobs)):
            if isinstance(result, InputError):
                report.failure(job, result)
            else:
                report.outcome(result)
        if prepared and not report.failed:
            prepared.result()  # raises what it met


def _tracked(results: Iterator, count: int) -> Iterable:
    """With a progress bar where there is a terminal and more than one photograph."""
    if count == 1:  # nor is the library loaded
        return results
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(results, "photos", total=count, console=console, disable=hidden)


def _weight(job: "Job") -> int:
    from pdn_jax import photo

    if size := photo.size(job.source):
        return BYTES_PER_PIXEL * size[0] * size[1]
    try:
        return BYTES_PER_BYTE * job.source.stat().st_size
    except OSError:  # reading it says so
        return 0


# --- stages --------------------------------------------------------------------------------------


def _check_stages(arguments: argparse.Namespace, jobs: list["Job"]) -> None:
    from pdn_jax import photo

    if len(jobs) != 1:
        raise InputError(f"--stages {arguments.stages} takes one photo: name a single one")
    photo.check_writable(arguments.stages, arguments.overwrite)
    for path in (jobs[0].source, jobs[0].target):
        if _same(arguments.stages, path):
            raise InputError(f"{path} is named twice: give --stages another name")


def _same(one: Location, two: Location) -> bool:
    if places.is_url(one) or places.is_url(two):
        return str(one) == str(two)
    return os.path.realpath(one) == os.path.realpath(two)


def _write_stages(picture, result, enhancer: "Enhancer", name: str, arguments) -> None:
    """Every stage of a photograph's picture on a sheet, no larger than the sheet needs it."""
    import numpy as np

    from pdn_jax import photo
    from pdn_jax.sheet import contact_sheet

    where = photo.place(picture)
    if isinstance(where, str):  # there is no picture in it, and the report says so
        inside, there = (slice(None), slice(None)), None
    else:
        inside, there = where
    low, restored = (
        photo.srgb(picture._replace(pixels=pixels))[inside] for pixels in (picture.pixels, result)
    )
    reduce = max(n for n in (1, 2, 4, 8) if n == 1 or len(low) >= 2 * n * CELL_HEIGHT)
    stages = enhancer.stages(low, reduce=reduce, there=there)
    levels = len(stages.denoised)
    sizes = [f"1/{2**level}" if level else "1" for level in reversed(range(levels))]
    titles = [
        "low",
        *(f"enhanced {index}" for index in range(1, len(stages.enhanced) + 1)),
        *(f"denoised {size}" for size in sizes),
        "restored",
    ]
    few = np.s_[::reduce, ::reduce]
    row = [low[few], *stages.enhanced, *stages.denoised, restored[few]]
    sheet = contact_sheet([row], titles, [name], CELL_HEIGHT)
    photo.write(arguments.stages, sheet, overwrite=arguments.overwrite)
