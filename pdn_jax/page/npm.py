"""Packages of JavaScript that are not ours: one version each, checked, kept in the user's cache."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pdn_jax import user_cache
from pdn_jax.errors import InputError


class Package(NamedTuple):
    """A package of one version, and the SHA-512 of its archive."""

    name: str
    version: str
    digest: str


RUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
"""What runs ONNX files in a browser."""


def cache() -> Path:
    """Where archives are kept."""
    return user_cache.own() / "npm"


def archive(package: Package, folder: Path) -> Path:
    """The archive of a package, fetched by npm if it is not there.

    Args:
        package: which.
        folder: where archives are kept.

    Returns:
        Its path.

    Raises:
        InputError: npm is missing, it brings nothing or something else, or the disk refuses.
    """
    try:
        return _archive(package, folder)
    except OSError as error:
        raise InputError(
            f"cannot keep {package.name} in {folder}: {error.strerror}; make room or allow it"
        ) from error


def _archive(package: Package, folder: Path) -> Path:
    path = folder / f"{package.name}-{package.version}.tgz"
    if path.is_file() and digest(path) == package.digest:
        return path
    npm, wanted = shutil.which("npm"), f"{package.name}@{package.version}"
    if npm is None:
        raise InputError(f"the page needs npm to bring {wanted}: install Node.js, which has it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        command = [npm, "pack", wanted, "--silent", "--pack-destination", draft]
        done = subprocess.run(command, capture_output=True, text=True, cwd=draft)
        archives = list(Path(draft).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            lines = (done.stderr or done.stdout).strip().splitlines()
            reason = lines[-1] if lines else "npm says nothing"
            raise InputError(f"npm cannot bring {wanted} ({reason}): see to its network")
        if digest(archives[0]) != package.digest:
            raise InputError(f"npm brought another {wanted} than the known one: nothing is kept")
        archives[0].replace(path)
    return path


def digest(path: Path) -> str:
    """The SHA-512 of a file.

    Args:
        path: of it.

    Returns:
        In base64, as npm writes it.
    """
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def unpacked(path: Path, members: Mapping[str, str]) -> dict[str, bytes]:
    """Files of an archive.

    Args:
        path: of the archive.
        members: name in it -> name to give it.

    Returns:
        What they hold, by the names given.
    """
    with tarfile.open(path) as package:
        return {name: package.extractfile(member).read() for member, name in members.items()}
