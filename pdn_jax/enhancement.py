"""The enhancement module: from dark to light in S stages (Linen, pure `apply`).

Every stage moves the image up the exposure path by the camera-response group,

    x_s = g(x_{s−1}, exp(δ_s)),   δ_s ≥ 0,

so brightening is monotone by construction, and S stages equal one application of the
summed δ. δ is smooth (illumination is): it is estimated at 1/8 of the size and enlarged once.
Stages share their weights and carry a recurrent memory.

Where a grid is larger than its image, a mask [n, h/8, w/8, 1] of ones and zeros says which cells
count: convolutions then see the zeros that they see around an image, and `summary` the rest alone.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.convolution import conv, masked
from pdn_jax.evidence import OWN, Target, amount_of, evidence, limited, lit, means
from pdn_jax.layout import REDUCTION as REDUCTION
from pdn_jax.types import Image, PerChannel, PerImage

TEXTURES = ("rows", "both")
"""Where the texture input looks for differences of neighbours: along rows, or rows and columns."""

MAX_BLACK = 0.1
"""The largest black level, in sRGB, that may be taken off before brightening."""

QUANTIZATION = 1.0 / (12.0 * 255.0**2)
"""Variance of 8-bit rounding in sRGB."""


class Brightening(NamedTuple):
    """What the enhancement module estimates, on the 1/8 grid, before any full-size image is made.

    increments: S maps δ_s ≥ 0 [n, h/8, w/8, 3], the logarithm of each stage's exposure step.
    black: black level per image and channel, sRGB.
    shot_noise, read_noise: its estimate of σs and σr per image.
    context: what it remembers of the image [n, h/8, w/8, width]; with evidence one channel more, the
    amount of the enhancement that is wanted, the same in every cell, of which increments and black
    level have their part already.
    """

    increments: tuple[Array, ...]
    black: PerChannel
    shot_noise: PerImage
    read_noise: PerImage
    context: Array


def summary(features: Array, mask: Array | None = None) -> Array:
    """Mean and maximum over the whole image, since brightness is global.

    Args:
        features: [n, h, w, c].
        mask: ones for the cells that count [n, h, w, 1]; None for all.

    Returns:
        [n, 1, 1, 2c], means first.
    """
    axes = (1, 2)
    if mask is None:
        mean, largest = features.mean(axes, keepdims=True), features.max(axes, keepdims=True)
    else:
        count = jnp.maximum(mask.sum(axes, keepdims=True), 1.0)
        mean = (mask * features).sum(axes, keepdims=True) / count
        largest = jnp.where(mask > 0, features, -jnp.inf).max(axes, keepdims=True)
    return jnp.concatenate([mean, largest], axis=-1)


def observe(low: Image, texture: str = "both") -> tuple[Array, Array]:
    """What the module looks at, on the 1/8 grid.

    Args:
        low: sRGB [n, h, w, 3], sides divisible by 8.
        texture: one of `TEXTURES`.

    Returns:
        The means of 8×8 pixels, and the means of |difference| to the next pixel of the row, or
        half of that and half of that to the next of the column; the last pixel takes the
        difference before it.

    Raises:
        ValueError: for another texture.
    """
    if texture not in TEXTURES:
        raise ValueError(f"texture must be one of {TEXTURES}, got {texture!r}")

    def along(axis):
        following = jax.lax.slice_in_dim(low, 1, None, axis=axis)
        here = jax.lax.slice_in_dim(low, 0, -1, axis=axis)
        last = [(0, int(index == axis)) for index in range(4)]
        return jnp.pad(jnp.abs(following - here), last, mode="edge")

    differences = along(2) if texture == "rows" else 0.5 * (along(2) + along(1))
    return im.pool(low, REDUCTION), im.pool(differences, REDUCTION)


class Stage(nn.Module):
    """One step up the exposure path; applied S times with the same weights."""

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self, observed: Array, current: Image, memory: Array, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """One step.

        Args:
            observed: features of the observation, on the 1/8 grid [n, h/8, w/8, width].
            current: x_{s−1} there, sRGB [n, h/8, w/8, 3].
            memory: of the stages before [n, h/8, w/8, width].
            mask: ones for the cells that count; None for all.

        Returns:
            δ_s ≥ 0 [n, h/8, w/8, 3] and the new memory.
        """
        a = conv(self.width, dtype=self.dtype, name="look")(memory)
        a = a + nn.Dense(self.width, dtype=self.dtype, name="current")(im.encode(current))
        a = a + nn.Dense(self.width, dtype=self.dtype, name="whole")(summary(memory, mask))
        a = masked(nn.relu(a + observed), mask)
        a = nn.relu(conv(self.width, dtype=self.dtype, name="think")(a))
        gate = nn.sigmoid(nn.Dense(self.width, dtype=self.dtype, name="gate")(a))
        new = jnp.tanh(nn.Dense(self.width, dtype=self.dtype, name="remember")(a))
        memory = masked(memory + gate * (new - memory), mask)
        step = nn.Dense(3, dtype=self.dtype, bias_init=nn.initializers.constant(-1.0), name="step")
        increment = nn.softplus(step(memory).astype(jnp.float32))
        return increment, memory


class Enhancement(nn.Module):
    """S stages from dark to light, on the 1/8 grid.

    texture: one of `TEXTURES`, see `observe`. evidence: whether histograms of the whole decide how
    bright it is to be, and so how much of the brightening is wanted, see `pdn_jax.evidence`.
    """

    width: int
    stages: int
    texture: str = "both"
    evidence: bool = False
    dtype: Any = None

    def __call__(self, low: Image) -> Brightening:
        """Estimate the brightening of whole images.

        Args:
            low: sRGB [n, h, w, 3], sides divisible by 8.

        Returns:
            `Brightening`.
        """
        return self.on_grid(*observe(low, self.texture))

    @nn.compact
    def on_grid(self, small: Image, texture: Array, mask: Array | None = None) -> Brightening:
        """Estimate the brightening from what `observe` gives.

        Args:
            small: means of 8×8 pixels, sRGB [n, h/8, w/8, 3].
            texture: mean differences of neighbours, of that shape.
            mask: ones for the cells that count [n, h/8, w/8, 1]; None for all.

        Returns:
            `Brightening`; cells that do not count have a context of zeros, but for the amount, and
            increments that mean nothing.
        """
        observed = masked(jnp.concatenate([im.encode(small), im.encode(texture)], axis=-1), mask)
        observed = conv(self.width, dtype=self.dtype, name="first")(observed)
        memory = masked(jnp.tanh(observed), mask)

        overall = summary(memory, mask).astype(jnp.float32)[:, 0, 0]
        facts = nn.relu(nn.Dense(self.width, name="facts")(overall))
        bias = nn.initializers.constant(-3.0)
        black = MAX_BLACK * nn.sigmoid(nn.Dense(3, bias_init=bias, name="black")(facts))
        noise = nn.Dense(2, name="noise")(facts)
        shot_noise = jnp.exp(jnp.clip(noise[:, 0] - 7.5, -14.0, -2.0))
        read_noise = jnp.exp(jnp.clip(noise[:, 1] - 14.0, -24.0, -4.0))

        start = remove_black(small, black)
        one = functools.partial(_one_stage, observed=observed, start=start, mask=mask)
        stage = Stage(self.width, self.dtype, name="stage")
        carried, increments = (jnp.zeros_like(start), memory), []
        if mask is None:
            for _ in range(self.stages):
                carried, increment = one(stage, carried, None)
                increments.append(increment)
        else:  # one stage to compile instead of S
            scan = nn.scan(one, variable_broadcast="params", split_rngs={"params": False})
            carried, stacked = scan(stage, carried, jnp.zeros(self.stages))
            increments = list(jnp.unstack(stacked))
        estimate = Brightening(tuple(increments), black, shot_noise, read_noise, carried[1])
        if not self.evidence:
            return estimate
        tried = means(small, black, sum(increments), mask)
        target = Target(name="target")(evidence(small, texture, mask), tried[:, OWN])
        return scaled(estimate, amount_of(target, tried, lit(small, mask)))


def scaled(estimate: Brightening, amount: PerImage) -> Brightening:
    """The same estimate with another amount of the enhancement, of which the context tells.

    Args:
        estimate: of a module without evidence.
        amount: 0 for none, 1 for what it is [n].

    Returns:
        `Brightening`, whose context has the amount as its last channel.
    """
    context = estimate.context
    everywhere = jnp.broadcast_to(im.broadcast(amount, context), (*context.shape[:3], 1))
    return estimate._replace(
        increments=tuple(limited([im.broadcast(amount, d) * d for d in estimate.increments])),
        black=amount[:, None] * estimate.black,
        context=jnp.concatenate([context, everywhere.astype(context.dtype)], axis=-1),
    )


def _one_stage(
    stage: Stage, carried: tuple[Array, Array], _: Any, *, observed: Array, start: Image, mask: Any
) -> tuple[tuple[Array, Array], Array]:
    """(whole δ so far, memory) -> the same after one more stage, and its δ."""
    total, memory = carried
    increment, memory = stage(observed, im.expose_curve(start, total), memory, mask)
    increment = jnp.minimum(increment, im.MAX_BRIGHTENING - total)
    return (total + increment, memory), increment


def remove_black(low: Image, black: PerChannel) -> Image:
    """The observation less its veil, x_0 = max(y − black, FLOOR).

    Never brighter than the greater of y and `FLOOR`.

    Args:
        low: y, sRGB [n, h, w, 3].
        black: level per image and channel, sRGB [n, 3].

    Returns:
        x_0, sRGB [n, h, w, 3].
    """
    return jnp.maximum(low - im.broadcast_channels(black, low), im.FLOOR)


def brighten(low: Image, log_exposure: Array) -> tuple[Image, Array]:
    """The exposure curve along a map, g(low, exp(log_exposure)).

    Args:
        low: sRGB [n, h, w, 3], at least `FLOOR`.
        log_exposure: ln k on the 1/8 grid [n, h/8, w/8, 3].

    Returns:
        The brightened image [n, h, w, 3], not clipped, and the curve's exponent of that shape.
    """
    exponent = im.upsample(im.curve_exponent(log_exposure), REDUCTION)
    return im.apply_curve(low, exponent), exponent


def amplified_noise(
    low: Image, start: Image, log_exposure: Array, shot_noise: PerImage, read_noise: PerImage
) -> Array:
    """Standard deviation that the noise of `low` has after brightening, in closed form.

        sqrt(Σ_amp) = sqrt((σs·e + σr)/(de/dy)² + q²/12)·∂g/∂x

    with e the linear light of y = `low` and g applied to x = `start`. This ties the denoising module
    to the brightening.

    Args:
        low: the observation, sRGB [n, h, w, 3].
        start: the observation less its black level, of that shape.
        log_exposure: ln k of the whole path, of that shape.
        shot_noise: σs, linear light [n].
        read_noise: σr, linear light [n].

    Returns:
        In sRGB of the brightened image, [n, h, w, 3].
    """
    light = im.linearize(jnp.maximum(low, 0.0))
    variance = im.broadcast(shot_noise, low) * light + im.broadcast(read_noise, low)
    variance = variance / im.linearize_slope(low) ** 2 + QUANTIZATION
    exponent = im.curve_exponent(log_exposure)
    slope = im.curve_slope(start, im.apply_curve(start, exponent), exponent)
    return jnp.sqrt(variance) * slope


def lift(low: Image, estimate: Brightening) -> tuple[tuple[Array, ...], Array, Array]:
    """From the 1/8 grid to full size: every stage, the whole brightening, its noise.

    Each stage is one application of the summed δ (the group law); a stage that is not used is
    dropped by jit.

    Args:
        low: sRGB [n, h, w, 3], sides divisible by 8.
        estimate: of `Enhancement`.

    Returns:
        S images [n, h, w, 3], not clipped; ln of the whole brightening per pixel and channel, of that
        shape; the noise's standard deviation on the 1/8 grid, through which no gradient flows.
    """
    start = remove_black(low, estimate.black)
    small = im.pool(low, REDUCTION)
    total = jnp.zeros_like(estimate.increments[0])
    enhanced = []
    for increment in estimate.increments:
        total = total + increment
        image, exponent = brighten(start, total)
        enhanced.append(image)
    noise = amplified_noise(
        small, remove_black(small, estimate.black), total, estimate.shot_noise, estimate.read_noise
    )
    path = jnp.log(exponent) / im.CURVE_A
    return tuple(enhanced), path, jax.lax.stop_gradient(noise)
