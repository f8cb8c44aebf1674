"""Files that are whole at any moment: written beside under another name, synced, then renamed."""

import contextlib
import errno
import os
import secrets
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pdn_jax import places
from pdn_jax.errors import InputError
from pdn_jax.places import Location

DRAFT = ".pdn-"
"""What the names of files begin with that are not whole yet; 17 characters in all."""

ABANDONED = 3600.0
"""Seconds since a draft was last written to from which it is litter, where there are no locks."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk answers that has no room left."""


def check_target(
    path: str | Location, overwrite: bool = False, extensions: Collection[str] = ()
) -> None:
    """Find out before the work is done whether a file can be written.

    Args:
        path: the file.
        overwrite: whether one that is there may be replaced.
        extensions: what its name may end in, small letters; none for anything.

    Raises:
        InputError: for another extension, a missing or unwritable folder, a folder in the file's
            place, or a file that is there already and may not be replaced.
    """
    path = places.place(path)
    if not places.is_url(path) and path.is_dir():
        raise InputError(f"{path} is a folder: give a file name")
    if extensions and path.suffix.lower() not in extensions:
        known = " ".join(extensions)
        raise InputError(f"cannot write {path}: its extension must be one of {known}")
    if not places.is_url(path):  # a store has no folders
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {path.parent}, create it")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            said = f"the folder {path.parent} is not writable ({error.strerror})"
            raise InputError(f"cannot write {path}: {said}") from error
    if not overwrite and places.exists(path):
        raise InputError(f"{path} exists: choose another name or allow it (--overwrite)")


@contextlib.contextmanager
def atomic_write(path: str | Location) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` when the context ends well.

    There is the old file or the new one at any moment, never a part of either. The draft lies in the
    same folder, locked, and is removed where anything is raised; a kill leaves it (see
    `remove_drafts`). To a store it goes in one piece once it is whole.

    Args:
        path: the file to make or to replace; a URL of a store.

    Yields:
        The draft, open for reading and writing; `.name` is its path.

    Raises:
        OSError: what the disk says.
    """
    path = places.place(path)
    if places.is_url(path):
        with tempfile.NamedTemporaryFile("w+b") as file:
            yield file
            file.seek(0)
            places.put(path, file.read())
        return
    draft = path.with_name(f"{DRAFT}{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("x+b") as file:
            lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: str | Location, text: str) -> None:
    """Make or replace a UTF-8 text file through `atomic_write`.

    Args:
        path: the file.
        text: all of it.

    Raises:
        OSError: what the disk says.
    """
    with atomic_write(path) as file:
        file.write(text.encode())


def remove_drafts(folder: str | Location, age: float = 0.0) -> None:
    """Remove what killed writers left in a folder, and nothing that is being written.

    Args:
        folder: not looked through below; in a store nothing is left.
        age: seconds since a draft was last written to, at least.
    """
    if places.is_url(folder):
        return
    for draft in Path(folder).glob(f"{DRAFT}*.tmp"):
        with contextlib.suppress(OSError):  # another may have finished or removed it
            since = time.time() - draft.stat().st_mtime
            with draft.open("rb") as file:
                free = lock(file)
            if since >= age and (since > ABANDONED if free is None else free):
                draft.unlink()


def lock(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed, or its process ends.

    Args:
        file: open.

    Returns:
        Whether it is locked now: False where another has it, None where there are no locks.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def sync_all(paths: Iterable[Location]) -> None:
    """Flush files, folders and their names to the disk, where the disk can do that.

    Args:
        paths: files and folders.

    Raises:
        OSError: what the disk says.
    """
    paths = list(paths)
    for path in [*paths, *{path.parent for path in paths}.difference(paths)]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)


def disk_full(error: BaseException | None) -> str:
    """What a full disk said, somewhere among an error's causes.

    Args:
        error: an exception, or None.

    Returns:
        The disk's words, and the file where they name one; '' where it is something else.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}"
        for words in ("No space left on device", "Disk quota exceeded", "File too large"):
            if words in str(error):
                return words
        error = error.__cause__ or error.__context__
    return ""
