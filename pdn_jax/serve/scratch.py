"""A folder for what is being worked on: gone at exit, or at the next start after a kill."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pdn_jax import files, user_cache
from pdn_jax.errors import InputError

OWNER = ".pdn-owner"
"""A file in each such folder that is locked for as long as its process lives."""


def place() -> Path:
    """Where such folders lie: in the user's own cache folder."""
    return user_cache.own() / "serve"


@contextlib.contextmanager
def scratch(parent: str | Path) -> Iterator[Path]:
    """A new folder that only this user can open; those that killed processes left are removed.

    Args:
        parent: where it is made, a folder for nothing else.

    Yields:
        The folder, removed with all in it when the context ends.

    Raises:
        InputError: where the disk refuses.
    """
    parent = Path(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        owner = (folder / OWNER).open("xb")
    except OSError as error:
        raise InputError(
            f"cannot keep photographs in {parent}: {error.strerror}; make room or allow it"
        ) from error
    with owner:
        files.lock(owner)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders whose processes do not live any more.

    Args:
        parent: where they are.
    """
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):  # another start may be removing it
            old = time.time() - folder.stat().st_mtime > files.ABANDONED
            owner = folder / OWNER
            free = None  # as where there are no locks, or it is being made
            if owner.exists():
                with owner.open("rb") as file:
                    free = files.lock(file)
            if old if free is None else free:
                shutil.rmtree(folder, ignore_errors=True)
