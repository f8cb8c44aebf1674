"""How much of the enhancement is wanted, as ONNX nodes: what `evidence` has."""

import itertools
from collections.abc import Mapping

import numpy as np

from pdn_jax import image as im
from pdn_jax.evidence import AMOUNTS, DARKEST, LEAST_STEP, LIT, OWN, RELATIVE, STOPS, TEXTURE, UNLIT
from pdn_jax.export.onnx_builder import Builder
from pdn_jax.export.onnx_layers import apply_curve, encode, floored, layer


def limited(add: Builder, increments: list[str]) -> tuple[list[str], str]:
    """As `evidence.limited`.

    Args:
        add: gets the nodes.
        increments: δ of each stage.

    Returns:
        As many, and their sum.
    """
    kept, total = [], ""
    for increment in increments:
        room = add("Sub", im.MAX_BRIGHTENING, total) if total else im.MAX_BRIGHTENING
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


def means(add: Builder, small: str, black: str, path: str) -> list[str]:
    """As `evidence.means`.

    Args:
        add: gets the nodes.
        small: of `observe`.
        black: level per channel [n, 3, 1, 1].
        path: δ of all stages.

    Returns:
        One [n, 1, 1, 1] for each of `evidence.AMOUNTS`.
    """
    tried = []
    for amount in AMOUNTS:
        start = floored(add, add("Sub", small, add("Mul", black, float(amount))))
        total = add("Min", add("Mul", path, float(amount)), im.MAX_BRIGHTENING)
        bright = apply_curve(add, start, add("Exp", add("Mul", total, im.CURVE_A)))
        clipped = add("Min", bright, 1.0)
        tried.append(add("ReduceMean", add("GlobalAveragePool", clipped), [1]))
    return tried


def lit(add: Builder, small: str) -> str:
    """As `evidence.lit`.

    Args:
        add: gets the nodes.
        small: of `observe`.

    Returns:
        [n, 1, 1, 1].
    """
    largest = add("GlobalMaxPool", add("ReduceMean", small, [1]))
    return add("Clip", add("Mul", add("Sub", largest, UNLIT), 1.0 / (LIT - UNLIT)), 0.0, 1.0)


def decided(add: Builder, tree: Mapping, seen: str, tried: list[str], there: str) -> str:
    """As `evidence.Target` and `evidence.amount_of`.

    Args:
        add: gets the nodes.
        tree: parameters of the head.
        seen: of `evidence`.
        tried: of `means`.
        there: of `lit`.

    Returns:
        The amount [n, 1, 1, 1].
    """
    own = add("Clip", tried[OWN], DARKEST, 1.0 - DARKEST)
    own = add("Sub", add("Log", own), add("Log", add("Sub", 1.0, own)))
    a = add("Concat", seen, own, axis=1)
    for name in ("first", "second"):
        a = add("Relu", layer(add, tree[name], a))
    target = add("Sigmoid", add("Add", own, layer(add, tree["change"], a)))
    shares = []
    for lower, upper in itertools.pairwise(tried):
        rise = add("Max", add("Sub", upper, lower), LEAST_STEP)
        share = add("Div", add("Sub", target, lower), rise)
        shares.append(add("Clip", share, 0.0, 1.0))
    return add("Mul", there, add("Mul", add("Sum", *shares), float(AMOUNTS[1])))
