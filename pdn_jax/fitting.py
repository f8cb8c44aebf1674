"""Fitting θ to one pair: robust regression in linear light, with an 8-bit camera in the model.

`physics.fit_physics` is the entrance; here one pair [h, w, 3] is fitted, in four rounds of
light (slope and offset per channel), then noise (σs and σr).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from pdn_jax import image as im
from pdn_jax.types import Image, Physics, Scalar

BLOCK = 4
"""Pixels a side of the block means to which the light is fitted."""

BINS, PER_BIN = 24, 24
"""Bins of equal population over intensity for the noise, and quantiles of intensity in each."""

EDGE = 0.02
"""Departure of the reference from its own blur, sRGB, at which a pixel counts half for the noise."""

FINENESS = 8
"""Entries per 8-bit level of the table of expected readouts."""

DARKEST = -8
"""Level at which that table begins: a negative offset may send values below black."""

TUKEY = 4.685
"""Tukey's biweight constant, for 95 % efficiency on Gaussian residuals."""


# --- the camera's readout ----------------------------------------------------------------------


def readout(mean: Array, shot: Scalar, read: Scalar) -> tuple[Array, Array]:
    """Mean and variance of an 8-bit sRGB readout of light plus its noise.

    E[Q] = Σ_q (e_q − e_{q−1})·Φ((mean − t_q)/σ) over the 255 thresholds t_q between levels, and
    likewise E[Q²]: exact for Gaussian noise σ² = shot·mean + read, rounding and clipping included.

    Args:
        mean: noise-free linear light, any shape; below 0 where the offset is.
        shot: σs.
        read: σr, above 0.

    Returns:
        (mean, variance) in linear light, each of the shape of `mean`.
    """
    levels = np.arange(256) / 255.0
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    between = (levels[:-1] + levels[1:]) / 2.0
    threshold = np.where(between <= 0.04045, between / 12.92, ((between + 0.055) / 1.055) ** 2.4)
    rise = jnp.asarray(np.diff(light), jnp.float32)
    square_rise = jnp.asarray(np.diff(light**2), jnp.float32)

    deviation = jnp.sqrt(shot * jnp.maximum(mean, 0.0) + read)
    threshold = jnp.asarray(threshold, jnp.float32).reshape((1,) * mean.ndim + (-1,))
    z = (mean[..., None] - threshold) / deviation[..., None]
    above = ndtr(jnp.clip(z, -12.0, 12.0))
    first = above @ rise
    return first, jnp.maximum(above @ square_rise - first**2, 0.0)


def _noise_variance(light: Array, shot: Scalar, read: Scalar) -> Array:
    """Σ in linear light to first order: shot and read noise, and rounding through the sRGB curve."""
    rounding = (im.linearize_slope(im.render(jnp.maximum(light, 0.0))) / 255.0) ** 2 / 12.0
    return shot * jnp.maximum(light, 0.0) + read + rounding


def _readout_table(shot: Scalar, read: Scalar) -> Float[Array, " entries"]:
    """Expected readouts at every 1/FINENESS of a level, to be read by `_look_up`."""
    entries = np.arange(DARKEST * FINENESS, 255 * FINENESS + 1) / (255.0 * FINENESS)
    return readout(im.linearize(jnp.asarray(entries, jnp.float32)), shot, read)[0]


def _look_up(table: Float[Array, " entries"], light: Array) -> Array:
    """The table at `light`, linear between entries."""
    place = (im.render(light) * 255.0 - DARKEST) * FINENESS
    place = jnp.clip(place, 0.0, table.size - 1.001)
    before = jnp.floor(place)
    index = before.astype(jnp.int32)
    return table[index] + (place - before) * (table[index + 1] - table[index])


# --- one pair ----------------------------------------------------------------------------------


def fit_pair(low: Image, normal: Image, *, rounds: int) -> Physics:
    """θ of one pair; see `physics.fit_physics`.

    Args:
        low: dark 8-bit photograph, sRGB in [0, 1], [h, w, 3].
        normal: the well-exposed one of the same scene and shape.
        rounds: how often light and noise are fitted in turn.

    Returns:
        θ without leading axes, tone and illumination neutral.
    """
    light, seen, usable, calm = _prepared(low, normal)
    slope = _start_slope(im.pool(light, BLOCK), im.pool(seen, BLOCK))
    offset = jnp.zeros_like(slope)
    shot, read = jnp.asarray(1e-5), jnp.asarray(1e-7)
    for _ in range(rounds):
        slope, offset, trust = _fit_light(light, seen, usable, slope, offset, shot, read)
        shot, read = _fit_noise(slope * light + offset, seen, calm * trust, shot, read)
    exposure = jnp.exp(jnp.log(slope).mean())
    return Physics(
        exposure=exposure,
        gains=slope[0, 0] / exposure,
        offset=offset[0, 0],
        shot_noise=shot,
        read_noise=read,
    )


def variance_points(low: Image, normal: Image, physics: Physics) -> tuple[Array, Array, Array]:
    """The noise of a pair against its light, as `fit_pair` sees it, and as a θ explains it.

    Args:
        low: dark 8-bit photograph, sRGB in [0, 1], [h, w, 3].
        normal: the well-exposed one of the same scene and shape.
        physics: θ of the pair, no leading axes.

    Returns:
        (mean linear light, variance measured, variance expected of an 8-bit file), each [BINS], the
        bins of equal population, dark to bright.
    """
    light, seen, usable, calm = _prepared(low, normal)
    slope, offset = physics.exposure * physics.gains[None, None], physics.offset[None, None]
    noise = physics.shot_noise, physics.read_noise
    *_, trust = _fit_light(light, seen, usable, slope, offset, *noise, iterations=0)
    mean = slope * light + offset
    intensities, measured, _ = _noise_bins(mean, seen, calm * trust, *noise)
    expected = readout(intensities, *noise)[1].mean(axis=1)
    return intensities.mean(axis=1), measured, expected


def _prepared(low: Image, normal: Image) -> tuple[Array, Array, Array, Array]:
    """(light of the reference, light seen, where both are below white, and the reference calm too)."""
    height, width = (side // BLOCK * BLOCK for side in low.shape[:2])
    low, normal = im.unpad(low, height, width), im.unpad(normal, height, width)
    usable = ((normal < 0.98) & (low < 0.98)).astype(low.dtype)
    calm = usable / (1.0 + ((normal - im.blur(normal, 1.0)) / EDGE) ** 2)
    return im.linearize(normal), im.linearize(low), usable, calm


def _start_slope(light: Array, seen: Array) -> Array:
    """A first slope per channel, [1, 1, 3]: the least-absolute-deviations line through the origin.

    That is the median of seen/light weighted by light, which a strange object does not move.
    """
    light, seen = (x.reshape(-1, 3) for x in (jnp.maximum(light, 1e-5), seen))
    ratio = seen / light
    order = jnp.argsort(ratio, axis=0)
    ratio, mass = (jnp.take_along_axis(x, order, axis=0) for x in (ratio, light))
    mass = jnp.cumsum(mass, axis=0)
    middle = jnp.argmax(mass >= 0.5 * mass[-1:], axis=0, keepdims=True)
    return jnp.maximum(jnp.take_along_axis(ratio, middle, axis=0), 1e-6)[None]


def _fit_light(
    light: Image,
    seen: Image,
    usable: Image,
    slope: Array,
    offset: Array,
    shot: Scalar,
    read: Scalar,
    iterations: int = 12,
) -> tuple[Array, Array, Image]:
    """Slope and offset per channel, [1, 1, 3]: Gauss–Newton on block means, reweighted by Tukey's biweight.

    Steps are in ln slope and in offset over the channel's mean, both at most ½. Also returned is
    each pixel's trust, the least biweight of a block that its 3×3 surroundings touch: 0 where
    something else is in the picture.
    """
    table = _readout_table(shot, read)
    observed = im.pool(seen * usable, BLOCK)
    share = im.pool(usable, BLOCK)
    scale = jnp.maximum(seen.mean((0, 1), keepdims=True), 1e-6)

    def judge(log_slope, relative):
        mean = jnp.exp(log_slope) * light + relative * scale
        variance = _noise_variance(mean, shot, read)
        residual = observed - im.pool(_look_up(table, mean) * usable, BLOCK)
        expected = jnp.sqrt(im.pool(variance, BLOCK)) / BLOCK
        spread = 1.4826 * jnp.median(jnp.abs(residual) / expected, axis=(0, 1), keepdims=True)
        ratio = residual / (TUKEY * expected * jnp.maximum(spread, 1.0))
        trust = jnp.where(jnp.abs(ratio) < 1.0, (1.0 - ratio**2) ** 2, 0.0)
        return mean, variance, residual, expected, trust

    def update(_, state):
        log_slope, relative = state
        mean, variance, residual, expected, trust = judge(log_slope, relative)
        answer = ndtr(mean / jnp.sqrt(variance)) * usable
        by_slope = im.pool(jnp.exp(log_slope) * light * answer, BLOCK)
        by_offset = im.pool(scale * answer, BLOCK)
        weight = trust * share / expected**2

        def inner(a, b):
            return (weight * a * b).sum((0, 1), keepdims=True)

        aa, bb = inner(by_slope, by_slope), inner(by_offset, by_offset)
        ab = inner(by_slope, by_offset)
        ra, rb = inner(by_slope, residual), inner(by_offset, residual)
        aa, bb = aa * (1.0 + 1e-5), bb * (1.0 + 1e-5)
        determinant = jnp.maximum(aa * bb - ab * ab, 1e-30)
        return (
            log_slope + jnp.clip((bb * ra - ab * rb) / determinant, -0.5, 0.5),
            relative + jnp.clip((aa * rb - ab * ra) / determinant, -0.5, 0.5),
        )

    state = (jnp.log(slope), offset / scale)
    log_slope, relative = jax.lax.fori_loop(0, iterations, update, state)
    trust = judge(log_slope, relative)[-1]
    trust = jnp.repeat(jnp.repeat(trust, BLOCK, axis=0), BLOCK, axis=1)
    trust = jax.lax.reduce_window(trust, jnp.inf, jax.lax.min, (3, 3, 1), (1, 1, 1), "SAME")
    return jnp.exp(log_slope), relative * scale, trust


def _noise_bins(
    mean: Image, seen: Image, weight: Image, shot: Scalar, read: Scalar
) -> tuple[Array, Array, Array]:
    """(intensities [BINS, PER_BIN], the residual's variance [BINS], what weight is in a bin [BINS]).

    The residual is taken from the expected readout and less its 3×3 mean, so that what the light
    model misses smoothly is not called noise.
    """
    residual = seen - _look_up(_readout_table(shot, read), mean)
    residual = residual - im.separable(residual, np.full(3, 1.0 / 3.0))
    share = 1.0 - 1.0 / 9.0  # of the variance that is left

    ordered = jnp.sort(mean.reshape(-1))
    places = np.linspace(0, ordered.size - 1, BINS * PER_BIN * 2 + 1).astype(np.int32)
    intensities = ordered[places[1::2]].reshape(BINS, PER_BIN)
    edges = ordered[places[:: 2 * PER_BIN]]
    index = jnp.clip(jnp.searchsorted(edges, mean.reshape(-1)) - 1, 0, BINS - 1)
    population = jax.ops.segment_sum(weight.reshape(-1), index, BINS)
    squares = jax.ops.segment_sum((weight * residual**2).reshape(-1), index, BINS)
    return intensities, squares / jnp.maximum(population, 1e-6) / share, population


def _fit_noise(
    mean: Image, seen: Image, weight: Image, shot: Scalar, read: Scalar, iterations: int = 20
) -> tuple[Scalar, Scalar]:
    """σs and σr from the residual's variance in bins of predicted intensity.

    Bins that depart from the line count less.
    """
    intensities, observed, population = _noise_bins(mean, seen, weight, shot, read)

    def predict(theta):
        variance = readout(intensities, jnp.exp(theta[0]), jnp.exp(theta[1]))[1]
        return jnp.log(variance.mean(axis=1) + 1e-12)

    def update(_, theta):
        jacobian = jax.jacfwd(predict)(theta)
        error = jnp.log(observed + 1e-12) - predict(theta)
        weighted = jacobian * (population / (1.0 + (error / 0.5) ** 2))[:, None]
        matrix = weighted.T @ jacobian
        damped = matrix + (1e-3 * jnp.trace(matrix) + 1e-6) * jnp.eye(2)
        move = jnp.linalg.solve(damped, weighted.T @ error)
        return jnp.clip(theta + jnp.clip(move, -0.7, 0.7), -30.0, 0.0)

    overall = jnp.maximum(observed.mean(), 1e-9)
    bright = jnp.maximum(mean.mean(), 1e-6)
    theta = jnp.log(jnp.stack([0.5 * overall / bright, 0.5 * overall]))
    theta = jax.lax.fori_loop(0, iterations, update, theta)
    return jnp.exp(theta[0]), jnp.exp(theta[1])
