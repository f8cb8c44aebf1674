"""The 3×3 convolution of the network, written as each kind of device is fast with.

On XLA's CPU backend (jax 0.10) a convolution of more than 16 channels goes to a library that works
on one core unless it is wide, and one of fewer to Eigen, on all cores, with a part of each vector
idle. So there:

- a large convolution is computed with one row more than is kept, which leaves it to Eigen;
- of narrow ones g neighbouring columns are computed as if they were one pixel of g times the
  channels: the same sums, with some products by zero among them;
- odd numbers of channels get channels of zeros beside them.

The gradient of the kernel is a product over all pixels of the batch. XLA lays the nine windows of
every pixel out in memory for it; where those are many, the images are summed one by one instead.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax.types import Side

NARROW = 16
"""Channels in and out up to which XLA's CPU backend (jax 0.10) takes the slow convolutions."""

HALF_FILLED = 24
"""Features up to which Eigen gains by two columns at once."""

MOST_COLUMNS = 4
"""How many neighbouring columns are computed at once at most."""

ALIGNED = 4
"""Channels come in multiples of this; with others XLA's CPU backend takes up to twice as long."""

MANY = 2**22
"""Numbers in the windows of a batch, 9·c·pixels, past which a CPU's caches do not hold them."""

LARGE = 2**25
"""Multiply-accumulates past which Eigen on all cores is faster than the library on one."""


def conv(features: int, *, dtype: Any = None, name: str | None = None, **options: Any) -> nn.Conv:
    """A 3×3 Linen convolution that keeps the size, with zeros around the image.

    Args:
        features: channels of the result.
        dtype: of the computation; None for that of what comes in.
        name: of the module.
        **options: others of `nn.Conv`.

    Returns:
        The module, [n, h, w, c] -> [n, h, w, features].
    """
    return nn.Conv(
        features, (3, 3), dtype=dtype, name=name, conv_general_dilated=_as_flax_calls, **options
    )


def masked(features: Array, mask: Array | None) -> Array:
    """Zeros, as around an image, wherever a mask has them.

    Args:
        features: [n, h, w, c].
        mask: ones and zeros [n, h, w, 1]; None for ones.

    Returns:
        Of the shape and dtype of the features.
    """
    return features if mask is None else features * mask.astype(features.dtype)


def plain(image: Array, kernel: Array) -> Array:
    """The convolution that all other forms are equal to, zeros around the image.

        out[y, x, d] = Σ_{i, j, c} image[y + i − 1, x + j − 1, c]·kernel[i, j, c, d]

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].

    Returns:
        [n, h, w, d].
    """
    return _convolve(image, kernel)


def taller(image: Array, kernel: Array) -> Array:
    """`plain`, with a row below the image that is computed and not kept.

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].

    Returns:
        [n, h, w, d].
    """
    return _convolve(image, kernel, below=1)


def columns_at_once(width: Side, channels: int, features: int, large: bool = False) -> int:
    """g: how many columns to compute as one on a CPU.

    Of narrow ones as few as take g·features past `NARROW`; of large ones that make no more than
    `HALF_FILLED` features, two. Always a divisor of the width, so that nothing is cut off.

    Args:
        width: of the image, pixels; `jax.export` may leave it open.
        channels: of the image.
        features: channels of the result.
        large: whether it is past `LARGE`.

    Returns:
        1 where nothing is won by more.
    """
    wanted = []
    if max(channels, features) <= NARROW:
        wanted = [g for g in range(2, MOST_COLUMNS + 1) if g * features > NARROW]
    elif large and features <= HALF_FILLED:
        wanted = [2]
    return next((columns for columns in wanted if width % columns == 0), 1)


def grouped(image: Array, kernel: Array, columns: int, below: int = 0) -> Array:
    """`plain`, with g = `columns` neighbouring columns as one pixel.

    The kernel becomes [3, 2 + g, c, g·d], once per column, each a step further to the right, and
    moves g columns at a time.

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].
        columns: g, which must divide w.
        below: rows below the image that are computed and not kept.

    Returns:
        [n, h, w, d].
    """
    batch, height, width, _ = image.shape
    features = kernel.shape[-1]
    moved = [
        jnp.pad(kernel, ((0, 0), (index, columns - 1 - index), (0, 0), (0, 0)))
        for index in range(columns)
    ]
    wide = _convolve(image, jnp.concatenate(moved, axis=-1), columns=columns, below=below)
    return wide.reshape(batch, height, width, features)


def aligned(image: Array, kernel: Array) -> tuple[Array, Array]:
    """Both with as many channels of zeros more as make them a multiple of `ALIGNED`.

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].

    Returns:
        Image and kernel; their convolution is the same.
    """
    more = -image.shape[-1] % ALIGNED
    return (
        jnp.pad(image, ((0, 0), (0, 0), (0, 0), (0, more))),
        jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0))),
    )


def image_by_image(image: Array, kernel: Array) -> Array:
    """`plain`, written so that the gradient of the kernel is a sum over images, one at a time.

    Pixels times the whole kernel first, shifts after. The form to differentiate, not to run:
    transposed, it is three products of pixels with shifted slopes, which stay within the caches.

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].

    Returns:
        [n, h, w, d].
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


def on_cpu(image: Array, kernel: Array) -> Array:
    """`plain`, as XLA's CPU backend is fast with; sizes that are left open count as large.

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].

    Returns:
        [n, h, w, d].
    """
    products = image.size * 9 * kernel.shape[-1]
    large = not isinstance(products, int) or products > LARGE
    columns = columns_at_once(image.shape[2], *kernel.shape[2:], large)
    return grouped(*aligned(image, kernel), columns, int(large))


@jax.custom_vjp
def convolve(image: Array, kernel: Array) -> Array:
    """`plain`, as fast as the device can: the same to rounding, and so are its gradients.

    Differentiable in reverse, as often as wanted; forward mode (`jax.jvp`) is refused by JAX.

    Args:
        image: [n, h, w, c].
        kernel: [3, 3, c, d].

    Returns:
        [n, h, w, d].
    """
    return jax.lax.platform_dependent(image, kernel, cpu=on_cpu, default=plain)


def _forward(image, kernel):
    return convolve(image, kernel), (image, kernel)


def _backward(saved, slope):
    # The image's gradient is a convolution again: the kernel turned round, its channels exchanged.
    image, kernel = saved
    by_image = convolve(slope, kernel[::-1, ::-1].swapaxes(2, 3))

    def form(kernel):
        if 9 * image.size > MANY and image.dtype == jnp.float32:  # bfloat16 would add up roughly
            return jax.lax.platform_dependent(image, kernel, cpu=image_by_image, default=plain)
        return plain(image, kernel)

    (by_kernel,) = jax.linear_transpose(form, kernel)(slope)
    return by_image, by_kernel


convolve.defvjp(_forward, _backward)


def _convolve(image: Array, kernel: Array, *, columns: int = 1, below: int = 0) -> Array:
    result = jax.lax.conv_general_dilated(
        image,
        kernel,
        (1, columns),
        ((1, 1 + below), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return result[:, : image.shape[1]]


def _as_flax_calls(image: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """What `nn.Conv` calls with strides, padding and the rest, which are the same everywhere here."""
    return convolve(image, kernel)
