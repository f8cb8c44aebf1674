"""The `export` command: a network as one file for other runtimes."""

import argparse

from pdn_jax import files, places
from pdn_jax.errors import InputError
from pdn_jax.export import FORMATS


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command.

    Args:
        parser: gets them.
    """
    add = parser.add_argument
    add("--weights", help="tiny, small or base, a .safetensors file, or a run folder")
    add("--format", required=True, choices=FORMATS, help="for ONNX Runtime, or for jax.export")
    add(
        "-o",
        "--output",
        required=True,
        type=places.argument,
        metavar="FILE",
        help="the file to write",
    )
    add("--height", type=int, help="of photographs, a multiple of 8 (default any)")
    add("--width", type=int, help="likewise")
    add("--float16", action="store_true", help="store the weights in half the bytes")
    add("--overwrite", action="store_true", help="replace a file that exists")


def run(arguments: argparse.Namespace) -> int:
    """Export what the arguments name; nothing is written unless it agrees with JAX.

    Args:
        arguments: what a parser with `add_options` gives.

    Returns:
        The exit code, 0.

    Raises:
        InputError: for arguments that cannot be, a missing package, or a file that disagrees.
    """
    files.check_target(arguments.output, arguments.overwrite)
    from pdn_jax import weights
    from pdn_jax.export import formats

    size = formats.check_size(arguments.height, arguments.width)
    loaded = weights.load(arguments.weights or weights.DEFAULT)
    form = arguments.format
    data = formats.written(loaded, form, size, half=arguments.float16)
    apart = formats.largest_difference(loaded, form, data, size)
    try:
        with files.atomic_write(arguments.output) as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"cannot write {arguments.output}: {error.strerror}") from error
    sizes = "any size" if size is None else f"{size[0]}x{size[1]}"
    print(
        f"{arguments.output}: {loaded.variant}, {sizes}, {len(data) / 1e6:.2f} MB; "
        f"differs from JAX by at most {255 * apart:.1g}/255"
    )
    return 0
