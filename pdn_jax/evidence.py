"""What speaks for how bright a photograph is to be: soft histograms of the whole, and a head on them.

Mean and maximum alone do not tell a dim photograph from a night, or a white page from an overexposed
one. Here the whole 1/8 grid is counted: v falls into bins with centres c_i, Δ apart, by

    h_i = mean over cells of max(0, 1 − |v − c_i| / Δ),

for the luminance and the brightest channel (in stops), the texture (in stops), and the texture
relative to the brightness, which noise makes large. From that, and from the mean that the stages by
themselves would give, `Target` says the mean m of the brightened photograph. The amount a of the
enhancement is the one that gives it: with the whole path δ and the black level b, both times a,

    mean of g(max(y − a·b, FLOOR), exp(a·δ)) = m,

so 0 leaves the photograph as it is, 1 is all that the stages say. Where no cell is `lit` there is
nothing to brighten, and a is 0.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.types import Image, PerChannel, PerImage

MAX_AMOUNT = 2.0
"""The largest amount."""

AMOUNTS = np.linspace(0.0, MAX_AMOUNT, 9, dtype=np.float32)
"""Amounts whose mean is worked out; between them it is taken for a straight line."""

OWN = 4
"""Which of them is 1, the stages' own choice."""

LEAST_STEP = 1e-3
"""The least rise of the mean from one of `AMOUNTS` to the next: less counts as so much."""

UNLIT, LIT = 1.0 / 255.0, 3.0 / 255.0
"""A photograph whose brightest cell is no brighter than the first is black; from the second on it is not."""

DARKEST = 1e-3
"""How near to 0 and 1 a mean's log-odds are worked out."""

WIDTH = 32
"""Features of the head's hidden layers."""


class Histogram(NamedTuple):
    """Centres of the bins from `least` to `most`, both included."""

    least: float
    most: float
    bins: int

    @property
    def centres(self) -> np.ndarray:
        """Evenly spaced, float32."""
        return np.linspace(self.least, self.most, self.bins, dtype=np.float32)

    @property
    def step(self) -> float:
        """Δ, from one centre to the next."""
        return (self.most - self.least) / (self.bins - 1)


STOPS = Histogram(-1.0, 1.0, 32)
TEXTURE = Histogram(-1.0, 1.0, 16)
RELATIVE = Histogram(0.0, 1.0, 12)


def soft_histogram(values: Array, histogram: Histogram, mask: Array | None = None) -> Array:
    """The part of the cells in each bin; values beyond the ends are in the outermost.

    Args:
        values: [n, h, w].
        histogram: its bins.
        mask: ones for the cells that count [n, h, w, 1]; None for all.

    Returns:
        [n, bins], of sum 1 where any cell counts.
    """
    inside = jnp.clip(values, histogram.least, histogram.most)[..., None]
    centres = histogram.centres.reshape(1, 1, 1, -1)
    shares = jnp.maximum(0.0, 1.0 - jnp.abs(inside - centres) / histogram.step)
    if mask is None:
        return shares.mean((1, 2))
    return (mask * shares).sum((1, 2)) / jnp.maximum(mask.sum((1, 2)), 1.0)


def evidence(small: Image, texture: Array, mask: Array | None = None) -> Array:
    """Histograms of the whole photograph.

    Args:
        small: means of 8×8 pixels, sRGB [n, h/8, w/8, 3].
        texture: mean differences of neighbours, of that shape.
        mask: ones for the cells that count [n, h/8, w/8, 1]; None for all.

    Returns:
        [n, 92], float32.
    """
    grain = texture.mean(-1)
    relative = grain / (small.mean(-1) + 1.0 / 255.0)
    return jnp.concatenate(
        [
            soft_histogram(im.encode(im.luminance(small)), STOPS, mask),
            soft_histogram(im.encode(small.max(-1)), STOPS, mask),
            soft_histogram(im.encode(grain), TEXTURE, mask),
            soft_histogram(relative, RELATIVE, mask),
        ],
        axis=-1,
    )


def log_odds(mean: Array) -> Array:
    """ln (m / (1 − m)), of means kept `DARKEST` away from 0 and 1.

    Args:
        mean: in [0, 1], any shape.

    Returns:
        Of that shape.
    """
    inside = jnp.clip(mean, DARKEST, 1.0 - DARKEST)
    return jnp.log(inside) - jnp.log1p(-inside)


class Target(nn.Module):
    """How bright a photograph is to be; before any training as bright as the stages make it."""

    @nn.compact
    def __call__(self, seen: Array, own: PerImage) -> PerImage:
        """Decide.

        Args:
            seen: of `evidence` [n, 92].
            own: the mean that the stages give by themselves, of `means` [n].

        Returns:
            m, the mean of the brightened photograph, sRGB in (0, 1) [n].
        """
        own = log_odds(own)[:, None]
        a = nn.relu(nn.Dense(WIDTH, name="first")(jnp.concatenate([seen, own], axis=-1)))
        a = nn.relu(nn.Dense(WIDTH, name="second")(a))
        change = nn.Dense(1, kernel_init=nn.initializers.zeros, name="change")(a)
        return nn.sigmoid((own + change)[:, 0])


def means(small: Image, black: PerChannel, path: Array, mask: Array | None = None) -> Array:
    """Mean of the brightened photograph at each of `AMOUNTS`, on the 1/8 grid.

    Args:
        small: means of 8×8 pixels, sRGB [n, h/8, w/8, 3].
        black: level per image and channel, sRGB [n, 3].
        path: δ of all stages, of the shape of `small`.
        mask: ones for the cells that count [n, h/8, w/8, 1]; None for all.

    Returns:
        [n, 9], each of what is clipped to 1.
    """

    def mean(amount):
        start = jnp.maximum(small - amount * im.broadcast_channels(black, small), im.FLOOR)
        total = jnp.minimum(amount * path, im.MAX_BRIGHTENING)
        bright = jnp.minimum(im.expose_curve(start, total), 1.0).mean(-1, keepdims=True)
        if mask is None:
            return bright.mean((1, 2, 3))
        return (mask * bright).sum((1, 2, 3)) / jnp.maximum(mask.sum((1, 2, 3)), 1.0)

    return jax.lax.map(mean, jnp.asarray(AMOUNTS)).T


def lit(small: Image, mask: Array | None = None) -> PerImage:
    """Whether there is anything: 0 up to `UNLIT`, 1 from `LIT` on, in a straight line between.

    Args:
        small: means of 8×8 pixels, sRGB [n, h/8, w/8, 3].
        mask: ones for the cells that count [n, h/8, w/8, 1]; None for all.

    Returns:
        Of the mean over channels in the brightest cell [n].
    """
    bright = small.mean(-1, keepdims=True)
    largest = (bright if mask is None else mask * bright).max((1, 2, 3))
    return jnp.clip((largest - UNLIT) / (LIT - UNLIT), 0.0, 1.0)


def amount_of(target: PerImage, tried: Array, there: PerImage) -> PerImage:
    """The amount that gives a mean, a = w·Σ_k Δ·min(1, max(0, (m − m_k) / (m_{k+1} − m_k))).

    Args:
        target: m [n].
        tried: m_k, of `means` [n, 9].
        there: w, of `lit` [n].

    Returns:
        From 0, where even the photograph as it is has no less, to `MAX_AMOUNT` [n].
    """
    lower, upper = tried[:, :-1], tried[:, 1:]
    shares = (target[:, None] - lower) / jnp.maximum(upper - lower, LEAST_STEP)
    return there * (AMOUNTS[1] * jnp.clip(shares, 0.0, 1.0)).sum(-1)


def limited(increments: list[Array]) -> list[Array]:
    """Increments whose sum goes no further than `image.MAX_BRIGHTENING`.

    Args:
        increments: δ_s ≥ 0 of each stage, [n, h/8, w/8, 3].

    Returns:
        As many, each as long as there is room for it.
    """
    kept, total = [], jnp.zeros_like(increments[0])
    for increment in increments:
        kept.append(jnp.minimum(increment, im.MAX_BRIGHTENING - total))
        total = total + kept[-1]
    return kept
