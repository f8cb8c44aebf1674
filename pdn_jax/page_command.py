"""The `page` command: a folder for any web server, or one file, that runs the networks in the browser."""

import argparse

from pdn_jax import places


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command.

    Args:
        parser: gets them.
    """
    add = parser.add_argument
    add(
        "-o",
        "--output",
        required=True,
        type=places.here,
        metavar="FOLDER",
        help="or FILE.html for all in one",
    )
    add(
        "--weights",
        nargs="+",
        default=["small", "tiny"],
        help="what the page offers, the first chosen at first (default small tiny)",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace a single file, or another page's files in the folder",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the folder or the file.

    Args:
        arguments: what a parser with `add_options` gives.

    Returns:
        The exit code, 0.

    Raises:
        InputError: for weights that cannot be used, where npm or onnx is missing, the disk refuses, or a
            file is there that may not be replaced.
    """
    from pdn_jax.page import folder

    size = folder.write(arguments.output, arguments.weights, overwrite=arguments.overwrite)
    print(f"{arguments.output}: {size / 1e6:.1f} MB")
    return 0
