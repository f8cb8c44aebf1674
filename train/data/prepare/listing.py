"""What a source folder holds, by names alone: no photograph is opened here.

Whatever cannot be used is refused by name with the reason, and the rest is listed.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pdn_jax.types import InputError
from train.data.prepare import folders
from train.data.prepare.folders import Refused as Refused
from train.data.prepare.folders import natural, relative
from train.data.prepare.pairing import LOW, NORMAL, no_partner, partners
from train.data.prepare.tables import inside, read_table, split_named, split_of

REFERENCES = ("label", "labels")
"""Folders beside brackets that hold fused references, which no camera took."""


class Record(NamedTuple):
    """One example to be: its files, (low, normal) of a pair; scene and split are '' where unsaid."""

    name: str
    scene: str
    split: str
    files: tuple[Path, ...]


class Listing(NamedTuple):
    """Records, what was refused, every file seen, tables included, and what else is to be said."""

    records: tuple[Record, ...]
    refused: tuple[Refused, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


# --- pairs ---------------------------------------------------------------------------------------


def paired(source: Path, table: Path | None = None, only: Sequence[str] = ()) -> Listing:
    """Pairs of a folder: by `table` or its own pairs.csv, else by folders named as LOW and NORMAL.

    A table has the columns low and high, and may have split and scene; paths are relative to
    `source`. `only` holds rows of a table to COLUMN=VALUE. Raises InputError where there is
    nothing to pair.
    """
    folders.check(source)
    if table is None and (source / "pairs.csv").is_file():
        table = source / "pairs.csv"
    if table is not None:
        return _rows(source, table, ("low", "high"), only)
    if only:
        raise InputError(f"--only chooses rows of a csv, and {source} has no pairs.csv; add --csv")
    tree = folders.walk(source)
    couples = _couples(tree)
    if not couples:
        raise InputError(
            f"{source} holds no pairs: expected folders such as low/ and high/ (or "
            f"our485/low and our485/high, Train/Low and Train/Normal, input/ and gt/), or a "
            "pairs.csv with the columns low, high, split, scene"
        )
    photos, refused = folders.photos(source, tree.files)
    sides: dict[Path, list[Path]] = {side: [] for lows, ns in couples for side in (*lows, *ns)}
    for path in photos:
        home = next((folder for folder in path.parents if folder in sides), None)
        if home is None:
            reason = "in no folder of dark photographs or of their truths"
            refused.append(Refused(relative(source, path), reason))
        else:
            sides[home].append(path)
    records = []
    for lows, normals in couples:
        made, out = _match(source, lows, normals, sides)
        records += made
        refused += out
    return Listing(_distinct(source, records), (*tree.refused, *refused), tree.files)


def _couples(tree: folders.Tree) -> list[tuple[list[Path], list[Path]]]:
    """(folders of dark photographs, folders of their truths), wherever they stand side by side."""
    couples: dict[Path, tuple[list[Path], list[Path]]] = {}
    for folder in tree.folders[1:]:
        for side, names in enumerate((LOW, NORMAL)):
            if folder.name.casefold() in names:
                couples.setdefault(folder.parent, ([], []))[side].append(folder)
    for _, normals in couples.values():
        normals.sort(key=lambda folder: NORMAL.index(folder.name.casefold()))
    return [both for both in couples.values() if all(both)]


def _match(source: Path, lows: list[Path], normals: list[Path], files: dict[Path, list[Path]]):
    """Records of the folders that stand side by side; the truths are those of the first of `normals`."""
    normal, parent = normals[0], normals[0].parent.relative_to(source)
    records, refused, lone = [], [], set(files[normal])

    def without(path: Path, here: Path, there: Path) -> Refused:
        reason = no_partner(path, here, files[there], there)
        return Refused(relative(source, path), f"{reason} in {relative(source, there)}")

    for other in normals[1:]:
        reason = f"not read: the truths are those in {relative(source, normal)}"
        refused += [Refused(relative(source, path), reason) for path in files[other]]
    for low in lows:
        pairs = partners(files[low], low, files[normal], normal)
        for dark, (bright, name) in pairs.items():
            nested = dark.relative_to(low).parent.parts
            scene = any(not split_of((part,)) for part in nested)
            records.append(
                Record(
                    name=(parent / name).as_posix(),
                    scene=parent.joinpath(*nested).as_posix() if scene else "",
                    split=split_of((*parent.parts, *nested)),
                    files=(dark, bright),
                )
            )
        lone -= {bright for bright, _ in pairs.values()}
        refused += [without(path, low, normal) for path in files[low] if path not in pairs]
    refused += [without(path, normal, lows[0]) for path in sorted(lone, key=natural)]
    return records, refused


def _distinct(source: Path, records: list[Record]) -> tuple[Record, ...]:
    """With the whole path for a name where several have the same."""
    count = Counter(record.name for record in records)
    return tuple(
        record._replace(name=record.files[0].relative_to(source).as_posix())
        if count[record.name] > 1
        else record
        for record in records
    )


# --- brackets ------------------------------------------------------------------------------------


def brackets(source: Path, table: Path | None = None, splits: Path | None = None) -> Listing:
    """Exposure brackets: each folder that holds photographs is a scene, or as a table says.

    A table has the columns file and scene, and may have split. `splits` is another table with the
    columns scene and split; scenes that it does not name go to train.
    """
    folders.check(source)
    if table is None and (source / "frames.csv").is_file():
        table = source / "frames.csv"
    if table is None:
        listing = _scenes(source, splits)
    else:
        listing = _gathered(_rows(source, table, ("file",), ()))
    return listing if splits is None else _with_splits(listing, splits)


def _gathered(frames: Listing) -> Listing:
    """Records of single frames -> records of scenes."""
    scenes: dict[str, list[Record]] = {}
    for record in frames.records:
        scenes.setdefault(record.scene, []).append(record)
    records, refused = [], list(frames.refused)
    for scene, its in scenes.items():
        named = {frame.split for frame in its} - {""}
        if not scene or len(named) > 1:
            reason = "no scene" if not scene else f"scene {scene} is in several splits"
            refused += [Refused(frame.name, reason) for frame in its]
            continue
        files = tuple(file for frame in its for file in frame.files)
        records.append(Record(scene, scene, next(iter(named), ""), files))
    return frames._replace(records=tuple(records), refused=tuple(refused))


def _scenes(source: Path, splits: Path | None) -> Listing:
    tree = folders.walk(source)
    files = [p for p in tree.files if not (splits and p.name == splits.name and p.samefile(splits))]
    photos, refused = folders.photos(source, files)
    scenes: dict[Path, list[Path]] = {}
    for path in photos:
        parts = path.relative_to(source).parts[:-1]
        if not parts or parts[-1].casefold() in REFERENCES:
            reason = "lies in no scene's folder" if not parts else "a reference, not an exposure"
            refused.append(Refused(relative(source, path), reason))
        else:
            scenes.setdefault(path.parent, []).append(path)
    records = []
    for folder, its in scenes.items():
        scene = folder.relative_to(source)
        split = split_of(scene.parent.parts)
        records.append(Record(scene.as_posix(), scene.as_posix(), split, tuple(its)))
    return Listing(tuple(records), (*tree.refused, *refused), tuple(files))


def _with_splits(listing: Listing, table: Path) -> Listing:
    splits: dict[str, str] = {}
    for line, row in read_table(table, ("scene", "split")):
        split = split_named(row["split"], f"{table}, line {line}: ")
        if splits.setdefault(row["scene"], split) != split:
            raise InputError(
                f"{table}, line {line}: scene {row['scene']} is in {split} and in "
                f"{splits[row['scene']]}; a scene belongs to one split"
            )
    there = {record.scene for record in listing.records}
    if there.isdisjoint(splits):
        some = ", ".join(sorted(there, key=natural)[:3])
        raise InputError(
            f"{table} names none of the {len(there)} scenes; expected some of {some} …"
        )
    unknown = [Refused(f"{table.name}, {s}", "no such scene") for s in splits if s not in there]
    records = tuple(r._replace(split=splits.get(r.scene) or "train") for r in listing.records)
    unsaid = sum(not splits.get(record.scene) for record in records)
    said = f"{unsaid} scenes to which {table.name} gives no split are in train"
    notes = (*listing.notes, *([said] if unsaid else []))
    return Listing(records, (*listing.refused, *unknown), (*listing.files, table), notes)


# --- photographs ---------------------------------------------------------------------------------


def photos(source: Path) -> Listing:
    """Every photograph under a folder; a folder called train, val, test … says the split."""
    tree = folders.walk(source)
    paths, refused = folders.photos(source, tree.files)
    records = []
    for path in paths:
        name = path.relative_to(source)
        records.append(Record(name.as_posix(), "", split_of(name.parent.parts), (path,)))
    return Listing(tuple(records), (*tree.refused, *refused), tree.files)


# --- rows of a table ---------------------------------------------------------------------------


def _rows(source: Path, table: Path, columns: Sequence[str], only: Sequence[str]) -> Listing:
    """A record per row of a table, its files named in `columns`; no two have the same first."""
    scene = ("scene",) if columns == ("file",) else ()
    wanted = [condition.partition("=") for condition in only]
    rows = read_table(table, (*columns, *scene, *(column for column, _, _ in wanted)))
    rows = [(n, r) for n, r in rows if all(r[column] == value for column, _, value in wanted)]
    if not rows:
        raise InputError(f"{table} has no rows{' with ' + ' and '.join(only) if only else ''}")
    records, refused, files, first = [], [], [table], {}
    for line, row in rows:
        try:
            paths = tuple(inside(source, row[column]) for column in columns)
            if len(set(paths)) < len(paths):
                raise InputError(f"{' and '.join(columns)} are the same file")
            if first.setdefault(paths[0], line) != line:
                raise InputError(f"the {columns[0]} of line {first[paths[0]]} again")
            split = split_named(row.get("split", ""))
        except InputError as error:
            refused.append(Refused(f"{table.name}, line {line}", str(error)))
            continue
        files += paths
        name = paths[0].relative_to(source)
        name = (name if scene else name.with_suffix("")).as_posix()
        records.append(Record(name, row.get("scene", ""), split, paths))
    return Listing(_distinct(source, records), tuple(refused), tuple(files))
