"""Pixels by Pillow, at the depth that the file has.

Pillow keeps the high byte of 16 bits a channel. Decoded once more in the other byte order, it keeps
the low one.
"""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order in a raw mode of Pillow's (little, big, native) -> the other one."""

DEEP = {f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA", "CMYK") for order in SWAPPED}
"""Raw modes of which Pillow keeps the high bytes only."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""Formats that Pillow reads by itself, as it names them."""

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""EXIF orientation -> what turns [h, w, …] upright."""


class Decoded(NamedTuple):
    """pixels: [h, w, 1, 3 or (inks) 4], uint8 or uint16. alpha: [h, w] of the same dtype, or None."""

    pixels: np.ndarray
    alpha: np.ndarray | None


@contextlib.contextmanager
def opened(data: bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A file as Pillow sees it, in one of these formats, without warnings of what is only odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=formats) as image:
            yield image


def raw_mode(image: Image.Image) -> str:
    """How the pixels lie in a PNG, JPEG or TIFF, as Pillow names it; '' if there are none."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else arguments[0]


def decoded(image: Image.Image, data: bytes) -> Decoded:
    """All of what Pillow opened from these bytes; raises whatever the decoder does."""
    deep = image.format in ("PNG", "TIFF") and raw_mode(image) in DEEP
    image.load()
    if deep:
        values = _both_bytes(image, data)
        inks = image.mode == "CMYK"
        return Decoded(values, None) if inks else _split(values, image.info.get("transparency"))
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535).astype(np.uint16)
        return _split(values[..., None], image.info.get("transparency"))
    if image.mode == "CMYK":
        return Decoded(np.asarray(image), None)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return _split(np.asarray(image.convert("LA" if grey else "RGBA")), None)
    values = np.asarray(image.convert("L" if grey else "RGB"))
    return Decoded(values[..., None] if grey else values, None)


def _both_bytes(image: Image.Image, data: bytes) -> np.ndarray:
    with opened(data, (image.format,)) as swapped:
        swapped.tile = [tile._replace(args=_swapped(tile.args)) for tile in swapped.tile]
        high, low = np.asarray(image), np.asarray(swapped)
    return (high.astype(np.uint16) << 8) | low


def _swapped(arguments: str | tuple) -> str | tuple:
    if isinstance(arguments, str):
        return arguments[:-1] + SWAPPED[arguments[-1]]
    return _swapped(arguments[0]), *arguments[1:]


def _split(values: np.ndarray, clear) -> Decoded:
    """Colours and transparency apart; `clear` is a colour that stands for it."""
    channels = values.shape[-1]
    if channels in (2, 4):
        return Decoded(values[..., :-1], values[..., -1])
    if clear is None or isinstance(clear, bytes):
        return Decoded(values, None)
    same = (values == np.asarray(clear, values.dtype)).all(axis=-1)
    return Decoded(values, np.where(same, 0, np.iinfo(values.dtype).max).astype(values.dtype))
