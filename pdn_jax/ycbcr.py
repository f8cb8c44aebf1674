"""Y'CbCr planes of a film's frames to RGB and back, in floats, so that no grey is rounded twice.

    Y = kr·R + (1 − kr − kb)·G + kb·B,   Cb = (B − Y)/(2 − 2·kb),   Cr = (R − Y)/(2 − 2·kr)

on encoded values (ITU-R BT.601, BT.709, BT.2020 non-constant luminance). Colour of fewer samples is
enlarged by repeating and made small by averaging, the inverse of that: wherever its samples lie,
there they stay.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from pdn_jax.types import Image

Plane = UInt[Array | np.ndarray, "_ _"]
"""One plane of a frame."""

LUMA = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
"""Code of a matrix (ITU-T H.273) -> kr, kb."""

RGB = 0
"""Code of no matrix: the planes are G, B and R, always of full range."""


class Coding(NamedTuple):
    """How numbers stand for colours.

    matrix: a code of `LUMA`, or `RGB`. full: whether they use all of 0 … 2^bits − 1; else Y goes
    from 16 to 235 and the colours from 16 to 240, times 2^(bits − 8). across, down: pixels that
    share a sample of colour.
    """

    matrix: int
    full: bool
    bits: int
    across: int = 1
    down: int = 1


def to_rgb(planes: tuple[Plane, ...], coding: Coding) -> Float[Array, "rows columns 3"]:
    """Planes of a frame -> its encoded RGB, float32, what lies outside of [0, 1] clipped.

    Args:
        planes: Y, Cb, Cr; Y alone for grey; or G, B, R.
        coding: what their numbers mean.

    Returns:
        [h, w, 3] in the film's own primaries and tone curve.
    """
    floats = [plane.astype(jnp.float32) for plane in planes]
    if coding.matrix == RGB:
        green, blue, red = (plane / (2**coding.bits - 1) for plane in floats)
        return jnp.stack([red, green, blue], axis=-1)
    black, white, centre, reach = _levels(coding)
    y = (floats[0] - black) / (white - black)
    if len(floats) == 1:
        return jnp.clip(jnp.stack([y, y, y], axis=-1), 0.0, 1.0)
    height, width = y.shape
    cb, cr = (
        jnp.repeat(jnp.repeat((c - centre) / reach, coding.down, 0), coding.across, 1)
        for c in floats[1:]
    )
    cb, cr = cb[:height, :width], cr[:height, :width]
    kr, kb = LUMA[coding.matrix]
    red, blue = y + (2.0 - 2.0 * kr) * cr, y + (2.0 - 2.0 * kb) * cb
    green = (y - kr * red - kb * blue) / (1.0 - kr - kb)
    return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0.0, 1.0)


def from_rgb(rgb: Image, coding: Coding, grey: bool = False) -> tuple[Plane, Plane, Plane]:
    """Encoded RGB -> Y, Cb, Cr as `coding` has them, clipped and rounded to the nearest.

    Args:
        rgb: [h, w, 3]; what lies outside of [0, 1] is clipped.
        coding: of the planes; its matrix is one of `LUMA`.
        grey: whether the colours are to be none.

    Returns:
        Three planes, uint8 up to 8 bits and uint16 beyond.
    """
    rgb = jnp.clip(rgb, 0.0, 1.0)
    kr, kb = LUMA[coding.matrix]
    black, white, centre, reach = _levels(coding)
    y = rgb @ jnp.array([kr, 1.0 - kr - kb, kb])
    colours = (rgb[..., 2] - y) / (2.0 - 2.0 * kb), (rgb[..., 0] - y) / (2.0 - 2.0 * kr)
    values = [black + (white - black) * y]
    values += [centre + (0.0 if grey else reach) * _shrink(colour, coding) for colour in colours]
    kind = jnp.uint8 if coding.bits <= 8 else jnp.uint16
    return tuple(jnp.clip(jnp.rint(v), 0, 2**coding.bits - 1).astype(kind) for v in values)


def _levels(coding: Coding) -> tuple[float, float, float, float]:
    """Black, white, colourless, and the reach of the colours."""
    if coding.full:
        return 0.0, 2.0**coding.bits - 1, 2.0 ** (coding.bits - 1), 2.0**coding.bits - 1
    unit = 2.0 ** (coding.bits - 8)
    return 16 * unit, 235 * unit, 128 * unit, 224 * unit


def _shrink(plane: Float[Array, "rows columns"], coding: Coding) -> Float[Array, "_ _"]:
    """Mean of the pixels that share a sample; edges are continued where a side does not divide."""
    height, width = plane.shape
    down, across = coding.down, coding.across
    plane = jnp.pad(plane, ((0, -height % down), (0, -width % across)), mode="edge")
    return plane.reshape(-1, down, plane.shape[1] // across, across).mean((1, 3))
