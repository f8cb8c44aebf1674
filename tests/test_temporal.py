"""Films over time: flicker, cuts, changes of exposure, noise, and what moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from video_clips import bytes_of, dark, scene

from pdn_jax import image as im
from pdn_jax import temporal
from pdn_jax.enhancer import Enhancer
from pdn_jax.video import Renderer
from pdn_jax.ycbcr import Coding, from_rgb, to_rgb

CODING = Coding(1, False, 10)
FPS = 25
step = jax.jit(temporal.step)
VARIANTS = ["tiny", "small"]


@functools.cache
def enhancer(weights):
    return Enhancer(weights)


def played(frames, weights, **options):
    """A film of float frames through the network -> (its frames, the renderer)."""
    renderer = Renderer(enhancer(weights), frames[0].shape[:2], CODING, CODING, **options)
    made = []
    for frame in frames:
        planes = jax.device_get(from_rgb(jnp.asarray(bytes_of(frame) / np.float32(255)), CODING))
        made.append(np.asarray(to_rgb(renderer(planes, 1 / FPS), CODING)))
    return np.array(made), renderer


def photograph():
    """A cat, [144, 208, 3]."""
    small = im.pool(jnp.asarray(skimage.data.chelsea()[:288, :416], jnp.float32)[None], 2)
    return np.asarray(small[0]) / 255


@functools.cache
def static(weights, steady, count=50):
    generator = np.random.default_rng(0)
    frames = [dark(photograph(), generator) for _ in range(count)]
    return played(frames, weights, steady=steady)


def psnr(one, other):
    return -10 * np.log10(np.mean((one - other) ** 2))


# --- in a film that stands still -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("weights", VARIANTS)
def test_flicker_is_at_most_a_tenth_of_that_of_single_frames(weights):
    changes = [
        np.abs(np.diff(static(weights, steady)[0].mean((1, 2, 3)))).mean()
        for steady in (True, False)
    ]
    assert changes[0] <= 0.1 * changes[1]


@pytest.mark.parametrize("weights", VARIANTS)
def test_averaging_is_worth_a_decibel(weights):
    clean = dark(photograph(), np.random.default_rng(0), noise=0.0)
    wanted = played([clean], weights, steady=False)[0][0]
    scores = [
        np.mean([psnr(frame, wanted) for frame in static(weights, steady)[0][8:]])
        for steady in (True, False)
    ]
    assert scores[0] >= scores[1] + 1.0


@pytest.mark.slow
def test_average_and_variance_are_those_of_the_frames_so_far():
    generator = np.random.default_rng(0)
    frames = [jnp.asarray(dark(scene(2, 32, 32), generator))[None] for _ in range(12)]
    seen = [enhancer("tiny").global_pass(np.asarray(low[0])) for low in frames]
    quiet = temporal.start(seen[0], frames[0])
    for index in range(1, 12):
        # So much noise is expected that nothing seems to move.
        quiet = quiet._replace(noise=jnp.full(temporal.BINS, 1.0))
        quiet, smooth, average, _ = step(quiet, seen[index], frames[index], 0.04)
        if index == 5:
            np.testing.assert_allclose(average, np.mean(frames[:6], axis=0), atol=1e-6)
            np.testing.assert_allclose(quiet.variance, 1 / 6, atol=1e-6)
            ratio = smooth.noise / quiet.seen.noise
            np.testing.assert_allclose(ratio, 6**-0.5, rtol=1e-5)
    share = 1 / 8
    for _ in range(4):
        share = (7 / 8) ** 2 * share + 1 / 64
    np.testing.assert_allclose(quiet.variance, share, rtol=1e-5)


@pytest.mark.slow
def test_no_frames_are_averaged_where_the_noise_is_to_stay():
    generator = np.random.default_rng(0)
    frames = [dark(scene(1), generator) for _ in range(6)]
    made = [played(frames, "tiny", steady=steady, denoise=0.0)[0][5] for steady in (True, False)]
    rough = [np.abs(np.diff(frame, axis=0)).mean() for frame in made]
    assert rough[0] == pytest.approx(rough[1], rel=0.02)


def test_what_is_kept_does_not_grow():
    generator = np.random.default_rng(0)
    renderer = Renderer(enhancer("tiny"), (96, 128), CODING, CODING)
    alive = []
    for _ in range(12):
        renderer(jax.device_get(from_rgb(jnp.asarray(dark(scene(1), generator)), CODING)), 0.04)
        alive.append(len(jax.live_arrays()))
    assert alive[-1] == alive[3]


# --- in one that changes ---------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_of_the_scene_before_is_left_after_a_cut():
    generator = np.random.default_rng(0)
    frames = [dark(scene(n), generator) for n in (1, 2) for _ in range(8)]
    steady, renderer = played(frames, "small")
    single, _ = played(frames, "small", steady=False)
    assert renderer.cuts == 1
    np.testing.assert_allclose(steady[8], single[8], atol=0.003)
    assert np.abs(steady[7] - single[7]).max() > 0.02


def test_an_exposure_change_is_followed_within_half_a_second():
    generator = np.random.default_rng(0)
    exposures = [0.03] * 20 + [0.1] * 20
    frames = [dark(scene(1), generator, exposure=e) for e in exposures]
    steady, renderer = played(frames, "small")
    single, _ = played(frames, "small", steady=False)
    away = np.abs(steady.mean((1, 2, 3)) - single.mean((1, 2, 3)))
    assert renderer.cuts == 0
    assert away[20] > 0.02  # it is not followed at once
    half = 20 + round(0.5 * FPS)
    assert away[half:].max() < 0.012


def test_what_moves_leaves_no_trail():
    generator = np.random.default_rng(0)
    truths = []
    for index in range(24):
        truth = scene(1).copy()
        truth[30:60, 10 + 4 * index : 30 + 4 * index] = (0.9, 0.6, 0.2)
        truths.append(truth)
    frames = [dark(truth, generator) for truth in truths]
    steady, single = (played(frames, "small", steady=s)[0] for s in (True, False))
    clean = played([dark(t, generator, noise=0.0) for t in truths], "small", steady=False)[0]
    behind = [(i, np.s_[30:60, max(4 * i - 14, 0) : 10 + 4 * i]) for i in range(8, 24)]
    scores = [
        np.mean([psnr(made[i][part], clean[i][part]) for i, part in behind])
        for made in (steady, single)
    ]
    assert scores[0] >= scores[1] - 0.1


def test_a_cell_that_moves_is_begun_anew_and_others_are_not():
    low = jnp.asarray(dark(scene(1, 64, 64), np.random.default_rng(0)))[None]
    seen = enhancer("tiny").global_pass(np.asarray(low[0]))
    moved = low.at[:, 24:32, 24:32].add(0.3)
    new, _, average, cut = step(temporal.start(seen, low), seen, moved, 0.04)
    wanted = np.full((8, 8), 2.0)
    wanted[2:5, 2:5] = 1.0  # with its neighbours
    np.testing.assert_array_equal(new.count[0, :, :, 0], wanted)
    np.testing.assert_array_equal(average[:, 24:32, 24:32], moved[:, 24:32, 24:32])
    assert not cut


# --- parts -----------------------------------------------------------------------------------


def test_follow():
    assert temporal.follow(0.0, 1.0) == pytest.approx(1 - np.exp(-1 / temporal.SLOW))
    fast = 1 / temporal.SLOW + 1 / temporal.FAST
    assert temporal.follow(0.5, 0.04) == pytest.approx(1 - np.exp(-0.04 * fast))
    nervous = 1 / temporal.SLOW + (0.2 / 0.4) ** 2 / temporal.FAST
    assert temporal.follow(0.2, 0.04, 0.1) == pytest.approx(1 - np.exp(-0.04 * nervous))
    twice = 1 - (1 - temporal.follow(0.05, 0.1)) ** 2  # two short steps are one long one
    assert twice == pytest.approx(float(temporal.follow(0.05, 0.2)), rel=1e-5)


def test_estimates_that_vary_anyway_are_not_followed():
    low = jnp.asarray(dark(scene(1, 64, 64), np.random.default_rng(0)))[None]
    seen = enhancer("tiny").global_pass(np.asarray(low[0]))
    state, means = temporal.start(seen, low), []
    for index in range(60):
        sign = -1.0 if index % 2 else 1.0
        varied = seen._replace(increments=seen.increments + np.float32(0.03 * sign))
        state, *_ = step(state, varied, low, 0.04)
        means.append(float(state.seen.increments.mean()))
    assert float(state.jitter) == pytest.approx(2 * 4 * 0.03, rel=0.1)  # of four stages
    assert np.abs(np.diff(means[20:])).max() < 0.05 * 2 * 4 * 0.03


def test_cuts_are_told_from_brightness_and_from_movement():
    def grid(picture, exposure=0.05):
        seen = dark(picture, np.random.default_rng(0), exposure=exposure)
        return im.pool(jnp.asarray(seen)[None], 8)

    scenes = [grid(scene(number)) for number in range(6)]
    cuts = [bool(temporal.is_cut(a, b)) for a in scenes for b in scenes if a is not b]
    assert all(cuts)
    assert not temporal.is_cut(scenes[0], grid(scene(0), 0.1))
    wide = scene(7, 96, 256)
    assert not temporal.is_cut(grid(wide[:, :128]), grid(wide[:, 4:132]))
    black = jnp.zeros((1, 12, 16, 3))
    assert not temporal.is_cut(black, black + 1 / 255)


@pytest.mark.slow
def test_noise_is_measured_by_brightness_whatever_moves():
    generator = np.random.default_rng(0)
    ramp = np.repeat(np.linspace(0.1, 0.9, 128, dtype=np.float32)[None, :, None], 128, 0)
    spread = 0.01 + 0.02 * ramp
    frames = [ramp + spread * generator.normal(size=(128, 128, 3)) for _ in range(2)]
    frames = [jnp.asarray(frame, jnp.float32)[None] for frame in frames]
    seen = enhancer("tiny").global_pass(np.asarray(frames[0][0]))
    state = temporal.start(seen, frames[0])
    middles = 0.1 + 0.8 * (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(state.noise**0.5, 0.01 + 0.02 * middles, rtol=0.15)
    shifted = jnp.roll(frames[1], 40, axis=2)
    still, moving = (step(state, seen, f, 0.04)[0].noise for f in (frames[1], shifted))
    assert (moving <= 2.2 * still).all()
