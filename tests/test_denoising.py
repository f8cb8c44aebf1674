"""Denoising: the image itself until trained, coarse corrections carried to fine, noise told per level."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import image as im
from pdn_jax.denoising import Denoising, cells

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiled in half the time; how fast it runs does not matter here."""

RANDOM = np.random.default_rng(0)
IMAGE = jnp.asarray(RANDOM.uniform(0, 1, (2, 32, 48, 3)), jnp.float32)
NOISE = jnp.asarray(RANDOM.uniform(0.05, 0.2, (2, 4, 6, 3)), jnp.float32)
CONTEXT = jnp.asarray(RANDOM.uniform(-1, 1, (2, 4, 6, 5)), jnp.float32)


@functools.cache
def module(levels):
    return Denoising((8, 6, 4)[-levels:], (1,) * levels, (2,) * levels)


@functools.cache
def random_parameters(levels=3):
    """Every parameter alive."""
    arguments = (jax.random.key(0), IMAGE, NOISE, CONTEXT)
    shapes = jax.eval_shape(module(levels).init, *arguments)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(random.normal(0, 0.3, s.shape), s.dtype), shapes)


def untrained(levels=3, biases=None):
    """Residuals whose kernels are 0, as they begin; `biases` maps a level to its residual's bias."""
    params = jax.tree.map(lambda leaf: leaf, random_parameters(levels))
    for level in range(levels):
        residual = params["params"][f"level{level}"]["residual"]
        residual["kernel"] = jnp.zeros_like(residual["kernel"])
        residual["bias"] = jnp.asarray((biases or {}).get(level, [0.0] * 12), jnp.float32)
    return params


@functools.cache
def compiled(levels):
    return jit(module(levels).apply)


def apply(params, image=IMAGE, noise=NOISE, context=CONTEXT, levels=3):
    return compiled(levels)(params, image, noise, context)


def test_levels_come_coarse_to_fine():
    shapes = [image.shape for image in apply(random_parameters())]
    assert shapes == [(2, 8, 12, 3), (2, 16, 24, 3), (2, 32, 48, 3)]


@pytest.mark.slow
def test_without_a_noise_map_noise_says_nothing():
    params, blind = random_parameters(), module(3).clone(noise_map=False)
    seen = [blind.apply(params, IMAGE, factor * NOISE, CONTEXT)[-1] for factor in (0.0, 1.0, 3.0)]
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])
    np.testing.assert_allclose(seen[0], apply(params, noise=0.0 * NOISE)[-1], atol=1e-6)
    assert not np.allclose(seen[0], apply(params)[-1], atol=1e-4)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_with_no_residual_it_returns_the_image_itself(levels):
    denoised = apply(untrained(levels), levels=levels)
    assert len(denoised) == levels
    for image, factor in zip(denoised, (4, 2, 1)[-levels:], strict=True):
        expected = im.pool(IMAGE, factor) if factor > 1 else IMAGE
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_random_initial_parameters_have_no_residual():
    one_level = Denoising(widths=(4,), depths=(0,), blocks=(2,))
    params = one_level.init(jax.random.key(0), IMAGE, NOISE, CONTEXT)
    assert jnp.any(params["params"]["level0"]["look"]["kernel"])
    np.testing.assert_array_equal(one_level.apply(params, IMAGE, NOISE, CONTEXT)[0], IMAGE)


def test_with_a_residual_it_does_not():
    assert abs(apply(random_parameters())[-1] - IMAGE).mean() > 0.05


def test_a_coarse_correction_reaches_every_finer_level():
    """d_l = e_l + up(d_{l+1} − e_{l+1}) while residuals are zero."""
    denoised = apply(untrained(biases={2: [0.1, 0.2, 0.3] * 4}))
    for image, factor in zip(denoised, (4, 2, 1), strict=True):
        expected = im.pool(IMAGE, factor) + jnp.asarray([0.1, 0.2, 0.3])[None, None, None]
        np.testing.assert_allclose(image, expected, atol=1e-5)


def test_a_coarse_correction_is_enlarged_smoothly():
    """One pixel of each coarsest 2×2 block lifted: finer levels get its bilinear enlargement."""
    denoised = apply(untrained(biases={2: [0.4] * 3 + [0.0] * 9}))
    correction = np.zeros((1, 8, 12, 3), np.float32)
    correction[:, ::2, ::2] = 0.4
    np.testing.assert_allclose(denoised[0], im.pool(IMAGE, 4) + correction, atol=1e-5)
    expected = IMAGE + im.upsample(im.upsample(jnp.asarray(correction), 2), 2)
    np.testing.assert_allclose(denoised[2], expected, atol=1e-5)


def test_a_fine_correction_leaves_coarser_levels_alone():
    plain, changed = apply(untrained()), apply(untrained(biases={0: [0.2] * 12}))
    np.testing.assert_array_equal(plain[0], changed[0])
    np.testing.assert_array_equal(plain[1], changed[1])
    np.testing.assert_allclose(changed[2], IMAGE + 0.2, atol=1e-6)


def test_each_level_is_told_the_noise_of_its_block_means():
    """Averaging 2^l × 2^l pixels of independent noise divides its deviation by 2^l."""
    found = {}

    def listen(call, args, kwargs, context):
        if (context.module.name or "").startswith("lift"):
            found[context.module.name] = args[0][..., -3:]
        return call(*args, **kwargs)

    def told(noise):
        with nn.intercept_methods(listen):
            module(3).apply(untrained(), IMAGE, noise, CONTEXT)
        return dict(found)

    told = jit(told)(jnp.full_like(NOISE, 0.2))
    sample = jnp.asarray(RANDOM.normal(0.5, 0.2, (1, 256, 256, 3)), jnp.float32)
    assert sorted(told) == ["lift0", "lift1", "lift2"]
    for level in range(3):
        deviation = told[f"lift{level}"]
        measured = im.pool(sample, 2**level).std().item()
        np.testing.assert_allclose(deviation, measured, rtol=0.05)


@pytest.mark.parametrize("told", ["noise", "context"])
def test_what_is_told_matters(told):
    other = apply(random_parameters(), **{told: 2.0 * {"noise": NOISE, "context": CONTEXT}[told]})
    assert abs(other[-1] - apply(random_parameters())[-1]).max() > 1e-3


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter():
    weights = [RANDOM.normal(size=d.shape) for d in apply(random_parameters())]
    images = jnp.concatenate([jnp.zeros((1, 32, 48, 3)), jnp.ones((1, 32, 48, 3))])

    def total(params, image, noise, context):
        denoised = module(3).apply(params, image, noise, context)
        return sum((d * w).sum() for d, w in zip(denoised, weights, strict=True))

    gradient = jit(jax.grad(total, argnums=(0, 1)))
    for image in (images, IMAGE):
        found = gradient(random_parameters(), image, NOISE, CONTEXT)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(found[0])
        if not jnp.any(leaf)
    ]
    assert not dead


BLOCKS = [(2, 2, 4), (4, 4), (8,)]


@pytest.mark.parametrize("blocks", BLOCKS)
def test_larger_blocks_are_levels_like_others(blocks):
    """The image itself until trained; a constant coarse correction goes through all that is finer."""
    levels = len(blocks)
    module = Denoising((8, 6, 4)[-levels:], (1,) * levels, blocks)
    params = jit(module.init)(jax.random.key(0), IMAGE, NOISE, CONTEXT)
    assert all(
        params["params"][f"level{level}"]["residual"]["bias"].size == 3 * block**2
        for level, block in enumerate(reversed(blocks))
    )
    run = jit(module.apply)
    np.testing.assert_allclose(run(params, IMAGE, NOISE, CONTEXT)[-1], IMAGE, atol=1e-6)
    bias = params["params"][f"level{levels - 1}"]["residual"]["bias"]
    params["params"][f"level{levels - 1}"]["residual"]["bias"] = bias + 0.25
    np.testing.assert_allclose(run(params, IMAGE, NOISE, CONTEXT)[-1], IMAGE + 0.25, atol=1e-5)


@pytest.mark.parametrize(
    ("blocks", "expected"), [((2,), [2]), ((2, 2, 2), [8, 4, 2]), ((2, 2, 4), [8, 4, 4])]
)
def test_cells_by_hand(blocks, expected):
    assert cells(blocks) == expected


@pytest.mark.parametrize("blocks", [(3,), (2, 8), (1, 1), (2, 2, 16)])
def test_blocks_that_do_not_nest_are_refused(blocks):
    with pytest.raises(ValueError, match="even ones, none coarser"):
        cells(blocks)


def test_as_many_widths_as_depths_and_blocks():
    with pytest.raises(ValueError, match=r"\(8, 4\).*\(1,\).*\(2, 2\)"):
        Denoising((8, 4), (1,), (2, 2)).init(jax.random.key(0), IMAGE, NOISE, CONTEXT)
