"""θ of the degradation: drawn for synthesis, or fitted to a real pair.

Both are pure, for images [..., h, w, 3] with any leading axes, and jit- and vmap-able.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.fitting import fit_pair
from pdn_jax.types import Image, PerImage, Physics, PRNGKey

MIDDLE_GREY = 0.18
"""Linear light of mid-grey, where the signal-to-noise ratio of a draw is defined."""


# --- drawing ---------------------------------------------------------------------------------


STREAMS = ("brightness", "snr", "scatter", "gains", "offset", "gamma", "illumination")
"""One key each, in this order: the draws that `sample_physics` makes."""


def sample_physics(
    key: PRNGKey,
    normal: Image,
    *,
    brightness: Sequence[float] = (3 / 255, 80 / 255),
    snr: Sequence[float] = (5.0, 28.0),
    cast: float = 0.1,
    veil: float = 0.05,
    tone: float = 0.1,
    field: float = 0.2,
) -> Physics:
    """Draw θ for each image, exposure and noise jointly.

    κ is solved for the brightness drawn, by bisection; σs for the SNR drawn, under
    ln σr = 2.18 ln σs + 1.20 + N(0, 0.26). All draws are independent of each other.
    Source of the noise line: Brooks et al. 2019, arXiv:1811.11127.

    Args:
        key: split into one key for each of `STREAMS`.
        normal: well-exposed photographs, sRGB in [0, 1], [..., h, w, 3].
        brightness: range of the dark frame's mean sRGB value before cast, veil, tone and field
            (which move it by tens of percent), drawn log-uniformly, never above 0.8 of the image's
            own.
        snr: range in dB, drawn uniformly, of mid-grey e after brightening by 1/κ, where the noise
            has variance σs·e/κ + σr/κ².
        cast: standard deviation of the log gains, before their mean is taken off.
        veil: the offset is uniform from 0 to this part of the mean dark light, per channel.
        tone: standard deviation of ln gamma.
        field: standard deviation of the illumination's coefficients.

    Returns:
        θ with the leading axes of `normal`.
    """
    shape = normal.shape[:-3]
    keys = dict(zip(STREAMS, jax.random.split(key, len(STREAMS)), strict=True))
    own = normal.mean(axis=(-3, -2, -1))
    low, high = jnp.log(jnp.asarray(brightness))
    mean = jnp.exp(jax.random.uniform(keys["brightness"], shape, minval=low, maxval=high))
    exposure = solve_exposure(normal, jnp.minimum(mean, 0.8 * own))

    decibel = jax.random.uniform(keys["snr"], shape, minval=snr[0], maxval=snr[1])
    scatter = 0.26 * jax.random.normal(keys["scatter"], shape)
    shot, read = solve_noise(exposure, decibel, scatter)

    gains = cast * jax.random.normal(keys["gains"], (*shape, 3))
    light = exposure * im.linearize(normal).mean(axis=(-3, -2, -1))
    offset = veil * light[..., None] * jax.random.uniform(keys["offset"], (*shape, 3))
    return Physics(
        exposure=exposure,
        gains=jnp.exp(gains - gains.mean(axis=-1, keepdims=True)),
        offset=offset,
        gamma=jnp.exp(tone * jax.random.normal(keys["gamma"], shape)),
        illumination=field * jax.random.normal(keys["illumination"], (*shape, 5)),
        shot_noise=shot,
        read_noise=read,
    )


def solve_exposure(normal: Image, brightness: PerImage) -> PerImage:
    """κ with mean render(κ·linearize(x)) = brightness, per image, by bisection on ln κ.

    Args:
        normal: sRGB in [0, 1], [..., h, w, 3]; its 4×4 block means where a side has 32 or more.
        brightness: mean sRGB value to reach, [...].

    Returns:
        κ in [1e-4, 1], [...]; the nearer end where no κ gives that mean.
    """
    light = im.linearize(im.pool(normal, 4) if min(normal.shape[-3:-1]) >= 32 else normal)

    def mean(log_exposure):
        scaled = im.broadcast(jnp.exp(log_exposure), light) * light
        return im.render(scaled).mean(axis=(-3, -2, -1))

    lower = jnp.full_like(brightness, jnp.log(1e-4))
    return jnp.exp(_bisect(mean, brightness, lower, jnp.zeros_like(brightness)))


def solve_noise(
    exposure: PerImage, decibel: PerImage, scatter: PerImage
) -> tuple[PerImage, PerImage]:
    """The noise on the published line at which mid-grey has that SNR after brightening by 1/κ.

    σs·e/κ + σr/κ² = e²·10^(−dB/10) with e = 0.18 and ln σr = 2.18 ln σs + 1.20 + scatter.
    Source: Brooks et al. 2019, arXiv:1811.11127.

    Args:
        exposure: κ in (0, 1], [...].
        decibel: the SNR in dB, [...].
        scatter: departure from the line in ln σr, [...].

    Returns:
        (σs, σr) in linear light, [...] each.
    """
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
    """SNR of mid-grey after brightening by 1/κ: 10·log10(e² / (σs·e/κ + σr/κ²)), e = 0.18.

    Args:
        physics: θ, fields [...].

    Returns:
        The SNR in dB, [...].
    """
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


def fit_physics(low: Array, normal: Array, *, rounds: int = 4) -> Physics:
    """θ of a real pair: κ, gains (geometric mean 1) and offset, then σs and σr.

    In linear light each channel is κ·gain·e + offset, fitted to block means with Tukey weights, so
    that moved edges and moving objects drop out. Then the variance of what remains, less its local
    mean, is fitted against intensity as σs·e + σr, away from the reference's edges. What an 8-bit
    camera makes of a noisy value (`fitting.readout`: rounding, and clipping at black) is in both
    fits, which matters since dark frames live on a few levels.

    Args:
        low: dark 8-bit photographs, sRGB in [0, 1], [..., h, w, 3], 32 pixels a side or more.
        normal: well-exposed ones of the same scenes and shape, aligned to about a pixel.
        rounds: how often light and noise are fitted in turn.

    Returns:
        θ with the leading axes of the pair; gamma and illumination are neutral.

    Raises:
        ValueError: the shapes are not these.
    """
    if low.shape != normal.shape or low.ndim < 3 or low.shape[-1] != 3:
        raise ValueError(
            f"low {low.shape} and normal {normal.shape} must be one shape [..., h, w, 3]"
        )
    if min(low.shape[-3:-1]) < 32:
        raise ValueError(f"fit_physics needs at least 32 pixels a side, got {low.shape}")
    fit = functools.partial(fit_pair, rounds=rounds)
    for _ in range(low.ndim - 3):
        fit = jax.vmap(fit)
    return fit(low, normal)
