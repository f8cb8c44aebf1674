"""Layers, curves and sizes of images [n, c, h, w] as ONNX nodes: what `convolution` and `image` have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pdn_jax import image as im
from pdn_jax.export.onnx_builder import Builder
from pdn_jax.layout import REDUCTION

Leaf = Mapping[str, Any]
"""A layer's parameters in the Flax tree: `kernel` and `bias`."""


def layer(add: Builder, leaf: Leaf, features: str, inputs: slice = slice(None)) -> str:
    """A 3×3 convolution with zeros around the image, or a dense layer of every pixel.

    Args:
        add: gets the nodes.
        leaf: kernel [3, 3, c, d] or [c, d], and bias [d].
        features: [n, c, h, w].
        inputs: which of the kernel's c are there, where others are known to be zeros.

    Returns:
        [n, d, h, w].
    """
    kernel = np.asarray(leaf["kernel"], np.float32)
    kernel = (kernel[None, None] if kernel.ndim == 2 else kernel)[:, :, inputs]
    side = kernel.shape[0]
    given = (add.weight(kernel.transpose(3, 2, 0, 1)), add.weight(np.float32(leaf["bias"])))
    return add("Conv", features, *given, kernel_shape=[side, side], pads=[side // 2] * 4)


def pool(add: Builder, image: str, factor: int) -> str:
    """As `image.pool`.

    Args:
        add: gets the nodes.
        image: [n, c, h, w].
        factor: f.

    Returns:
        [n, c, h/f, w/f].
    """
    if factor == 1:
        return image
    return add("AveragePool", image, kernel_shape=[factor, factor], strides=[factor, factor])


def enlarge(add: Builder, image: str, factor: int, mode: str = "linear") -> str:
    """As `image.upsample`, or as `denoising.repeat`.

    Args:
        add: gets the nodes.
        image: [n, c, h, w].
        factor: f.
        mode: "linear" or "nearest".

    Returns:
        [n, c, f·h, f·w].
    """
    if factor == 1:
        return image
    how = {"linear": "half_pixel", "nearest": "asymmetric"}[mode]
    scales = np.float32([1, 1, factor, factor])
    options = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return add(
        "Resize",
        image,
        "",
        scales,
        mode=mode,
        coordinate_transformation_mode=how,
        **options,
    )


def look(add: Builder, leaf: Leaf, images: Sequence[tuple[str, int]]) -> str:
    """A 3×3 convolution over blocks of pixels, as one of 3f×3f pixels that moves by f.

    So that no pixel is moved into channels first.

    Args:
        add: gets the nodes.
        leaf: kernel [3, 3, c, d] and bias [d], c those of the blocks of all images.
        images: [n, 3, f·h, f·w] and f of each.

    Returns:
        [n, d, h, w].
    """
    kernel, total, begin = np.asarray(leaf["kernel"], np.float32), "", 0
    for image, block in images:
        part = kernel[:, :, begin : begin + 3 * block**2].reshape(3, 3, block, block, 3, -1)
        part = part.transpose(0, 2, 1, 3, 4, 5).reshape(3 * block, 3 * block, 3, -1)
        given = [image, add.weight(part.transpose(3, 2, 0, 1))]
        given += [] if total else [add.weight(np.float32(leaf["bias"]))]
        sides = {"kernel_shape": [3 * block] * 2, "strides": [block] * 2, "pads": [block] * 4}
        seen = add("Conv", *given, **sides)
        total, begin = add("Add", total, seen) if total else seen, begin + 3 * block**2
    return total


def encode(add: Builder, image: str) -> str:
    """As `image.encode`.

    Args:
        add: gets the nodes.
        image: any shape.

    Returns:
        That shape.
    """
    stops = add("Log", add("Add", image, 1.0 / 255.0))
    return add("Mul", add("Add", stops, 2.75), 1.0 / 2.75)


def summary(add: Builder, features: str) -> str:
    """As `enhancement.summary`.

    Args:
        add: gets the nodes.
        features: [n, c, h, w].

    Returns:
        [n, 2c, 1, 1].
    """
    mean, largest = add("GlobalAveragePool", features), add("GlobalMaxPool", features)
    return add("Concat", mean, largest, axis=1)


def apply_curve(add: Builder, image: str, exponent: str) -> str:
    """As `image.apply_curve`, of an image that is above the floor: exp(b + c·(ln x − b)).

    Args:
        add: gets the nodes.
        image: [n, 3, h, w].
        exponent: c, of that shape.

    Returns:
        That shape.
    """
    stops = add("Mul", add("Sub", add("Log", image), im.CURVE_B), exponent)
    return add("Exp", add("Add", stops, im.CURVE_B))


def floored(add: Builder, image: str) -> str:
    """What the exposure curve can take.

    Args:
        add: gets the nodes.
        image: any shape.

    Returns:
        That shape, nothing below the floor.
    """
    return add("Max", image, im.FLOOR)


def differences(add: Builder, low: str, axis: int) -> str:
    """Means over 8×8 pixels of |difference| to the next along an axis; the last takes the one before.

    Args:
        add: gets the nodes.
        low: [n, 3, h, w].
        axis: 2 or 3.

    Returns:
        [n, 3, h/8, w/8].
    """
    end = np.iinfo(np.int64).max
    following = add("Slice", low, [1], [end], [axis])
    here = add("Slice", low, [0], [-1], [axis])
    apart = add("Abs", add("Sub", following, here))
    widths = np.zeros(8, np.int64)
    widths[4 + axis] = 1
    return pool(add, add("Pad", apart, widths, mode="edge"), REDUCTION)
