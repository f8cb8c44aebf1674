"""What the network costs: parameters, and multiply-accumulates for one image.

python -m benchmarks.count --size 400x600
"""

import argparse
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr
from rich.console import Console
from rich.table import Table

from pdn_jax.cli import Parser
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork


def macs(function: Callable, *args) -> int:
    """Multiply-accumulates of the convolutions and matrix products that `function(*args)` needs.

    Counted on the traced program, after what no output depends on is dropped; `args` may be
    `jax.ShapeDtypeStruct`s, since nothing is computed. A scan counts its length times, a
    conditional its dearest branch, a choice by platform what it does by default, without the zeros
    that a platform's own form may multiply by; zeros that a convolution puts between samples count.
    Raises ValueError for a product inside a while loop, whose length is not known.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    live, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(live)


def _count(jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        left = equation.invars[0].aval.shape
        (contracted, _), _ = params["dimension_numbers"]
        return equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        # A kernel's input axis is already one group wide.
        return equation.outvars[0].aval.size * (math.prod(kernel) // features)

    inside = [_count(jaxpr) for jaxpr in jaxprs_in_params(params)]
    if platforms := params.get("branches_platforms"):
        return inside[platforms.index(None)]
    if name == "cond":
        return max(inside)
    if name == "scan":
        return params["length"] * sum(inside)
    if name == "while" and any(inside):
        raise ValueError("a while loop with products in it: its length is not known")
    return sum(inside)


def network_macs(variant: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(parameters, MACs of the enhancement module, of the denoising module) for an image's shape."""
    model = ProgressiveDualNetwork(**VARIANTS[variant])
    low = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), low)

    def enhance(params, low):
        output = model.apply(params, low)
        return output.enhanced[-1], output.noise

    total = macs(lambda params, low: model.apply(params, low).restored, params, low)
    enhancement = macs(enhance, params, low)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return parameters, enhancement, total - enhancement


def size(text: str) -> tuple[int, int]:
    """'400x600' -> (400, 600), height first; argparse's own error for anything else."""
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, as 400x600") from None
    if min(height, width) < 16:
        raise argparse.ArgumentTypeError(f"{text} is too small; the network takes 16x16 and up")
    return height, width


def positive_integer(text: str) -> int:
    """A count from 1; argparse's own error for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count from 1")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    """The command line: a table with a row per variant."""
    parser = Parser(prog="python -m benchmarks.count", description=__doc__)
    parser.add_argument("--size", type=size, default=(400, 600), help="HEIGHTxWIDTH")
    height, width = parser.parse_args(argv).size

    columns = ("parameters", "enhancement", "denoising", "GMACs")
    table = Table("variant", title=f"GMACs for a restored image of {height}×{width}")
    for column in columns:
        table.add_column(column, justify="right")
    for variant in VARIANTS:
        parameters, *parts = network_macs(variant, (1, height, width, 3))
        counts = [f"{count / 1e9:.3f}" for count in (*parts, sum(parts))]
        table.add_row(variant, f"{parameters:,}", *counts)
    Console().print(table)


if __name__ == "__main__":
    main()
