"""What a file's numbers mean in colours, and how the network gets to see them.

The network knows sRGB's tone curve. A photograph in another space keeps its primaries: only its tone
curve is exchanged for sRGB's on the way in and back on the way out, exactly. So no colour is clipped,
and saturated ones come back; the network sees them a little paler than they are.
"""

import functools
import struct
from typing import NamedTuple

import numpy as np

from pdn_jax.photos import icc
from pdn_jax.photos.icc import GRID, STEPS

NEARLY = 0.002
"""A tone curve that is nowhere further from sRGB's than this, encoded, is taken for it."""


TILT = 0.002
"""Share of a straight line in every tone curve, so that none is flat at black and all can be undone."""


class Colour(NamedTuple):
    """A colour space as a file states it.

    name: for messages. profile: the ICC profile that results are given, b'' for plain sRGB. own: whether
    the file had that profile itself.
    """

    name: str
    profile: bytes = b""
    own: bool = False


SRGB = Colour("sRGB")
"""What a photograph is taken for that says nothing."""


class Unknown(ValueError):
    """A statement about colours that is not honoured; the message names it."""


def encoded(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: linear light to sRGB."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def linear(values: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: sRGB to linear light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


class Unusable(Unknown):
    """A profile that is damaged or belongs to other pixels: the photograph is taken for sRGB."""


# --- what files say ------------------------------------------------------------------------------

WHITE = (0.3127, 0.3290)
"""D65 in x, y."""
BT709 = (WHITE, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
"""White, red, green and blue in x, y, of BT.709 and sRGB."""
ADOBE = (WHITE, (0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
"""White, red, green and blue in x, y, of Adobe RGB."""

PRIMARIES = {
    1: ("BT.709", BT709),
    2: ("BT.709", BT709),
    5: ("BT.601-625", (WHITE, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060))),
    6: ("BT.601-525", (WHITE, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    9: ("BT.2020", (WHITE, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    11: ("DCI-P3", ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
    12: ("Display P3", (WHITE, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
"""ColourPrimaries of ITU-T H.273 -> name, (x, y) of white, red, green, blue."""


def _camera(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


TRANSFERS = {
    **dict.fromkeys((2, 13), linear),
    **dict.fromkeys((1, 6, 14, 15), _camera),
    4: lambda values: values**2.2,
    5: lambda values: values**2.8,
    8: lambda values: values,
}
"""TransferCharacteristics of ITU-T H.273 -> encoded to linear light."""

HDR = {16: "PQ", 18: "HLG"}
"""Code of a tone curve that is refused -> its name."""


def from_icc(data: bytes, channels: int) -> Colour:
    """The space of an embedded profile, for pixels of 1 or 3 channels.

    Raises:
        Unusable: for one that is damaged or does not fit the pixels.
        Unknown: for HDR.
    """
    space = icc.space(data)
    if not space:
        raise Unusable("the colour profile is damaged")
    if icc.transfer(data) in HDR:
        raise Unknown(f"the colour profile is of {HDR[icc.transfer(data)]} (HDR)")
    if space == "GRAY" and channels == 3:
        raise Unusable("the colour profile is for grey, the photograph is in colours")
    if space not in icc.CURVE_TAGS:
        raise Unusable(f"the colour profile is for {space}, the photograph is not")
    try:
        curves = icc.linear_curves(data)
    except Exception as error:  # LittleCMS and damaged tables raise all sorts
        raise Unusable("the colour profile is damaged") from error
    if curves is None or not (np.diff(curves) >= 0).all() or (curves[:, -1] < 0.5).any():
        raise Unusable("the colour profile is damaged")
    return Colour(icc.name(data), data, own=True)


def from_codes(primaries: int, transfer: int) -> Colour:
    """The space that code points of ITU-T H.273 name (PNG's cICP, nclx of HEIF and AVIF).

    Raises:
        Unknown: for HDR curves and rarities.
    """
    if transfer in HDR:
        raise Unknown(f"its colours are {HDR[transfer]} (HDR)")
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        raise Unknown(f"its colours are of a rare kind (primaries {primaries}, curve {transfer})")
    if primaries in (1, 2) and transfer in (2, 13):
        return SRGB
    name, points = PRIMARIES[primaries]
    return _stated(name, points, tuple(TRANSFERS[transfer](GRID)))


def from_gamma(gamma: float, points=BT709, name: str = "stated in the file") -> Colour:
    """The space of one power and the (x, y) of white, red, green, blue; near sRGB, sRGB itself."""
    near = np.allclose(points, BT709, atol=0.003)
    if near and 2.1 < gamma < 2.3:
        return SRGB
    # A power next to sRGB's is how files state sRGB's own curve.
    power = gamma if name == ADOBE_NAME or not 2.1 < gamma < 2.3 else tuple(linear(GRID))
    return _stated(name, points, power)


ADOBE_NAME = "compatible with Adobe RGB (1998)"
"""What a profile of Adobe RGB may be called by others."""


@functools.lru_cache(maxsize=1)
def adobe_rgb() -> Colour:
    """Adobe RGB (1998): gamma 2 + 51/256."""
    return from_gamma(2 + 51 / 256, ADOBE, ADOBE_NAME)


def from_table(points, curves: np.ndarray) -> Colour:
    """A space with its own tables to linear light, [3, n] in [0, 1] (TIFF's TransferFunction)."""
    places = np.linspace(0, 1, curves.shape[1])
    full = np.stack([np.interp(GRID, places, curve) for curve in curves])
    return Colour("stated in the file", icc.profile("stated in the file", points, full))


@functools.lru_cache(maxsize=4)
def _stated(name: str, points, curve) -> Colour:
    try:
        tables = curve if isinstance(curve, float) else np.stack([np.array(curve)] * 3)
        return Colour(name, icc.profile(name, points, tables))
    except (np.linalg.LinAlgError, struct.error, ZeroDivisionError) as error:
        raise Unknown("its primaries are no colours") from error


# --- to the network and back ---------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _tables(profile: bytes, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Tables there and, over the square root, back, float32 [channels, STEPS]; None where nothing changes."""
    light = icc.linear_curves(profile) if profile else None
    if light is None:
        return None
    there = encoded(light)
    if len(there) != channels:
        there = np.repeat(there.mean(axis=0, keepdims=True), channels, axis=0)
    if abs(there - GRID).max() < NEARLY:
        return None
    there = (1 - TILT) * there + TILT * GRID
    back = np.stack([np.interp(GRID**2, curve, GRID) for curve in there])
    return there.astype(np.float32), back.astype(np.float32)


def is_srgb(space: Colour) -> bool:
    """Whether colours of this space have sRGB's tone curve, so that nothing needs to be exchanged."""
    return _tables(space.profile, 3) is None


def to_network(values: np.ndarray, colour: Colour) -> np.ndarray:
    """Pixels of a file in [0, 1] -> the same in sRGB's tone curve: float32 [h, w, c]."""
    return _through(values, _tables(colour.profile, values.shape[-1]), 0)


def from_network(values: np.ndarray, colour: Colour) -> np.ndarray:
    """The inverse of `to_network`."""
    return _through(values, _tables(colour.profile, values.shape[-1]), 1)


def _through(values: np.ndarray, tables, way: int) -> np.ndarray:
    if tables is None:
        return values
    result = np.empty_like(values)
    for channel, table in enumerate(tables[way]):
        # Between two entries in a straight line: float pixels are not rounded.
        part = values[..., channel].clip(0.0, 1.0)
        # The way back is steep at black: its table is close there.
        place = (np.sqrt(part) if way else part) * np.float32(STEPS - 1)
        below = np.minimum(place.astype(np.int32), STEPS - 2)
        part = place - below
        result[..., channel] = table[below] * (1 - part) + table[below + 1] * part
    return result
