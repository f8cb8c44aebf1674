"""Photo files read: bytes of any known format -> a `Photo`, or one line that says why not."""

import os
import warnings
from pathlib import Path

from PIL import Image

from pdn_jax import places
from pdn_jax.errors import InputError
from pdn_jax.photos import colour, exif, kinds, tiff
from pdn_jax.photos.formats import READERS, Fault, most_pixels
from pdn_jax.photos.record import Photo
from pdn_jax.places import Location

SMALLEST = 16
"""Pixels that the shorter side must have: less holds nothing that the network can look at."""


def from_file(path: str | Location) -> Photo:
    """A photo file as it is; see `from_bytes`.

    Args:
        path: the file; its content says what format it is.

    Returns:
        The photo, upright; see `record.Photo`.

    Raises:
        InputError: where there is no file to read, and where `from_bytes` does.
    """
    return from_bytes(file_bytes(path), str(path))


def file_bytes(path: str | Location) -> bytes:
    """All of a file; raises InputError where there is none that can be read."""
    path = places.place(path)
    if places.is_url(path):
        return places.read(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: give a photo file")
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}: give a photo file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def size(path: str | Location) -> tuple[int, int] | None:
    """Height and width of a photo file as its header has them.

    Args:
        path: the file.

    Returns:
        (height, width) in pixels, upright; None where Pillow does not know it.
    """
    try:
        if places.is_url(path) or not Path(path).is_file():  # a pipe is waited for
            return None
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(exif.ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # `from_file` says what is wrong with it
        return None
    return (width, height) if sideways else (height, width)


def from_bytes(data: bytes, name: str) -> Photo:
    """A photo in memory, upright, at its own depth and in its own colours.

    Args:
        data: the file's content, which alone says what format it is.
        name: for messages; its extension is compared with the content.

    Returns:
        The photo; see `record.Photo`.

    Raises:
        InputError: for whatever is not one whole, still picture of at least 16×16 pixels, and where
            a package is missing. It begins with `name`.
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes): copy it again")
    extension = os.path.splitext(name)[1]
    kind = kinds.recognise(data, extension)
    if kind is None:
        what = kinds.described(data)
        raise InputError(f"{name} is {what}: expected one of {' '.join(kinds.EXTENSIONS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            photo = READERS[kind](data, name)
    except InputError:
        raise
    except (Fault, tiff.Refused, colour.Unknown) as error:
        reason = str(error)
        if isinstance(error, colour.Unknown):
            reason = f"is not read: {error}; convert it to sRGB or another usual profile"
        raise InputError(f"{name} {reason}") from error
    except Image.DecompressionBombError as error:
        limit = most_pixels() // 10**6
        raise InputError(f"{name} has too many pixels: scale it below {limit} million") from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory: scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{name} is damaged at its beginning: copy it again") from error
    except Exception as error:  # decoders raise all sorts on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} is damaged or cut short ({reason}): copy it again") from error
    height, width = photo.size
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{name} is {width}×{height} pixels: expected at least {SMALLEST} on each side"
        )
    if extension and kind != kinds.by_extension(extension):
        photo = photo._replace(notes=(*photo.notes, f"its name says {extension}, it is {kind}"))
    return photo
