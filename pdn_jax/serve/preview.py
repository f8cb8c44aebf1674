"""A photograph at screen size with all its stages, as the page takes it to apply the dials itself."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from pdn_jax import photo
from pdn_jax.enhancer import Enhancer
from pdn_jax.photos import presence
from pdn_jax.photos.record import to_dtype

SCREEN = 1280
"""Pixels that the longer side has of what is looked at."""

THUMBNAIL = 160
"""Pixels that a picture in the strip of stages is high."""


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """A picture at screen size: at most `SCREEN` pixels, but no side below what the network takes.

    Args:
        pixels: uint8 [h, w, 3].

    Returns:
        The same or a smaller one.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = min(1.0, max(SCREEN / max(height, width), photo.SMALLEST / min(height, width)))
    if scale == 1.0:
        return pixels
    size = [max(photo.SMALLEST, round(scale * side)) for side in (width, height)]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def packed(facts: Mapping[str, Any], shown: np.ndarray, enhancer: Enhancer) -> bytes:
    """A picture and its stages as the page takes them.

    Args:
        facts: what else is to be said of it.
        shown: uint8 [h, w, 3].
        enhancer: the network.

    Returns:
        Four bytes, the length of what follows, little-endian; that, JSON, with spaces up to a multiple
        of 4; the arrays that it names under `arrays` with type and shape, each to a multiple of 4:
        before, brightened and restored [3, h, w]; path, ln k on the 1/8 grid of the part that
        `region` names (top, left, height, width) [3, rows, columns]; and the strip's pictures [h, w, 3].
    """
    picture = photo.Photo(shown, None, 8, "PNG")
    seen: dict[str, Any] = {}

    def stages(low, there):
        seen["stages"], seen["low"] = enhancer.stages(low), low
        return seen["stages"].restored

    restored = photo.developed(picture, stages).pixels
    brightened, path, region, strip = restored, np.zeros((1, 1, 3), np.float32), [0] * 4, []
    if seen:
        low, made = seen["low"], seen["stages"]
        brightened = photo.developed(picture, lambda *_: made.enhanced[-1]).pixels
        path = enhancer.global_pass(low).increments[0].sum(axis=0)
        region = _region(shown, low)
        strip = _strip(low, made)
    arrays = {
        "before": shown.transpose(2, 0, 1),
        "brightened": brightened.transpose(2, 0, 1),
        "restored": restored.transpose(2, 0, 1),
        "path": np.float32(path).transpose(2, 0, 1),
        **dict(strip),
    }
    described = [
        {"name": label, "shape": list(array.shape), "type": array.dtype.name}
        for label, array in arrays.items()
    ]
    head = json.dumps({**facts, "region": region, "arrays": described}).encode()
    parts = [head, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())]
    parts = [part + b" " * (-len(part) % 4) for part in parts]
    return b"".join([struct.pack("<I", len(parts[0])), *parts])


def _region(shown: np.ndarray, low: np.ndarray) -> list[int]:
    """Where the part that the network saw lies: bars around a picture are not shown to it."""
    if low.shape == shown.shape:
        return [0, 0, *shown.shape[:2]]
    rows, columns = presence.place(photo.Photo(shown, None, 8, "PNG")).inside
    return [int(rows.start), int(columns.start), *low.shape[:2]]


def _strip(low: np.ndarray, stages: Any) -> list[tuple[str, np.ndarray]]:
    levels = len(stages.denoised)
    named = [("dark", low)]
    named += [(f"brighter {index}", image) for index, image in enumerate(stages.enhanced, 1)]
    for level, image in zip(reversed(range(levels)), stages.denoised, strict=True):
        named.append((f"denoised 1/{2**level}" if level else "denoised", image))
    return [(label, _thumbnail(image)) for label, image in named]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8, at most `THUMBNAIL` high."""
    from PIL import Image

    picture = Image.fromarray(to_dtype(image, np.dtype(np.uint8)))
    picture.thumbnail((2 * THUMBNAIL, THUMBNAIL))
    return np.asarray(picture)
