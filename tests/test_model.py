"""The network: every stage comes back, for any size; pure, monotone, differentiable everywhere."""

import functools
import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from pdn_jax import image as im
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiled in half the time; how fast it runs does not matter here."""

RANDOM = np.random.default_rng(0)
HEIGHT, WIDTH = 19, 35
PHOTOS = jnp.asarray(
    [
        RANDOM.uniform(0.0, 1.0, (HEIGHT, WIDTH, 3)),
        RANDOM.uniform(0.0, 0.1, (HEIGHT, WIDTH, 3)),
        np.zeros((HEIGHT, WIDTH, 3)),
        np.ones((HEIGHT, WIDTH, 3)),
    ],
    jnp.float32,
)
SMALLEST = {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (2,)}
NETWORKS = VARIANTS | {"smallest": SMALLEST}
SLOW = pytest.mark.slow


def network(name, **options):
    return ProgressiveDualNetwork(**NETWORKS[name], **options)


def shapes_of_parameters(name, **options):
    low = jnp.zeros((1, 16, 16, 3))
    return jax.eval_shape(network(name, **options).init, jax.random.key(0), low)


@functools.cache
def parameters(name="tiny", scale=0.15):
    """Random parameters, every one of them alive; no black level, so that x_0 is what was observed."""
    random = np.random.default_rng(1)
    params = jax.tree.map(
        lambda s: jnp.asarray(scale * random.normal(size=s.shape), s.dtype),
        shapes_of_parameters(name),
    )
    params["params"]["enhancement"]["black"]["bias"] = jnp.full(3, -1e4)
    return params


@functools.cache
def compiled(name="tiny"):
    return jit(network(name).apply)


@functools.cache
def applied(name="tiny", scale=0.15):
    return compiled(name)(parameters(name, scale), PHOTOS)


def arrays(output):
    return jax.tree.leaves(output)


@pytest.fixture
def unchecked():
    """What a caller without the annotation checks meets: our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# --- shapes and sizes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [
        *(("smallest", size) for size in [(1, 16, 16), (3, 17, 31), (1, 50, 37), (3, 27, 43)]),
        *(pytest.param(name, (3, 27, 43), marks=SLOW) for name in VARIANTS),
    ],
)
def test_every_stage_comes_back_for_any_size(name, batch_size):
    n, height, width = batch_size
    low = jax.ShapeDtypeStruct((n, height, width, 3), jnp.float32)
    output = jax.eval_shape(network(name).apply, shapes_of_parameters(name), low)
    options = NETWORKS[name]
    assert [image.shape for image in output.enhanced] == [low.shape] * options["stages"]
    factors = [2**level for level in reversed(range(len(options["widths"])))]
    expected = [(n, -(-height // f), -(-width // f), 3) for f in factors]
    assert [image.shape for image in output.denoised] == expected
    assert output.restored.shape == output.path.shape == low.shape
    assert output.exposure.shape == output.noise.shot.shape == output.noise.read.shape == (n,)
    assert {leaf.dtype for leaf in arrays(output)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(("name", "about"), [("tiny", 30e3), ("small", 0.5e6), ("base", 1.8e6)])
def test_variants_have_the_sizes_they_are_named_for(name, about):
    count = sum(leaf.size for leaf in arrays(shapes_of_parameters(name)))
    assert 0.6 * about < count < 1.4 * about


@pytest.mark.parametrize(
    "shape", [(16, 16, 3), (1, 1, 16, 16, 3), (1, 16, 16, 4), (1, 15, 16, 3), (1, 16, 15, 3)]
)
@pytest.mark.usefixtures("unchecked")
def test_another_shape_is_refused_by_name(shape):
    low = jax.ShapeDtypeStruct(shape, jnp.float32)
    numbers = ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"h, w >= 16, got \({numbers}\)"):
        jax.eval_shape(network("tiny").apply, shapes_of_parameters("tiny"), low)


# --- pure ------------------------------------------------------------------------------------


def test_apply_is_pure_and_deterministic():
    params = jax.tree.map(jnp.copy, parameters())
    low = jnp.copy(PHOTOS)
    first, second = compiled()(params, low), compiled()(params, low)
    for a, b in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(low, PHOTOS)
    for a, b in zip(arrays(params), arrays(parameters()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_jit_changes_nothing():
    with_jit = compiled("smallest")(parameters("smallest"), PHOTOS)
    without = network("smallest").apply(parameters("smallest"), PHOTOS)
    for a, b in zip(arrays(with_jit), arrays(without), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_images_of_a_batch_know_nothing_of_each_other():
    changed = compiled()(parameters(), PHOTOS.at[0].set(PHOTOS[1]))
    for before, after in zip(arrays(applied()), arrays(changed), strict=True):
        np.testing.assert_allclose(after[0], before[1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after[1:], before[1:], rtol=1e-5, atol=1e-6)


def test_what_is_mirrored_beyond_the_edges_is_cut_off():
    """Padding by hand to the next multiple of 8 changes nothing within the image."""
    padded = jnp.pad(PHOTOS, [(0, 0), (0, 5), (0, 5), (0, 0)], mode="symmetric")
    output = compiled("smallest")(parameters("smallest"), padded)
    expected = applied("smallest")
    for ours, whole in (
        (expected.restored, output.restored),
        (expected.path, output.path),
        (expected.enhanced[0], output.enhanced[0]),
    ):
        cut = whole[:, :HEIGHT, :WIDTH]
        np.testing.assert_allclose(ours, cut, rtol=1e-5, atol=1e-6)


# --- enhancement -----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.15, 1.5], ids=["no", "random", "absurd"])
def test_brightening_is_monotone_for_any_parameters(scale):
    """enhanced[s] ≥ enhanced[s − 1] ≥ low at every pixel above the floor, black and white included."""
    output = applied(scale=scale)
    stages = [jnp.maximum(PHOTOS, im.FLOOR), *output.enhanced]
    assert len(stages) == 5
    for darker, brighter in itertools.pairwise(stages):
        assert (brighter >= darker * (1 - 1e-5)).all()
    assert (stages[-1] > 1.1 * stages[0]).any()


@pytest.mark.parametrize("scale", [0.0, 0.15, 1.5], ids=["no", "random", "absurd"])
def test_the_path_is_what_the_last_stage_was_brightened_by(scale):
    output = applied(scale=scale)
    assert (output.path >= -1e-6).all()
    expected = im.expose_curve(PHOTOS, output.path)
    np.testing.assert_allclose(output.enhanced[-1], expected, rtol=1e-4)


def test_exposure_is_the_mean_brightening():
    output = applied()
    assert ((output.exposure > 0) & (output.exposure <= 1)).all()
    expected = np.exp(-np.asarray(output.path).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(output.exposure, expected, rtol=1e-5)
    assert len(np.unique(output.exposure)) == len(PHOTOS)


@pytest.mark.parametrize("scale", [0.0, 0.15, 1.5], ids=["no", "random", "absurd"])
def test_everything_is_finite_and_noise_positive(scale):
    output = applied(scale=scale)
    assert all(jnp.isfinite(leaf).all() for leaf in arrays(output))
    assert ((output.exposure > 0) & (output.exposure <= 1)).all()
    assert (jnp.stack(output.noise) > 0).all()


# --- denoising -------------------------------------------------------------------------------


def test_restored_is_the_last_level():
    output = applied()
    np.testing.assert_array_equal(output.restored, output.denoised[-1])
    assert abs(output.restored - output.enhanced[-1]).max() > 0.01


@pytest.mark.slow
def test_at_its_beginning_it_brightens_only():
    """Random parameters from `init`, residuals at 0: restored is the brightened image, smooth in δ."""
    params = jit(network("tiny").init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    output = compiled()(params, PHOTOS)
    np.testing.assert_allclose(output.restored, output.enhanced[-1], atol=1e-6)
    assert (output.restored[1].mean() > 1.5 * PHOTOS[1].mean()).all()
    assert ((output.exposure > 0.05) & (output.exposure < 0.9)).all()


# --- gradients -------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter():
    """Of a loss over all outputs, for random, dark, black and white photographs."""
    weights = [RANDOM.normal(size=leaf.shape) for leaf in arrays(applied())]

    def total(params, low):
        output = network("tiny").apply(params, low)
        return sum((a * w).sum() for a, w in zip(arrays(output), weights, strict=True))

    params = jax.tree.map(lambda leaf: leaf, parameters())
    params["params"]["enhancement"]["black"]["bias"] = jnp.full(3, -3.0)
    by_params, by_low = jit(jax.grad(total, argnums=(0, 1)))(params, PHOTOS)
    assert all(jnp.isfinite(leaf).all() for leaf in arrays(by_params))
    assert jnp.isfinite(by_low).all()
    assert (jnp.abs(by_low).max(axis=(1, 2, 3)) > 0).all()
    alive = {jax.tree_util.keystr(k): leaf != 0 for k, leaf in jax.tree.leaves_with_path(by_params)}
    assert not [name for name, leaf in alive.items() if not leaf.any()]
    heads = ("black", "noise", "step", "residual")
    biases = [k for k in alive if "bias" in k and any(f"'{head}'" in k for head in heads)]
    assert len(biases) == 3 + 3
    assert not [name for name in biases if not alive[name].all()]


# --- bfloat16 --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_is_of_the_convolutions_alone(name):
    params = shapes_of_parameters(name, dtype=jnp.bfloat16)
    assert params == shapes_of_parameters(name)
    low = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    function = network(name, dtype=jnp.bfloat16).apply
    jaxpr, output = jax.make_jaxpr(function, return_shape=True)(params, low)
    convolutions = [e for e in jaxpr.eqns if e.primitive.name == "custom_vjp_call"]
    operands = [[variable.aval for variable in e.invars] for e in convolutions]
    assert len(operands) > 10
    assert {x.dtype for pair in operands for x in pair} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in arrays(output)} == {jnp.dtype(jnp.float32)}


@pytest.mark.slow
def test_bfloat16_comes_close():
    output = jit(network("tiny", dtype=jnp.bfloat16).apply)(parameters(), PHOTOS)
    difference = jnp.abs(output.restored - applied().restored)
    assert 1e-5 < difference.mean() / applied().restored.std() < 0.02
    np.testing.assert_allclose(output.exposure, applied().exposure, rtol=0.05)
