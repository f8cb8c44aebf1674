"""Compiled programs on disk, so that no process compiles what another has compiled.

They lie in the user's cache folder, or where `PDN_JAX_CACHE` says; "off" there means none. An entry
is named by a hash of all that it depends on (`fingerprint`), so nothing else can take it. Processes
side by side share the folder: entries are renamed into place whole, and a damaged one counts as
missing. What was not used for longest goes when they are over `LIMIT`.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import platform
import sys
from pathlib import Path

from pdn_jax.files import atomic_write
from pdn_jax.user_cache import VARIABLE as VARIABLE
from pdn_jax.user_cache import own

LIMIT = 256 * 2**20
"""Bytes of entries that are kept."""

SUFFIX = ".program"
"""How the names of entries end."""

DIGEST = 16
"""Bytes at the head of an entry that say whether the rest is whole."""

OPTIONS = ("jax_default_matmul_precision", "jax_enable_x64")
"""Options of jax, also environment variables, that change what is compiled."""

logger = logging.getLogger(__name__)
"""Says what is kept, and what is not."""


class Cache:
    """A folder of entries, bytes by name; what fails there is said once and leaves it unused."""

    def __init__(self, folder: str | Path | None, limit: int = LIMIT):
        """folder: made when first written to; None keeps nothing. limit: bytes of all entries."""
        self.folder = None if folder is None else Path(folder)
        self.limit = limit

    def read(self, name: str) -> bytes | None:
        """An entry.

        Args:
            name: as the function `name` gives it.

        Returns:
            What was written, or None where there is no entry that is whole.
        """
        if self.folder is None:
            return None
        path = self.folder / (name + SUFFIX)
        try:
            data = path.read_bytes()
            with contextlib.suppress(OSError):  # a folder that may only be read
                os.utime(path)
        except OSError:
            return None
        digest, content = data[:DIGEST], data[DIGEST:]
        return content if digest == _digest(content) else None

    def write(self, name: str, content: bytes) -> None:
        """Keep an entry; where the disk refuses, log one line, and try no more.

        Args:
            name: as the function `name` gives it.
            content: any bytes.
        """
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.folder / (name + SUFFIX)) as file:
                file.write(_digest(content) + content)
            self._evict()
        except OSError as error:
            logger.warning(
                "pdn_jax: compiled programs are not kept in %s: %s (%s names another folder)",
                self.folder,
                error.strerror,
                VARIABLE,
            )
            self.folder = None

    def _evict(self) -> None:
        entries = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process was faster
                facts = path.stat()
                entries.append((facts.st_mtime, facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= size


def default() -> Cache:
    """The cache that `PDN_JAX_CACHE` asks for, else the one in the user's cache folder."""
    named = os.environ.get(VARIABLE, "")
    if named.lower() == "off":
        return Cache(None)
    if named:
        return Cache(named)
    try:
        return Cache(own() / "programs")
    except (OSError, RuntimeError):  # nobody's home
        return Cache(None)


def name(*facts: object) -> str:
    """What an entry is called that depends on some facts and on `fingerprint`.

    Args:
        *facts: whatever JSON can write.

    Returns:
        A hash, in letters and digits.
    """
    text = json.dumps([fingerprint(), *facts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def fingerprint() -> list[str]:
    """What decides, beside a program itself, what it is compiled to and whether it can run here."""
    flags = [f"{key}={os.environ.get(key, '')}" for key in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    if "jax" not in sys.modules:  # then it is the CPU: see `executable`
        options = [os.environ.get(option.upper(), "") for option in OPTIONS]
        return [*_build(), *flags, "cpu", *options]
    import jax

    device = jax.local_devices()[0]
    described = (device.platform, device.device_kind, device.client.platform_version)
    options = [_text(getattr(jax.config, option)) for option in OPTIONS]
    return [*_build(), *flags, *(("cpu",) if device.platform == "cpu" else described), *options]


def _text(option: object) -> str:
    return str(option) if option else ""


@functools.cache
def _build() -> tuple[str, ...]:
    """Our own source, versions, and the machine."""
    here = Path(__file__).parent
    source = hashlib.blake2b(digest_size=16)
    for path in sorted((*here.glob("*.py"), *here.glob("weights/*/*.stablehlo"))):
        source.update(path.read_bytes())
    for package in ("jax", "jaxlib"):  # neither is imported for it
        origin = importlib.util.find_spec(package).origin
        source.update(Path(origin).with_name("version.py").read_bytes())
    return (source.hexdigest(), *machine())


def machine() -> tuple[str, ...]:
    """Processor, what it can do, and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [platform.system(), platform.machine(), platform.processor(), f"{cores} cores"]
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
        facts += [
            " ".join(line.split())
            for line in text.splitlines()
            if line.partition(":")[0].strip() in wanted
        ]
    return tuple(facts)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()
