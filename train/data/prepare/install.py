"""Data sets are built in a staging folder, then moved whole into their place.

The process that builds holds its staging folder locked, so that another can tell what a killed
build has left. Where the system or the disk knows no locks, nothing of that kind is removed.

Into a store it is carried file by file from a folder of this machine, `metadata.json` last, without
which there is no data set of that name; a lease keeps others away meanwhile.
"""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pdn_jax import places
from pdn_jax.places import Location
from pdn_jax.types import InputError
from train import leases
from train.data.store import find
from train.locks import locked

STAGING, OLDER = ".building-", "older"
LAST = "metadata.json"
"""The file that makes a data set in a store count."""


def install(build: Callable[[Path], Path], root: Location, *, replace: bool = False) -> Location:
    """Build in a staging folder, then move the whole data set into its place; the place.

    build(staging) -> the data set's folder under staging. Whatever stops this on its way leaves
    what was there before, and no half data set under its name. Where another process has put a
    data set of that name there meanwhile, that one stays, unless `replace`.
    """
    if places.is_url(root):
        return _into_store(build, root, replace)
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


def _into_store(build: Callable[[Path], Path], root: Location, replace: bool) -> Location:
    with tempfile.TemporaryDirectory(prefix=STAGING) as staging:
        built = build(Path(staging))
        place = root.joinpath(*built.relative_to(staging).parts)
        try:
            with leases.Lease(place):
                there = find(place.parent.name, root)
                if there and not replace:
                    return there
                written = sorted(built.rglob("*"), key=lambda path: path.name == LAST)
                names = [path.relative_to(built).as_posix() for path in written if path.is_file()]
                old = [path for path in places.objects(place) if leases.FOLDER not in path.parts]
                for path in sorted(old, key=lambda path: path.name != LAST):
                    with places.explained("write", path):
                        path.fs.rm_file(path.path)
                for name in names:
                    places.send(built / name, place / name)
        except leases.Held as error:
            raise InputError(f"another process is writing {place}: let it end") from error
    return place


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
