"""Photographs of any size by programs of few shapes: what the plain network gives, to rounding."""

import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import Enhancer, cache, dial, enhancement, enhancer, executable, layout, programs
from pdn_jax.export import formats
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.together import Together
from pdn_jax.types import InputError
from pdn_jax.weights import Weights, load

SMALL = {"stages": 2, "width": 8, "widths": (8, 8), "depths": (1, 2), "blocks": (4, 4)}
SLOW = pytest.mark.slow
NETWORKS = {
    "tiny": VARIANTS["tiny"],
    "rows": VARIANTS["tiny"] | {"texture": "rows"},
    "three levels": SMALL | {"widths": (8, 8, 8), "depths": (1, 1, 1), "blocks": (2, 2, 2)},
    "two levels": SMALL,
    "one level": SMALL | {"widths": (8,), "depths": (1,), "blocks": (2,)},
    "blind": SMALL | {"noise_map": False, "evidence": True},
}
DIALS = ({}, {"exposure": 0.4}, {"exposure": 2.0, "denoise": 0.3})


@functools.cache
def weights(name):
    """Random parameters, every one alive, large enough for a pixel to reach as far as it can."""
    module = ProgressiveDualNetwork(**NETWORKS[name])
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda s: random.normal(0, 0.12, s.shape).astype(np.float32), shapes)
    return Weights(name, NETWORKS[name], params, {})


@functools.cache
def made(name, tile=None):
    return Enhancer(weights(name), tile=tile)


@functools.cache
def applied(name):
    module = ProgressiveDualNetwork(**NETWORKS[name])

    def plain(params, low, exposure=None, denoise=1.0):
        output = module.apply(params, low)
        restored = output.restored if exposure is None else dial.dial(output, exposure, denoise)
        return jnp.clip(restored, 0.0, 1.0)

    return jax.jit(plain, compiler_options={"xla_backend_optimization_level": 0})


def plain(name, photo, exposure=None, denoise=1.0):
    """The network applied to the photograph as it is."""
    dials = () if exposure is None else (exposure, denoise)
    return np.asarray(applied(name)(weights(name).params, photo[None], *dials))[0]


def whole(name, photo):
    """All that the network gives."""
    module = ProgressiveDualNetwork(**NETWORKS[name])
    return jax.jit(module.apply)(weights(name).params, jnp.asarray(photo)[None])


def photograph(*shape, dtype=np.float32):
    """Dark noise on a slope, so that places differ."""
    random = np.random.default_rng(2)
    values = random.uniform(0, 0.2, (*shape, 3)) + np.linspace(0, 0.2, shape[-1])[:, None]
    return (values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


# --- what the plain form gives ---------------------------------------------------------------


@pytest.mark.parametrize("dials", DIALS)
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tiny", (83, 99)),
        *(pytest.param(name, (83, 99), marks=SLOW) for name in NETWORKS if name != "tiny"),
        *(pytest.param(name, (16, 16), marks=SLOW) for name in ("three levels", "one level")),
    ],
)
def test_any_size_is_what_the_network_gives(name, size, dials):
    photo = photograph(*size)
    wanted = plain(name, photo, **dials)
    np.testing.assert_allclose(made(name)(photo, **dials), wanted, atol=1e-5)
    assert wanted.std() > 0.02


@pytest.mark.slow
def test_every_size_along_a_diagonal():
    """From 16 to 200, height one way and width the other, so that all remainders of 8 meet.

    Against the exported network, which takes any size without being compiled for it and is held
    against the plain one in test_export.py. Dials see the mean of the path, which that file takes over
    the photograph as it was padded: so with them the sides are multiples of 8.
    """
    restore = formats.program("onnx", formats.written(weights("tiny"), "onnx"))
    for side in range(16, 201):
        photo = photograph(side, 216 - side)
        more = [(0, -length % 8) for length in photo.shape[:2]]
        padded = np.pad(photo, (*more, (0, 0)), mode="symmetric")
        wanted = restore(padded, 1.0, 1.0)[:side, : 216 - side]
        np.testing.assert_allclose(made("tiny")(photo), wanted, atol=1e-5, err_msg=side)
        if side % 8 == 0:
            result = made("tiny")(photo, **DIALS[2])
            wanted = restore(photo, DIALS[2]["exposure"], DIALS[2]["denoise"])
            np.testing.assert_allclose(result, wanted, atol=1e-5, err_msg=side)


@pytest.mark.slow
@pytest.mark.parametrize("side", [50, 141])
def test_sizes_that_do_not_divide_with_dials(side):
    photo = photograph(side, 216 - side)
    wanted = plain("tiny", photo, **DIALS[2])
    np.testing.assert_allclose(made("tiny")(photo, **DIALS[2]), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [(1537, 20), (263, 20)])
def test_what_is_seen_is_mirrored_across_strips(size):
    """Fewer rows than 8 in the last strip of 256: what is mirrored beyond it lies in the strip before."""
    photo = photograph(*size)
    small, texture = layout.observe(photo, "both")
    padded = np.pad(photo, (*((0, -length % 8) for length in size), (0, 0)), mode="symmetric")
    wanted = enhancement.observe(jnp.asarray(padded)[None], "both")
    np.testing.assert_allclose(small, wanted[0][0], atol=1e-6)
    np.testing.assert_allclose(texture, wanted[1][0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "dials"), [((1001, 1613), {}), ((1537, 411), DIALS[2]), ((1999, 1800), {})]
)
def test_large_photographs(size, dials):
    photo = photograph(*size)
    result = made("tiny")(photo, **dials)
    np.testing.assert_allclose(result, plain("tiny", photo, **dials), atol=1e-5)


@pytest.mark.parametrize("dials", DIALS)
@pytest.mark.parametrize(
    ("name", "tile"), [pytest.param("tiny", 200, marks=SLOW), ("two levels", 168)]
)
def test_tiles_give_what_the_whole_gives(name, tile, dials):
    photo = photograph(251, 347)
    assert len(made(name, tile)._tiles(251, 347)[1]) > 4
    result = made(name, tile)(photo, **dials)
    np.testing.assert_allclose(result, plain(name, photo, **dials), atol=1e-5)


@pytest.mark.slow
def test_the_margin_is_needed(monkeypatch):
    """With half of it the tiles' edges show."""
    short = Enhancer(weights("three levels"), tile=200)
    short.overlap //= 2
    photo = photograph(251, 347)
    assert abs(short(photo) - plain("three levels", photo)).max() > 1e-4


@pytest.mark.slow
def test_tiles_may_be_computed_together():
    """As on accelerators; the last batch is not full."""
    several = Enhancer(weights("tiny"), tile=200)
    several.together = Together(4)
    photos = np.stack([photograph(100, 347), photograph(100, 347)[::-1]])
    result = several(photos)
    for photo, one in zip(photos, result, strict=True):
        np.testing.assert_allclose(one, plain("tiny", photo), atol=1e-5)


@pytest.mark.slow
def test_photographs_of_other_sizes_share_batches_across_threads():
    """As on accelerators: six threads, three sizes, each result its own photograph's."""
    shared = Enhancer(weights("tiny"), tile=200)
    shared.together = Together(4)
    photos = [photograph(90 + 30 * (index % 3), 260 + index) for index in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for photo, result in zip(photos, pool.map(shared, photos), strict=True):
            np.testing.assert_allclose(result, plain("tiny", photo), atol=1e-5)


def test_sixteen_bits_are_what_floats_give():
    photo = np.rint(photograph(83, 99) * 65535).astype(np.uint16)
    for dials in DIALS[::2]:
        result = made("tiny")(photo, **dials)
        wanted = made("tiny")(photo.astype(np.float32) / 65535, **dials)
        assert result.dtype == np.uint16
        np.testing.assert_allclose(result / 65535, wanted, atol=1e-5)


@pytest.mark.slow
def test_half_precision_stays_within_a_step():
    rough = Enhancer(load("tiny"), dtype="bfloat16")
    photo = photograph(120, 150)
    exact = Enhancer(load("tiny"))(photo)
    difference = abs(rough(photo) - exact)
    assert 0 < difference.mean() < 1 / 255


# --- in two parts ----------------------------------------------------------------------------


def test_global_pass_and_render_are_the_whole():
    photo = photograph(83, 99, dtype=np.uint8)
    estimate = made("tiny").global_pass(photo)
    assert estimate.increments.shape == (1, 4, 11, 13, 3)
    np.testing.assert_array_equal(made("tiny").render(photo, estimate), made("tiny")(photo))
    darker = estimate._replace(increments=0.5 * estimate.increments)
    assert made("tiny").render(photo, darker).mean() < made("tiny")(photo).mean()


def test_mean_path_is_the_networks_exposure():
    photo = photograph(251, 347)
    output = whole("tiny", photo)
    for tile in (None, 200):
        estimate = made("tiny", tile).global_pass(photo)
        path = made("tiny", tile).mean_path(estimate, 251, 347)
        np.testing.assert_allclose(np.exp(-path), output.exposure[0], rtol=1e-5)
        np.testing.assert_allclose(estimate.shot_noise, output.noise.shot, rtol=1e-4)


def test_stages_in_tiles_and_reduced():
    photo = photograph(251, 347)
    output = whole("tiny", photo)
    full = made("tiny", 200).stages(photo)
    small = made("tiny", 200).stages(photo, reduce=4)
    for kind in ("enhanced", "denoised"):
        for image, truth in zip(getattr(full, kind), getattr(output, kind), strict=True):
            np.testing.assert_allclose(image, np.clip(truth[0], 0, 1), atol=1e-5)
    for image in (*small.enhanced, *small.denoised[1:], small.restored):
        assert image.shape == (62, 86, 3)
    means = full.restored[:248, :344].reshape(62, 4, 86, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small.restored, means, atol=1e-5)
    with pytest.raises(ValueError, match="reduce must be 1, 2, 4 or 8, got 3"):
        made("tiny").stages(photo, reduce=3)


# --- programs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_forty_sizes_compile_at_most_four_programs(monkeypatch):
    """Counted where they are compiled, and by jax's own count of compilations."""
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())
    events = []

    def listen(name, *_, **__):
        events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    one = Enhancer(weights("one level"), cache=cache.Cache(None))
    random = np.random.default_rng(3)
    try:
        for height, width in random.integers((360, 540), (440, 640), (20, 2)).tolist():
            for size in ((height, width), (width, height)):
                photo = np.zeros((*size, 3), np.uint8)
                assert one(photo).shape == photo.shape
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert one.programs.compiled == len(programs.SHELF) <= 4
    compiled = [name for name in events if name.endswith("backend_compile_duration")]
    assert 0 < len(compiled) <= 4


def test_sliders_do_not_compile_again():
    one = made("one level")
    photo = photograph(83, 99)
    one(photo, exposure=0.5)
    before = one.programs.compiled
    for exposure, denoise in [(0.6, 0.3), (2.0, 0.0), (1.0, 0.7)]:
        one(photo, exposure=exposure, denoise=denoise)
    assert one.programs.compiled == before


def test_other_weights_of_one_network_share_programs():
    photo = photograph(83, 99)
    made("tiny")(photo)
    given = weights("tiny")
    other = Enhancer(given._replace(params=jax.tree.map(lambda leaf: 0.7 * leaf, given.params)))
    assert abs(other(photo) - made("tiny")(photo)).max() > 0.01
    assert other.programs.compiled == 0


def test_programs_in_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(programs, "KEPT", 3)
    shelf = programs.Shelf()
    for key in "abcad":
        shelf.get(key, lambda key=key: key.upper())
    assert len(shelf) == 3
    assert shelf.get("a", lambda: "new") == "A"
    assert shelf.get("b", lambda: "new") == "new"


@pytest.mark.parametrize("dialled", [False, True])
@pytest.mark.parametrize(
    ("name", "size"), [("one level", (83, 99)), ("one level", (251, 347)), ("blind", (83, 99))]
)
def test_prepare_is_all_that_a_photograph_needs(name, size, dialled):
    one = Enhancer(weights(name), tile=200, cache=cache.Cache(None))
    one.prepare(*size, dialled=dialled)
    before = one.programs.compiled
    one(np.zeros((*size, 3), np.uint8), exposure=0.5 if dialled else 1.0)
    assert one.programs.compiled == before


def test_dtypes_and_dials_are_checked():
    with pytest.raises(ValueError, match="int32"):
        made("tiny")(np.zeros((32, 32, 3), np.int32))
    with pytest.raises(InputError, match="exposure"):
        made("tiny")(np.zeros((32, 32, 3)), exposure=0)
    with pytest.raises(ValueError, match="pixels a side or more, got 100"):
        Enhancer(weights("tiny"), tile=100)
    assert enhancer.SMALLEST == 2 * layout.REDUCTION
    assert executable.on_cpu()
