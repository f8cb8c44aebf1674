"""Colours of photo files: grey, palette, transparency, CMYK, 16 bits and colour profiles."""

import io
import struct
import zlib

import numpy as np
import pytest
from icc import BLUE, GREEN, RED, profile, rendered
from PIL import Image, ImageCms

from pdn_jax import photo

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (20, 24, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def stored(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


def smooth(height=40, width=64):
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 5 * y, 2 * (x + y)], -1).astype(np.uint8)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_grey_becomes_three_equal_channels(tmp_path, extension):
    result = photo.read(stored(tmp_path / f"a{extension}", smooth()[..., 0], quality=95))
    assert abs(result.astype(int) - smooth()[..., :1]).max() <= 4


def test_black_and_white(tmp_path):
    Image.fromarray(GREY).convert("1", dither=0).save(tmp_path / "a.png")
    expected = np.where(GREY >= 128, 255, 0)
    np.testing.assert_array_equal(photo.read(tmp_path / "a.png")[..., 1], expected)


def test_palette(tmp_path):
    image = Image.fromarray(COLOUR).quantize(64)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.read(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_transparent_parts_become_black(tmp_path):
    alpha = np.where(GREY > 128, 255, 0).astype(np.uint8)
    colour = stored(tmp_path / "a.png", np.dstack([COLOUR, alpha]))
    grey = stored(tmp_path / "b.png", np.dstack([GREY, alpha]))
    black = alpha[..., None] == 0
    np.testing.assert_array_equal(photo.read(colour), np.where(black, 0, COLOUR))
    np.testing.assert_array_equal(photo.read(grey), np.where(black, 0, np.dstack([GREY] * 3)))
    half = stored(tmp_path / "c.png", np.dstack([COLOUR, np.full_like(GREY, 128)]))
    assert abs(photo.read(half) - COLOUR * (128 / 255)).max() <= 1


def test_transparent_palette_entries_become_black(tmp_path):
    image = Image.fromarray(COLOUR).quantize(8)
    image.save(tmp_path / "a.png", transparency=3)
    expected = np.where(np.asarray(image)[..., None] == 3, 0, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(photo.read(tmp_path / "a.png"), expected)


def test_transparent_colour_becomes_black(tmp_path):
    path = stored(tmp_path / "a.png", COLOUR, transparency=tuple(map(int, COLOUR[3, 3])))
    expected = COLOUR.copy()
    expected[3, 3] = 0
    np.testing.assert_array_equal(photo.read(path), expected)


def test_cmyk(tmp_path):
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert abs(photo.read(tmp_path / "a.jpg").astype(int) - smooth()).mean() < 2


@pytest.mark.parametrize("transform", [0, 2])
def test_adobe_cmyk_is_stored_inverted(transform):
    # One flat colour, so that JPEG loses nothing. As YCCK (transform 2) it is grey of ink 90.
    inks = (10, 60, 200, 30) if transform == 0 else (165, 127, 127, 0)
    data = io.BytesIO()
    Image.new("CMYK", (32, 32), inks).save(data, "JPEG", quality=100)
    data = bytearray(data.getvalue())
    place = data.index(b"Adobe\0\x64")
    assert data[place + 11] == 0
    data[place + 11] = transform
    with Image.open(io.BytesIO(data)) as image:
        image.tile = [image.tile[0]._replace(args=("CMYK", ""))]  # as it lies in the file
        stored_inks = np.asarray(image)[9, 9]
    ink = np.array([10, 60, 200, 30] if transform == 0 else [90, 90, 90, 0])
    assert abs(stored_inks - (255.0 - ink)).max() <= 1
    expected = (255 - ink[:3]) * (255 - ink[3]) / 255
    assert abs(photo.decode(bytes(data), "a") - expected).max() <= 2


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = RANDOM.integers(0, 65536, (20, 24)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    result = photo.read(stored(tmp_path / "a.png", deep))
    np.testing.assert_array_equal(result[..., 2], np.rint(deep / 257))


def deep_png(array):
    """16 bits a channel, which Pillow does not write: [h, w, c], c of 2 to 4."""
    height, width, channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">2I5B", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + content))
        data += struct.pack(">I", len(content)) + kind + content + check
    return data


def test_sixteen_bits_of_colour_are_rounded():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    deep = np.stack([every, every[::-1], every.T], -1)
    expected = np.rint(deep / 257)
    np.testing.assert_array_equal(photo.decode(deep_png(deep), "a"), expected)
    alpha = np.where(every > 999, 65535, 0).astype(np.uint16)
    result = photo.decode(deep_png(np.dstack([deep, alpha])), "a")
    np.testing.assert_array_equal(result, np.where(alpha[..., None] > 0, expected, 0))


def test_sixteen_bits_of_grey_with_alpha():
    grey = RANDOM.integers(0, 65536, (20, 24)).astype(np.uint16)
    alpha = np.where(COLOUR[..., 1] > 99, 65535, 0).astype(np.uint16)
    result = photo.decode(deep_png(np.dstack([grey, alpha])), "a")
    assert abs(result[..., 1] - np.where(alpha > 0, grey / 257, 0)).max() < 1


def test_profile_that_is_not_srgb_is_converted(tmp_path):
    swapped = profile(b"RGB ", {"r": GREEN, "g": RED, "b": BLUE})
    path = stored(tmp_path / "a.png", COLOUR, icc_profile=swapped)
    assert abs(photo.read(path) - rendered(COLOUR[..., [1, 0, 2]])).max() <= 2


def test_grey_profile_is_converted(tmp_path):
    linear = profile(b"GRAY", {"k": None})
    path = stored(tmp_path / "a.png", GREY, icc_profile=linear)
    assert abs(photo.read(path) - rendered(GREY)[..., None]).max() <= 2


def test_colour_profile_on_a_grey_photo_is_converted(tmp_path):
    linear = profile(b"RGB ", {"r": RED, "g": GREEN, "b": BLUE})
    path = stored(tmp_path / "a.png", GREY, icc_profile=linear)
    assert abs(photo.read(path) - rendered(GREY)[..., None]).max() <= 2


@pytest.mark.parametrize("kind", ["sRGB", "junk", "grey on colour"])
def test_other_profiles_leave_the_pixels(tmp_path, kind):
    data = {
        "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "junk": b"junk" * 50,
        "grey on colour": profile(b"GRAY", {"k": None}),
    }[kind]
    path = stored(tmp_path / "a.png", COLOUR, icc_profile=data)
    np.testing.assert_array_equal(photo.read(path), COLOUR)
