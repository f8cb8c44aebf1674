"""Every format, read and written: depth, colours, grey, transparency; content before the name."""

import io
import struct
import sys

import numpy as np
import pytest
from photo_files import camera_exif, chunk_kinds, deep_scene, packet, photo_of, png_bytes, scene
from PIL import Image, TiffImagePlugin

from pdn_jax import photo_info
from pdn_jax.photos import bmff, colour, icc, kinds, png, raw, reader, writer
from pdn_jax.photos.reader import from_bytes
from pdn_jax.types import InputError

P3 = colour.from_codes(12, 13)
WRITTEN = [name for name, kind in kinds.KINDS.items() if kind.written]
DEEP, ALPHA = ["PNG", "TIFF"], ["PNG", "TIFF", "WEBP", "AVIF", "HEIC"]
NOISY = 2.0
"""Levels that a lossy format may be off on average, where the noise alone has 1.6."""

LOSSY = {"JPEG", "WEBP", "AVIF", "HEIC"}


def again(photo, kind, **options):
    """A photo written and read."""
    return from_bytes(writer.encoded(photo, photo.pixels, kind, **options).data, "a")


def levels(photo):
    """Pixels as levels of 255."""
    return photo.pixels.astype(float) * 255 / np.iinfo(photo.pixels.dtype).max


# --- what is kept --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITTEN)
def test_pixels(kind):
    photo = photo_of(scene())
    error = abs(levels(again(photo, kind)) - scene())
    assert error.max() == 0 if kind not in LOSSY else error.mean() < NOISY


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", WRITTEN)
def test_grey(kind, dtype):
    """One channel where the format has that, else three that are equal."""
    values = deep_scene()[..., :1] if dtype == np.uint16 else scene()[..., :1]
    back = again(photo_of(values), kind)
    assert (back.pixels == back.pixels[..., :1]).all()
    one = kind not in ("WEBP", "AVIF", "HEIC")  # decoders give three
    assert back.pixels.shape[-1] == (1 if one else 3)
    assert abs(levels(back) - levels(photo_of(values))).mean() < 1.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ALPHA)
def test_transparency(kind, channels):
    """Kept without loss, at its depth, and colours under it are not touched."""
    alpha = np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))
    back = again(photo_of(scene()[..., :channels], alpha), kind)
    np.testing.assert_array_equal(back.alpha, alpha)
    assert abs(levels(back) - scene()[..., :channels]).mean() < NOISY
    if kind in DEEP:
        deep = alpha.astype(np.uint16) * 300
        back = again(photo_of(deep_scene(channels=channels), deep), kind)
        np.testing.assert_array_equal(back.alpha, deep)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_transparency_that_a_format_lacks_becomes_black_and_is_named(kind):
    alpha = np.zeros((64, 96), np.uint8)
    alpha[20:] = 255
    written = writer.encoded(photo_of(scene(), alpha), scene(), kind)
    assert "transparency (now black)" in written.lost
    back = from_bytes(written.data, "a")
    assert levels(back)[:16].max() < 8
    assert abs(levels(back)[24:] - scene()[24:]).mean() < NOISY


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", DEEP)
def test_sixteen_bits(kind, channels):
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    values = np.stack([every, every[::-1], every.T, every[:, ::-1]], -1)[..., :channels]
    alpha = values[..., -1] if channels in (2, 4) else None
    base = values[..., :-1] if channels in (2, 4) else values
    back = again(photo_of(base, alpha), kind)
    assert back.bits == 16
    np.testing.assert_array_equal(back.pixels, base)
    if alpha is not None:
        np.testing.assert_array_equal(back.alpha, alpha)


def test_float_tiff():
    values = np.random.default_rng(0).random((40, 50, 3), np.float32)
    back = again(photo_of(values)._replace(bits=32), "TIFF")
    assert back.bits == 32
    np.testing.assert_array_equal(back.pixels, values)
    written = writer.encoded(photo_of(values), values, "PNG")
    np.testing.assert_array_equal(
        from_bytes(written.data, "a").pixels, np.rint(values * 65535).astype(np.uint16)
    )


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_and_heic_of_more_bits_are_read_at_their_depth(bits):
    codecs, heif = pytest.importorskip("imagecodecs"), pytest.importorskip("pillow_heif")
    top = (1 << bits) - 1
    values = np.tile(np.linspace(0, top, 96).astype(np.uint16)[None, :, None], (64, 1, 3))
    avif = from_bytes(codecs.avif_encode(values, level=100, bitspersample=bits), "a.avif")
    assert (avif.kind, avif.bits, avif.pixels.max()) == ("AVIF", bits, 65535)
    np.testing.assert_allclose(avif.pixels, values * (65535 / top), atol=0.51)
    data = io.BytesIO()
    heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        heif.from_bytes("RGB;16", (96, 64), (values << (16 - bits)).tobytes()).save(
            data, quality=-1, matrix_coefficients=0, chroma=444
        )
    finally:
        heif.options.SAVE_HDR_TO_12_BIT = False
    heic = from_bytes(data.getvalue(), "a.heic")
    assert (heic.kind, heic.bits, heic.pixels.max()) == ("HEIC", bits, 65535)
    np.testing.assert_allclose(heic.pixels, values * (65535 / top), atol=1.5 * 65535 / top)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_xl_of_more_bits_is_read_at_its_depth(bits, channels):
    codecs = pytest.importorskip("imagecodecs")
    top = (1 << bits) - 1
    ramp = np.linspace(top // 40, top // 3, 96).astype(np.uint16)  # a dark one: nothing is white
    values = np.tile(ramp[None, :, None], (64, 1, channels))
    whole = values if channels > 1 else values[..., 0]
    photo = from_bytes(codecs.jpegxl_encode(whole, lossless=True, bitspersample=bits), "a.jxl")
    assert (photo.kind, photo.bits, photo.pixels.dtype) == ("JXL", bits, np.uint16)
    read = photo.pixels if channels < 4 else np.dstack([photo.pixels, photo.alpha])
    np.testing.assert_allclose(read, values * (65535 / top), atol=0.51)
    np.testing.assert_array_equal(again(photo, "PNG").pixels, photo.pixels)


def test_jpeg_xl_of_floats():
    codecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).random((32, 40, 3), np.float32)
    photo = from_bytes(codecs.jpegxl_encode(values, lossless=True), "a.jxl")
    np.testing.assert_array_equal(photo.pixels, values)
    assert photo.bits == 32


def test_animated_jpeg_xl_is_refused():
    codecs = pytest.importorskip("imagecodecs")
    with pytest.raises(InputError, match="animated, 2 frames"):
        from_bytes(codecs.jpegxl_encode(np.stack([scene()] * 2), lossless=True), "a.jxl")


@pytest.mark.parametrize("packed", [False, True])
def test_jpeg_xl_keeps_xmp_and_names_its_gain_map(packed):
    codecs = pytest.importorskip("imagecodecs")
    xmp = packet()
    head = b"brob" if packed else b"xml "
    content = b"xml " + codecs.brotli_encode(xmp) if packed else xmp
    boxes = [(head, content), (b"jhgm", b"map")]
    data = codecs.jpegxl_encode(scene(), lossless=True, usecontainer=True)
    data += b"".join(struct.pack(">I4s", 8 + len(c), kind) + c for kind, c in boxes)
    photo = from_bytes(data, "a.jxl")
    assert photo.metadata.xmp == xmp
    assert photo.lost == ("gain map",)


def test_heic_results_have_ten_bits():
    """A slow ramp has more levels than 256 again."""
    ramp = np.tile(np.linspace(0, 65535, 1024).astype(np.uint16)[None, :, None], (32, 1, 3))
    back = again(photo_of(ramp), "HEIC")
    assert back.bits == 10
    assert len(np.unique(back.pixels[16, :, 1])) > 600


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIC"])
def test_profiles(kind):
    """Display P3 comes back byte for byte, and so do colours outside of sRGB."""
    values = np.tile(np.array([0, 255, 0], np.uint8), (64, 96, 1))
    back = again(photo_of(values, space=P3), kind)
    assert back.colour.profile == P3.profile
    assert abs(levels(back) - values).max() <= 3


def test_a_profile_that_a_format_lacks_is_named():
    written = writer.encoded(photo_of(scene(), space=P3), scene(), "BMP")
    assert written.lost == ("colour profile (Display P3, now sRGB)",)
    pixels = np.asarray(Image.open(io.BytesIO(written.data)))
    plain = np.asarray(
        Image.open(io.BytesIO(writer.encoded(photo_of(scene()), scene(), "BMP").data))
    )
    assert abs(pixels.astype(int) - plain).max() > 3  # saturated colours are further out in sRGB


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_is_grey_in_a_webp(channels):
    values = np.repeat(scene()[..., :1], channels, axis=-1)
    written = writer.encoded(photo_of(values), values, "WEBP")
    back = np.asarray(Image.open(io.BytesIO(written.data)).convert("RGB"))
    np.testing.assert_array_equal(back, np.repeat(values[..., :1], 3, axis=-1))


def test_lossless_webp_is_known_behind_a_profile():
    data = io.BytesIO()
    Image.fromarray(scene()).save(data, "WEBP", lossless=True, icc_profile=P3.profile)
    assert b"VP8L" not in data.getvalue()[:64]
    assert reader.from_bytes(data.getvalue(), "a.webp").lossless


def test_quality():
    sizes = [
        [len(writer.encoded(photo_of(scene()), scene(), kind, quality=q).data) for q in (40, 95)]
        for kind in sorted(LOSSY)
    ]
    assert all(small < 0.7 * large for small, large in sizes)


def test_lossless_webp_stays_lossless():
    data = io.BytesIO()
    Image.fromarray(scene()).save(data, "WEBP", lossless=True)
    photo = from_bytes(data.getvalue(), "a.webp")
    assert photo.lossless
    np.testing.assert_array_equal(again(photo, "WEBP").pixels, scene())


# --- PNG of 16 bits by our own hand ---------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_png_is_what_another_reader_reads(channels):
    codecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(0).integers(0, 1 << 16, (37, 41, channels)).astype(np.uint16)
    values[5:30] = 1000  # flat, where another filter wins
    data = png.SIGNATURE + png.deep(values) + png.chunk(b"IEND", b"")
    np.testing.assert_array_equal(codecs.png_decode(data).reshape(values.shape), values)


def test_deep_png_is_filtered():
    values = deep_scene(200, 300)
    assert len(png.deep(values)) < 0.2 * values.nbytes


# --- content before the name ---------------------------------------------------------------------


def every_format():
    """(format, bytes) of all that can be made here."""
    made = {kind: writer.encoded(photo_of(scene()), scene(), kind).data for kind in WRITTEN}
    for form in ("GIF", "JXL"):
        kinds.require("pillow_jxl", "a") if form == "JXL" else None
        data = io.BytesIO()
        Image.fromarray(scene()).save(data, form)
        made[form] = data.getvalue()
    return made | {"RAW": dng()}


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_content_says_what_a_file_is(kind):
    data = every_format()[kind]
    assert kinds.recognise(data) == kind
    own = kinds.KINDS[kind].extensions[0]
    assert from_bytes(data, f"a{own.upper()}").notes == from_bytes(data, f"a{own}").notes
    lying = from_bytes(data, "a.bmp" if kind != "BMP" else "a.jpg")
    assert lying.kind == kind
    assert any(f"it is {kind}" in note for note in lying.notes)


def test_what_is_no_photo_is_named_as_what_it_is():
    for start, what in ((b"%PDF-1.7", "a PDF"), (b"\0\0\0\x18ftypmp42", "a film"), (b"abc", "not")):
        with pytest.raises(InputError, match=rf"^a\.jpg is {what}"):
            from_bytes(start + bytes(99), "a.jpg")


@pytest.mark.parametrize(
    ("module", "extra", "kind"),
    [("pillow_heif", "photos", "HEIC"), ("pillow_jxl", "photos", "JXL"), ("rawpy", "raw", "RAW")],
)
def test_a_missing_package_is_one_line_with_the_extra(monkeypatch, module, extra, kind):
    data = every_format()[kind]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"^a needs .*{module}.*pip install .pdn_jax\[{extra}\]"):
        from_bytes(data, "a")


@pytest.mark.parametrize("module", ["tifffile", "imagecodecs"])
def test_tiffs_that_need_a_package_say_so(monkeypatch, module):
    tifffile = pytest.importorskip("tifffile")
    data = io.BytesIO()
    values = np.random.default_rng(0).random((32, 32, 3), np.float32)
    tifffile.imwrite(data, values, compression="lzw", photometric="rgb")
    np.testing.assert_array_equal(from_bytes(data.getvalue(), "a").pixels, values)
    monkeypatch.setitem(sys.modules, module, None)
    if module == "imagecodecs":  # of which tifffile keeps what it has imported
        monkeypatch.setattr(
            tifffile.TiffPage,
            "asarray",
            lambda *_: (_ for _ in ()).throw(ValueError("imagecodecs")),
        )
    with pytest.raises(InputError, match=rf"^a needs .*{module}.*photos"):
        from_bytes(data.getvalue(), "a")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiles_and_big_tiffs(dtype):
    tifffile = pytest.importorskip("tifffile")
    values = scene(80, 96).astype(dtype)
    values = values / np.float32(255) if dtype == np.float32 else values
    for options in (
        {"tile": (32, 32)},
        {"bigtiff": True},
        {"tile": (32, 32), "compression": "zlib"},
    ):
        data = io.BytesIO()
        tifffile.imwrite(data, values, photometric="rgb", **options)
        np.testing.assert_array_equal(from_bytes(data.getvalue(), "a.tif").pixels, values)


# --- sound but unusual ---------------------------------------------------------------------------


def test_a_large_text_is_read_past_and_kept():
    texts = png.text_chunk(b"Comment", b"x" * (4 << 20), packed=True)
    data = png_bytes(scene(), texts)
    photo = from_bytes(data, "a.png")
    np.testing.assert_array_equal(photo.pixels, scene())
    assert texts in writer.encoded(photo, photo.pixels, "PNG").data


@pytest.mark.parametrize("kind", WRITTEN)
def test_trailers_do_not_matter(kind):
    data = writer.encoded(photo_of(scene()), scene(), kind).data
    expected = from_bytes(data, "a").pixels
    np.testing.assert_array_equal(from_bytes(data + b"\0junk" * 99, "a").pixels, expected)


def test_palettes_become_colours():
    image = Image.fromarray(scene()).quantize(64)
    for form in ("PNG", "GIF", "BMP", "TIFF"):
        data = io.BytesIO()
        image.save(data, form)
        photo = from_bytes(data.getvalue(), "a")
        np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))


def test_cmyk_comes_back_as_srgb_and_is_said():
    data = io.BytesIO()
    Image.fromarray(scene()).convert("CMYK").save(data, "TIFF")
    photo = from_bytes(data.getvalue(), "a.tif")
    assert photo.notes == ("CMYK: the result is sRGB",)
    assert photo.colour == colour.SRGB
    np.testing.assert_array_equal(photo.pixels, scene())


def test_absurd_sizes_are_refused_before_the_pixels(monkeypatch):
    for kind, data in every_format().items():
        if kind == "RAW":
            continue
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(InputError, match="too many pixels"):
            from_bytes(data, f"a of {kind}")


# --- AVIF and HEIC -------------------------------------------------------------------------------


def test_what_an_avif_says_of_its_colours():
    data = io.BytesIO()
    Image.fromarray(scene()).save(data, "AVIF", exif=camera_exif(orientation=1))
    said = bmff.said(data.getvalue())
    assert said.codes == (1, 13)
    assert said.exif[:4] == b"II*\0"
    place = data.getvalue().index(b"colrnclx")
    for codes, wanted in (((12, 13), "Display P3"), ((9, 1), "BT.2020")):
        changed = bytearray(data.getvalue())
        changed[place + 8 : place + 12] = bytes([0, codes[0], 0, codes[1]])
        assert from_bytes(bytes(changed), "a.avif").colour.name == wanted
    for curve, named in ((16, "PQ"), (18, "HLG")):
        changed[place + 8 : place + 12] = bytes([0, 9, 0, curve])
        with pytest.raises(InputError, match=named):
            from_bytes(bytes(changed), "a.avif")


@pytest.mark.parametrize("length", [20, 60, 120, 200, 300])
def test_a_damaged_head_says_nothing(length):
    data = io.BytesIO()
    Image.fromarray(scene()).save(data, "AVIF")
    assert isinstance(bmff.said(data.getvalue()[:length]), bmff.Said)


# --- RAW -----------------------------------------------------------------------------------------


def dng(light=None, noise=None):
    """A DNG by hand: a mosaic of 16 bits as its first picture, RGGB, no colour matrix but sRGB's."""
    if light is None:
        light = np.full((64, 96), 0.25)
    values = (light * 60000 + 1000).round().astype("<u2")
    image = TiffImagePlugin.ImageFileDirectory_v2()
    rational = TiffImagePlugin.IFDRational
    tags = {
        254: (4, 0),
        256: (4, values.shape[1]),
        257: (4, values.shape[0]),
        258: (3, 16),
        259: (3, 1),
        262: (3, 32803),
        271: (2, "Maker"),
        272: (2, "Model"),
        277: (3, 1),
        278: (4, values.shape[0]),
        279: (4, values.nbytes),
        33421: (3, (2, 2)),
        33422: (1, b"\0\1\1\2"),
        50706: (1, b"\1\4\0\0"),
        50707: (1, b"\1\3\0\0"),
        50708: (2, "Maker Model"),
        50714: (3, 1000),
        50717: (4, 61000),
        50721: (
            10,
            tuple(rational(round(v * 10000), 10000) for v in np.linalg.inv(TO_XYZ).ravel()),
        ),
        50728: (5, (rational(1, 1),) * 3),
        50778: (3, 21),
    }
    if noise:
        tags[51041] = 12, noise
    for tag, (kind, value) in tags.items():
        image.tagtype[tag] = kind
        image[tag] = value
    image.tagtype[273] = 4
    image[273] = 0  # from the directory's end on, which Pillow adds
    return b"II*\0\x08\0\0\0" + image.tobytes(8) + values.tobytes()


TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5, 0.9])
def test_raw_is_linear_light_whatever_the_brightest_sample(level):
    """A frame of one level comes out at that level, in sRGB's curve: nothing brightened by itself."""
    pytest.importorskip("rawpy")
    photo = from_bytes(dng(np.full((64, 96), level)), "a.dng")
    assert (photo.kind, photo.bits, photo.pixels.dtype) == ("RAW", 16, np.uint16)
    light = colour.linear(photo.pixels[8:-8, 8:-8] / 65535)
    green = np.median(light[..., 1])
    assert green == pytest.approx(level, rel=0.02)


def test_a_dng_with_its_mosaic_first_is_a_raw_file():
    assert kinds.recognise(dng()) == "RAW"
    assert kinds.recognise(dng(), ".tif") == "RAW"


def test_results_of_raw_files_are_no_raw_files():
    """What a DNG says of its sensor does not go on; who made it does."""
    pytest.importorskip("rawpy")
    photo = from_bytes(dng(noise=(2e-4, 1e-6)), "a.dng")
    written = writer.encoded(photo, photo.pixels, "TIFF").data
    assert kinds.recognise(written) == "TIFF"
    back = from_bytes(written, "a.tif")
    np.testing.assert_array_equal(back.pixels, photo.pixels)
    assert b"Maker\0" in back.metadata.exif


def test_noise_profile_of_a_dng():
    assert raw.noise_profile(dng()) is None
    found = raw.noise_profile(dng(noise=(2e-4, 1e-6, 4e-4, 3e-6, 6e-4, 5e-6)))
    assert found == pytest.approx((4e-4, 3e-6))
    assert raw.noise_profile(dng(noise=(-1.0, 1e-6))) is None
    assert raw.noise_profile(b"") is None


# --- files ---------------------------------------------------------------------------------------


def test_from_file_names_the_path(tmp_path):
    for name, word in (("no.png", "does not exist"), ("", "is a folder")):
        with pytest.raises(InputError, match=word):
            reader.from_file(tmp_path / name)


def test_written_kinds_of_png_chunks():
    written = writer.encoded(photo_of(scene(), space=P3), scene(), "PNG", note="pdn_jax")
    assert chunk_kinds(written.data) == [b"IHDR", b"iCCP", b"eXIf", b"IDAT", b"IEND"]
    assert icc.space(P3.profile) == "RGB"


def test_info_of_a_photo(tmp_path):
    path = tmp_path / "dark.png"
    Image.fromarray(scene()).save(path)
    said = dict(line.split(": ", 1) for line in photo_info.lines(path))
    height, width = scene().shape[:2]
    assert said["format"] == "PNG"
    assert said["size"] == f"{width}×{height} pixels, 3 of colour, 8 bits each"
    assert said["colours"] == "sRGB"
    assert said["exposure"].startswith("-")
    assert said["exposure"].endswith("(dark)")


def test_info_shows_the_noise_profile(tmp_path):
    pytest.importorskip("rawpy")
    path = tmp_path / "a.dng"
    path.write_bytes(dng(noise=(2e-4, 1e-6)))
    assert "noise profile: σs 2.00e-04, σr 1.00e-06 (linear light, white 1)" in [
        *photo_info.lines(path)
    ]
