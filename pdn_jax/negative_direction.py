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


def whitened(
    distance: Distance | None = None, *, levels: int = 4, finest: int = 0, correlation: float = 0.0
) -> Residual:
    """r(z) = mean_l mean ρ(P_l[D̄(z; θ) − y] / sqrt(P_l∘Σ + ε²)), P_l block means of 2^l.

    Whitening by the model's own noise keeps dark pixels from dominating; the variance of a block
    mean of white noise is the mean variance over 4^l, that of correlated noise `block_variance`
    times that. ε stays what it is at every level, so where the noise of a mean is below 8-bit
    rounding its residual counts less than a unit: E|z| at the truth is 0.80·sqrt(v/(v + ε²)) with
    v = P_l∘Σ.

    Args:
        distance: ρ; None for `charbonnier()`.
        levels: of the pyramid; those that would leave less than 8 pixels a side are skipped.
        finest: the first of them that counts: 0 for the pixels, l for block means of 2^l.
        correlation: of the noise between neighbours, see `block_variance`.

    Returns:
        The residual; no gradient flows through Σ.
    """
    distance = distance or charbonnier()

    def residual(degrade, image, batch):
        difference = degrade.mean(image, batch.physics) - batch.low
        variance = jax.lax.stop_gradient(degrade.variance(image, batch.physics))
        scores = []
        for d, v in _pyramid(difference, variance, levels, finest, correlation):
            white = d / jnp.sqrt(v + EPSILON**2)
            scores.append(per_image(distance(white, jnp.zeros_like(white))))
        return sum(scores) / len(scores)

    return residual


def expected(*, levels: int = 4, finest: int = 0, correlation: float = 0.0) -> Residual:
    """What `whitened` of |·| leaves in the mean where z is right: mean_l mean sqrt(2v/π / (v + ε²)).

    A floor for `hinged` that asks no truth: θ and z tell the noise. For a Gaussian of variance v.

    Args:
        levels: as for `whitened`.
        finest: as for `whitened`.
        correlation: as for `whitened`.

    Returns:
        The residual.
    """

    def residual(degrade, image, batch):
        variance = degrade.variance(image, batch.physics)
        pyramid = _pyramid(variance, variance, levels, finest, correlation)
        scores = [per_image(jnp.sqrt(2.0 / jnp.pi * v / (v + EPSILON**2))) for _, v in pyramid]
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


def _pyramid(
    difference: Image, variance: Image, levels: int, finest: int = 0, correlation: float = 0.0
):
    """Block means of a difference at each level, and their variance."""
    for level in pyramid_levels(difference, levels, finest):
        side = 2**level
        scale = block_variance(side, correlation) / 4.0**level
        yield im.pool(difference, side), scale * im.pool(variance, side)


def block_variance(side: int, correlation: float) -> float:
    """n²·Var[mean of n×n pixels] / Var[a pixel] of noise whose neighbours correlate; 1 if white.

    Along an axis noise smeared by (g, 1, g), as `degradation.shot_read_noise` smears it, correlates
    by ρ₁ = 2g/(1 + 2g²) and ρ₂ = g²/(1 + 2g²), so that the variance of the mean of n is
    f/n, f = 1 + 2(1 − 1/n)ρ₁ + 2(1 − 2/n)ρ₂, and of n×n pixels f²/n². For ρ₁ = 0.25 and n = 2, 4,
    8 it is 1.56, 1.94 and 2.14.

    Args:
        side: n, pixels a side of the block.
        correlation: ρ₁, of neighbours in either direction, from 0 to 1/√2.

    Returns:
        f².

    Raises:
        ValueError: for a correlation that no such g has.
    """
    if not 0.0 <= correlation <= 0.5**0.5:
        raise ValueError(f"correlation must be from 0 to 0.707, got {correlation}")
    if side == 1 or correlation == 0.0:
        return 1.0
    smear = (1.0 - (1.0 - 2.0 * correlation**2) ** 0.5) / (2.0 * correlation)
    second = smear**2 / (1.0 + 2.0 * smear**2)
    along = 1.0 + 2.0 * (1.0 - 1.0 / side) * correlation + 2.0 * (1.0 - 2.0 / side) * second
    return along**2


def pyramid_levels(image: Image, levels: int, finest: int = 0) -> list[int]:
    """The pyramid's levels that leave at least 8 pixels a side, never none.

    Args:
        image: [..., h, w, c].
        levels: how many are wanted, those left out counted.
        finest: the first.

    Returns:
        `finest` and those of finest + 1 … levels − 1.
    """
    side = min(image.shape[-3:-1])
    more = [level for level in range(finest + 1, levels) if side >> level >= 8]
    return [finest, *more]


def hinged(residual: Residual, degrade: Any, floor: Residual | None = None) -> Direction:
    """The negative direction, L_neg = relu(r(x̂) − r(x)), as `negative`, gradient through x̂ alone.

    The hinge at the truth's own residual (a discrepancy principle) gives no reward for noise put
    back into x̂; θ is held, or the degradation and the network would collude. Images whose θ is
    not `known` count 0. Where truths are missing or wrong, `floor` of x̂ is in the place of r(x).

    Args:
        residual: r.
        degrade: the forward model, with `mean` and `variance`.
        floor: what a right x̂ would leave, as `expected`; None for what the truth leaves.

    Returns:
        The direction.
    """

    def direction(output, restored, batch):
        batch = batch.replace(physics=jax.lax.stop_gradient(batch.physics))
        if floor is None:
            least = residual(degrade, batch.normal, batch)
        else:
            least = floor(degrade, restored, batch)
        least = jax.lax.stop_gradient(least)
        negative = jax.nn.relu(residual(degrade, restored, batch) - least)
        return {"negative": negative if batch.known is None else batch.known * negative}

    return direction
