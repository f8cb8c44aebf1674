"""The camera behind many pairs: a distribution of θ learned from fitted ones, to draw from.

    calibration = calibrate(fitted)                            # θ of n pairs, leading axis n
    physics = sample_like(key, normal, calibration)            # as `physics.sample_physics`

A draw is a smoothed bootstrap: one fitted θ chosen at random, moved by Gaussian jitter with the
fits' own covariance, then drawn together again, so that the mean, the variances and all the
correlations of the draws are those of the fits. Pure, jit- and vmap-able.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pdn_jax.types import Image, Physics, PRNGKey

NOISE_FLOOR = (1.0 / 255.0 / 12.92) ** 2 / 12.0
"""Variance, in linear light, of 8-bit rounding in the dark: 7.7e-9.

Where a pair says nothing of σs or σr the fit returns anything down to e^-30. Below this
floor neither shows in an 8-bit file at any light (σs·e ≤ σs), so all such values are the same,
and must not stretch the distribution of their logarithm.
"""


@chex.dataclass(frozen=True)
class Calibration:
    """n fitted θ in the coordinates in which they are drawn.

    log_exposure: ln κ. log_gains: ln of the gains, sum 0. veil: offset/κ, which may be negative;
    over κ, so that what was fitted to a bright frame fits a dark one too. log_shot, log_read:
    ln σs and ln σr, not below ln NOISE_FLOOR.
    """

    log_exposure: Float[Array, " n"]
    log_gains: Float[Array, "n 3"]
    veil: Float[Array, "n 3"]
    log_shot: Float[Array, " n"]
    log_read: Float[Array, " n"]


def calibrate(physics: Physics) -> Calibration:
    """The distribution of the θ of n pairs, as `physics.fit_physics` gives them.

    Args:
        physics: fields with one leading axis n ≥ 2; gamma and illumination are not used, since the
            fit leaves them neutral.

    Returns:
        The fits in the coordinates in which they are drawn.

    Raises:
        ValueError: fewer than two θ, or other shapes.
    """
    shape = physics.exposure.shape
    if len(shape) != 1 or physics.gains.shape != (*shape, 3) or physics.offset.shape != (*shape, 3):
        raise ValueError(
            f"calibrate takes θ with one leading axis, got exposure {shape}, "
            f"gains {physics.gains.shape} and offset {physics.offset.shape}"
        )
    if shape[0] < 2:
        raise ValueError(f"a distribution needs at least 2 fitted θ, got {shape[0]}")
    gains = jnp.log(jnp.asarray(physics.gains))
    return Calibration(
        log_exposure=jnp.log(jnp.minimum(physics.exposure, 1.0)),
        log_gains=gains - gains.mean(axis=-1, keepdims=True),
        veil=jnp.asarray(physics.offset) / jnp.asarray(physics.exposure)[:, None],
        log_shot=jnp.log(jnp.maximum(physics.shot_noise, NOISE_FLOOR)),
        log_read=jnp.log(jnp.maximum(physics.read_noise, NOISE_FLOOR)),
    )


def bandwidth(count: int) -> float:
    """The jitter's part h of the fits' own deviation: (4 / ((d + 2)·n))^(1/(d + 4)), d = 8.

    d counts ln κ, two free gains, three offsets, ln σs and ln σr. Source: Silverman 1986, 4.3.2.

    Args:
        count: n, how many fits there are.

    Returns:
        h, above 0.
    """
    dimensions = 8
    return (4.0 / ((dimensions + 2) * count)) ** (1.0 / (dimensions + 4))


def draw(key: PRNGKey, calibration: Calibration, shape: tuple[int, ...] = ()) -> Calibration:
    """Points of the distribution: a smoothed bootstrap of the fits.

    z = m + (z_i − m + h·ε) / sqrt(1 + h²), i uniform over the n fits, m their mean, and
    ε = Σ_j w_j (z_j − m) / sqrt(n) with w ~ N(0, 1): Gaussian with their covariance, whatever its
    rank. So z has exactly their mean and covariance. Source: Silverman 1986, 6.4.1.

    Args:
        key: of this draw.
        calibration: the fits.
        shape: leading axes of the draws.

    Returns:
        Fields [*shape] and [*shape, 3].
    """
    count = calibration.log_exposure.shape[0]
    index_key, weights_key = jax.random.split(key)
    index = jax.random.randint(index_key, shape, 0, count)
    weights = jax.random.normal(weights_key, (*shape, count)) / count**0.5
    width = bandwidth(count)

    def points(fitted):
        centre = fitted.mean(axis=0)
        apart = fitted - jnp.broadcast_to(centre, fitted.shape)
        jitter = jnp.tensordot(weights, apart, axes=1, precision="highest")
        moved = (apart[index] + width * jitter) / (1.0 + width**2) ** 0.5
        return moved + jnp.broadcast_to(centre, moved.shape)

    return jax.tree.map(points, calibration)


def sample_like(
    key: PRNGKey, normal: Image, calibration: Calibration, *, field: float = 0.2
) -> Physics:
    """Draw θ for each image from the distribution of the fitted ones, all correlations kept.

    Args:
        key: split into one for the point of the distribution and one for the field.
        normal: sRGB, [..., h, w, 3]; only its leading axes matter.
        calibration: the fits to draw like.
        field: standard deviation of the illumination's coefficients, independent of all else; the
            fit knows nothing of them.

    Returns:
        θ with the leading axes of `normal`; κ never passes 1, gamma is 1.
    """
    shape = normal.shape[:-3]
    point_key, field_key = jax.random.split(key)
    point = draw(point_key, calibration, shape)
    exposure = jnp.exp(jnp.minimum(point.log_exposure, 0.0))
    return Physics(
        exposure=exposure,
        gains=jnp.exp(point.log_gains),
        offset=exposure[..., None] * point.veil,
        illumination=field * jax.random.normal(field_key, (*shape, 5)),
        shot_noise=jnp.exp(point.log_shot),
        read_noise=jnp.exp(point.log_read),
    )
