"""What one photo file is: its size, brightness and hashes; and whether two show the same scene."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PILImage

from pdn_jax import photo
from pdn_jax.types import InputError
from train.data.prepare.listing import Record

FLAT = 1.0
"""Levels of 255 by which a photograph of 32×32 must vary for its perceptual hash to say anything."""


class Facts(NamedTuple):
    """What is known of one photo file. `content` hashes the pixels, `look` what they look like.

    `look` is '' for a flat one, which looks like every other.
    """

    file: str
    width: int
    height: int
    mean: float
    clipped: float
    data: str
    content: str
    look: str


class Surveyed(NamedTuple):
    """A record with its facts, darkest frame first and the target last.

    `edges` is a pair's `edge_agreement`, `bright` how many frames of a bracket are not used.
    """

    record: Record
    frames: tuple[Facts, ...]
    edges: float | None = None
    bright: int = 0


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
    small = thumbnail(image, 256)
    flat = np.std(small.convert("L").resize((32, 32), PILImage.Resampling.BOX)) < FLAT
    known = Facts(
        file=path.relative_to(source).as_posix(),
        width=width,
        height=height,
        mean=float(image.mean()),
        clipped=float((image.max(axis=2) == 255).mean() + (image.max(axis=2) == 0).mean()),
        data=hashlib.sha256(data).hexdigest(),
        content=hashlib.sha256(f"{width}x{height}".encode() + image.tobytes()).hexdigest(),
        look="" if flat else str(imagehash.phash(small)),
    )
    return known, image


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
