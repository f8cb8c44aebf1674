"""Photo files written: a result with all that its photograph said and the format holds."""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from pdn_jax import places
from pdn_jax.errors import InputError
from pdn_jax.files import atomic_write, disk_full
from pdn_jax.photos import exif, iptc, jpeg, kinds, png, tiff, tiff_writer, xmp
from pdn_jax.photos.kinds import KINDS
from pdn_jax.photos.record import Metadata, Photo, to_dtype
from pdn_jax.photos.srgb import converted
from pdn_jax.places import Location

QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90, "HEIC": 90}
"""Of formats that lose something, from 1 to 100, unless another is asked for."""

THUMBNAIL = 160, 120
"""Pixels that a thumbnail made anew has at most: width, height."""


class Written(NamedTuple):
    """A file's bytes, and by name what it does not hold of what its photograph had."""

    data: bytes
    lost: tuple[str, ...]


def save(path: str | Location, result: Written, *, new: bool = False) -> None:
    """Put a file in its place, whole or not at all.

    Args:
        path: where to; what is there is replaced.
        result: of `encoded`.
        new: in a store, only where there is none, as that can be told in one with the write.

    Raises:
        InputError: where the disk or the store refuses.
    """
    if new and places.is_url(path):
        try:
            places.put(path, result.data, new=True)
            return
        except FileExistsError as error:
            raise InputError(f"{path} exists: choose another name (--overwrite)") from error
    try:
        with atomic_write(path) as file:
            file.write(result.data)
    except OSError as error:
        reason = disk_full(error) or error.strerror or str(error)
        raise InputError(f"cannot write {path}: {reason}") from error


def encoded(
    photo: Photo,
    pixels: np.ndarray,
    kind: str,
    *,
    quality: int | None = None,
    strip: bool = False,
    note: str = "pdn_jax",
) -> Written:
    """A result as a file of this format.

    Args:
        photo: what it was made of; its alpha, colours and metadata go on.
        pixels: the result, of the shape and dtype of the photo's own.
        kind: a format of `kinds.KINDS` that can be written.
        quality: from 1 to 100, where the format loses something; None for `QUALITY`.
        strip: leave all metadata out, the colour profile aside, without which the colours change.
        note: what `Software` is to say besides.

    Returns:
        The file's content, and what could not be kept.

    Raises:
        InputError: where the format or a package that is missing refuses.
    """
    lost = [] if strip else list(photo.lost)
    values, alpha, more = _fitted(photo, pixels, kind)
    metadata = Metadata()
    if not strip:
        metadata, missing = _renewed(photo, values, kind, note)
        more += missing
    profile = photo.colour.profile
    if profile and kinds.ICC not in KINDS[kind].holds:
        became = ""
        if values.shape[-1] == 3 and values.dtype == np.uint8:
            values, became = np.asarray(converted(Image.fromarray(values), profile)), ", now sRGB"
        more.append(f"colour profile ({photo.colour.name}{became})")
        profile = b""
    options = _options(photo, kind, quality, values)
    data = WRITERS[kind](values, alpha, metadata, profile, options)
    return Written(data, tuple(dict.fromkeys([*lost, *more])))


def _options(photo: Photo, kind: str, quality: int | None, values: np.ndarray) -> dict:
    if kind == "WEBP" and quality is None:
        # What a lossy WebP makes of grey is off by one in green.
        grey = (values == values[..., :1]).all()
        if grey or (photo.kind == "WEBP" and photo.lossless):
            return {"lossless": True}
    return {"quality": quality or QUALITY[kind]} if kind in QUALITY else {}


def _fitted(photo: Photo, pixels: np.ndarray, kind: str):
    """Pixels and alpha as the format can have them, and what that lost."""
    lost, form = [], KINDS[kind]
    deep = pixels.dtype != np.uint8
    dtype = pixels.dtype if kind == "TIFF" else np.dtype(np.uint16 if deep else np.uint8)
    if deep and not (form.deep or kind == "HEIC"):
        lost.append(f"{photo.bits} bits a channel (now 8)")
        dtype = np.dtype(np.uint8)
    elif deep and kind == "HEIC" and photo.bits > 10:
        lost.append(f"{photo.bits} bits a channel (now 10)")
    values = to_dtype(pixels, dtype)
    alpha = None if photo.alpha is None else to_dtype(photo.alpha, dtype)
    if alpha is not None and not form.alpha:
        part = alpha[..., None].astype(np.float32) / np.iinfo(dtype).max
        values, alpha = np.rint(values * part).astype(dtype), None
        lost.append("transparency (now black)")
    if values.shape[-1] == 1 and not form.grey:
        values = np.repeat(values, 3, axis=-1)
    return values, alpha, lost


def _renewed(photo: Photo, values: np.ndarray, kind: str, note: str) -> tuple[Metadata, list[str]]:
    """The metadata of the result, as far as the format holds it."""
    was, holds, lost = photo.metadata, KINDS[kind].holds, []
    size = values.shape[:2]
    block = packet = b""
    if kinds.EXIF in holds:
        thumbnail = None if kind == "TIFF" else _thumbnails(values)
        try:
            block = (
                exif.renewed(was.exif, size, thumbnail, note) if was.exif else exif.minimal(note)
            )
        except exif.Damaged as error:
            lost.append(f"EXIF ({error})")
            block = exif.minimal(note)
        if kind == "JPEG" and len(block) > jpeg.MOST - len(jpeg.EXIF):
            lost.append("EXIF (too long for a JPEG)")
            block = exif.minimal(note)
    if was.xmp and kinds.XMP in holds:
        try:
            packet = xmp.renewed(was.xmp, size)
        except ValueError as error:
            lost.append(f"XMP ({error})")
        if kind == "JPEG" and len(packet) > jpeg.MOST - len(jpeg.XMP):
            lost.append("XMP (too long for a JPEG)")
            packet = b""
    for name, content in (
        (kinds.EXIF, was.exif),
        (kinds.XMP, was.xmp),
        (kinds.IPTC, iptc.records(was.photoshop)),
        (kinds.RESOLUTION, was.resolution),
        (kinds.COMMENT, was.comments),
        (kinds.TEXT, was.chunks),
    ):
        if content and name not in holds:
            lost.append(name)
    kept = {name: getattr(was, field) for name, field in _FIELDS.items() if name in holds}
    more = {_FIELDS[name]: content for name, content in kept.items()}
    return Metadata(exif=block, xmp=packet, **more), lost


_FIELDS = {
    kinds.IPTC: "photoshop",
    kinds.RESOLUTION: "resolution",
    kinds.COMMENT: "comments",
    kinds.TEXT: "chunks",
}


def _thumbnails(values: np.ndarray) -> Callable[[int], bytes]:
    """A maker of small JPEGs of a result that need not more than so many bytes."""

    def make(most: int) -> bytes:
        step = max(1, min(values.shape[0] // 240, values.shape[1] // 320))
        small = Image.fromarray(to_dtype(values[::step, ::step], np.dtype(np.uint8)).squeeze())
        small.thumbnail(THUMBNAIL)
        for quality in (85, 70, 50, 30):
            data = io.BytesIO()
            small.save(data, "JPEG", quality=quality)
            if data.tell() <= most:
                return data.getvalue()
        return b""

    return make


# --- one format each -----------------------------------------------------------------------------


def _image(values: np.ndarray, alpha: np.ndarray | None) -> Image.Image:
    """uint8 as Pillow holds it."""
    if alpha is not None:
        values = np.dstack([values, alpha])
    return Image.fromarray(
        np.ascontiguousarray(values.squeeze(-1) if values.shape[-1] == 1 else values)
    )


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    data = io.BytesIO()
    try:
        image.save(data, kind, **{name: value for name, value in options.items() if value})
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written as {kind}: {error}") from error
    return data.getvalue()


def _jpeg(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    extra = jpeg.photoshop_segments(metadata.photoshop)
    extra += b"".join(jpeg.segment(jpeg.COM, text) for text in metadata.comments)
    return _saved(
        _image(values, None),
        "JPEG",
        subsampling="4:4:4",
        exif=jpeg.EXIF + metadata.exif if metadata.exif else b"",
        xmp=metadata.xmp,
        icc_profile=profile,
        extra=extra,
        dpi=metadata.resolution,
        **options,
    )


def _png(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    if values.dtype == np.uint16:
        pixels = png.deep(values if alpha is None else np.dstack([values, alpha]))
    else:
        data = _saved(_image(values, alpha), "PNG", compress_level=png.LEVEL)
        pixels = b"".join(c.whole for c in png.chunks(data) if c.kind in (b"IHDR", b"IDAT"))
    head, rest = pixels[:25], pixels[25:]
    parts = [png.SIGNATURE, head]
    if profile:
        parts.append(png.profile_chunk(profile))
    if metadata.resolution:
        parts.append(png.resolution_chunk(metadata.resolution))
    if metadata.exif:
        parts.append(png.chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(png.text_chunk(png.XMP_KEY, metadata.xmp))
    if metadata.photoshop:
        parts.append(png.packed_profile(b"iptc", metadata.photoshop))
    parts += [png.text_chunk(b"Comment", png.utf8(text)) for text in metadata.comments]
    return b"".join([*parts, *metadata.chunks, rest, png.chunk(b"IEND", b"")])


def _tiff(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    try:
        return tiff_writer.written(values, alpha, metadata, profile, tiff.STRUCTURE)
    except ValueError as error:
        raise InputError(f"cannot be written as TIFF: {error}") from error


def _webp(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    more = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": profile}
    return _saved(_image(values, alpha), "WEBP", exact=True, **more, **options)


def _avif(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    # Pillow would write the block anew without the orientation, and lose what it does not know: it
    # is given another of that length, which then makes room.
    stand_in = b"II*\0\x08\0\0\0\0\0\0\0\0\0" + b"pdn_jax stands in for EXIF "
    stand_in = stand_in.ljust(len(metadata.exif), b".")[: len(metadata.exif)]
    more = {"exif": stand_in, "xmp": metadata.xmp, "icc_profile": profile}
    data = _saved(_image(values, alpha), "AVIF", subsampling="4:4:4", **more, **options)
    if metadata.exif and data.count(stand_in) != 1:
        raise AssertionError("Pillow changed the EXIF block of an AVIF")
    return data.replace(stand_in, metadata.exif) if metadata.exif else data


def _heic(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    heif = kinds.require("pillow_heif", "a HEIC file")
    full = values if alpha is None else np.dstack([values, alpha])
    mode = ("RGB" if alpha is None else "RGBA") + (";16" if values.dtype == np.uint16 else "")
    size = values.shape[1::-1]
    picture = heif.from_bytes(mode, size, np.ascontiguousarray(full).tobytes())
    info = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": profile}
    picture[0].info.update({name: value for name, value in info.items() if value})
    if profile:
        picture[0].info["icc_profile_type"] = "prof"
    data = io.BytesIO()
    try:
        picture.save(data, chroma=444, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot be written as HEIC: {error}") from error
    return data.getvalue()


def _bmp(values, alpha, metadata: Metadata, profile: bytes, options: dict) -> bytes:
    return _saved(_image(values, None), "BMP", dpi=metadata.resolution)


WRITERS = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "WEBP": _webp,
    "AVIF": _avif,
    "HEIC": _heic,
    "BMP": _bmp,
}
"""Format -> its writer."""
