"""The command line: `python -m pdn_jax enhance dark.jpg -o bright.png --weights RUN_FOLDER`.

Whatever takes long to import is imported by the command that needs it, so that `--help` and a
mistyped option answer at once.
"""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pdn_jax import (
    __version__,
    archive_command,
    enhance_photos,
    export_command,
    page_command,
    places,
    serve_command,
)
from pdn_jax.errors import InputError
from pdn_jax.photos import kinds
from pdn_jax.photos.walk import FORMATS


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit code: 0, 1 where some photographs failed, 2 for bad input, 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    return explained(lambda: arguments.command(arguments))


def explained(function: Callable[[], int | None]) -> int:
    """Run a program; a person's mistake becomes one line on stderr and exit code 2.

    Only InputError is such a mistake; every other exception is a fault of ours and is raised.

    Args:
        function: without arguments; gives an exit code, or None for 0.

    Returns:
        That exit code, 2 after an InputError, 130 after Ctrl-C.
    """
    silence_compiler()
    try:
        return function() or 0
    except KeyboardInterrupt:
        print("pdn_jax: interrupted", file=sys.stderr)
        return 130
    except InputError as error:
        _complain(error)
        return 2
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _complain(f"{error.filename}: its name is too long for this disk: give a shorter one")
        return 2


def silence_compiler() -> None:
    """Before jax is imported: XLA's alarm of a slow compilation asks for a bug report.

    Messages that end the process stay, and what fails is raised as an exception all the same.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _complain(error: Exception | str) -> None:
    with contextlib.suppress(
        OSError
    ):  # a full disk, or nobody who reads; the exit code says it too
        print("pdn_jax: error:", " ".join(str(error).split("\n")), file=sys.stderr, flush=True)


class _Given(argparse.Action):
    """Store what an option was given: a list goes on where it stopped, all else is given once."""

    def __call__(self, parser, namespace, values, option_string=None):
        first = self.dest not in parser.given
        parser.given.add(self.dest)
        if isinstance(values, list):
            values = values if first else [*getattr(namespace, self.dest), *values]
        elif option_string and not first:
            parser.error(f"{option_string} is given twice: keep one of them")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """Argparse, but errors are one line, and `--data a b` and `--data a --data b` are the same.

    Any option with `nargs="+"` or `"*"` takes such a list; another one twice is an error.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.given: set[str] = set()
        self.register("action", None, _Given)
        self.register("action", "store", _Given)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, anew for each call.

        Args:
            args: as argparse takes them.
            namespace: likewise.

        Returns:
            As argparse's.
        """
        self.given = set()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and one line on stderr.

        Args:
            message: what is wrong.
        """
        _complain(f"{message} (see {self.prog} --help)")
        self.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="pdn_jax", description="Brighten low-exposure photos and denoise them.")
    parser.add_argument("--version", action="version", version=f"pdn_jax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    enhance = commands.add_parser("enhance", help="brighten and denoise photos")
    enhance.set_defaults(command=_enhance)
    enhance_photos.add_options(enhance, list(FORMATS))

    archive = commands.add_parser("archive", help="enhance millions of photos, on many machines")
    archive.set_defaults(command=archive_command.run)
    archive_command.add_options(archive, list(FORMATS))

    export = commands.add_parser("export", help="write a network as one file that runs elsewhere")
    export.set_defaults(command=export_command.run)
    export_command.add_options(export)

    serve = commands.add_parser("serve", help="open a page to look through photos with")
    serve.set_defaults(command=serve_command.run)
    serve_command.add_options(serve)

    page = commands.add_parser("page", help="write that page as files for any web server")
    page.set_defaults(command=page_command.run)
    page_command.add_options(page)

    info = commands.add_parser("info", help="say what a photo or a weights file holds")
    info.set_defaults(command=_info)
    info.add_argument(
        "what", help="a photo; tiny, small or base, a .safetensors file, or a run folder"
    )

    physics = commands.add_parser("physics", help="measure exposure, cast and noise of a pair")
    physics.set_defaults(command=_physics)
    add = physics.add_argument
    add("low", help="the dark photo")
    add("normal", help="a well-exposed one of the same scene, aligned to about a pixel")
    add(
        "--plot",
        type=places.argument,
        metavar="FILE",
        help="draw variance against light: PNG, SVG or PDF",
    )
    window = "side of the middle part measured, in pixels; 0 for the whole (default 512)"
    add("--window", type=int, default=512, help=window)

    listed = commands.add_parser("weights", help="list the weights that come with the package")
    listed.set_defaults(command=_weights)
    return parser


# --- enhance ---------------------------------------------------------------------------------


def _enhance(arguments: argparse.Namespace) -> int:
    return enhance_photos.run(arguments)


# --- info ------------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> None:
    path = places.place(arguments.what)
    stored = places.is_url(path) and kinds.by_extension(path.suffix)
    if stored or (not places.is_url(path) and path.is_file() and path.suffix != ".safetensors"):
        from pdn_jax import photo_info

        return print(*photo_info.lines(path), sep="\n")
    from pdn_jax import weights

    loaded = weights.load(arguments.what)
    leaves = weights.flatten(loaded.params).values()
    print(f"variant: {loaded.variant}")
    print(f"parameters: {sum(leaf.size for leaf in leaves):,} in {len(leaves)} arrays")
    for name, value in {**loaded.model, **loaded.metadata}.items():
        print(f"{name}: {value}")
    if arguments.what in weights.SHIPPED:
        print(f"card: {weights.FOLDER / arguments.what / weights.CARD}")


# --- physics ---------------------------------------------------------------------------------


def _physics(arguments: argparse.Namespace) -> None:
    from pdn_jax import pair_physics

    pair_physics.run(arguments.low, arguments.normal, arguments.window, arguments.plot)


# --- weights ---------------------------------------------------------------------------------


def _weights(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from pdn_jax import weights

    cards = {name: weights.card(name) for name in weights.SHIPPED}
    sets = list(dict.fromkeys(data for card in cards.values() for data in card["scores"]))
    title = "PSNR in dB / SSIM (plain)"
    named = [f"{name} (default)" if name == weights.DEFAULT else name for name in cards]
    table = Table("", *named, title=title)  # upright, so that 80 columns hold it
    sizes = [(weights.FOLDER / name / weights.FILENAME).stat().st_size for name in cards]
    table.add_row("parameters", *(f"{card['parameters']:,}" for card in cards.values()))
    table.add_row("size", *(f"{size / 1e6:.1f} MB" for size in sizes))
    table.add_row("trained", *(card["date"] for card in cards.values()))
    for data in sets:
        scores = [card["scores"].get(data) for card in cards.values()]
        cells = [f"{s['psnr']['mean']:.2f} / {s['ssim']['mean']:.3f}" if s else "" for s in scores]
        table.add_row(data, *cells)
    console = Console()
    console.print(table)
    console.print(f"cards and weights are in {weights.FOLDER}", soft_wrap=True)
