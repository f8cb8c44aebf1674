"""Colours of films: numbers of the standards, round trips, greys."""

import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax.ycbcr import LUMA, RGB, Coding, from_rgb, to_rgb

FHD = Coding(1, False, 8)


def plane(*values, kind=np.uint8):
    return np.array([values], kind)


@pytest.mark.parametrize(
    ("matrix", "numbers", "colour"),
    [
        (1, (235, 128, 128), (1, 1, 1)),
        (1, (16, 128, 128), (0, 0, 0)),
        (1, (63, 102, 240), (1, 0, 0)),  # the bars of BT.709
        (1, (173, 42, 26), (0, 1, 0)),
        (6, (81, 90, 240), (1, 0, 0)),  # and of BT.601
        (6, (41, 240, 110), (0, 0, 1)),
    ],
)
def test_colours_are_those_of_the_standards(matrix, numbers, colour):
    coding = Coding(matrix, False, 8)
    planes = tuple(plane(number) for number in numbers)
    np.testing.assert_allclose(to_rgb(planes, coding)[0, 0], colour, atol=0.01)
    made = from_rgb(jnp.array([[colour]], jnp.float32), coding)
    assert [int(p[0, 0]) for p in made] == list(numbers)


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_every_grey_is_exact_there_and_back(matrix, full, bits):
    coding = Coding(matrix, full, bits)
    kind = np.uint8 if bits == 8 else np.uint16
    unit = 2 ** (bits - 8)
    values = np.arange(2**bits) if full else np.arange(16 * unit, 235 * unit + 1)
    planes = (values[None].astype(kind), *[np.full((1, values.size), 128 * unit, kind)] * 2)
    rgb = to_rgb(planes, coding)
    wanted = (values - values[0]) / (values[-1] - values[0])
    np.testing.assert_allclose(rgb[0], np.repeat(wanted[:, None], 3, 1), atol=1e-6)
    for made, given in zip(from_rgb(rgb, coding), planes, strict=True):
        np.testing.assert_array_equal(made, given)


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2)])
def test_colours_of_fewer_samples_stay_where_they_are(across, down):
    generator = np.random.default_rng(0)
    coding = Coding(1, False, 8, across, down)
    y = generator.integers(90, 150, (6, 10), np.uint8)
    colours = [generator.integers(118, 138, (6 // down, 10 // across), np.uint8) for _ in "br"]
    made = from_rgb(to_rgb((y, *colours), coding), coding)
    for one, other in zip(made, (y, *colours), strict=True):
        np.testing.assert_array_equal(one, other)


def test_odd_sides_have_a_sample_of_colour_at_the_edge():
    made = from_rgb(jnp.full((5, 7, 3), 0.5), Coding(1, False, 8, 2, 2))
    assert [p.shape for p in made] == [(5, 7), (3, 4), (3, 4)]
    assert np.asarray(to_rgb(made, Coding(1, False, 8, 2, 2))).shape == (5, 7, 3)


def test_planes_of_rgb_come_as_green_blue_red():
    rgb = to_rgb((plane(10), plane(20), plane(255)), Coding(RGB, True, 8))
    np.testing.assert_allclose(rgb[0, 0] * 255, [255, 10, 20], atol=1e-4)


def test_grey_alone_is_grey_and_may_be_written_without_colour():
    rgb = to_rgb((plane(126),), FHD)
    np.testing.assert_allclose(rgb[0, 0], [110 / 219] * 3, atol=1e-6)
    tinted = jnp.array([[[0.5, 0.4, 0.6]]])
    assert [int(p[0, 0]) for p in from_rgb(tinted, FHD, True)][1:] == [128, 128]
    assert [int(p[0, 0]) for p in from_rgb(tinted, FHD)][1:] != [128, 128]


def test_what_lies_outside_is_clipped():
    rgb = np.asarray(to_rgb((plane(250, 5), plane(128, 128), plane(128, 128)), FHD))
    np.testing.assert_array_equal(rgb[0], [[1, 1, 1], [0, 0, 0]])
    assert int(from_rgb(jnp.full((1, 1, 3), 1.3), FHD)[0][0, 0]) == 235
