"""Archives of photographs, any number of them, from a folder or store to another.

    python -m train.archive --input 's3://scans/**' --output s3://bright/ --workers 32
    python -m train.archive --input scans --output bright               # in this process, without Ray
    python -m train.archive --input 's3://scans/**' --output s3://bright/ --workers 32 --price 0.8 --dry-run

Each result is what `enhance` makes of its photograph. The names are listed in
parts of `--part` photographs (`archive_lists`), never all in memory; a worker (an actor of Ray Data that
holds the compiled network, or this process) takes a part and reads, decodes, enhances, encodes and
writes its photographs, several at once. Results are put whole; what is there, by name and size, is
passed by, so that a part that was begun is gone on with, by whoever. The same command goes on where
it was stopped. Photographs that fail are in OUTPUT/failures.csv at the end. Exit code 0, 1 where
photographs failed, 2 for what was asked wrongly.
"""

import importlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.console import Console

from pdn_jax import __version__, cli, places
from pdn_jax.enhance_photos import BYTES_PER_BYTE, count, quality
from pdn_jax.errors import InputError
from pdn_jax.photos.walk import FORMATS
from pdn_jax.places import Location
from pdn_jax.weights import SHIPPED
from train import archive_lists
from train.archive_lists import Entry, Lists

SAMPLE = 12
"""Photographs that --dry-run enhances."""


class Asked(NamedTuple):
    """What a worker is told; see the options."""

    input: str
    output: str
    weights: str
    exposure: float
    denoise: float
    form: str
    quality: int | None
    strip: bool
    jobs: int


class Counts(NamedTuple):
    """Photographs written, passed by as their results are there, and failed; seconds of work."""

    written: int
    there: int
    failed: int
    seconds: float

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(one + two for one, two in zip(self, other, strict=True)))


NOTHING = Counts(0, 0, 0, 0.0)


class Worker:
    """Holds the network, and enhances parts of the archive: one number of a list after the other."""

    def __init__(self, asked: Asked):
        from pdn_jax import weights
        from pdn_jax.enhancer import Enhancer

        self.asked = asked
        self.lists = Lists(asked.output)
        self.enhancer = Enhancer(weights.load(asked.weights))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """Ray Data's form: {"id": numbers} -> a column for each of `Counts`."""
        counts = [self.part(int(number)) for number in batch["id"]]
        return {name: [getattr(one, name) for one in counts] for name in Counts._fields}

    def part(self, number: int) -> Counts:
        """Enhance what is listed under a number, and write what became of it."""
        entries, begun = self.lists.entries(number), time.perf_counter()
        sizes = self.lists.done(entries)
        left = [entry for entry in entries if not self._is_there(entry, sizes.get(entry.name))]
        there, failures = len(entries) - len(left), []
        for entry, error in self.enhanced(left):
            if error is not None:
                failures.append((entry.name, str(error)))
            else:
                sizes[entry.name] = archive_lists.size_of(self.named(entry)[0])
        self.lists.finish(entries, sizes, failures)
        written = len(left) - len(failures)
        return Counts(written, there, len(failures), time.perf_counter() - begun)

    def enhanced(self, entries: list[Entry]) -> Iterator[tuple[Entry, InputError | None]]:
        """Enhance them, several at once; each with what is wrong with it, if anything is."""
        from pdn_jax import photo, pipeline

        asked = self.asked
        options = photo.Options(
            quality=asked.quality, strip=asked.strip, overwrite=True, note=f"pdn_jax {__version__}"
        )
        dials = {"exposure": asked.exposure, "denoise": asked.denoise}

        def restore(low, there):
            return self.enhancer(low, there=there, **dials)

        def read(entry: Entry):
            target, kind = self.named(entry)
            job = photo.Job(
                archive_lists.below(places.place(asked.input), entry.name), target, kind
            )
            return job, photo.load(job, options)

        def work(_, loaded):
            job, opened = loaded
            return job, opened, photo.enhance(opened, restore)

        results = pipeline.run(
            entries,
            read,
            work,
            lambda _, finished: photo.store(*finished, options),
            weigh=lambda entry: entry.size * BYTES_PER_BYTE,
            threads=asked.jobs,
        )
        for entry, result in results:
            yield entry, result if isinstance(result, InputError) else None

    def named(self, entry: Entry) -> tuple[Location, str]:
        """Where the result goes, and its format."""
        name, kind = archive_lists.result_name(entry.name, self.asked.form)
        return archive_lists.below(places.place(self.asked.output), name), kind

    def _is_there(self, entry: Entry, size: int | None) -> bool:
        """By name, and by the size that it was written with where that is known."""
        now = archive_lists.size_of(self.named(entry)[0])
        return now > 0 if size is None else now == size


# --- who works -----------------------------------------------------------------------------------


def here(asked: Asked, parts: int) -> Iterator[Counts]:
    """One part after the other in this process."""
    worker = Worker(asked)
    for number in range(parts):
        yield worker.part(number)


def on_ray(asked: Asked, parts: int, options) -> Iterator[Counts]:
    """Parts spread over actors of Ray Data, in whatever order they are done.

    Ray replaces an actor or node that is lost, without end, and has its part begun once more; as
    many actors work as there is room for, at most `--workers`. Raises InputError where Ray is missing
    or no cluster answers.
    """
    try:
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise InputError(
            f'--workers {options.workers} needs Ray: pip install "pdn_jax[archive]"'
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address=options.address or None, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            raise InputError(f"--address {options.address}: no Ray cluster answers") from error
    data.DataContext.get_current().enable_progress_bars = False
    # Not of `range`: its tasks would wait for processors that the actors hold.
    numbers = data.from_items(
        [{"id": number} for number in range(parts)], override_num_blocks=parts
    )
    done = numbers.map_batches(
        Worker,
        fn_constructor_args=(asked,),
        batch_size=1,
        compute=data.ActorPoolStrategy(min_size=1, max_size=min(options.workers, parts)),
        num_cpus=options.cpus,
        num_gpus=options.gpus or None,
    )
    try:
        for batch in done.iter_batches(batch_size=None):
            for row in zip(*(batch[name] for name in Counts._fields), strict=True):
                yield Counts(*(value.item() for value in row))
    except Exception as error:  # a worker's, in one or more of Ray's own
        cause: BaseException | None = error
        while cause and type(cause) is not InputError:
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None


def sampled(asked: Asked, entries: list[Entry]) -> float:
    """Seconds of one worker for a photograph, of what a sample takes; nothing is written there."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(asked._replace(output=folder))
        list(worker.enhanced(entries))  # compiled, and the files known to the store
        begun = time.perf_counter()
        list(worker.enhanced(entries))
        return (time.perf_counter() - begun) / len(entries)


# --- the command ---------------------------------------------------------------------------------


def options_of(argv: list[str]):
    """The parsed command line."""
    parser = cli.Parser(prog="python -m train.archive", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--input", required=True, help="a folder, a store's URL, or a pattern with * and **")
    add("--output", required=True, help="a folder or a store's URL")
    add(
        "--weights", default="small", help="tiny, small, base, a file, a run folder (default small)"
    )
    add("--exposure", type=float, default=1.0, help="as of enhance (default 1)")
    add("--denoise", type=float, default=1.0, help="as of enhance (default 1)")
    add("--format", choices=list(FORMATS), default="same", help="of results")
    add("--quality", type=quality, help="as of enhance")
    add("--strip", action="store_true", help="drop all metadata but the colour profile")
    add("--workers", type=int, default=0, help="actors of Ray; 0 for this process (default 0)")
    add("--address", default="", help="of a Ray cluster, or auto (default: one of this machine)")
    add("--cpus", type=float, default=1.0, help="of each worker (default 1)")
    add("--gpus", type=float, default=0.0, help="of each worker (default 0)")
    add(
        "--part",
        type=count,
        default=256,
        help="photographs that a worker takes at once (default 256)",
    )
    add("-j", "--jobs", type=count, default=4, help="of them in flight at most (default 4)")
    add("--dry-run", action="store_true", help="count, and estimate time and cost from a sample")
    add("--price", type=float, default=0.0, help="of an hour of a worker, for --dry-run")
    return parser.parse_args(argv)


def check(options) -> None:
    """Raise InputError for options that cannot be."""
    from pdn_jax import weights
    from pdn_jax.checks import check_dials

    weights.load(options.weights)
    check_dials(options.exposure, options.denoise)
    if options.workers < 0:
        raise InputError(f"--workers {options.workers}: expected 0 or more")


def run(argv: list[str]) -> int:
    """The command line; 1 where photographs failed. Raises InputError for bad input."""
    options = options_of(argv)
    check(options)
    root, pattern = archive_lists.root_of(options.input)
    given = [places.place(where) for where in (options.output, options.weights)]
    output, weights = (str(p if places.is_url(p) else p.absolute()) for p in given)
    if options.weights in SHIPPED:
        weights = options.weights
    choices = (options.exposure, options.denoise, options.format, options.quality, options.strip)
    asked = Asked(str(root), output, weights, *choices, options.jobs)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    names = archive_lists.names(root, pattern, places.place(output))
    if options.dry_run:
        return _estimated(asked, names, options, console)
    lists = Lists(output)
    parts, listed = lists.write(names, options.part)
    if not parts:
        raise InputError(f"{options.input} holds no photographs")
    console.print(f"{listed} photographs in {parts} parts")
    begun, counts = time.perf_counter(), NOTHING
    for one in on_ray(asked, parts, options) if options.workers else here(asked, parts):
        counts += one
    failures = lists.gather(parts)
    took = time.perf_counter() - begun
    console.print(
        f"{counts.written} written, {counts.there} were there, {counts.failed} failed, in {took:.0f} s "
        f"({counts.written / took:.2f}/s); failures: {failures}"
    )
    return int(counts.failed > 0)


def _estimated(asked: Asked, names, options, console: Console) -> int:
    """Count, sample, say; nothing is written."""
    total, size, sample = archive_lists.counted(names, SAMPLE)
    if not total:
        raise InputError(f"{options.input} holds no photographs")
    workers = max(1, options.workers)
    seconds = sampled(asked, sample)
    hours = total * seconds / 3600 / workers
    cost = (
        f", {hours * workers * options.price:.2f} at {options.price:g} an hour"
        if options.price
        else ""
    )
    console.print(
        f"{total} photographs, {size / 1e9:.3f} GB; a sample of {len(sample)} took {seconds:.3f} s each: "
        f"{hours:.2f} h with {workers} worker(s){cost}"
    )
    return 0


if __name__ == "__main__":
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
