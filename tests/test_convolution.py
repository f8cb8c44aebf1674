"""The convolution that is fast on a CPU against the plain one: same values, same derivatives."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import convolution

COLUMNS = {
    (8, 8, 8): 4,
    (24, 8, 12): 2,
    (10, 12, 12): 2,
    (9, 8, 8): 3,
    (7, 8, 8): 1,
    (12, 6, 16): 2,
    (5, 24, 8): 1,
    (6, 15, 8): 3,
    (5, 27, 24): 1,
}
"""(width, channels, features) -> how many columns are computed at once; none where 7 is prime. 15
and 27 channels get zeros beside them on a CPU."""


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def written_out(image, kernel):
    """The sum over the nine places of the window, in NumPy and float64."""
    image, kernel = np.asarray(image, np.float64), np.asarray(kernel, np.float64)
    height, width = image.shape[1:3]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, y : y + height, x : x + width] @ kernel[y, x] for y in range(3) for x in range(3)
    )


@pytest.mark.parametrize(("case", "columns"), list(COLUMNS.items()))
def test_columns_at_once(case, columns):
    assert convolution.columns_at_once(*case) == columns


@pytest.mark.parametrize(
    ("case", "columns"),
    [((6, 40, 24), 2), ((7, 40, 24), 1), ((6, 40, 32), 1), ((9, 8, 8), 3), ((6, 16, 24), 2)],
)
def test_columns_at_once_of_large_ones(case, columns):
    assert convolution.columns_at_once(*case, large=True) == columns


@pytest.mark.parametrize("case", list(COLUMNS))
@pytest.mark.parametrize("height", [1, 5])
def test_all_forms_are_the_sum_over_the_window(case, height, monkeypatch):
    width, channels, features = case
    image, kernel = random(2, height, width, channels), random(3, 3, channels, features, seed=1)
    expected = written_out(image, kernel)
    same = functools.partial(np.testing.assert_allclose, desired=expected, rtol=1e-4, atol=1e-4)
    same(convolution.plain(image, kernel))
    same(convolution.taller(image, kernel))
    for large in (convolution.LARGE, 0):
        monkeypatch.setattr(convolution, "LARGE", large)
        same(convolution.convolve(image, kernel))
    same(convolution.image_by_image(image, kernel))
    for columns in range(2, convolution.MOST_COLUMNS + 1):
        if width % columns == 0:
            same(convolution.grouped(image, kernel, columns))
            same(convolution.grouped(image, kernel, columns, below=1))


@pytest.mark.parametrize("many", [0, convolution.MANY], ids=["image by image", "at once"])
@pytest.mark.parametrize("case", [*list(COLUMNS)[:2], *list(COLUMNS)[-3:]])
def test_derivatives_are_those_of_the_plain_form(case, many, monkeypatch):
    monkeypatch.setattr(convolution, "MANY", many)
    width, channels, features = case
    image, kernel = random(2, 3, width, channels), random(3, 3, channels, features, seed=1)
    weight = random(2, 3, width, features, seed=2)

    def gradients(form):
        return jax.jit(jax.grad(lambda x, k: (form(x, k) * weight).sum(), argnums=(0, 1)))(
            image, kernel
        )

    fast, plain = gradients(convolution.convolve), gradients(convolution.plain)
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert abs(b).max() > 0.1


def test_only_the_cpu_sums_image_by_image(monkeypatch):
    """The program for another platform holds one convolution for the kernel's gradient, no loop."""
    monkeypatch.setattr(convolution, "MANY", 0)
    gradient = jax.jit(jax.grad(lambda k, x: (convolution.convolve(x, k) ** 2).sum()))
    traced = gradient.trace(random(3, 3, 24, 24), random(2, 4, 7, 24))
    text = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert "while" in text["cpu"]
    assert "while" not in text["cuda"]


def test_the_gradient_of_each_image_by_itself():
    """Derivatives of derivatives and maps over them pass through, as through any convolution."""
    image, kernel = random(2, 3, 6, 24), random(3, 3, 24, 8, seed=1)

    def each(form):
        slope = jax.grad(lambda k, x: (form(x[None], k) ** 2).sum())
        return jax.vmap(slope, in_axes=(None, 0))(kernel, image)

    fast, plain = each(convolution.image_by_image), each(convolution.plain)
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-3)


def test_only_the_cpu_computes_a_row_more(monkeypatch):
    monkeypatch.setattr(convolution, "LARGE", 0)
    traced = jax.jit(convolution.convolve).trace(random(1, 4, 7, 40), random(3, 3, 40, 40))
    text = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert "1x5x7x40" in text["cpu"]
    assert "1x5x7x40" not in text["cuda"]


def test_only_the_cpu_groups_columns():
    """The program for another platform holds the plain convolution alone."""
    image, kernel = random(1, 4, 8, 8), random(3, 3, 8, 8)
    traced = jax.jit(convolution.convolve).trace(image, kernel)
    text = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    assert "3x6x8x32" in text["cpu"]
    assert "3x6x8x32" not in text["cuda"]
    assert "3x3x8x8" in text["cuda"]


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_the_layer_is_a_linen_convolution(dtype):
    """Same parameters, same names, same result, so that weights saved before fit."""
    image = random(1, 6, 8, 8)
    ours = convolution.conv(8, dtype=dtype, name="look")
    theirs = nn.Conv(8, (3, 3), dtype=dtype, name="look")
    params = ours.init(jax.random.key(0), image)
    other = theirs.init(jax.random.key(0), image)
    assert jax.tree.structure(params) == jax.tree.structure(other)
    a, b = ours.apply(params, image), theirs.apply(params, image)
    assert a.dtype == b.dtype
    tolerance = 1e-5 if dtype is None else 0.05
    np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=tolerance, atol=tolerance)
