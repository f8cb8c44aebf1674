"""What an archive consists of and what has become of it, as files beside its results.

    OUTPUT/.pdn-archive/input             which folder and pattern it is the archive of
    OUTPUT/.pdn-archive/lists/0000012     names and sizes of a part's photographs, a line each
    OUTPUT/.pdn-archive/parts/KEY         what became of them; KEY is a digest of the first name
    OUTPUT/failures.csv                   all that failed, and why

The names are taken as the folders are listed, so that their number does not matter for memory. A part
begins where a digest of the name says so: a photograph more or less changes its own part alone.
"""

import csv
import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pdn_jax import files, places
from pdn_jax.archive.walk import Entry
from pdn_jax.errors import InputError
from pdn_jax.photos import kinds
from pdn_jax.photos.walk import FORMATS
from pdn_jax.places import Location

FOLDER, FAILURES = ".pdn-archive", "failures.csv"


def result_name(name: str, form: str) -> tuple[str, str]:
    """What a result is called. One of another format keeps the whole name, so that no two meet: a.gif
    becomes a.gif.png, and a photograph of that name a.gif.png.png.

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
    keeps = path.suffix.lower() in extensions and not kinds.by_extension(Path(path.stem).suffix)
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

    def claim(self, source: str) -> None:
        """Say whose archive this is.

        Args:
            source: folder and pattern of the photographs.

        Raises:
            InputError: where it is another's.
        """
        place = self.folder / "input"
        if not places.exists(place):
            self._put(place, source.encode())
        elif (other := places.read(place).decode()) != source:
            raise InputError(
                f"{self.output} holds the archive of {other}: name another output for {source}"
            )

    def write(self, entries: Iterable[Entry], most: int) -> tuple[int, int]:
        """List entries in parts.

        Args:
            entries: photographs.
            most: of a part, on average; four times as many at most.

        Returns:
            How many parts and entries there are.
        """
        parts = count = 0
        waiting: list[Entry] = []
        for entry in entries:
            begins = int(_digest(entry.name)[:12], 16) % most == 0
            if waiting and (begins or len(waiting) == 4 * most):
                self._put(self._list(parts), _lines(waiting))
                parts, waiting = parts + 1, []
            waiting.append(entry)
            count += 1
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

    def done(self, entries: list[Entry]) -> dict[str, tuple[int, int]]:
        """What is known to have been written of a part.

        Args:
            entries: its photographs.

        Returns:
            Name -> sizes of the photograph and of its result.
        """
        part = self._part(entries)
        if not places.exists(part):
            return {}
        sizes = json.loads(places.read(part))["sizes"]
        return {name: (source, result) for name, (source, result) in sizes.items()}

    def finish(
        self,
        entries: list[Entry],
        sizes: dict[str, tuple[int, int]],
        failures: list[tuple[str, str]],
    ) -> None:
        """Write what became of a part.

        Args:
            entries: its photographs.
            sizes: name -> sizes of the photograph and of its result.
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
        with tempfile.TemporaryFile("w+", newline="", errors="backslashreplace") as file:
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
        return self.folder / "parts" / _digest(entries[0].name)

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


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]


def _lines(entries: list[Entry]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
