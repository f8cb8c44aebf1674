"""The chunks of a PNG, in and out, and 16 bits a channel, which Pillow does not write (PNG 3rd edition)."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pdn_jax.photos import colour, iptc
from pdn_jax.photos.colour import Colour
from pdn_jax.photos.record import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""

PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
"""What decides on pixels; the text around them may be of any size."""

REMADE = {b"sBIT", b"bKGD", b"hIST", b"sPLT", b"tIME", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"iCCP"}
"""Chunks that are true of the old pixels only, or said anew."""

TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
"""Chunks of text."""
XMP_KEY = b"XML:com.adobe.xmp"
"""The keyword of the text that is XMP."""
RAW_PROFILE = b"Raw profile type "
"""How the keywords of ImageMagick's profiles begin."""
MOST_TEXT = 64 << 20
"""Bytes of one decompressed text that is looked into."""

LEVEL = 4
"""Of zlib: half the time of the default for 2 % more bytes."""


class Chunk(NamedTuple):
    """kind: four letters. content: without length and check sum. whole: with them."""

    kind: bytes
    content: bytes
    whole: bytes


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks in order, as many as are whole, up to the last."""
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        yield Chunk(kind, data[place + 8 : end - 4], data[place:end])
        if kind == b"IEND":
            return
        place = end


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and check sum."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def bare(data: bytes) -> bytes:
    """A PNG with nothing but what its pixels need; a chunk that is cut short stays, to be refused."""
    place, parts = len(SIGNATURE), [SIGNATURE]
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if (
            kind in PIXELS
            or (kind[:1].isupper() and kind.isalpha())
            or place + 12 + length > len(data)
        ):
            parts.append(data[place : place + 12 + length])
        place += 12 + length
    return b"".join(parts)


def metadata(data: bytes) -> tuple[Metadata, list[str]]:
    """What a PNG says, and by name what no result of it can have."""
    exif = xmp = photoshop = b""
    resolution, kept, lost = None, [], []
    for kind, content, whole in chunks(data):
        key = content.split(b"\0", 1)[0]
        if kind == b"eXIf":
            exif = content.removeprefix(b"Exif\0\0")
        elif kind == b"pHYs" and len(content) == 9:
            across, down, unit = struct.unpack(">IIB", content)
            if unit == 1 and across and down:
                resolution = across * 0.0254, down * 0.0254
        elif kind == b"iTXt" and key == XMP_KEY:
            xmp = text(kind, content)
        elif kind in TEXTS and key.startswith(RAW_PROFILE):
            name, profile = key[len(RAW_PROFILE) :].lower(), raw_profile(text(kind, content))
            if name in (b"exif", b"app1") and profile.startswith(b"Exif\0\0"):
                exif = exif or profile[6:]
            elif name == b"xmp":
                xmp = xmp or profile
            elif name in (b"iptc", b"8bim"):
                photoshop = profile if profile.startswith(b"8BIM") else iptc.wrapped(profile)
            elif name not in (b"icc", b"icm"):
                kept.append(whole)
        elif kind in TEXTS:
            kept.append(whole)
        elif kind == b"caBX":
            lost.append("content credentials (C2PA), which are for the original")
        elif kind not in PIXELS | REMADE and kind[0] & 32:
            if kind[3] & 32:  # safe to copy, whatever it is
                kept.append(whole)
            else:
                lost.append(f"chunk {kind.decode('latin1')}")
    photoshop = iptc.without_thumbnails(photoshop)
    return Metadata(exif, xmp, photoshop, resolution, (), tuple(kept)), lost


def text(kind: bytes, content: bytes) -> bytes:
    """The value of a text chunk, decompressed; b'' where it is damaged or beyond `MOST_TEXT`."""
    _, _, rest = content.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    if not packed:
        return rest
    try:
        decoder = zlib.decompressobj()
        value = decoder.decompress(rest, MOST_TEXT)
    except zlib.error:
        return b""
    return b"" if decoder.unconsumed_tail else value


def raw_profile(value: bytes) -> bytes:
    """ImageMagick's way to keep a profile in a text: its name, its length, hexadecimal digits."""
    parts = value.strip().split(b"\n", 2)
    digits = re.sub(rb"\s", b"", parts[2]) if len(parts) == 3 else b""
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""


def profile(content: bytes) -> bytes:
    """The ICC profile in an iCCP chunk; b'' for none, and for one that is damaged."""
    _, separator, rest = content.partition(b"\0")
    return text(b"zTXt", b"\0" + rest) if separator else b""


def stated_colour(data: bytes, channels: int, profile: bytes) -> Colour:
    """The colours by PNG's own order of chunks: cICP, iCCP, sRGB, gAMA with cHRM.

    Raises:
        colour.Unknown: see there.
    """
    stated = {kind: content for kind, content, _ in chunks(data) if kind in REMADE}
    code = stated.get(b"cICP", b"")
    if len(code) == 4:
        return colour.from_codes(code[0], code[1])
    if profile:
        return colour.from_icc(profile, channels)
    gamma, points = stated.get(b"gAMA", b""), stated.get(b"cHRM", b"")
    if b"sRGB" in stated or (len(gamma) != 4 and len(points) != 32):
        return colour.SRGB
    power = struct.unpack(">I", gamma)[0] / 100000 if len(gamma) == 4 else 1 / 2.2
    if not 0.1 < power < 4:
        raise colour.Unknown(f"its gamma of {power:g} is no tone curve")
    if len(points) == 32:
        values = [value / 100000 for value in struct.unpack(">8I", points)]
        return colour.from_gamma(1 / power, tuple(zip(values[::2], values[1::2], strict=True)))
    return colour.from_gamma(1 / power)


# --- written -------------------------------------------------------------------------------------


def text_chunk(key: bytes, value: bytes, packed: bool = False) -> bytes:
    """A text in Latin-1, or in UTF-8 where it is not; XMP as its specification wants it."""
    if packed:
        return chunk(b"zTXt", key + b"\0\0" + zlib.compress(value))
    return chunk(b"iTXt", key + b"\0\0\0\0\0" + value)


def utf8(text: bytes) -> bytes:
    """A comment, which may be in Latin-1, as iTXt wants it, without zeros."""
    text = text.replace(b"\0", b"")
    try:
        return text.decode().encode()
    except UnicodeDecodeError:
        return text.decode("latin1").encode()


def profile_chunk(profile: bytes) -> bytes:
    """An ICC profile as iCCP."""
    return chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))


def resolution_chunk(resolution: tuple[float, float]) -> bytes:
    """Dots an inch as pHYs."""
    across, down = (round(value / 0.0254) for value in resolution)
    return chunk(b"pHYs", struct.pack(">IIB", across, down, 1))


def packed_profile(name: bytes, value: bytes) -> bytes:
    """Bytes as a text, the way that `raw_profile` reads."""
    lines = [value.hex()[i : i + 72] for i in range(0, 2 * len(value), 72)]
    content = b"\n%s\n%8d\n%s\n" % (name, len(value), "\n".join(lines).encode())
    return text_chunk(RAW_PROFILE + name, content, packed=True)


def deep(array: np.ndarray) -> bytes:
    """Chunks IHDR and IDAT of uint16 [h, w, c], c of 1 to 4; every row by the filter that is smallest."""
    height, width, channels = array.shape
    row = width * channels * 2
    raw = np.frombuffer(array.astype(">u2").tobytes(), np.uint8).reshape(height, row)
    packer, packed, above = zlib.compressobj(LEVEL), [], np.zeros((1, row), np.uint8)
    step = max(1, (1 << 22) // row)
    for start in range(0, height, step):
        part = raw[start : start + step]
        packed.append(packer.compress(_filtered(part, above, 2 * channels)))
        above = part[-1:]
    packed.append(packer.flush())
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 16, kind, 0, 0, 0))
    return head + chunk(b"IDAT", b"".join(packed))


def _filtered(rows: np.ndarray, above: np.ndarray, step: int) -> bytes:
    """Rows with the number of their filter: sub, up or Paeth, as the sum of differences says."""
    upper = np.concatenate([above, rows[:-1]]).astype(np.int16)
    left, corner = (
        np.pad(a, ((0, 0), (step, 0)))[:, :-step] for a in (rows.astype(np.int16), upper)
    )
    guess = left + upper - corner
    away = [abs(guess - other) for other in (left, upper, corner)]
    nearest = np.where(away[1] <= away[2], upper, corner)
    paeth = np.where((away[0] <= away[1]) & (away[0] <= away[2]), left, nearest)
    tried = [(rows - other).astype(np.uint8) for other in (left, upper, paeth)]
    costs = [abs(part.astype(np.int8).astype(np.int16)).sum(axis=1) for part in tried]
    chosen = np.argmin(costs, axis=0)
    best = np.choose(chosen[:, None], tried)
    numbers = np.array([1, 2, 4], np.uint8)[chosen]
    return np.concatenate([numbers[:, None], best], axis=1).tobytes()
