"""One photograph from file to file: read, decide, enhance, write; and what is to be said of it."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from pdn_jax import host_memory, places
from pdn_jax.errors import InputError
from pdn_jax.files import remove_drafts
from pdn_jax.photos import exposure, presence, reader, writer
from pdn_jax.photos.presence import Developed
from pdn_jax.photos.record import Photo
from pdn_jax.photos.walk import Job
from pdn_jax.places import Location

Restore = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""(photograph, where there is one or None) -> restored photograph."""

LITTER_AGE = 2.0
"""Seconds after which a draft is not being written any more, as a whole file takes less."""


class Options(NamedTuple):
    """How results are written; see `writer.encoded`. auto: leave alone what is not dark. compare: before
    and after side by side in place of the result."""

    quality: int | None = None
    strip: bool = False
    overwrite: bool = False
    auto: bool = False
    compare: bool = False
    note: str = "pdn_jax"


class Outcome(NamedTuple):
    """What became of a photograph.

    stops: its exposure relative to the usual. noise: levels of 255. seconds: from file to file.
    written: False where it was left alone. notes: what is to be said. lost: what the result has not.
    """

    source: Location
    target: Location
    written: bool
    size: tuple[int, int]
    kind: str
    bits: int
    stops: float
    noise: float
    seconds: float
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


PLAIN = Options()
"""Nothing but the defaults."""


class Loaded(NamedTuple):
    """A photograph that was read: when, how dark and noisy it is, and why it is left alone, or ''."""

    photo: Photo
    start: float
    stops: float
    noise: float
    left_alone: str = ""


def run(job: Job, restore: Restore, options: Options = PLAIN) -> Outcome:
    """Enhance one file: `load`, `enhance` and `store`, which a pipeline may do in turn.

    Args:
        job: of `walk.plan`.
        restore: see `presence.developed`.
        options: see `Options`.

    Returns:
        What became of the photograph.

    Raises:
        InputError: one line, for whatever is wrong with this file or its place.
    """
    loaded = load(job, options)
    return store(job, loaded, enhance(loaded, restore), options)


def load(job: Job, options: Options = PLAIN) -> Loaded:
    """Read a photograph and judge it.

    Args:
        job: of `walk.plan`.
        options: see `Options`.

    Returns:
        The photograph, its exposure and noise, and why it is left alone, if it is.

    Raises:
        InputError: for whatever is wrong with the file, or where its result may not be put.
    """
    start = time.perf_counter()
    check_target(job, options.overwrite)
    photo = reader.from_file(job.source)
    host_memory.give_back(photo.pixels.size)  # what decoding it took
    few, there, middle = presence.glimpse(photo)
    left_alone = options.auto and not exposure.is_dark(few, there)
    return Loaded(
        photo,
        start,
        exposure.stops(few, there),
        exposure.noise(middle),
        "not dark: left alone" if left_alone else "",
    )


def enhance(loaded: Loaded, restore: Restore) -> Developed | None:
    """The result's pixels.

    Args:
        loaded: of `load`.
        restore: see `presence.developed`.

    Returns:
        None where the photograph is left alone.
    """
    return None if loaded.left_alone else presence.developed(loaded.photo, restore)


def store(
    job: Job, loaded: Loaded, developed: Developed | None, options: Options = PLAIN
) -> Outcome:
    """Write a result, and say what became of the photograph.

    Args:
        job: of `walk.plan`.
        loaded: of `load`.
        developed: of `enhance`; None where the photograph is left alone.
        options: see `Options`.

    Returns:
        What became of the photograph.

    Raises:
        InputError: where the format or the disk refuses.
    """
    photo, lost, notes = loaded.photo, (), (loaded.left_alone,)
    if developed is not None:
        pixels, notes = developed
        whole, pixels = beside(photo, pixels) if options.compare else (photo, pixels)
        try:
            keywords = {"quality": options.quality, "strip": options.strip, "note": options.note}
            result = writer.encoded(whole, pixels, job.kind, **keywords)
        except InputError as error:
            raise InputError(f"{job.target} {error}") from error
        make_folder(job.target.parent)
        writer.save(job.target, result, new=not options.overwrite)
        lost = result.lost
    height, width = photo.size
    return Outcome(
        *(job.source, job.target, developed is not None, (width, height), photo.kind, photo.bits),
        *(loaded.stops, loaded.noise, time.perf_counter() - loaded.start),
        *((*photo.notes, *notes), lost),
    )


def check_target(job: Job, overwrite: bool) -> None:
    """Find out whether a result may be put where it is to go.

    Args:
        job: of `walk.plan`.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: where it may not, or cannot.
    """
    if not places.is_url(job.target) and job.target.is_dir():
        raise InputError(f"{job.target} is a folder: give a file name")
    if not overwrite and places.exists(job.target):
        raise InputError(f"{job.target} exists: choose another name or allow it (--overwrite)")


def make_folder(folder: Location) -> None:
    """Make a folder with those above it, which a store does not need; raises InputError."""
    if places.is_url(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from error


def beside(photo: Photo, pixels: np.ndarray) -> tuple[Photo, np.ndarray]:
    """Before and after in one picture, a black gap between them."""
    gap = max(2, photo.size[0] // 100)

    def joined(left, right):
        return np.concatenate([left, np.zeros_like(left[:, :gap]), right], axis=1)

    alpha = None if photo.alpha is None else joined(photo.alpha, photo.alpha)
    both = joined(photo.pixels, pixels)
    return photo._replace(pixels=both, alpha=alpha), both


def remove_litter(folders: Iterable[Location]) -> None:
    """Remove what killed runs left in folders of results.

    Args:
        folders: where results go.
    """
    for folder in set(folders):
        remove_drafts(folder, LITTER_AGE)
