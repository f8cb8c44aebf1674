"""Photo files of every format with all that they may hold: what `benchmarks.fuzz` begins with."""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from pdn_jax.photos import colour, exif, jpeg, png, tiff_writer, writer
from pdn_jax.photos.record import Metadata, Photo

NOTE = "a camera, version 1.0"

XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
xmlns:C="http://ns.google.com/photos/1.0/container/" tiff:Orientation="6" hdrgm:Version="1.0">
<C:Directory><rdf:Seq><rdf:li>a</rdf:li></rdf:Seq></C:Directory></rdf:Description></rdf:RDF>
</x:xmpmeta><?xpacket end="w"?>"""

IPTC = b"\x1c\x02\x78\x00\x07caption"


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """A dark picture, uint8 [h, w, 3]."""
    y, x = np.mgrid[:height, :width] / width
    base = np.stack([60 * x + 8, 40 * y + 12, 30 * (1 - x) + 5], -1)
    return (base + np.random.default_rng(0).normal(0, 2, base.shape)).clip(1, 255).astype(np.uint8)


def metadata() -> Metadata:
    """Something of each kind."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Maker"
    inner = tags.get_ifd(0x8769)
    inner[0x927C], inner[0xA002], inner[0xA001] = b"MAKERNOTE" * 20, 64, 1
    tags.get_ifd(0x8825)[1] = "N"
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    resources = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0"
    text = png.chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"At night" * 20))
    return Metadata(block, XMP, resources, (300.0, 300.0), (b"a comment",), (text,))


def seeds() -> dict[str, bytes]:
    """Name -> a sound file."""
    deep = scene().astype(np.uint16) * 257
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    pixels = {
        "colour": (scene(), None),
        "alpha": (scene(), alpha),
        "grey": (scene()[..., :1], None),
        "deep": (deep, None),
        "deep-alpha": (deep, alpha.astype(np.uint16) * 257),
        "deep-grey-alpha": (deep[..., :1], alpha.astype(np.uint16) * 257),
    }
    made = {}
    for kind in writer.WRITERS:
        for name, (values, transparent) in pixels.items():
            space = colour.from_codes(12, 13) if name in ("colour", "deep") else colour.SRGB
            photo = Photo(values, transparent, 8, "PNG", space, metadata())
            made[f"{kind}-{name}"] = writer.encoded(photo, values, kind, note=NOTE).data
    return made | _by_pillow() | _by_hand()


def _saved(image: Image.Image, form: str, **options) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def _by_pillow() -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pillow_jxl  # noqa: F401  registers the format
    image = Image.fromarray(scene())
    return {
        "GIF": _saved(image, "GIF"),
        "JXL": _saved(image, "JXL"),
        "JPEG-progressive": _saved(image, "JPEG", progressive=True),
        "JPEG-cmyk": _saved(image.convert("CMYK"), "JPEG"),
        "JPEG-behind": _saved(image, "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(400),
        "PNG-palette": _saved(image.quantize(16), "PNG", transparency=3),
        "PNG-text": _saved(image, "PNG", pnginfo=None),
        "TIFF-lzw": _saved(image, "TIFF", compression="tiff_lzw"),
        "TIFF-jpeg": _saved(image, "TIFF", compression="jpeg"),
        "TIFF-cmyk": _saved(image.convert("CMYK"), "TIFF"),
        "WEBP-lossless": _saved(image, "WEBP", lossless=True),
    }


def _by_hand() -> dict[str, bytes]:
    import imagecodecs
    import tifffile

    floats = io.BytesIO()
    values = scene() / np.float32(255)
    tifffile.imwrite(floats, values, photometric="rgb", compression="lzw", predictor=True)
    tiles = io.BytesIO()
    tifffile.imwrite(tiles, scene(), photometric="rgb", tile=(16, 16), bigtiff=True)
    gain = jpeg.segment(0xE2, jpeg.GAIN_MAP + bytes(8)) + jpeg.segment(0xE1, jpeg.XMP + XMP)
    plain = _saved(Image.fromarray(scene()), "JPEG")
    avif = imagecodecs.avif_encode(scene().astype(np.uint16) * 4, level=90, bitspersample=10)
    return {
        "TIFF-float": floats.getvalue(),
        "TIFF-tiles": tiles.getvalue(),
        "JPEG-gain-map": plain[:2] + gain + plain[2:] + plain,
        "AVIF-10": avif,
        "RAW": dng(),
        "TIFF-exif-behind": tiff_writer.written(
            scene(), None, Metadata(exif.minimal(NOTE)), b"", set()
        ),
    }


def dng() -> bytes:
    """A DNG: a mosaic of 16 bits, RGGB."""
    values = (scene()[..., 1].astype("<u2") * 200 + 1000).astype("<u2")
    tags = {
        254: (4, (0,)),
        256: (4, (values.shape[1],)),
        257: (4, (values.shape[0],)),
        258: (3, (16,)),
        259: (3, (1,)),
        262: (3, (32803,)),
        271: (2, b"Maker\0"),
        272: (2, b"Model\0"),
        273: (4, None),
        277: (3, (1,)),
        278: (4, (values.shape[0],)),
        279: (4, (values.nbytes,)),
        33421: (3, (2, 2)),
        33422: (1, b"\0\1\1\2"),
        50706: (1, b"\1\4\0\0"),
        50708: (2, b"Maker Model\0"),
        50714: (3, (1000,)),
        50717: (4, (60000,)),
        50721: (10, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)),
        50728: (5, (1, 1, 1, 1, 1, 1)),
        50778: (3, (21,)),
    }
    place = 8 + 2 + 12 * len(tags) + 4
    forms = {3: "H", 4: "I", 5: "I", 10: "i"}
    behind, heads = b"", b""
    for tag, (kind, value) in tags.items():
        if value is None:
            heads += struct.pack("<HHI4s", tag, kind, 1, b"HERE")
            continue
        content = (
            value
            if isinstance(value, bytes)
            else struct.pack(f"<{len(value)}{forms[kind]}", *value)
        )
        count = len(value) // 2 if kind in (5, 10) else len(value)
        if len(content) > 4:
            at = struct.pack("<I", place + len(behind))
            behind += content + b"\0" * (len(content) % 2)
            content = at
        heads += struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0")
    heads = heads.replace(b"HERE", struct.pack("<I", place + len(behind)))
    start = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    return start + heads + bytes(4) + behind + values.tobytes()
