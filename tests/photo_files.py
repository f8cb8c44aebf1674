"""Photo files for tests, made by hand: what cameras, phones and editors put around their pixels."""

import io
import struct

import numpy as np
from PIL import Image

from pdn_jax.photos import colour, jpeg, png
from pdn_jax.photos.record import Metadata, Photo

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
GAIN = "http://ns.adobe.com/hdr-gain-map/1.0/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
ITEM = "http://ns.google.com/photos/1.0/container/item/"
CAMERA = "http://ns.google.com/photos/1.0/camera/"


def scene(height=64, width=96, seed=0):
    """A dark picture with smooth colours and some noise, uint8 [h, w, 3]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    base = np.stack([40 * x + 8, 30 * y + 12, 25 * (1 - x) + 5], -1)
    return (
        (base + np.random.default_rng(seed).normal(0, 2, base.shape)).clip(1, 255).astype(np.uint8)
    )


def camera_exif(order="<", orientation=6, thumbnail=b"", software=b"", maker=b"", size=(5, 7)):
    """An EXIF block by hand: IFD0, Exif with a maker note, IFD1 with a thumbnail.

    The maker note begins with its own absolute offset, and ends with what that points to.
    """
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    pack = lambda form, *values: struct.pack(order + form, *values)  # noqa: E731
    make = b"Camera & Co\0"
    main = [(0x010F, 2, len(make), make), (0x0112, 3, 1, pack("HH", orientation, 0))]
    if software:
        main.append((0x0131, 2, len(software) + 1, software + b"\0"))
    main.append((0x8769, 4, 1, b"EXIF"))
    note = maker or b"NOTE" + b"????" + b"what the offset points to"
    inner = [(0xA001, 3, 1, pack("HH", 1, 0)), (0xA002, 4, 1, pack("I", size[1]))]
    inner += [(0xA003, 3, 1, pack("HH", size[0], 0)), (0x927C, 7, len(note), note)]
    small = [(0x0201, 4, 1, b"THUM"), (0x0202, 4, 1, pack("I", len(thumbnail)))]

    def directory(entries, start, following):
        entries = sorted(entries)
        place = start + 2 + 12 * len(entries) + 4
        heads, values = pack("H", len(entries)), b""
        for tag, kind, count, value in entries:
            heads += pack("HHI", tag, kind, count)
            if len(value) > 4:
                heads += pack("I", place + len(values))
                values += value + b"\0" * (len(value) % 2)
            else:
                heads += value
        whole = heads + b"NEXT" + values
        return whole.replace(
            b"NEXT", pack("I", following(start + len(whole)) if following else 0), 1
        )

    first = directory(main, 8, (lambda end: end) if thumbnail else None)
    second = directory(small, 8 + len(first), None) if thumbnail else b""
    start = 8 + len(first) + len(second)
    third = directory(inner, start, None)
    block = head + first + second + third + thumbnail
    block = block.replace(b"EXIF", pack("I", start), 1)
    block = block.replace(b"THUM", pack("I", len(block) - len(thumbnail)), 1)
    block = bytearray(block)
    if not maker:
        place = block.index(b"NOTE")
        struct.pack_into(order + "I", block, place + 4, place + 8)
    return bytes(block)


def maker_note_holds(block):
    """Whether the maker note's own offset still points to its text."""
    place = block.index(b"NOTE")
    order = "<" if block[:2] == b"II" else ">"
    (points,) = struct.unpack_from(order + "I", block, place + 4)
    return block[points:].startswith(b"what the offset points to")


def packet(attributes="", elements="", spaces=""):
    """An XMP packet with these in its one description."""
    text = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">
 <rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
   xmlns:dc="http://purl.org/dc/elements/1.1/" {spaces} {attributes}>
  <dc:creator><rdf:Seq><rdf:li>Zoë</rdf:li></rdf:Seq></dc:creator>{elements}
 </rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
    return text.encode()


IPTC = b"\x1c\x02\x78\x00\x07caption"
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
DARK_COPY = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 4) + b"dark"


def jpeg_bytes(pixels, segments=b"", **options):
    """A JPEG with these segments behind its head."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95, subsampling=0, **options)
    return data.getvalue()[:2] + segments + data.getvalue()[2:]


def camera_jpeg(pixels, xmp=b"", exif=None, behind=b"", more=b""):
    """A JPEG as from a camera and an editor: EXIF, XMP, IPTC with a dark copy, a comment, 240 dpi."""
    dark = jpeg_bytes(pixels[::4, ::4])
    exif = camera_exif(thumbnail=dark) if exif is None else exif
    segments = jpeg.segment(0xE1, jpeg.EXIF + exif)
    segments += jpeg.segment(0xE1, jpeg.XMP + xmp) if xmp else b""
    segments += jpeg.segment(0xED, jpeg.PHOTOSHOP + RESOURCES + DARK_COPY)
    segments += jpeg.segment(0xFE, b"a comment") + more
    return jpeg_bytes(pixels, segments, dpi=(240, 240)) + behind


def png_bytes(pixels, chunks=b"", **options):
    """A PNG with these chunks behind its head."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", **options)
    return data.getvalue()[:33] + chunks + data.getvalue()[33:]


def deep_scene(height=64, width=96, channels=3):
    """A dark picture of 16 bits that has more levels than 8 bits have."""
    y, x = np.mgrid[:height, :width]
    ramp = 600 + 37 * x + 11 * y
    return np.stack([ramp * (1 + k / 4) for k in range(channels)], -1).astype(np.uint16)


def photo_of(pixels, alpha=None, space=colour.SRGB, kind="PNG", metadata=Metadata()):  # noqa: B008
    """A `Photo` of these pixels."""
    bits = pixels.itemsize * 8
    return Photo(pixels, alpha, bits, kind, space, metadata)


def chunk_kinds(data):
    """The kinds of a PNG's chunks in order."""
    return [kind for kind, _, _ in png.chunks(data)]


def dng_head():
    """The least of a DNG by which it is recognised: a directory with its version."""
    entry = struct.pack("<HHI", 50706, 1, 4) + b"\1\4\0\0"
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
