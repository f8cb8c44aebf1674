"""Built data sets: where they are, which there are, and their photographs by random access.

They live where TFDS keeps its own: a given folder, else $TFDS_DATA_DIR, else
~/tensorflow_datasets, each in KIND/NAME/VERSION. A name is one data set, whatever its kind.
`prepare.install` puts them there, whole; what it has not finished is not seen here.
"""

import contextlib
import functools
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PILImage

from pdn_jax import copies, places
from pdn_jax.places import Location
from pdn_jax.types import InputError

KINDS = {
    "paired": "paired_low_light",
    "brackets": "exposure_brackets",
    "photos": "photos",
    "packaged": "packaged_photos",
}
"""Kind -> the folder that TFDS gives its builder."""

VERSION = "1.0.0"
SHARD = ".array_record"
"""What files of records have in their names."""

FIELDS = {"paired": ("low", "normal"), "brackets": ("image",), "photos": ("image",)}


def data_dir(directory: str | Location = "") -> Location:
    """The folder of built data sets: as given, or as TFDS has it."""
    folder = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return places.place(folder) if places.is_url(folder) else Path(folder).expanduser()


def find(name: str, directory: str | Location = "") -> Location | None:
    """Folder of the built data set of that name, or None."""
    for folder in KINDS.values():
        path = data_dir(directory) / folder / name / VERSION
        if all(places.exists(path / needed) for needed in ("dataset_info.json", "metadata.json")):
            return path
    return None


def names(directory: str | Location = "") -> list[str]:
    """Every data set built there."""
    root = data_dir(directory)
    if places.is_url(root):
        written = {path.parent for path in places.objects(root) if path.name == "metadata.json"}
        paths = [path for path in written if path.parents[1].name in KINDS.values()]
    else:
        paths = [path for folder in KINDS.values() for path in root.glob(f"{folder}/*/{VERSION}")]
    return sorted(name for name in {path.parent.name for path in paths} if find(name, directory))


def plan(name: str, directory: str | Location = "") -> dict:
    """What `survey` planned when that data set was built; builds `packaged` where it is not there.

    Raises InputError for a name that was not built.
    """
    path = find(name, directory)
    if path is None and name == "packaged":
        from train.data.prepare import builders
        from train.data.prepare.install import install

        path = install(
            lambda staging: builders.build(lambda: builders.PackagedPhotos(data_dir=staging)),
            data_dir(directory),
        )
    if path is None:
        known = ", ".join(sorted({*names(directory), "packaged"}))
        raise InputError(
            f"no data set {name!r} in {data_dir(directory)} (there are: {known}); build it with "
            f"python -m train.tools.prepare, or name another --data-dir (config.data.directory)"
        )
    try:
        content = json.loads(places.read(path / "metadata.json"))
        return content | {"path": str(path)}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}/metadata.json is damaged: remove {path} and prepare {name} again"
        ) from error


# --- reading -------------------------------------------------------------------------------------


class Item(NamedTuple):
    """One dark photograph to learn from: frame `low` of example `example`."""

    example: int
    low: int


class Copied(Sequence):
    """Records in a store: a shard is copied when the first of its records is asked for."""

    def __init__(self, source: Sequence[dict], split, folder: Path, store: Location):
        self.source, self.folder, self.store = source, folder, store
        self.shards = [Path(name).name for name in split.filenames]
        self.ends = np.cumsum(split.shard_lengths)
        self.here: set[int] = set()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, record: int) -> dict:
        shard = int(np.searchsorted(self.ends, record, side="right"))
        if shard not in self.here:
            name = self.shards[shard]
            with contextlib.suppress(FileExistsError):  # by another thread or process
                (self.folder / name).symlink_to(copies.fetched(self.store / name))
            self.here.add(shard)
        return self.source[record]


class Split:
    """One split of a built data set; its photographs by example and frame, decoded when asked for.

    Raises InputError for one that there is not, and says which there are.
    """

    def __init__(self, name: str, split: str, directory: str | Location = ""):
        content = plan(name, directory)
        if split not in content["examples"]:
            there = ", ".join(content["examples"])
            raise InputError(f"data set {name} has no split {split!r}; it has {there}")
        self.name, self.split, self.has_truth = name, split, True
        self.kind, self.path = content["kind"], content["path"]
        self.examples: list[dict] = content["examples"][split]
        counts = [len(e["frames"]) if self.kind == "brackets" else 1 for e in self.examples]
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)

    @functools.cached_property
    def records(self) -> Sequence[dict]:
        """TFDS's random access to the records, images still encoded; from a store, to copies."""
        import tensorflow_datasets as tfds

        skip = {field: tfds.decode.SkipDecoding() for field in FIELDS[self.kind]}
        folder = copies.fetched(self.path, without=SHARD)
        builder = tfds.builder_from_directory(folder)
        source = builder.as_data_source(self.split, decoders=skip)
        if not places.is_url(self.path):
            return source
        return Copied(source, builder.info.splits[self.split], folder, places.place(self.path))

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
