"""Data sets are built in a staging folder, then moved whole into their place.

The process that builds holds its staging folder locked, so that another can tell what a killed
build has left. Where the system or the disk knows no locks, nothing of that kind is removed.
"""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pdn_jax.types import InputError
from train.data.store import find
from train.locks import locked

STAGING, OLDER = ".building-", "older"


def install(build: Callable[[Path], Path], root: Path, *, replace: bool = False) -> Path:
    """Build in a staging folder, then move the whole data set into its place; the place.

    build(staging) -> the data set's folder under staging. Whatever stops this on its way leaves
    what was there before, and no half data set under its name. Where another process has put a
    data set of that name there meanwhile, that one stays, unless `replace`.
    """
    try:
        with contextlib.ExitStack() as until:
            staging = _staging(root, until)
            until.callback(_clear, root, staging)
            place = build(staging).relative_to(staging)
            with locked(root):
                there = find(place.parent.name, root)
                if there and not replace:
                    return there
                if (root / place).exists():
                    _move(root, staging / OLDER, place)
                _move(staging, root, place)
    except OSError as error:
        raise InputError(
            f"{root} cannot be written ({error.strerror or error}); make room, "
            "or name another folder with --data-dir"
        ) from error
    return root / place


def _staging(root: Path, until: contextlib.ExitStack) -> Path:
    """A new folder to build in, locked until `until` closes."""
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        clear_staging(root)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=root))
        if not until.enter_context(locked(staging)):
            logging.getLogger(__name__).warning(
                "%s knows no file locks: build one data set at a time there, and remove %s* after a kill",
                *(root, root / STAGING),
            )
    return staging


def clear_staging(root: Path) -> None:
    """Remove what builds left that were killed; those that run hold theirs locked."""
    for folder in root.glob(f"{STAGING}*"):
        with contextlib.suppress(OSError), locked(folder, wait=False) as is_held:
            if is_held:
                _remove(root, folder)


def _clear(root: Path, staging: Path) -> None:
    with contextlib.suppress(OSError), locked(root):
        _remove(root, staging)


def _remove(root: Path, staging: Path) -> None:
    """Remove a staging folder; an older data set goes back where the newer did not get there."""
    for older in staging.glob(f"{OLDER}/*/*/*"):
        place = older.relative_to(staging / OLDER)
        if not (root / place).exists():
            _move(staging / OLDER, root, place)
    shutil.rmtree(staging, ignore_errors=True)


def _move(here: Path, there: Path, place: Path) -> None:
    (there / place).parent.mkdir(parents=True, exist_ok=True)
    (here / place).replace(there / place)
