"""Another exposure and strength of denoising from what the network has made; pure functions."""

import jax
import jax.numpy as jnp

from pdn_jax import image as im
from pdn_jax.model import PDNOutput
from pdn_jax.types import Image

SOFTENING = 0.05
"""Added to the path before it is compared with its mean, so that the dial does not run wild where
the network brightened next to nothing."""


def dial(output: PDNOutput, exposure: float | jax.Array, denoise: float | jax.Array) -> Image:
    """Another exposure and strength of denoising from the same output; pure, not clipped.

        base = denoise·restored + (1 − denoise)·x_S
        x(κ) = g(base, κ^w),   w = (p̄ + m·(p − p̄) + ε) / (mean path + ε)

    with p the path of a pixel's channels and p̄ their mean; m goes from 1 where p̄ is at most a
    quarter of the mean path to 0 from a half of it on.
    exposure is κ relative to the restored photograph: 1 leaves it alone, `output.exposure` is
    as dark as the camera saw it, 2 one stop brighter. κ^w walks the network's own path, so a
    lamp that was not brightened is not darkened. All channels walk it together, or the camera's
    colour cast would come back with its darkness; only what was bright already goes back to the
    camera's colours, as a sky does that came out white. Both are scalars.
    """
    mean = jnp.mean(output.path, axis=(-3, -2, -1), keepdims=True)
    stages = (output.restored, output.enhanced[-1], output.path)
    return dialled(*stages, mean, exposure, denoise)


def dialled(restored: Image, brightened: Image, path: Image, mean, exposure, denoise) -> Image:
    """`dial` of a part of a photograph, given the mean path of all of it; scalars or one per image."""
    base = denoise * restored + (1.0 - denoise) * brightened
    together = path.mean(axis=-1, keepdims=True)
    apart = jnp.clip(2.0 - 4.0 * (together + SOFTENING) / (mean + SOFTENING), 0.0, 1.0)
    share = (together + apart * (path - together) + SOFTENING) / (mean + SOFTENING)
    # The curve raises what is below its floor, so at exposure 1 it is passed by.
    return jnp.where(exposure == 1.0, base, im.expose_curve(base, jnp.log(exposure) * share))
