"""Which photograph of one folder belongs to which of another, by their names alone."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

LOW = ("low", "low_light", "lowlight", "dark", "input", "inputs", "under", "underexposed", "lq")
NORMAL = ("high", "normal", "gt", "target", "targets", "groundtruth", "ground_truth", "reference")
"""What folders of dark photographs and of their truths are called, in any case."""

ROLE = "|".join(sorted((*LOW, *NORMAL), key=len, reverse=True))
ROLES = re.compile(rf"^(?:{ROLE})[-_ ]*|[-_ ]*(?:{ROLE})$", re.IGNORECASE)


def stem(path: Path, folder: Path) -> str:
    """The path from a folder on, without the extension."""
    return path.relative_to(folder).with_suffix("").as_posix()


def plain_stem(path: Path, folder: Path) -> str:
    """Without the role in its name: low00001 and normal00001 become 00001."""
    whole = PurePosixPath(stem(path, folder))
    return (whole.parent / (ROLES.sub("", whole.name) or whole.name)).as_posix()


def folded(text: str) -> str:
    """The same for names that differ in case, or in how a disk composes letters."""
    return unicodedata.normalize("NFC", text.casefold())


Name = Callable[[Path, Path], str]

RULES: tuple[tuple[Name, Name], ...] = (
    (lambda path, folder: path.relative_to(folder).as_posix(), stem),
    (stem, stem),
    (lambda path, folder: folded(stem(path, folder)), stem),
    (lambda path, folder: folded(plain_stem(path, folder)), plain_stem),
)
"""(what partners share, what to call them), the closest likeness first."""


def partners(
    lows: Sequence[Path], low: Path, normals: Sequence[Path], normal: Path
) -> dict[Path, tuple[Path, str]]:
    """Dark photograph -> (its truth, the pair's name), one to one, by the first rule that is unique."""
    pairs: dict[Path, tuple[Path, str]] = {}
    left, right = list(lows), list(normals)
    for shared, called in RULES:
        here, there = _by_name(left, low, shared), _by_name(right, normal, shared)
        for name, dark in here.items():
            bright = there.get(name, [])
            if len(dark) == len(bright) == 1:
                pairs[dark[0]] = bright[0], called(dark[0], low)
        taken = {bright for bright, _ in pairs.values()}
        left = [path for path in left if path not in pairs]
        right = [path for path in right if path not in taken]
    return pairs


def _by_name(paths: Sequence[Path], folder: Path, rule: Name) -> dict[str, list[Path]]:
    names: dict[str, list[Path]] = {}
    for path in paths:
        names.setdefault(rule(path, folder), []).append(path)
    return names


def no_partner(path: Path, here: Path, others: Sequence[Path], there: Path) -> str:
    """Why `partners` gives a photograph none."""
    name = folded(plain_stem(path, here))
    alike = [other.name for other in others if folded(plain_stem(other, there)) == name]
    return f"one of several for {', '.join(alike)}" if alike else "no partner"
