"""Images as arrays: colour curves and the exposure group; `resampling`'s blur, pyramids, padding.

Contract (see `types`): float32, [0, 1], NHWC or any leading axes, sRGB or linear
light as each docstring says. Nothing here clips unless its name says so, so that
operators chain.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pdn_jax.resampling import Resized as Resized
from pdn_jax.resampling import banded as banded
from pdn_jax.resampling import blur as blur
from pdn_jax.resampling import depth_to_space as depth_to_space
from pdn_jax.resampling import gaussian_kernel as gaussian_kernel
from pdn_jax.resampling import pad_to_multiple as pad_to_multiple
from pdn_jax.resampling import pool as pool
from pdn_jax.resampling import separable as separable
from pdn_jax.resampling import space_to_depth as space_to_depth
from pdn_jax.resampling import unpad as unpad
from pdn_jax.resampling import upsample as upsample
from pdn_jax.types import Image, PerImage

CURVE_A = -0.3293
"""a of the curve; see `CURVE_B`."""
CURVE_B = 1.1258
"""Camera-response constants a and b of Ying et al., BIMEF, arXiv:1711.00591."""

DARKEST_EXPONENT = 1e-3**CURVE_A
"""Largest exponent that a pair is matched with: that of an exposure of 1e-3."""

FLOOR = 1.0 / 1020.0
"""A quarter of an 8-bit step: below it the exposure curve's slope would run to infinity."""

MAX_BRIGHTENING = 12.0
"""The largest ln k that the curve is used with, some 17 stops: past it float32 loses the curve."""


def broadcast(value: Float[Array, "*batch"], image: Image) -> Array:
    """Shape a per-image value so that it multiplies an image.

    Args:
        value: [...].
        image: [..., h, w, c]; only its type matters.

    Returns:
        [..., 1, 1, 1].
    """
    return value[..., None, None, None]


def broadcast_channels(value: Float[Array, "*batch channel"], image: Image) -> Array:
    """Shape a per-channel value so that it multiplies an image.

    Args:
        value: [..., c].
        image: [..., h, w, c]; only its type matters.

    Returns:
        [..., 1, 1, c].
    """
    return value[..., None, None, :]


# --- colour curves ---------------------------------------------------------------------------


def power(base: Array, exponent: Array | float) -> Array:
    """base^exponent as exp(exponent·ln base), which XLA's CPU backend computes many numbers at a time.

    Its own power takes some four times as long there (jax 0.10), and that one's gradient twice.

    Args:
        base: above 0, any shape.
        exponent: broadcasts against it.

    Returns:
        base^exponent, to some 1e-6 of itself.
    """
    return jnp.exp(exponent * jnp.log(base))


def linearize(image: Array) -> Array:
    """sRGB values to linear light: the IEC 61966-2-1 curve, odd-extended below 0.

    x/12.92 up to 0.04045, ((x + 0.055)/1.055)^2.4 above.

    Args:
        image: sRGB, any shape and range; [0, 1] becomes [0, 1].

    Returns:
        Linear light, of that shape.
    """
    magnitude = jnp.abs(image)
    curved = power((jnp.maximum(magnitude, 0.04045) + 0.055) / 1.055, 2.4)
    return jnp.where(magnitude <= 0.04045, image / 12.92, jnp.sign(image) * curved)


def render(light: Array) -> Array:
    """Linear light to sRGB values: the inverse of `linearize`, odd-extended below 0.

    12.92·e up to 0.0031308, 1.055·e^(1/2.4) − 0.055 above. Source: IEC 61966-2-1.

    Args:
        light: linear light, any shape and range; [0, 1] becomes [0, 1].

    Returns:
        sRGB values, of that shape.
    """
    magnitude = jnp.abs(light)
    curved = 1.055 * power(jnp.maximum(magnitude, 0.0031308), 1.0 / 2.4) - 0.055
    return jnp.where(magnitude <= 0.0031308, light * 12.92, jnp.sign(light) * curved)


def linearize_slope(image: Array) -> Array:
    """d linear light / d sRGB value: the derivative of `linearize`.

    Args:
        image: sRGB, any shape.

    Returns:
        The slope at each value, above 0, of that shape.
    """
    magnitude = jnp.abs(image)
    slope = (2.4 / 1.055) * power((jnp.maximum(magnitude, 0.04045) + 0.055) / 1.055, 1.4)
    return jnp.where(magnitude <= 0.04045, 1.0 / 12.92, slope)


def luminance(image: Image) -> Float[Array, "*batch height width"]:
    """Rec. 709 weights applied to whatever encoding the image has: 0.2126 R + 0.7152 G + 0.0722 B.

    Args:
        image: [..., h, w, 3], sRGB or linear light.

    Returns:
        [..., h, w], in the same encoding.
    """
    weights = jnp.asarray([0.2126, 0.7152, 0.0722], image.dtype)
    return jnp.matmul(image, weights, precision="highest")


def encode(image: Image) -> Image:
    """Photographic stops: dark values spread as far apart as bright ones.

        (ln(x + 1/255) + 2.75) / 2.75

    Args:
        image: sRGB in [0, 1], any shape.

    Returns:
        About [−1, 1], of that shape.
    """
    return (jnp.log(image + 1.0 / 255.0) + 2.75) / 2.75


# --- the exposure group ----------------------------------------------------------------------


def curve_exponent(log_exposure: Array) -> Array:
    """The curve's exponent k^a, a = −0.3293.

    Args:
        log_exposure: ln k, any shape.

    Returns:
        k^a, above 0, of that shape.
    """
    return jnp.exp(CURVE_A * log_exposure)


def apply_curve(image: Array, exponent: Array) -> Array:
    """exp(b(1 − c))·x^c, b = 1.1258: `expose_curve` for a known exponent.

    Args:
        image: x, sRGB, floored at `FLOOR`.
        exponent: c = k^a, above 0; broadcasts against the image.

    Returns:
        sRGB values, not clipped.
    """
    return _curve_of_log(jnp.log(jnp.maximum(image, FLOOR)), exponent)


def _curve_of_log(log_image: Array, exponent: Array) -> Array:
    return jnp.exp(CURVE_B * (1.0 - exponent) + exponent * log_image)


def expose_curve(image: Array, log_exposure: Array) -> Array:
    """The camera-response transfer on sRGB values, as if exposed exp(log_exposure) times.

    g(x, k) = exp(b(1 − k^a))·x^(k^a), a = −0.3293, b = 1.1258. A one-parameter group:
    g(g(x, k1), k2) = g(x, k1·k2), so g(·, 1/k) is the inverse.
    Source: Ying et al., BIMEF, arXiv:1711.00591.

    Args:
        image: x, sRGB [..., h, w, c]; values below `FLOOR` are raised to it first.
        log_exposure: ln k; broadcasts against the image: a scalar, `broadcast(per_image, image)` or
            a whole map.

    Returns:
        sRGB values, which may pass 1 and are not clipped.
    """
    return apply_curve(image, curve_exponent(log_exposure))


def curve_slope(image: Array, exposed: Array, exponent: Array) -> Array:
    """∂g/∂x = k^a·g(x, k)/x: how much the brightening amplifies noise.

    Args:
        image: x, sRGB, floored at `FLOOR`.
        exposed: g(x, k).
        exponent: k^a; broadcasts against the image.

    Returns:
        The slope at each value, of the image's shape.
    """
    return exponent * exposed / jnp.maximum(image, FLOOR)


def match_exposure(low: Array, normal: Array, *, iterations: int = 6) -> PerImage:
    """ln κ with mean g(normal, κ) = mean low, per image, in [ln 1e-3, 0], by Newton's method.

    This is where a pair stands on the exposure path, whatever curve darkened it. Every pixel
    counts: averaging `normal` first biases ln κ by 0.02 and more, since the curve is not linear.
    The logarithm of the mean is falling and convex in c = κ^a, so that from c = 1 no step passes
    the solution.

    Args:
        low: dark photographs, sRGB [..., h, w, c].
        normal: well-exposed ones, of that shape.
        iterations: steps; each doubles the digits, and four are enough for photographs.

    Returns:
        ln κ, [...].

    Raises:
        ValueError: the shapes differ.
    """
    if low.shape != normal.shape:
        raise ValueError(f"low {low.shape} and normal {normal.shape} must have the same shape")
    target = jnp.log(jnp.maximum(jnp.mean(low, axis=(-3, -2, -1)), FLOOR * 1e-3))
    # One axis of all pixels: XLA's CPU backend adds up three colours at a time otherwise.
    falls = jnp.log(jnp.maximum(normal, FLOOR)).reshape(*target.shape, -1) - CURVE_B

    def step(_, exponent):
        exposed = jnp.exp(exponent[..., None] * falls)
        mean, slope = exposed.mean(axis=-1), (exposed * falls).mean(axis=-1)
        nearer = exponent + (target - CURVE_B - jnp.log(mean)) * mean / slope
        return jnp.clip(nearer, 1.0, DARKEST_EXPONENT)

    exponent = jax.lax.fori_loop(0, iterations, step, jnp.ones_like(target))
    return jnp.log(exponent) / CURVE_A
