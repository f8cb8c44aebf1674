"""The command line: `python -m pdn_jax enhance dark.jpg -o bright.png --weights RUN_FOLDER`.

Whatever takes long to import is imported by the command that needs it, so that `--help` and a
mistyped option answer at once.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pdn_jax import __version__
from pdn_jax.errors import InputError

if TYPE_CHECKING:
    from pdn_jax.enhancer import Enhancer

CELL_HEIGHT = 240
"""Pixels a photograph is high on the contact sheet."""

BYTES_PER_PIXEL = 14
"""What a photograph in flight weighs: itself, its result, and what a codec holds of either."""

UNTOUCHED = {"exposure": 1.0, "denoise": 1.0}

Job = tuple[Path, Path]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 for bad input, or 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return explained(lambda: arguments.command(arguments))


def explained(function: Callable[[], int | None]) -> int:
    """Run a program; a person's mistake becomes one line on stderr and exit code 2.

    Only InputError is such a mistake; every other exception is a fault of ours and is raised.
    Ctrl-C gives 130.
    """
    try:
        return function() or 0
    except KeyboardInterrupt:
        print("pdn_jax: interrupted", file=sys.stderr)
        return 130
    except InputError as error:
        _complain(error)
        return 2


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
        """As argparse's."""
        self.given = set()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """One line on stderr, exit code 2."""
        _complain(f"{message} (see {self.prog} --help)")
        self.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="pdn_jax", description="Brighten low-exposure photos and denoise them.")
    parser.add_argument("--version", action="version", version=f"pdn_jax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    enhance = commands.add_parser("enhance", help="brighten and denoise photos")
    enhance.set_defaults(command=_enhance)
    enhance.add_argument(
        "input", nargs="+", type=Path, help="a photo, several photos, or a folder of them"
    )
    enhance.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        help="the file to write, .png or .jpg; with several photos the folder for PNG files",
    )
    enhance.add_argument(
        "--weights",
        help="tiny, small or base, a .safetensors file, or a run folder (default small)",
    )
    enhance.add_argument(
        "--variant", help="the weights of that name, or insist that those named are of this variant"
    )
    enhance.add_argument(
        "--exposure",
        type=float,
        default=1.0,
        help="relative to the network's own result, 2 is one stop brighter (default 1)",
    )
    enhance.add_argument(
        "--denoise",
        type=float,
        default=1.0,
        help="0 leaves the noise in, 1 takes it out (default 1)",
    )
    enhance.add_argument(
        "--stages",
        type=Path,
        metavar="FILE",
        help="also write every stage of one photo on a labelled contact sheet",
    )
    enhance.add_argument("--overwrite", action="store_true", help="replace files that exist")

    info = commands.add_parser("info", help="say what a weights file holds")
    info.set_defaults(command=_info)
    info.add_argument("weights", help="tiny, small or base, a .safetensors file, or a run folder")

    listed = commands.add_parser("weights", help="list the weights that come with the package")
    listed.set_defaults(command=_weights)
    return parser


# --- enhance ---------------------------------------------------------------------------------


def _enhance(arguments: argparse.Namespace) -> int:
    if len(arguments.input) == 1 and not arguments.input[0].exists():
        raise InputError(f"{arguments.input[0]} does not exist: give a photo file")
    from pdn_jax import weights
    from pdn_jax.enhancer import Enhancer, check_dials

    many = len(arguments.input) > 1 or arguments.input[0].is_dir()
    check_dials(arguments.exposure, arguments.denoise)
    if many:
        jobs = _jobs(arguments)
    else:
        _check_single(arguments)
    enhancer = Enhancer(weights.load(_named(arguments), variant=arguments.variant))
    return _each(jobs, enhancer, arguments) if many else _one(enhancer, arguments)


def _one(enhancer: "Enhancer", arguments: argparse.Namespace) -> int:
    """Enhance one photo; its pixels are decoded while the programs for its size are fetched."""
    from concurrent.futures import ThreadPoolExecutor

    from pdn_jax import photo

    source = arguments.input[0]
    dials = {"exposure": arguments.exposure, "denoise": arguments.denoise}
    with ThreadPoolExecutor(1) as pool:
        decoded = pool.submit(photo.read, source)
        if size := photo.size(source):
            enhancer.prepare(*size, dialled=dials != UNTOUCHED)
        low = decoded.result()
    photo.write(arguments.output, enhancer(low, **dials), overwrite=arguments.overwrite)
    if arguments.stages:
        reduce = max(n for n in (1, 2, 4, 8) if n == 1 or len(low) >= 2 * n * CELL_HEIGHT)
        sheet = _sheet(low, enhancer.stages(low, reduce=reduce), source.name)
        photo.write(arguments.stages, sheet, overwrite=arguments.overwrite)
    return 0


def _each(jobs: list[Job], enhancer: "Enhancer", arguments: argparse.Namespace) -> int:
    """Enhance many; bad photos are named and passed by, and make the exit code 2."""
    from rich.console import Console
    from rich.progress import track

    from pdn_jax import photo, pipeline

    folder, dials = arguments.output, (arguments.exposure, arguments.denoise)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from error

    def read(job: Job):
        photo.check_writable(job[1], arguments.overwrite)
        return photo.read(job[0])

    def work(_: Job, low):
        return enhancer(low, exposure=dials[0], denoise=dials[1])

    def write(job: Job, bright) -> None:
        photo.write(job[1], bright, overwrite=arguments.overwrite)

    def weigh(job: Job) -> int:
        height, width = photo.size(job[0]) or (0, 0)
        return BYTES_PER_PIXEL * height * width

    console, failed = Console(stderr=True), 0
    results = pipeline.run(jobs, read, work, write, weigh=weigh)
    with contextlib.closing(results):
        for _, result in track(
            results, "photos", total=len(jobs), console=console, disable=not console.is_terminal
        ):
            if isinstance(result, InputError):
                failed += 1
                _complain(result)
    if failed:
        _complain(f"{failed} of {len(jobs)} photos failed, the others are in {folder}")
    return 2 if failed else 0


def _named(arguments: argparse.Namespace) -> str:
    """The weights that the command line asks for, by name, file or variant."""
    from pdn_jax import weights

    if arguments.weights or not arguments.variant:
        return arguments.weights or weights.DEFAULT
    if arguments.variant not in weights.SHIPPED:
        raise InputError(
            f"no weights of variant {arguments.variant!r} come with the package, only of "
            f"{', '.join(weights.SHIPPED)}: name a file with --weights"
        )
    return arguments.variant


def _check_single(arguments: argparse.Namespace) -> None:
    """Everything about one photo's outputs that can be known before the work."""
    from pdn_jax import photo

    outputs = [path for path in (arguments.output, arguments.stages) if path]
    for path in outputs:
        photo.check_writable(path, arguments.overwrite)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"{arguments.output} is named twice: give --stages another name")


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    """(photo, PNG file in the output folder) for all photos named, folders opened."""
    from pdn_jax import photo

    if arguments.stages:
        raise InputError(f"--stages {arguments.stages} takes one photo: name a single one")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f"{arguments.output} is a file: with several photos -o names a folder")
    sources: dict[Path, Path] = {}
    for path in arguments.input:
        for source in photo.images_in(path) if path.is_dir() else [path]:
            target = arguments.output / f"{source.stem}.png"
            other = sources.setdefault(target, source)
            if other != source:
                raise InputError(f"{other} and {source} would both become {target}: rename one")
    return [(source, target) for target, source in sources.items()]


def _sheet(low, stages, name: str):
    """A photo and every stage of it -> a contact sheet, uint8 [h, w, 3]."""
    from pdn_jax.sheet import contact_sheet

    levels = len(stages.denoised)
    sizes = [f"1/{2**level}" if level else "1" for level in reversed(range(levels))]
    titles = [
        "low",
        *(f"enhanced {index}" for index in range(1, len(stages.enhanced) + 1)),
        *(f"denoised {size}" for size in sizes),
        "restored",
    ]
    row = [low, *stages.enhanced, *stages.denoised, stages.restored]
    return contact_sheet([row], titles, [name], CELL_HEIGHT)


# --- info ------------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> None:
    from pdn_jax import weights

    loaded = weights.load(arguments.weights)
    leaves = weights.flatten(loaded.params).values()
    print(f"variant: {loaded.variant}")
    print(f"parameters: {sum(leaf.size for leaf in leaves):,} in {len(leaves)} arrays")
    for name, value in {**loaded.model, **loaded.metadata}.items():
        print(f"{name}: {value}")
    if arguments.weights in weights.SHIPPED:
        print(f"card: {weights.FOLDER / arguments.weights / weights.CARD}")


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
