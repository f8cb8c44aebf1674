"""What lies in a store, on this machine: for a moment, or in the cache."""

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pdn_jax import places, user_cache
from pdn_jax.errors import InputError
from pdn_jax.places import Location

COPIES = "copies"
"""The folder of the cache."""


@contextlib.contextmanager
def copied(given: str | Location) -> Iterator[Path]:
    """A file of this machine with an object's content, for as long as the context lasts.

    Args:
        given: the object's URL, which messages of what is raised within name in place of the file.

    Yields:
        The file.

    Raises:
        InputError: where there is no such object, or it cannot be read.
    """
    path = places.place(given)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        copy.write_bytes(places.read(path))
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), str(path))) from error


def fetched(given: str | Location, *, without: str = "") -> Path:
    """What lies at a place, on this machine.

    From a store it is copied whole into the cache, under a name made of what the store says of
    every object: what has changed there is copied anew, what has not, never again.

    Args:
        given: a file or folder; paths of this machine stay what they are.
        without: objects with that in their names below the place are left where they are, where it is
            not '', as are hidden ones.

    Returns:
        The file or folder.

    Raises:
        InputError: where there is nothing, or it cannot be read or kept.
    """
    path = places.place(given)
    if not places.is_url(path):
        return path
    listed = places.objects(path)
    if not listed:
        raise InputError(f"{path} does not exist: there is no object of that name or below it")
    names = {one: str(one).removeprefix(str(path)).strip("/") for one in listed}
    wanted = {
        name: one
        for one, name in names.items()
        if not (without and without in name) and not any(p[0] == "." for p in name.split("/") if p)
    }
    facts = [[name, listed[one].get("size"), _version(listed[one])] for name, one in wanted.items()]
    key = hashlib.sha256(json.dumps([str(path), facts, without]).encode()).hexdigest()[:32]
    kept = user_cache.folder() / COPIES / key / (path.name or "bucket")
    draft = kept.parent.with_name(f".fetching-{key}")
    try:
        if not kept.exists():
            _fetch(
                path, {name: (one, listed[one]) for name, one in wanted.items()}, draft / kept.name
            )
            draft.replace(kept.parent)
    except OSError:
        if not kept.exists():  # no other process was first
            raise
    return kept


def inside(folder: Path, name: str) -> Path:
    """Where an object lies in a folder.

    Args:
        folder: the folder.
        name: of the object, with '/' between its parts; '' for the folder's own.

    Returns:
        Its path.

    Raises:
        InputError: for a name that leads out of the folder.
    """
    if ".." in name.split("/"):
        raise InputError(f"{name}: an object's name with '..' has no place in a folder; rename it")
    return folder / name if name else folder


def _version(about: dict[str, Any]) -> str:
    """What tells an object from one that has taken its place; where a store says nothing, always new."""
    said = filter(None, map(about.get, ("ETag", "mtime", "LastModified")))
    return str(next(said, secrets.token_hex(8)))


def _fetch(
    root: Location, listed: dict[str, tuple[Location, dict[str, Any]]], target: Path
) -> None:
    """Copy objects to a folder; what an interrupted copy has left there is not copied again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = tempfile.TemporaryDirectory(dir=target.parents[1], prefix=".part-")
    with beside as part, places.explained("read", root):
        for name, (one, about) in listed.items():
            file, whole = Path(part, "object"), inside(target, name)
            if whole.exists():
                continue
            one.fs.get_file(one.path, str(file))
            when = about.get("LastModified") or about.get("mtime")
            when = when.timestamp() if hasattr(when, "timestamp") else 0.0
            os.utime(file, (when, when))  # the same wherever it is copied to
            whole.parent.mkdir(parents=True, exist_ok=True)
            file.replace(whole)
