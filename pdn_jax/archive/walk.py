"""The photographs of an archive, found folder by folder."""

import importlib
import os
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pdn_jax import places
from pdn_jax.errors import InputError
from pdn_jax.photos import kinds
from pdn_jax.photos.walk import passed_by
from pdn_jax.places import Location

MAGIC = re.compile(r"[*?\[]")


class Entry(NamedTuple):
    """A photograph: its name below the input, and its size in bytes."""

    name: str
    size: int


def root_of(given: str) -> tuple[Location, str]:
    """What a person gave, as a folder and a pattern.

    Args:
        given: a folder, a store's URL, or either with a pattern.

    Returns:
        (the folder, the pattern for names below it or '').

    Raises:
        InputError: for a folder that is not there.
    """
    if not MAGIC.search(given) or (not places.is_url(given) and Path(given).is_dir()):
        root, pattern = given, ""
    else:
        fixed = given[: MAGIC.search(given).start()]
        root, pattern = fixed.rpartition("/")[0] or ".", given[fixed.rfind("/") + 1 :]
    place = whole(root)
    if not places.is_url(place) and not place.is_dir():
        raise InputError(f"{place} is not a folder: give one that holds photographs")
    return place, pattern


def whole(given: str) -> Location:
    """A place by its whole path, without '..'.

    Args:
        given: a folder or a store's URL.

    Returns:
        The place.

    Raises:
        InputError: for a URL with '..', which a store does not know.
    """
    place = places.place(given)
    if not places.is_url(place):
        return Path(os.path.normpath(place.absolute()))
    if ".." in PurePosixPath(place.path).parts:
        raise InputError(f"{given}: a store knows no '..'; give the whole path")
    return place


def names(root: Location, pattern: str, output: Location) -> Iterator[Entry]:
    """The photographs below a folder by what they are called, folder by folder, in order.

    Args:
        root: the folder.
        pattern: of names below it, '' for all.
        output: of results; what lies there is passed by, as is what is hidden.

    Yields:
        Each photograph.
    """
    inside = str(output).removeprefix(str(root).rstrip("/") + "/") + "/"
    matches = _matcher(pattern)
    for folder, entries in _folders(root):
        for name, size in sorted(entries):
            path = f"{folder}{name}"
            hidden = any(map(passed_by, PurePosixPath(path).parts))
            if hidden or path.startswith(inside) or not matches(path):
                continue
            if kinds.by_extension(PurePosixPath(name).suffix):
                yield Entry(path, size)


def _matcher(pattern: str):
    if not pattern:
        return lambda path: True
    try:
        globbing = importlib.import_module("fsspec.utils")
    except ImportError as error:
        raise InputError(f'the pattern {pattern} needs pip install "pdn_jax[archive]"') from error
    return re.compile(globbing.glob_translate(pattern)).match


def _folders(root: Location) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """('below/', [(name, size) of its files]) of every folder that is not passed by."""
    if not places.is_url(root):
        seen: set[tuple[int, int]] = set()
        _is_new(str(root), seen)
        for top, below, some in os.walk(root, onerror=_unlisted, followlinks=True):
            shown = sorted(name for name in below if not passed_by(name))
            below[:] = [name for name in shown if _is_new(os.path.join(top, name), seen)]
            folder = Path(top).relative_to(root).as_posix()
            sizes = [(name, _bytes(os.path.join(top, name))) for name in some]
            yield ("" if folder == "." else f"{folder}/"), sizes
        return
    begins, left = root.path.rstrip("/"), [root.path.rstrip("/")]
    while left:  # fsspec's own walk passes by folders that it cannot list
        top, some = left.pop(), []
        with places.explained("read", f"{root}/{top.removeprefix(begins).strip('/')}"):
            listed = root.fs.ls(top, detail=True)
        for about in sorted(listed, key=lambda about: about["name"], reverse=True):
            name = about["name"].rstrip("/").removeprefix(f"{top}/")
            if about["type"] == "directory":
                if about["name"].rstrip("/") != top and not passed_by(name):
                    left.append(f"{top}/{name}")
            elif about["name"] != top and not about["name"].endswith("/"):
                some.append((name, about["size"]))
        folder = top.removeprefix(begins).strip("/")
        yield (f"{folder}/" if folder else ""), some


def _unlisted(error: OSError) -> None:
    raise InputError(f"cannot list {error.filename}: {error.strerror}") from error


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder was not come to before, through a link."""
    about = os.stat(folder)
    here = about.st_dev, about.st_ino
    return here not in seen and not seen.add(here)


def _bytes(path: str) -> int:
    """How large a file is; a link that leads nowhere has nothing, and fails when it is read."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def counted(entries: Iterable[Entry], most: int) -> tuple[int, int, list[Entry]]:
    """How many there are, and a random sample.

    Args:
        entries: photographs.
        most: of the sample.

    Returns:
        (how many, of how many bytes, the sample).
    """
    draws, sample, count, size = random.Random(0), [], 0, 0
    for count, entry in enumerate(entries, 1):
        size += entry.size
        if len(sample) < most:
            sample.append(entry)
        elif (place := draws.randrange(count)) < most:
            sample[place] = entry
    return count, size, sample
