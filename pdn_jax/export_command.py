"""The `export` command: a network as one file for other runtimes."""

import argparse
import os
from pathlib import Path

from pdn_jax import files
from pdn_jax.errors import InputError

FORMATS = ("onnx", "stablehlo")
"""As `export.formats` has them, which takes long to import."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command.

    Args:
        parser: gets them.
    """
    add = parser.add_argument
    add("--weights", help="tiny, small or base, a .safetensors file, or a run folder")
    add("--format", required=True, choices=FORMATS, help="for ONNX Runtime, or for jax.export")
    add("-o", "--output", required=True, type=Path, metavar="FILE", help="the file to write")
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
    check_target(arguments.output, arguments.overwrite)
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


def check_target(path: Path, overwrite: bool) -> None:
    """Find out before the work is done whether a file can be written.

    Args:
        path: the file.
        overwrite: whether one that is there may be replaced.

    Raises:
        InputError: for a missing or unwritable folder, a folder in the file's place, or a file that
            is there already and may not be replaced.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file name")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}, create it")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: the folder {path.parent} is not writable")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name or allow it (--overwrite)")
