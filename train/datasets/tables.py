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
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            missing = [name for name in needed if name not in columns]
            if missing:
                raise InputError(
                    f"{path} has no column {missing[0]}: expected {', '.join(needed)}, "
                    f"found {', '.join(columns) or 'nothing'}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read as a csv ({reason}): write it as UTF-8") from error
    return [(line, {k: (v or "").strip() for k, v in row.items() if k}) for line, row in rows]


def inside(source: Path, name: str) -> Path:
    """The photograph that a table names; InputError where it climbs out, is none or is not there."""
    relative = os.path.normpath(name.replace("\\", "/")) if name else ""
    if not relative:
        raise InputError("an empty path")
    if os.path.isabs(relative) or relative.split("/")[0] == ".." or ":" in relative.split("/")[0]:
        raise InputError(f"{name} leads out of the source folder")
    path = source / relative
    if path.suffix.lower() not in EXTENSIONS:
        raise InputError(f"{name} is not a photo: expected one of {' '.join(EXTENSIONS)}")
    if not path.is_file():
        raise InputError(f"{name} does not exist")
    return path


def split_named(text: str, table: Path, line: int) -> str:
    """The split that a cell means, "" for none; InputError where it can name none."""
    split = SPLITS.get(text.casefold(), text)
    if split and not re.fullmatch(r"[A-Za-z]\w*", split, re.ASCII):
        raise InputError(f"{table.name}, line {line}: {text!r} cannot name a split")
    return split
