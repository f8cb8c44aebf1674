"""What is drawn to widen what was photographed: a second camera, restraint, black bars.

One image each, from its own key; `synthesis` puts them to use.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import degradation
from pdn_jax import image as im
from pdn_jax.physics import solve_noise
from pdn_jax.types import Image, Physics, PRNGKey, Scalar

# --- re-exposure augmentation ------------------------------------------------------------------


class Reexposure(NamedTuple):
    """Real dark photographs through a second camera, the forward model itself.

    probability: of a photograph to be chosen. stops: darker or brighter at most, in linear light.
    cast: standard deviation of ln gain. snr: range in dB of mid-grey's after brightening, for the
    noise that is added.
    """

    probability: float
    stops: float
    cast: float
    snr: Sequence[float]


BRIGHTEST = 0.8
"""The most light a dark photograph may end with, relative to the truth."""

DARKEST = 3.0 / 255.0 / 12.92
"""The least mean light that darkening may leave: 3 steps of 8 bits."""

CAMERA_STREAMS = ("snr", "scatter", "gains")
REEXPOSURE_STREAMS = ("exposure", "camera", "chosen")


def draw_camera(
    key: PRNGKey, exposure: Scalar, dark: Scalar, snr: Sequence[float], cast: float
) -> Physics:
    """θ of an exposure whose gains are drawn, and its noise for mid-grey under `dark`, see `Reexposure`."""
    keys = dict(zip(CAMERA_STREAMS, jax.random.split(key, len(CAMERA_STREAMS)), strict=True))
    worst, best = snr
    decibel = jax.random.uniform(keys["snr"], minval=worst, maxval=best)
    shot, read = solve_noise(dark, decibel, 0.26 * jax.random.normal(keys["scatter"]))
    gains = cast * jax.random.normal(keys["gains"], (3,))
    return degradation.neutral_physics(exposure).replace(
        gains=jnp.exp(gains - gains.mean()), shot_noise=shot, read_noise=read
    )


def draw_reexposure(
    key: PRNGKey, low: Image, normal: Image, options: Reexposure
) -> tuple[Physics, Scalar]:
    """(θ' of the second camera, whether the photograph is chosen) for one pair, sRGB [h, w, 3].

    ln κ' is uniform within `stops`, but no brighter than `BRIGHTEST` of the truth, and no darker than
    `DARKEST` where it was brighter.
    """
    keys = dict(
        zip(REEXPOSURE_STREAMS, jax.random.split(key, len(REEXPOSURE_STREAMS)), strict=True)
    )
    light, whole = im.linearize(low).mean(), im.linearize(normal).mean()
    span = options.stops * jnp.log(2.0)
    upper = jnp.minimum(span, jnp.log(BRIGHTEST * whole / (light + 1e-6)))
    lower = jnp.maximum(-span, jnp.minimum(0.0, jnp.log(DARKEST / (light + 1e-6))))
    lower = jnp.minimum(lower, upper)
    log_exposure = lower + jax.random.uniform(keys["exposure"]) * (upper - lower)

    exposure = jnp.exp(log_exposure)
    dark = jnp.clip(exposure * light / (whole + 1e-6), 1e-4, 1.0)
    second = draw_camera(keys["camera"], exposure, dark, options.snr, options.cast)
    return second, jax.random.uniform(keys["chosen"]) < options.probability


def compose_physics(first: Physics, second: Physics) -> Physics:
    """θ of two cameras in sequence, to the first order, for a `first` without a tone.

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


# --- restraint -----------------------------------------------------------------------------------


class Restraint(NamedTuple):
    """Crops that need little or nothing, of photographs and of real pairs' truths alike.

    identity: part of the crops that are seen as they are, without darkness or noise. mild: part
    that is darkened by `stops` in linear light only, with noise of `snr` in dB of mid-grey's after
    brightening and `cast`, the standard deviation of ln gain.
    """

    identity: float
    mild: float
    stops: Sequence[float]
    snr: Sequence[float]
    cast: float


RESTRAINT_STREAMS = ("kind", "exposure", "camera")


class Lightly(NamedTuple):
    """Whether a crop is seen as it is, or `mild`ly darkened, and by which θ."""

    identity: Array
    mild: Array
    physics: Physics


def draw_restraint(key: PRNGKey, options: Restraint) -> Lightly:
    """What a crop needs: nothing, little (ln κ uniform over `stops`), or whatever else is drawn."""
    keys = dict(zip(RESTRAINT_STREAMS, jax.random.split(key, len(RESTRAINT_STREAMS)), strict=True))
    kind = jax.random.uniform(keys["kind"])
    least, most = options.stops
    exposure = 2.0 ** -jax.random.uniform(keys["exposure"], minval=least, maxval=most)
    physics = draw_camera(keys["camera"], exposure, exposure, options.snr, options.cast)
    identity = kind < options.identity
    return Lightly(identity, ~identity & (kind < options.identity + options.mild), physics)


# --- black bars --------------------------------------------------------------------------------

WIDEST_BARS = 0.6
"""The largest part of a crop that two bars may take."""

ALL_BLACK = 0.1
"""The part of the crops with bars that are black from edge to edge."""

BARS_STREAMS = ("chosen", "all", "axis", "width", "place")


def draw_bars(key: PRNGKey, probability: float, size: tuple[int, int]) -> Array:
    """What is seen between black bars, ones and zeros [h, w, 1]; the bars are two, across an axis."""
    keys = dict(zip(BARS_STREAMS, jax.random.split(key, len(BARS_STREAMS)), strict=True))
    width = WIDEST_BARS * jax.random.uniform(keys["width"])
    first = width * jax.random.uniform(keys["place"])
    y, x = ((jnp.arange(side) + 0.5) / side for side in size)
    upright = jax.random.bernoulli(keys["axis"])
    along = jnp.where(upright, y[:, None], x[None, :])
    seen = (along >= first) & (along < 1.0 - (width - first))
    seen &= ~jax.random.bernoulli(keys["all"], ALL_BLACK)
    return (seen | ~jax.random.bernoulli(keys["chosen"], probability))[..., None].astype(
        jnp.float32
    )
