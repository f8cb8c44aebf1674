"""Colours of files: tone curves there and back without clipping, whatever the file says honoured or refused."""

import io
import struct

import numpy as np
import pytest
from icc import BLUE, GREEN, RED, profile
from photo_files import camera_exif, camera_jpeg, photo_of, png_bytes, scene
from PIL import Image, ImageCms

from pdn_jax.photos import colour, icc, png, presence, writer
from pdn_jax.photos.reader import from_bytes
from pdn_jax.photos.record import to_dtype, to_float
from pdn_jax.photos.srgb import srgb
from pdn_jax.types import InputError

P3, PROPHOTO = colour.from_codes(12, 13), "ProPhoto"


def pro_photo():
    points = ((0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
    curve = np.where(icc.GRID < 16 / 512, icc.GRID / 16, icc.GRID**1.8)
    return colour.Colour(PROPHOTO, icc.profile(PROPHOTO, points, np.stack([curve] * 3)))


SPACES = {"Display P3": P3, "Adobe RGB": colour.adobe_rgb(), PROPHOTO: pro_photo()}

EVERY = np.stack(np.meshgrid(*[np.linspace(0, 1, 17, dtype=np.float32)] * 3), -1).reshape(17, -1, 3)


@pytest.mark.parametrize("name", SPACES)
def test_there_and_back_changes_nothing(name):
    """Every corner of the space, the most saturated ones too."""
    back = colour.from_network(colour.to_network(EVERY, SPACES[name]), SPACES[name])
    np.testing.assert_allclose(back, EVERY, atol=2e-5)
    levels = np.arange(65536, dtype=np.float32).reshape(1, -1, 1).repeat(3, -1) / 65535
    back = colour.from_network(colour.to_network(levels, SPACES[name]), SPACES[name])
    assert abs(back - levels).max() * 65535 < 0.5


@pytest.mark.parametrize("name", SPACES)
def test_the_network_sees_the_same_greys(name):
    """A grey of the space is the sRGB grey of the same light: by LittleCMS."""
    grey = np.tile(np.arange(8, 256, 8, dtype=np.uint8)[None, :, None], (4, 1, 3))
    space = ImageCms.ImageCmsProfile(io.BytesIO(SPACES[name].profile))
    wanted = ImageCms.profileToProfile(
        Image.fromarray(grey), space, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    seen = 255 * colour.to_network(grey / np.float32(255), SPACES[name])
    assert abs(seen - np.asarray(wanted)).max() < 1.6


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_photographs_come_back_in_their_space_without_clipping(name, dtype):
    """A saturated green outside of sRGB, through a network that leaves all alone, and a file."""
    top = np.iinfo(dtype).max
    pixels = np.zeros((32, 32, 3), dtype)
    pixels[..., 1] = top
    pixels[8:16] = (top // 3, top // 2, 0)
    photo = photo_of(pixels, space=SPACES[name])
    developed = presence.developed(photo, lambda low, there: low)
    assert abs(developed.pixels.astype(int) - pixels).max() <= 1
    back = from_bytes(writer.encoded(photo, developed.pixels, "PNG").data, "a")
    assert back.colour.profile == SPACES[name].profile
    assert abs(back.pixels.astype(int) - pixels).max() <= 1
    assert srgb(back)[0, 0].tolist() == [0, 255, 0]  # which is what a way through sRGB would keep


def test_a_brightened_photograph_keeps_its_saturation():
    """Half the light in, twice the light by the network: the same colour, in linear light by hand."""
    photo = photo_of(np.full((32, 32, 3), (40, 120, 10), np.uint8), space=colour.adobe_rgb())

    def doubled(low, there):
        twice = colour.encoded(2 * colour.linear(to_float(low))).astype(np.float32)
        return to_dtype(twice, low.dtype)

    gamma = 2 + 51 / 256
    expected = 255 * (2 * (np.array([40, 120, 10]) / 255) ** gamma) ** (1 / gamma)
    result = presence.developed(photo, doubled).pixels
    np.testing.assert_allclose(result[5, 5], expected, atol=1.01)


# --- curves --------------------------------------------------------------------------------------


def para(form, *values):
    return (
        b"para\0\0\0\0"
        + struct.pack(">HH", form, 0)
        + struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
    )


@pytest.mark.parametrize(
    ("tag", "at", "wanted"),
    [
        (b"curv\0\0\0\0" + struct.pack(">I", 0), 0.3, 0.3),
        (b"curv\0\0\0\0" + struct.pack(">IH", 1, 512), 0.5, 0.25),
        (b"curv\0\0\0\0" + struct.pack(">I3H", 3, 0, 6554, 65535), 0.25, 0.05),
        (para(0, 2.0), 0.5, 0.25),
        (para(1, 2.0, 1.0, -0.5), 0.75, 0.0625),
        (para(1, 2.0, 1.0, -0.5), 0.25, 0.0),
        (para(2, 2.0, 1.0, -0.5, 0.1), 0.25, 0.1),
        (para(2, 2.0, 1.0, -0.5, 0.1), 0.75, 0.1625),
        (para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), 0.5, 0.21404),
        (para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), 0.02, 0.001548),
        (para(4, 2.0, 1.0, 0.0, 0.5, 0.2, 0.1, 0.05), 0.5, 0.35),
        (para(4, 2.0, 1.0, 0.0, 0.5, 0.2, 0.1, 0.05), 0.1, 0.1),
    ],
)
def test_tone_curves_by_hand(tag, at, wanted):
    assert np.interp(at, icc.GRID, icc._curve(tag)) == pytest.approx(wanted, abs=1e-4)


def test_a_profile_of_tables_is_left_to_its_own_values():
    """RGB without curves (here: of which they were cut out): one power near what LittleCMS sees."""
    data = profile(b"RGB ", {"r": RED, "g": GREEN, "b": BLUE}, gamma=1.8)
    found = icc.tags(data)
    assert icc.linear_curves(data)[0] == pytest.approx(icc.GRID ** (round(1.8 * 256) / 256))
    assert set(found) >= {b"rTRC", b"gTRC", b"bTRC"}


@pytest.mark.parametrize("power", [1.0, 1.8, 2.2])
def test_fitted_gamma(power):
    data = profile(b"RGB ", {"r": RED, "g": GREEN, "b": BLUE}, gamma=power)
    assert icc._fitted_gamma(data) == pytest.approx(power, abs=0.05)


def test_written_profiles_are_what_littlecms_reads():
    """Display P3's red in sRGB, out of gamut: x and y of its primaries as adapted by hand."""
    space = ImageCms.ImageCmsProfile(io.BytesIO(P3.profile))
    assert ImageCms.getProfileDescription(space).strip() == "Display P3"
    red = space.profile.red_primary[1]
    assert red[:2] == pytest.approx(
        (0.680, 0.320), abs=0.003
    )  # LittleCMS adapts a little differently


# --- what files say ------------------------------------------------------------------------------


def said(data, name="a"):
    return from_bytes(data, name).colour


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        (png.chunk(b"sRGB", b"\0"), "sRGB"),
        (png.chunk(b"gAMA", struct.pack(">I", 45455)), "sRGB"),
        (png.chunk(b"gAMA", struct.pack(">I", 100000)), "stated in the file"),
        (png.chunk(b"cICP", bytes([1, 13, 0, 1])), "sRGB"),
        (png.chunk(b"cICP", bytes([12, 13, 0, 1])), "Display P3"),
        (png.chunk(b"cICP", bytes([9, 1, 0, 1])), "BT.2020"),
        (
            png.chunk(b"cICP", bytes([12, 13, 0, 1]))
            + png.chunk(b"gAMA", struct.pack(">I", 100000)),
            "Display P3",
        ),
        (
            png.chunk(
                b"cHRM",
                struct.pack(">8I", *(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
            ),
            "stated in the file",
        ),
        (
            png.chunk(b"sRGB", b"\0") + png.chunk(b"gAMA", struct.pack(">I", 100000)),
            "sRGB",
        ),
    ],
)
def test_png_chunks(chunks, name):
    found = said(png_bytes(scene(), chunks))
    assert found.name == name
    assert bool(found.profile) == (name != "sRGB")


def test_a_png_of_linear_light_is_seen_as_such():
    data = png_bytes(scene(), png.chunk(b"gAMA", struct.pack(">I", 100000)))
    photo = from_bytes(data, "a")
    seen = colour.to_network(photo.pixels / np.float32(255), photo.colour)
    np.testing.assert_allclose(seen, colour.encoded(scene() / 255), atol=2e-3)


@pytest.mark.parametrize(("curve", "named"), [(16, "PQ"), (18, "HLG"), (99, "rare")])
def test_hdr_and_rarities_are_refused_by_name(curve, named):
    data = png_bytes(scene(), png.chunk(b"cICP", bytes([9, curve, 0, 1])))
    with pytest.raises(InputError, match=rf"^a is not read: .*{named}"):
        from_bytes(data, "a")


def test_adobe_rgb_by_exif():
    block = camera_exif()
    assert said(camera_jpeg(scene(), exif=block)) == colour.SRGB
    marked = bytearray(block)
    place = marked.index(struct.pack("<HHIHH", 0xA001, 3, 1, 1, 0))
    marked[place + 8] = 2
    assert said(camera_jpeg(scene(), exif=bytes(marked))) == colour.adobe_rgb()


def test_adobe_rgb_by_the_index_r03():
    exif = Image.Exif()
    inner = exif.get_ifd(0x8769)
    inner[0xA001] = 65535
    inner[0xA005] = {1: "R03"}
    data = io.BytesIO()
    Image.fromarray(scene()).save(data, "JPEG", exif=exif)
    assert said(data.getvalue()) == colour.adobe_rgb()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"junk" * 50, "damaged"),
        (profile(b"GRAY", {"k": None}), "for grey"),
        (profile(b"CMYK", {"r": RED}), "for CMYK"),
        (profile(b"RGB ", {"r": RED, "g": GREEN, "b": BLUE})[:200], "damaged"),
    ],
)
def test_profiles_that_cannot_be_are_said_and_left(data, word):
    photo = from_bytes(png_bytes(scene(), icc_profile=data), "a")
    assert photo.colour == colour.SRGB
    assert word in photo.notes[0]
    assert "taken for sRGB" in photo.notes[0]


def test_tiff_tags_of_colours():
    tifffile = pytest.importorskip("tifffile")
    primaries = (68, 100, 32, 100, 265, 1000, 69, 100, 15, 100, 6, 100)
    white = (3127, 10000, 329, 1000)
    data = io.BytesIO()
    tags = [(319, 5, 6, primaries, True), (318, 5, 2, white, True)]
    tifffile.imwrite(data, scene(), photometric="rgb", extratags=tags)
    found = said(data.getvalue())
    red = ImageCms.ImageCmsProfile(io.BytesIO(found.profile)).profile.red_primary[1]
    assert red[:2] == pytest.approx((0.68, 0.32), abs=0.003)
    curve = np.rint(65535 * np.linspace(0, 1, 256) ** 3).astype(np.uint16)
    data = io.BytesIO()
    tifffile.imwrite(data, scene(), photometric="rgb", extratags=[(301, 3, 256, curve, True)])
    photo = from_bytes(data.getvalue(), "a")
    seen = colour.to_network(photo.pixels / np.float32(255), photo.colour)
    np.testing.assert_allclose(seen, colour.encoded((scene() / 255) ** 3), atol=2e-3)


def bitmap(space, header=124, tail=b"", gamma=(65536,) * 3):
    """A BMP of version 4 or 5 with this colour space (BITMAPV5HEADER)."""
    pixels = scene(32, 32)[::-1, :, ::-1].tobytes()
    ends = [round(v * 2**30) for v in (0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192)]
    ends += [round(v * 2**30) for v in (0.1805, 0.0722, 0.9505)]
    head = struct.pack("<IiiHHIIiiII", header, 32, 32, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    head += bytes(16) + space[::-1] + struct.pack("<9i3I", *ends, *gamma)
    if header == 124:
        head += struct.pack("<4I", 4, 124 + len(pixels), len(tail), 0)
    start = struct.pack("<2sIHHI", b"BM", 14 + header + len(pixels) + len(tail), 0, 0, 14 + header)
    return start + head + pixels + tail


def test_bitmaps_state_their_colours():
    assert said(bitmap(b"sRGB")) == colour.SRGB
    assert said(bitmap(b"\0\0\0\0", 108, gamma=(round(2.2 * 65536),) * 3)) == colour.SRGB
    assert said(bitmap(b"\0\0\0\0", 108)).name == "stated in the file"
    assert said(bitmap(b"MBED", tail=P3.profile)).profile == P3.profile
    with pytest.raises(InputError, match="another file"):
        said(bitmap(b"LINK"))
