"""One film frame after another: a steady exposure, and noise averaged away where nothing moves.

The enhancement module sees every frame alone: what it estimates changes with the noise, which shows
as flicker. Here its global pass is filtered in time: the mean brightening and the black level by a
low-pass filter that follows large changes fast, everything on the 1/8 grid by an average over the
frames since its cell last moved. Over the same cells the frames themselves are averaged. All
functions are pure, and the frames of a film share one compiled program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pdn_jax import enhancement
from pdn_jax import image as im
from pdn_jax.layout import REDUCTION, GlobalPass
from pdn_jax.types import Image, Scalar

FRAMES = 8
"""The frames that the running average of the pixels stands for, at most."""

SLOW = 2.0
"""Time constant in seconds with which small changes of the exposure are followed."""

FAST = 0.08
"""Time constant in seconds with which a change of `STEP` or more is followed."""

STEP = 0.1
"""A change of the mean ln k that is no estimation error, or more where that varies from frame to
frame anyway: `JITTER` times its usual change."""

JITTER = 4.0
"""How many times the usual change a change must be to be one."""

MOVED = 1.7
"""A cell has moved where its squared change is this many times what noise explains."""

BINS = 8
"""Brightnesses for which the noise is measured, each that of as many cells."""

LEARN = 0.1
"""Weight of the present frame in what is measured of noise and jitter."""

CUT = 0.5
"""A cut is where two frames differ by this share of their contrast, brightness aside."""

FLAT = 0.1
"""Mean difference on the scale of `image.encode` up to which nothing is a cut."""


class State(NamedTuple):
    """What is remembered of the frames so far.

    seen: the filtered global pass. average: the running average of the frames [1, h, w, 3].
    variance: the share of the noise's variance that it still has, and count: frames since the cell
    moved, both [1, h/8, w/8, 1]. grid: the last frame [1, h/8, w/8, 3]. noise: variance of a frame's
    noise by brightness, sRGB [BINS]. mean: of the last frame's own ln k [1, 1, 1, 3]; jitter: how
    much that changes, root mean square.
    """

    seen: GlobalPass
    average: Image
    variance: Array
    count: Array
    grid: Array
    noise: Array
    mean: Array
    jitter: Scalar


def start(seen: GlobalPass, low: Image) -> State:
    """The state after a first frame.

    Args:
        seen: the frame's global pass.
        low: the frame, sRGB in [0, 1], [1, h, w, 3], sides divisible by 8.

    Returns:
        A state for `step`.
    """
    grid = im.pool(low, REDUCTION)
    ones = jnp.ones_like(grid[..., :1])
    detail = _cells(_detail(low) ** 2)
    noise = _noise(detail, detail, _bins(grid))
    path = seen.increments.sum(1)
    jitter = jnp.float32(STEP / JITTER)
    mean = path.mean((1, 2), keepdims=True)
    seen = seen._replace(increments=path[:, None])
    return State(seen, low, ones, ones, grid, noise, mean, jitter)


def step(
    state: State,
    seen: GlobalPass,
    low: Image,
    seconds: float | Scalar,
    frames: float | Scalar = FRAMES,
) -> tuple[State, GlobalPass, Image, Bool[Array, ""]]:
    """The next frame of a film, as it is to be rendered.

    A cell is averaged with weights 1/n in the n-th frame since it moved, 1/frames at least. It has
    moved where the mean of (low − average)² exceeds MOVED times the variance that noise explains.

    Args:
        state: after the frame before.
        seen: the frame's own global pass.
        low: the frame, sRGB in [0, 1], [1, h, w, 3], sides divisible by 8.
        seconds: since the frame before, above 0.
        frames: the most frames that are averaged, 1 for none.

    Returns:
        The new state; the filtered global pass, whose noise is what the averaged frame still has;
        the averaged frame; and whether this frame begins another scene.
    """
    grid = im.pool(low, REDUCTION)
    cut = is_cut(state.grid, grid)
    bins = _bins(grid)
    change = _cells((low - state.average) ** 2) / (1.0 + state.variance)
    measured = _noise(change, _cells(_detail(low) ** 2), bins)
    noise = state.noise + jnp.where(cut, 1.0, LEARN) * (measured - state.noise)
    explained = (jnp.maximum(noise, enhancement.QUANTIZATION) @ bins).reshape(change.shape)
    # The neighbours too: what moves has edges.
    change = jax.lax.reduce_window(
        change / explained, 0.0, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"
    )
    count = jnp.where((change < MOVED) & ~cut, state.count + 1.0, 1.0)

    weight = 1.0 / jnp.minimum(count, frames)
    average = low + _enlarge(1.0 - weight) * (state.average - low)
    variance = (1.0 - weight) ** 2 * state.variance + weight**2
    mean, jitter = _jitter(state, seen, cut)
    smooth = _filtered(state.seen, seen, mean, jitter, count, cut, seconds)
    new = State(smooth, average, variance, count, grid, noise, mean, jitter)
    return new, smooth._replace(noise=smooth.noise * jnp.sqrt(variance)), average, cut


def is_cut(before: Array, now: Array) -> Bool[Array, ""]:
    """Whether two frames on the 1/8 grid show different scenes, however bright each is.

    With a and b the frames on a scale of stops, each less its mean:
    mean|a − b| > max(FLAT, CUT·(mean|a| + mean|b|)/2).

    Args:
        before: a frame [1, h/8, w/8, 3], sRGB.
        now: another of that shape.

    Returns:
        A boolean scalar.
    """
    a, b = (x - x.mean((1, 2), keepdims=True) for x in map(im.encode, (before, now)))
    contrast = 0.5 * (jnp.abs(a).mean() + jnp.abs(b).mean())
    return jnp.abs(a - b).mean() > jnp.maximum(FLAT, CUT * contrast)


def follow(change: float | Array, seconds: float | Scalar, jitter: float | Scalar = 0.0) -> Array:
    """Share of a change of the mean ln k that is taken up at once.

        1 − exp(−t/τ),   1/τ = 1/SLOW + min(1, (change/max(STEP, JITTER·jitter))²)/FAST

    Args:
        change: of the mean ln k.
        seconds: t, since the frame before.
        jitter: how much the mean ln k changes from frame to frame anyway.

    Returns:
        The share, in (0, 1).
    """
    certain = jnp.maximum(STEP, JITTER * jitter)
    rate = 1.0 / SLOW + jnp.minimum(1.0, (change / certain) ** 2) / FAST
    return 1.0 - jnp.exp(-seconds * rate)


def _jitter(state: State, seen: GlobalPass, cut: Array) -> tuple[Array, Array]:
    """The frame's mean ln k, and how much that usually changes: at most nine times counts."""
    mean = seen.increments.sum(1).mean((1, 2), keepdims=True)
    usual = state.jitter**2
    change = jnp.minimum(jnp.abs(mean - state.mean).max() ** 2, 9.0 * usual)
    return mean, jnp.sqrt(jnp.where(cut, usual, usual + LEARN * (change - usual)))


def _filtered(
    past: GlobalPass,
    seen: GlobalPass,
    mean: Array,
    jitter: Array,
    count: Array,
    cut: Array,
    seconds: float | Scalar,
) -> GlobalPass:
    """The global pass, filtered: its means in time, the rest over the frames of each cell."""
    slow = jnp.maximum(1.0 / count, follow(0.0, seconds))

    def mixed(before: Array, now: Array, share: Array) -> Array:
        return now + (1.0 - share).astype(now.dtype) * (before - now)

    paths = [x.increments.sum(1) for x in (past, seen)]
    before = paths[0].mean((1, 2), keepdims=True)
    share = jnp.where(cut, 1.0, follow(jnp.abs(mean - before).max(), seconds, jitter))
    relief = mixed(paths[0] - before, paths[1] - mean, slow)
    path = jnp.clip(mixed(before, mean, share) + relief, 0.0, im.MAX_BRIGHTENING)
    return GlobalPass(
        black=mixed(past.black, seen.black, share),
        increments=path[:, None],
        noise=mixed(past.noise, seen.noise, slow),
        context=mixed(past.context, seen.context, slow),
        shot_noise=mixed(past.shot_noise, seen.shot_noise, share),
        read_noise=mixed(past.read_noise, seen.read_noise, share),
    )


def _bins(grid: Array) -> Float[Array, "bins cells"]:
    """Which cells of the 1/8 grid are of which brightness, as 0 and 1."""
    rank = jnp.argsort(jnp.argsort(grid.mean(-1).ravel()))
    bins = (rank * BINS // rank.size)[None] == jnp.arange(BINS)[:, None]
    return bins.astype(jnp.float32)


def _noise(change: Array, detail: Array, bins: Array) -> Float[Array, " bins"]:
    """Variance of a frame's noise by brightness: what half of the cells change by at most.

    Where most of a film moves that is no noise: at most twice the detail of the plainest quarter.
    """

    def quantile(values: Array, share: float) -> Array:
        return jnp.nanquantile(jnp.where(bins > 0, values.reshape(1, -1), jnp.nan), share, axis=1)

    # A film of fewer cells than bins leaves some empty; no cell reads those.
    measured = jnp.minimum(quantile(change, 0.5), 2.0 * quantile(detail, 0.25))
    return jnp.where(bins.any(axis=1), measured, 0.0)


def _detail(low: Image) -> Image:
    """A frame's noise and finest texture, of the variance of white noise (Immerkær 1996).

    Second differences along both axes, [1, −2, 1]ᵀ⊗[1, −2, 1]/6.
    """
    for axis in (1, 2):
        low = jnp.roll(low, 1, axis) - 2.0 * low + jnp.roll(low, -1, axis)
    return low / 6.0


def _cells(values: Image) -> Float[Array, "1 rows columns 1"]:
    """Mean over the pixels and channels of every cell of the 1/8 grid."""
    return im.pool(values.mean(-1, keepdims=True), REDUCTION)


def _enlarge(grid: Array) -> Array:
    """Every cell of the 1/8 grid as 8×8 pixels."""
    return jnp.repeat(jnp.repeat(grid, REDUCTION, axis=1), REDUCTION, axis=2)
