"""What a source folder holds, by names alone: no photograph is opened here.

Whatever cannot be used is refused by name with the reason, and the rest is listed.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pdn_jax.photo import EXTENSIONS
from pdn_jax.types import InputError
from train.datasets.tables import SPLITS, inside, read_table, split_named

LOW = ("low", "low_light", "lowlight", "dark", "input", "inputs", "under", "underexposed", "lq")
NORMAL = ("high", "normal", "gt", "target", "targets", "groundtruth", "ground_truth", "reference")
"""What folders of dark photographs and of their truths are called, in any case."""

REFERENCES = ("label", "labels")
"""Folders beside brackets that hold fused references, which no camera took."""


class Refused(NamedTuple):
    """What is left out, and why."""

    name: str
    reason: str


class Record(NamedTuple):
    """One example to be: its files, (low, normal) of a pair; scene and split are '' where unsaid."""

    name: str
    scene: str
    split: str
    files: tuple[Path, ...]


class Listing(NamedTuple):
    """Records, what was refused, and every file seen, tables included."""

    records: tuple[Record, ...]
    refused: tuple[Refused, ...]
    files: tuple[Path, ...]


# --- pairs ---------------------------------------------------------------------------------------


def paired(source: Path, table: Path | None = None, only: Sequence[str] = ()) -> Listing:
    """Pairs of a folder: by `table` or its own pairs.csv, else by folders named as LOW and NORMAL.

    A table has the columns low and high, and may have split and scene; paths are relative to
    `source`. `only` holds rows of a table to COLUMN=VALUE. Raises InputError where there is
    nothing to pair.
    """
    check_folder(source)
    if table is None and (source / "pairs.csv").is_file():
        table = source / "pairs.csv"
    if table is not None:
        return _rows(source, table, ("low", "high"), only)
    if only:
        raise InputError(f"--only chooses rows of a csv, and {source} has no pairs.csv; add --csv")
    couples = list(_couples(source))
    if not couples:
        raise InputError(
            f"{source} holds no pairs: expected folders such as low/ and high/ (or "
            f"our485/low and our485/high, Train/Low and Train/Normal, input/ and gt/), or a "
            "pairs.csv with the columns low, high, split, scene"
        )
    records, refused, seen = [], [], []
    for low, normal in couples:
        here, out, files = _match(source, low, normal)
        records += here
        refused += out
        seen += files
    return Listing(*_unique(records, refused), tuple(seen))


def _couples(source: Path) -> Iterable[tuple[Path, Path]]:
    """(folder of dark photographs, folder of their truths), wherever they stand side by side."""
    for folder in [source, *_folders(source)]:
        inside = {child.name.casefold(): child for child in sorted(folder.iterdir())}
        lows = [inside[name] for name in LOW if name in inside and inside[name].is_dir()]
        normals = [inside[name] for name in NORMAL if name in inside and inside[name].is_dir()]
        for low in lows if normals else ():
            yield low, normals[0]


ROLE = "|".join(sorted((*LOW, *NORMAL), key=len, reverse=True))
ROLES = re.compile(rf"^(?:{ROLE})[-_ ]*|[-_ ]*(?:{ROLE})$")


def _match(source: Path, low: Path, normal: Path):
    """Photographs of two folders by name, extension, case and role (low00001, normal00001) aside."""
    refused: list[Refused] = []
    sides = []
    for folder in (low, normal):
        by_name: dict[str, list[Path]] = {}
        for path in _files(folder):
            if path.suffix.lower() not in EXTENSIONS:
                refused.append(_not_a_photo(source, path))
                continue
            key = PurePosixPath(path.relative_to(folder).with_suffix("").as_posix().casefold())
            plain = ROLES.sub("", key.name) or key.name
            by_name.setdefault((key.parent / plain).as_posix(), []).append(path)
        for paths in [found for found in by_name.values() if len(found) > 1]:
            same = ", ".join(path.name for path in paths)
            refused += [Refused(_relative(source, p), f"one of several: {same}") for p in paths]
        sides.append(by_name)
    records = []
    for key in sorted(sides[0].keys() | sides[1].keys(), key=_natural):
        found = [side.get(key, []) for side in sides]
        if not all(found):
            lone, other = (found[0], normal) if found[0] else (found[1], low)
            reason = f"no partner in {_relative(source, other)}"
            refused += [Refused(_relative(source, path), reason) for path in lone]
        elif len(found[0]) == len(found[1]) == 1:
            parent = low.parent.relative_to(source)
            nested = PurePosixPath(key).parts
            records.append(
                Record(
                    name=(PurePosixPath(parent.as_posix()) / key).as_posix(),
                    scene=(parent / nested[0]).as_posix() if len(nested) > 1 else "",
                    split=_split_of(parent.parts),
                    files=(found[0][0], found[1][0]),
                )
            )
        else:
            for path in [p for paths in found if len(paths) == 1 for p in paths]:
                refused.append(Refused(_relative(source, path), "its partner is not clear"))
    return records, refused, [*_files(low), *_files(normal)]


# --- brackets ------------------------------------------------------------------------------------


def brackets(source: Path, table: Path | None = None, splits: Path | None = None) -> Listing:
    """Exposure brackets: each folder that holds photographs is a scene, or as a table says.

    A table has the columns file and scene, and may have split. `splits` is another table with the
    columns scene and split; scenes that it does not name go to train.
    """
    check_folder(source)
    if table is None and (source / "frames.csv").is_file():
        table = source / "frames.csv"
    if table is not None:
        listing = _rows(source, table, ("file",), ())
        scenes: dict[str, list[Record]] = {}
        for record in listing.records:
            scenes.setdefault(record.scene, []).append(record)
        records, refused = [], list(listing.refused)
        for scene, frames in scenes.items():
            named = {frame.split for frame in frames} - {""}
            if not scene or len(named) > 1:
                reason = "no scene" if not scene else f"scene {scene} is in several splits"
                refused += [Refused(frame.name, reason) for frame in frames]
                continue
            files = tuple(file for frame in frames for file in frame.files)
            records.append(Record(scene, scene, next(iter(named), ""), files))
        listing = Listing(tuple(records), tuple(refused), listing.files)
    else:
        listing = _scenes(source)
    return listing if splits is None else _with_splits(listing, splits)


def _scenes(source: Path) -> Listing:
    records, refused, seen = [], [], []
    for folder in [source, *_folders(source)]:
        files = [path for path in sorted(folder.iterdir(), key=_natural) if _visible_file(path)]
        seen += files
        photos = [path for path in files if path.suffix.lower() in EXTENSIONS]
        refused += [_not_a_photo(source, path) for path in files if path not in photos]
        if not photos:
            continue
        parts = folder.relative_to(source).parts
        if not parts or parts[-1].casefold() in REFERENCES:
            reason = "lies in no scene's folder" if not parts else "a reference, not an exposure"
            refused += [Refused(_relative(source, path), reason) for path in photos]
            continue
        scene = "/".join(parts)
        records.append(Record(scene, scene, _split_of(parts[:-1]), tuple(photos)))
    return Listing(tuple(records), tuple(refused), tuple(seen))


def _with_splits(listing: Listing, table: Path) -> Listing:
    splits: dict[str, str] = {}
    for line, row in read_table(table, ("scene", "split")):
        split = split_named(row["split"], table, line)
        if splits.setdefault(row["scene"], split) != split:
            raise InputError(
                f"{table}, line {line}: scene {row['scene']} is in {split} and in "
                f"{splits[row['scene']]}; a scene belongs to one split"
            )
    records = [r._replace(split=splits.get(r.scene, "train")) for r in listing.records]
    return Listing(tuple(records), listing.refused, (*listing.files, table))


# --- photographs ---------------------------------------------------------------------------------


def photos(source: Path) -> Listing:
    """Every photograph under a folder; a folder called train, val, test … says the split."""
    check_folder(source)
    files = _files(source)
    records, refused = [], []
    for path in files:
        if path.suffix.lower() not in EXTENSIONS:
            refused.append(_not_a_photo(source, path))
            continue
        parts = path.relative_to(source).parts
        records.append(Record("/".join(parts), "", _split_of(parts[:-1]), (path,)))
    return Listing(tuple(records), tuple(refused), tuple(files))


# --- rows of a table ---------------------------------------------------------------------------


def _rows(source: Path, table: Path, columns: Sequence[str], only: Sequence[str]) -> Listing:
    """A record per row of a table, its files named in `columns`."""
    scene = ("scene",) if columns == ("file",) else ()
    wanted = [condition.partition("=") for condition in only]
    rows = read_table(table, (*columns, *scene, *(column for column, _, _ in wanted)))
    rows = [(n, r) for n, r in rows if all(r[column] == value for column, _, value in wanted)]
    records, refused, files = [], [], [table]
    for line, row in rows:
        name = row[columns[0]]
        try:
            found = tuple(inside(source, row[column]) for column in columns)
            split = split_named(row.get("split", ""), table, line)
        except InputError as error:
            refused.append(Refused(name or f"line {line}", str(error)))
            continue
        files += found
        name = name if scene else PurePosixPath(name).with_suffix("").as_posix()
        records.append(Record(name, row.get("scene", ""), split, found))
    return Listing(*_unique(records, refused), tuple(files))


# --- names ---------------------------------------------------------------------------------------


def check_folder(source: Path) -> None:
    """Raise InputError unless it is a folder with something in it."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder: give one that holds photographs")
    if not any(source.iterdir()):
        raise InputError(f"{source} is empty: give a folder that holds photographs")


def _split_of(parts: Sequence[str]) -> str:
    return next((SPLITS[p.casefold()] for p in parts if p.casefold() in SPLITS), "")


def _unique(records: list[Record], refused: list[Refused]):
    """Records of one name are refused but for the first."""
    kept: dict[str, Record] = {}
    for record in records:
        if kept.setdefault(record.name, record) is not record:
            refused = [*refused, Refused(record.name, "a second of that name")]
    return tuple(kept.values()), tuple(refused)


def _folders(source: Path) -> list[Path]:
    found = [path for path in source.rglob("*") if path.is_dir()]
    return sorted((p for p in found if _visible(p.relative_to(source))), key=_natural)


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if _visible_file(path)]
    return sorted((p for p in found if _visible(p.relative_to(folder))), key=_natural)


def _visible(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def _visible_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _not_a_photo(source: Path, path: Path) -> Refused:
    return Refused(_relative(source, path), f"not a photo: expected one of {' '.join(EXTENSIONS)}")


def _relative(source: Path, path: Path) -> str:
    return path.relative_to(source).as_posix()


def _natural(path: Path | str) -> list:
    """Sorts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.as_posix() if isinstance(path, Path) else path)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
