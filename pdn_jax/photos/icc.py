"""ICC profiles, as far as tone curves need them read and plain colour spaces written (ICC.1:2022)."""

import functools
import io
import struct

import numpy as np
from PIL import Image, ImageCms

STEPS = 65536
"""Entries of a tone curve's table: every value of 16 bits."""

GRID = np.linspace(0.0, 1.0, STEPS)
"""Where tone curves are sampled."""

CURVE_TAGS = {"RGB": (b"rTRC", b"gTRC", b"bTRC"), "GRAY": (b"kTRC",)}
"""Colour space -> where its tone curves are."""

D50 = (0.9642, 1.0, 0.8249)
"""The white of the profile connection space, XYZ."""

BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
"""XYZ to cone responses, by which white points are adapted (ICC.1, annex E)."""


def space(data: bytes) -> str:
    """The colour space of a profile, as RGB, GRAY or CMYK; '' for what is no profile."""
    if len(data) < 132 or data[36:40] != b"acsp":
        return ""
    return data[16:20].decode("latin1").strip()


def tags(data: bytes) -> dict[bytes, bytes]:
    """A profile's tags; those that lie outside are left out."""
    content = {}
    for index in range(min(struct.unpack_from(">I", data, 128)[0], 200)):
        head = 132 + 12 * index
        if head + 12 > len(data):
            break
        name, start, length = struct.unpack_from(">4sII", data, head)
        if start + length <= len(data):
            content[name] = data[start : start + length]
    return content


def transfer(data: bytes) -> int:
    """The transfer characteristics that a `cicp` tag names (ITU-T H.273), 2 where there is none."""
    tag = tags(data).get(b"cicp", b"")
    return tag[9] if len(tag) >= 12 else 2


def name(data: bytes) -> str:
    """What a profile calls itself, for messages."""
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "a colour profile"


@functools.lru_cache(maxsize=16)
def linear_curves(data: bytes) -> np.ndarray | None:
    """Encoded values to linear light by a profile's tone curves: [channels, STEPS], or None.

    A profile that has tables in place of curves gets one power, which fits what LittleCMS makes of
    its greys: only brightness need be judged alike, the way back is the exact inverse.
    """
    content = tags(data)
    wanted = CURVE_TAGS.get(space(data), ())
    if wanted and all(tag in content for tag in wanted):
        return np.stack([_curve(content[tag]) for tag in wanted])
    return np.stack([GRID ** _fitted_gamma(data)] * 3) if space(data) == "RGB" else None


def _curve(tag: bytes) -> np.ndarray:
    """`curv` or `para` as a table; raises ValueError or struct.error where it is damaged."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return GRID
        values = np.frombuffer(tag, ">u2", count, 12)
        if count == 1:
            return GRID ** (values[0] / 256)
        return np.interp(GRID, np.linspace(0, 1, count), values / 65535)
    if tag[:4] != b"para":
        raise ValueError(f"a tone curve of type {tag[:4]!r}")
    (form,) = struct.unpack_from(">H", tag, 8)
    counts = (1, 3, 4, 5, 7)
    if form >= len(counts):
        raise ValueError(f"a parametric curve of form {form}")
    g, a, b, c, d, e, f = [
        *(value / 65536 for value in struct.unpack_from(f">{counts[form]}i", tag, 12)),
        *[None] * (7 - counts[form]),
    ]
    if form == 0:
        return GRID**g
    power = np.maximum(a * GRID + b, 0.0) ** g
    if form == 1:
        values = np.where(-b / a <= GRID, power, 0.0)
    elif form == 2:
        values = np.where(-b / a <= GRID, power + c, c)
    elif form == 3:
        values = np.where(d <= GRID, power, c * GRID)
    else:
        values = np.where(d <= GRID, power + e, c * GRID + f)
    return values.clip(0.0, 1.0)


def _fitted_gamma(data: bytes) -> float:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    steps = np.arange(40, 250, 10, dtype=np.uint8)
    seen = transform.apply(Image.fromarray(np.repeat(steps[None, :, None], 3, 2)))
    bright = np.asarray(seen).mean(axis=(0, 2)).clip(1, 254) / 255
    light = np.where(bright <= 0.04045, bright / 12.92, ((bright + 0.055) / 1.055) ** 2.4)
    return float(np.median(np.log(light) / np.log(steps / 255)).clip(0.5, 4.0))


# --- written -----------------------------------------------------------------------------------


def _number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _text(text: str) -> bytes:
    raw = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(raw), 28) + raw


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_number, values))


def _power(power: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(power * 256))


def _table(curve: np.ndarray) -> bytes:
    values = np.rint(65535 * np.interp(np.linspace(0, 1, 4096), GRID, curve))
    return b"curv\0\0\0\0" + struct.pack(">I", 4096) + values.astype(">u2").tobytes()


def _from_xy(xy) -> np.ndarray:
    return np.array([xy[0] / xy[1], 1.0, (1 - xy[0] - xy[1]) / xy[1]])


def profile(description: str, chromaticities, curve: float | np.ndarray) -> bytes:
    """A display profile from what other formats say of colours.

    Args:
        description: what it is to be called.
        chromaticities: (x, y) of white, red, green and blue.
        curve: encoded to linear light, a power or tables [3, STEPS].
    """
    white, *primaries = (_from_xy(xy) for xy in chromaticities)
    columns = np.stack(primaries, 1)
    columns = columns * np.linalg.solve(columns, white)
    cones = np.diag(BRADFORD @ D50 / (BRADFORD @ white))
    adapt = np.linalg.inv(BRADFORD) @ cones @ BRADFORD
    columns = adapt @ columns
    content = {
        b"desc": _text(description),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(D50),
        b"chad": b"sf32\0\0\0\0" + b"".join(map(_number, adapt.ravel())),
    }
    for index, (letter, column) in enumerate(zip(b"rgb", columns.T, strict=True)):
        content[bytes([letter]) + b"XYZ"] = _xyz(column)
        power = isinstance(curve, float)
        content[bytes([letter]) + b"TRC"] = _power(curve) if power else _table(curve[index])
    head, body, places = b"", b"", {}
    start = 132 + 12 * len(content)
    for tag, value in content.items():
        value += b"\0" * (-len(value) % 4)
        if value not in places:
            places[value] = start + len(body)
            body += value
        head += struct.pack(">4sII", tag, places[value], len(content[tag]))
    whole = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    whole += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    whole += b"".join(map(_number, D50))
    whole = whole.ljust(128, b"\0") + struct.pack(">I", len(content)) + head + body
    return struct.pack(">I", len(whole)) + whole[4:]
