"""How much of the enhancement is wanted, as ONNX nodes: what `evidence` has."""

from collections.abc import Mapping

import numpy as np

from pdn_jax.enhancement import MAX_BRIGHTENING
from pdn_jax.evidence import MAX_AMOUNT, RELATIVE, STOPS, TEXTURE
from pdn_jax.export.onnx_builder import Builder
from pdn_jax.export.onnx_layers import encode, layer


def limited(add: Builder, increments: list[str]) -> tuple[list[str], str]:
    """As `enhancement.limited`.

    Args:
        add: gets the nodes.
        increments: δ of each stage.

    Returns:
        As many, and their sum.
    """
    kept, total = [], ""
    for increment in increments:
        room = add("Sub", MAX_BRIGHTENING, total) if total else MAX_BRIGHTENING
        kept.append(add("Min", increment, room))
        total = add("Add", total, kept[-1]) if total else kept[-1]
    return kept, total


def evidence(add: Builder, small: str, texture: str) -> str:
    """As `evidence.evidence`.

    Args:
        add: gets the nodes.
        small: of `observe`.
        texture: of `observe`.

    Returns:
        [n, 92, 1, 1].
    """
    grain = add("ReduceMean", texture, [1])
    relative = add("Div", grain, add("Add", add("ReduceMean", small, [1]), 1.0 / 255.0))
    weights = np.float32([0.2126, 0.7152, 0.0722])[None, :, None, None]
    luminance = add("Conv", small, weights, kernel_shape=[1, 1])
    counted = [
        (encode(add, luminance), STOPS),
        (encode(add, add("ReduceMax", small, [1])), STOPS),
        (encode(add, grain), TEXTURE),
        (relative, RELATIVE),
    ]
    parts = []
    for values, histogram in counted:
        inside = add("Clip", values, histogram.least, histogram.most)
        apart = add("Abs", add("Sub", inside, histogram.centres[:, None, None]))
        share = add("Sub", 1.0, add("Mul", apart, 1.0 / histogram.step))
        parts.append(add("GlobalAveragePool", add("Relu", share)))
    return add("Concat", *parts, axis=1)


def decided(add: Builder, tree: Mapping, seen: str) -> str:
    """As `evidence.Amount`.

    Args:
        add: gets the nodes.
        tree: its parameters.
        seen: of `evidence`.

    Returns:
        The amount [n, 1, 1, 1].
    """
    a = seen
    for name in ("first", "second"):
        a = add("Relu", layer(add, tree[name], a))
    return add("Mul", add("Sigmoid", layer(add, tree["decision"], a)), MAX_AMOUNT)
