"""Formats of photo files: how each is recognised by its content, and what it can hold."""

import importlib
import struct
from types import ModuleType
from typing import NamedTuple

from pdn_jax.errors import InputError

EXIF, XMP, IPTC, ICC, RESOLUTION, COMMENT, TEXT = (
    "EXIF",
    "XMP",
    "IPTC",
    "colour profile",
    "resolution",
    "comment",
    "text",
)
"""What a file may hold besides its pixels, as messages call it."""


class Kind(NamedTuple):
    """A format.

    extensions: what its files are called, the usual first. written: whether results can be. deep:
    whether results may have 16 bits. alpha, grey: whether they may have transparency, one channel.
    holds: the metadata that results may have. modules: what reads it besides Pillow; their extra.
    """

    extensions: tuple[str, ...]
    written: bool = False
    deep: bool = False
    alpha: bool = False
    grey: bool = True
    holds: frozenset[str] = frozenset()
    module: str = ""


_MODERN = frozenset({EXIF, XMP, ICC})

KINDS = {
    "JPEG": Kind(
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        written=True,
        holds=_MODERN | {IPTC, RESOLUTION, COMMENT},
    ),
    "PNG": Kind(
        (".png",),
        written=True,
        deep=True,
        alpha=True,
        holds=_MODERN | {IPTC, RESOLUTION, COMMENT, TEXT},
    ),
    "TIFF": Kind(
        (".tif", ".tiff"), written=True, deep=True, alpha=True, holds=_MODERN | {IPTC, RESOLUTION}
    ),
    "WEBP": Kind((".webp",), written=True, alpha=True, grey=False, holds=_MODERN),
    "AVIF": Kind((".avif",), written=True, alpha=True, holds=_MODERN),
    "HEIC": Kind(
        (".heic", ".heif", ".hif"),
        written=True,
        alpha=True,
        grey=False,
        holds=_MODERN,
        module="pillow_heif",
    ),
    "BMP": Kind((".bmp", ".dib"), written=True, holds=frozenset({RESOLUTION})),
    "GIF": Kind((".gif",)),
    "JXL": Kind((".jxl",), module="pillow_jxl"),
    "RAW": Kind(
        tuple(
            f".{name}"
            for name in (
                *("dng", "nef", "nrw", "cr2", "cr3", "crw", "arw", "srf", "sr2", "raf", "rw2"),
                *("orf", "pef", "srw", "3fr", "fff", "iiq", "rwl", "dcr", "kdc", "mrw", "mef"),
                *("mos", "erf", "x3f", "raw"),
            )
        ),
        module="rawpy",
    ),
}
"""Format -> what it is."""

EXTENSIONS = tuple(extension for kind in KINDS.values() for extension in kind.extensions)
"""What counts as a photo in a folder, upper or lower case."""

PACKAGES = {
    "imagecodecs": "photos",
    "pillow_heif": "photos",
    "pillow_jxl": "photos",
    "rawpy": "raw",
    "tifffile": "photos",
}
"""Module -> the extra that brings it."""

INSTEAD = {"GIF": "PNG", "JXL": "PNG", "RAW": "TIFF"}
"""Format that is read only -> the one that results have."""


def by_extension(extension: str) -> str | None:
    """The format that a file name ending in this stands for, or None."""
    extension = extension.lower()
    return next((name for name, kind in KINDS.items() if extension in kind.extensions), None)


def require(module: str, name: str) -> ModuleType:
    """Import a package that reads or writes rarer files.

    Args:
        module: a key of `PACKAGES`.
        name: the file, for the message.

    Raises:
        InputError: where it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = PACKAGES[module]
        raise InputError(
            f'{name} needs the package {module}: pip install "pdn_jax[{extra}]"'
        ) from error


# --- recognition by content --------------------------------------------------------------------

STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),
    (b"FOVb", "RAW"),
    (b"\0MRM", "RAW"),
    (b"II\x1a\0\0\0HEAPCCDR", "RAW"),
)
"""How the files of a format begin."""

TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, of either byte order and either offset."""

BRANDS = ((b"crx ", "RAW"), (b"avif", "AVIF"), (b"avis", "AVIF"), (b"heic", "HEIC"))
"""Brands of ISO base media files (ISO/IEC 14496-12), the telling ones first."""
BRANDS += ((b"heix", "HEIC"), (b"hevc", "HEIC"), (b"mif1", "HEIC"), (b"msf1", "HEIC"))

OTHERS = (
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\1\0", "an icon"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1aE\xdf\xa3", "a film"),
    (b"v/1\1", "an OpenEXR picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
)
"""How well-known files begin that are no photos."""


def recognise(data: bytes, extension: str = "") -> str | None:
    """The format that the content has, or None.

    Args:
        data: the file's bytes.
        extension: of its name; tells a camera's raw file from any other TIFF where both look alike.
    """
    for start, name in STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        size = min(max(struct.unpack_from(">I", data)[0], 16), 256)
        brands = [data[8:12], *(data[i : i + 4] for i in range(16, size, 4))]
        return next((name for brand, name in BRANDS if brand in brands), None)
    if data[:4] in TIFFS:
        raw = extension.lower() in KINDS["RAW"].extensions or _is_raw(data)
        return "RAW" if raw else "TIFF"
    return None


def described(data: bytes) -> str:
    """What a file is that is not recognised, for a message."""
    if data[4:8] == b"ftyp":
        return "a film"
    return next((what for start, what in OTHERS if data.startswith(start)), "not a photo")


PHOTOMETRIC, SUB_IFDS, DNG_VERSION = 262, 330, 50706
MOSAIC, LINEAR_RAW = 32803, 34892
"""Tags of a TIFF, and two values of the first, as Adobe's DNG specification has them."""


def _is_raw(data: bytes) -> bool:
    """Whether a TIFF says that it is a DNG, or has a sensor's own samples in one of its pictures."""
    from pdn_jax.photos import exif

    if data[8:10] == b"CR":
        return True
    try:
        block = exif.Block(data)
        first = block.directory(block.first)
    except exif.Damaged:
        return False
    if DNG_VERSION in first:
        return True
    below = []
    for offset in block.numbers(first.get(SUB_IFDS)):
        try:
            below.append(block.directory(offset))
        except exif.Damaged:
            continue
    kinds = {n for ifd in [first, *below] for n in block.numbers(ifd.get(PHOTOMETRIC))}
    return bool(kinds & {MOSAIC, LINEAR_RAW})
