"""The network in two parts that take arrays larger than the photograph: the whole, and tiles of it.

The enhancement module sees the whole photograph, at 1/8 of its size: `global_pass`; what it estimates
there, brightness first of all, is global. All that is full-size, the brightening and the denoising,
looks no further than `layout.margin` pixels: `render_tile`, for tiles that overlap by that much.
Together they give what `ProgressiveDualNetwork` gives, to rounding.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import enhancement
from pdn_jax import image as im
from pdn_jax.denoising import Denoising
from pdn_jax.enhancement import REDUCTION, Enhancement
from pdn_jax.layout import GlobalPass
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.types import Image, Params, PerImage


class Rendered(NamedTuple):
    """A tile's images [n, h, w, 3], not clipped: as `PDNOutput` has them, of the tile alone."""

    enhanced: tuple[Array, ...]
    denoised: tuple[Array, ...]
    path: Image


def global_pass(
    network: ProgressiveDualNetwork, params: Params, small: Image, texture: Array, mask: Array
) -> GlobalPass:
    """The whole photograph, on a grid that may be larger than it.

    Args:
        network: which network it is.
        params: of its enhancement module alone.
        small: as `enhancement.observe` gives it [n, h/8, w/8, 3].
        texture: as `enhancement.observe` gives it, of that shape.
        mask: 1 for cells that count, 0 for others [n, h/8, w/8, 1].

    Returns:
        What the network estimates where the mask has ones.
    """
    module = Enhancement(
        network.width, network.stages, network.texture, network.evidence, network.dtype
    )
    estimate = module.apply({"params": params}, small, texture, mask, method="on_grid")
    noise = enhancement.amplified_noise(
        small,
        enhancement.remove_black(small, estimate.black),
        sum(estimate.increments),
        estimate.shot_noise,
        estimate.read_noise,
    )
    return GlobalPass(
        estimate.black,
        jnp.stack(estimate.increments, axis=1),
        noise,
        estimate.context,
        estimate.shot_noise,
        estimate.read_noise,
    )


def render_tile(
    network: ProgressiveDualNetwork, params: Params, low: Image, whole: GlobalPass, valid: Array
) -> Rendered:
    """A tile of the photograph, in an array that may be larger than it.

    Args:
        network: which network it is.
        params: of its denoising module alone.
        low: sRGB [n, h, w, 3], sides divisible by 8.
        whole: the part of the global pass under the tile; one cell beyond what is there, where the
            array has one, repeats the last.
        valid: how many rows and columns are there [n, 2], divisible by 8.

    Returns:
        Every stage of it; right where the tile is there, `layout.margin` pixels from cut edges.
    """
    start = enhancement.remove_black(low, whole.black)
    total = jnp.zeros_like(whole.increments[:, 0])
    enhanced = []
    for increment in jnp.unstack(whole.increments, axis=1):
        total = total + increment
        brightened, exponent = enhancement.brighten(start, total)
        enhanced.append(brightened)
    levels = (network.widths, network.depths, network.blocks)
    module = Denoising(*levels, network.noise_map, network.evidence, network.dtype)
    denoised = module.apply({"params": params}, enhanced[-1], whole.noise, whole.context, valid)
    return Rendered(tuple(enhanced), denoised, jnp.log(exponent) / im.CURVE_A)


def path_sum(log_exposure: Array, rows: Array, columns: Array) -> PerImage:
    """Sum of the path over weighted pixels and all channels, as `PDNOutput.path` has it per pixel.

    Args:
        log_exposure: ln k of the whole path on a tile's grid [n, h/8, w/8, 3].
        rows: weights of its rows of pixels [n, h].
        columns: weights of its columns [n, w].

    Returns:
        One number per image; divided by three times the sum of weights it is the mean.
    """
    exponent = im.upsample(im.curve_exponent(log_exposure), REDUCTION)
    path = jnp.log(exponent) / im.CURVE_A
    lines = (path.sum(axis=-1) * columns[:, None, :]).sum(axis=-1)
    return (lines * rows).sum(axis=-1)
