"""Encoded photos to pixels, by Pillow: every format becomes uint8 [h, w, 3], sRGB, upright.

Pillow itself cuts 16 bits to the high byte and gets a few kinds of TIFF silently wrong; the
first is mended here, the second refused. Every fault of a file is an `InputError` that names it.
"""

import contextlib
import functools
import io
import struct
import sys
import warnings

import numpy as np
from PIL import Image, ImageCms

from pdn_jax.errors import InputError

Photo = np.ndarray
"""uint8 [h, w, 3]."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats read, as Pillow names them."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""What counts as a photo in a folder, upper or lower case."""

SMALLEST = 16
"""Pixels that the shorter side must have: less holds nothing that the network can look at."""

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""


def decode(data: bytes, name: str) -> Photo:
    """An encoded photo -> uint8 [h, w, 3], sRGB, upright.

    EXIF orientation is applied. An embedded colour profile is converted to sRGB; a damaged one
    is taken for sRGB. Grey, palette and CMYK become RGB. 16 bits v become round(v / 257), but
    v // 256 where there is grey with alpha or premultiplied alpha. Transparent parts become
    black, as where no light came from. Raises InputError, which begins with `name`, for whatever
    is not one whole, still picture of at least 16×16 pixels.
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes): copy it again")
    try:
        with _open(data) as image:
            fault = _fault(image, data)
            if fault is None:
                photo = np.array(_upright(_to_rgb(_loaded(image, data)), image))
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{name} {_unidentified(data)}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise InputError(f"{name} has too many pixels: scale it below {limit} million") from error
    except Exception as error:  # decoders raise all sorts on damaged bytes
        reason = str(error) or type(error).__name__
        raise InputError(f"{name} is damaged or cut short ({reason}): copy it again") from error
    if fault is not None:
        raise InputError(f"{name} {fault}")
    if min(photo.shape[:2]) < SMALLEST:
        height, width = photo.shape[:2]
        raise InputError(
            f"{name} is {width}×{height} pixels: expected at least {SMALLEST} on each side"
        )
    return photo


def is_plain(data: bytes) -> bool:
    """Whether nothing but `Image.open(…).convert("RGB")` gives the pixels that `decode` gives.

    So it is for an upright JPEG or PNG, 8 bits RGB, without alpha, of one frame, of at least 16×16
    pixels, with sRGB's profile or none. Only what is around the pixels is looked at: damaged or
    missing pixels are not seen here. Where in doubt, False.
    """
    try:
        with _open(data) as image:
            profile = image.info.get("icc_profile")
            return (
                image.format in ("JPEG", "PNG")
                and image.mode == _raw_mode(image) == "RGB"
                and getattr(image, "n_frames", 1) == 1
                and not image.has_transparency_data
                and min(image.size) >= SMALLEST
                and _turn(image) is None
                and (image.format == "JPEG" or not _says_more_after_pixels(data))
                and (not profile or _profile(profile) == ("RGB", None))
            )
    except Exception:  # decoders raise all sorts on damaged bytes
        return False


@contextlib.contextmanager
def _open(data: bytes):
    # Pillow warns of odd EXIF and of large pictures; neither is a reason to stop.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image


# --- what is refused -------------------------------------------------------------------------

SUBFILE, BITS, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT, DNG_VERSION = 254, 258, 262, 284, 339, 50706
"""Tags of a TIFF (TIFF 6.0, and Adobe's DNG for the last)."""

REDUCED = 1
"""Bit of SUBFILE: a smaller copy of another page."""

SAMPLES = {1: "unsigned", 2: "signed", 3: "float"}
"""SAMPLE_FORMAT -> what it is called."""

TIFF_MODES = {
    0: {"1", "L"},  # white is zero
    1: {"1", "L", "La", "LA", "I;16", "I;16B"},
    2: {"RGB", "RGBA"},
    3: {"P", "PA"},
    5: {"CMYK"},
    6: {"L", "RGB", "YCbCr"},
}
"""PHOTOMETRIC -> Pillow's modes of it that come out right."""

TIFF_COMPRESSIONS = {"raw", "packbits", "jpeg", "zstd", "lzma", "group3", "group4"}
TIFF_COMPRESSIONS |= {"tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "tiff_ccitt"}
"""Compressions, as Pillow names them, that its libtiff knows as a rule."""

BETTER = "save it as RGB or grey with 8 or 16 bits a channel"


def _unidentified(data: bytes) -> str:
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return f"is a TIFF of float or another rare kind, or cut short: copy it again or {BETTER}"
    return f"is not a photo: expected one of {' '.join(EXTENSIONS)}"


def _fault(image: Image.Image, data: bytes) -> str | None:
    """Why a file that Pillow opens is not read all the same, or None."""
    if image.format == "TIFF":
        return _tiff_fault(image, data)
    # MPO is a JPEG with further pictures behind the first, as many phones write it.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    return None if frames == 1 else f"is animated, {frames} frames: save one of them as a PNG"


def _tiff_fault(image: Image.Image, data: bytes) -> str | None:
    tags = image.tag_v2
    if DNG_VERSION in tags or tags.get(SUBFILE, 0) & REDUCED:
        return "begins with a preview, as a camera's raw file: develop it and save a TIFF or PNG"
    if image.is_animated:
        with _open(data) as other:  # to seek in, as that leaves traces
            pages = sum(not _subfile(other, page) & REDUCED for page in range(other.n_frames))
        if pages > 1:
            return f"has {pages} pages: save one of them as a TIFF or PNG"
    numbers, bits = max(tags.get(SAMPLE_FORMAT, (1,))), max(tags.get(BITS, (1,)))
    colours, packing = tags.get(PHOTOMETRIC, 0), image.info["compression"]
    channels = len(image.getbands())
    apart = tags.get(PLANAR, 1) == 2 and (channels == 2 or (channels > 1 and bits == 16))
    known = image.mode in TIFF_MODES.get(colours, ()) and packing in TIFF_COMPRESSIONS
    if apart or not known or numbers != 1 or bits == 12:
        kind = f"{SAMPLES.get(numbers, 'rare')} of {bits} bits, photometric {colours}, {packing}"
        kind += ", channels apart" if apart else ""
        return f"is a TIFF of a kind that is not read ({kind}): {BETTER}"
    return None


def _subfile(image: Image.Image, page: int) -> int:
    image.seek(page)
    return image.tag_v2.get(SUBFILE, 0)


def _says_more_after_pixels(data: bytes) -> bool:
    """Whether a PNG has anything behind its pixels, where also an orientation may stand."""
    place, seen = 8, set()
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        seen |= {kind} if b"IDAT" in seen or kind == b"IDAT" else set()
        place += 12 + length
    return not seen <= {b"IDAT", b"IEND"}


# --- pixels ----------------------------------------------------------------------------------

SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order in a raw mode of Pillow's (little, big, native) -> the other one."""

DEEP = {f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA", "CMYK") for order in SWAPPED}
"""Raw modes of which Pillow keeps the high bytes only."""


def _raw_mode(image: Image.Image) -> str:
    """How the pixels lie in a PNG, JPEG or TIFF, as Pillow names it; '' if there are none."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else arguments[0]


def _loaded(image: Image.Image, data: bytes) -> Image.Image:
    """The image with its pixels: of 16 bits round(v / 257), where Pillow gives v // 256.

    Read in the other byte order, the high byte is the low one: v = 256 h + l, and
    round(v / 257) = h + round((l − h) / 257). A transparent colour has 16 bits too: left out.
    """
    deep = image.format in ("PNG", "TIFF") and _raw_mode(image) in DEEP
    image.load()
    if not deep:
        return image
    with _open(data) as swapped:
        swapped.tile = [tile._replace(args=_swapped(tile.args)) for tile in swapped.tile]
        high, low = np.asarray(image), np.asarray(swapped)
    more = low.astype(np.int16) - high
    values = high + (more > 128) - (more < -128)
    rounded = Image.frombytes(image.mode, image.size, values.tobytes())
    rounded.info = {"icc_profile": image.info.get("icc_profile")}
    return rounded


def _swapped(arguments: str | tuple) -> str | tuple:
    if isinstance(arguments, str):
        return arguments[:-1] + SWAPPED[arguments[-1]]
    return _swapped(arguments[0]), *arguments[1:]


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        # Not the PNG's own method, which would decode the pixels to look behind them.
        return UPRIGHT.get(Image.Image.getexif(image).get(ORIENTATION))
    except Exception:  # an unreadable EXIF block says nothing about the pixels
        return None


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    turn = _turn(original)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode Pillow decodes to -> RGB in sRGB, over black where transparent."""
    alpha = None
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        base = Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8))
    elif image.has_transparency_data:
        full = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        base, alpha = full.convert(full.mode[:-1]), full.getchannel("A")
    else:
        base = image.convert({"1": "L", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB"))
    base = _to_srgb(base, image.info.get("icc_profile"))
    if alpha is not None:
        base = Image.composite(base, Image.new("RGB", base.size), alpha)
    return base


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, ImportError, OSError, ValueError):
            space, transform = _profile(profile)
            if space == "RGB" and image.mode == "L":
                image = image.convert("RGB")
            if transform is not None and image.mode == transform.input_mode:
                return transform.apply(image)
    return image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _profile(data: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """A profile's colour space, and the transform from it to sRGB: None where that is sRGB itself.

    Whether it is sRGB is asked of the colours, not of the name: many profiles have sRGB in
    their name and linear light in their tables.
    """
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    space = profile.profile.xcolor_space.strip()
    mode = {"GRAY": "L"}.get(space, space)
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # Optimised, a grey curve is off by up to ten levels near black.
        flags=ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE,
    )
    if mode != "CMYK":
        steps = np.linspace(0, 255, 18, dtype=np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
        probe = Image.fromarray(cube).convert(mode)
        change = np.asarray(transform.apply(probe), int) - np.asarray(probe.convert("RGB"), int)
        if abs(change).max() <= 2:
            return space, None
    return space, transform
