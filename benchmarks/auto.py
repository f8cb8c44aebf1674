"""How well `enhance --auto` tells dark photographs from well-exposed ones.

    python -m benchmarks.auto DATA_FOLDER

takes the dark halves of the folder's pairs for dark, their other halves and the folders named clean
for well-exposed, and says how many of either are taken for the other.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pdn_jax import photo
from pdn_jax.cli import Parser, explained
from pdn_jax.errors import InputError
from pdn_jax.photos import exposure

ENOUGH = 400
"""Pixels of the longer side that are looked at."""


def photographs(folder: Path) -> dict[str, tuple[set[Path], set[Path]]]:
    """Name of a set -> its dark photographs, and its well-exposed ones."""
    sets: dict[str, tuple[set[Path], set[Path]]] = {}
    for table in sorted(folder.rglob("pairs.csv")):
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                dark, good = sets.setdefault(row.get("set", table.parent.name), (set(), set()))
                dark.add(_placed(table.parent, folder, row["low"]))
                good.add(_placed(table.parent, folder, row["high"]))
    for clean in sorted(folder.rglob("clean")):
        for path in clean.rglob("*"):
            if path.suffix.lower() in photo.EXTENSIONS:
                name = path.parent.relative_to(folder).as_posix()
                sets.setdefault(name, (set(), set()))[1].add(path)
    if not sets:
        raise InputError(f"{folder} has neither a pairs.csv nor a folder named clean")
    return sets


def _placed(beside: Path, folder: Path, name: str) -> Path:
    """A path of a table, which counts from the table's folder or from the whole."""
    return beside / name if (beside / name).exists() else folder / name


def brightnesses(paths: set[Path]) -> Iterator[float]:
    """`exposure.brightness` of every photograph that can be read."""
    for path in sorted(paths):
        pixels = photo.read(path)
        step = max(1, max(pixels.shape) // ENOUGH)
        yield exposure.brightness(pixels[::step, ::step] / np.float32(255))


def measure(arguments: argparse.Namespace) -> None:
    """Print a line for every set, and one for all."""
    every: tuple[list[float], list[float]] = [], []
    for name, halves in photographs(arguments.folder).items():
        both = [list(brightnesses(half)) for half in halves]
        for all_of_it, part in zip(every, both, strict=True):
            all_of_it += part
        print(line(name, *both))
    print(line("all", *every))


def line(name: str, dark: list[float], good: list[float]) -> str:
    """How many of each are on the wrong side."""
    missed = sum(value >= exposure.DARK for value in dark)
    touched = sum(value < exposure.DARK for value in good)
    parts = [
        f"{count} of {len(half)} {what} ({100 * count / len(half):.1f} %)"
        for count, half, what in ((missed, dark, "dark missed"), (touched, good, "good touched"))
        if half
    ]
    return f"{name:20} {', '.join(parts)}"


def main(argv: list[str]) -> int:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.auto", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    return explained(lambda: measure(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
