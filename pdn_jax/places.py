"""Places that a person names: paths of this machine, or objects in a store, through fsspec.

    place("runs/base")               # pathlib's Path, as ever
    place("s3://bucket/runs/base")   # UPath, which reads and writes it in the same words

A store has no rename, no lock and no folders. What replaces them: an object appears whole with one
PUT, or not at all (`put`); it can be made only where there is none (`new`), which is what "never
overwrite" and leases stand on. Retries are the store's library's own.
"""

import argparse
import contextlib
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pdn_jax.errors import InputError

Location = Any
"""A Path of this machine, or a UPath, of a library that is not imported before it is needed."""

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)

ATTEMPTS = 10
"""Requests to S3 for one answer, at most, unless AWS_MAX_ATTEMPTS says another number."""


def is_url(given: Any) -> bool:
    """Whether this is a place in a store.

    Args:
        given: text or path.

    Returns:
        True for SCHEME://…, False for paths of this machine.
    """
    return bool(URL.match(str(given)))


def place(given: str | Location) -> Location:
    """The path object for what a person gave.

    Args:
        given: text, or a path object, which stays what it is.

    Returns:
        A Path of this machine, or a UPath of a store.

    Raises:
        InputError: where a package is missing, or no such kind of store is known.
    """
    if not isinstance(given, str) or not is_url(given):
        return Path(given) if isinstance(given, str) else given
    if given.lower().startswith(("file:", "local:")):
        raise InputError(f"{given} is no store: name a path of this machine as it is, without ://")
    try:
        upath = importlib.import_module("upath")
        path = upath.UPath(given, **_options(given))
        path.fs  # noqa: B018  what the store itself needs is imported here
    except ImportError as error:
        said = f'{given} needs packages that are missing: pip install "pdn_jax[stores]"'
        raise InputError(f"{said} ({error})") from error
    except ValueError as error:
        raise InputError(f"{given} names no store that is known: {error}") from error
    return path


def here(given: str) -> Path:
    """A path of this machine, for the argparse options that cannot be in a store.

    Args:
        given: text.

    Returns:
        The path.

    Raises:
        argparse.ArgumentTypeError: for a URL.
    """
    if is_url(given):
        raise argparse.ArgumentTypeError(f"{given} is in a store: give a path of this machine")
    return Path(given)


def argument(given: str) -> Location:
    """`place`, for argparse, which says what is wrong in the same words.

    Args:
        given: text.

    Returns:
        As `place`.

    Raises:
        argparse.ArgumentTypeError: where `place` raises InputError.
    """
    try:
        return place(given)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _options(url: str) -> dict[str, Any]:
    """Nothing is remembered of listings, as others write too."""
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.lower().startswith(("s3:", "s3a:")) and "AWS_MAX_ATTEMPTS" not in os.environ:
        mode = os.environ.get("AWS_RETRY_MODE", "standard")
        options["config_kwargs"] = {"retries": {"mode": mode, "total_max_attempts": ATTEMPTS}}
    return options


@contextlib.contextmanager
def explained(what: str, where: Any) -> Iterator[None]:
    """Whatever a store's library raises within, as one line.

    Args:
        what: 'read' or 'write'.
        where: the place, for the line.

    Raises:
        InputError: what went wrong, once the library has given up.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each library has its own
        if not is_url(where):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, FileNotFoundError) and reason in str(where):
            reason = "there is no such object"
        raise InputError(f"cannot {what} {where}: {' '.join(str(reason).split())}") from error


def read(given: str | Location) -> bytes:
    """All of an object, or of a file.

    Args:
        given: where it is.

    Returns:
        Its content.

    Raises:
        InputError: where there is no such object, or it cannot be read.
        OSError: what the disk says of a file of this machine.
    """
    path = place(given)
    if not is_url(path):
        return path.read_bytes()
    with explained("read", path):
        return path.fs.cat_file(path.path)


def put(given: str | Location, data: bytes, *, new: bool = False) -> None:
    """Make or replace an object: whole, or not at all.

    Args:
        given: its URL.
        data: all of it.
        new: only where there is none; the store sees to that, also where two try at once.

    Raises:
        FileExistsError: with `new`, where there is another.
        InputError: where it cannot be written, or the store does not know `new`.
    """
    path = place(given)
    with explained("write", path):
        try:
            path.fs.pipe_file(path.path, data, mode="create" if new else "overwrite")
            return
        except FileExistsError:
            # An answer that was lost: the library asked again, and what is there is ours.
            if path.fs.cat_file(path.path) == data:
                return
    raise FileExistsError(str(path))


def send(file: Path, given: str | Location, *, new: bool = False) -> None:
    """As `put`, of a file of this machine.

    Args:
        file: what to copy.
        given: its URL.
        new: only where there is none.

    Raises:
        InputError: where it cannot be written, or with `new` is there.
    """
    path = place(given)
    with explained("write", path):
        try:
            path.fs.put_file(str(file), path.path, mode="create" if new else "overwrite")
        except FileExistsError as error:
            raise InputError(f"{path} exists: choose another name (--overwrite)") from error


def exists(given: str | Location) -> bool:
    """Whether there is a file, a folder or an object.

    Args:
        given: where.

    Returns:
        True or False.

    Raises:
        InputError: where a store does not say.
    """
    path = place(given)
    if not is_url(path):
        return path.exists()
    with explained("read", path):
        try:
            path.fs.info(path.path)
        except FileNotFoundError:
            return False
    return True


def objects(folder: Location) -> dict[Location, dict[str, Any]]:
    """All that lies below a place in a store.

    Args:
        folder: the place.

    Returns:
        Object -> what the store says of it, its size among that; {} where there is nothing.

    Raises:
        InputError: where it cannot be listed.
    """
    with explained("read", folder):
        try:
            listed = folder.fs.find(folder.path, detail=True)
        except FileNotFoundError:
            folder.fs.ls(folder.path.split("/", 1)[0])  # a bucket that is missing is no empty one
            listed = {}
    made = {folder.fs.unstrip_protocol(name): about for name, about in sorted(listed.items())}
    return {place(url): about for url, about in made.items() if not url.endswith("/")}


def names(folder: Location) -> dict[str, Location]:
    """All that lies below a place in a store, by the rest of its name.

    Args:
        folder: the place.

    Returns:
        'a/b.png' -> object.

    Raises:
        InputError: where it cannot be listed.
    """
    root = f"{folder}".rstrip("/") + "/"
    return {str(path).removeprefix(root): path for path in objects(folder)}
