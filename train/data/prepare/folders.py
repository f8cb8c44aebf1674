"""What lies in a folder: all that can be seen there, and by name what cannot be reached.

Hidden files and folders are passed by; links are followed, but not in a circle.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

from pdn_jax.photo import EXTENSIONS
from pdn_jax.types import InputError

UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, surrogates, line and paragraph separators."""


class Refused(NamedTuple):
    """What is left out, and why."""

    name: str
    reason: str


class Tree(NamedTuple):
    """All folders under one, itself included, and all files, 2.jpg before 10.jpg; what was refused."""

    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    refused: tuple[Refused, ...]


def check(source: Path) -> None:
    """Raise InputError unless it is a folder that can be read and has something in it."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder: give one that holds photographs")
    try:
        empty = not any(source.iterdir())
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error
    if empty:
        raise InputError(f"{source} is empty: give a folder that holds photographs")


def walk(source: Path) -> Tree:
    """Everything under a folder; raises InputError as `check` does."""
    check(source)
    folders, files, refused = [], [], []

    def unreadable(error: OSError) -> None:
        name = relative(source, Path(error.filename))
        refused.append(Refused(name, f"cannot be read: {error.strerror}"))

    for top, below, found in os.walk(source, onerror=unreadable, followlinks=True):
        folder = Path(top)
        folders.append(folder)
        open_to = []
        for name in below + found:
            path = folder / name
            if name.startswith("."):
                continue
            reason = _fault(path, name in below)
            if reason:
                refused.append(Refused(relative(source, path), reason))
            elif name in below:
                open_to.append(name)
            else:
                files.append(path)
        below[:] = open_to
    return Tree(
        tuple(sorted(folders, key=natural)), tuple(sorted(files, key=natural)), tuple(refused)
    )


def _fault(path: Path, is_folder: bool) -> str:
    """Why a path cannot be used, '' for nothing."""
    if not is_text(path.name):
        return "its name is not UTF-8: rename it"
    if is_folder:
        circle = path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())
        return "a link to a folder that it lies in" if circle else ""
    try:
        if path.is_file():
            return ""
        return "a link to nothing" if path.is_symlink() else "not a file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def photos(source: Path, files: Sequence[Path]) -> tuple[list[Path], list[Refused]]:
    """Those of the files that are photographs by their extension, and the others as refused."""
    found = [path for path in files if is_photo(path)]
    reason = f"not a photo: expected one of {' '.join(EXTENSIONS)}"
    return found, [Refused(relative(source, p), reason) for p in files if not is_photo(p)]


def is_photo(path: Path) -> bool:
    """Whether its extension says so."""
    return path.suffix.lower() in EXTENSIONS


def relative(source: Path, path: Path) -> str:
    """The path from the source on, fit to be printed."""
    return printable(path.relative_to(source).as_posix())


def is_text(name: str) -> bool:
    """Whether a name from the disk is UTF-8, so that it can be kept and printed."""
    return not any(0xD800 <= ord(c) < 0xE000 for c in name)


def printable(text: str) -> str:
    """One line of Unicode: line ends, other control characters and what is no UTF-8 spelt out."""
    escaped = (c if category(c) not in UNPRINTABLE else repr(c)[1:-1] for c in text)
    return "".join(escaped)


def natural(path: Path | str) -> list:
    """Sorts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.as_posix() if isinstance(path, Path) else path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
