"""Built data sets: where they are, which there are, and their photographs by random access.

They live where TFDS keeps its own: a given folder, else $TFDS_DATA_DIR, else
~/tensorflow_datasets, each in KIND/NAME/VERSION. A name is one data set, whatever its kind.
What is being built stands in a staging folder there, which its process holds locked.
"""

import contextlib
import fcntl
import functools
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PILImage

from pdn_jax.types import InputError

KINDS = {
    "paired": "paired_low_light",
    "brackets": "exposure_brackets",
    "photos": "photos",
    "packaged": "packaged_photos",
}
"""Kind -> the folder that TFDS gives its builder."""

VERSION = "1.0.0"
FIELDS = {"paired": ("low", "normal"), "brackets": ("image",), "photos": ("image",)}
STAGING, OLDER = ".building-", "older"


def data_dir(directory: str | Path = "") -> Path:
    """The folder of built data sets: as given, or as TFDS has it."""
    return Path(
        directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()


def find(name: str, directory: str | Path = "") -> Path | None:
    """Folder of the built data set of that name, or None."""
    for folder in KINDS.values():
        path = data_dir(directory) / folder / name / VERSION
        if (path / "dataset_info.json").is_file() and (path / "metadata.json").is_file():
            return path
    return None


def names(directory: str | Path = "") -> list[str]:
    """Every data set built there."""
    root = data_dir(directory)
    found = {p.parent.name for folder in KINDS.values() for p in root.glob(f"{folder}/*/{VERSION}")}
    return sorted(name for name in found if find(name, directory))


def plan(name: str, directory: str | Path = "") -> dict:
    """What `survey` found when that data set was built; builds `packaged` where it is not there.

    Raises InputError for a name that was not built.
    """
    path = find(name, directory)
    if path is None and name == "packaged":
        from train.data.prepare import builders

        path = install(
            lambda staging: builders.build(lambda: builders.PackagedPhotos(data_dir=staging)),
            directory,
        )
    if path is None:
        known = ", ".join(sorted({*names(directory), "packaged"}))
        raise InputError(
            f"no data set {name!r} in {data_dir(directory)} (there are: {known}); build it with "
            f"python -m train.tools.prepare, or name another --data-dir (config.data.directory)"
        )
    try:
        found = json.loads((path / "metadata.json").read_text(encoding="utf-8"))
        return found | {"path": str(path)}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}/metadata.json is damaged: remove {path} and prepare {name} again"
        ) from error


def install(
    build: Callable[[Path], Path], directory: str | Path = "", *, replace: bool = False
) -> Path:
    """Build in a staging folder, then move the whole data set into its place; the place.

    build(staging) -> the data set's folder under staging. Whatever stops this on its way leaves
    what was there before, and no half data set under its name. Where another process has put a
    data set of that name there meanwhile, that one stays, unless `replace`.
    """
    root = data_dir(directory)
    with contextlib.ExitStack() as held:
        staging = _staging(root, held)
        try:
            place = build(staging).relative_to(staging)
            with _locked(root):
                there = find(place.parent.name, root)
                if there and not replace:
                    return there
                if (root / place).exists():
                    _move(root, staging / OLDER, place)
                _move(staging, root, place)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{root} cannot be written ({reason}); make room, or name another with --data-dir"
            ) from error
        finally:
            with contextlib.suppress(OSError), _locked(root):
                _give_back(root, staging)
                shutil.rmtree(staging, ignore_errors=True)
    return root / place


def _staging(root: Path, held: contextlib.ExitStack) -> Path:
    """A new folder to build in, locked until `held` closes."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            clear_staging(root)
            staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=root))
            held.enter_context(_locked(staging))
    except OSError as error:
        raise InputError(
            f"{root} cannot be written ({error.strerror}); name another folder with --data-dir"
        ) from error
    return staging


def clear_staging(root: Path) -> None:
    """Remove what builds left that were killed; those that run hold theirs locked."""
    for folder in root.glob(f"{STAGING}*"):
        with contextlib.suppress(OSError):  # locked, or on a disk that knows no locks
            held = _lock(folder)
            _give_back(root, folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _give_back(root: Path, staging: Path) -> None:
    """Move an older data set into its place again where the newer did not get there."""
    for older in staging.glob(f"{OLDER}/*/*/*"):
        place = older.relative_to(staging / OLDER)
        if not (root / place).exists():
            _move(staging / OLDER, root, place)


def _move(here: Path, there: Path, place: Path) -> None:
    (there / place).parent.mkdir(parents=True, exist_ok=True)
    (here / place).replace(there / place)


def _lock(folder: Path, wait: bool = False) -> int:
    """Lock a folder until the number returned is closed, or its process ends."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(held)
        raise
    return held


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process at a time, for moments only; on a disk that knows no locks without."""
    held = None
    with contextlib.suppress(OSError):
        held = _lock(root, wait=True)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


# --- reading -------------------------------------------------------------------------------------


class Item(NamedTuple):
    """One dark photograph to learn from: frame `low` of example `example`."""

    example: int
    low: int


class Split:
    """One split of a built data set; its photographs by example and frame, decoded when asked for."""

    def __init__(self, name: str, split: str, directory: str | Path = ""):
        found = plan(name, directory)
        if split not in found["examples"]:
            there = ", ".join(found["examples"])
            raise InputError(f"data set {name} has no split {split!r}; it has {there}")
        self.name, self.split = name, split
        self.kind, self.path = found["kind"], found["path"]
        self.examples: list[dict] = found["examples"][split]
        counts = [len(e["frames"]) if self.kind == "brackets" else 1 for e in self.examples]
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)

    @functools.cached_property
    def records(self) -> Sequence[dict]:
        """TFDS's random access to the records, images still encoded."""
        import tensorflow_datasets as tfds

        skip = {field: tfds.decode.SkipDecoding() for field in FIELDS[self.kind]}
        return tfds.builder_from_directory(self.path).as_data_source(self.split, decoders=skip)

    def __getstate__(self) -> dict:
        """Without the open file, which another process opens for itself."""
        return {key: value for key, value in self.__dict__.items() if key != "records"}

    def __len__(self) -> int:
        return len(self.items)

    @functools.cached_property
    def items(self) -> list[Item]:
        """Every (example, dark frame); a photograph is its own, and darkened later."""
        return [
            Item(place, low)
            for place, example in enumerate(self.examples)
            for low in range(max(1, len(example["frames"]) - 1))
        ]

    def item_name(self, item: Item) -> str:
        """What to call it: the pair's or photograph's name, or the dark frame's in a bracket."""
        example = self.examples[item.example]
        if self.kind != "brackets":
            return example["name"]
        return f"{example['name']} {Path(example['frames'][item.low]['file']).name}"

    def frame(self, example: int, index: int) -> np.ndarray:
        """Frame `index` of an example, uint8 [h, w, 3]; −1 is the well-exposed one."""
        index %= len(self.examples[example]["frames"])
        if self.kind == "paired":
            data = self.records[int(self.starts[example])][("low", "normal")[index]]
        else:
            data = self.records[int(self.starts[example]) + index]["image"]
        with PILImage.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def pairs(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(name, low, normal), uint8, of every dark photograph; InputError for plain photographs."""
        if self.kind == "photos":
            raise InputError(f"data set {self.name} holds photographs without a dark partner")
        for item in self.items:
            low, normal = (self.frame(item.example, index) for index in (item.low, -1))
            yield self.item_name(item), low, normal


def open_split(name: str, split: str, directory: str | Path = "") -> Split:
    """A split of a built data set; raises InputError that says which there are."""
    return Split(name, split, directory)
