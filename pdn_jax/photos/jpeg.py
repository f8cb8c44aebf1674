"""The segments of a JPEG: metadata in and out, and what hangs on behind the picture (ITU-T T.81)."""

import re
import struct
from typing import NamedTuple

from pdn_jax.photos import iptc, xmp
from pdn_jax.photos.record import Metadata

SOI, EOI, SOS, COM, APP0 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0
STANDALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a length."""

EXIF, XMP, EXTENDED = (
    b"Exif\0\0",
    b"http://ns.adobe.com/xap/1.0/\0",
    b"http://ns.adobe.com/xmp/extension/\0",
)
PHOTOSHOP, ICC, MPF = b"Photoshop 3.0\0", b"ICC_PROFILE\0", b"MPF\0"
GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
"""How ISO 21496-1 names a gain map."""

REMADE = ((0xE0, b"JFIF\0"), (0xE0, b"JFXX\0"), (0xEE, b"Adobe"), (0xEC, b"Ducky"), (0xE2, ICC))
"""Segments that say how this very file is coded: not copied, not missed."""

MOST = 65533
"""Bytes that a segment holds."""

_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


class Segments(NamedTuple):
    """(marker, content) of each in order, scans without theirs; where the picture ends."""

    segments: list[tuple[int, bytes]]
    end: int


def parse(data: bytes) -> Segments:
    """The segments of the first picture; as many as are sound."""
    parts, place = [], 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == EOI:
            return Segments(parts, place + 2)
        if marker in STANDALONE:
            place += 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        parts.append((marker, data[place + 4 : place + 2 + length]))
        place += 2 + max(length, 2)
        if marker == SOS:
            following = _MARKER.search(data, place)
            if following is None:
                break
            place = following.end() - 2
    if data[place : place + 2] == b"\xff\xd9":
        return Segments(parts, place + 2)
    return Segments(parts, len(data))


def metadata(data: bytes) -> tuple[Metadata, list[str]]:
    """What a JPEG says, and by name what no result of it can have."""
    segments, end = parse(data)
    exif = packet = resources = b""
    comments, lost, promised, resolution = [], [], [], None
    for marker, content in segments:
        if marker == 0xE1 and content.startswith(EXIF):
            exif = exif or content[len(EXIF) :]
        elif marker == 0xE1 and content.startswith(XMP):
            packet = packet or content[len(XMP) :]
        elif marker == 0xE1 and content.startswith(EXTENDED):
            lost.append("extended XMP")
        elif marker == 0xED and content.startswith(PHOTOSHOP):
            resources += content[len(PHOTOSHOP) :]
        elif marker == COM:
            comments.append(content)
        elif marker == 0xE0 and content.startswith(b"JFIF\0"):
            resolution = _density(content) or resolution
        elif marker == 0xE2 and content.startswith(GAIN_MAP):
            promised.append("gain map")
        elif marker == 0xE2 and content.startswith(MPF):
            promised.append(_pictures(content))
        elif marker == 0xEB and b"c2pa" in content[:200]:
            lost.append("content credentials (C2PA), which are for the original")
        elif APP0 <= marker <= 0xEF and not any(
            marker == number and content.startswith(start) for number, start in REMADE
        ):
            lost.append(f"segment APP{marker - APP0}")
    promised += xmp.promises(packet)
    behind = data[end:]
    if b"ftyp" in behind[: 1 << 24]:
        promised.append("motion video")
    elif behind.strip(b"\0\xff") and not any(promised):
        lost.append(f"{len(behind):,} bytes behind the picture")
    if "gain map" in promised:  # which is the further picture of it
        promised = [what for what in promised if what != "1 further picture"]
    said = Metadata(exif, packet, iptc.without_thumbnails(resources), resolution, tuple(comments))
    return said, list(dict.fromkeys([*filter(None, promised), *lost]))


def _density(content: bytes) -> tuple[float, float] | None:
    if len(content) < 12:
        return None
    unit, across, down = struct.unpack_from(">BHH", content, 7)
    if unit not in (1, 2) or not across or not down:
        return None
    scale = 1.0 if unit == 1 else 2.54
    return across * scale, down * scale


def _pictures(content: bytes) -> str:
    """What an MPF segment lists besides the first picture (CIPA DC-007)."""
    order = "<" if content[4:6] == b"II" else ">"
    place = content.find(struct.pack(f"{order}HHI", 0xB001, 4, 1))
    count = (
        struct.unpack_from(f"{order}I", content, place + 8)[0]
        if 0 <= place <= len(content) - 12
        else 2
    )
    return f"{count - 1} further picture{'s' if count > 2 else ''}" if 1 < count < 100 else ""


def segment(marker: int, content: bytes) -> bytes:
    """A segment; raises struct.error for content of more than `MOST` bytes."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def photoshop_segments(resources: bytes) -> bytes:
    """Image resources as segments, as many as they take."""
    room = MOST - len(PHOTOSHOP)
    parts = [resources[i : i + room] for i in range(0, len(resources), room)]
    return b"".join(segment(0xED, PHOTOSHOP + part) for part in parts)
