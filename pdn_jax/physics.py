"""θ of the degradation: drawn for synthesis, or fitted to a real pair.

Both are pure, for images [..., h, w, 3] with any leading axes, and jit- and vmap-able.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from jax.scipy.stats import norm

from pdn_jax import image as im
from pdn_jax.types import Image, PerImage, Physics, PRNGKey

MIDDLE_GREY = 0.18
"""Linear light of mid-grey, where the signal-to-noise ratio of a draw is defined."""


# --- drawing ---------------------------------------------------------------------------------


def sample_physics(
    key: PRNGKey,
    normal: Image,
    *,
    brightness: tuple[float, float] = (3 / 255, 80 / 255),
    snr: tuple[float, float] = (5.0, 28.0),
    cast: float = 0.1,
    veil: float = 0.05,
    tone: float = 0.1,
    field: float = 0.3,
) -> Physics:
    """Draw θ for each image, exposure and noise jointly.

    normal: sRGB [..., h, w, 3]. brightness: range of the dark frame's mean sRGB value, drawn
    log-uniformly, never above 0.8 of the image's own; κ is solved for it by bisection. snr: range
    in dB, drawn uniformly, of mid-grey e after brightening by 1/κ, where the noise has variance
    σs·e/κ + σr/κ²; σs is solved for it under ln σr = 2.18 ln σs + 1.20 + N(0, 0.26). cast:
    standard deviation of the log gains. veil: offset up to this part of the mean dark light.
    tone: standard deviation of ln gamma. field: standard deviation of the illumination's
    coefficients. Source of the noise line: Brooks et al. 2019, arXiv:1811.11127.
    """
    shape = normal.shape[:-3]
    keys = jax.random.split(key, 7)
    own = normal.mean(axis=(-3, -2, -1))
    log_range = jnp.log(jnp.asarray(brightness))
    wanted = jnp.exp(jax.random.uniform(keys[0], shape, minval=log_range[0], maxval=log_range[1]))
    exposure = solve_exposure(normal, jnp.minimum(wanted, 0.8 * own))

    decibel = jax.random.uniform(keys[1], shape, minval=snr[0], maxval=snr[1])
    scatter = 0.26 * jax.random.normal(keys[2], shape)
    shot, read = solve_noise(exposure, decibel, scatter)

    gains = cast * jax.random.normal(keys[3], (*shape, 3))
    light = exposure * im.linearize(normal).mean(axis=(-3, -2, -1))
    offset = veil * light[..., None] * jax.random.uniform(keys[4], (*shape, 3))
    return Physics(
        exposure=exposure,
        gains=jnp.exp(gains - gains.mean(axis=-1, keepdims=True)),
        offset=offset,
        gamma=jnp.exp(tone * jax.random.normal(keys[5], shape)),
        illumination=field * jax.random.normal(keys[6], (*shape, 5)),
        shot_noise=shot,
        read_noise=read,
    )


def solve_exposure(normal: Image, brightness: PerImage) -> PerImage:
    """κ with mean render(κ·linearize(x)) = brightness, per image, by bisection on ln κ in [ln 1e-4, 0]."""
    light = im.linearize(im.pool(normal, 4) if min(normal.shape[-3:-1]) >= 32 else normal)

    def mean(log_exposure):
        scaled = im.broadcast(jnp.exp(log_exposure), light) * light
        return im.render(scaled).mean(axis=(-3, -2, -1))

    lower = jnp.full_like(brightness, jnp.log(1e-4))
    return jnp.exp(_bisect(mean, brightness, lower, jnp.zeros_like(brightness)))


def solve_noise(
    exposure: PerImage, decibel: PerImage, scatter: PerImage
) -> tuple[PerImage, PerImage]:
    """(σs, σr) on the published line, at which mid-grey has that SNR after brightening by 1/κ."""
    wanted = 2.0 * jnp.log(MIDDLE_GREY) - decibel * (jnp.log(10.0) / 10.0)

    def log_read(log_shot):
        return 2.18 * log_shot + 1.20 + scatter

    def log_variance(log_shot):
        shot = log_shot + jnp.log(MIDDLE_GREY) - jnp.log(exposure)
        return jnp.logaddexp(shot, log_read(log_shot) - 2.0 * jnp.log(exposure))

    lower, upper = jnp.full_like(exposure, -25.0), jnp.full_like(exposure, 2.0)
    log_shot = _bisect(log_variance, wanted, lower, upper)
    return jnp.exp(log_shot), jnp.exp(log_read(log_shot))


def brightened_snr(physics: Physics) -> PerImage:
    """SNR in dB of mid-grey after brightening by 1/κ: 10·log10(e² / (σs·e/κ + σr/κ²))."""
    k, e = physics.exposure, MIDDLE_GREY
    variance = physics.shot_noise * e / k + physics.read_noise / k**2
    return 10.0 * jnp.log10(e * e / variance)


def _bisect(rising, target: Array, lower: Array, upper: Array, iterations: int = 30) -> Array:
    """Where a rising function meets the target, elementwise."""

    def halve(_, bounds):
        lower, upper = bounds
        middle = 0.5 * (lower + upper)
        above = rising(middle) > target
        return jnp.where(above, lower, middle), jnp.where(above, middle, upper)

    lower, upper = jax.lax.fori_loop(0, iterations, halve, (lower, upper))
    return 0.5 * (lower + upper)


# --- fitting ---------------------------------------------------------------------------------

BLOCK = 4
BINS = 24
EDGE = 0.02
"""Slope of the reference, sRGB per pixel, at which a pixel counts half for the noise."""


def fit_physics(low: Image, normal: Image, *, rounds: int = 4) -> Physics:
    """θ of a real pair: κ, gains (geometric mean 1) and offset, then σs and σr.

    low, normal: sRGB [..., h, w, 3], aligned to about a pixel, at least 32 pixels a side. In
    linear light each channel is κ·gain·e + offset, fitted to block means with Tukey weights, so
    that moved edges and moving objects drop out; what the sensor's clipping at black does to a
    mean is in the model. Then the variance of what remains, less its local mean, is fitted
    against intensity as σs·e + σr plus 8-bit rounding, away from the reference's edges. Tone
    and illumination are returned neutral. Raises ValueError where the shapes differ.
    """
    if low.shape != normal.shape or low.ndim < 3 or low.shape[-1] != 3:
        raise ValueError(
            f"low {low.shape} and normal {normal.shape} must be one shape [..., h, w, 3]"
        )
    if min(low.shape[-3:-1]) < 32:
        raise ValueError(f"fit_physics needs at least 32 pixels a side, got {low.shape}")
    fit = _fit_pair
    for _ in range(low.ndim - 3):
        fit = jax.vmap(fit, in_axes=(0, 0, None))
    return fit(low, normal, rounds)


def _fit_pair(low: Image, normal: Image, rounds: int) -> Physics:
    light, seen = im.linearize(normal), im.linearize(low)
    usable = ((normal < 0.98) & (low < 0.98)).astype(jnp.float32)
    slope, offset = _start(light, seen)
    shot, read = jnp.asarray(1e-6), jnp.asarray(1e-8)
    for _ in range(rounds):
        slope, offset = _fit_light(light, seen, usable, slope, offset, shot, read)
        shot, read = _fit_noise(light, seen, normal, usable, slope, offset)
    exposure = jnp.exp(jnp.log(slope).mean())
    return Physics(
        exposure=exposure,
        gains=slope / exposure,
        offset=offset,
        gamma=jnp.ones(()),
        illumination=jnp.zeros((5,)),
        shot_noise=shot,
        read_noise=read,
    )


def _start(light, seen):
    """A first slope per channel: the ratio of the means, no offset."""
    slope = seen.mean((0, 1)) / jnp.maximum(light.mean((0, 1)), 1e-6)
    return jnp.maximum(slope, 1e-6), jnp.zeros((3,))


def rectified_moments(mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean and variance of max(z, 0) for Gaussian z: what clipping at black leaves of noise."""
    deviation = jnp.sqrt(variance)
    ratio = jnp.clip(mean / deviation, -8.0, 30.0)
    above, density = norm.cdf(ratio), norm.pdf(ratio)
    first = mean * above + deviation * density
    second = (mean**2 + variance) * above + mean * deviation * density
    return first, jnp.maximum(second - first**2, 0.0)


def _noise_variance(light, shot, read):
    """Σ in linear light: shot and read noise, and 8-bit rounding seen through the sRGB curve."""
    rounding = (im.linearize_slope(im.render(jnp.maximum(light, 0.0))) / 255.0) ** 2 / 12.0
    return shot * jnp.maximum(light, 0.0) + read + rounding


def _fit_light(light, seen, usable, slope, offset, shot, read, iterations: int = 12):
    """Slope and offset per channel by iteratively reweighted Gauss–Newton on block means."""
    observed = im.pool(seen * usable, BLOCK)
    scale = jnp.maximum(seen.mean((0, 1)), 1e-6)

    def predict(log_slope, relative):
        mean = jnp.exp(log_slope) * light + relative * scale
        variance = _noise_variance(mean, shot, read)
        return im.pool(rectified_moments(mean, variance)[0] * usable, BLOCK), variance

    def update(_, state):
        log_slope, relative = state
        ones, zeros = jnp.ones((3,)), jnp.zeros((3,))
        (mean, variance), (by_slope, _) = jax.jvp(predict, (log_slope, relative), (ones, zeros))
        _, (by_offset, _) = jax.jvp(predict, (log_slope, relative), (zeros, ones))
        residual = observed - mean
        expected = jnp.sqrt(im.pool(variance, BLOCK)) / BLOCK
        spread = 1.4826 * jnp.median(jnp.abs(residual) / expected, axis=(0, 1))
        ratio = residual / (4.685 * expected * jnp.maximum(spread, 1.0))
        weight = jnp.where(jnp.abs(ratio) < 1.0, (1.0 - ratio**2) ** 2, 0.0) / expected**2
        weight = weight * im.pool(usable, BLOCK)

        def total(a, b):
            return (weight * a * b).sum((0, 1))

        aa, ab, bb = (
            total(by_slope, by_slope),
            total(by_slope, by_offset),
            total(by_offset, by_offset),
        )
        ra, rb = total(by_slope, residual), total(by_offset, residual)
        aa, bb = aa * (1.0 + 1e-5), bb * (1.0 + 1e-5)
        determinant = jnp.maximum(aa * bb - ab * ab, 1e-30)
        first = jnp.clip((bb * ra - ab * rb) / determinant, -0.5, 0.5)
        second = jnp.clip((aa * rb - ab * ra) / determinant, -0.5, 0.5)
        return log_slope + first, relative + second

    state = (jnp.log(slope), offset / scale)
    log_slope, relative = jax.lax.fori_loop(0, iterations, update, state)
    return jnp.exp(log_slope), relative * scale


def _fit_noise(light, seen, normal, usable, slope, offset, iterations: int = 40):
    """σs and σr from the residual's variance in bins of predicted intensity."""
    mean = slope * light + offset
    step = jnp.abs(normal - im.blur(normal, 1.0))
    return _regress_noise(mean, seen, usable / (1.0 + (step / EDGE) ** 2), iterations)


def _regress_noise(mean, seen, weight, iterations):
    ordered = jnp.sort(mean.reshape(-1))
    edges = ordered[jnp.linspace(0, ordered.size - 1, BINS + 1).astype(jnp.int32)]
    index = jnp.clip(jnp.searchsorted(edges, mean.reshape(-1)) - 1, 0, BINS - 1)

    def binned(values):
        summed = jax.ops.segment_sum((values * weight).reshape(-1), index, BINS)
        return summed / jnp.maximum(jax.ops.segment_sum(weight.reshape(-1), index, BINS), 1e-6)

    residual = seen - mean
    local = residual - im.separable(residual, np.full(3, 1.0 / 3.0))
    observed = binned(local**2) * (9.0 / 8.0)
    centre = binned(mean)
    rounding = _noise_variance(centre, 0.0, 0.0)
    counts = jax.ops.segment_sum(weight.reshape(-1), index, BINS)

    def predict(theta):
        variance = jnp.exp(theta[0]) * jnp.maximum(centre, 0.0) + jnp.exp(theta[1]) + rounding
        return jnp.log(rectified_moments(centre, variance)[1] + 1e-12)

    target = jnp.log(observed + 1e-12)

    def update(_, theta):
        jacobian = jax.jacfwd(predict)(theta)
        error = target - predict(theta)
        importance = counts / (1.0 + (error / 0.5) ** 2)
        normal_matrix = (jacobian * importance[:, None]).T @ jacobian
        gradient = (jacobian * importance[:, None]).T @ error
        damped = normal_matrix + 1e-3 * jnp.trace(normal_matrix) * jnp.eye(2)
        move = jnp.clip(jnp.linalg.solve(damped, gradient), -0.7, 0.7)
        return jnp.clip(theta + move, -30.0, 0.0)

    overall = jnp.maximum(observed.mean(), 1e-9)
    bright = jnp.maximum(centre.mean(), 1e-6)
    theta = jnp.log(jnp.stack([0.5 * overall / bright, 0.5 * overall]))
    theta = jax.lax.fori_loop(0, iterations, update, theta)
    return jnp.exp(theta[0]), jnp.exp(theta[1])
