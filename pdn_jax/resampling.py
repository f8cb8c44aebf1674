"""Filters, block means, enlargement and padding of images [..., h, w, c], float32, any encoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pdn_jax.types import Image, Side

Resized = Float[Array, "*batch _ _ _"]
"""An image whose size an operator has changed: only the leading axes stay as they were."""


def gaussian_kernel(sigma: float, radius: int) -> np.ndarray:
    """A normalised 1-D Gaussian.

    Args:
        sigma: standard deviation, samples.
        radius: taps on each side of the middle one.

    Returns:
        [2·radius + 1] taps that add up to 1.
    """
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


@functools.lru_cache(maxsize=16)
def banded(kernel: tuple[float, ...], size: int, mode: str) -> np.ndarray:
    """The matrix of a 1-D filter.

    Two products with such matrices are a separable filter; on XLA's CPU backend they are some
    twenty times faster than a depthwise convolution, and good on accelerators too.

    Args:
        kernel: an odd number of taps.
        size: samples that it is applied to.
        mode: 'valid' for whole windows only, 'renormalised' for as many samples as there were,
            where the taps that fall inside add up to 1.

    Returns:
        float32 [size or less, size].

    Raises:
        ValueError: another mode.
    """
    radius = len(kernel) // 2
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
        matrix += weight * np.eye(size, k=offset)
    if mode == "valid":
        matrix = matrix[radius : size - radius]
    elif mode == "renormalised":
        matrix /= matrix.sum(axis=1, keepdims=True)
    else:
        raise ValueError(f"mode must be 'valid' or 'renormalised', not {mode!r}")
    return matrix.astype(np.float32)


def separable(image: Image, kernel: np.ndarray, *, mode: str = "renormalised") -> Resized:
    """Filter rows and columns with a 1-D kernel as two matrix products.

    In full float32 also where matrix products default to fewer bits (TPU, recent GPUs).

    Args:
        image: [..., h, w, c].
        kernel: an odd number of taps.
        mode: see `banded`; 'valid' shrinks the image.

    Returns:
        The filtered image.

    Raises:
        ValueError: no whole window fits into the image, or another mode.
    """
    taps = tuple(float(tap) for tap in kernel)
    height, width = image.shape[-3:-1]
    if mode == "valid" and min(height, width) < len(taps):
        raise ValueError(
            f"a {len(taps)}-tap valid filter needs images that large, got {image.shape}"
        )
    rows, columns = banded(taps, height, mode), banded(taps, width, mode)
    product = functools.partial(jnp.einsum, precision="highest")
    image = product("yh,...hwc->...ywc", rows.astype(image.dtype), image)
    return product("xw,...ywc->...yxc", columns.astype(image.dtype), image)


def blur(image: Image, sigma: float) -> Image:
    """Gaussian blur, three σ wide, edges renormalised.

    Args:
        image: [..., h, w, c].
        sigma: σ, pixels.

    Returns:
        The blurred image, of that shape.
    """
    return separable(image, gaussian_kernel(sigma, max(1, round(3 * sigma))))


def pool(image: Image, factor: int) -> Resized:
    """Mean over blocks; rows and columns left over are dropped.

    Written as sums of slices, rows first: loops over whole rows, which XLA's CPU backend runs some
    ten times faster than a reduction beside an axis of three colours.

    Args:
        image: [..., h, w, c].
        factor: f, pixels a side of a block.

    Returns:
        [..., ⌊h/f⌋, ⌊w/f⌋, c].

    Raises:
        ValueError: no block fits.
    """
    *batch, height, width, channel = image.shape
    rows, columns = height // factor, width // factor
    if rows == 0 or columns == 0:
        raise ValueError(f"cannot pool {image.shape} by {factor}")
    image = image[..., : rows * factor, : columns * factor, :]
    lines = image.reshape(*batch, rows, factor, columns * factor * channel)
    lines = sum(lines[..., index, :] for index in range(factor))
    cells = lines.reshape(*batch, rows, columns, factor, channel)
    return sum(cells[..., index, :] for index in range(factor)) / factor**2


def upsample(image: Image, factor: int) -> Resized:
    """Bilinear enlargement by a whole factor, half-pixel centres, edges clamped.

    Written phase by phase (each output phase is one blend of two neighbours), which XLA fuses;
    equal to `jax.image.resize(..., "bilinear")`. Columns first: the larger part, the rows, is
    then blends of whole rows.

    Args:
        image: [..., h, w, c].
        factor: f, 1 or more.

    Returns:
        [..., f·h, f·w, c].
    """
    return _upsample_axis(_upsample_axis(image, factor, -2), factor, -3)


def _upsample_axis(image: Image, factor: int, axis: int) -> Resized:
    axis %= image.ndim
    size = image.shape[axis]
    widths = [(0, 0)] * image.ndim
    widths[axis] = (1, 1)
    padded = jnp.pad(image, widths, mode="edge")
    before, here, after = (
        jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(3)
    )
    phases = []
    for phase in range(factor):
        position = (phase + 0.5) / factor - 0.5
        neighbour = before if position < 0 else after
        phases.append(here + abs(position) * (neighbour - here))
    shape = (*image.shape[:axis], size * factor, *image.shape[axis + 1 :])
    return jnp.stack(phases, axis=axis + 1).reshape(shape)


def space_to_depth(image: Image, factor: int) -> Resized:
    """Blocks become channels, nothing is lost.

    Args:
        image: [..., h, w, c], h and w divisible by the factor.
        factor: f, pixels a side of a block.

    Returns:
        [..., h/f, w/f, f·f·c].

    Raises:
        ValueError: a side does not divide.
    """
    *batch, height, width, channel = image.shape
    if height % factor or width % factor:
        raise ValueError(f"sides must divide by {factor}, got {image.shape}")
    image = image.reshape(*batch, height // factor, factor, width // factor, factor, channel)
    image = jnp.moveaxis(image, -4, -3)
    return image.reshape(*batch, height // factor, width // factor, factor * factor * channel)


def depth_to_space(image: Image, factor: int) -> Resized:
    """The inverse of `space_to_depth`.

    Args:
        image: [..., h, w, f·f·c].
        factor: f, pixels a side of a block.

    Returns:
        [..., f·h, f·w, c].

    Raises:
        ValueError: the channels do not divide.
    """
    *batch, height, width, depth = image.shape
    if depth % (factor * factor):
        raise ValueError(f"channels must divide by {factor * factor}, got {image.shape}")
    channel = depth // (factor * factor)
    image = image.reshape(*batch, height, width, factor, factor, channel)
    image = jnp.moveaxis(image, -3, -4)
    return image.reshape(*batch, height * factor, width * factor, channel)


# --- padding ---------------------------------------------------------------------------------


def pad_to_multiple(image: Image, multiple: int) -> Resized:
    """Extend the bottom and right by mirroring until both sides divide.

    Args:
        image: [..., h, w, c].
        multiple: what both sides are to divide by.

    Returns:
        The image, larger by less than `multiple` a side.
    """
    height, width = image.shape[-3:-1]
    rows, columns = -height % multiple, -width % multiple
    if rows == 0 and columns == 0:
        return image
    widths = [(0, 0)] * (image.ndim - 3) + [(0, rows), (0, columns), (0, 0)]
    return jnp.pad(image, widths, mode="symmetric")


def unpad(image: Image, height: Side, width: Side) -> Resized:
    """The top left part: what `pad_to_multiple` was given.

    Args:
        image: [..., h, w, c].
        height: rows of the result.
        width: columns of the result.

    Returns:
        [..., height, width, c].
    """
    return image[..., :height, :width, :]
