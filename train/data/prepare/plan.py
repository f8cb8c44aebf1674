"""The plan of a data set: which examples it has, in which split, and what is to be known of them.

A plan is plain data, stored with the built set as its metadata, so that the report of a build can
be shown without the source.
"""

from collections.abc import Callable
from pathlib import Path

from pdn_jax.types import InputError
from train.data.prepare.duplicates import across, draw_splits, order, scene_groups
from train.data.prepare.image_stats import Surveyed
from train.data.prepare.journal import Journal
from train.data.prepare.listing import Listing, Record
from train.data.prepare.survey import NOWHERE, survey_all

DISAGREE = 0.25
"""Correlation of two photographs' edges below which a pair may not show the same scene.

Of 532 real pairs one is (0.235), very dark and noisy ones included; of wrong ones 95 % are.
"""


def make_plan(
    kind: str,
    source: Path,
    listing: Listing,
    *,
    seed: int,
    held_out: float,
    advance: Callable[[], None] = lambda: None,
    journal: Journal = NOWHERE,
) -> dict:
    """The plan of a data set: read every record and put each into a split.

    Where no record says its split, `held_out` of the scenes go to dev and as many to test, chosen
    by `seed`; where some do, the others go to train. Photographs that look alike count as one
    scene. advance() is called after every record. journal: what was seen before. Raises InputError where nothing is left.
    """
    refused, surveyed = list(listing.refused), []
    for example, left_out in survey_all(kind, source, listing.records, journal):
        refused += left_out
        surveyed += [example] if example else []
        advance()
    if not surveyed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused[:3])
        raise InputError(f"{source} leaves nothing to build ({reasons or 'no photographs'})")

    groups = scene_groups(surveyed)
    named = any(record.split for record in listing.records)
    if named:
        splits = [example.record.split or "train" for example in surveyed]
    else:
        splits = draw_splits(groups, seed=seed, held_out=held_out)
    examples: dict[str, list[dict]] = {split: [] for split in sorted(set(splits), key=order)}
    for example, group, split in zip(surveyed, groups, splits, strict=True):
        examples[split].append(_entry(example, surveyed[group].record))
    edges = [(e.record.name, e.edges) for e in surveyed if e.edges is not None]
    return {
        "kind": kind,
        "split_by": "the source" if named else f"scene, seed {seed}",
        "examples": examples,
        "refused": [list(entry) for entry in refused],
        "doubtful": [[name, round(value, 3)] for name, value in edges if value < DISAGREE],
        "across": across(surveyed, splits),
        "notes": [*listing.notes, *_notes(surveyed, splits, named)],
    }


def _notes(surveyed: list[Surveyed], splits: list[str], named: bool) -> list[str]:
    """What else is to be known of how the examples were chosen and split."""
    notes = []
    bright = sum(example.bright for example in surveyed)
    if bright:
        notes.append(f"{bright} frames are no darker than their scene's target, and not used")
    unnamed = sum(not example.record.split for example in surveyed)
    if named and unnamed:
        notes.append(f"{unnamed} of {len(surveyed)} examples say no split and are in train")
    if not named and set(splits) == {"train"}:
        notes.append("nothing is held out")
    return notes


def _entry(example: Surveyed, first: Record) -> dict:
    """One example of a plan; `first` is the first record of its scene."""
    fields = ("file", "width", "height", "mean", "data")
    frames = [{name: getattr(frame, name) for name in fields} for frame in example.frames]
    scene = example.record.scene or first.scene or first.name
    return {"name": example.record.name, "scene": scene, "frames": frames}
