"""EXIF blocks, read and patched in place, so that all else keeps its bytes and its offsets.

A block is what a JPEG has behind `Exif\\0\\0`: a TIFF header with directories (Exif 2.32, TIFF 6.0).
Whatever is added goes to the end; nothing is moved.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

ORIENTATION, SOFTWARE, NEXT_TO_NOTHING = 0x0112, 0x0131, 0
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
COLOUR_SPACE, MAKER_NOTE, INTEROP_INDEX = 0xA001, 0x927C, 0x0001
WIDTHS, HEIGHTS = {0x0100, 0xA002}, {0x0101, 0xA003}
THUMBNAIL, THUMBNAIL_LENGTH, STRIPS, STRIP_LENGTHS = 0x0201, 0x0202, 0x0111, 0x0117
RATIONAL, SHORT, LONG, ASCII, UNDEFINED = 5, 3, 4, 2, 7

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
"""Type of a value -> its bytes."""

MOST = 4096
"""Entries of a directory beyond which it is taken for damaged."""

NAME = "pdn_jax"
"""What is added to the tag `Software`."""


class Damaged(ValueError):
    """A block that cannot be followed."""


class Entry(NamedTuple):
    """A tag's value: `place` is where its bytes are, `head` where its 12 bytes of directory are."""

    tag: int
    kind: int
    count: int
    place: int
    head: int

    @property
    def length(self) -> int:
        """Bytes of the value."""
        return SIZES[self.kind] * self.count


class Block:
    """A view of a block or of a whole TIFF; `data` may be patched through the methods."""

    def __init__(self, data: bytes):
        """Args: data: from the TIFF header on. Raises Damaged where there is none."""
        self.data = bytearray(data)
        if data[:4] not in (b"II*\0", b"MM\0*"):
            raise Damaged("it has no TIFF header")
        self.order = "<" if data[:2] == b"II" else ">"
        self.first = self.unpack("I", 4)

    def unpack(self, form: str, place: int) -> int:
        """One number; raises Damaged where it lies outside."""
        try:
            return struct.unpack_from(self.order + form, self.data, place)[0]
        except struct.error as error:
            raise Damaged("it points outside of itself") from error

    def pack(self, form: str, place: int, value: int) -> None:
        """Put one number in place."""
        struct.pack_into(self.order + form, self.data, place, value)

    def directory(self, offset: int) -> dict[int, Entry]:
        """The entries of a directory by tag; raises Damaged. Entries that point outside are left out."""
        count = self.unpack("H", offset)
        if not 0 < count <= MOST:
            raise Damaged("a directory has no sound number of entries")
        entries = {}
        for head in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = self.unpack("H", head), self.unpack("H", head + 2)
            number = self.unpack("I", head + 4)
            if kind not in SIZES:
                continue
            inside = SIZES[kind] * number <= 4
            place = head + 8 if inside else self.unpack("I", head + 8)
            if place + SIZES[kind] * number <= len(self.data):
                entries.setdefault(tag, Entry(tag, kind, number, place, head))
        return entries

    def next_pointer(self, offset: int) -> int:
        """Where a directory says which is the next."""
        return offset + 2 + 12 * self.unpack("H", offset)

    def numbers(self, entry: Entry | None, most: int = 1 << 16) -> list[int]:
        """Whole numbers of a value; [] for none or for another type."""
        forms = {1: "B", 3: "H", 4: "I", 13: "I"}
        if entry is None or entry.kind not in forms or entry.count > most:
            return []
        form = f"{self.order}{entry.count}{forms[entry.kind]}"
        return list(struct.unpack_from(form, self.data, entry.place))

    def content(self, entry: Entry | None) -> bytes:
        """A value's bytes; b'' for none."""
        return bytes(self.data[entry.place : entry.place + entry.length]) if entry else b""

    def below(self, tag: int, directory: dict[int, Entry]) -> dict[int, Entry]:
        """The directory that a tag points to, {} where there is none or it is damaged."""
        offsets = self.numbers(directory.get(tag))
        try:
            return self.directory(offsets[0]) if offsets else {}
        except Damaged:
            return {}


def directories(data: bytes) -> tuple[Block, dict[int, Entry], dict[int, Entry]]:
    """A block, its main directory and its Exif directory; raises Damaged."""
    block = Block(data)
    main = block.directory(block.first)
    return block, main, block.below(EXIF_IFD, main)


def orientation(data: bytes) -> int:
    """1 to 8; 1 where a block does not say, or cannot be read."""
    try:
        block, main, _ = directories(data)
    except Damaged:
        return 1
    values = block.numbers(main.get(ORIENTATION))
    return values[0] if values and 1 <= values[0] <= 8 else 1


def says_adobe_rgb(data: bytes) -> bool:
    """Whether the colours are Adobe RGB by the rules of DCF (interoperability index R03)."""
    try:
        block, _, inner = directories(data)
    except Damaged:
        return False
    index = block.content(block.below(INTEROP_IFD, inner).get(INTEROP_INDEX))
    space = block.numbers(inner.get(COLOUR_SPACE))
    return space == [2] or (space != [1] and index[:3] == b"R03")


# --- patched in place ----------------------------------------------------------------------------


def renewed(
    data: bytes, size: tuple[int, int], thumbnail: Callable[[int], bytes] | None, note: str
) -> bytes:
    """A block for the result: upright, of its size, without the dark thumbnail, with one note.

    Args:
        data: the block as it was.
        size: (height, width) of the result.
        thumbnail: a JPEG of the result of at most so many bytes, b'' where none is so small.
        note: what `Software` is to say, added to what it says already.

    Raises:
        Damaged: where it cannot be followed.
    """
    block, main, inner = directories(data)
    for entry in (*main.values(), *inner.values()):
        if entry.tag == ORIENTATION and entry.kind == SHORT and entry.count:
            block.pack("H", entry.place, 1)
        side = size[1] if entry.tag in WIDTHS else size[0] if entry.tag in HEIGHTS else None
        if side is not None and entry.count == 1 and entry.kind in (SHORT, LONG):
            # A type of its own that holds it, in the same four bytes.
            block.pack("H", entry.head + 2, LONG)
            block.pack("I", entry.place, side)
    _renew_thumbnail(block, thumbnail)
    _add_software(block, main, note)
    return bytes(block.data)


def _renew_thumbnail(block: Block, thumbnail: Callable[[int], bytes] | None) -> None:
    pointer = block.next_pointer(block.first)
    second = block.unpack("I", pointer)
    if not second:
        return
    try:
        small = block.directory(second)
    except Damaged:
        block.pack("I", pointer, NEXT_TO_NOTHING)
        return
    place, length = (block.numbers(small.get(t)) for t in (THUMBNAIL, THUMBNAIL_LENGTH))
    if place and length and place[0] + length[0] <= len(block.data):
        picture = thumbnail(length[0]) if thumbnail else b""
        block.data[place[0] : place[0] + length[0]] = picture.ljust(length[0], b"\0")
        if picture:
            block.pack("I", small[THUMBNAIL_LENGTH].head + 8, len(picture))
            block.pack("H", small[THUMBNAIL_LENGTH].head + 2, LONG)
            if ORIENTATION in small:
                block.pack("H", small[ORIENTATION].place, 1)
            return
    else:
        strips = [block.numbers(small.get(tag)) for tag in (STRIPS, STRIP_LENGTHS)]
        for start, count in zip(*strips, strict=False):
            if start + count <= len(block.data):
                block.data[start : start + count] = bytes(count)
    block.pack("I", pointer, NEXT_TO_NOTHING)


def _add_software(block: Block, main: dict[int, Entry], note: str) -> None:
    entry = main.get(SOFTWARE)
    said = block.content(entry).split(b"\0")[0].strip()
    if NAME.encode() in said:
        return
    text = (said + b"; " if said else b"") + note.encode() + b"\0"
    text = text.ljust(6, b"\0")  # four bytes would stand in the entry itself
    block.data += b"\0" * (len(block.data) % 2)
    place = len(block.data)
    block.data += text + b"\0" * (len(text) % 2)
    if entry:
        block.pack("H", entry.head + 2, ASCII)
        block.pack("I", entry.head + 4, len(text))
        block.pack("I", entry.head + 8, place)
        return
    # No room in the directory: it is written once more behind all else, with one entry more.
    start, count = block.first, block.unpack("H", block.first)
    heads = [bytes(block.data[at : at + 12]) for at in range(start + 2, start + 2 + 12 * count, 12)]
    heads.append(struct.pack(f"{block.order}HHII", SOFTWARE, ASCII, len(text), place))
    heads.sort(key=lambda head: struct.unpack(f"{block.order}H", head[:2])[0])
    follows = bytes(block.data[start + 2 + 12 * count :][:4])
    block.pack("I", 4, len(block.data))
    block.data += struct.pack(f"{block.order}H", count + 1) + b"".join(heads) + follows


def minimal(note: str) -> bytes:
    """A block that holds nothing but `Software`."""
    text = note.encode() + b"\0"
    head = b"II*\0" + struct.pack("<IHHHIII", 8, 1, SOFTWARE, ASCII, len(text), 26, 0)
    return head + text
