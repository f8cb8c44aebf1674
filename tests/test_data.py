"""Batches as a function of (seed, step), crops, the split, synthesis on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from pdn_jax import degradation
from pdn_jax.types import InputError
from train import data

CAMERA = degradation.camera()


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 256, (70 + 10 * i, 90, 3), dtype=np.uint8) for i in range(3))
    return data.Photos(("a", "b", "c"), images)


def make(photos, seed=0, batch_size=4):
    return data.batches(photos, seed=seed, batch_size=batch_size, crop_size=32, smallest=0.4)


def test_packaged_photographs_are_there():
    photos = data.packaged_photos()
    assert {"coffee", "flower", "astronaut"} <= set(photos.names)
    assert len(photos.names) >= 6
    for image in photos.images:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert min(image.shape[:2]) >= 256


def test_held_out_photographs_are_not_trained_on():
    kept, held = data.load("", ("coffee", "flower"))
    assert set(held.names) == {"coffee", "flower"}
    assert not set(kept.names) & set(held.names)
    for image in kept.images:
        assert not any(np.array_equal(image, other) for other in held.images)


@pytest.mark.parametrize("names", [("coffe",), (), ("a", "b", "c")])
def test_a_split_without_two_sides_is_refused(photos, names):
    with pytest.raises(InputError, match=r"data\.held_out"):
        data.split(photos, names)


def test_folder_of_photographs(tmp_path, photos):
    for name, image in zip(*photos, strict=True):
        PILImage.fromarray(image).save(tmp_path / f"{name}.png")
    kept, held = data.load(str(tmp_path), ("b",))
    assert kept.names == ("a", "c")
    np.testing.assert_array_equal(held.images[0], photos.images[1])


def test_batches_depend_on_seed_and_step_alone(photos):
    one, two = make(photos), make(photos)
    for step in (0, 3, 7, 3):
        np.testing.assert_array_equal(one[step], two[step])
    assert one[0].shape == (4, 32, 32, 3)
    assert one[0].dtype == np.uint8
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one[0], make(photos, seed=1)[0])


@pytest.mark.parametrize("start", [0, 5])
def test_the_stream_goes_on_where_it_is_told(photos, start):
    dataset = make(photos)
    stream = data.stream(dataset, start, threads=2)
    for step in range(start, start + 4):
        np.testing.assert_array_equal(next(stream), dataset[step])


def test_every_photograph_is_seen_once_a_round(photos):
    """Flat photographs of one value each: three crops a round hold the three values."""
    flat = data.Photos(
        photos.names, tuple(np.full((64, 64, 3), value, np.uint8) for value in (10, 20, 30))
    )
    dataset = data.batches(flat, seed=0, batch_size=3, crop_size=32, smallest=0.5)
    orders = set()
    for step in range(8):
        values = [int(crop[0, 0, 0]) for crop in dataset[step]]
        assert sorted(values) == [10, 20, 30]
        orders.add(tuple(values))
    assert len(orders) > 1


def test_crops_are_parts_of_the_photograph_flipped_and_turned():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 200
    seen = set()
    for seed in range(40):
        part = data.crop(image, np.random.default_rng(seed), 64)
        assert part.shape == (64, 64, 3)
        means = part[:32].mean(), part[:, :32].mean()
        seen.add(tuple(round(float(mean)) for mean in means))
    assert seen == {(200, 100), (0, 100), (100, 200), (100, 0)}


def test_crops_reach_every_corner():
    image = np.arange(40 * 50).reshape(40, 50, 1).repeat(3, axis=-1)
    corners = {0, 49, 39 * 50, 39 * 50 + 49}
    for seed in range(400):
        corners -= set(data.crop(image, np.random.default_rng(seed), 32)[..., 0].ravel().tolist())
    assert not corners


def test_photographs_are_scaled_down_and_never_up():
    image = np.zeros((200, 300, 3), np.uint8)
    sizes = [copy.shape[:2] for copy in data.scaled(image, 50, 0.5)]
    assert len(sizes) == data.SCALES
    assert sizes[0] == (50, 75)
    assert sizes[-1] == (100, 150)
    assert sizes == sorted(sizes)
    assert data.scaled(image, 50, 0.01)[-1].shape[:2] == (200, 300)
    assert data.scaled(image, 200, 0.3)[-1].shape[:2] == (200, 300)


def test_a_photograph_smaller_than_the_crop_is_named(photos):
    with pytest.raises(InputError, match=r"photograph a .*crop_size=80"):
        data.batches(photos, seed=0, batch_size=1, crop_size=80, smallest=0.5)


def synthesise(indices, step=0, seed=0):
    crops = jnp.full((len(indices), 32, 32, 3), 128, jnp.uint8)
    keys = data.image_keys(jax.random.key(seed), jnp.asarray(step), jnp.asarray(indices))
    return data.synthesise(keys, crops, CAMERA, degradation.sample_physics)


def test_synthesis_is_keyed_by_seed_step_and_place():
    whole = synthesise([0, 1, 2, 3])
    half = synthesise([2, 3])
    np.testing.assert_array_equal(whole.low[2:], half.low)
    assert not np.array_equal(whole.low[0], whole.low[1])
    assert not np.array_equal(whole.low, synthesise([0, 1, 2, 3], step=1).low)
    assert not np.array_equal(whole.low, synthesise([0, 1, 2, 3], seed=1).low)


def test_synthesis_darkens_to_eight_bits():
    batch = synthesise([0, 1, 2])
    np.testing.assert_allclose(batch.normal, 128 / 255, rtol=1e-6)
    assert batch.low.max() < 0.5
    levels = np.asarray(batch.low) * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert batch.physics.exposure.shape == (3,)


def test_held_out_pairs_are_a_function_of_the_seed(photos):
    def pairs(seed):
        return data.held_out_pairs(
            photos, seed=seed, draws=2, degrade=CAMERA, sample_physics=degradation.sample_physics
        )

    one, two, other = pairs(0), pairs(0), pairs(1)
    assert len(one) == 6
    for (name, low, normal), (again, same, _), (_, different, _) in zip(
        one, two, other, strict=True
    ):
        assert name == again
        np.testing.assert_array_equal(low, same)
        assert not np.array_equal(low, different)
        assert low.mean() < normal.mean()
