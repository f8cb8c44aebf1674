"""Workers of an archive: in this process, or actors of Ray Data on any number of machines."""

import importlib
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from pdn_jax import __version__, photo, pipeline, places, weights
from pdn_jax.archive import lists
from pdn_jax.archive.walk import Entry
from pdn_jax.enhance_photos import BYTES_PER_BYTE
from pdn_jax.enhancer import Enhancer
from pdn_jax.errors import InputError
from pdn_jax.places import Location


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
    jobs: int | None


class Counts(NamedTuple):
    """Photographs written, passed by as their results are there, and failed."""

    written: int
    there: int
    failed: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(one + two for one, two in zip(self, other, strict=True)))


class Worker:
    """Holds the network, and enhances parts of the archive.

    Args:
        asked: which archive, and how.
    """

    def __init__(self, asked: Asked):
        self.asked = asked
        self.lists = lists.Lists(asked.output)
        self.enhancer = Enhancer(weights.load(asked.weights))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """`part` in Ray Data's form.

        Args:
            batch: {"id": numbers of parts}.

        Returns:
            A column for each of `Counts`.
        """
        counts = [self.part(int(number)) for number in batch["id"]]
        return {name: [getattr(one, name) for one in counts] for name in Counts._fields}

    def part(self, number: int) -> Counts:
        """Enhance what is listed under a number, and write what became of it.

        Args:
            number: of the list.

        Returns:
            How many were written, there and failed.
        """
        entries = self.lists.entries(number)
        sizes = self.lists.done(entries)
        left, failures = [], []
        for entry in entries:
            try:
                if not self._is_there(entry, sizes.get(entry.name)):
                    left.append(entry)
            except InputError as error:  # the store does not say
                failures.append((entry.name, str(error)))
        there = len(entries) - len(left) - len(failures)
        if not places.is_url(self.asked.output):
            photo.remove_litter(self._named(entry)[0].parent for entry in left)
        for entry, error in self.enhanced(left):
            try:
                if error is None:
                    sizes[entry.name] = (entry.size, lists.size_of(self._named(entry)[0]))
            except InputError as unsure:
                error = unsure
            if error is not None:
                failures.append((entry.name, str(error)))
        self.lists.finish(entries, sizes, failures)
        return Counts(len(entries) - there - len(failures), there, len(failures))

    def enhanced(self, entries: list[Entry]) -> Iterator[tuple[Entry, InputError | None]]:
        """Enhance photographs, several at once.

        Args:
            entries: which.

        Yields:
            Each with what is wrong with it, if anything is.
        """
        asked = self.asked
        options = photo.Options(
            quality=asked.quality, strip=asked.strip, overwrite=True, note=f"pdn_jax {__version__}"
        )
        dials = {"exposure": asked.exposure, "denoise": asked.denoise}

        def restore(low, there):
            return self.enhancer(low, there=there, **dials)

        def read(entry: Entry):
            target, kind = self._named(entry)
            job = photo.Job(lists.below(places.place(asked.input), entry.name), target, kind)
            return job, photo.load(job, options)

        def work(_, loaded):
            job, opened = loaded
            return job, opened, photo.enhance(opened, restore)

        at_once = pipeline.at_once(self.enhancer.batch)
        results = pipeline.run(
            entries,
            read,
            work,
            lambda _, finished: photo.store(*finished, options),
            weigh=lambda entry: entry.size * BYTES_PER_BYTE,
            threads=asked.jobs or 2 * at_once,
            at_once=at_once,
        )
        for entry, result in results:
            yield entry, result if isinstance(result, InputError) else None

    def _named(self, entry: Entry) -> tuple[Location, str]:
        """Where the result goes, and its format."""
        name, kind = lists.result_name(entry.name, self.asked.form)
        return lists.below(places.place(self.asked.output), name), kind

    def _is_there(self, entry: Entry, sizes: tuple[int, int] | None) -> bool:
        """By name, and by the sizes of photograph and result where those are known."""
        now = lists.size_of(self._named(entry)[0])
        return now > 0 if sizes is None else sizes == (entry.size, now)


def here(asked: Asked, parts: int) -> Iterator[Counts]:
    """One part after the other in this process.

    Args:
        asked: which archive, and how.
        parts: how many there are.

    Yields:
        What became of each.
    """
    worker = Worker(asked)
    for number in range(parts):
        yield worker.part(number)


def on_ray(
    asked: Asked,
    parts: int,
    workers: int,
    *,
    address: str = "",
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Iterator[Counts]:
    """Parts spread over actors of Ray Data.

    Ray replaces an actor or node that is lost, without end, and has its part begun once more; as
    many actors work as there is room for.

    Args:
        asked: which archive, and how.
        parts: how many there are.
        workers: actors at most.
        address: of a cluster; '' for one of this machine.
        cpus: of each worker.
        gpus: of each worker.

    Yields:
        What became of each, in whatever order they are done.

    Raises:
        InputError: where Ray is missing or no cluster answers, and what a worker raises.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise InputError(
            f'--workers {workers} needs Ray: pip install "pdn_jax[archive]"'
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address=address or None, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            raise InputError(f"--address {address}: no Ray cluster answers") from error
    data.DataContext.get_current().enable_progress_bars = False
    # Not of `range`: its tasks would wait for processors that the actors hold.
    numbers = data.from_items(
        [{"id": number} for number in range(parts)], override_num_blocks=parts
    )
    done = numbers.map_batches(
        Worker,
        fn_constructor_args=(asked,),
        batch_size=1,
        compute=data.ActorPoolStrategy(min_size=1, max_size=min(workers, parts)),
        num_cpus=cpus,
        num_gpus=gpus or None,
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


def sampled(asked: Asked, entries: list[Entry]) -> tuple[float, list[InputError]]:
    """How long one worker takes; nothing is written to the archive.

    Args:
        asked: which archive, and how.
        entries: the photographs to try.

    Returns:
        Seconds a photograph, once all is compiled, and what is wrong with those that fail.
    """
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(asked._replace(output=folder))
        # Compiled, and the files known to the store.
        errors = [error for _, error in worker.enhanced(entries) if error is not None]
        begun = time.perf_counter()
        list(worker.enhanced(entries))
        return (time.perf_counter() - begun) / len(entries), errors
