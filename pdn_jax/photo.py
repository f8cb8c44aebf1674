"""Photo files in and out: paths, folders and pairs; `codec` turns the bytes into pixels.

A photo here is uint8 [h, w, 3], sRGB, upright. Every fault of a file or a path is an
`InputError` that names it. With `weights` this is the only module that touches files.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from pdn_jax.codec import EXTENSIONS as EXTENSIONS
from pdn_jax.codec import SMALLEST as SMALLEST
from pdn_jax.codec import Photo as Photo
from pdn_jax.codec import decode as decode
from pdn_jax.codec import is_plain as is_plain
from pdn_jax.errors import InputError

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and its values that exchange width and height."""

Pair = tuple[Path, Path]

WRITERS = {
    ".png": {"format": "PNG", "compress_level": 4},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
"""Extension -> how Pillow is to save."""


# --- in --------------------------------------------------------------------------------------


def read(path: str | Path) -> Photo:
    """A photo file -> uint8 [h, w, 3], sRGB, upright; see `decode`.

    Raises InputError where there is no file to read and where `decode` does.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: give a photo file")
        if not path.is_file():
            raise InputError(f"{path} does not exist: give a photo file")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return decode(data, str(path))


def size(path: str | Path) -> tuple[int, int] | None:
    """Height and width of a photo file as its header has them, upright; None where it has none."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
    except Exception:  # `read` says what is wrong with it
        return None
    return (width, height) if turned else (height, width)


# --- out -------------------------------------------------------------------------------------


def write(path: str | Path, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Save uint8 [h, w, 3] in the format that the extension names; whole or not at all.

    JPEG has quality 95 and full-size colour. Raises InputError as `check_writable` does, or
    where the disk or the format refuses, and ValueError for another shape or dtype.
    """
    path = Path(path)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a photo is uint8 [h, w, 3], got {image.dtype} {list(image.shape)}")
    check_writable(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(image).save(temporary, **WRITERS[path.suffix.lower()])
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path, overwrite: bool = False) -> None:
    """Find out before the work is done whether `write` would refuse.

    Raises InputError for an unknown extension, a missing or unwritable folder, a folder in the
    file's place, or a file that is there already, unless it may be overwritten.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file name")
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"cannot write {path}: its extension must be one of {' '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}, create it")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: the folder {path.parent} is not writable")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name or allow it (--overwrite)")


# --- folders and pairs -----------------------------------------------------------------------


def images_in(folder: str | Path) -> list[Path]:
    """The photos directly in a folder, by name, hidden files left out.

    Raises InputError for a missing folder or one without photos.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that holds photos")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise InputError(f"{folder} holds no photos: expected files named {' '.join(EXTENSIONS)}")
    return paths


def pairs_in(low: str | Path, normal: str | Path) -> list[Pair]:
    """Photos of two folders matched by name, extension and case aside: [(low, normal), …].

    Raises InputError for a photo without a partner, or two of the same name in a folder.
    """
    lows, normals = _by_stem(low), _by_stem(normal)
    for here, there, folder in ((lows, normals, normal), (normals, lows, low)):
        for stem in sorted(here.keys() - there.keys()):
            raise InputError(f"{here[stem]} has no partner of that name in {folder}")
    return [(lows[stem], normals[stem]) for stem in lows]


def _by_stem(folder: str | Path) -> dict[str, Path]:
    paths = {}
    for path in images_in(folder):
        other = paths.setdefault(path.stem.casefold(), path)
        if other != path:
            raise InputError(f"{other} and {path} have the same name: keep one of them")
    return paths


def read_pair(low: str | Path, normal: str | Path) -> tuple[Photo, Photo]:
    """Both photos of a pair; raises InputError where `read` does or where the sizes differ."""
    pair = read(low), read(normal)
    sizes = [f"{photo.shape[1]}×{photo.shape[0]}" for photo in pair]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{low} is {sizes[0]} but {normal} is {sizes[1]} pixels: a pair has the same size"
        )
    return pair
