"""Composition of degradation steps: what a step is, and how steps make a chain.

A `Step` has three readings: `sample` (one random observation), `mean` (its noise-free part) and
`variance` (per pixel, to first order). Steps act pixel by pixel: a step's `slope` is the
derivative of its mean at each pixel. `degradation` has the steps themselves.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdn_jax.types import Image, Physics, PRNGKey

Reading = Callable[[Image, Physics], Image]
"""(image, physics) -> image."""


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
    """A step from its mean; without more it is noise-free and its slope comes from `jax.jvp`.

    Args:
        mean: (image, physics) -> image, the noise-free part, pixel by pixel.
        sample: (key, image, physics) -> image, one random observation; None for the mean.
        variance: (image, physics) -> the per-pixel variance that it adds; None for none.
        slope: (image, physics) -> ∂mean/∂image at each pixel; None for the derivative of `mean`.

    Returns:
        The step; its images are [..., h, w, c], its physics has the same leading axes.
    """

    def derivative(image, physics):
        return jax.jvp(lambda z: mean(z, physics), (image,), (jnp.ones_like(image),))[1]

    return Step(
        sample=sample or (lambda key, image, physics: mean(image, physics)),
        mean=mean,
        variance=variance or no_variance,
        slope=slope or derivative,
    )


def no_variance(image: Image, physics: Physics) -> Image:
    """The variance of a step that adds no noise.

    Args:
        image: [..., h, w, c].
        physics: not read.

    Returns:
        0, of the image's shape.
    """
    return jnp.zeros_like(image)


def chain(*steps: Step) -> Step:
    """Compose steps, first to last; a chain is itself a step.

    mean:     m ← mean_i(m)
    variance: Σ ← slope_i(m)²·Σ + variance_i(m)      (first order)
    sample:   z ← sample_i(key_i, z), with a key for each step split from one
    Associative to the bit, since a chain of chains is flattened; `chain()` is the identity.

    Args:
        *steps: steps or chains, the light's first.

    Returns:
        The composed step.
    """
    parts = tuple(
        part for item in steps for part in (item.parts or (item,)) if item is not IDENTITY
    )
    if not parts:
        return IDENTITY
    if len(parts) == 1:
        return parts[0]

    def sample(key, image, physics):
        for part, part_key in zip(parts, jax.random.split(key, len(parts)), strict=True):
            image = part.sample(part_key, image, physics)
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
"""What `chain()` of nothing is."""
