"""The convolution that is fast on a CPU against the plain one: same values, same derivatives."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import convolution
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork

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


@pytest.mark.slow
def test_derivatives_of_derivatives_and_maps_over_them(monkeypatch):
    """A gradient's gradient, of each image by itself, through every fast form."""
    monkeypatch.setattr(convolution, "MANY", 0)
    monkeypatch.setattr(convolution, "LARGE", 0)
    image, kernel = random(2, 3, 6, 24), random(3, 3, 24, 8, seed=1)

    def each(form):
        def size(kernel, image):
            slope = jax.grad(lambda x: (form(x[None], kernel) ** 2).sum())(image)
            return (slope**2).sum()

        return jax.vmap(jax.grad(size), in_axes=(None, 0))(kernel, image)

    fast, plain = each(convolution.convolve), each(convolution.plain)
    np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-3 * float(abs(plain).max()))


@pytest.mark.slow
def test_bfloat16_gradients_are_as_exact_as_the_plain_ones(monkeypatch):
    monkeypatch.setattr(convolution, "MANY", 0)
    image, kernel = random(4, 16, 16, 16), random(3, 3, 16, 8, seed=1)

    def slope(form, dtype):
        image_, kernel_ = image.astype(dtype), kernel.astype(dtype)
        return jax.grad(lambda k: form(image_, k).astype(jnp.float32).sum())(kernel_)

    true = slope(convolution.plain, jnp.float32)
    errors = [
        float(abs(slope(form, jnp.bfloat16).astype(jnp.float32) - true).mean())
        for form in (convolution.convolve, convolution.plain)
    ]
    assert errors[0] <= 1.01 * errors[1]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(17, 31), (40, 24)])
def test_the_network_is_the_same_with_plain_convolutions(size, monkeypatch):
    """Every fast form at once, thresholds at 0, against `plain` throughout, on odd sizes too."""
    network = ProgressiveDualNetwork(**VARIANTS["tiny"])
    low = jnp.abs(0.1 * random(1, *size, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), low)
    params = jax.tree.map(lambda s: 0.1 * random(*s.shape, seed=s.size), shapes)

    def both():
        def total(params):
            restored = network.apply(params, low).restored
            return (restored**2).mean(), restored

        (_, restored), slopes = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
        return restored, slopes

    with monkeypatch.context() as patch:
        patch.setattr(convolution, "convolve", convolution.plain)
        plain, wanted = both()
    monkeypatch.setattr(convolution, "MANY", 0)
    monkeypatch.setattr(convolution, "LARGE", 0)
    fast, slopes = both()
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted), strict=True):
        scale = max(float(abs(theirs).max()), 1e-6)
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * scale)


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
