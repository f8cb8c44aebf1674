"""The forward degradation model: how a well-exposed photograph becomes a dark, noisy one.

Each function here makes one `Step` of physics, with three readings: `sample` (one random
observation), `mean` (its noise-free part) and `variance` (per pixel, to first order). `chain`
composes steps as `optax.chain` composes transformations, and a new physics is one new step:

    degrade = chain(linearize(), expose(), channel_gains(), shot_read_noise(), render(), quantize(8))
    low = degrade.sample(key, normal, physics)

Images follow the contract in `types`. Every step takes one image [h, w, c] with scalar
parameters, or any leading axes shared by the image and the fields of `Physics`.
"""

import io
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from PIL import Image as PILImage

from pdn_jax import image as im
from pdn_jax.composition import Step as Step
from pdn_jax.composition import chain as chain
from pdn_jax.composition import step as step
from pdn_jax.physics import fit_physics as fit_physics
from pdn_jax.physics import sample_physics as sample_physics
from pdn_jax.types import Physics, PRNGKey


def linearize(gamma: float | None = None) -> Step:
    """sRGB values to linear light: the exact sRGB curve, or the power x^gamma. Source: IEC 61966-2-1.

    Args:
        gamma: the power, above 0, of a value floored at `image.FLOOR`; None for the sRGB curve.

    Returns:
        The step, noise-free.
    """
    if gamma is None:
        return step(lambda image, physics: im.linearize(image))
    return step(lambda image, physics: im.power(jnp.maximum(image, im.FLOOR), gamma))


def render(gamma: float | None = None) -> Step:
    """Linear light to sRGB values: the exact sRGB curve, or the power e^(1/gamma).

    The power's slope is infinite at 0, so light is floored at what `linearize(gamma)` gives there.

    Args:
        gamma: as for `linearize`; None for the sRGB curve.

    Returns:
        The step, noise-free.
    """
    if gamma is None:
        return step(lambda light, physics: im.render(light))
    floor = im.FLOOR**gamma
    return step(lambda light, physics: im.power(jnp.maximum(light, floor), 1.0 / gamma))


def expose() -> Step:
    """Exposure in linear light: κ·e."""
    return step(lambda light, physics: im.broadcast(physics.exposure, light) * light)


def exposure_curve() -> Step:
    """Exposure through a camera-response curve on sRGB values: g(x, κ) of `image.expose_curve`."""
    return step(
        lambda image, physics: im.expose_curve(
            image, im.broadcast(jnp.log(physics.exposure), image)
        )
    )


def channel_gains() -> Step:
    """Colour cast in linear light: each channel times its gain."""
    return step(lambda light, physics: im.broadcast_channels(physics.gains, light) * light)


def black_offset() -> Step:
    """A veil, or a lifted black level, in linear light: e + offset, per channel."""
    return step(lambda light, physics: light + im.broadcast_channels(physics.offset, light))


def tone() -> Step:
    """A different tone curve of the dark frame, on sRGB values: x^gamma, floored as the curve is."""
    return step(
        lambda image, physics: im.power(
            jnp.maximum(image, im.FLOOR), im.broadcast(physics.gamma, image)
        )
    )


def illumination() -> Step:
    """A smooth spatial field of light, vignette or one-sided lamp, in linear light.

    e·exp(c·(v, u, v², vu, u²)) with v, u from −1 at the top left to 1 at the bottom right.
    """

    def mean(light, physics):
        height, width = light.shape[-3:-1]
        v = jnp.linspace(-1.0, 1.0, height)[:, None]
        u = jnp.linspace(-1.0, 1.0, width)[None, :]
        ones = jnp.ones((height, width))
        basis = jnp.stack([v * ones, u * ones, v * v * ones, v * u, u * u * ones], axis=-1)
        field = jnp.einsum(
            "hwk,...k->...hw",
            basis.astype(light.dtype),
            physics.illumination,
            precision="highest",
        )
        return light * jnp.exp(field)[..., None]

    return step(mean)


def shot_read_noise(grain: float = 0.0) -> Step:
    """Photon and electronics noise in linear light: Gaussian with variance σs·e + σr.

    White, or with `grain` smeared over neighbours as cameras leave it, each image by its own
    g ~ U(0, grain): the kernel (g, 1, g) in both directions, scaled to leave the variance, so that
    neighbours correlate by 2g/(1 + 2g²). Mean and variance know nothing of it.
    Source: Foi et al. 2008, doi:10.1109/TIP.2008.2001399; Brooks et al. 2019, arXiv:1811.11127.

    Args:
        grain: most of the smear, from 0 for white noise.

    Returns:
        The step; its mean is the light as it is.
    """

    def variance(light, physics):
        shot, read = (im.broadcast(v, light) for v in (physics.shot_noise, physics.read_noise))
        return shot * jnp.maximum(light, 0.0) + read

    def sample(key, light, physics):
        power = variance(light, physics)
        noisy = power > 0.0  # the square root's slope at 0 is infinite
        deviation = jnp.where(noisy, jnp.sqrt(jnp.where(noisy, power, 1.0)), 0.0)
        noise_key, grain_key = jax.random.split(key) if grain else (key, None)
        noise = jax.random.normal(noise_key, light.shape, light.dtype)
        return light + _times(deviation, _smeared(grain_key, noise, grain) if grain else noise)

    return step(lambda light, physics: light, sample=sample, variance=variance)


def _times(a: Array, b: Array) -> Array:
    """The product of two images; on a CPU in a loop of its own, half after half where they divide.

    In one loop with the curves before and after it XLA's CPU backend (jax 0.10) draws noise number by
    number instead of 16 at a time, and computes the curves like that too.
    """
    if a.size % 2:
        return a * b

    def by_halves(a, b):
        halves = a.reshape(2, -1), b.reshape(2, -1)
        return jax.lax.map(lambda half: half[0] * half[1], halves).reshape(a.shape)

    return jax.lax.platform_dependent(a, b, cpu=by_halves, default=jnp.multiply)


def _smeared(key: PRNGKey, noise: Array, grain: float) -> Array:
    """White noise [..., h, w, c] of unit variance, as `shot_read_noise` correlates it; edges wrap."""
    weight = jax.random.uniform(key, noise.shape[:-3], noise.dtype, maxval=grain)
    weight = weight[..., None, None, None]
    for axis in (-3, -2):
        beside = jnp.roll(noise, 1, axis) + jnp.roll(noise, -1, axis)
        noise = (noise + weight * beside) / jnp.sqrt(1.0 + 2.0 * weight**2)
    return noise


def quantize(bits: int = 8) -> Step:
    """Rounding to 2^bits − 1 steps: straight-through gradient, variance step²/12.

    Args:
        bits: of the file, 1 or more.

    Returns:
        The step; only its sample is rounded, its mean is the image as it is.
    """
    levels = 2.0**bits - 1.0

    def sample(key, image, physics):
        rounded = jnp.round(image * levels) / levels
        return image + jax.lax.stop_gradient(rounded - image)

    return step(
        lambda image, physics: image,
        sample=sample,
        variance=lambda image, physics: jnp.full_like(image, levels**-2 / 12.0),
        slope=lambda image, physics: jnp.ones_like(image),
    )


def clip() -> Step:
    """Saturation to [0, 1], straight-through gradient; the variance of what is cut away is 0."""

    def mean(image, physics):
        return image + jax.lax.stop_gradient(jnp.clip(image, 0.0, 1.0) - image)

    def slope(image, physics):
        return ((image >= 0.0) & (image <= 1.0)).astype(image.dtype)

    return step(mean, slope=slope)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """What a JPEG file makes of an image; on the host only.

    No step: it has no mean or variance, and no gradient.

    Args:
        image: uint8 [h, w, 3], sRGB.
        quality: Pillow's, 1 to 95.

    Returns:
        The file's pixels, uint8 [h, w, 3].

    Raises:
        ValueError: another shape or dtype.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"jpeg takes uint8 [h, w, 3], got {image.dtype} {image.shape}")
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(PILImage.open(file))


def camera(grain: float = 0.0, scene: Sequence[Step] = ()) -> Step:
    """The default degradation: light, exposure, cast, field, veil, noise, sRGB, tone, 8 bits.

    Args:
        grain: see `shot_read_noise`.
        scene: steps in linear light between scene and camera, before the exposure, as haze.

    Returns:
        The chain, from a well-exposed sRGB photograph in [0, 1] to a dark one.
    """
    return chain(
        linearize(),
        *scene,
        expose(),
        channel_gains(),
        illumination(),
        black_offset(),
        shot_read_noise(grain),
        render(),
        tone(),
        clip(),
        quantize(8),
    )


def neutral_physics(exposure: Array | float) -> Physics:
    """θ of a camera that only under-exposes: no cast, veil, field, tone or noise.

    Args:
        exposure: κ in (0, 1], a number or an array [...].

    Returns:
        θ, every field with the leading axes of `exposure`.
    """
    return Physics(exposure=jnp.asarray(exposure, jnp.float32))
