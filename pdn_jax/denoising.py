"""The denoising module: from coarse to fine in L levels (Linen, pure `apply`).

Level l starts from the coarser result and the detail that the brightened image has there,

    c_l = up(d_{l+1} − e_{l+1}),
    d_l = e_l + c_l + residual(e_l, c_l, noise_l, features_{l+1}),

with e_l the brightened image at level l and c_l the correction that the coarser levels made,
and is told how much noise to expect. Levels do not
share weights. Each computes on blocks of 2×2 pixels (space to depth), which is where its
speed comes from.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.convolution import conv
from pdn_jax.types import Image

BLOCK = 2


class Level(nn.Module):
    """One level of the pyramid: a residual for an image given what is coarser."""

    width: int
    depth: int
    dtype: Any = None

    @nn.compact
    def __call__(self, image: Image, correction: Image | None, told: Array):
        """(e_l, c_l or None, what coarser levels and the noise say on the block grid) -> (residual, features)."""
        seen = im.space_to_depth(image, BLOCK)
        if correction is not None:
            seen = jnp.concatenate([seen, im.space_to_depth(correction, BLOCK)], axis=-1)
        a = conv(self.width, dtype=self.dtype, name="look")(seen)
        a = nn.relu(a + told)
        for index in range(self.depth):
            b = nn.relu(conv(self.width, dtype=self.dtype, name=f"a{index}")(a))
            a = a + conv(self.width, dtype=self.dtype, name=f"b{index}")(b)
        zeros = nn.initializers.zeros
        out = conv(3 * BLOCK**2, dtype=self.dtype, name="residual", kernel_init=zeros)(nn.relu(a))
        return im.depth_to_space(out.astype(jnp.float32), BLOCK), a


def repeat(features: Array, factor: int) -> Array:
    """Enlargement of [n, h, w, c] by repeating pixels: the finer level smooths for itself."""
    if factor == 1:
        return features
    return jnp.repeat(jnp.repeat(features, factor, axis=1), factor, axis=2)


class Denoising(nn.Module):
    """L levels from coarse to fine; `widths` and `depths` are per level, coarsest first."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    dtype: Any = None

    @nn.compact
    def __call__(self, image: Image, noise: Array, context: Array) -> tuple[Array, ...]:
        """Brightened image [n, h, w, 3], its noise std and a context on a coarser grid -> d_L … d_1.

        h and w must divide by 2^L; the noise and context grids must be h / 2^i for some i ≥ L.
        """
        if len(self.widths) != len(self.depths):
            raise ValueError(f"widths {self.widths} and depths {self.depths} must be as many")
        levels = len(self.widths)
        images = [im.pool(image, 2**level) if level else image for level in range(levels)]
        features, denoised = context, []
        for index, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            level = levels - 1 - index
            e = images[level]
            expected = im.upsample(noise, features.shape[1] // noise.shape[1]) / 2**level
            told = jnp.concatenate([features, expected.astype(features.dtype)], axis=-1)
            told = nn.Dense(width, dtype=self.dtype, name=f"lift{level}")(told)
            told = repeat(told, e.shape[1] // BLOCK // told.shape[1])
            correction = im.upsample(denoised[-1] - images[level + 1], 2) if denoised else None
            residual, features = Level(width, depth, self.dtype, name=f"level{level}")(
                e, correction, told
            )
            denoised.append(e + residual if correction is None else e + correction + residual)
        return tuple(denoised)
