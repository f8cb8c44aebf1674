"""Reading what was listed: sizes, brightness, edges, duplicates, splits; the plan of a data set.

A plan is plain data, kept with the built set as its metadata, so that the report of a build can
be shown again without the source. Images are uint8 [h, w, 3], sRGB.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PILImage

from pdn_jax import photo
from pdn_jax.types import InputError
from train.datasets.listing import Listing, Record, Refused

WELL_EXPOSED, CLIPPED = 0.48, 0.5
"""The best-exposed frame of a bracket has the least |mean − 0.48| + 0.5·(part black or white)."""

DISAGREE = 0.25
"""Correlation of two photographs' edges below which a pair may not show the same scene.

Of 140 real pairs none is below 0.31, very dark and noisy ones included; of wrong ones 95 % are.
"""

ALIKE = 6
"""Bits of 64 in which the perceptual hashes of one photograph and a copy of it may differ.

Of 347 different photographs no two differ in less than 14.
"""

THREADS = min(8, os.cpu_count() or 1)


class Facts(NamedTuple):
    """What is known of one photo file. `content` hashes the pixels, `look` what they look like."""

    file: str
    width: int
    height: int
    mean: float
    clipped: float
    data: str
    content: str
    look: str


class Surveyed(NamedTuple):
    """A record with its facts, darkest frame first and the target last."""

    record: Record
    frames: tuple[Facts, ...]
    edges: float | None


def facts(source: Path, path: Path) -> tuple[Facts, np.ndarray]:
    """Facts and pixels of a file; raises InputError where `photo.read` does."""
    import imagehash

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    image = photo.decode(data, str(path))
    height, width = image.shape[:2]
    # Reduced first: the hash looks at 32×32 pixels, and need not filter all of a large one.
    look = imagehash.phash(thumbnail(image, 256))
    found = Facts(
        file=path.relative_to(source).as_posix(),
        width=width,
        height=height,
        mean=float(image.mean()),
        clipped=float((image.max(axis=2) == 255).mean() + (image.max(axis=2) == 0).mean()),
        data=hashlib.sha256(data).hexdigest(),
        content=hashlib.sha256(f"{width}x{height}".encode() + image.tobytes()).hexdigest(),
        look=str(look),
    )
    return found, image


def thumbnail(image: np.ndarray, side: int) -> PILImage.Image:
    """A photograph whose longer side is at most `side` pixels."""
    small = PILImage.fromarray(image)
    small.thumbnail((side, side), PILImage.Resampling.BOX, reducing_gap=2.0)
    return small


def edge_agreement(low: np.ndarray, normal: np.ndarray) -> float:
    """Correlation of both photographs' edges, moved by a pixel at most: 1 for the same picture.

    Edges are gradient magnitudes of log brightness, which exposure does not change, reduced to
    at most 256 pixels and blurred.
    """
    from skimage.filters import gaussian, sobel

    def edges(image):
        grey = np.asarray(thumbnail(image, 256).convert("L"), np.float32) / 255.0
        return gaussian(sobel(np.log(gaussian(grey, 1.0) + 0.02)), 1.0)

    a, b = edges(low), edges(normal)
    inner = a[2:-2, 2:-2]
    if min(inner.shape) < 4 or inner.std() == 0.0:
        return 1.0  # nothing to compare: no reason to doubt it
    moved = [
        b[2 + y : b.shape[0] - 2 + y, 2 + x : b.shape[1] - 2 + x]
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    ]
    return max(
        (float(np.corrcoef(inner.ravel(), m.ravel())[0, 1]) for m in moved if m.std() > 0.0),
        default=0.0,
    )


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
    frames = []
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
    return Surveyed(record, (*frames, target), None), refused


def survey_photo(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """One photograph."""
    found, refused = _read(source, record.files)
    return (Surveyed(record, (found[0][0],), None) if found else None), refused


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
    with ThreadPoolExecutor(THREADS) as pool:
        reads = pool.map(lambda record: SURVEYS[kind](source, record), listing.records)
        for surveyed, out in reads:
            refused += out
            kept += [surveyed] if surveyed else []
            advance()
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused[:3])
        raise InputError(f"{source} leaves nothing to build ({reasons or 'no photographs'})")

    groups = scene_groups(kept)
    said = [found.record.split for found in kept]
    if any(said):
        splits = [split or "train" for split in said]
    else:
        splits = draw_splits(groups, seed=seed, held_out=held_out)
    order = sorted(set(splits), key=lambda s: ({"train": 0, "dev": 1, "test": 2}.get(s, 3), s))
    examples = {
        split: [
            _example(found, kept[group].record)
            for found, group, its in zip(kept, groups, splits, strict=True)
            if its == split
        ]
        for split in order
    }
    doubtful = [
        [found.record.name, round(found.edges, 3)]
        for found in kept
        if found.edges is not None and found.edges < DISAGREE
    ]
    return {
        "kind": kind,
        "split_by": "the source" if any(said) else f"scene, seed {seed}",
        "examples": examples,
        "refused": [list(entry) for entry in refused],
        "doubtful": doubtful,
        "across": across(kept, splits),
    }


def _example(found: Surveyed, first: Record) -> dict:
    """One entry of a plan; `first` is the first record of its scene."""
    fields = ("file", "width", "height", "mean", "data")
    frames = [{name: getattr(frame, name) for name in fields} for frame in found.frames]
    scene = found.record.scene or first.scene or first.name
    return {"name": found.record.name, "scene": scene, "frames": frames}


def looks_alike(a: str, b: str) -> bool:
    """Whether two perceptual hashes, in hexadecimal, are those of one picture."""
    return (int(a, 16) ^ int(b, 16)).bit_count() <= ALIKE


def scene_groups(kept: list[Surveyed]) -> list[int]:
    """A number per record: the same for one scene by name, and for targets that are or look the same."""
    parent = list(range(len(kept)))

    def root(place):
        while parent[place] != place:
            place = parent[place]
        return place

    first: dict[str, int] = {}
    looks = np.array([int(found.frames[-1].look, 16) for found in kept], np.uint64)
    for place, found in enumerate(kept):
        for name in filter(None, (found.record.scene, found.frames[-1].content)):
            parent[root(place)] = root(first.setdefault(name, place))
        near = np.bitwise_count(looks[:place] ^ looks[place]) <= ALIKE
        for other in np.flatnonzero(near):
            parent[root(place)] = root(int(other))
    return [root(place) for place in range(len(kept))]


def draw_splits(groups: list[int], *, seed: int, held_out: float) -> list[str]:
    """A split per record, whole groups at a time; dev and test get at least one of three or more."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    count = max(1, round(held_out * len(names))) if held_out and len(names) >= 3 else 0
    chosen = {}
    for place, index in enumerate(order):
        chosen[names[index]] = "dev" if place < count else "test" if place < 2 * count else "train"
    return [chosen[group] for group in groups]


def across(kept: list[Surveyed], splits: list[str]) -> list[list[str]]:
    """[split, name, other split, name, how] of photographs that are, or look, the same in two splits."""
    found = []
    contents: dict[str, list[tuple[str, str]]] = {}
    for surveyed, split in zip(kept, splits, strict=True):
        for frame in surveyed.frames:
            for other, name in contents.get(frame.content, []):
                if other != split:
                    found.append([other, name, split, frame.file, "same pixels"])
            contents.setdefault(frame.content, []).append((split, frame.file))
    looks = np.array([int(s.frames[-1].look, 16) for s in kept], np.uint64)
    for place, (surveyed, split) in enumerate(zip(kept, splits, strict=True)):
        near = np.bitwise_count(looks[:place] ^ looks[place]) <= ALIKE
        for other in np.flatnonzero(near):
            a, b = kept[other].frames[-1], surveyed.frames[-1]
            if splits[other] != split and a.content != b.content:
                found.append([splits[other], a.file, split, b.file, "looks the same"])
    return found
