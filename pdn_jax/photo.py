"""Photo files in and out, folders and pairs of them.

`read` and `write` are for pictures of 8 bits in sRGB, uint8 [h, w, 3], upright. `open`, `developed`,
`encoded` and `save` are for photographs with all that their files say: depth, colours, transparency,
metadata. `plan` says which files those are, and `run` does all of it for one. Every fault of a file
or a path is an `InputError` that names it. What is behind it all is in `photos`.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pdn_jax import files, places
from pdn_jax.errors import InputError
from pdn_jax.photos import reader, walk, writer
from pdn_jax.photos.exposure import is_dark as is_dark
from pdn_jax.photos.job import Options as Options
from pdn_jax.photos.job import Outcome as Outcome
from pdn_jax.photos.job import check_target as check_target
from pdn_jax.photos.job import enhance as enhance
from pdn_jax.photos.job import load as load
from pdn_jax.photos.job import remove_litter as remove_litter
from pdn_jax.photos.job import run as run
from pdn_jax.photos.job import store as store
from pdn_jax.photos.kinds import EXTENSIONS as EXTENSIONS
from pdn_jax.photos.presence import developed as developed
from pdn_jax.photos.presence import place as place
from pdn_jax.photos.reader import SMALLEST as SMALLEST
from pdn_jax.photos.reader import from_file as open
from pdn_jax.photos.reader import size as size
from pdn_jax.photos.record import Photo as Photo
from pdn_jax.photos.srgb import Pixels as Pixels
from pdn_jax.photos.srgb import decode as decode
from pdn_jax.photos.srgb import is_plain as is_plain
from pdn_jax.photos.srgb import srgb as srgb
from pdn_jax.photos.walk import FORMATS as FORMATS
from pdn_jax.photos.walk import Job as Job
from pdn_jax.photos.walk import LeftOut as LeftOut
from pdn_jax.photos.walk import passed_by as passed_by
from pdn_jax.photos.walk import plan as plan
from pdn_jax.photos.writer import encoded as encoded
from pdn_jax.photos.writer import save as save
from pdn_jax.places import Location

__all__ = ["open"]  # which is Python's own name otherwise

WRITERS = {
    ".png": {"format": "PNG", "compress_level": 4},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
"""Extension -> how Pillow is to save a drawing or a plain picture."""


# --- in --------------------------------------------------------------------------------------


def read(path: str | Location) -> Pixels:
    """A photo file as a plain picture; see `decode`.

    Args:
        path: the file; its content says what format it is.

    Returns:
        uint8 [h, w, 3], sRGB, upright.
    """
    return decode(reader.file_bytes(path), str(path))


# --- out -------------------------------------------------------------------------------------


def write(path: str | Location, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Save a plain picture in the format that the extension names; whole or not at all.

    JPEG has quality 95 and full-size colour.

    Args:
        path: where to; .png, .jpg or .jpeg.
        image: uint8 [h, w, 3], sRGB.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: as `check_writable` does, and where the disk or the format refuses.
        ValueError: for another shape or dtype.
    """
    path = places.place(path)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a photo is uint8 [h, w, 3], got {image.dtype} {list(image.shape)}")
    check_writable(path, overwrite)
    data = io.BytesIO()
    try:
        Image.fromarray(image).save(data, **WRITERS[path.suffix.lower()])
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from error
    save(path, writer.Written(data.getvalue(), ()), new=not overwrite)


def check_writable(path: str | Location, overwrite: bool = False) -> None:
    """Find out before the work is done whether `write` would refuse.

    Args:
        path: the file to write.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: for an unknown extension, a missing or unwritable folder, a folder in the file's
            place, or a file that is there already and may not be replaced.
    """
    files.check_target(path, overwrite, WRITERS)


# --- folders and pairs -----------------------------------------------------------------------


def images_in(folder: str | Location) -> list[Location]:
    """The photos directly in a folder, by name, hidden files left out.

    Args:
        folder: where to look; folders in it are not.

    Returns:
        Paths of the files that have a photo's extension.

    Raises:
        InputError: for a missing folder or one without photos.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that holds photos")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not walk.passed_by(path.name) and path.is_file()
    )
    if not paths:
        raise InputError(f"{folder} holds no photos: expected files named {' '.join(EXTENSIONS)}")
    return paths


def read_pair(low: str | Location, normal: str | Location) -> tuple[Pixels, Pixels]:
    """Both photos of a pair.

    Args:
        low: the dark file.
        normal: its partner.

    Returns:
        Both as `read` gives them.

    Raises:
        InputError: where `read` does, and where the sizes differ.
    """
    pair = read(low), read(normal)
    sizes = [f"{photo.shape[1]}×{photo.shape[0]}" for photo in pair]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{low} is {sizes[0]} but {normal} is {sizes[1]} pixels: a pair has the same size"
        )
    return pair
