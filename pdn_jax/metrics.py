"""How near an image is to the truth: one scalar per image, intervals over a set, baselines.

Images are sRGB, float32 in [0, 1], [..., h, w, c] (see `types`). Nothing here reduces over the
leading axes, so a batch gives a table with one row per image.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pdn_jax import image as im
from pdn_jax.types import Image, PerImage, PRNGKey, Scalar

WINDOW = im.gaussian_kernel(1.5, 5)
"""The 11×11 window of SSIM, σ = 1.5, as its separable half."""

GREY = (0.299, 0.587, 0.114)
"""Rec. 601 weights, the grey image of OpenCV and so of the low-light literature."""


def check_same_shape(image: Array, truth: Array) -> None:
    """See that two images can be compared.

    Args:
        image: [..., h, w, c].
        truth: of that shape.

    Raises:
        ValueError: they are not images of one shape.
    """
    if image.shape != truth.shape or image.ndim < 3:
        raise ValueError(
            f"image {image.shape} and truth {truth.shape} must have one shape [..., h, w, c]"
        )


# --- metrics ---------------------------------------------------------------------------------


def psnr(image: Image, truth: Image) -> PerImage:
    """Peak signal-to-noise ratio in dB: −10·log10 mean((image − truth)²), peak 1.

    Args:
        image: sRGB in [0, 1], [..., h, w, c].
        truth: of that shape.

    Returns:
        dB per image, [...]; inf where both are identical.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(image, truth)
    return -10.0 * jnp.log10(jnp.mean(jnp.square(image - truth), axis=(-3, -2, -1)))


def ssim_map(image: Image, truth: Image) -> im.Resized:
    """Structural similarity at each pixel whose window fits.

    (2μxμy + C1)(2σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2)), each channel by itself, under an
    11×11 Gaussian window, σ = 1.5, C1 = 0.01², C2 = 0.03². Smooth everywhere, so that
    1 − ssim_map is a loss. Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861.

    Args:
        image: sRGB in [0, 1], [..., h, w, c].
        truth: of that shape.

    Returns:
        Values in [−1, 1], [..., h − 10, w − 10, c].

    Raises:
        ValueError: the shapes differ, or a side is under 11 pixels.
    """
    check_same_shape(image, truth)
    if min(image.shape[-3:-1]) < len(WINDOW):
        raise ValueError(f"SSIM needs images of at least 11×11 pixels, got {image.shape}")
    # Variances do not change with an offset, but about their mean float32 loses less of them.
    centre = 0.5 * jnp.mean(image + truth, axis=(-3, -2), keepdims=True)
    centre = jax.lax.stop_gradient(centre)
    x, y = image - centre, truth - centre
    mean_x, mean_y, square, product = map(_windowed, (x, y, x * x + y * y, x * y))
    centre = jnp.moveaxis(centre, -1, -3)
    spread = square - mean_x**2 - mean_y**2
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + centre, mean_y + centre
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return jnp.moveaxis(likeness * (2.0 * covariance + c2) / (spread + c2), -3, -1)


def _windowed(image: Image) -> Array:
    """`image.separable` under `WINDOW`, whole windows only, the channels first: [..., c, h − 10, w − 10].

    Each product leaves last the side that the next one does not need, so that no axis is moved.
    """
    *batch, height, width, channel = image.shape
    taps = tuple(float(tap) for tap in WINDOW)
    axes = tuple(range(len(batch)))
    for side, others in ((height, width * channel), (width, channel * (height - len(taps) + 1))):
        window = jnp.asarray(im.banded(taps, side, "valid"), image.dtype)
        image = jax.lax.dot_general(
            image.reshape(*batch, side, others),
            jnp.broadcast_to(window, (*batch, *window.shape)),
            (((len(batch),), (len(batch) + 1,)), (axes, axes)),
            precision="highest",
        )
    return image.reshape(*batch, channel, height - len(taps) + 1, width - len(taps) + 1)


def ssim(image: Image, truth: Image) -> PerImage:
    """Mean structural similarity on RGB: the mean of `ssim_map`.

    The value of scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis=-1, data_range=1)`, which is not its default.

    Args:
        image: sRGB in [0, 1], [..., h, w, c].
        truth: of that shape.

    Returns:
        SSIM per image in [−1, 1], [...].

    Raises:
        ValueError: as `ssim_map`.
    """
    return jnp.mean(ssim_map(image, truth), axis=(-3, -2, -1))


def gt_mean(image: Image, truth: Image) -> Image:
    """The image rescaled to the truth's mean grey, clipped to [0, 1]: what "GT-mean" numbers score.

    image·mean(grey truth)/mean(grey image), grey by Rec. 601; before the clip the means agree. It
    leans on the truth and adds some 2 to 5 dB, so its scores go beside the plain ones under their
    own name, never in their place. Source: KinD's evaluation, github.com/zhangyhuaee/KinD, followed by
    LLFlow, Retinexformer and others.

    Args:
        image: sRGB in [0, 1], [..., h, w, 3].
        truth: of that shape.

    Returns:
        The rescaled image, of that shape.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(image, truth)
    weights = jnp.asarray(GREY, image.dtype)
    ours, wanted = (
        jnp.matmul(jnp.mean(frame, axis=(-3, -2)), weights, precision="highest")
        for frame in (image, truth)
    )
    ratio = wanted / jnp.maximum(ours, 1e-6)
    return jnp.clip(im.broadcast(ratio, image) * image, 0.0, 1.0)


# --- intervals over a set of images ----------------------------------------------------------


def bootstrap_interval(
    key: PRNGKey,
    values: Float[Array, " n"],
    scenes: Int[Array, " n"] | None = None,
    *,
    samples: int = 2000,
    level: float = 0.95,
) -> tuple[Scalar, Scalar]:
    """The interval of the mean of per-image values, by the percentile bootstrap.

    It holds the central `level` of the means of redraws of n values with replacement; of whole
    scenes where they are known, since images of one scene tell less than as many of different ones.
    One scene gives an interval of width 0; with a handful it is too narrow.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        key: of the redraws.
        values: finite, [n], n ≥ 1.
        scenes: the number of each image's scene, from 0, [n]; None for a scene each.
        samples: how many redraws.
        level: share of them inside, in (0, 1).

    Returns:
        (low, high), scalars.

    Raises:
        ValueError: there are no values, or level is not in (0, 1).
    """
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values must be a non-empty [n], got {values.shape}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if scenes is None:
        scenes, number = jnp.arange(values.size), values.size
    else:
        number = int(scenes.max()) + 1
    sums, counts = (jax.ops.segment_sum(x, scenes, number) for x in (values, jnp.ones_like(values)))
    drawn = jax.random.randint(key, (samples, number), 0, number)
    means = jnp.sum(sums[drawn], axis=-1) / jnp.sum(counts[drawn], axis=-1)
    tail = 0.5 * (1.0 - level)
    return jnp.quantile(means, tail), jnp.quantile(means, 1.0 - tail)


def paired_interval(
    key: PRNGKey,
    a: Float[Array, " n"],
    b: Float[Array, " n"],
    *,
    samples: int = 2000,
    level: float = 0.95,
) -> tuple[Scalar, Scalar]:
    """The interval of the mean of a − b over the same images: a differs from b if it excludes 0.

    Pairing takes out what the images have in common, so it sees differences that two single
    intervals hide.

    Args:
        key: of the redraws.
        a: one method's finite values, [n].
        b: the other's, of the same images.
        samples: how many redraws.
        level: share of them inside, in (0, 1).

    Returns:
        (low, high), scalars.

    Raises:
        ValueError: the shapes differ, and as `bootstrap_interval`.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values must have one shape, got {a.shape} and {b.shape}")
    return bootstrap_interval(key, a - b, samples=samples, level=level)


# --- baselines -------------------------------------------------------------------------------


def gamma(image: Image, exponent: float = 0.45) -> Image:
    """Brightening by a power on sRGB values, image^exponent.

    Args:
        image: sRGB, [..., h, w, c], clipped to [0, 1].
        exponent: below 1 to brighten.

    Returns:
        sRGB in [0, 1], of that shape.
    """
    return jnp.clip(image, 0.0, 1.0) ** exponent


def equalize(image: Float[Array, "height width 3"]) -> Float[Array, "height width 3"]:
    """Histogram equalisation of the luminance Y, hue kept.

    Y is Rec. 709 on sRGB values in 256 bins; Y' = (cdf(Y) − cdf_min)/(1 − cdf_min), where cdf_min
    is the share of the darkest bin in use, and every channel is scaled by Y'/Y and clipped. An
    image of a single bin is returned as it is. Source: Gonzalez and Woods, Digital Image
    Processing, section 3.3, with OpenCV's `equalizeHist` for the ends of the range.

    Args:
        image: sRGB, [h, w, 3].

    Returns:
        sRGB in [0, 1], of that shape.
    """
    light = im.luminance(jnp.clip(image, 0.0, 1.0))
    level = jnp.round(light * 255.0).astype(jnp.int32)
    counts = jnp.bincount(level.ravel(), length=256)
    cdf = jnp.cumsum(counts) / level.size
    darkest = cdf[jnp.min(level)]
    flat = darkest >= 1.0
    equal = (cdf[level] - darkest) / jnp.where(flat, 1.0, 1.0 - darkest)
    ratio = jnp.where(flat, 1.0, equal / jnp.maximum(light, 1e-6))
    return jnp.clip(image * ratio[..., None], 0.0, 1.0)
