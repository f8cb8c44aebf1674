"""Real dark photographs, photographed again: more brightnesses, casts and noise than were taken.

The second camera is the forward model itself, applied to the dark photograph; its θ' is drawn here,
and what both do together is again one θ. Images are sRGB in [0, 1], [h, w, 3], one at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pdn_jax import degradation
from pdn_jax import image as im
from pdn_jax.physics import solve_noise
from pdn_jax.types import Image, Physics, PRNGKey, Scalar

BRIGHTEST = 0.8
"""The most light a dark photograph may end with, relative to the truth."""

DARKEST = 3.0 / 255.0 / 12.92
"""The least mean light that darkening may leave: 3 steps of 8 bits."""


class Again(NamedTuple):
    """part: of the photographs. stops: darker or brighter at most. cast: standard deviation of
    ln gain. snr: range in dB of mid-grey's after brightening, for the noise that is added."""

    part: float
    stops: float
    cast: float
    snr: Sequence[float]


def draw(key: PRNGKey, low: Image, normal: Image, again: Again) -> tuple[Physics, Scalar]:
    """(θ' of the second camera, whether the photograph goes through it), 1 or 0.

    ln κ' is uniform within `stops`, but no brighter than 0.8 of the truth, and no darker than 3
    steps of 8 bits where it was brighter.
    """
    keys = jax.random.split(key, 5)
    light, whole = im.linearize(low).mean(), im.linearize(normal).mean()
    span = again.stops * jnp.log(2.0)
    upper = jnp.minimum(span, jnp.log(BRIGHTEST * whole / (light + 1e-6)))
    lower = jnp.maximum(-span, jnp.minimum(0.0, jnp.log(DARKEST / (light + 1e-6))))
    log_exposure = jax.random.uniform(keys[0]) * (upper - jnp.minimum(lower, upper))
    log_exposure = log_exposure + jnp.minimum(lower, upper)

    decibel = jax.random.uniform(keys[1], minval=again.snr[0], maxval=again.snr[1])
    dark = jnp.clip(jnp.exp(log_exposure) * light / (whole + 1e-6), 1e-4, 1.0)
    shot, read = solve_noise(dark, decibel, 0.26 * jax.random.normal(keys[2]))
    gains = again.cast * jax.random.normal(keys[3], (3,))
    second = degradation.neutral_physics(jnp.exp(log_exposure)).replace(
        gains=jnp.exp(gains - gains.mean()), shot_noise=shot, read_noise=read
    )
    return second, (jax.random.uniform(keys[4]) < again.part).astype(jnp.float32)


def together(first: Physics, second: Physics) -> Physics:
    """θ of both cameras, one after the other, to the first order, for a `first` without a tone.

    e'' = κ'g'·(κg·e + o): the light of the second is that of the first times κ'g', so σs grows by
    κ' and σr by κ'², and each adds its own. A first camera whose noise is unknown (0) stays so.
    """
    scale = second.exposure
    known = first.shot_noise > 0.0
    return first.replace(
        exposure=first.exposure * scale,
        gains=first.gains * second.gains,
        offset=first.offset * scale * second.gains,
        shot_noise=jnp.where(known, first.shot_noise * scale + second.shot_noise, 0.0),
        read_noise=jnp.where(known, first.read_noise * scale**2 + second.read_noise, 0.0),
    )
