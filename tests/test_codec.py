"""Encoded photos in memory: the same rules as for files."""

import io

import numpy as np
import pytest
from PIL import Image

from pdn_jax import codec, photo
from pdn_jax.types import InputError

COLOUR = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
IMAGE = Image.fromarray(COLOUR)


def coded(form="PNG", image=IMAGE, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


@pytest.mark.parametrize("form", codec.FORMATS)
def test_bytes_give_what_a_file_of_them_gives(tmp_path, form):
    (tmp_path / "a").write_bytes(coded(form))
    np.testing.assert_array_equal(codec.decode(coded(form), "b"), photo.read(tmp_path / "a"))


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
        codec.decode(data, "shard 3, record 5")
    assert "\n" not in str(caught.value)
