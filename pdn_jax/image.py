"""Images as arrays: colour curves, the exposure group, blur and pyramids, padding.

Contract (see `types`): float32, [0, 1], NHWC or any leading axes, sRGB or linear
light as each docstring says. Nothing here clips unless its name says so, so that
operators chain.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pdn_jax.types import Image, PerImage

Resized = Float[Array, "*batch _ _ _"]
"""An image whose size an operator has changed: only the leading axes stay as they were."""

CURVE_A = -0.3293
CURVE_B = 1.1258
"""Camera-response constants a and b of Ying et al., BIMEF, arXiv:1711.00591."""

FLOOR = 1.0 / 1020.0
"""A quarter of an 8-bit step: below it the exposure curve's slope would run to infinity."""


def broadcast(value: Float[Array, "*batch"], image: Image) -> Array:
    """Shape a per-image value [...] so that it multiplies an image [..., h, w, c]."""
    return value[..., None, None, None]


def broadcast_channels(value: Float[Array, "*batch channel"], image: Image) -> Array:
    """Shape a per-channel value [..., c] so that it multiplies an image [..., h, w, c]."""
    return value[..., None, None, :]


# --- colour curves ---------------------------------------------------------------------------


def linearize(image: Array) -> Array:
    """sRGB values to linear light: the IEC 61966-2-1 curve, odd-extended below 0."""
    magnitude = jnp.abs(image)
    power = ((jnp.maximum(magnitude, 0.04045) + 0.055) / 1.055) ** 2.4
    return jnp.where(magnitude <= 0.04045, image / 12.92, jnp.sign(image) * power)


def render(light: Array) -> Array:
    """Linear light to sRGB values: the inverse of `linearize`, odd-extended below 0."""
    magnitude = jnp.abs(light)
    power = 1.055 * jnp.maximum(magnitude, 0.0031308) ** (1.0 / 2.4) - 0.055
    return jnp.where(magnitude <= 0.0031308, light * 12.92, jnp.sign(light) * power)


def linearize_slope(image: Array) -> Array:
    """d linear light / d sRGB value at an sRGB image: the derivative of `linearize`."""
    magnitude = jnp.abs(image)
    power = (2.4 / 1.055) * ((jnp.maximum(magnitude, 0.04045) + 0.055) / 1.055) ** 1.4
    return jnp.where(magnitude <= 0.04045, 1.0 / 12.92, power)


def luminance(image: Image) -> Float[Array, "*batch height width"]:
    """Rec. 709 weights applied to whatever encoding the image has: [..., h, w, 3] -> [..., h, w]."""
    weights = jnp.asarray([0.2126, 0.7152, 0.0722], image.dtype)
    return jnp.matmul(image, weights, precision="highest")


# --- the exposure group ----------------------------------------------------------------------


def curve_exponent(log_exposure: Array) -> Array:
    """The curve's exponent k^a for an exposure ratio k = exp(log_exposure)."""
    return jnp.exp(CURVE_A * log_exposure)


def apply_curve(image: Array, exponent: Array) -> Array:
    """exp(b(1 − c))·x^c for an exponent c = k^a; x is floored at `FLOOR`."""
    return jnp.exp(CURVE_B * (1.0 - exponent) + exponent * jnp.log(jnp.maximum(image, FLOOR)))


def expose_curve(image: Array, log_exposure: Array) -> Array:
    """The camera-response transfer on sRGB values, as if exposed exp(log_exposure) times.

    g(x, k) = exp(b(1 − k^a))·x^(k^a), a = −0.3293, b = 1.1258. A one-parameter group:
    g(g(x, k1), k2) = g(x, k1·k2), so g(·, 1/k) is the inverse. `log_exposure` is ln k and
    broadcasts against the image: a scalar, `broadcast(per_image, image)` or a whole map.
    Values below `FLOOR` are raised to it first; values may pass 1 and are not clipped.
    Source: Ying et al., BIMEF, arXiv:1711.00591.
    """
    return apply_curve(image, curve_exponent(log_exposure))


def curve_slope(image: Array, exposed: Array, exponent: Array) -> Array:
    """∂g/∂x = k^a·g(x, k)/x, given g(x, k) as `exposed`: how much the brightening amplifies noise."""
    return exponent * exposed / jnp.maximum(image, FLOOR)


def match_exposure(low: Array, normal: Array, *, iterations: int = 16) -> PerImage:
    """ln κ with mean g(normal, κ) = mean low, per image, by bisection on [ln 1e-3, 0].

    Both are sRGB [..., h, w, c]. This is where a pair stands on the exposure path, whatever
    curve darkened it. Every pixel counts: averaging `normal` first biases ln κ by 0.02 and more,
    since the curve is not linear.
    """
    if low.shape != normal.shape:
        raise ValueError(f"low {low.shape} and normal {normal.shape} must have the same shape")
    target = jnp.mean(low, axis=(-3, -2, -1))

    def halve(_, bounds):
        lower, upper = bounds
        middle = 0.5 * (lower + upper)
        exposed = expose_curve(normal, broadcast(middle, normal))
        too_bright = jnp.mean(exposed, axis=(-3, -2, -1)) > target
        return jnp.where(too_bright, lower, middle), jnp.where(too_bright, middle, upper)

    bounds = (jnp.full_like(target, float(np.log(1e-3))), jnp.zeros_like(target))
    lower, upper = jax.lax.fori_loop(0, iterations, halve, bounds)
    return 0.5 * (lower + upper)


# --- blur, pyramid, resampling ---------------------------------------------------------------


def gaussian_kernel(sigma: float, radius: int) -> np.ndarray:
    """A normalised 1-D Gaussian of 2·radius + 1 taps."""
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


@functools.lru_cache(maxsize=16)
def banded(kernel: tuple[float, ...], size: int, mode: str) -> np.ndarray:
    """The matrix of a 1-D filter on `size` samples: 'valid' rows only, or edge-'renormalised'.

    Two products with such matrices are a separable filter; on XLA's CPU backend they are some
    twenty times faster than a depthwise convolution, and good on accelerators too.
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
    """Filter rows and columns with a 1-D kernel as two matrix products; 'valid' shrinks the image.

    In full float32 also where matrix products default to fewer bits (TPU, recent GPUs).
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
    """Gaussian blur, σ in pixels, three σ wide, edges renormalised."""
    return separable(image, gaussian_kernel(sigma, max(1, round(3 * sigma))))


def pool(image: Image, factor: int) -> Resized:
    """Mean over factor×factor blocks; rows and columns left over are dropped.

    Written as sums of slices, rows first: loops over whole rows, which XLA's CPU backend runs some
    ten times faster than a reduction beside an axis of three colours.
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
    """[..., h, w, c] -> [..., h/f, w/f, f·f·c]: blocks become channels, nothing is lost."""
    *batch, height, width, channel = image.shape
    if height % factor or width % factor:
        raise ValueError(f"sides must divide by {factor}, got {image.shape}")
    image = image.reshape(*batch, height // factor, factor, width // factor, factor, channel)
    image = jnp.moveaxis(image, -4, -3)
    return image.reshape(*batch, height // factor, width // factor, factor * factor * channel)


def depth_to_space(image: Image, factor: int) -> Resized:
    """The inverse of `space_to_depth`."""
    *batch, height, width, depth = image.shape
    if depth % (factor * factor):
        raise ValueError(f"channels must divide by {factor * factor}, got {image.shape}")
    channel = depth // (factor * factor)
    image = image.reshape(*batch, height, width, factor, factor, channel)
    image = jnp.moveaxis(image, -3, -4)
    return image.reshape(*batch, height * factor, width * factor, channel)


# --- padding ---------------------------------------------------------------------------------


def pad_to_multiple(image: Image, multiple: int) -> Resized:
    """Extend the bottom and right by mirroring until both sides divide by `multiple`."""
    height, width = image.shape[-3:-1]
    rows, columns = -height % multiple, -width % multiple
    if rows == 0 and columns == 0:
        return image
    widths = [(0, 0)] * (image.ndim - 3) + [(0, rows), (0, columns), (0, 0)]
    return jnp.pad(image, widths, mode="symmetric")


def unpad(image: Image, height: int, width: int) -> Resized:
    """The top left height×width part: what `pad_to_multiple` was given."""
    return image[..., :height, :width, :]
