"""The denoising module: from coarse to fine in L levels (Linen, pure `apply`).

Level l starts from the coarser result and the detail that the brightened image has there,

    c_l = up(d_{l+1} − e_{l+1}),
    d_l = e_l + c_l + residual(e_l, c_l, noise_l, features_{l+1}),

with e_l the brightened image at level l and c_l the correction that the coarser levels made,
and is conditioned on how much noise to expect. Levels do not share weights. Each computes on blocks
of 2×2 or 4×4 pixels (space to depth), which is where its speed comes from: few wide convolutions
instead of many narrow ones.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.convolution import conv, masked
from pdn_jax.layout import cells
from pdn_jax.types import Image


def inside(valid: Array, shape: tuple[int, int]) -> Array:
    """Which pixels of a grid count.

    Args:
        valid: how many rows and columns do [n, 2].
        shape: rows and columns of the grid.

    Returns:
        Ones for the first of them, zeros beyond, float32 [n, h, w, 1].
    """
    rows, columns = (
        jnp.arange(size)[None] < valid[:, axis, None] for axis, size in enumerate(shape)
    )
    return (rows[:, :, None] & columns[:, None])[..., None].astype(jnp.float32)


def extend_edge(image: Image, valid: Array) -> Image:
    """An image whose last row and column that count are repeated once.

    So that `upsample` sees at that edge what it sees at the edge of an array.

    Args:
        image: [n, h, w, c].
        valid: how many rows and columns count [n, 2].

    Returns:
        Of the image's shape.
    """
    for axis in (1, 2):
        before = [(0, 0)] * 4
        before[axis] = (1, 0)
        shifted = jax.lax.slice_in_dim(jnp.pad(image, before), 0, image.shape[axis], axis=axis)
        index = jax.lax.broadcasted_iota(jnp.int32, (1, *image.shape[1:3], 1), axis)
        image = jnp.where(index == valid[:, axis - 1, None, None, None], shifted, image)
    return image


class Level(nn.Module):
    """One level of the pyramid: a residual for an image given what is coarser."""

    width: int
    depth: int
    block: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        image: Image,
        correction: Array | None,
        condition: Array,
        mask: Array | None = None,
    ):
        """A residual for the image of a level.

        Args:
            image: e_l, the brightened image at this level [n, h, w, 3].
            correction: d_{l+1} − e_{l+1} of the coarser level [n, h/2, w/2, 3]; None at the coarsest.
            condition: from the noise and the coarser levels, on the grid of the image's blocks.
            mask: ones for the blocks that count, on that grid; None for all.

        Returns:
            The residual [n, h, w, 3], and features on the grid of blocks.
        """
        seen = im.space_to_depth(image, self.block)
        if correction is not None:
            correction = im.space_to_depth(correction, self.block // 2)
            seen = jnp.concatenate([seen, correction], axis=-1)
        a = conv(self.width, dtype=self.dtype, name="look")(masked(seen, mask))
        a = masked(nn.relu(a + condition), mask)
        for index in range(self.depth):
            b = masked(nn.relu(conv(self.width, dtype=self.dtype, name=f"a{index}")(a)), mask)
            a = masked(a + conv(self.width, dtype=self.dtype, name=f"b{index}")(b), mask)
        count, zeros = 3 * self.block**2, nn.initializers.zeros
        out = conv(count, dtype=self.dtype, name="residual", kernel_init=zeros)(nn.relu(a))
        return im.depth_to_space(out.astype(jnp.float32), self.block), a


def repeat(features: Array, factor: int) -> Array:
    """Enlargement by repeating pixels: the finer level smooths for itself.

    Args:
        features: [n, h, w, c].
        factor: 1 or more.

    Returns:
        [n, h·factor, w·factor, c].
    """
    if factor == 1:
        return features
    return jnp.repeat(jnp.repeat(features, factor, axis=1), factor, axis=2)


class Denoising(nn.Module):
    """L levels from coarse to fine; `widths`, `depths` and `blocks` are per level, coarsest first.

    noise_map: whether it is conditioned on how much noise to expect; else on none. amount: whether
    the last channel of the context says how much of all levels' residuals is wanted.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[int, ...]
    noise_map: bool = True
    amount: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self, image: Image, noise: Array, context: Array, valid: Array | None = None
    ) -> tuple[Array, ...]:
        """Denoise from coarse to fine.

        Args:
            image: the brightened image, sRGB [n, h, w, 3]; h and w divide by the coarsest level's
                `cells`.
            noise: the standard deviation of its noise, on a grid of h / i for some i that those cells
                divide.
            context: features of the enhancement module, on such a grid.
            valid: how many rows and columns count [n, 2], divisible by those cells, where that is not
                all; the others mean nothing in the result, but the noise must have one more there,
                like the last that counts.

        Returns:
            d_L … d_1, coarse to fine, level l of [n, h/2^(l−1), w/2^(l−1), 3], not clipped.

        Raises:
            ValueError: `widths`, `depths` and `blocks` are not as many.
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
            condition = jnp.concatenate([features, expected.astype(features.dtype)], axis=-1)
            condition = nn.Dense(width, dtype=self.dtype, name=f"lift{level}")(condition)
            condition = repeat(condition, image.shape[1] // sides[index] // condition.shape[1])
            coarse, mask = denoised[-1] - images[level + 1] if denoised else None, None
            if valid is not None:
                mask = inside(valid // sides[index], condition.shape[1:3])
                if coarse is not None:
                    coarse = extend_edge(coarse, valid // 2 ** (level + 1))
            residual, features = Level(width, depth, block, self.dtype, name=f"level{level}")(
                e, coarse, condition, mask
            )
            correction = residual if coarse is None else im.upsample(coarse, 2) + residual
            denoised.append(e + correction)
        if self.amount:
            amount = context[:, :1, :1, -1:].astype(jnp.float32)
            pairs = zip(reversed(images), denoised, strict=True)
            denoised = [image + amount * (result - image) for image, result in pairs]
        return tuple(denoised)
