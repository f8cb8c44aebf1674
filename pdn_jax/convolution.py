"""The 3×3 convolution of the network, written as each kind of device is fast with.

Where few channels go in and few come out, XLA's CPU backend leaves its fast convolutions for slow
ones and fills a part of each vector only. There, g neighbouring columns are computed as if they
were one pixel of g times the channels: the same sums, with some products by zero among them.

The gradient of the kernel is a product over all pixels of the batch. XLA lays the nine windows of
every pixel out in memory for it; where those are many, the images are summed one by one instead.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

NARROW = 16
"""Channels in and out up to which XLA's CPU backend (jax 0.10) takes the slow convolutions."""

MOST_COLUMNS = 4
"""How many neighbouring columns are computed at once at most."""

ALIGNED = 4
"""Channels come in multiples of this; with others XLA's CPU backend takes up to twice as long."""

MANY = 2**22
"""Numbers in the windows of a batch, 9·c·pixels, past which a CPU's caches do not hold them."""


def conv(features: int, *, dtype: Any = None, name: str | None = None, **options: Any) -> nn.Conv:
    """A 3×3 Linen convolution that keeps the size, with zeros around the image."""
    return nn.Conv(
        features, (3, 3), dtype=dtype, name=name, conv_general_dilated=_as_flax_calls, **options
    )


def plain(image: Array, kernel: Array) -> Array:
    """[n, h, w, c] * [3, 3, c, d] -> [n, h, w, d], zeros around the image."""
    return _convolve(image, kernel, (1, 1), ((1, 1), (1, 1)))


def columns_at_once(width: int, channels: int, features: int) -> int:
    """g: how many columns to compute as one on a CPU; 1 where nothing is won by it.

    As few as take g·features past `NARROW`, and a divisor of the width, so that nothing is cut off.
    """
    if max(channels, features) <= NARROW:
        for columns in range(2, MOST_COLUMNS + 1):
            if columns * features > NARROW and width % columns == 0:
                return columns
    return 1


def grouped(image: Array, kernel: Array, columns: int) -> Array:
    """`plain`, with g = `columns` neighbouring columns as one pixel; g must divide the width.

    The kernel becomes [3, 2 + g, c, g·d], once per column, each a step further to the right, and
    moves g columns at a time.
    """
    batch, height, width, _ = image.shape
    features = kernel.shape[-1]
    moved = [
        jnp.pad(kernel, ((0, 0), (index, columns - 1 - index), (0, 0), (0, 0)))
        for index in range(columns)
    ]
    wide = _convolve(image, jnp.concatenate(moved, axis=-1), (1, columns), ((1, 1), (1, 1)))
    return wide.reshape(batch, height, width, features)


def aligned(image: Array, kernel: Array) -> tuple[Array, Array]:
    """Both with as many channels of zeros more as make them a multiple of `ALIGNED`."""
    more = -image.shape[-1] % ALIGNED
    return (
        jnp.pad(image, ((0, 0), (0, 0), (0, 0), (0, more))),
        jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0))),
    )


def image_by_image(image: Array, kernel: Array) -> Array:
    """`plain`, written so that the gradient of the kernel is a sum over images, one at a time.

    Pixels times the whole kernel first, shifts after. The form to differentiate, not to run:
    transposed, it is three products of pixels with shifted slopes, which stay within the caches.
    """
    height, width, channels = image.shape[1:]
    features = kernel.shape[-1]
    lines = kernel.transpose(0, 2, 1, 3).reshape(3, channels, 3 * features)

    def one(image):
        pixels, total = image.reshape(-1, channels), 0.0
        for y in range(3):
            wide = (pixels @ lines[y]).reshape(height, width, 3 * features)
            for x, part in enumerate(jax.lax.split(wide, 3 * (features,), axis=2)):
                shifts = ((1 - y, y - 1, 0), (1 - x, x - 1, 0), (0, 0, 0))
                total += jax.lax.pad(part, jnp.zeros((), part.dtype), shifts)
        return total

    return jax.lax.map(one, image)


@jax.custom_jvp
def convolve(image: Array, kernel: Array) -> Array:
    """`plain`, as fast as the device can: the same to rounding, and so are its derivatives."""
    columns = columns_at_once(image.shape[2], *kernel.shape[2:])
    if columns == 1 and image.shape[-1] % ALIGNED == 0:
        return plain(image, kernel)

    def on_cpu(image, kernel):
        image, kernel = aligned(image, kernel)
        return plain(image, kernel) if columns == 1 else grouped(image, kernel, columns)

    return jax.lax.platform_dependent(image, kernel, cpu=on_cpu, default=plain)


@convolve.defjvp
def _tangent(primals, tangents):
    # A strided convolution is slow to transpose, so the derivatives are those of other forms.
    (image, kernel), (moved, changed) = primals, tangents
    if 9 * image.size > MANY:
        by_kernel = jax.lax.platform_dependent(image, changed, cpu=image_by_image, default=plain)
    else:
        by_kernel = plain(image, changed)
    return convolve(image, kernel), plain(moved, kernel) + by_kernel


def _convolve(image: Array, kernel: Array, strides: tuple, padding: tuple) -> Array:
    return jax.lax.conv_general_dilated(
        image, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _as_flax_calls(image: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What `nn.Conv` calls with strides, padding and the rest, which are the same everywhere here."""
    return convolve(image, kernel)
