"""The denoising module: from coarse to fine in L levels (Linen, pure `apply`).

Level l starts from the coarser result and the detail that the brightened image has there,

    c_l = up(d_{l+1} − e_{l+1}),
    d_l = e_l + c_l + residual(e_l, c_l, noise_l, features_{l+1}),

with e_l the brightened image at level l and c_l the correction that the coarser levels made,
and is told how much noise to expect. Levels do not share weights. Each computes on blocks of 2×2
or 4×4 pixels (space to depth), which is where its speed comes from: few wide convolutions instead
of many narrow ones.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.convolution import conv
from pdn_jax.types import Image


def cells(blocks: Sequence[int]) -> list[int]:
    """Side of a level's blocks in full-size pixels, coarsest first: block·2^l.

    Raises ValueError unless every block is even and each level's cell divides that of the level
    before, as what coarser levels found is handed on by repeating it.
    """
    found = [block * 2 ** (len(blocks) - 1 - index) for index, block in enumerate(blocks)]
    nested = all(coarse % fine == 0 for coarse, fine in itertools.pairwise(found))
    if not nested or any(block % 2 for block in blocks):
        raise ValueError(f"blocks {tuple(blocks)}: even ones, none coarser than the level before")
    return found


class Level(nn.Module):
    """One level of the pyramid: a residual for an image given what is coarser."""

    width: int
    depth: int
    block: int
    dtype: Any = None

    @nn.compact
    def __call__(self, image: Image, correction: Array | None, told: Array):
        """(e_l, d_{l+1} − e_{l+1} or None, what coarser levels and the noise say) -> (residual, features).

        The correction is half the image's size, what is told is on the grid of the image's blocks.
        """
        seen = im.space_to_depth(image, self.block)
        if correction is not None:
            correction = im.space_to_depth(correction, self.block // 2)
            seen = jnp.concatenate([seen, correction], axis=-1)
        a = conv(self.width, dtype=self.dtype, name="look")(seen)
        a = nn.relu(a + told)
        for index in range(self.depth):
            b = nn.relu(conv(self.width, dtype=self.dtype, name=f"a{index}")(a))
            a = a + conv(self.width, dtype=self.dtype, name=f"b{index}")(b)
        count, zeros = 3 * self.block**2, nn.initializers.zeros
        out = conv(count, dtype=self.dtype, name="residual", kernel_init=zeros)(nn.relu(a))
        return im.depth_to_space(out.astype(jnp.float32), self.block), a


def repeat(features: Array, factor: int) -> Array:
    """Enlargement of [n, h, w, c] by repeating pixels: the finer level smooths for itself."""
    if factor == 1:
        return features
    return jnp.repeat(jnp.repeat(features, factor, axis=1), factor, axis=2)


class Denoising(nn.Module):
    """L levels from coarse to fine; `widths`, `depths` and `blocks` are per level, coarsest first.

    noise_map: whether it is told how much noise to expect; else it is told of none.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[int, ...]
    noise_map: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, image: Image, noise: Array, context: Array) -> tuple[Array, ...]:
        """Brightened image [n, h, w, 3], its noise std and a context on a coarser grid -> d_L … d_1.

        h and w must divide by the coarsest level's `cells`; the noise and context grids must be
        h / i for some i that this divides.
        """
        if not len(self.widths) == len(self.depths) == len(self.blocks):
            raise ValueError(
                f"widths {self.widths}, depths {self.depths}, blocks {self.blocks} must be as many"
            )
        if not self.noise_map:
            noise = jnp.zeros_like(noise)
        sides = cells(self.blocks)
        levels = len(self.widths)
        images = [im.pool(image, 2**level) if level else image for level in range(levels)]
        features, denoised = context, []
        for index, (width, depth, block) in enumerate(
            zip(self.widths, self.depths, self.blocks, strict=True)
        ):
            level = levels - 1 - index
            e = images[level]
            expected = im.upsample(noise, features.shape[1] // noise.shape[1]) / 2**level
            told = jnp.concatenate([features, expected.astype(features.dtype)], axis=-1)
            told = nn.Dense(width, dtype=self.dtype, name=f"lift{level}")(told)
            told = repeat(told, image.shape[1] // sides[index] // told.shape[1])
            coarse = denoised[-1] - images[level + 1] if denoised else None
            residual, features = Level(width, depth, block, self.dtype, name=f"level{level}")(
                e, coarse, told
            )
            correction = residual if coarse is None else im.upsample(coarse, 2) + residual
            denoised.append(e + correction)
        return tuple(denoised)
