"""metrics.csv: a row of numbers for a step, whole whatever became of the run that wrote it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from train import files

Row = dict[str, str]
"""Column -> number as it is written, or ''."""

EVALUATION = ("eval/psnr", "eval/ssim")


def columns(rows: Sequence[Row]) -> list[str]:
    """Step first, evaluation last, the others in between, by name."""
    names = {name for row in rows for name in row} - {"step"}
    return ["step", *sorted(names - set(EVALUATION)), *sorted(names & set(EVALUATION))]


def read(path: Path) -> list[Row]:
    """Every whole row, none where there is no file.

    A row without its end, as a kill or a full disk leaves it, is passed by, and so is one that has
    no step, or something else than numbers and blanks.
    """
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if _is_whole(row)]


def _is_whole(row: Row) -> bool:
    try:
        numbers = [float(cell) for cell in row.values() if cell != ""]
        return int(row["step"]) >= 0 and len(numbers) > 0
    except (KeyError, TypeError, ValueError):  # a cell too few is None, those too many are a list
        return False


def append(path: Path, row: Row, names: Sequence[str]) -> None:
    """One row more, of a file that has these columns."""
    with path.open("a", newline="") as file:
        csv.DictWriter(file, names).writerow(row)


def write(path: Path, rows: Sequence[Row]) -> None:
    """The file as a whole: there is the old one or the new one at any moment, never a part."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns(rows))
    writer.writeheader()
    writer.writerows(rows)
    files.replace(path, file.getvalue())
