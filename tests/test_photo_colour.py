"""Colours of photo files: grey, palette, transparency, CMYK, 16 bits and colour profiles."""

import struct

import numpy as np
import pytest
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


def profile(space, primaries, gamma=1.0):
    """A minimal ICC profile (ICC.1:2001-04): matrix or grey, one gamma, whatever its name says."""
    text = b"sRGB, it says\0"

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 80,
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
    }
    for letter, values in primaries.items():
        tags[letter.encode() + b"TRC"] = curve
        if values:
            tags[letter.encode() + b"XYZ"] = xyz(values)
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + xyz((0.9642, 1.0, 0.8249))[8:]
    whole = header.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
"""sRGB's primaries as ICC profiles hold them, adapted to D50."""


def rendered(light):
    """IEC 61966-2-1, 8 bits to 8 bits."""
    light = light / 255
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


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


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = RANDOM.integers(0, 65536, (20, 24)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    result = photo.read(stored(tmp_path / "a.png", deep))
    np.testing.assert_array_equal(result[..., 2], np.rint(deep / 257))


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
