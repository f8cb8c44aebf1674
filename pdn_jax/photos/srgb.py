"""Photographs as sRGB of 8 bits, whatever they were: what is trained on and scored."""

import contextlib
import functools
import io

import numpy as np
from PIL import Image, ImageCms

from pdn_jax.photos import colour, exif, pixels, png, xmp
from pdn_jax.photos.reader import SMALLEST, from_bytes
from pdn_jax.photos.record import Photo, to_dtype

Pixels = np.ndarray
"""uint8 [h, w, 3]."""


def decode(data: bytes, name: str) -> Pixels:
    """An encoded photo -> uint8 [h, w, 3], sRGB, upright.

    Colour profiles and whatever else a file says of its colours are converted to sRGB. Grey, palette
    and CMYK become RGB. 16 bits v become round(v / 257). Transparent parts become black, as where no
    light came from.

    Args:
        data: the file's content.
        name: for messages.

    Returns:
        uint8 [h, w, 3].

    Raises:
        InputError: see `reader.from_bytes`; it begins with `name`.
    """
    return srgb(from_bytes(data, name))


def srgb(photo: Photo) -> Pixels:
    """A photo in sRGB, over black where transparent.

    Args:
        photo: of any depth, in any colours; see `record.Photo`.

    Returns:
        uint8 [h, w, 3].
    """
    base = to_dtype(photo.pixels, np.dtype(np.uint8))
    grey = base.shape[-1] == 1
    image = converted(Image.fromarray(base[..., 0] if grey else base), photo.colour.profile)
    if photo.alpha is not None:
        alpha = Image.fromarray(to_dtype(photo.alpha, np.dtype(np.uint8)))
        image = Image.composite(image, Image.new("RGB", image.size), alpha)
    return np.array(image)


def converted(image: Image.Image, profile: bytes) -> Image.Image:
    """An RGB or grey image in the colours of a profile, b"" for sRGB's, as RGB in sRGB."""
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, ImportError, OSError, ValueError):
            space, transform = _transform(profile)
            if space == "RGB" and image.mode == "L":
                image = image.convert("RGB")
            if transform is not None and image.mode == transform.input_mode:
                return transform.apply(image)
    return image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _transform(data: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
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


def is_plain(data: bytes) -> bool:
    """Whether nothing but `Image.open(…).convert("RGB")` gives the pixels that `decode` gives.

    So it is for an upright JPEG or PNG, 8 bits RGB, without alpha, of one frame, of at least 16×16
    pixels, with sRGB's profile or none. Only what is around the pixels is looked at: damaged or
    missing pixels are not seen here.

    Args:
        data: the file's content.

    Returns:
        The answer; False where in doubt.
    """
    try:
        with pixels.opened(data, ("JPEG", "PNG")) as image:
            block = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
            profile = image.info.get("icc_profile", b"")
            return (
                image.mode == pixels.raw_mode(image) == "RGB"
                and getattr(image, "n_frames", 1) == 1
                and not image.has_transparency_data
                and min(image.size) >= SMALLEST
                and exif.orientation(block) == 1
                and xmp.orientation(image.info.get("xmp", b"")) == 1
                and not exif.says_adobe_rgb(block)
                and (image.format == "JPEG" or _is_plain_png(data, profile))
                and (not profile or _transform(profile) == ("RGB", None))
            )
    except Exception:  # decoders raise all sorts on damaged bytes
        return False


def _is_plain_png(data: bytes, profile: bytes) -> bool:
    """Whether a PNG is in sRGB by its chunks, and has nothing behind its pixels, where metadata may stand."""
    kinds = [kind for kind, _, _ in png.chunks(data)]
    behind = set(kinds[kinds.index(b"IDAT") :]) if b"IDAT" in kinds else {b""}
    stated = profile or png.stated_colour(data, 3, b"") == colour.SRGB
    return bool(stated) and behind <= {b"IDAT", b"IEND"} and b"cICP" not in kinds
