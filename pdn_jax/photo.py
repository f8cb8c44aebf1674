"""Photo files in and out, 8 bits per channel, by Pillow.

A photo here is uint8 [h, w, 3], sRGB, upright. Every fault of a file or a path is an
`InputError` that names it. With `weights` this is the only module that touches files.
"""

import contextlib
import functools
import io
import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from pdn_jax.types import InputError

Photo = UInt8[np.ndarray, "height width 3"]
Pair = tuple[Path, Path]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Formats read, as Pillow names them."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""What counts as a photo in a folder, upper or lower case."""

WRITERS = {
    ".png": {"format": "PNG", "compress_level": 4},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
"""Extension -> how Pillow is to save."""

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


# --- in --------------------------------------------------------------------------------------


def read(path: str | Path) -> Photo:
    """A photo file -> uint8 [h, w, 3], sRGB, upright.

    EXIF orientation is applied. An embedded colour profile is converted to sRGB; a damaged one
    is taken for sRGB. Grey, palette and CMYK become RGB, 16 bits become 8. Transparent parts
    become black, as where no light came from. Raises InputError for whatever is not one whole,
    still picture of at least 16×16 pixels.
    """
    path = Path(path)
    _check_readable(path)
    try:
        # Pillow warns of odd EXIF and of large pictures; neither is a reason to stop.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                # MPO is a JPEG with further pictures behind the first, as many phones write it.
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                if frames == 1:
                    image.load()
                    photo = np.array(_upright(_to_rgb(image), image))
    except Image.UnidentifiedImageError as error:
        known = " ".join(EXTENSIONS)
        raise InputError(f"{path} is not a photo: expected one of {known}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise InputError(f"{path} has too many pixels: scale it below {limit} million") from error
    except Exception as error:  # decoders raise all sorts on damaged bytes
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} is damaged or cut short ({reason}): copy it again") from error
    if frames > 1:
        raise InputError(f"{path} is animated, {frames} frames: save one of them as a PNG")
    if min(photo.shape[:2]) < SMALLEST:
        height, width = photo.shape[:2]
        raise InputError(
            f"{path} is {width}×{height} pixels: expected at least {SMALLEST} on each side"
        )
    return photo


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: give a photo file")
        if not path.is_file():
            raise InputError(f"{path} does not exist: give a photo file")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if empty:
        raise InputError(f"{path} is empty (0 bytes): copy it again")


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(original.getexif().get(ORIENTATION))
    except Exception:  # an unreadable EXIF block says nothing about the pixels
        turn = None
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


# --- out -------------------------------------------------------------------------------------


def write(path: str | Path, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Save uint8 [h, w, 3] in the format that the extension names; whole or not at all.

    JPEG has quality 95 and full-size colour. Raises InputError as `check_writable` does, or
    where the disk or the format refuses, and ValueError for another shape or dtype.
    """
    path = Path(path)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a photo is uint8 [h, w, 3], got {image.dtype} {list(image.shape)}")
    check_writable(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(image).save(temporary, **WRITERS[path.suffix.lower()])
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path, overwrite: bool = False) -> None:
    """Find out before the work is done whether `write` would refuse.

    Raises InputError for an unknown extension, a missing or unwritable folder, a folder in the
    file's place, or a file that is there already, unless it may be overwritten.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file name")
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"cannot write {path}: its extension must be one of {' '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}, create it")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: the folder {path.parent} is not writable")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name or allow it (--overwrite)")


# --- folders and pairs -----------------------------------------------------------------------


def images_in(folder: str | Path) -> list[Path]:
    """The photos directly in a folder, by name, hidden files left out.

    Raises InputError for a missing folder or one without photos.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that holds photos")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise InputError(f"{folder} holds no photos: expected files named {' '.join(EXTENSIONS)}")
    return paths


def pairs_in(low: str | Path, normal: str | Path) -> list[Pair]:
    """Photos of two folders matched by name, extension and case aside: [(low, normal), …].

    Raises InputError for a photo without a partner, or two of the same name in a folder.
    """
    lows, normals = _by_stem(low), _by_stem(normal)
    for here, there, folder in ((lows, normals, normal), (normals, lows, low)):
        for stem in sorted(here.keys() - there.keys()):
            raise InputError(f"{here[stem]} has no partner of that name in {folder}")
    return [(lows[stem], normals[stem]) for stem in lows]


def _by_stem(folder: str | Path) -> dict[str, Path]:
    paths = {}
    for path in images_in(folder):
        other = paths.setdefault(path.stem.casefold(), path)
        if other != path:
            raise InputError(f"{other} and {path} have the same name: keep one of them")
    return paths


def read_pair(low: str | Path, normal: str | Path) -> tuple[Photo, Photo]:
    """Both photos of a pair; raises InputError where `read` does or where the sizes differ."""
    pair = read(low), read(normal)
    sizes = [f"{photo.shape[1]}×{photo.shape[0]}" for photo in pair]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{low} is {sizes[0]} but {normal} is {sizes[1]} pixels: a pair has the same size"
        )
    return pair
