"""The forward degradation model: how a well-exposed photograph becomes a dark, noisy one.

A `Step` is one piece of physics with three readings: `sample` (one random observation),
`mean` (its noise-free part) and `variance` (per pixel, to first order). `chain` composes
steps as `optax.chain` composes transformations, and a new physics is one new step:

    degrade = chain(linearize(), expose(), channel_gains(), shot_read_noise(), render(), quantize(8))
    low = degrade.sample(key, normal, physics)

Images follow the contract in `types`. Every step takes one image [h, w, c] with scalar
parameters, or any leading axes shared by the image and the fields of `Physics`.
Steps act pixel by pixel: a step's `slope` is the derivative of its mean at each pixel.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from PIL import Image as PILImage

from pdn_jax import image as im
from pdn_jax.physics import fit_physics as fit_physics
from pdn_jax.physics import sample_physics as sample_physics
from pdn_jax.types import Image, Physics, PRNGKey

Reading = Callable[[Image, Physics], Image]


class Step(NamedTuple):
    """One degradation, simple or chained: three readings of the same physics.

    sample(key, image, physics): one random observation.
    mean(image, physics): its noise-free part.
    variance(image, physics): the per-pixel variance it adds, to first order.
    slope(image, physics): ∂mean/∂image at each pixel, what carries earlier variance through.
    parts: the steps of a chain, () for a simple one.
    """

    sample: Callable[[PRNGKey, Image, Physics], Image]
    mean: Reading
    variance: Reading
    slope: Reading
    parts: tuple = ()


def step(
    mean: Reading,
    *,
    sample: Callable[[PRNGKey, Image, Physics], Image] | None = None,
    variance: Reading | None = None,
    slope: Reading | None = None,
) -> Step:
    """A step from its mean; without more it is noise-free and its slope comes from `jax.jvp`."""

    def derivative(image, physics):
        return jax.jvp(lambda z: mean(z, physics), (image,), (jnp.ones_like(image),))[1]

    return Step(
        sample=sample or (lambda key, image, physics: mean(image, physics)),
        mean=mean,
        variance=variance or no_variance,
        slope=slope or derivative,
    )


def no_variance(image: Image, physics: Physics) -> Image:
    """0: the variance of a step that adds no noise."""
    return jnp.zeros_like(image)


def chain(*steps: Step) -> Step:
    """Compose steps, first to last; a chain is itself a step.

    mean:     m ← mean_i(m)
    variance: Σ ← slope_i(m)²·Σ + variance_i(m)      (first order)
    sample:   z ← sample_i(fold_in(key, i), z)
    Associative to the bit, since a chain of chains is flattened; `chain()` is the identity.
    """
    parts = tuple(
        part for item in steps for part in (item.parts or (item,)) if item is not IDENTITY
    )
    if not parts:
        return IDENTITY
    if len(parts) == 1:
        return parts[0]

    def sample(key, image, physics):
        for index, part in enumerate(parts):
            image = part.sample(jax.random.fold_in(key, index), image, physics)
        return image

    def mean(image, physics):
        for part in parts:
            image = part.mean(image, physics)
        return image

    def variance(image, physics):
        total = None  # until the first step that adds some, slopes have nothing to act on
        for part in parts:
            if total is not None:
                total = part.slope(image, physics) ** 2 * total
            if part.variance is not no_variance:
                added = part.variance(image, physics)
                total = added if total is None else total + added
            image = part.mean(image, physics)
        return jnp.zeros_like(image) if total is None else total

    def slope(image, physics):
        total = jnp.ones_like(image)
        for part in parts:
            total = total * part.slope(image, physics)
            image = part.mean(image, physics)
        return total

    return Step(sample, mean, variance, slope, parts)


IDENTITY = step(lambda image, physics: image)


# --- steps -----------------------------------------------------------------------------------


def linearize(gamma: float | None = None) -> Step:
    """sRGB values to linear light: the exact sRGB curve, or the power x^gamma. Source: IEC 61966-2-1."""
    if gamma is None:
        return step(lambda image, physics: im.linearize(image))
    return step(lambda image, physics: jnp.maximum(image, im.FLOOR) ** gamma)


def render(gamma: float | None = None) -> Step:
    """Linear light to sRGB values: the exact sRGB curve, or the power e^(1/gamma).

    The power's slope is infinite at 0, so light is floored at what `linearize(gamma)` gives there.
    """
    if gamma is None:
        return step(lambda light, physics: im.render(light))
    floor = im.FLOOR**gamma
    return step(lambda light, physics: jnp.maximum(light, floor) ** (1.0 / gamma))


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
        lambda image, physics: jnp.maximum(image, im.FLOOR) ** im.broadcast(physics.gamma, image)
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
    """

    def variance(light, physics):
        shot, read = (im.broadcast(v, light) for v in (physics.shot_noise, physics.read_noise))
        return shot * jnp.maximum(light, 0.0) + read

    def sample(key, light, physics):
        power = variance(light, physics)
        noisy = power > 0.0  # the square root's slope at 0 is infinite
        deviation = jnp.where(noisy, jnp.sqrt(jnp.where(noisy, power, 1.0)), 0.0)
        noise = jax.random.normal(key, light.shape, light.dtype)
        return light + deviation * (smeared(key, noise, grain) if grain else noise)

    return step(lambda light, physics: light, sample=sample, variance=variance)


def smeared(key: PRNGKey, noise: Array, grain: float) -> Array:
    """White noise [..., h, w, c] of unit variance, as `shot_read_noise` correlates it; edges wrap."""
    weight_key = jax.random.fold_in(key, 1)
    weight = jax.random.uniform(weight_key, noise.shape[:-3], noise.dtype, maxval=grain)
    weight = weight[..., None, None, None]
    for axis in (-3, -2):
        beside = jnp.roll(noise, 1, axis) + jnp.roll(noise, -1, axis)
        noise = (noise + weight * beside) / jnp.sqrt(1.0 + 2.0 * weight**2)
    return noise


def quantize(bits: int = 8) -> Step:
    """Rounding to 2^bits − 1 steps: straight-through gradient, variance step²/12."""
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
    """What a JPEG file of that quality (1 to 95) makes of a uint8 image [h, w, 3]; on the host only.

    No step: it has no mean or variance, and no gradient. Raises ValueError for other images.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"jpeg takes uint8 [h, w, 3], got {image.dtype} {image.shape}")
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(PILImage.open(file))


def camera(grain: float = 0.0) -> Step:
    """The default degradation: light, exposure, cast, field, veil, noise, sRGB, tone, 8 bits.

    grain: see `shot_read_noise`.
    """
    return chain(
        linearize(),
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
    """θ of a camera that only under-exposes: no cast, veil, field or noise; exposure is [...]."""
    exposure = jnp.asarray(exposure, jnp.float32)
    zero = jnp.zeros_like(exposure)
    return Physics(
        exposure=exposure,
        gains=jnp.ones((*exposure.shape, 3)),
        offset=jnp.zeros((*exposure.shape, 3)),
        gamma=jnp.ones_like(exposure),
        illumination=jnp.zeros((*exposure.shape, 5)),
        shot_noise=zero,
        read_noise=zero,
    )
