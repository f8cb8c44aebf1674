"""The enhancement module: from dark to light in S stages (Linen, pure `apply`).

Every stage moves the image up the exposure path by the camera-response group,

    x_s = g(x_{s−1}, exp(δ_s)),   δ_s ≥ 0,

so brightening is monotone by construction, and S stages equal one application of the
summed δ. δ is smooth (illumination is): it is found at 1/8 of the size and enlarged once.
Stages share their weights and carry a recurrent memory.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.convolution import conv
from pdn_jax.types import Image, PerChannel, PerImage

REDUCTION = 8
"""How much smaller than the image the grid is on which δ is found."""

MAX_BLACK = 0.1
"""The largest black level, in sRGB, that may be taken off before brightening."""

MAX_BRIGHTENING = 12.0
"""The largest ln k of the whole path, some 17 stops: past it float32 loses the curve."""

QUANTIZATION = 1.0 / (12.0 * 255.0**2)
"""Variance of 8-bit rounding in sRGB."""


class Brightening(NamedTuple):
    """What the enhancement module found, on the 1/8 grid, before any full-size image is made.

    increments: S maps δ_s ≥ 0 [n, h/8, w/8, 3], the logarithm of each stage's exposure step.
    black: black level per image and channel, sRGB.
    shot_noise, read_noise: its estimate of σs and σr per image.
    context: what it remembers of the image [n, h/8, w/8, width].
    """

    increments: tuple[Array, ...]
    black: PerChannel
    shot_noise: PerImage
    read_noise: PerImage
    context: Array


def encode(image: Image) -> Image:
    """Photographic stops to about [−1, 1]: dark values spread as far apart as bright ones."""
    return (jnp.log(image + 1.0 / 255.0) + 2.75) / 2.75


def summary(features: Array) -> Array:
    """Mean and maximum over the whole image, [n, h, w, c] -> [n, 1, 1, 2c]: brightness is global."""
    axes = (1, 2)
    return jnp.concatenate(
        [features.mean(axes, keepdims=True), features.max(axes, keepdims=True)], axis=-1
    )


class Stage(nn.Module):
    """One step up the exposure path; applied S times with the same weights."""

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, observed: Array, current: Image, memory: Array) -> tuple[Array, Array]:
        """(features of y, x_{s−1}, memory), all on the 1/8 grid -> (δ_s ≥ 0, new memory)."""
        a = conv(self.width, dtype=self.dtype, name="look")(memory)
        a = a + nn.Dense(self.width, dtype=self.dtype, name="current")(encode(current))
        a = a + nn.Dense(self.width, dtype=self.dtype, name="whole")(summary(memory))
        a = nn.relu(a + observed)
        a = nn.relu(conv(self.width, dtype=self.dtype, name="think")(a))
        gate = nn.sigmoid(nn.Dense(self.width, dtype=self.dtype, name="gate")(a))
        new = jnp.tanh(nn.Dense(self.width, dtype=self.dtype, name="remember")(a))
        memory = memory + gate * (new - memory)
        step = nn.Dense(3, dtype=self.dtype, bias_init=nn.initializers.constant(-1.0), name="step")
        increment = nn.softplus(step(memory).astype(jnp.float32))
        return increment, memory


class Enhancement(nn.Module):
    """S stages from dark to light, on the 1/8 grid."""

    width: int
    stages: int
    dtype: Any = None

    @nn.compact
    def __call__(self, low: Image) -> Brightening:
        """Low [n, h, w, 3], sRGB, sides divisible by 8 -> `Brightening`."""
        small = im.pool(low, REDUCTION)
        texture = jnp.abs(low[:, :, 1:] - low[:, :, :-1])
        texture = im.pool(
            jnp.pad(texture, ((0, 0), (0, 0), (0, 1), (0, 0)), mode="edge"), REDUCTION
        )
        observed = jnp.concatenate([encode(small), encode(texture)], axis=-1)
        observed = conv(self.width, dtype=self.dtype, name="first")(observed)
        memory = jnp.tanh(observed)

        overall = summary(memory).astype(jnp.float32)[:, 0, 0]
        facts = nn.relu(nn.Dense(self.width, name="facts")(overall))
        bias = nn.initializers.constant(-3.0)
        black = MAX_BLACK * nn.sigmoid(nn.Dense(3, bias_init=bias, name="black")(facts))
        noise = nn.Dense(2, name="noise")(facts)
        shot_noise = jnp.exp(jnp.clip(noise[:, 0] - 7.5, -14.0, -2.0))
        read_noise = jnp.exp(jnp.clip(noise[:, 1] - 14.0, -24.0, -4.0))

        stage = Stage(self.width, self.dtype, name="stage")
        start = remove_black(small, black)
        total = jnp.zeros_like(start)
        increments = []
        for _ in range(self.stages):
            current = im.expose_curve(start, total)
            increment, memory = stage(observed, current, memory)
            increment = jnp.minimum(increment, MAX_BRIGHTENING - total)
            increments.append(increment)
            total = total + increment
        return Brightening(tuple(increments), black, shot_noise, read_noise, memory)


def remove_black(low: Image, black: PerChannel) -> Image:
    """x_0 = max(y − black, FLOOR): the observation less its veil; never brighter than y or the floor."""
    return jnp.maximum(low - im.broadcast_channels(black, low), im.FLOOR)


def brighten(low: Image, log_exposure: Array) -> tuple[Image, Array]:
    """g(low, exp(log_exposure)) for a 1/8-grid map, and the full-size map of the curve's exponent."""
    exponent = im.upsample(im.curve_exponent(log_exposure), REDUCTION)
    return im.apply_curve(low, exponent), exponent


def amplified_noise(
    low: Image, start: Image, log_exposure: Array, shot_noise: PerImage, read_noise: PerImage
) -> Array:
    """Standard deviation that the noise of `low` has after brightening, in closed form.

    sqrt(Σ_amp) = sqrt((σs·e + σr)/(de/dy)² + q²/12)·∂g/∂x, with e the linear light of the
    observation `low` and g applied to `start`, the observation less its black level. All on
    one grid; this ties the denoising module to the brightening.
    """
    light = im.linearize(jnp.maximum(low, 0.0))
    variance = im.broadcast(shot_noise, low) * light + im.broadcast(read_noise, low)
    variance = variance / im.linearize_slope(low) ** 2 + QUANTIZATION
    exponent = im.curve_exponent(log_exposure)
    slope = im.curve_slope(start, im.apply_curve(start, exponent), exponent)
    return jnp.sqrt(variance) * slope


def lift(low: Image, found: Brightening) -> tuple[tuple[Array, ...], Array, Array]:
    """The S full-size stages, the whole brightening ln k per pixel, and its noise on the 1/8 grid.

    Each stage is one application of the summed δ (the group law); a stage that is not used is
    dropped by jit.
    """
    start = remove_black(low, found.black)
    small = im.pool(low, REDUCTION)
    total = jnp.zeros_like(found.increments[0])
    enhanced = []
    for increment in found.increments:
        total = total + increment
        image, exponent = brighten(start, total)
        enhanced.append(image)
    noise = amplified_noise(
        small, remove_black(small, found.black), total, found.shot_noise, found.read_noise
    )
    path = jnp.log(exponent) / im.CURVE_A
    return tuple(enhanced), path, jax.lax.stop_gradient(noise)
