"""Data sets are built in a staging folder, then moved whole into their place.

The process that builds holds its staging folder locked, so that another can tell what a killed
build has left. Where the system or the disk knows no locks, nothing of that kind is removed.
"""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pdn_jax.types import InputError
from train.data.store import find

STAGING, OLDER = ".building-", "older"


def install(build: Callable[[Path], Path], root: Path, *, replace: bool = False) -> Path:
    """Build in a staging folder, then move the whole data set into its place; the place.

    build(staging) -> the data set's folder under staging. Whatever stops this on its way leaves
    what was there before, and no half data set under its name. Where another process has put a
    data set of that name there meanwhile, that one stays, unless `replace`.
    """
    with contextlib.ExitStack() as held:
        try:
            staging = _staging(root, held)
        except OSError as error:
            raise InputError(
                f"{root} cannot be written ({error.strerror}); name another folder with --data-dir"
            ) from error
        try:
            place = build(staging).relative_to(staging)
            with _locked(root):
                there = find(place.parent.name, root)
                if there and not replace:
                    return there
                if (root / place).exists():
                    _move(root, staging / OLDER, place)
                _move(staging, root, place)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{root} cannot be written ({reason}); make room, or name another with --data-dir"
            ) from error
        finally:
            with contextlib.suppress(OSError), _locked(root):
                _restore_older(root, staging)
                shutil.rmtree(staging, ignore_errors=True)
    return root / place


def _staging(root: Path, held: contextlib.ExitStack) -> Path:
    """A new folder to build in, locked until `held` closes."""
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        clear_staging(root)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=root))
        if not held.enter_context(_locked(staging)):
            logging.getLogger(__name__).warning(
                "%s knows no file locks: build one data set at a time there, and remove %s* after a kill",
                *(root, root / STAGING),
            )
    return staging


def clear_staging(root: Path) -> None:
    """Remove what builds left that were killed; those that run hold theirs locked."""
    for folder in root.glob(f"{STAGING}*"):
        with contextlib.suppress(OSError):  # locked, or where there are no locks
            held = _lock(folder)
            _restore_older(root, folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _restore_older(root: Path, staging: Path) -> None:
    """Move an older data set back into its place where the newer did not get there."""
    for older in staging.glob(f"{OLDER}/*/*/*"):
        place = older.relative_to(staging / OLDER)
        if not (root / place).exists():
            _move(staging / OLDER, root, place)


def _move(here: Path, there: Path, place: Path) -> None:
    (there / place).parent.mkdir(parents=True, exist_ok=True)
    (here / place).replace(there / place)


def _lock(folder: Path, wait: bool = False) -> int:
    """Lock a folder until the number returned is closed or its process ends; raises OSError."""
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOTSUP, "no file locks") from error
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(held)
        raise
    return held


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """One process at a time, for moments only; whether that is so, or there are no locks."""
    held = None
    with contextlib.suppress(OSError):
        held = _lock(folder, wait=True)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)
