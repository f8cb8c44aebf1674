"""Small files that are whole at any moment, and what a disk says that has no room left."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk answers that has no room left."""

DRAFT = ".new"
"""Ending of a file that is not whole yet."""


def replace(path: Path, text: str) -> None:
    """Write a text file: there is the old one or the new one at any moment, never a part."""
    draft = path.with_name(path.name + DRAFT)
    with draft.open("w", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def secure_all(paths: Iterable[Path]) -> None:
    """Have files, folders and the names of all on the disk, whatever becomes of the machine.

    Where the disk can do that.
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


def numbered(folder: Path) -> list[int]:
    """What lies in a folder and is called by a whole number, in order: its whole checkpoints."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def disk_full(error: BaseException | None) -> str:
    """What a full disk said, somewhere among an error's causes; '' where it is something else."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}"
        for said in ("No space left on device", "Disk quota exceeded", "File too large"):
            if said in str(error):
                return said
        error = error.__cause__ or error.__context__
    return ""
