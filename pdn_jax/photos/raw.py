"""A camera's raw files, by LibRaw: linear light, nothing brightened by itself."""

import io
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from pdn_jax.photos import exif, kinds
from pdn_jax.photos.colour import encoded

NOISE_PROFILE = 51041
"""DNG 1.3: pairs (S, O) with variance S·e + O of linear light e in [0, 1], one or one per plane."""


class Noise(NamedTuple):
    """σs and σr of `degradation.shot_read_noise`, the planes' mean."""

    shot: float
    read: float


def decoded(data: bytes, name: str, most: int) -> np.ndarray:
    """sRGB of 16 bits, [h, w, 3], upright, from linear light with the camera's white balance.

    LibRaw scales a frame by its brightest sample unless it is told not to, so that the same light
    would give other numbers in the next one.
    """
    rawpy = kinds.require("rawpy", name)
    try:
        light = _light(rawpy, data, most)
    except rawpy.LibRawError as error:
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(said) from error
    table = np.rint(65535 * encoded(np.linspace(0.0, 1.0, 65536))).astype(np.uint16)
    return table[light]


def _light(rawpy, data: bytes, most: int) -> np.ndarray:
    with rawpy.imread(io.BytesIO(data)) as raw:
        if raw.sizes.width * raw.sizes.height > most:
            raise Image.DecompressionBombError
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            gamma=(1, 1),
            output_bps=16,
            output_color=rawpy.ColorSpace.sRGB,
        )


def noise_profile(data: bytes) -> Noise | None:
    """What a DNG says of its noise, or None."""
    try:
        block = exif.Block(data)
        entry = block.directory(block.first).get(NOISE_PROFILE)
    except exif.Damaged:
        return None
    if entry is None or entry.kind != 12 or entry.count % 2 or not entry.count:
        return None
    values = struct.unpack(f"{block.order}{entry.count}d", block.content(entry))
    pairs = np.array(values).reshape(-1, 2)
    if not np.isfinite(pairs).all() or (pairs < 0).any():
        return None
    return Noise(*map(float, pairs.mean(axis=0)))
