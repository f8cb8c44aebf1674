"""TIFF: every kind that cameras and editors write comes out right, the others are refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from icc import BLUE, GREEN, RED, profile, rendered
from PIL import Image, ImageOps

from pdn_jax import photo
from pdn_jax.photos.reader import from_bytes
from pdn_jax.types import InputError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (20, 24, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (20, 24, 3)).astype(np.uint16)
DEEP[0, :4, 0] = 0, 128, 129, 65535
FLOAT = COLOUR / np.float32(255)
RGB, GREY, CMYK, ALPHA = 2, 1, 5, 2


def lzw(data):
    """TIFF's LZW of 9-bit codes only: the table is cleared before it needs a tenth bit."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    text = "".join(f"{code:09b}" for code in [*codes, 257])
    return bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))


PACKERS = {1: bytes, 5: lzw, 8: zlib.compress}
"""Tag 259 -> what does it."""


def tiff(array, photometric=RGB, *, order="<", packing=1, apart=False, **more):
    """A TIFF 6.0 file of one page from [h, w, c], pixels last; `more` is tags, as t338=(2,)."""
    height, width, channels = array.shape
    planes = np.moveaxis(array, -1, 0) if apart else [array]
    wanted = array.dtype.newbyteorder(order)
    strips = [PACKERS[packing](plane.astype(wanted).tobytes()) for plane in planes]
    tags = {256: (width,), 257: (height,), 258: (array.dtype.itemsize * 8,) * channels}
    tags |= {259: (packing,), 262: (photometric,), 277: (channels,), 278: (height,)}
    tags |= {279: [len(strip) for strip in strips], 284: (2 if apart else 1,)}
    tags |= {int(name[1:]): value for name, value in more.items()}

    def head(starts):
        entries, values, behind = b"", b"", 8 + 2 + 12 * (len(tags) + 1) + 4
        for tag, value in sorted((tags | {273: starts}).items()):
            letter, kind = ("I", 4) if tag in (273, 279) else ("H", 3)
            if isinstance(value, bytes):
                letter, kind = "B", 7
            content = struct.pack(f"{order}{len(value)}{letter}", *value)
            entries += struct.pack(f"{order}HHI", tag, kind, len(value))
            if len(content) > 4:
                entries += struct.pack(f"{order}I", behind + len(values))
                values += content + b"\0" * (len(content) % 2)
            else:
                entries += content.ljust(4, b"\0")
        start = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
        return start + struct.pack(f"{order}H", len(tags) + 1) + entries + b"\0" * 4 + values

    first = len(head([0] * len(strips)))
    starts = [first + sum(map(len, strips[:i])) for i in range(len(strips))]
    return head(starts) + b"".join(strips)


def saved(image, **options):
    data = io.BytesIO()
    image.save(data, "TIFF", **options)
    return data.getvalue()


def photo_from(data):
    return from_bytes(data, "a.tif")


def refusal(data):
    with pytest.raises(InputError) as caught:
        photo.decode(data, "a.tif")
    message = str(caught.value)
    assert message.startswith("a.tif ")
    assert "\n" not in message
    return message


def smooth(height=40, width=64):
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 5 * y, 2 * (x + y)], -1).astype(np.uint8)


# --- good files ------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("order", "<>")
def test_colour_of_8_bits_keeps_every_pixel(order, packing):
    for apart in (False, True):
        data = tiff(COLOUR, order=order, packing=packing, apart=apart)
        np.testing.assert_array_equal(photo.decode(data, "a"), COLOUR)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("order", "<>")
def test_colour_of_16_bits_is_rounded_to_8(order, packing):
    data = tiff(DEEP, order=order, packing=packing)
    np.testing.assert_array_equal(photo.decode(data, "a"), np.rint(DEEP / 257))


@pytest.mark.parametrize("order", "<>")
def test_grey_of_8_and_16_bits(order):
    grey = photo.decode(tiff(COLOUR[..., :1], GREY, order=order), "a")
    np.testing.assert_array_equal(grey, np.repeat(COLOUR[..., :1], 3, -1))
    deep = photo.decode(tiff(DEEP[..., :1], GREY, order=order, packing=8), "a")
    np.testing.assert_array_equal(deep, np.repeat(np.rint(DEEP[..., :1] / 257), 3, -1))


def test_white_may_be_zero():
    grey = photo.decode(tiff(COLOUR[..., :1], 0), "a")
    np.testing.assert_array_equal(grey[..., 1], 255 - COLOUR[..., 0])


@pytest.mark.parametrize("array", [COLOUR, DEEP])
def test_transparent_parts_become_black(array):
    alpha = np.where(array[..., :1] > np.iinfo(array.dtype).max // 2, np.iinfo(array.dtype).max, 0)
    data = tiff(np.dstack([array, alpha.astype(array.dtype)]), t338=(ALPHA,))
    expected = np.rint(array / (257 if array is DEEP else 1)) * (alpha > 0)
    np.testing.assert_array_equal(photo.decode(data, "a"), expected)


def test_grey_with_alpha():
    alpha = np.where(COLOUR[..., 1:2] > 99, 255, 0).astype(np.uint8)
    result = photo.decode(tiff(np.dstack([COLOUR[..., :1], alpha]), GREY, t338=(ALPHA,)), "a")
    np.testing.assert_array_equal(result[..., 2], np.where(alpha > 0, COLOUR[..., :1], 0)[..., 0])


def test_palette():
    image = Image.fromarray(COLOUR).quantize(64)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(photo.decode(saved(image), "a"), expected)


@pytest.mark.parametrize("array", [COLOUR, DEEP])
def test_cmyk(array):
    most = np.iinfo(array.dtype).max
    inks = np.dstack([most - array, np.zeros_like(array[..., 0])])
    expected = np.rint(array / (most / 255))
    np.testing.assert_array_equal(photo.decode(tiff(inks, CMYK), "a"), expected)


@pytest.mark.parametrize("packing", ["jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_compressions_of_the_usual_writer(packing, mode):
    image = Image.fromarray(smooth()).convert(mode)
    result = photo.decode(saved(image, compression=packing), "a").astype(int)
    error = abs(result - np.asarray(image.convert("RGB")))
    assert error.mean() < 1
    assert packing == "jpeg" or error.max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation):
    for array, right in ((COLOUR, COLOUR), (DEEP, np.rint(DEEP / 257).astype(np.uint8))):
        image, exif = Image.fromarray(right), Image.Exif()
        exif[0x0112] = orientation
        png = io.BytesIO()
        image.save(png, "PNG", exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(png)))
        data = tiff(array, packing=8, t274=(orientation,))
        np.testing.assert_array_equal(photo.decode(data, "a"), expected)


@pytest.mark.parametrize("array", [COLOUR, DEEP])
def test_profile_is_applied(array):
    swapped = profile(b"RGB ", {"r": GREEN, "g": RED, "b": BLUE})
    result = photo.decode(tiff(array, packing=8, t34675=swapped), "a")
    plain = photo.decode(tiff(array), "a")
    assert abs(result - rendered(plain[..., [1, 0, 2]])).max() <= 2


def test_small_copy_behind_the_photo_is_no_page():
    image, subfile = Image.fromarray(COLOUR), struct.pack("<HHII", 254, 4, 1, 0)
    data = saved(image, save_all=True, append_images=[image], tiffinfo={254: 0})
    assert data.count(subfile) == 2
    assert photo_from(data).lost == ("1 further page(s)",)
    place = data.rindex(subfile) + 8
    data = data[:place] + bytes([1]) + data[place + 1 :]
    assert photo_from(data).lost == ()
    np.testing.assert_array_equal(photo.decode(data, "a"), COLOUR)


@pytest.mark.parametrize("array", [COLOUR, DEEP])  # by Pillow and by tifffile
def test_of_several_pages_the_first_is_read_and_the_others_are_named(array):
    tifffile = pytest.importorskip("tifffile")
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as file:
        for page in (array, array[::-1], array[:, ::-1]):
            file.write(page, photometric="rgb")
    whole = photo_from(data.getvalue())
    np.testing.assert_array_equal(whole.pixels, array)
    assert whole.lost == ("2 further page(s)",)


@pytest.mark.parametrize("name", ["a.tif", "a.TIFF"])
def test_extensions_are_photos(tmp_path, name):
    (tmp_path / name).write_bytes(tiff(COLOUR))
    (path,) = photo.images_in(tmp_path)
    np.testing.assert_array_equal(photo.read(path), COLOUR)


# --- bad files -------------------------------------------------------------------------------


def test_absurd_sizes_are_refused_before_any_memory_is_taken():
    assert "too many pixels" in refusal(tiff(COLOUR, packing=8, t256=(65000,), t257=(65000,)))


def test_previews_are_refused():
    assert "preview" in refusal(tiff(COLOUR, t254=(1,)))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (tiff(COLOUR.astype(np.float32), t339=(3,) * 3), "float values from 0 to 255"),
        (tiff(FLOAT - np.float32(0.5), t339=(3,) * 3), "float values from -0.5"),
        (tiff(np.where(FLOAT > 0.9, np.nan, FLOAT), t339=(3,) * 3), "no numbers"),
        (tiff(COLOUR[..., :1].astype(np.int16), GREY, t339=(2,)), "signed of 16 bits"),
        (tiff(COLOUR[..., :1], GREY, t339=(2,)), "signed of 8 bits"),
        (tiff(COLOUR, 8), "cielab"),
        (tiff(COLOUR, t259=(50001,)), "damaged"),
    ],
)
def test_kinds_that_would_come_out_wrong_are_refused(data, named):
    assert named in refusal(data)


def rare(data):
    found = photo_from(data)
    return found.pixels, found.alpha, found.bits


def test_kinds_that_pillow_gets_wrong_are_read_all_the_same():
    """32 and 12 bits, white as zero, planes apart, grey with alpha: by hand."""
    wide = DEEP[..., :1].astype(np.uint32) * 65537
    np.testing.assert_array_equal(rare(tiff(wide, GREY))[0], DEEP[..., :1])
    np.testing.assert_array_equal(rare(tiff(DEEP[..., :1], 0))[0], 65535 - DEEP[..., :1])
    for packing in (1, 8):
        np.testing.assert_array_equal(rare(tiff(DEEP, apart=True, packing=packing))[0], DEEP)
    grey, alpha, _ = rare(tiff(DEEP[..., :2], GREY, t338=(ALPHA,)))
    np.testing.assert_array_equal(np.dstack([grey, alpha]), DEEP[..., :2])
    packed = np.full((20, 18, 2), (0xAB, 0xCD), np.uint8).reshape(20, 36, 1)  # ABC DAB CDA BCD
    values, _, bits = rare(tiff(packed, GREY, t258=(12,), t256=(24,)))
    assert bits == 12
    expected = [round(v * 65535 / 4095) for v in (0xABC, 0xDAB, 0xCDA, 0xBCD)]
    np.testing.assert_array_equal(values[3, :4, 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_float_keeps_its_values_and_is_turned(orientation):
    values, alpha, bits = rare(tiff(FLOAT, t339=(3,) * 3, t274=(orientation,)))
    assert (values.dtype, alpha, bits) == (np.float32, None, 32)
    turned = photo_from(tiff(COLOUR, t274=(orientation,))).pixels
    np.testing.assert_array_equal(np.rint(values * 255), turned)


def test_premultiplied_colours_are_divided():
    array = np.full((16, 16, 4), (20000, 0, 10000, 40000), np.uint16)
    values, alpha, _ = rare(tiff(array, t338=(1,), apart=True))
    assert alpha[0, 0] == 40000
    np.testing.assert_allclose(values[5, 5], [32767.5, 0, 16383.75], atol=1)


@pytest.mark.parametrize("packing", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("kept", [0.02, 0.1, 0.5, 0.9])
def test_truncated(packing, kept, capfd):
    data = saved(Image.fromarray(COLOUR), compression=packing)
    refusal(data[: int(kept * len(data))])


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_pixels_behind_a_whole_head(packing, kept, capfd):
    data = tiff(DEEP, packing=packing)
    assert "damaged or cut short" in refusal(data[: int(kept * len(data))])


def test_directories_without_end_are_refused():
    """Each is the next one's predecessor, eight bytes on: not a circle, and not a photograph."""
    entry = struct.pack("<HHII", 256, 3, 1, 24)
    pages = b"".join(
        struct.pack("<H", 1) + entry + struct.pack("<I", 8 + 18 * (k + 1)) for k in range(4000)
    )
    start = struct.pack("<4sI", b"II*\0", 8)
    assert "a.tif" in refusal(start + pages)
