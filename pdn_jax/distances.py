"""Distances: elementwise, with an option where there is one; none reduces over the batch by itself."""

import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax.metrics import ssim_map
from pdn_jax.types import Distance, PerImage


def charbonnier(epsilon: float = 1e-3) -> Distance:
    """sqrt((a − b)² + ε²) − ε: quadratic near 0, absolute far away. Source: Charbonnier et al. 1994.

    Args:
        epsilon: ε, above 0, in the unit of what is compared.

    Returns:
        (prediction, target) -> distances of their shape; raises ValueError where shapes differ.
    """

    def distance(prediction, target):
        check_same_shape(prediction, target)
        return jnp.sqrt((prediction - target) ** 2 + epsilon**2) - epsilon

    return distance


def l1() -> Distance:
    """|a − b|: (prediction, target) -> distances of their shape; raises ValueError where shapes differ."""

    def distance(prediction, target):
        check_same_shape(prediction, target)
        return jnp.abs(prediction - target)

    return distance


def gaussian_nll(residual: Array, variance: Array) -> Array:
    """½(r²/Σ + ln Σ), elementwise: the Gaussian negative log-likelihood less its constant.

    Args:
        residual: r, any shape.
        variance: Σ, above 0, of that shape.

    Returns:
        Of that shape.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(residual, variance)
    return 0.5 * (residual**2 / variance + jnp.log(variance))


def ssim_loss() -> Distance:
    """1 − SSIM, a map smaller than the images by the window (see `metrics.ssim_map`)."""
    return lambda prediction, target: 1.0 - ssim_map(prediction, target)


def check_same_shape(a: Array, b: Array) -> None:
    """A loss never broadcasts.

    Args:
        a: any array.
        b: another.

    Raises:
        ValueError: their shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}; a loss never broadcasts")


def per_image(values: Array) -> PerImage:
    """Mean over everything but the leading axis.

    Args:
        values: [n, ...].

    Returns:
        [n].
    """
    return values.reshape(values.shape[0], -1).mean(axis=1)
