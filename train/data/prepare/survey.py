"""Reading what was listed: sizes, brightness, edges, duplicates, splits; the plan of a data set.

A plan is plain data, kept with the built set as its metadata, so that the report of a build can
be shown again without the source. Images are uint8 [h, w, 3], sRGB.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pdn_jax.types import InputError
from train.data.prepare.duplicates import across, draw_splits, order, scene_groups
from train.data.prepare.image_stats import Facts, Surveyed, edge_agreement, facts
from train.data.prepare.listing import Listing, Record, Refused

WELL_EXPOSED, CLIPPED = 0.48, 0.5
"""The best-exposed frame of a bracket has the least |mean − 0.48| + 0.5·(part black or white)."""

DISAGREE = 0.25
"""Correlation of two photographs' edges below which a pair may not show the same scene.

Of 532 real pairs one is (0.235), very dark and noisy ones included; of wrong ones 95 % are.
"""

THREADS = min(8, os.cpu_count() or 1)


# --- one record ----------------------------------------------------------------------------------


def survey_pair(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """Both photographs of a pair; refused as a whole where one is damaged or their sizes differ."""
    found, refused = _read(source, record.files, pixels=True)
    if refused:
        return None, refused
    (low, dark), (normal, bright) = found
    if dark.shape != bright.shape:
        sizes = f"{low.width}×{low.height} but {normal.file} {normal.width}×{normal.height}"
        return None, [Refused(low.file, f"the sizes of the pair differ: {sizes}")]
    return Surveyed(record, (low, normal), edge_agreement(dark, bright)), []


def survey_bracket(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """A scene's frames up to the best-exposed one; frames of another size than it are refused."""
    found, refused = _read(source, record.files)
    if not found:
        return None, refused
    target, _ = min(
        found, key=lambda f: abs(f[0].mean / 255 - WELL_EXPOSED) + CLIPPED * f[0].clipped
    )
    frames: list[Facts] = []
    for frame, _ in found:
        if (frame.width, frame.height) != (target.width, target.height):
            sizes = f"{frame.width}×{frame.height}, the target {target.width}×{target.height}"
            refused.append(Refused(frame.file, f"the sizes of the scene's frames differ: {sizes}"))
        elif frame.mean < target.mean:
            frames.append(frame)
    if not frames:
        reason = f"scene {record.scene} has no frame darker than its best-exposed one"
        return None, [*refused, Refused(target.file, reason)]
    frames.sort(key=lambda frame: frame.mean)
    alike = [f for f, _ in found if (f.width, f.height) == (target.width, target.height)]
    bright = len(alike) - len(frames) - 1
    return Surveyed(record, (*frames, target), bright=bright), refused


def survey_photo(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """One photograph."""
    found, refused = _read(source, record.files)
    return (Surveyed(record, (found[0][0],)) if found else None), refused


def _read(source: Path, paths: Iterable[Path], pixels: bool = False):
    found, refused = [], []
    for path in paths:
        try:
            known, image = facts(source, path)
            found.append((known, image if pixels else None))
        except InputError as error:
            name = path.relative_to(source).as_posix()
            refused.append(Refused(name, str(error).removeprefix(str(path)).strip()))
    return found, refused


SURVEYS = {"paired": survey_pair, "brackets": survey_bracket, "photos": survey_photo}


# --- the whole source ----------------------------------------------------------------------------


def survey(
    kind: str,
    source: Path,
    listing: Listing,
    *,
    seed: int,
    held_out: float,
    advance: Callable[[], None] = lambda: None,
) -> dict:
    """The plan of a data set: read every record and put each into a split.

    Where no record says its split, `held_out` of the scenes go to dev and as many to test, chosen
    by `seed`; where some do, the others go to train. Photographs that look alike count as one
    scene. advance() is called after every record. Raises InputError where nothing is left.
    """
    refused = list(listing.refused)
    kept: list[Surveyed] = []
    for surveyed, out in _each(SURVEYS[kind], source, listing.records):
        refused += out
        kept += [surveyed] if surveyed else []
        advance()
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused[:3])
        raise InputError(f"{source} leaves nothing to build ({reasons or 'no photographs'})")

    groups = scene_groups(kept)
    said = any(record.split for record in listing.records)
    if said:
        splits = [found.record.split or "train" for found in kept]
    else:
        splits = draw_splits(groups, seed=seed, held_out=held_out)
    examples = {
        split: [
            _example(found, kept[group].record)
            for found, group, its in zip(kept, groups, splits, strict=True)
            if its == split
        ]
        for split in sorted(set(splits), key=order)
    }
    doubtful = [
        [found.record.name, round(found.edges, 3)]
        for found in kept
        if found.edges is not None and found.edges < DISAGREE
    ]
    return {
        "kind": kind,
        "split_by": "the source" if said else f"scene, seed {seed}",
        "examples": examples,
        "refused": [list(entry) for entry in refused],
        "doubtful": doubtful,
        "across": across(kept, splits),
        "notes": [*listing.notes, *_notes(kept, splits, said)],
    }


def _each(look: Callable, source: Path, records: Sequence[Record]) -> Iterator[tuple]:
    """What every record's survey returns, in order, several at a time."""
    # Pillow's warnings are switched off for all threads at once: each for itself, while decoding,
    # would restore what another has set.
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")
        yield from pool.map(lambda record: look(source, record), records)


def _notes(kept: list[Surveyed], splits: list[str], said: bool) -> list[str]:
    """What else is to be known of how the examples were chosen and split."""
    notes = []
    bright = sum(found.bright for found in kept)
    if bright:
        notes.append(f"{bright} frames are no darker than their scene's target, and not used")
    unsaid = sum(not found.record.split for found in kept)
    if said and unsaid:
        notes.append(f"{unsaid} of {len(kept)} examples say no split and are in train")
    if not said and set(splits) == {"train"}:
        notes.append("nothing is held out")
    return notes


def _example(found: Surveyed, first: Record) -> dict:
    """One entry of a plan; `first` is the first record of its scene."""
    fields = ("file", "width", "height", "mean", "data")
    frames = [{name: getattr(frame, name) for name in fields} for frame in found.frames]
    scene = found.record.scene or first.scene or first.name
    return {"name": found.record.name, "scene": scene, "frames": frames}
