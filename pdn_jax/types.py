"""The names that everything else is written in.

The image contract, stated once: an image is float32 in [0, 1], height by width
by channels (RGB), with any number of leading batch axes (NHWC for the network).
It is sRGB-encoded unless its name or docstring says linear light.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from pdn_jax.errors import InputError as InputError

Image = Float[Array, "*batch height width channel"]
"""An image, or a batch of any leading axes; the contract is above."""
PerImage = Float[Array, "*batch"]
"""A number for each image."""
PerChannel = Float[Array, "*batch 3"]
"""Three numbers for each image."""
Scalar = Float[Array, ""]
"""One number."""
PRNGKey = Key[Array, ""]
"""A key of `jax.random.key`."""
Params = Any
"""A pytree of arrays, as Flax has them."""

Distance = Callable[[Array, Array], Array]
"""(prediction, target) -> elementwise distance; never reduces over the batch."""


class Neutral(NamedTuple):
    """A field's value where it is not given: what leaves a photograph as it is.

    value: for one image, a number or a tuple of numbers.
    """

    value: float | tuple[float, ...]


@chex.dataclass(frozen=True)
class Physics:
    """θ, the parameters of the degradation, one set per image.

    A field that is not given is neutral, with the leading axes of `exposure`: `Physics()` is a
    camera that changes nothing, `Physics(exposure=κ)` one that only under-exposes.

    exposure: κ, light of the dark frame relative to the well-exposed one, in (0, 1].
    gains: colour cast, per channel, geometric mean 1.
    offset: black offset (veil) added in linear light, per channel.
    gamma: exponent of the dark frame's tone curve on sRGB values, 1 for none.
    illumination: five coefficients of the log-illumination over y, x, y², xy, x², 0 for none.
    shot_noise, read_noise: σs and σr; the variance in linear light is σs·e + σr.
    """

    exposure: PerImage = Neutral(1.0)
    gains: PerChannel = Neutral((1.0, 1.0, 1.0))
    offset: PerChannel = Neutral((0.0, 0.0, 0.0))
    gamma: PerImage = Neutral(1.0)
    illumination: Float[Array, "*batch 5"] = Neutral((0.0, 0.0, 0.0, 0.0, 0.0))
    shot_noise: PerImage = Neutral(0.0)
    read_noise: PerImage = Neutral(0.0)

    def __post_init__(self):
        for name, neutral in NEUTRAL.items():
            if isinstance(getattr(self, name), Neutral):
                batch = () if name == "exposure" else jnp.shape(self.exposure)
                value = jnp.broadcast_to(neutral, (*batch, *neutral.shape))
                object.__setattr__(self, name, value)  # the class is frozen


NEUTRAL = {
    field.name: np.asarray(field.default.value, np.float32) for field in dataclasses.fields(Physics)
}
"""Field of `Physics` -> its neutral value for one image, which also gives its shape."""


@chex.dataclass(frozen=True)
class Batch:
    """What a loss is given: the observed dark image, the truth, and θ that links them.

    known: 1 for images whose θ is known, 0 for those where it is not and only the positive
    direction has something to go by; None where all are known. between: real photographs of the
    scene in exposures from `low` to `normal`, or None; `normal` itself where there is none. truth:
    0 for images whose `normal` is no truth, only a place held, else 1; None where all have one.
    """

    low: Image
    normal: Image
    physics: Physics
    known: PerImage | None = None
    between: Float[Array, "*batch between height width channel"] | None = None
    truth: PerImage | None = None


Side = Any
"""Pixels of a side: an int, or a size that `jax.export` leaves open."""
