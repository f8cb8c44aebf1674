"""Which files are to be enhanced, where the results go, and what is left out and why."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pdn_jax.errors import InputError
from pdn_jax.photos import kinds
from pdn_jax.photos.kinds import INSTEAD, KINDS

SAME = "same"
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

    source: Path
    target: Path
    kind: str


class LeftOut(NamedTuple):
    """A file or folder that is not enhanced, and why."""

    path: Path
    reason: str


class Plan(NamedTuple):
    """What is to be done, and what is left out, both in order."""

    jobs: list[Job]
    left_out: list[LeftOut]


def passed_by(name: str) -> str:
    """Why a file or folder of this name is left out wherever it lies; '' where it is not."""
    if name.startswith("."):
        return "hidden"
    if name.casefold() in SYSTEM:
        return "a folder of the system's own"
    return ""


def plan(
    inputs: Sequence[str | Path], output: str | Path, *, suffix: str = "", form: str = SAME
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
    sources = [path for given in inputs for path in _opened(given)]
    output_given, output = str(output), Path(output)
    if len(sources) == 1 and not sources[0].is_dir() and _is_file_name(output_given):
        return Plan([_to_file(sources[0], output)], [])
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: with several photos -o names a folder")
    photos, left_out = [], []
    folders = [path for path in sources if path.is_dir()]
    for source in sources:
        if source.is_dir():
            below, others = _below(source, output)
            # Several folders keep their names, so that their files do not meet.
            top = Path(source.resolve().name) if len(folders) > 1 else Path()
            photos += [(path, top / path.relative_to(source).parent) for path in below]
            left_out += others
        else:
            photos.append((source, Path()))
    jobs = _named(list(dict.fromkeys(photos)), output, suffix, FORMATS[form], left_out)
    return Plan(jobs, left_out)


def _is_file_name(output: str) -> bool:
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)):
        return False
    return path.suffix != "" or path.exists()


def _to_file(source: Path, target: Path) -> Job:
    kind = kinds.by_extension(target.suffix)
    if kind is None or not KINDS[kind].written:
        known = [ext for form in KINDS.values() if form.written for ext in form.extensions]
        raise InputError(f"cannot write {target}: its extension must be one of {' '.join(known)}")
    return Job(source, target, kind)


def _opened(given: str | Path) -> list[Path]:
    """What an argument stands for: itself, or all that a pattern matches."""
    path = Path(given)
    if os.path.lexists(path) or not glob.has_magic(str(given)):
        if not os.path.lexists(path):
            raise InputError(f"{path} does not exist: give a photo file or a folder")
        return [path]
    matches = sorted(map(Path, glob.glob(str(given), recursive=True)))
    if not matches:
        raise InputError(f"{given} matches no file: give a photo file or a folder")
    return [match for match in matches if match.is_file()] or matches


def _below(source: Path, output: Path) -> tuple[list[Path], list[LeftOut]]:
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


def head(path: Path) -> bytes:
    """A file's beginning; raises OSError."""
    with path.open("rb") as file:
        return file.read(HEAD)


def _no_photo(path: Path) -> str:
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
    return kinds.described(start) if start else "empty"


def _kind(path: Path) -> str | None:
    try:
        return kinds.recognise(head(path), path.suffix) or kinds.by_extension(path.suffix)
    except OSError:
        return kinds.by_extension(path.suffix)


def _named(photos, output: Path, suffix: str, kind: str | None, left_out) -> list[Job]:
    """Targets for all, with the source's whole name where two would be the same."""
    wanted: dict[str, list[Job]] = {}
    sources = {path.resolve() for path, _ in photos}
    for source, folder in photos:
        own = _kind(source) or "PNG"
        form = kind or (own if KINDS[own].written else INSTEAD[own])
        keeps = source.suffix.lower() in KINDS[form].extensions
        extension = source.suffix if keeps else KINDS[form].extensions[0]
        stem = source.stem if kinds.by_extension(source.suffix) else source.name
        target = output / folder / f"{stem}{suffix}{extension}"
        if suffix and stem.endswith(suffix) and _is_result(source, stem, suffix, sources):
            left_out.append(LeftOut(source, "a result of before, by its name"))
            continue
        wanted.setdefault(str(target).casefold(), []).append(Job(source, target, form))
    jobs = []
    for same in wanted.values():
        for job in same:
            if len(same) > 1:
                name = f"{job.source.name}{suffix}{job.target.suffix}"
                job = job._replace(target=job.target.with_name(name))
            if len(os.fsencode(job.target.name)) > MOST_NAME:
                left_out.append(LeftOut(job.source, "its result's name would be too long"))
            else:
                jobs.append(job)
    return jobs


def _is_result(source: Path, stem: str, suffix: str, sources: set[Path]) -> bool:
    """Whether the photograph that a file is the result of lies beside it."""
    before = stem.removesuffix(suffix)
    folder = source.resolve().parent
    return any(path.parent == folder and path.stem == before for path in sources)
