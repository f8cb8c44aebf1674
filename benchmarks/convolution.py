"""The forms of a 3×3 convolution, timed in turn: which is fast here, and does `on_cpu` choose it?

    python -m benchmarks.convolution --shapes 200x300x24x24 100x150x56x56

A shape is height×width×channels×features, with bias and ReLU behind it as in the network, batch 1.
`plain` is what XLA makes of `lax.conv_general_dilated`; the others compute the same sums (see
`pdn_jax.convolution`). Milliseconds of the fastest call; `chosen` is what the network runs on a CPU.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import timing
from benchmarks.count import positive_integer
from pdn_jax import convolution
from pdn_jax.cli import Parser

SHAPES = (
    *((200, 300, 15, 8), (200, 300, 8, 12), (200, 300, 15, 24), (200, 300, 24, 24)),
    *((200, 300, 24, 12), (100, 150, 15, 40), (100, 150, 40, 40), (100, 150, 64, 64)),
    *((50, 75, 16, 16), (50, 75, 32, 32), (50, 75, 56, 56), (50, 75, 128, 128)),
)
"""Those of the three variants at 600×400, and their neighbours."""

FORMS = {
    "plain": convolution.plain,
    "taller": convolution.taller,
    "2 columns": lambda image, kernel: convolution.grouped(image, kernel, 2),
    "2, taller": lambda image, kernel: convolution.grouped(image, kernel, 2, below=1),
    "chosen": convolution.on_cpu,
}


def measure(shape: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Form -> seconds of its fastest call; forms that do not fit the width are left out."""
    height, width, channels, features = shape
    random = np.random.default_rng(0)
    image = jnp.asarray(random.normal(size=(1, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(0.1 * random.normal(size=(3, 3, channels, features)), jnp.float32)
    calls = {}
    for name, form in FORMS.items():
        if width % 2 and name.startswith("2"):
            continue
        run = jax.jit(lambda image, kernel, form=form: jax.nn.relu(form(image, kernel) + 0.1))
        calls[name] = lambda run=run: run(image, kernel)
    return {name: times.minimum for name, times in timing.in_turn(calls, repeats).items()}


def parsed(text: str) -> tuple[int, ...]:
    """'200x300x24x12' -> four counts; argparse's own error for anything else."""
    sides = text.split("x")
    if len(sides) != 4 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not HxWxCHANNELSxFEATURES, as 200x300x24x12")
    return tuple(map(int, sides))


def main(argv: list[str] | None = None) -> None:
    """The command line: a table with a row per shape."""
    parser = Parser(
        prog="python -m benchmarks.convolution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", type=parsed, nargs="+", default=SHAPES, metavar="HxWxCxF")
    parser.add_argument("--repeats", type=positive_integer, default=10, metavar="N")
    options = parser.parse_args(argv)
    console = Console()
    console.print(timing.present_device())
    table = Table("shape", title="milliseconds")
    for name in (*FORMS, "GMAC/s"):
        table.add_column(name, justify="right")
    for shape in options.shapes:
        seconds = measure(shape, options.repeats)
        height, width, channels, features = shape
        speed = 9e-9 * height * width * channels * features / seconds["chosen"]
        cells = [f"{1e3 * seconds[name]:.2f}" if name in seconds else "" for name in FORMS]
        table.add_row("×".join(map(str, shape)), *cells, f"{speed:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
