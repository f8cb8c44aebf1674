"""Photos: every kind of good file gives the right pixels, every kind of bad one a line that names it."""

import contextlib
import io
import struct
import tempfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin

from pdn_jax import files, photo
from pdn_jax.types import InputError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (20, 24, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def stored(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


def smooth(height=40, width=64):
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 5 * y, 2 * (x + y)], -1).astype(np.uint8)


def refused(function, *arguments, names=(), **options):
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(str(name) in message for name in names or arguments[:1]), message
    return message


# --- good files ------------------------------------------------------------------------------


def test_png_keeps_every_pixel_and_jpeg_nearly(tmp_path):
    photo.write(tmp_path / "a.PNG", COLOUR)
    np.testing.assert_array_equal(photo.read(tmp_path / "a.PNG"), COLOUR)
    for name in ("a.jpg", "a.JPEG"):
        photo.write(tmp_path / name, smooth())
        with Image.open(tmp_path / name) as image:
            assert image.format == "JPEG"
            assert JpegImagePlugin.get_sampling(image) == 0
        error = photo.read(tmp_path / name).astype(int) - smooth()
        assert abs(error).mean() < 1.5


@pytest.mark.parametrize("name", ["my photo.png", "été 夜.jpg", "-o.png", "A.JPG", "a.TIF", "a"])
def test_any_name_will_do(tmp_path, name):
    path = stored(tmp_path / name, COLOUR, format="PNG")  # what it is, its content says
    np.testing.assert_array_equal(photo.read(path), COLOUR)
    path.write_bytes(b"no photo")
    refused(photo.read, path)


def test_what_is_read_may_be_written_to(tmp_path):
    photo.read(stored(tmp_path / "a.png", COLOUR))[0, 0] = 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_orientation_is_applied(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = stored(tmp_path / name, smooth(), exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape[0] == (40 if orientation < 5 else 64)
    np.testing.assert_array_equal(photo.read(path), expected)


def test_damaged_exif_does_not_lose_the_photo(tmp_path):
    path = stored(tmp_path / "a.jpg", smooth(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert photo.read(path).shape == (40, 64, 3)


def test_phone_jpeg_with_a_second_picture_gives_the_first(tmp_path):
    first, second = smooth(), np.zeros_like(smooth())
    more = [Image.fromarray(second)]
    path = stored(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=more)
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert abs(photo.read(path).astype(int) - first).mean() < 10


# --- bad files -------------------------------------------------------------------------------


def test_missing_folder_and_empty(tmp_path):
    assert "does not exist" in refused(photo.read, tmp_path / "no.png")
    assert "is a folder" in refused(photo.read, tmp_path)
    (tmp_path / "a.png").touch()
    assert "empty" in refused(photo.read, tmp_path / "a.png")


def test_text_is_not_a_photo(tmp_path):
    (tmp_path / "a.png").write_text("hello, I am a photo\n" * 30)
    assert "not a photo" in refused(photo.read, tmp_path / "a.png")


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".gif"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_photos_are_refused(tmp_path, extension, kept):
    path = stored(tmp_path / f"a{extension}", RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refused(photo.read, path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_damage_is_refused_or_read_but_never_anything_else(tmp_path, form):
    random, data = np.random.default_rng(1), io.BytesIO()
    Image.fromarray(COLOUR).save(data, form)
    path = tmp_path / "a.png"
    for _ in range(60):
        content = bytearray(data.getvalue())
        for place in random.integers(0, min(len(content), 200), 3):
            content[place] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            assert photo.read(path).shape[2] == 3


@pytest.mark.parametrize("shape", [(15, 40), (40, 15)])
def test_too_small(tmp_path, shape):
    path = stored(tmp_path / "a.png", np.zeros((*shape, 3), np.uint8))
    assert f"{shape[1]}×{shape[0]}" in refused(photo.read, path)


def test_decompression_bomb(tmp_path, monkeypatch):
    path = stored(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert photo.read(path).shape == (40, 40, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    assert "too many pixels" in refused(photo.read, path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
def test_absurd_sizes_are_refused_before_any_memory_is_taken(tmp_path, form):
    data = io.BytesIO()
    Image.fromarray(COLOUR).save(data, form)
    place, pattern = {
        "PNG": (16, ">2I"),
        "JPEG": (data.getvalue().find(b"\xff\xc0") + 5, ">2H"),
        "GIF": (6, "<2H"),
        "BMP": (18, "<2I"),
    }[form]
    content, sides = bytearray(data.getvalue()), (24, 20) if form != "JPEG" else (20, 24)
    assert struct.unpack_from(pattern, content, place) == sides
    struct.pack_into(pattern, content, place, *(65000,) * 2)
    if form == "PNG":
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert "too many pixels" in refused(photo.read, path)


@pytest.mark.parametrize("extension", [".gif", ".png", ".webp"])
def test_animated(tmp_path, extension):
    more = [Image.fromarray(255 - COLOUR)]
    path = stored(tmp_path / f"a{extension}", COLOUR, save_all=True, append_images=more)
    assert "animated, 2 frames" in refused(photo.read, path)


# --- out -------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_allowed(tmp_path):
    path = tmp_path / "a.png"
    photo.write(path, COLOUR)
    before = path.read_bytes()
    assert "exists" in refused(photo.write, path, 255 - COLOUR)
    assert path.read_bytes() == before
    photo.write(path, 255 - COLOUR, overwrite=True)
    np.testing.assert_array_equal(photo.read(path), 255 - COLOUR)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    photo.write(path, COLOUR)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    assert "No space left" in refused(photo.write, path, 255 - COLOUR, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_the_usual_permissions(tmp_path):
    photo.write(tmp_path / "a.png", COLOUR)
    (tmp_path / "b").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_unknown_extensions_are_told_the_known(tmp_path):
    for name in ("a.xyz", "a", "a.tiff"):
        assert ".png .jpg .jpeg" in refused(photo.write, tmp_path / name, COLOUR)
        assert ".png .jpg .jpeg" in refused(photo.check_writable, tmp_path / name)


def test_places_that_cannot_be_written_to(tmp_path, monkeypatch):
    assert "no folder" in refused(photo.write, tmp_path / "no" / "a.png", COLOUR)
    (tmp_path / "b.png").mkdir()
    assert "is a folder" in refused(photo.write, tmp_path / "b.png", COLOUR, overwrite=True)

    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    assert "not writable" in refused(photo.write, tmp_path / "a.png", COLOUR)


def test_more_than_a_format_holds(tmp_path):
    wide = np.zeros((1, 70000, 3), np.uint8)
    refused(photo.write, tmp_path / "a.jpg", wide)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [GREY, COLOUR[None], COLOUR / 255.0, np.dstack([COLOUR, GREY])])
def test_only_photos_are_written(tmp_path, image):
    with pytest.raises(ValueError, match=r"uint8 \[h, w, 3\], got"):
        photo.write(tmp_path / "a.png", image)


# --- folders and pairs -----------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    for folder, extension in (("low", ".PNG"), ("normal", ".jpg")):
        (tmp_path / folder).mkdir()
        for stem in ("b", "a"):
            name = stem.upper() if folder == "low" else stem
            stored(tmp_path / folder / f"{name}{extension}", smooth())
    return tmp_path / "low", tmp_path / "normal"


def test_images_in_a_folder_in_order(folders):
    low, _ = folders
    for name in ("notes.txt", ".hidden.png"):
        (low / name).touch()
    (low / "c.png").mkdir()
    assert [path.name for path in photo.images_in(low)] == ["A.PNG", "B.PNG"]


def test_folders_without_photos(tmp_path):
    assert "holds no photos" in refused(photo.images_in, tmp_path)
    assert "not a folder" in refused(photo.images_in, tmp_path / "no")


def test_pairs_of_unequal_size(tmp_path):
    low, normal = stored(tmp_path / "a.png", smooth()), stored(tmp_path / "b.png", COLOUR)
    refused(photo.read_pair, low, normal, names=[low, normal, "64×40", "24×20"])
