"""Reading what was listed: sizes, brightness, edges. Images are uint8 [h, w, 3], sRGB."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pdn_jax.types import InputError
from train.data.prepare.image_stats import Surveyed, edge_agreement, facts
from train.data.prepare.journal import Journal, Result
from train.data.prepare.listing import Record, Refused

WELL_EXPOSED, CLIPPED = 0.48, 0.5
"""The best-exposed frame of a bracket has the least |mean − 0.48| + 0.5·(part black or white)."""

THREADS = min(8, os.cpu_count() or 1)
AT_ONCE = 256
NOWHERE = Journal(None)


def survey_pair(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """Both photographs of a pair; refused as a whole where one is damaged or their sizes differ."""
    photos, refused = _read(source, record.files, pixels=True)
    if refused:
        return None, refused
    (low, dark), (normal, bright) = photos
    if dark.shape != bright.shape:
        sizes = f"{low.width}×{low.height} but {normal.file} {normal.width}×{normal.height}"
        return None, [Refused(low.file, f"the sizes of the pair differ: {sizes}")]
    return Surveyed(record, (low, normal), edge_agreement(dark, bright)), []


def survey_bracket(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """A scene's frames up to the best-exposed one; frames of another size than it are refused."""
    photos, refused = _read(source, record.files)
    if not photos:
        return None, refused
    frames = [frame for frame, _ in photos]
    target = min(frames, key=lambda f: abs(f.mean / 255 - WELL_EXPOSED) + CLIPPED * f.clipped)
    size = target.width, target.height
    for frame in frames:
        if (frame.width, frame.height) != size:
            sizes = f"{frame.width}×{frame.height}, the target {target.width}×{target.height}"
            refused.append(Refused(frame.file, f"the sizes of the scene's frames differ: {sizes}"))
    alike = [frame for frame in frames if (frame.width, frame.height) == size]
    darker = sorted((f for f in alike if f.mean < target.mean), key=lambda frame: frame.mean)
    if not darker:
        reason = f"scene {record.scene} has no frame darker than its best-exposed one"
        return None, [*refused, Refused(target.file, reason)]
    return Surveyed(record, (*darker, target), bright=len(alike) - len(darker) - 1), refused


def survey_photo(source: Path, record: Record) -> tuple[Surveyed | None, list[Refused]]:
    """One photograph."""
    photos, refused = _read(source, record.files)
    return (Surveyed(record, (photos[0][0],)) if photos else None), refused


def _read(source: Path, paths: Iterable[Path], pixels: bool = False):
    """(facts, pixels where they are asked for) of every file, and those refused."""
    photos, refused = [], []
    for path in paths:
        try:
            known, image = facts(source, path)
            photos.append((known, image if pixels else None))
        except InputError as error:
            name = path.relative_to(source).as_posix()
            refused.append(Refused(name, str(error).removeprefix(str(path)).strip()))
    return photos, refused


SURVEYS = {"paired": survey_pair, "brackets": survey_bracket, "photos": survey_photo}


def survey_all(
    kind: str, source: Path, records: Sequence[Record], journal: Journal = NOWHERE
) -> Iterator[Result]:
    """(`Surveyed` or None, refused) of every record, in order, several at a time.

    What is in the journal is not read, and what is read comes into it, `AT_ONCE` by `AT_ONCE`.
    """
    # Pillow's warnings are switched off for all threads at once: each for itself, while decoding,
    # would restore what another has set.
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(records), AT_ONCE):
            some = records[start : start + AT_ONCE]
            results = [journal.known(kind, record) for record in some]
            left = [place for place, result in enumerate(results) if result is None]
            read = pool.map(lambda place, of=some: SURVEYS[kind](source, of[place]), left)
            for place, result in zip(left, read, strict=True):
                results[place] = result
                journal.keep(kind, some[place], result)
            yield from results
