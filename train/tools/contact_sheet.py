"""Contact sheets of whole photographs: low, restored at half the exposure, restored, truth.

    python -m train.tools.contact_sheet --weights small --data eliei/dev sice/dev --photos DICM/ --out sheets/

To be looked at: halos, colour blotches in shadows, milky blacks, plastic skin, growing lamps,
tiles and checkerboards are what numbers do not show.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from pdn_jax import cli, inference, photo, places
from pdn_jax import weights as weight_files
from pdn_jax.sheet import contact_sheet
from pdn_jax.types import InputError
from train.data import mixture
from train.data.synthesis import whole_pairs

TITLES = ("low", "restored, exposure 0.5", "restored", "truth")
DIAL = 0.5

Shown = tuple[str, np.ndarray, np.ndarray | None]
"""(name, low, truth if there is one), uint8."""


def of_split(name: str, directory: str) -> Iterator[Shown]:
    """Every pair of a built set's split; photographs without a dark partner are darkened twice."""
    split = mixture.opened(name, "dev", directory)
    for pair, *images in whole_pairs(split, draws=2):
        low, truth = (np.rint(255.0 * image).astype(np.uint8) for image in images)
        yield pair, low, truth


def of_folder(folder: Path) -> Iterator[Shown]:
    """Every photograph of a folder."""
    for path in photo.images_in(folder):
        yield path.stem, photo.read(path), None


def pages(shown: Iterable[Shown], weights: weight_files.Weights, rows: int, height: int):
    """Sheets of `rows` photographs each, uint8; the last of `TITLES` only where there are truths."""
    shown = iter(shown)
    while page := list(itertools.islice(shown, rows)):
        images = []
        for _, low, truth in page:
            restored = (inference.enhance(low, weights, exposure=dial) for dial in (DIAL, 1.0))
            images.append([low, *restored, *([] if truth is None else [truth])])
        yield contact_sheet(images, TITLES[: len(images[0])], [name for name, *_ in page], height)


def options_of(argv: Sequence[str]):
    """The parsed command line."""
    parser = cli.Parser(
        prog="python -m train.tools.contact_sheet", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--weights", default=weight_files.DEFAULT, help="as for enhance")
    add("--data", nargs="+", default=[], metavar="NAME/SPLIT", help="built sets")
    add("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    add("--photos", nargs="+", default=[], type=places.here, help="folders without truth")
    add("--out", required=True, type=places.here, help="folder for the sheets, JPEG")
    add("--rows", type=int, default=8, help="photographs on a sheet (default 8)")
    add("--height", type=int, default=240, help="of a picture (default 240 pixels)")
    add("--overwrite", action="store_true", help="replace sheets that exist")
    options = parser.parse_args(argv)
    if not options.data and not options.photos:
        raise InputError("name built sets with --data, or folders with --photos")
    if options.rows < 1 or not 16 <= options.height <= 4096:
        raise InputError(
            f"--rows {options.rows} and --height {options.height}: at least 1, and 16 to 4096"
        )
    return options


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    options, console = options_of(argv), Console()
    weights = weight_files.load(options.weights)
    sheets = [(name.replace("/", "-"), of_split(name, options.data_dir)) for name in options.data]
    sheets += [(folder.resolve().name, of_folder(folder)) for folder in options.photos]
    names = [name for name, _ in sheets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two of what is to be shown would be called {min(twice)}; rename one")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {options.out} cannot be made: {error.strerror}") from error
    for name, shown in sheets:
        for number, sheet in enumerate(pages(shown, weights, options.rows, options.height), 1):
            path = options.out / f"{name}-{number}.jpg"
            photo.write(path, sheet, overwrite=options.overwrite)
            console.print(str(path), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
