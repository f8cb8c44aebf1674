"""One reader for each format: bytes to pixels, colours and metadata; faults as they come."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms

from pdn_jax.photos import bmff, colour, exif, icc, jpeg, kinds, pixels, png, raw, tiff, xmp
from pdn_jax.photos.colour import SRGB, Colour
from pdn_jax.photos.pixels import UPRIGHT, Decoded
from pdn_jax.photos.record import Metadata, Photo, to_dtype


class Fault(ValueError):
    """Why a sound file is not read; the message goes on after the file's name."""


def most_pixels() -> int:
    """Beyond this a file is taken for a trap: twice Pillow's own limit for a warning."""
    return 2 * Image.MAX_IMAGE_PIXELS


def _finished(
    decoded: Decoded, bits: int, kind: str, metadata: Metadata, turn: int, space, **more
) -> Photo:
    """Upright, and CMYK turned into sRGB; `space` gives the colours for a number of channels."""
    base, alpha = decoded
    base = UPRIGHT[turn](base)
    alpha = None if alpha is None else np.ascontiguousarray(UPRIGHT[turn](alpha))
    notes, lost = tuple(more.pop("notes", ())), tuple(more.pop("lost", ()))
    profile = more.pop("profile", b"")
    if base.shape[-1] == 4:
        base, stated = _inks_to_srgb(base, profile), SRGB
        notes += ("CMYK: the result is sRGB",)
    else:
        try:
            stated = space(base.shape[-1])
        except colour.Unknown as error:
            if not isinstance(error, colour.Unusable):
                raise
            stated = SRGB
            notes += (f"{error}: taken for sRGB",)
    base = np.ascontiguousarray(base)
    return Photo(base, alpha, bits, kind, stated, metadata, notes=notes, lost=lost, **more)


def _inks_to_srgb(inks: np.ndarray, profile: bytes) -> np.ndarray:
    if inks.dtype != np.uint8:
        inks = to_dtype(inks, np.dtype(np.uint8))
    image = Image.fromarray(inks, "CMYK")
    if icc.space(profile) == "CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            image = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            pass
    return np.asarray(image.convert("RGB"))


def _by_exif(profile: bytes, block: bytes):
    """The colours by profile, else by EXIF."""

    def space(channels: int) -> Colour:
        if profile:
            return colour.from_icc(profile, channels)
        return colour.adobe_rgb() if channels == 3 and exif.says_adobe_rgb(block) else SRGB

    return space


def _turn(metadata: Metadata) -> int:
    """Orientation by EXIF, by XMP where EXIF has none."""
    turn = exif.orientation(metadata.exif)
    return turn if turn != 1 else xmp.orientation(metadata.xmp)


def _still(image: Image.Image) -> None:
    # MPO is a JPEG with further pictures behind the first, as many phones write it.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames != 1:
        raise Fault(f"is animated, {frames} frames: save one of them as a PNG")


def _jpeg(data: bytes, name: str) -> Photo:
    metadata, lost = jpeg.metadata(data)
    with pixels.opened(data, ("JPEG",)) as image:
        profile = image.info.get("icc_profile", b"")
        decoded = pixels.decoded(image, data)
    space = _by_exif(profile, metadata.exif)
    more = {"profile": profile, "lost": lost, "lossless": False}
    return _finished(decoded, 8, "JPEG", metadata, _turn(metadata), space, **more)


def _png(data: bytes, name: str) -> Photo:
    metadata, lost = png.metadata(data)
    parts = {kind: content for kind, content, _ in png.chunks(data)}
    bare, profile = png.bare(data), png.profile(parts.get(b"iCCP", b""))
    head = parts.get(b"IHDR", b"").ljust(13, b"\0")
    bits, deep_grey = head[8], head[8:10] == b"\x10\x04"
    if deep_grey:  # the same bytes as four channels of 8 bits, which Pillow keeps whole
        bare = png.SIGNATURE + png.chunk(b"IHDR", head[:8] + b"\x08\x06" + head[10:]) + bare[33:]
    with pixels.opened(bare, ("PNG",)) as image:
        _still(image)
        decoded = pixels.decoded(image, bare)
    if deep_grey:
        high = decoded.pixels.astype(np.uint16)
        grey, low = high[..., 0] << 8 | high[..., 1], decoded.alpha
        decoded = Decoded(grey[..., None], high[..., 2] << 8 | low)

    def space(channels: int) -> Colour:
        stated = png.stated_colour(data, channels, profile)
        wide = stated == SRGB and b"sRGB" not in parts and exif.says_adobe_rgb(metadata.exif)
        return colour.adobe_rgb() if wide and channels == 3 else stated

    return _finished(decoded, max(bits, 8), "PNG", metadata, _turn(metadata), space, lost=lost)


def _tiff(data: bytes, name: str) -> Photo:
    metadata, lost = tiff.metadata(data)
    decoded, bits, further = tiff.decoded(data, name, most_pixels())
    lost += [f"{further} further page(s)"] if further else []
    profile = tiff.profile(data)
    more = {"profile": profile, "lost": lost}

    def space(channels: int) -> Colour:
        return tiff.stated_colour(data, channels, profile)

    return _finished(decoded, max(bits, 8), "TIFF", metadata, 1, space, **more)


def _plain(kind: str):
    """A reader of what Pillow reads as a whole: WebP, BMP and GIF."""

    def read(data: bytes, name: str) -> Photo:
        with pixels.opened(data, (kind,)) as image:
            _still(image)
            info = image.info
            comment = (info["comment"],) if isinstance(info.get("comment"), bytes) else ()
            metadata = Metadata(
                info.get("exif", b"").removeprefix(b"Exif\0\0"),
                info.get("xmp", b""),
                resolution=info.get("dpi"),
                comments=comment if kind == "GIF" else (),
            )
            decoded = pixels.decoded(image, data)
            profile = info.get("icc_profile", b"")
        space = _by_exif(profile, metadata.exif)
        if kind == "BMP":
            space = _bitmap_space(data)
        lossless = kind != "WEBP" or b"VP8L" in riff_chunks(data)
        turn = _turn(metadata) if kind == "WEBP" else 1
        return _finished(decoded, 8, kind, metadata, turn, space, lossless=lossless)

    return read


def riff_chunks(data: bytes) -> list[bytes]:
    """The names of the chunks of a WebP, in order."""
    names, place = [], 12
    while place + 8 <= len(data):
        names.append(data[place : place + 4])
        size = struct.unpack_from("<I", data, place + 4)[0]
        place += 8 + size + size % 2
    return names


def _bitmap_space(data: bytes):
    """The colours that a BMP of version 4 or 5 states (BITMAPV5HEADER)."""

    def space(channels: int) -> Colour:
        size = struct.unpack_from("<I", data, 14)[0]
        if size < 108:
            return SRGB
        kind = data[70:74][::-1]
        if kind == b"MBED" and size >= 124:
            start, length = struct.unpack_from("<II", data, 14 + 112)
            return colour.from_icc(data[14 + start : 14 + start + length], channels)
        if kind == b"LINK":
            raise colour.Unknown("its colour profile is in another file")
        if kind != b"\0\0\0\0" or channels == 1:
            return SRGB
        ends = np.array(struct.unpack_from("<9i", data, 74)).reshape(3, 3) / 2**30
        powers = np.array(struct.unpack_from("<3I", data, 110)) / 65536
        if (ends.sum(axis=1) <= 0).any() or not (powers > 0).all():
            return SRGB
        white = ends.sum(axis=0)
        points = [tuple(part[:2] / part.sum()) for part in (white, *ends)]
        return colour.from_gamma(float(powers.mean()), tuple(points))

    return space


def _avif(data: bytes, name: str) -> Photo:
    boxes = bmff.said(data)
    with pixels.opened(data, ("AVIF",)) as image:
        _still(image)
        turn = Image.Image.getexif(image).get(exif.ORIENTATION, 1)
        profile = image.info.get("icc_profile", b"")
        if boxes.bits > 8:
            codecs = kinds.require("imagecodecs", name)
            decoded = _deep(codecs.avif_decode(data), boxes.bits)
        else:
            decoded = pixels.decoded(image, data)
    metadata = Metadata(boxes.exif, boxes.xmp)

    def space(channels: int) -> Colour:
        if profile:
            return colour.from_icc(profile, channels)
        return (
            colour.from_codes(*boxes.codes) if boxes.codes else _by_exif(b"", boxes.exif)(channels)
        )

    more = {"lost": boxes.further, "lossless": False, "profile": profile}
    turn = turn if turn in UPRIGHT else 1
    return _finished(decoded, boxes.bits, "AVIF", metadata, turn, space, **more)


def _deep(values: np.ndarray, bits: int) -> Decoded:
    """10 or 12 bits as 16, white at the top; the last of 2 or 4 channels is alpha."""
    if values.dtype == np.uint16:
        top = (1 << bits) - 1
        values = ((values.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    values = values if values.ndim == 3 else values[..., None]
    if values.shape[-1] in (2, 4):
        return Decoded(values[..., :-1], values[..., -1])
    return Decoded(values, None)


def _heic(data: bytes, name: str) -> Photo:
    heif = kinds.require("pillow_heif", name)
    picture = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    info = picture.info
    if picture.size[0] * picture.size[1] > most_pixels():
        raise Image.DecompressionBombError
    bits = info.get("bit_depth", 8)
    values = np.array(picture)
    if values.dtype == np.uint16:
        values >>= 16 - bits  # as it lies in the file, white 2^bits − 1
    decoded = _deep(values, bits)
    if picture.premultiplied_alpha and decoded.alpha is not None:
        decoded = decoded._replace(pixels=tiff.divided(*decoded))
    block = (info.get("exif") or b"").removeprefix(b"Exif\0\0")
    metadata = Metadata(block, info.get("xmp") or b"")
    profile, codes = info.get("icc_profile") or b"", info.get("nclx_profile")

    def space(channels: int) -> Colour:
        if profile:
            return colour.from_icc(profile, channels)
        if codes:
            return colour.from_codes(codes["color_primaries"], codes["transfer_characteristics"])
        return _by_exif(b"", block)(channels)

    lost = list(bmff.said(data).further)
    lost += ["depth map"] if info.get("depth_images") and "depth map" not in lost else []
    if len(picture_list := heif.open_heif(io.BytesIO(data))) > 1:
        lost.append(f"{len(picture_list) - 1} further picture(s)")
    # libheif has turned it; EXIF's orientation is to be ignored there (ISO/IEC 23008-12, annex A).
    return _finished(
        decoded, bits, "HEIC", metadata, 1, space, lost=lost, lossless=False, profile=profile
    )


def _jxl(data: bytes, name: str) -> Photo:
    kinds.require("pillow_jxl", name)
    codecs = kinds.require("imagecodecs", name)
    with pixels.opened(data, ("JXL",)) as image:
        block = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
        profile = image.info.get("icc_profile", b"")
        rough = np.asarray(image)  # Pillow has 8 bits of colours
    values = codecs.jpegxl_decode(data)
    if values.shape[:2] != rough.shape[:2]:
        raise Fault(f"is animated, {len(values)} frames: save one of them as a PNG")
    bits = 8 * values.itemsize
    if values.dtype == np.uint16:
        bits = _depth(int(values.max()), int(rough.max()), 8 * rough.itemsize)
        decoded = _deep(values, bits)
    else:
        values = values if values.ndim == 3 else values[..., None]
        values = tiff.scaled(values, bits)
        split = values.shape[-1] in (2, 4)
        decoded = Decoded(values[..., :-1], values[..., -1]) if split else Decoded(values, None)
    packet, lost = bmff.jxl_xmp(data, codecs.brotli_decode)
    metadata, space = Metadata(block, packet), _by_exif(profile, b"")
    # libjxl has turned it.
    return _finished(decoded, bits, "JXL", metadata, 1, space, profile=profile, lost=lost)


def _depth(brightest: int, roughly: int, known: int) -> int:
    """Bits of samples that lie as in the file, by the same one in a known number of bits."""
    white = max(brightest, 1) / max(roughly, 1) * ((1 << known) - 1)
    return min(16, max(9, round(np.log2(white + 1))))


def _raw(data: bytes, name: str) -> Photo:
    values = raw.decoded(data, name, most_pixels())
    metadata, lost = tiff.metadata(data, raw=True)
    notes = ("developed from linear light, white balance of the camera",)
    return Photo(values, None, 16, "RAW", SRGB, metadata, notes=notes, lost=tuple(lost))


READERS = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "WEBP": _plain("WEBP"),
    "BMP": _plain("BMP"),
    "GIF": _plain("GIF"),
    "AVIF": _avif,
    "HEIC": _heic,
    "JXL": _jxl,
    "RAW": _raw,
}
"""Format -> its reader."""
