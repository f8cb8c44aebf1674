"""The names that everything else is written in.

The image contract, stated once: an image is float32 in [0, 1], height by width
by channels (RGB), with any number of leading batch axes (NHWC for the network).
It is sRGB-encoded unless its name or docstring says linear light.
"""

from collections.abc import Callable
from typing import Any

import chex
from jaxtyping import Array, Float, Key

from pdn_jax.errors import InputError as InputError

Image = Float[Array, "*batch height width channel"]
PerImage = Float[Array, "*batch"]
PerChannel = Float[Array, "*batch 3"]
Scalar = Float[Array, ""]
PRNGKey = Key[Array, ""]
Params = Any

Distance = Callable[[Array, Array], Array]
"""(prediction, target) -> elementwise distance; never reduces over the batch."""


@chex.dataclass(frozen=True)
class Physics:
    """θ, the parameters of the degradation, one set per image.

    exposure: κ, light of the dark frame relative to the well-exposed one, in (0, 1].
    gains: colour cast, per channel, geometric mean 1.
    offset: black offset (veil) added in linear light, per channel.
    gamma: exponent of the dark frame's tone curve on sRGB values, 1 for none.
    illumination: five coefficients of the log-illumination over y, x, y², xy, x², 0 for none.
    shot_noise, read_noise: σs and σr; the variance in linear light is σs·e + σr.
    """

    exposure: PerImage
    gains: PerChannel
    offset: PerChannel
    gamma: PerImage
    illumination: Float[Array, "*batch 5"]
    shot_noise: PerImage
    read_noise: PerImage


@chex.dataclass(frozen=True)
class Batch:
    """What a loss is given: the observed dark image, the truth, and θ that links them.

    known: 1 for images whose θ is known, 0 for those where it is not and only the positive
    direction has something to go by; None where all are known. between: real photographs of the
    scene in exposures from `low` to `normal`, or None; `normal` itself where there is none.
    """

    low: Image
    normal: Image
    physics: Physics
    known: PerImage | None = None
    between: Float[Array, "*batch between height width channel"] | None = None
