"""How fast a photograph is restored, beside plain convolutions of the same cost.

    python -m benchmarks.forward --sizes 400x600 --variants tiny small base --repeats 10

The yardstick is a stack of 3×3 convolutions with ReLU, 32 channels wide, at half the image's
size, as deep as comes nearest to the network's multiply-accumulates. Network and stack are
timed in turn; throughput and GFLOP/s (2 × MACs) are of the fastest run, `ratio` is the
network's GFLOP/s over the stack's: 1 means as efficient as convolutions get on this device.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import timing
from benchmarks.count import macs, positive_integer, size
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork

STACK_WIDTH = 32


class Result(NamedTuple):
    """One row: seconds of the first call, both timings, both costs in MACs, the stack's depth."""

    first: float
    network: timing.Timing
    network_macs: int
    stack: timing.Timing
    stack_macs: int
    layers: int


def restorer(variant: str, height: int, width: int) -> tuple[Callable, tuple]:
    """(function, arguments): the restored image of one random photograph, random parameters."""
    model = ProgressiveDualNetwork(**VARIANTS[variant])
    random = np.random.default_rng(0)
    low = jnp.asarray(random.uniform(0.0, 0.2, (1, height, width, 3)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), low)
    params = jax.tree.map(
        lambda shape: jnp.asarray(random.normal(0.0, 0.05, shape.shape), shape.dtype), shapes
    )
    return lambda params, low: model.apply(params, low).restored, (params, low)


def plain_stack(wanted: int, height: int, width: int) -> tuple[Callable, tuple]:
    """(function, arguments) of the stack whose MACs come nearest to `wanted`, of one layer or more."""
    random = np.random.default_rng(0)
    shape = (1, height // 2, width // 2, STACK_WIDTH)
    image = jnp.asarray(random.normal(size=shape), jnp.float32)
    layers = max(1, round(wanted / (image.size * 9 * STACK_WIDTH)))
    # Kernels that keep the variance: values that fade away would be slow to compute with.
    scale = (2.0 / (9 * STACK_WIDTH)) ** 0.5
    kernels = tuple(
        jnp.asarray(random.normal(0.0, scale, (3, 3, STACK_WIDTH, STACK_WIDTH)), jnp.float32)
        for _ in range(layers)
    )

    def stack(kernels, image):
        for kernel in kernels:
            image = jax.lax.conv_general_dilated(
                image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            image = jax.nn.relu(image)
        return image

    return stack, (kernels, image)


def measure(variant: str, height: int, width: int, repeats: int) -> Result:
    """Compile a variant and its stack, then time them in turn."""
    restore, arguments = restorer(variant, height, width)
    network_macs = macs(restore, *arguments)
    stack, stack_arguments = plain_stack(network_macs, height, width)
    compiled, compiled_stack = jax.jit(restore), jax.jit(stack)
    calls = {
        "network": lambda: compiled(*arguments),
        "stack": lambda: compiled_stack(*stack_arguments),
    }
    first = timing.clock(calls["network"])
    timings = timing.in_turn(calls, repeats)
    return Result(
        first=first,
        network=timings["network"],
        network_macs=network_macs,
        stack=timings["stack"],
        stack_macs=macs(stack, *stack_arguments),
        layers=len(stack_arguments[0]),
    )


ROWS = {
    "first call, s": ".1f",
    "minimum, ms": ".1f",
    "median, ms": ".1f",
    "Mpixel/s": ".2f",
    "GFLOP/s": ".1f",
    "stack: layers": "d",
    "stack: minimum, ms": ".1f",
    "stack: median, ms": ".1f",
    "stack: GFLOP/s": ".1f",
    "ratio": ".2f",
}
"""What is printed, and how."""


def rows(result: Result, pixels: int) -> dict[str, str]:
    """A result as the text of `ROWS`."""
    speed = 2e-9 * result.network_macs / result.network.minimum
    stack_speed = 2e-9 * result.stack_macs / result.stack.minimum
    values = (
        result.first,
        1e3 * result.network.minimum,
        1e3 * result.network.median,
        1e-6 * pixels / result.network.minimum,
        speed,
        result.layers,
        1e3 * result.stack.minimum,
        1e3 * result.stack.median,
        stack_speed,
        speed / stack_speed,
    )
    return {
        name: format(value, spec) for (name, spec), value in zip(ROWS.items(), values, strict=True)
    }


def main(argv: list[str] | None = None) -> None:
    """The command line: a table per size with a column per variant."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forward",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", type=size, nargs="+", default=[(400, 600)], metavar="HxW")
    parser.add_argument("--variants", choices=VARIANTS, nargs="+", default=list(VARIANTS))
    parser.add_argument("--repeats", type=positive_integer, default=10, metavar="N")
    options = parser.parse_args(argv)

    console = Console()
    console.print(timing.present_device())
    for height, width in options.sizes:
        results = [
            rows(measure(variant, height, width, options.repeats), height * width)
            for variant in options.variants
        ]
        table = Table(f"{height}×{width}")
        for variant in options.variants:
            table.add_column(variant, justify="right")
        for name in ROWS:
            table.add_row(name, *(result[name] for result in results))
        console.print(table)


if __name__ == "__main__":
    main()
