"""What speaks for how much a photograph needs: soft histograms of the whole, and a small head on them.

Mean and maximum alone do not tell a dim photograph from a night, or a white page from an overexposed
one. Here the whole 1/8 grid is counted: v falls into bins with centres c_i, Δ apart, by

    h_i = mean over cells of max(0, 1 − |v − c_i| / Δ),

for the luminance and the brightest channel (in stops), the texture (in stops), and the texture
relative to the brightness, which noise makes large. From that `Amount` says how much of the
enhancement is wanted: 0 leaves the photograph as it is, 1 is all that the stages say.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.types import Image, PerImage

MAX_AMOUNT = 2.0
"""The largest amount; a head that knows nothing says half of it."""

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


class Amount(nn.Module):
    """How much of the enhancement a photograph needs."""

    @nn.compact
    def __call__(self, seen: Array) -> PerImage:
        """Decide.

        Args:
            seen: of `evidence` [n, 92].

        Returns:
            From 0, nothing, to `MAX_AMOUNT`; 1 before any training [n].
        """
        a = nn.relu(nn.Dense(WIDTH, name="first")(seen))
        a = nn.relu(nn.Dense(WIDTH, name="second")(a))
        decision = nn.Dense(1, kernel_init=nn.initializers.zeros, name="decision")(a)
        return MAX_AMOUNT * nn.sigmoid(decision[:, 0])
