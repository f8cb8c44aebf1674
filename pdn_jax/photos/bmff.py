"""What an AVIF, HEIC or JPEG XL says of its picture outside of the pixels (ISO/IEC 23008-12)."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Said(NamedTuple):
    """Of the main picture: EXIF and XMP; (primaries, curve) or None; bits; names of further pictures."""

    exif: bytes = b""
    xmp: bytes = b""
    codes: tuple[int, int] | None = None
    bits: int = 8
    further: tuple[str, ...] = ()


FURTHER = (
    (b"hdrgainmap", "gain map"),
    (b"tmap", "gain map"),
    (b"aux:depth", "depth map"),
    (b"disparity", "depth map"),
    (b"matte", "mattes"),
)
"""What an item's type or an auxiliary type has in it -> what it is."""


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        size = size or end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def jxl_xmp(data: bytes, unpack: Callable[[bytes], bytes]) -> tuple[bytes, tuple[str, ...]]:
    """The XMP packet of a JPEG XL (ISO/IEC 18181-2), b'' where there is none, and what is not read.

    Args:
        data: the whole file.
        unpack: Brotli's decoder.
    """
    packet, lost = b"", ()
    for kind, start, end in _boxes(data, 0, len(data)):
        content = data[start:end]
        if kind == b"brob":
            kind, content = content[:4], content[4:]
            content = unpack(content) if kind == b"xml " else content
        if kind == b"xml ":
            packet = packet or content
        elif kind == b"jhgm":
            lost = ("gain map",)
    return packet, lost


def said(data: bytes) -> Said:
    """Everything at once; what is damaged counts as not said."""
    try:
        return _said(data)
    except (struct.error, IndexError, KeyError):
        return Said()


def _said(data: bytes) -> Said:
    meta = next((box for box in _boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    if meta is None:
        return Said()
    parts = {kind: (start, end) for kind, start, end in _boxes(data, meta[1] + 4, meta[2])}
    start, _ = parts[b"pitm"]
    main = struct.unpack_from(">H" if data[start] == 0 else ">I", data, start + 4)[0]
    items, places = _items(data, *parts[b"iinf"]), _places(data, *parts[b"iloc"], parts)
    exif = xmp = b""
    for number, (kind, rest) in items.items():
        content = places.get(number, b"")
        if kind == b"Exif" and len(content) > 4:
            skip = struct.unpack(">I", content[:4])[0]
            exif = exif or content[4 + skip :].removeprefix(b"Exif\0\0")
        elif kind == b"mime" and b"rdf+xml" in rest:
            xmp = xmp or content
    codes, bits, further = None, 8, []
    properties, used = _properties(data, *parts[b"iprp"], main)
    for index, (kind, begin, end) in enumerate(properties, 1):
        content = data[begin:end]
        if kind == b"colr" and content[:4] == b"nclx" and index in used:
            codes = struct.unpack_from(">HH", content, 4)
        elif kind == b"pixi" and index in used and len(content) > 5:
            bits = max(content[5:])
        elif kind == b"av1C" and index in used:
            deep = content[2] & 0x60
            bits = max(bits, {0x40: 10, 0x60: 12}.get(deep, 8))
        elif kind == b"auxC":
            further += [what for part, what in FURTHER if part in content.lower()]
    further += ["gain map" for kind, _ in items.values() if kind == b"tmap"]
    return Said(exif, xmp, codes, bits, tuple(dict.fromkeys(further)))


def _items(data: bytes, start: int, end: int) -> dict[int, tuple[bytes, bytes]]:
    """Number -> (type, all that follows in its entry)."""
    entries = {}
    begin = start + (6 if data[start] == 0 else 8)
    for kind, at, stop in _boxes(data, begin, end):
        if kind == b"infe" and data[at] >= 2:
            wide = data[at] > 2
            number = struct.unpack_from(">I" if wide else ">H", data, at + 4)[0]
            rest = at + (10 if wide else 8)
            entries[number] = data[rest : rest + 4], data[rest + 4 : stop]
    return entries


def _places(data: bytes, start: int, end: int, parts: dict) -> dict[int, bytes]:
    """Number of an item -> its bytes, of small ones only."""
    version, sizes = data[start], struct.unpack_from(">H", data, start + 4)[0]
    widths = [sizes >> shift & 15 for shift in (12, 8, 4, 0)]
    place = start + 6

    def number(width: int) -> int:
        nonlocal place
        place += width
        return int.from_bytes(data[place - width : place], "big")

    contents = {}
    for _ in range(min(number(4 if version == 2 else 2), 4096)):
        item = number(4 if version == 2 else 2)
        way = number(2) & 15 if version else 0
        number(2)
        base, content = number(widths[2]), b""
        for _ in range(min(number(2), 256)):
            if version and widths[3]:
                number(widths[3])
            offset, length = number(widths[0]), number(widths[1])
            begin = base + offset + (parts[b"idat"][0] if way == 1 and b"idat" in parts else 0)
            if place > end or length > 1 << 24:
                break
            content += data[begin : begin + length]
        contents[item] = content
    return contents


def _properties(data: bytes, start: int, end: int, main: int):
    """All properties in order, and the numbers of those that the main picture has."""
    inner = {kind: (at, stop) for kind, at, stop in _boxes(data, start, end)}
    place, stop = inner[b"ipma"]
    version, flags = data[place], data[place + 3]
    (count,) = struct.unpack_from(">I", data, place + 4)
    place += 8
    used = set()
    for _ in range(min(count, 4096)):
        item = struct.unpack_from(">I" if version else ">H", data, place)[0]
        place += 4 if version else 2
        links = data[place]
        place += 1
        for _ in range(links):
            wide = flags & 1
            link = struct.unpack_from(">H", data, place)[0] & 0x7FFF if wide else data[place] & 0x7F
            place += 2 if wide else 1
            used |= {link} if item == main else set()
        if place > stop:
            break
    return list(_boxes(data, *inner[b"ipco"])), used
