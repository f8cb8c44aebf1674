"""TFDS builders: what was surveyed, written as array_record, read and written without TensorFlow.

    PairedLowLight    low, normal             a pair
    ExposureBrackets  image, scene, exposure  a frame; a scene's frames stand together, darkest first
    Photos            image                   a well-exposed photograph, darkened while training
    PackagedPhotos    image                   those that come with scikit-image and scikit-learn

Every record has a `name`. Files are kept as they were encoded where any reader sees the same
pixels in them, as 8-bit sRGB PNG otherwise.
"""

import contextlib
import errno
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image as PILImage

from pdn_jax import photo
from pdn_jax.types import InputError
from train.data.store import VERSION

PACKAGED = {
    "astronaut": "skimage/data/astronaut.png",
    "chelsea": "skimage/data/chelsea.png",
    "china": "sklearn/datasets/images/china.jpg",
    "coffee": "skimage/data/coffee.png",
    "flower": "sklearn/datasets/images/flower.jpg",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "rocket": "skimage/data/rocket.jpg",
}
"""Colour photographs that scikit-image and scikit-learn carry in their wheels: nothing is downloaded."""

PACKAGED_DEV = ("coffee", "flower")
"""Those of them that are never trained on."""


class _Surveyed(tfds.core.GeneratorBasedBuilder):
    """A data set of one source, by the plan that `survey` made of it.

    FIELDS: what a record holds besides its name. records(example): those of one example of the plan.
    """

    VERSION = tfds.core.Version(VERSION)
    FIELDS: ClassVar[dict[str, tfds.features.FeatureConnector]]

    def __init__(self, *, name: str, plan: dict, source: Path | None, data_dir: Path, advance=None):
        self.plan, self.source, self.advance = plan, source, advance
        config = tfds.core.BuilderConfig(name=name)
        super().__init__(data_dir=data_dir, config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict({"name": tfds.features.Text(), **self.FIELDS}),
            metadata=tfds.core.MetadataDict(self.plan),
            disable_shuffling=True,  # records stand as the plan lists them
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.plan["examples"]}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        place = 0
        for example in self.plan["examples"][split]:
            for record in self.records(example):
                yield place, record
                place += 1
            if self.advance:
                self.advance()

    def encoded(self, frame: dict) -> bytes:
        """A surveyed file's bytes, or a PNG of it; raises InputError where it has changed since."""
        path = self.source / frame["file"]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != frame["data"]:
            raise InputError(f"{path} has changed while the data set was built; start again")
        if photo.is_plain(data):
            return data
        buffer = io.BytesIO()
        PILImage.fromarray(photo.decode(data, str(path))).save(buffer, "PNG", compress_level=4)
        return buffer.getvalue()


class PairedLowLight(_Surveyed):
    """Pairs of a dark and a well-exposed photograph of one scene."""

    FIELDS: ClassVar = {"low": tfds.features.Image(), "normal": tfds.features.Image()}

    def records(self, example: dict) -> Iterator[dict]:
        """One record: both photographs."""
        low, normal = map(self.encoded, example["frames"])
        yield {"name": example["name"], "low": low, "normal": normal}


class ExposureBrackets(_Surveyed):
    """Scenes in several exposures; a scene's last frame is its best exposed."""

    FIELDS: ClassVar = {
        "scene": tfds.features.Text(),
        "exposure": tfds.features.Scalar(np.int64),
        "image": tfds.features.Image(),
    }

    def records(self, example: dict) -> Iterator[dict]:
        """A record per frame, darkest first; `exposure` counts them."""
        for exposure, frame in enumerate(example["frames"]):
            yield {
                "name": frame["file"],
                "scene": example["scene"],
                "exposure": exposure,
                "image": self.encoded(frame),
            }


class Photos(_Surveyed):
    """Well-exposed photographs."""

    FIELDS: ClassVar = {"image": tfds.features.Image()}

    def records(self, example: dict) -> Iterator[dict]:
        """One record: the photograph."""
        yield {"name": example["name"], "image": self.encoded(example["frames"][0])}


class PackagedPhotos(Photos):
    """The photographs of `PACKAGED`, which come with this project's dependencies."""

    def __init__(self, *, data_dir: Path):
        super().__init__(name="packaged", plan=packaged_plan(), source=None, data_dir=data_dir)

    def encoded(self, frame: dict) -> bytes:
        """The packaged file's bytes."""
        return packaged_file(frame["file"])


def packaged_file(name: str) -> bytes:
    """The bytes of PACKAGE/PATH."""
    package, _, path = name.partition("/")
    return (files(package) / path).read_bytes()


def packaged_plan() -> dict:
    """As `survey` would plan them: `PACKAGED_DEV` held out."""
    examples: dict[str, list[dict]] = {"train": [], "dev": []}
    for name, file in PACKAGED.items():
        data = packaged_file(file)
        image = photo.decode(data, name)
        frame = {
            "file": file,
            "width": image.shape[1],
            "height": image.shape[0],
            "mean": float(image.mean()),
            "data": hashlib.sha256(data).hexdigest(),
        }
        split = "dev" if name in PACKAGED_DEV else "train"
        examples[split].append({"name": name, "scene": name, "frames": [frame]})
    nothing = {"refused": [], "doubtful": [], "across": []}
    return {"kind": "photos", "split_by": "name", "examples": examples, **nothing}


BUILDERS = {"paired": PairedLowLight, "brackets": ExposureBrackets, "photos": Photos}
"""What `prepare` builds, by kind."""


def build(make: Callable[[], tfds.core.GeneratorBasedBuilder]) -> Path:
    """Make a builder and let it write into its (staging) data_dir; returns the data set's folder.

    Raises OSError where the disk is full.
    """
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        # TFDS prints of downloads, and there are none.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = make()
            downloads = Path(builder.data_dir_root) / "downloads"
            builder.download_and_prepare(download_dir=downloads, file_format="array_record")
    except RuntimeError as error:  # what array_record makes of a failed write
        reason = re.search(r"write\(\) failed: ([^;]*)", str(error))
        if reason is None:
            raise
        raise OSError(errno.EIO, reason[1]) from error
    finally:
        absl.setLevel(level)
    return Path(builder.data_dir)
