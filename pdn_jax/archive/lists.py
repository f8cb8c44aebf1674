"""What an archive consists of and what has become of it, as files beside its results.

    OUTPUT/.pdn-archive/lists/0000012     names and sizes of a part's photographs, a line each
    OUTPUT/.pdn-archive/parts/KEY         what became of them; KEY is a digest of the list
    OUTPUT/failures.csv                   all that failed, and why

The names are taken as the folders are listed, so that their number does not matter for memory.
"""

import csv
import hashlib
import importlib
import json
import os
import random
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pdn_jax import files, places
from pdn_jax.errors import InputError
from pdn_jax.photos import kinds
from pdn_jax.photos.walk import FORMATS, passed_by
from pdn_jax.places import Location

FOLDER, FAILURES = ".pdn-archive", "failures.csv"
MAGIC = re.compile(r"[*?\[]")


class Entry(NamedTuple):
    """A photograph: its name below the input, and its size in bytes."""

    name: str
    size: int


def root_of(given: str) -> tuple[Location, str]:
    """What a person gave, as a folder and a pattern.

    Args:
        given: a folder, a store's URL, or either with a pattern.

    Returns:
        (the folder, the pattern for names below it or '').

    Raises:
        InputError: for a folder that is not there.
    """
    if not MAGIC.search(given):
        root, pattern = given, ""
    else:
        fixed = given[: MAGIC.search(given).start()]
        root, pattern = fixed.rpartition("/")[0] or ".", given[fixed.rfind("/") + 1 :]
    place = places.place(root)
    if not places.is_url(place):
        place = place.absolute()
        if not place.is_dir():
            raise InputError(f"{place} is not a folder: give one that holds photographs")
    return place, pattern


def names(root: Location, pattern: str, output: Location) -> Iterator[Entry]:
    """The photographs below a folder by what they are called, folder by folder, in order.

    Args:
        root: the folder.
        pattern: of names below it, '' for all.
        output: of results; what lies there is passed by, as is what is hidden.

    Yields:
        Each photograph.
    """
    inside = str(output).removeprefix(str(root).rstrip("/") + "/") + "/"
    matches = _matcher(pattern)
    for folder, entries in _folders(root):
        for name, size in sorted(entries):
            path = f"{folder}{name}"
            hidden = any(map(passed_by, PurePosixPath(path).parts))
            if hidden or path.startswith(inside) or not matches(path):
                continue
            if kinds.by_extension(PurePosixPath(name).suffix):
                yield Entry(path, size)


def _matcher(pattern: str):
    if not pattern:
        return lambda path: True
    try:
        globbing = importlib.import_module("fsspec.utils")
    except ImportError as error:
        raise InputError(f'the pattern {pattern} needs pip install "pdn_jax[archive]"') from error
    return re.compile(globbing.glob_translate(pattern)).match


def _folders(root: Location) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """('below/', [(name, size) of its files]) of every folder."""
    if not places.is_url(root):
        for top, below, some in os.walk(root):
            below.sort()
            folder = Path(top).relative_to(root).as_posix()
            sizes = [(name, os.stat(os.path.join(top, name)).st_size) for name in some]
            yield ("" if folder == "." else f"{folder}/"), sizes
        return
    begins = root.path.rstrip("/")
    with places.explained("read", root):
        root.fs.ls(root.path)  # walking a bucket that is missing is silent
        for top, _, some in root.fs.walk(root.path, detail=True):
            folder = top.removeprefix(begins).strip("/")
            sizes = [(name, about["size"]) for name, about in some.items() if name]
            yield (f"{folder}/" if folder else ""), sizes


def counted(entries: Iterable[Entry], most: int) -> tuple[int, int, list[Entry]]:
    """How many there are, and a random sample.

    Args:
        entries: photographs.
        most: of the sample.

    Returns:
        (how many, of how many bytes, the sample).
    """
    draws, sample, count, size = random.Random(0), [], 0, 0
    for count, entry in enumerate(entries, 1):
        size += entry.size
        if len(sample) < most:
            sample.append(entry)
        elif (place := draws.randrange(count)) < most:
            sample[place] = entry
    return count, size, sample


def result_name(name: str, form: str) -> tuple[str, str]:
    """What a result is called. One of another format keeps the whole name, so that no two meet.

    Args:
        name: of the photograph.
        form: a key of `FORMATS`.

    Returns:
        (name, format).
    """
    path = PurePosixPath(name)
    own = kinds.by_extension(path.suffix)
    kind = FORMATS[form] or (own if kinds.KINDS[own].written else kinds.INSTEAD[own])
    extensions = kinds.KINDS[kind].extensions
    keeps = path.suffix.lower() in extensions
    return (name if keeps else f"{name}{extensions[0]}"), kind


def below(root: Location, name: str) -> Location:
    """A name below a place.

    Args:
        root: the place.
        name: with '/' between its parts.

    Returns:
        Where it lies.
    """
    return root.joinpath(*PurePosixPath(name).parts)


def size_of(path: Location) -> int:
    """How large a file or object is.

    Args:
        path: where it lies.

    Returns:
        Bytes, 0 where there is none.
    """
    if not places.is_url(path):
        return path.stat().st_size if path.exists() else 0
    with places.explained("read", path):
        try:
            return path.fs.info(path.path)["size"]
        except FileNotFoundError:
            return 0


class Lists:
    """The files beside an archive's results.

    Args:
        output: the folder or store of results.
    """

    def __init__(self, output: str):
        self.output = places.place(output)
        self.folder = self.output / FOLDER

    def write(self, entries: Iterable[Entry], most: int) -> tuple[int, int]:
        """List entries in parts.

        Args:
            entries: photographs.
            most: of a part.

        Returns:
            How many parts and entries there are.
        """
        parts = count = 0
        waiting: list[Entry] = []
        for entry in entries:
            waiting.append(entry)
            count += 1
            if len(waiting) == most:
                self._put(self._list(parts), _lines(waiting))
                parts, waiting = parts + 1, []
        if waiting:
            self._put(self._list(parts), _lines(waiting))
            parts += 1
        return parts, count

    def entries(self, number: int) -> list[Entry]:
        """What is listed under a number.

        Args:
            number: of the part.

        Returns:
            Its photographs.
        """
        lines = places.read(self._list(number)).decode().splitlines()
        return [Entry(*json.loads(line)) for line in lines]

    def done(self, entries: list[Entry]) -> dict[str, int]:
        """What is known to have been written of a part.

        Args:
            entries: its photographs.

        Returns:
            Name -> size of the result.
        """
        part = self._part(entries)
        return json.loads(places.read(part))["sizes"] if places.exists(part) else {}

    def finish(
        self, entries: list[Entry], sizes: dict[str, int], failures: list[tuple[str, str]]
    ) -> None:
        """Write what became of a part.

        Args:
            entries: its photographs.
            sizes: name -> size of the result.
            failures: (name, reason) of each that failed.
        """
        content = {"sizes": sizes, "failures": failures}
        self._put(self._part(entries), json.dumps(content).encode())

    def gather(self, parts: int) -> Location:
        """Write the table of all failures.

        Args:
            parts: how many there are.

        Returns:
            Where it is.
        """
        table = self.output / FAILURES
        with tempfile.TemporaryFile("w+", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["photograph", "reason"])
            for number in range(parts):
                part = json.loads(places.read(self._part(self.entries(number))))
                writer.writerows(part["failures"])
            file.seek(0)
            files.write_text(table, file.read())
        return table

    def _list(self, number: int) -> Location:
        return self.folder / "lists" / f"{number:07}"

    def _part(self, entries: list[Entry]) -> Location:
        key = hashlib.sha256(_lines(entries)).hexdigest()[:32]
        return self.folder / "parts" / key

    def _put(self, path: Location, data: bytes) -> None:
        if places.is_url(path):
            places.put(path, data)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_write(path) as file:
                file.write(data)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def _lines(entries: list[Entry]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
