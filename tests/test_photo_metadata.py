"""Metadata: every byte stays but for what the result would make untrue; what goes is named."""

import io
import struct
import zlib

import numpy as np
import pytest
from photo_files import (
    CAMERA,
    CONTAINER,
    GAIN,
    IPTC,
    ITEM,
    RESOURCES,
    camera_exif,
    camera_jpeg,
    chunk_kinds,
    jpeg_bytes,
    maker_note_holds,
    packet,
    photo_of,
    png_bytes,
    scene,
)
from PIL import Image

from pdn_jax.photos import exif, iptc, jpeg, png, writer, xmp
from pdn_jax.photos.reader import from_bytes
from pdn_jax.photos.record import Metadata

NOTE = "pdn_jax 0.1.0"
BRIGHT = np.full((96, 64, 3), 200, np.uint8)


def no_thumbnail(most):
    return b""


def result(data, kind, name="a", **options):
    """A photograph's own pixels, brightened by four, as another file."""
    photo = from_bytes(data, name)
    pixels = np.minimum(photo.pixels, photo.pixels.dtype.type(60)) * 4
    return writer.encoded(photo, pixels, kind, note=NOTE, **options)


def thumbnail_in(data):
    """What IFD1 of a block points to."""
    block = exif.Block(data)
    small = block.directory(block.unpack("I", block.next_pointer(block.first)))
    place, length = (block.numbers(small[tag])[0] for tag in (0x0201, 0x0202))
    return data[place : place + length]


# --- EXIF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
def test_exif_keeps_every_byte_but_those_that_change(order):
    thumbnail = jpeg_bytes(scene(24, 32))
    before = camera_exif(order, 6, thumbnail)
    after = exif.renewed(before, (96, 64), no_thumbnail, NOTE)
    assert exif.orientation(before) == 6
    assert exif.orientation(after) == 1
    block, main, inner = exif.directories(after)
    assert block.numbers(inner[0xA002]) == [64]
    assert block.numbers(inner[0xA003]) == [96]
    assert block.content(main[0x0131]) == NOTE.encode() + b"\0"
    assert maker_note_holds(before)
    assert maker_note_holds(after)
    changed = [i for i in range(len(before)) if before[i] != after[i]]
    start = before.index(thumbnail)
    allowed = {*range(4, 8), *range(start, start + len(thumbnail))}
    _, old_main, old_inner = exif.directories(before)
    for entry in (old_main[0x0112], old_inner[0xA002], old_inner[0xA003]):
        allowed |= set(range(entry.head, entry.head + 12))
    pointer = exif.Block(before).next_pointer(8)
    assert set(changed) <= allowed | set(range(pointer, pointer + 4))
    assert thumbnail not in after


def test_thumbnail_is_made_anew_where_it_fits_and_dropped_where_not():
    before = camera_exif(thumbnail=b"\xff\xd8" + b"dark" * 800)
    seen = []

    def bright(most):
        seen.append(most)
        return b"\xff\xd8bright\xff\xd9"

    after = exif.renewed(before, (96, 64), bright, NOTE)
    assert seen == [3202]
    assert thumbnail_in(after) == b"\xff\xd8bright\xff\xd9"
    assert b"dark" not in after
    dropped = exif.renewed(before, (96, 64), no_thumbnail, NOTE)
    block = exif.Block(dropped)
    assert block.unpack("I", block.next_pointer(block.first)) == 0
    assert b"dark" not in dropped


def test_thumbnail_of_the_result_is_bright():
    data = camera_jpeg(scene(480, 640))
    after = from_bytes(result(data, "JPEG").data, "b").metadata.exif
    with Image.open(io.BytesIO(thumbnail_in(after))) as thumbnail:
        assert max(thumbnail.size) <= 160
        assert np.asarray(thumbnail).mean() > 2.5 * scene(480, 640).mean()


@pytest.mark.parametrize("software", [b"", b"Ver.1.00"])
def test_software_is_added_once(software):
    once = exif.renewed(camera_exif(software=software), (9, 9), None, NOTE)
    twice = exif.renewed(once, (9, 9), None, NOTE)
    assert twice == once
    block, main, _ = exif.directories(once)
    wanted = (software + b"; " if software else b"") + NOTE.encode() + b"\0"
    assert block.content(main[0x0131]) == wanted
    assert list(main) == sorted(main)


def test_a_photo_without_exif_gets_the_note_alone():
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"):
        data = writer.encoded(photo_of(scene()), scene(), kind, note=NOTE).data
        block = from_bytes(data, "a").metadata.exif
        inner, main, _ = exif.directories(block)
        assert inner.content(main[0x0131]) == NOTE.encode() + b"\0"


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"junk" * 9])
def test_damaged_exif_is_named_and_replaced(data):
    assert exif.orientation(data) == 1
    with pytest.raises(exif.Damaged):
        exif.renewed(data, (9, 9), None, NOTE)
    if data:
        photo = photo_of(scene(), metadata=Metadata(exif=data))
        written = writer.encoded(photo, scene(), "JPEG", note=NOTE)
        assert any("EXIF" in what for what in written.lost)
        assert from_bytes(written.data, "a").metadata.exif == exif.minimal(NOTE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC"])
def test_exif_goes_on_in_every_format(kind):
    """The maker note's own offset holds; what IFD0 says stays; and once more through a JPEG."""
    written = result(camera_jpeg(scene()), kind)
    after = from_bytes(written.data, "a")
    block, main, inner = exif.directories(after.metadata.exif)
    assert maker_note_holds(after.metadata.exif)
    assert block.content(main[0x010F]) == b"Camera & Co\0"
    assert exif.orientation(after.metadata.exif) == 1
    assert block.numbers(inner[0xA002]) == [64]
    again = from_bytes(result(written.data, "JPEG").data, "b")
    assert maker_note_holds(again.metadata.exif)
    if kind == "TIFF":  # in the file itself, where readers look for it
        assert maker_note_holds(written.data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC"])
def test_results_are_upright_once(kind, orientation):
    y, x = np.mgrid[:64, :96]
    corner = np.where((x < 30) & (y < 20), 200, 20).astype(np.uint8)
    data = camera_jpeg(np.dstack([corner] * 3), exif=camera_exif(orientation=orientation))
    upright = from_bytes(data, "a").pixels
    result = writer.encoded(from_bytes(data, "a"), upright, kind, note=NOTE)
    back = from_bytes(result.data, "b").pixels
    assert back.shape == upright.shape
    assert abs(back.astype(int) - upright).mean() < 3


# --- XMP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [packet('tiff:Orientation="6"'), packet(elements="<tiff:Orientation>6</tiff:Orientation>")],
)
def test_xmp_orientation_is_reset_and_the_rest_kept(text):
    assert xmp.orientation(text) == 6
    after = xmp.renewed(text, (96, 64))
    assert xmp.orientation(after) == 1
    assert len(after) == len(text)
    assert "Zoë".encode() in after


def test_xmp_promises_nothing_that_is_gone():
    spaces = f'xmlns:hdrgm="{GAIN}" xmlns:Container="{CONTAINER}" xmlns:Item="{ITEM}" '
    spaces += f'xmlns:GCamera="{CAMERA}"'
    attributes = 'hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"'
    elements = """<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">
      <Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>
      <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap"
      Item:Length="99"/></rdf:li></rdf:Seq></Container:Directory>"""
    before = packet(attributes, elements, spaces)
    assert xmp.promises(before) == ["gain map", "motion video"]
    after = xmp.renewed(before, (96, 64))
    for word in (b"hdrgm", b"Container", b"Item:", b"GCamera", b"google", b"MotionPhoto"):
        assert word not in after
    assert "Zoë".encode() in after
    assert xmp.promises(after) == []


@pytest.mark.parametrize("text", [b"<x>", b"\xff\xfe<", packet().replace(b"</rdf:RDF>", b"")])
def test_damaged_xmp_is_named(text):
    photo = photo_of(scene(), metadata=Metadata(xmp=text))
    written = writer.encoded(photo, scene(), "JPEG")
    assert any("XMP" in what for what in written.lost)
    assert from_bytes(written.data, "a").metadata.xmp == b""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC"])
def test_xmp_goes_on_in_every_format(kind):
    text = packet('tiff:Orientation="1"')
    after = from_bytes(result(camera_jpeg(scene(), xmp=text), kind).data, "a")
    assert after.metadata.xmp.rstrip(b"\0") == text


# --- IPTC, comments, resolution, text ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_iptc_goes_on_without_the_dark_copy(kind):
    after = from_bytes(result(camera_jpeg(scene()), kind).data, "a")
    assert after.metadata.photoshop == RESOURCES + b"\0" * (len(RESOURCES) % 2)
    assert iptc.records(after.metadata.photoshop) == IPTC
    again = from_bytes(result(result(camera_jpeg(scene()), kind).data, "JPEG").data, "b")
    assert iptc.records(again.metadata.photoshop) == IPTC


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_resolution_goes_on(kind):
    after = from_bytes(result(camera_jpeg(scene()), kind).data, "a").metadata.resolution
    assert after == pytest.approx((240, 240), abs=0.02)


def test_comments_go_on():
    assert from_bytes(result(camera_jpeg(scene()), "JPEG").data, "a").metadata.comments == (
        b"a comment",
    )
    data = result(camera_jpeg(scene()), "PNG").data
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["Comment"] == "a comment"


def test_text_of_a_png_keeps_its_bytes():
    texts = png.chunk(b"tEXt", b"Author\0M\xe9") + png.chunk(
        b"zTXt", b"Title\0\0" + zlib.compress(b"At night")
    )
    texts += png.chunk(b"iTXt", b"Description\0\0\0de\0\0" + "Nächtlich".encode())
    private = png.chunk(b"vpAg", b"safe to copy") + png.chunk(b"prVt", b"safe to copy")
    unsafe = png.chunk(b"prIV", b"of the old pixels")
    written = result(png_bytes(scene(), texts + private + unsafe), "PNG")
    assert texts in written.data
    assert b"prVt" in chunk_kinds(written.data)
    assert b"prIV" not in chunk_kinds(written.data)
    assert "chunk prIV" in written.lost


def test_what_a_format_cannot_hold_is_named():
    data = camera_jpeg(scene(), xmp=packet())
    assert result(data, "JPEG").lost == ()
    assert result(data, "PNG").lost == ()
    assert result(data, "TIFF").lost == ("comment",)
    assert result(data, "WEBP").lost == ("IPTC", "resolution", "comment")
    assert result(data, "BMP").lost == ("EXIF", "XMP", "IPTC", "comment")
    text = png_bytes(scene(), png.chunk(b"tEXt", b"Author\0M"))
    assert result(text, "JPEG").lost == ("text",)


def test_too_long_for_a_jpeg_is_named():
    long = packet('dc:rights="' + "x" * 70000 + '"')
    exif_block = camera_exif(maker=b"NOTE" * 20000)
    photo = photo_of(scene(), metadata=Metadata(exif_block, long))
    written = writer.encoded(photo, scene(), "JPEG", note=NOTE)
    assert written.lost == ("EXIF (too long for a JPEG)", "XMP (too long for a JPEG)")
    assert writer.encoded(photo, scene(), "PNG", note=NOTE).lost == ()


def test_image_magicks_way_to_keep_profiles_in_a_png_is_read():
    block = camera_exif()
    chunks = png.packed_profile(b"exif", b"Exif\0\0" + block) + png.packed_profile(
        b"iptc", RESOURCES
    )
    found = from_bytes(png_bytes(scene(), chunks), "a")
    assert found.metadata.exif == block
    assert iptc.records(found.metadata.photoshop) == IPTC
    assert found.pixels.shape[:2] == (96, 64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC", "BMP"])
def test_strip_drops_all(kind):
    written = result(camera_jpeg(scene(), xmp=packet()), kind, strip=True)
    assert written.lost == ()
    after = from_bytes(written.data, "a").metadata
    resolution = after.resolution if kind != "BMP" else None  # which is written anyhow
    assert after._replace(resolution=resolution) == Metadata()
    for word in (b"Camera", b"caption", b"pdn_jax", b"Zo"):
        assert word not in written.data


# --- what hangs on behind the picture ------------------------------------------------------------


def mpf(count):
    """A multi-picture segment that lists so many (CIPA DC-007)."""
    entry = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, count)
    return jpeg.segment(0xE2, jpeg.MPF + b"II*\0" + struct.pack("<IH", 8, 2) + entry + bytes(4))


@pytest.mark.parametrize(
    ("more", "behind", "text", "named"),
    [
        (mpf(2), jpeg_bytes(scene()), b"", ("1 further picture",)),
        (mpf(3), jpeg_bytes(scene()) * 2, b"", ("2 further pictures",)),
        (
            mpf(2) + jpeg.segment(0xE2, jpeg.GAIN_MAP + b"\0\0\0\0\0"),
            jpeg_bytes(scene()),
            b"",
            ("gain map",),
        ),
        (
            mpf(2),
            jpeg_bytes(scene()),
            packet('hdrgm:Version="1.0"', "", f'xmlns:hdrgm="{GAIN}"'),
            ("gain map",),
        ),
        (b"", b"\0\0\0\x18ftypmp42" + bytes(99), b"", ("motion video",)),
        (b"", b"trailer of an editor", b"", ("20 bytes behind the picture",)),
        (jpeg.segment(0xE1, jpeg.EXTENDED + bytes(40)), b"", b"", ("extended XMP",)),
        (jpeg.segment(0xE5, b"maker's own"), b"", b"", ("segment APP5",)),
        (
            jpeg.segment(0xEB, b"JP" + bytes(10) + b"jumbc2pa"),
            b"",
            b"",
            ("content credentials (C2PA), which are for the original",),
        ),
    ],
)
def test_the_main_picture_is_enhanced_and_what_goes_is_named(more, behind, text, named):
    photo = from_bytes(camera_jpeg(scene(), text, None, behind, more), "a.jpg")
    assert photo.pixels.shape == (96, 64, 3)
    assert photo.lost == named
    written = writer.encoded(photo, photo.pixels, "JPEG", note=NOTE)
    assert written.lost == named
    after = from_bytes(written.data, "b.jpg")
    assert after.lost == ()
    assert GAIN.encode() not in written.data
    assert b"MPF\0" not in written.data
