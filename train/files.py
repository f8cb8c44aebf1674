"""Small files that are whole at any moment, and what a disk says that has no room left."""

import errno
import os
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
        secure(file)
    draft.replace(path)


def secure(file) -> None:
    """Have what was written to an open file on the disk, whatever becomes of the machine."""
    file.flush()
    os.fsync(file.fileno())


def secure_folder(folder: Path) -> None:
    """The same for all that lies in a folder, and for its name, where the disk can do that."""
    for path in [*folder.rglob("*"), folder, folder.parent]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)


def disk_full(error: BaseException | None) -> str:
    """What a full disk said, somewhere among an error's causes; '' where it is something else."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return str(error.strerror)
        for said in ("No space left on device", "Disk quota exceeded", "File too large"):
            if said in str(error):
                return said
        error = error.__cause__ or error.__context__
    return ""
