"""TIFF, written: an EXIF block first, as it is, and the picture behind it (TIFF 6.0).

The block's own header becomes the file's, so every offset within it stays valid, those in a camera's
maker note too. The other way, a TIFF's descriptive tags become such a block.
"""

import struct
import zlib

import numpy as np

from pdn_jax.photos import exif, iptc
from pdn_jax.photos.exif import LONG, RATIONAL, SHORT, UNDEFINED, Block, Entry
from pdn_jax.photos.record import Metadata

BYTE = 1
"""The type of a tag that holds bytes."""
STRIP = 1 << 20
"""Bytes of a strip before it is packed."""

DEFLATE, PREDICTOR = 8, 2
LEVEL = 4
"""How hard zlib tries."""

MOST = (1 << 32) - (1 << 20)
"""Bytes that a TIFF with 32-bit offsets may have."""

NOTE_WITHIN = 60000
"""A maker note that lies within so many bytes of a TIFF stays at its place."""


def written(
    pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata, profile: bytes, structure: set
) -> bytes:
    """A whole TIFF, deflated without loss.

    Args:
        pixels: [h, w, 1 or 3], uint8, uint16 or float32.
        alpha: [h, w] of the same dtype, or None; stored beside the colours, not multiplied.
        metadata: what to say; text and comments are not.
        profile: ICC, b'' for none.
        structure: tags of the EXIF block's main directory that are not copied.

    Raises:
        ValueError: for more bytes than 32-bit offsets reach.
    """
    start = metadata.exif or b"II*\0\x08\0\0\0"
    block = Block(start)
    order = block.order
    out = bytearray(start + b"\0" * (len(start) % 2))
    values = pixels if alpha is None else np.dstack([pixels, alpha])
    height, width, channels = values.shape
    places, lengths, rows = [], [], max(1, STRIP // (width * channels * values.itemsize))
    for top in range(0, height, rows):
        strip = _packed(values[top : top + rows], order)
        places.append(len(out))
        lengths.append(len(strip))
        out += strip + b"\0" * (len(strip) % 2)
    if len(out) > MOST:
        raise ValueError("a TIFF holds at most 4 GB")
    real = np.issubdtype(values.dtype, np.floating)
    tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [values.itemsize * 8] * channels),
        259: (SHORT, [DEFLATE]),
        262: (SHORT, [2 if pixels.shape[-1] == 3 else 1]),
        273: (LONG, places),
        277: (SHORT, [channels]),
        278: (LONG, [rows]),
        279: (LONG, lengths),
        284: (SHORT, [1]),
        317: (SHORT, [1 if real else PREDICTOR]),
        339: (SHORT, [3 if real else 1] * channels),
        338: (SHORT, [2] if alpha is not None else []),
        700: (BYTE, metadata.xmp),
        33723: (UNDEFINED, iptc.records(metadata.photoshop)),
        34377: (BYTE, metadata.photoshop),
        34675: (UNDEFINED, profile),
    }
    main = block.directory(block.first) if metadata.exif else {}
    heads = {
        tag: bytes(block.data[entry.head : entry.head + 12])
        for tag, entry in main.items()
        if tag not in structure
    }
    if metadata.resolution and 282 not in heads:
        for tag, value in zip((282, 283), metadata.resolution, strict=True):
            tags[tag] = RATIONAL, [round(value * 1000), 1000]
        tags[296] = SHORT, [2]
    for tag, (kind, value) in tags.items():
        if len(value):
            heads[tag] = _entry(out, order, tag, kind, value)
    struct.pack_into(order + "I", out, 4, len(out))
    out += struct.pack(order + "H", len(heads)) + b"".join(heads[tag] for tag in sorted(heads))
    return bytes(out + bytes(4))


def _packed(values: np.ndarray, order: str) -> bytes:
    if not np.issubdtype(values.dtype, np.floating):
        before = np.pad(values, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        values = values - before  # modulo the dtype's range, as it is undone
    return zlib.compress(values.astype(values.dtype.newbyteorder(order)).tobytes(), LEVEL)


def _entry(out: bytearray, order: str, tag: int, kind: int, value) -> bytes:
    """A directory entry; a value of more than four bytes goes to the end of what is there."""
    count = len(value) // 2 if kind == RATIONAL else len(value)
    form = {SHORT: "H", LONG: "I", RATIONAL: "I"}.get(kind)
    content = struct.pack(f"{order}{len(value)}{form}", *value) if form else bytes(value)
    if len(content) > 4:
        place = struct.pack(order + "I", len(out))
        out += content + b"\0" * (len(content) % 2)
        content = place
    return struct.pack(order + "HHI", tag, kind, count) + content.ljust(4, b"\0")


# --- the other way -------------------------------------------------------------------------------


def exif_block(
    block: Block, main: dict[int, Entry], structure: set, *, anew: bool = False
) -> tuple[bytes, bool]:
    """A TIFF's descriptive tags as an EXIF block; whether its maker note had to move.

    A maker note's offsets count from the file's beginning. Where all of EXIF lies ahead of the pixels
    the file's beginning is kept as it is; else EXIF is laid out anew, the maker note at its old place
    if that is free and near.

    Args:
        block: the whole file.
        main: its first directory.
        structure: tags that are left out.
        anew: lay it out anew in any case.
    """
    below = {tag: block.below(tag, main) for tag in (exif.EXIF_IFD, exif.GPS_IFD)}
    wanted = {tag: e for tag, e in main.items() if tag not in structure and tag not in below}
    below = {tag: inner for tag, inner in below.items() if inner}
    if not wanted and not below:
        return b"", False
    start = None if anew else _beginning(block, main, below)
    if start is None:
        return _laid_out(block, wanted, below)
    out = bytearray(start + b"\0" * (len(start) % 2))
    struct.pack_into(block.order + "I", out, 4, len(out))
    for tag, head in _directory(block, out, wanted, list(below)).items():
        struct.pack_into(block.order + "I", out, head + 8, block.numbers(main[tag])[0])
    return bytes(out), False


def _beginning(block: Block, main: dict[int, Entry], below: dict) -> bytes | None:
    """The file up to the end of all EXIF, where no pixels are among that and it is short."""
    inner = below.get(exif.EXIF_IFD, {})
    parts = [*below.values(), block.below(exif.INTEROP_IFD, inner)]
    ends = [max(e.place + e.length, e.head + 16) for entries in parts for e in entries.values()]
    pixels = [n for tag in (273, 324) for n in block.numbers(main.get(tag))]
    if not ends or max(ends) > min([NOTE_WITHIN, *pixels]):
        return None
    return bytes(block.data[: max(ends)])


def _laid_out(block: Block, wanted: dict[int, Entry], below: dict) -> tuple[bytes, bool]:
    inner = below.get(exif.EXIF_IFD, {})
    interop = block.below(exif.INTEROP_IFD, inner)
    inner.pop(exif.INTEROP_IFD, None)
    note = inner.get(exif.MAKER_NOTE)
    out = bytearray(block.data[:4] + struct.pack(block.order + "I", 8))
    for tag, head in _directory(block, out, wanted, list(below)).items():
        struct.pack_into(block.order + "I", out, head + 8, len(out))
        nested = [exif.INTEROP_IFD] if tag == exif.EXIF_IFD and interop else []
        for deeper in _directory(block, out, below[tag], nested).values():
            struct.pack_into(block.order + "I", out, deeper + 8, len(out))
            _directory(block, out, interop, [])
    if note is None or note.length <= 4:
        return bytes(out), False
    moved = not len(out) <= note.place <= NOTE_WITHIN
    place = len(out) if moved else note.place
    fresh = Block(bytes(out))
    head = fresh.below(exif.EXIF_IFD, fresh.directory(8))[exif.MAKER_NOTE].head
    struct.pack_into(block.order + "I", out, head + 8, place)
    out += bytes(place - len(out)) + block.content(note)
    return bytes(out), moved


def _directory(
    block: Block, out: bytearray, entries: dict[int, Entry], pointers: list[int]
) -> dict[int, int]:
    """Append a directory and its values, a maker note's aside; where each pointer's entry is."""
    start, order = len(out), block.order
    tags = sorted({*entries, *pointers})
    out += struct.pack(order + "H", len(tags)) + bytes(12 * len(tags) + 4)
    places = {}
    for index, tag in enumerate(tags):
        head = start + 2 + 12 * index
        if tag in pointers:
            struct.pack_into(order + "HHI", out, head, tag, LONG, 1)
            places[tag] = head
            continue
        entry = entries[tag]
        out[head : head + 12] = block.data[entry.head : entry.head + 12]
        if entry.length > 4 and tag != exif.MAKER_NOTE:
            struct.pack_into(order + "I", out, head + 8, len(out))
            out += block.content(entry) + b"\0" * (entry.length % 2)
    return places
