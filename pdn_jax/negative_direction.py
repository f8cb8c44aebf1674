"""The negative direction of the loss: the result, degraded anew, against what the camera saw.

The forward degradation model arrives as an argument. Images are sRGB, NHWC (see `types`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pdn_jax import image as im
from pdn_jax.distances import charbonnier, gaussian_nll, per_image
from pdn_jax.positive_direction import Direction
from pdn_jax.types import Batch, Distance, Image, PerImage

Residual = Callable[[Any, Image, Batch], PerImage]
"""(degrade, z, batch) -> r(z; θ) per image: how badly z explains the observation."""

EPSILON = 1.0 / 255.0
"""ε, the floor of the whitening, one 8-bit step at every level: smaller errors say nothing."""


def whitened(distance: Distance | None = None, *, levels: int = 4) -> Residual:
    """r(z) = mean_l mean ρ(P_l[D̄(z; θ) − y] / sqrt(P_l∘Σ + ε²)), P_l block means of 2^l.

    Whitening by the model's own noise keeps dark pixels from dominating; the variance of a block
    mean of white noise is the mean variance over 4^l. ε stays what it is at every level, so where
    the noise of a mean is below 8-bit rounding its residual counts less than a unit: E|z| at the
    truth is 0.80·sqrt(v/(v + ε²)) with v = P_l∘Σ.

    Args:
        distance: ρ; None for `charbonnier()`.
        levels: of the pyramid; those that would leave less than 8 pixels a side are skipped.

    Returns:
        The residual; no gradient flows through Σ.
    """
    distance = distance or charbonnier()

    def residual(degrade, image, batch):
        difference = degrade.mean(image, batch.physics) - batch.low
        variance = jax.lax.stop_gradient(degrade.variance(image, batch.physics))
        scores = []
        for d, v in _pyramid(difference, variance, levels):
            white = d / jnp.sqrt(v + EPSILON**2)
            scores.append(per_image(distance(white, jnp.zeros_like(white))))
        return sum(scores) / len(scores)

    return residual


def likelihood(*, levels: int = 4) -> Residual:
    """As `whitened`, with the Gaussian negative log-likelihood, ½(r²/Σ + ln Σ), as the distance.

    Args:
        levels: of the pyramid, as for `whitened`.

    Returns:
        The residual; its gradient flows through Σ as well.
    """

    def residual(degrade, image, batch):
        difference = degrade.mean(image, batch.physics) - batch.low
        variance = degrade.variance(image, batch.physics)
        pyramid = _pyramid(difference, variance, levels)
        scores = [per_image(gaussian_nll(d, v + EPSILON**2)) for d, v in pyramid]
        return sum(scores) / len(scores)

    return residual


def _pyramid(difference: Image, variance: Image, levels: int):
    """Block means of a difference at each level, and their variance if its noise is white."""
    for level in pyramid_levels(difference, levels):
        yield im.pool(difference, 2**level), im.pool(variance, 2**level) / 4.0**level


def pyramid_levels(image: Image, levels: int) -> list[int]:
    """The pyramid's levels that leave at least 8 pixels a side, never none.

    Args:
        image: [..., h, w, c].
        levels: how many are wanted.

    Returns:
        0 and those of 1 … levels − 1.
    """
    side = min(image.shape[-3:-1])
    return [level for level in range(levels) if level == 0 or side >> level >= 8]


def hinged(residual: Residual, degrade: Any) -> Direction:
    """The negative direction, L_neg = relu(r(x̂) − r(x)), as `negative`, gradient through x̂ alone.

    The hinge at the truth's own residual (a discrepancy principle) gives no reward for noise put
    back into x̂; θ is held, or the degradation and the network would collude. Images whose θ is
    not `known` count 0.

    Args:
        residual: r.
        degrade: the forward model, with `mean` and `variance`.

    Returns:
        The direction.
    """

    def direction(output, restored, batch):
        batch = batch.replace(physics=jax.lax.stop_gradient(batch.physics))
        floor = jax.lax.stop_gradient(residual(degrade, batch.normal, batch))
        negative = jax.nn.relu(residual(degrade, restored, batch) - floor)
        return {"negative": negative if batch.known is None else batch.known * negative}

    return direction
