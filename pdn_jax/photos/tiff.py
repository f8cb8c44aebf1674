"""TIFF, read: which of its many kinds Pillow gets right, and the others by tifffile (TIFF 6.0)."""

import io
import itertools
import logging
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from pdn_jax.photos import colour, exif, iptc, kinds, pixels, tiff_writer
from pdn_jax.photos.pixels import Decoded
from pdn_jax.photos.record import Metadata

SUBFILE, BITS, PACKING, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 254, 258, 259, 262, 284, 339
TRANSFER, WHITE, PRIMARIES, ICC, XMP, IPTC, PHOTOSHOP = 301, 318, 319, 34675, 700, 33723, 34377
ACROSS, DOWN, UNIT = 282, 283, 296
"""Tags of a TIFF (TIFF 6.0)."""

REDUCED = 1
"""Bit of SUBFILE: a smaller copy of another page."""

MOST_PAGES = 64
"""Pages of a TIFF that are looked at: the picture, and smaller copies of it."""

SAMPLES = {1: "unsigned", 2: "signed", 3: "float"}
"""SAMPLE_FORMAT -> what it is called."""

PILLOW_MODES = {
    0: {"1", "L"},  # white is zero
    1: {"1", "L", "La", "LA", "I;16", "I;16B"},
    2: {"RGB", "RGBA"},
    3: {"P", "PA"},
    5: {"CMYK"},
    6: {"L", "RGB", "YCbCr"},
}
"""PHOTOMETRIC -> Pillow's modes of it that come out right."""

PILLOW_PACKINGS = {"raw", "packbits", "jpeg", "zstd", "lzma", "group3", "group4"}
"""Compressions, as Pillow names them, that its libtiff knows as a rule."""
PILLOW_PACKINGS |= {"tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "tiff_ccitt"}


class Refused(ValueError):
    """A TIFF that is not read; the message says why."""


class Picture(NamedTuple):
    """The first picture in a TIFF, upright: pixels, bits a channel, and how many pages follow it."""

    decoded: Decoded
    bits: int
    further: int


def decoded(data: bytes, name: str, most: int) -> Picture:
    """The first picture in a TIFF.

    Args:
        data: the whole file.
        name: for messages.
        most: pixels beyond which it is refused.

    Raises:
        Refused: for kinds that are no photographs.
        InputError: where a package is missing.
    """
    try:
        with pixels.opened(data, ("TIFF",)) as image:
            tags = image.tag_v2
            further = _further_pages(image, data)
            if _pillow_is_right(image):
                return Picture(pixels.decoded(image, data), max(tags.get(BITS, (1,))), further)
    except Image.UnidentifiedImageError:
        pass
    return _by_tifffile(data, name, most)


def _further_pages(image: Image.Image, data: bytes) -> int:
    if image.tag_v2.get(SUBFILE, 0) & REDUCED:
        raise Refused("begins with a preview: develop it and save a TIFF or PNG")
    if not image.is_animated:
        return 0
    with pixels.opened(data, ("TIFF",)) as other:  # to seek in, as that leaves traces
        return sum(not _subfile(other, page) & REDUCED for page in range(1, other.n_frames))


def _subfile(image: Image.Image, page: int) -> int:
    image.seek(page)
    return image.tag_v2.get(SUBFILE, 0)


def _pillow_is_right(image: Image.Image) -> bool:
    tags = image.tag_v2
    numbers, bits = max(tags.get(SAMPLE_FORMAT, (1,))), max(tags.get(BITS, (1,)))
    channels = len(image.getbands())
    apart = tags.get(PLANAR, 1) == 2 and (channels == 2 or (channels > 1 and bits == 16))
    known = image.mode in PILLOW_MODES.get(tags.get(PHOTOMETRIC, 0), ())
    known = known and image.info["compression"] in PILLOW_PACKINGS
    return known and not apart and numbers == 1 and bits != 12


def _by_tifffile(data: bytes, name: str, most: int) -> Picture:
    tifffile = kinds.require("tifffile", name)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says is said by us
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            # Damaged ones may go on without end; two are too many.
            first = itertools.islice(file.pages, MOST_PAGES)
            pages = [page for page in first if not page.subfiletype & REDUCED]
            if not len(file.pages):
                raise ValueError("no picture in it")
            if not pages:
                raise Refused("begins with a preview: develop it and save a TIFF or PNG")
            page = pages[0]
            if page.imagewidth * page.imagelength > most:
                raise Image.DecompressionBombError
            return Picture(*_from_page(page, name), len(pages) - 1)


def _from_page(page, name: str) -> tuple[Decoded, int]:
    kind = getattr(page.photometric, "name", "unknown").lower()
    numbers = SAMPLES.get(int(page.sampleformat or 1), "rare")
    sort = f"{numbers} of {page.bitspersample} bits, {kind}"
    known = kind in ("minisblack", "miniswhite", "rgb", "separated")
    if not known or numbers not in ("unsigned", "float") or page.bitspersample == 1:
        raise Refused(f"is a TIFF of a kind that is not read ({sort}): save it as RGB or grey")
    try:
        values = page.asarray()
    except (ValueError, KeyError) as error:
        if "imagecodecs" in str(error):
            kinds.require("imagecodecs", name)
        raise
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    values = values if values.ndim == 3 else values[..., None]
    colours = {"rgb": 3, "separated": 4}.get(kind, 1)
    if values.ndim != 3 or values.shape[-1] < colours:
        raise Refused(f"is a TIFF of a kind that is not read ({sort}): save it as RGB or grey")
    values = scaled(values, page.bitspersample)
    base, alpha = values[..., :colours], None
    orientation = page.tags.get(exif.ORIENTATION)
    if kind == "miniswhite":
        base = (1 if values.dtype == np.float32 else np.iinfo(values.dtype).max) - base
    extra = tuple(page.extrasamples or ())
    if extra and int(extra[0]) in (1, 2):
        alpha = values[..., colours]
        base = divided(base, alpha) if int(extra[0]) == 1 else base
    turn = pixels.UPRIGHT.get(orientation.value if orientation else 1, pixels.UPRIGHT[1])
    return Decoded(turn(base), None if alpha is None else turn(alpha)), page.bitspersample


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned of any depth as uint8 or uint16 with white at the top; floats checked."""
    if np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise Refused("has pixels that are no numbers (NaN or infinite): mend them")
        lowest, highest = float(values.min()), float(values.max())
        if lowest < 0 or highest > 1:
            raise Refused(
                f"has float values from {lowest:g} to {highest:g}: scale them to 0 (black) to 1 (white)"
            )
        return values
    if bits in (8, 16):
        return values
    top = (1 << bits) - 1
    if bits < 8:
        return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    wide = values.astype(np.float64) * (65535 / top)
    return np.rint(wide).astype(np.uint16)


def divided(base: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by their transparency, as they were before."""
    top = 1.0 if base.dtype == np.float32 else float(np.iinfo(base.dtype).max)
    values = base / np.maximum(alpha[..., None], 1e-6 * top).astype(np.float64) * top
    values = values.clip(0, top)
    return (values if base.dtype == np.float32 else np.rint(values)).astype(base.dtype)


# --- what it says --------------------------------------------------------------------------------

STRUCTURE = {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281}
"""Tags that describe how the pixels lie, or that stand elsewhere in `Metadata`; Photoshop's layers."""
STRUCTURE |= {284, 288, 289, 290, 291, 292, 293, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325}
STRUCTURE |= {330, 338, 339, 340, 341, 342, 347, 512, 513, 514, 529, 530, 531, 532}
STRUCTURE |= {ICC, XMP, IPTC, PHOTOSHOP, 37724}


SENSOR = {33421, 33422, 37398, 37399, *range(50706, 51200), *range(52525, 52560)}
"""Tags of TIFF/EP and DNG that are true of a mosaic only."""


def metadata(data: bytes, raw: bool = False) -> tuple[Metadata, list[str]]:
    """What a TIFF says, and by name what no result of it can have; of a raw file, what is not the sensor's."""
    try:
        block = exif.Block(data)
        main = block.directory(block.first)
    except exif.Damaged:
        return Metadata(), ["metadata of a BigTIFF"] if data[2:3] in b"+" else []
    lost = ["Photoshop's layers"] if 37724 in main else []
    photoshop = block.content(main.get(PHOTOSHOP))
    records = block.content(main.get(IPTC))
    if records and not iptc.records(photoshop):
        photoshop += iptc.wrapped(records)
    block_of_exif, moved = tiff_writer.exif_block(
        block, main, STRUCTURE | SENSOR if raw else STRUCTURE, anew=raw
    )
    if moved:
        lost.append("the place of the maker note (its offsets may be wrong)")
    packet = block.content(main.get(XMP))
    scale = {2: 1.0, 3: 2.54}.get((block.numbers(main.get(UNIT)) or [2])[0])
    dots = [value for tag in (ACROSS, DOWN) for value in _ratios(block, main.get(tag))]
    resolution = (dots[0] * scale, dots[1] * scale) if len(dots) == 2 and scale else None
    return Metadata(block_of_exif, packet, iptc.without_thumbnails(photoshop), resolution), lost


def profile(data: bytes) -> bytes:
    """The ICC profile in a TIFF, b'' where there is none."""
    try:
        block = exif.Block(data)
        return block.content(block.directory(block.first).get(ICC))
    except exif.Damaged:
        return b""


def stated_colour(data: bytes, channels: int, profile: bytes) -> colour.Colour:
    """The colours by profile, or by TIFF's own tags 301, 318 and 319; raises colour.Unknown."""
    if profile:
        return colour.from_icc(profile, channels)
    try:
        block = exif.Block(data)
        main = block.directory(block.first)
    except exif.Damaged:
        return colour.SRGB
    white, points = (_ratios(block, main.get(tag)) for tag in (WHITE, PRIMARIES))
    table = block.numbers(main.get(TRANSFER))
    chromaticities = colour.BT709
    if len(points) == 6 and channels == 3:
        first = tuple(white) if len(white) == 2 else colour.WHITE
        chromaticities = (first, *zip(points[::2], points[1::2], strict=True))
    if len(table) >= 4 and channels == 3:
        parts = 3 if len(table) in (3 << 8, 3 << 16) else 1
        return colour.from_table(
            chromaticities,
            np.repeat(np.reshape(np.array(table) / 65535, (parts, -1)), 3 // parts, axis=0),
        )
    return colour.from_gamma(2.2, chromaticities)


def _ratios(block: exif.Block, entry: exif.Entry | None) -> list[float]:
    if entry is None or entry.kind != exif.RATIONAL:
        return []
    numbers = struct.unpack(f"{block.order}{2 * entry.count}I", block.content(entry))
    return [a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True) if b]
