"""Tables that come with a source: csv rows, the paths and the splits that they name."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pdn_jax.photo import EXTENSIONS
from pdn_jax.types import InputError

SPLITS = {
    **dict.fromkeys(("train", "training", "our485"), "train"),
    **dict.fromkeys(("dev", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "eval15"), "test"),
}
"""Folder or csv entry, in any case -> the split that it means."""


def read_table(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of a csv; raises InputError for an unreadable one or a missing column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # an open quote would swallow rows
            columns = [name.strip() for name in next(reader, [])]
            missing = [name for name in needed if name not in columns]
            if missing:
                raise InputError(
                    f"{path} has no column {missing[0]}: expected {', '.join(needed)}, "
                    f"got {', '.join(columns) or 'nothing'}"
                )
            lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a csv: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    empty = dict.fromkeys(columns, "")
    return [(n, empty | dict(zip(columns, map(str.strip, c), strict=False))) for n, c in lines]


def inside(source: Path, name: str) -> Path:
    """The photograph that a table names; InputError where it climbs out, is none or is not there."""
    relative = os.path.normpath(name.replace("\\", "/")) if name else ""
    if not relative:
        raise InputError("an empty path")
    if os.path.isabs(relative) or relative.split("/")[0] == ".." or re.match("[A-Za-z]:", relative):
        raise InputError(f"{name} leads out of the source folder")
    path = source / relative
    if path.suffix.lower() not in EXTENSIONS:
        raise InputError(f"{name} is not a photo: expected one of {' '.join(EXTENSIONS)}")
    try:
        if not path.is_file():
            raise InputError(f"{name} does not exist")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error}") from error
    return path


def split_named(text: str, where: str = "") -> str:
    """The split that a cell means, "" for none; InputError where it can name none."""
    split = SPLITS.get(text.casefold(), text)
    if split and (not re.fullmatch(r"[A-Za-z]\w*", split, re.ASCII) or split == "all"):
        raise InputError(f"{where}{text!r} cannot name a split")
    return split


def split_of(parts: Sequence[str]) -> str:
    """The split that a path's folders name, '' for none."""
    return next((SPLITS[p.casefold()] for p in parts if p.casefold() in SPLITS), "")
