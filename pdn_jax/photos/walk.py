"""Which files are to be enhanced, where the results go, and what is left out and why."""

import glob
import itertools
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from pdn_jax import places
from pdn_jax.errors import InputError
from pdn_jax.film_names import is_film
from pdn_jax.photos import kinds, shelves
from pdn_jax.photos.kinds import INSTEAD, KINDS
from pdn_jax.places import Location

SAME = "same"
"""The format of a result that is its photograph's."""
FORMATS = {SAME: None, "jpg": "JPEG", "png": "PNG", "tiff": "TIFF", "webp": "WEBP", "avif": "AVIF"}
"""What --format may be -> a format of `kinds.KINDS`, None for the photograph's own."""

SYSTEM = ("@eadir", "#recycle", "$recycle.bin", "__macosx", "system volume information")
"""Folders of NAS boxes, archives and systems, in lower case, that hold copies and what was deleted."""

HEAD = 1 << 16
"""Bytes of a file that are looked at to see what it is."""

MOST_NAME = 255
"""Bytes of a file name that file systems hold."""


class Job(NamedTuple):
    """A photograph, its result's place, and the format of that."""

    source: Location
    target: Location
    kind: str


class LeftOut(NamedTuple):
    """A file or folder that is not enhanced, and why."""

    path: Location
    reason: str


class Place(NamedTuple):
    """A photograph, and where its result goes within the folder of results."""

    path: Location
    folder: Location


class Plan(NamedTuple):
    """What is to be done, and what is left out, both in order."""

    jobs: list[Job]
    left_out: list[LeftOut]


def passed_by(name: str) -> str:
    """Why a file or folder of this name is left out wherever it lies.

    Args:
        name: without its folder.

    Returns:
        The reason in words; '' where it is not left out.
    """
    if name.startswith("."):
        return "hidden"
    if name.casefold() in SYSTEM:
        return "a folder of the system's own"
    return ""


def plan(
    inputs: Sequence[str | Location], output: str | Location, *, suffix: str = "", form: str = SAME
) -> Plan:
    """What a command with these arguments has to do.

    Args:
        inputs: files, folders, which are opened with all below, and patterns that no shell opened.
        output: a file for one photograph; else a folder, which need not be there.
        suffix: put behind the name, before the extension.
        form: a key of `FORMATS`.

    Returns:
        Jobs with targets that differ, and all that was found besides.

    Raises:
        InputError: for inputs that are not there, and for outputs that cannot be.
    """
    if os.sep in suffix or "/" in suffix:
        raise InputError(f"--suffix {suffix}: a part of a file name has no {os.sep}")
    left_out: list[LeftOut] = []
    sources = [place for given in inputs for place in opened(given, len(inputs) == 1, left_out)]
    output_given, output = str(output), places.place(output)
    if len(sources) == 1 and not _is_folder(sources[0].path) and _is_file_name(output_given):
        return Plan([_to_file(sources[0].path, output, suffix, form)], left_out)
    called_a_photo = kinds.by_extension(output.suffix) and _is_file_name(output_given)
    if called_a_photo or (not places.is_url(output) and output.exists() and not output.is_dir()):
        raise InputError(f"{output} is a file: with several photos -o names a folder")
    photos: dict[str, Place] = {}

    def add(path: Location, folder: Location) -> None:
        real = str(path) if places.is_url(path) else os.path.realpath(path)
        if real.startswith(f"{output}/") and places.is_url(output):
            left_out.append(LeftOut(path, "in the folder of the results"))
        elif real in photos:
            left_out.append(LeftOut(path, f"the same file as {photos[real].path}"))
        else:
            photos[real] = Place(path, folder)

    tops = _tops([path for path, _ in sources if _is_folder(path)])
    for source, folder in dict.fromkeys(sources):
        if _is_folder(source):
            below, others = _below(source, output)
            for path in below:
                add(path, tops[source] / path.relative_to(source).parent)
            left_out += others
        else:
            add(source, folder)
    jobs = _named(list(photos.values()), output, suffix, FORMATS[form], left_out)
    return Plan(jobs, left_out)


def _is_folder(path: Location) -> bool:
    """Of a store, objects alone are named."""
    return not places.is_url(path) and path.is_dir()


def _tops(folders: list[Location]) -> dict[Location, Location]:
    """Where each folder's results go: several keep their names, so that their files do not meet."""
    if len(set(folders)) == 1:
        return {folders[0]: Path()}
    names: dict[Location, Location] = {}
    for folder in dict.fromkeys(folders):
        name = folder.resolve().name
        names[folder] = Path(_free(name, "", {str(top).casefold() for top in names.values()}))
    return names


def _free(stem: str, extension: str, taken: Collection[str]) -> str:
    """The name, or the first of stem-2, stem-3 … that is not taken, whatever its case."""
    names = (f"{stem}{'' if n == 1 else f'-{n}'}{extension}" for n in itertools.count(1))
    return next(name for name in names if name.casefold() not in taken)


def _is_file_name(output: str) -> bool:
    path = places.place(output)
    if _is_folder(path) or output.endswith(("/", os.sep)):
        return False
    return path.suffix != "" or (not places.is_url(path) and path.exists())


def _to_file(source: Location, target: Location, suffix: str, form: str) -> Job:
    kind = kinds.by_extension(target.suffix)
    if suffix:
        raise InputError(f"--suffix is for a folder of results: put it into the name {target}")
    if kind and form != SAME and FORMATS[form] != kind:
        raise InputError(
            f"{target} is a {kind} by its name, --format says {form}: give one of them"
        )
    if kind is None or not KINDS[kind].written:
        known = [ext for form in KINDS.values() if form.written for ext in form.extensions]
        raise InputError(f"cannot write {target}: its extension must be one of {' '.join(known)}")
    return Job(source, target, kind)


def opened(given: str | Location, alone: bool, left_out: list[LeftOut]) -> list[Place]:
    """What an argument stands for: itself, or all that a pattern matches, whose tree is kept.

    One of many that is not there is a failure of its own, when its turn comes. A folder of a store
    stands for all below it.
    """
    if places.is_url(given):
        listed, some = shelves.objects(str(given)), []
        for path, folder in listed:
            names = (*folder.parts, path.name)
            reason = next(filter(None, map(passed_by, names)), "") or shelves.not_a_photo(path)
            if reason and (len(listed) > 1 or ".." in names):
                left_out.append(LeftOut(path, reason))
            else:
                some.append(Place(path, folder))
        return some
    path = Path(given)
    if os.path.lexists(path) or not glob.has_magic(str(given)):
        if alone and not os.path.lexists(path):
            raise InputError(f"{path} does not exist: give a photo file or a folder")
        return [Place(path, Path())]
    matches = sorted(map(Path, glob.glob(str(given), recursive=True)))
    if not matches:
        raise InputError(f"{given} matches no file: give a photo file or a folder")
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    chosen = []
    for match in [match for match in matches if match.is_file()] or matches:
        within = match.relative_to(Path(*fixed))
        if reason := next(filter(None, map(passed_by, within.parts)), ""):
            left_out.append(LeftOut(match, reason))
        else:
            chosen.append(Place(match, within.parent))
    return chosen


def _below(source: Location, output: Location) -> tuple[list[Location], list[LeftOut]]:
    """Photographs under a folder in order, links followed but not in a circle, and all else."""
    photos, left_out, been = [], [], set()
    inside = output.resolve()

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(Path(error.filename), f"cannot be read: {error.strerror}"))

    for top, folders, files in os.walk(source, onerror=unreadable, followlinks=True):
        been.add(os.path.realpath(top))
        open_to = []
        for name in sorted(folders):
            path = Path(top, name)
            reason = passed_by(name)
            if os.path.realpath(path) in been:
                reason = "a link to a folder that is done already"
            elif path.resolve() == inside and inside != source.resolve():
                reason = "the folder of the results"
            if reason:
                left_out.append(LeftOut(path, reason))
            else:
                open_to.append(name)
                been.add(os.path.realpath(path))
        folders[:] = open_to
        for name in sorted(files):
            path = Path(top, name)
            reason = passed_by(name) or _no_photo(path)
            if reason:
                left_out.append(LeftOut(path, reason))
            else:
                photos.append(path)
    if not photos and not left_out:
        raise InputError(f"{source} holds no photos")
    return photos, left_out


def head(path: Location) -> bytes:
    """A file's beginning; raises OSError."""
    with path.open("rb") as file:
        return file.read(HEAD)


def is_photo(path: Location) -> bool:
    """Whether a file begins as a photograph does, whatever its name."""
    try:
        return path.is_file() and kinds.recognise(head(path), path.suffix) is not None
    except OSError:
        return False


def _no_photo(path: Location) -> str:
    """Why a file that was found in a folder is no photograph, '' for one.

    One that has a photograph's name is taken for one: if it is not, that is a failure to be named.
    """
    try:
        if not path.is_file():
            return "a link to nothing" if path.is_symlink() else "not a file"
        if kinds.by_extension(path.suffix):
            return ""
        start = head(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if kinds.recognise(start):
        return ""
    if is_film(path):
        return "a film"
    return kinds.described(start) if start else "empty"


def _kind(path: Location) -> str | None:
    named = kinds.by_extension(path.suffix)
    if places.is_url(path):
        return named
    try:
        return (kinds.recognise(head(path), path.suffix) if path.is_file() else None) or named
    except OSError:
        return named


def _named(photos, output: Location, suffix: str, kind: str | None, left_out) -> list[Job]:
    """Targets for all, no two alike: with the source's whole name or a number where they would be."""
    wanted: dict[str, list[Job]] = {}
    sources = {path.resolve() for path, _ in photos}
    for source, folder in photos:
        own = _kind(source) or "PNG"
        form = kind or (own if KINDS[own].written else INSTEAD[own])
        keeps = source.suffix.lower() in KINDS[form].extensions
        extension = source.suffix if keeps else KINDS[form].extensions[0]
        stem = source.stem if kinds.by_extension(source.suffix) else source.name
        target = output.joinpath(*folder.parts, f"{stem}{suffix}{extension}")
        if suffix and stem.endswith(suffix) and _is_result(source, stem, suffix, sources):
            left_out.append(LeftOut(source, "a result of before, by its name"))
            continue
        wanted.setdefault(str(target).casefold(), []).append(Job(source, target, form))
    jobs = []
    # What keeps its name takes it first.
    taken = {key for key, same in wanted.items() if len(same) == 1}
    for same in wanted.values():
        differ = len({job.source.name.casefold() for job in same}) > 1
        for job in same:
            if len(same) > 1:
                own = job.source.name if differ else job.target.stem.removesuffix(suffix)
                stem, extension = str(job.target.with_name(f"{own}{suffix}")), job.target.suffix
                job = job._replace(target=places.place(_free(stem, extension, taken)))
                taken.add(str(job.target).casefold())
            if len(os.fsencode(job.target.name)) > MOST_NAME:
                left_out.append(LeftOut(job.source, "its result's name would be too long"))
            else:
                jobs.append(job)
    return jobs


def _is_result(source: Location, stem: str, suffix: str, sources: set[Location]) -> bool:
    """Whether the photograph that a file is the result of lies beside it."""
    before = stem.removesuffix(suffix)
    folder = source.resolve().parent
    return any(path.parent == folder and path.stem == before for path in sources)
