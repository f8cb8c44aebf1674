"""What a photograph is: its stored pixels, what they mean in colours, and what was said about it."""

from typing import NamedTuple

import numpy as np

from pdn_jax.photos.colour import SRGB, Colour


class Metadata(NamedTuple):
    """All that a file says besides its pixels and colours, as bytes wherever it can be.

    exif: a block that begins with a TIFF header. xmp: the packet. photoshop: image resources
    (8BIM), IPTC among them. resolution: dots an inch, across and down. comments: as in a JPEG.
    chunks: a PNG's text, whole chunks.
    """

    exif: bytes = b""
    xmp: bytes = b""
    photoshop: bytes = b""
    resolution: tuple[float, float] | None = None
    comments: tuple[bytes, ...] = ()
    chunks: tuple[bytes, ...] = ()


class Photo(NamedTuple):
    """A photograph as it was in its file, upright.

    pixels: [h, w, 1 or 3], uint8, uint16 or float32 in [0, 1], in the file's own colours. alpha:
    [h, w] of the same dtype, or None. bits: of a channel as the file had it. kind: the format, of
    `kinds.KINDS`. colour: what the numbers mean. lossless: whether its pixels were. notes: what is
    to be said of it. lost: what no result of it will have, by name.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    bits: int
    kind: str
    colour: Colour = SRGB
    metadata: Metadata = Metadata()
    lossless: bool = True
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[:2]


def full_scale(dtype: np.dtype) -> int:
    """White in pixels of this dtype."""
    return 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max


def to_float(array: np.ndarray) -> np.ndarray:
    """Stored pixels as float32 in [0, 1]."""
    return array.astype(np.float32) / np.float32(full_scale(array.dtype))


def to_dtype(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Pixels of any dtype in another, clipped and rounded to the nearest."""
    if array.dtype == dtype:
        return array
    if array.dtype == np.uint16 and dtype == np.uint8:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype == np.uint8 and dtype == np.uint16:
        return array.astype(np.uint16) * np.uint16(257)
    values = to_float(array).clip(0.0, 1.0)
    if not np.issubdtype(dtype, np.floating):
        values = np.rint(values * full_scale(dtype))
    return values.astype(dtype)
