"""What lies in a folder: files and folders to be used, and by name what is not, with the reason.

Links are followed, but not in a circle.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

from pdn_jax.photo import EXTENSIONS, passed_by
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

    for top, below, names in os.walk(source, onerror=unreadable, followlinks=True):
        folder = Path(top)
        folders.append(folder)
        reasons = {name: passed_by(name) or _fault(folder / name, True) for name in below}
        reasons |= {name: passed_by(name) or _fault(folder / name, False) for name in names}
        for name, reason in reasons.items():
            if reason:
                refused.append(Refused(relative(source, folder / name), reason))
        files += [folder / name for name in names if not reasons[name]]
        below[:] = [name for name in below if not reasons[name]]
    return Tree(
        tuple(sorted(folders, key=natural)), tuple(sorted(files, key=natural)), tuple(refused)
    )


def _fault(path: Path, is_folder: bool) -> str:
    """Why a path cannot be used, '' for nothing."""
    if any(category(character) == "Cs" for character in path.name):
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
    reason = f"not a photo: expected one of {' '.join(EXTENSIONS)}"
    others = [path for path in files if path.suffix.lower() not in EXTENSIONS]
    refused = [Refused(relative(source, path), reason) for path in others]
    return [path for path in files if path.suffix.lower() in EXTENSIONS], refused


def relative(source: Path, path: Path) -> str:
    """The path from the source on, fit to be printed."""
    return printable(path.relative_to(source).as_posix())


def printable(text: str) -> str:
    """One line of Unicode: line ends, other control characters and what is no UTF-8 spelt out."""
    escaped = (c if category(c) not in UNPRINTABLE else repr(c)[1:-1] for c in text)
    return "".join(escaped)


def natural(path: Path | str) -> list:
    """Sorts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.as_posix() if isinstance(path, Path) else path)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
