"""Encoded photos in memory: the same rules as for files, and which of them need no decoding rules."""

import io
import struct
import zlib

import numpy as np
import pytest
from icc import BLUE, GREEN, RED, profile
from PIL import Image, ImageCms, ImageFile
from PIL.PngImagePlugin import PngInfo
from test_photo_colour import deep_png

from pdn_jax import photo
from pdn_jax.types import InputError

COLOUR = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
IMAGE = Image.fromarray(COLOUR)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WIDE = profile(b"RGB ", {"r": GREEN, "g": RED, "b": BLUE})


def coded(form="PNG", image=IMAGE, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_chunk(place, kind, content):
    """A PNG with one more chunk, at this place: 33 is ahead of the pixels, -12 behind them."""
    check, data = struct.pack(">I", zlib.crc32(kind + content)), coded()
    return data[:place] + struct.pack(">I", len(content)) + kind + content + check + data[place:]


# --- decode ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_bytes_give_what_a_file_of_them_gives(tmp_path, form):
    (tmp_path / "a").write_bytes(coded(form))
    np.testing.assert_array_equal(photo.decode(coded(form), "b"), photo.read(tmp_path / "a"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"text" * 9, "not a photo"),
        (coded()[:300], "damaged or cut short"),
        (coded(image=IMAGE.crop((0, 0, 15, 16))), "15×16"),
        (coded("GIF", save_all=True, append_images=[Image.new("RGB", (24, 20))]), "animated"),
    ],
)
def test_refusals_begin_with_the_name(data, reason):
    with pytest.raises(InputError, match=rf"^shard 3, record 5 .*{reason}[^\n]*: ") as caught:
        photo.decode(data, "shard 3, record 5")
    assert "\n" not in str(caught.value)


# --- is_plain --------------------------------------------------------------------------------

TEXT = PngInfo()
TEXT.add_text("Software", "a camera")
TURNED = PngInfo()
TURNED.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')

PLAIN = {
    "png": coded(),
    "png with text": coded(pnginfo=TEXT),
    "png of srgb": coded(icc_profile=SRGB),
    "upright png": coded(exif=turned(1)),
    "jpeg": coded("JPEG"),
    "progressive jpeg": coded("JPEG", progressive=True, subsampling=0),
    "jpeg of srgb": coded("JPEG", icc_profile=SRGB),
    "upright jpeg": coded("JPEG", exif=turned(1)),
}
NOT_PLAIN = {
    "nothing": b"",
    "text": b"text" * 9,
    "grey png": coded(image=IMAGE.convert("L")),
    "grey jpeg": coded("JPEG", image=IMAGE.convert("L")),
    "palette": coded(image=IMAGE.quantize(8)),
    "opaque": coded(image=IMAGE.convert("RGBA")),
    "alpha": coded(image=Image.fromarray(np.dstack([COLOUR, COLOUR[..., 0]]))),
    "transparent colour": coded(transparency=tuple(map(int, COLOUR[3, 3]))),
    "cmyk": coded("JPEG", image=IMAGE.convert("CMYK")),
    "16 bits": deep_png(COLOUR.astype(np.uint16) * 256 + 200),
    "turned jpeg": coded("JPEG", exif=turned(6)),
    "turned png": coded(exif=turned(3)),
    "turned by xmp": coded(pnginfo=TURNED),
    "turned behind the pixels": with_chunk(-12, b"eXIf", turned(6).tobytes()[6:]),
    "wide png": coded(icc_profile=WIDE),
    "wide jpeg": coded("JPEG", icc_profile=WIDE),
    "unknown profile": coded(icc_profile=b"junk" * 50),
    "animated": coded(save_all=True, append_images=[Image.new("RGB", (24, 20))]),
    "animated, it says": with_chunk(33, b"acTL", struct.pack(">2I", 2, 0)),
    "two pictures": coded("MPO", save_all=True, append_images=[IMAGE]),
    "small": coded(image=IMAGE.crop((0, 0, 24, 15))),
    "webp": coded("WEBP", lossless=True),
    "bmp": coded("BMP"),
    "tiff": coded("TIFF"),
    "cut short in the head": coded()[:30],
    "no pixels": coded()[:33] + coded()[-12:],
}


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_plain_photos_need_nothing_but_pillow(data):
    assert photo.is_plain(data)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(image.convert("RGB"), photo.decode(data, "a"))


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_others_are_not_plain(data):
    assert not photo.is_plain(data)


@pytest.mark.parametrize(
    "name",
    ["16 bits", "alpha", "turned png", "turned by xmp", "turned behind the pixels", "wide jpeg"],
)
def test_for_some_of_them_pillow_alone_would_be_wrong(name):
    data = NOT_PLAIN[name]
    with Image.open(io.BytesIO(data)) as image:
        assert not np.array_equal(image.convert("RGB"), photo.decode(data, "a"))


def test_too_many_pixels_are_not_plain(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert not photo.is_plain(coded())


@pytest.mark.parametrize("name", ["png", "jpeg", "upright jpeg", "png of srgb"])
def test_pixels_are_not_decoded(name, monkeypatch):
    photo.is_plain(PLAIN[name])  # looks at a profile's colours once
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image))
    assert photo.is_plain(PLAIN[name])
    assert decoded == []
