"""A whole command as a process of its own: how long it took and what memory it held."""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pdn_jax.types import InputError


class Run(NamedTuple):
    """Wall-clock seconds of a command, and bytes of memory that it held at most."""

    seconds: float
    memory: int


def timed(command: list, folder: Path, environment: dict | None = None, code: int = 0) -> Run:
    """Run a command in a folder; raises InputError where it ends with another exit code."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=environment, stdout=said, stderr=said
        )
        memory = 0
        while process.poll() is None:
            memory = max(memory, held(process.pid))
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        if process.returncode != code:
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines()
            raise InputError(
                f"{' '.join(map(str, command[:6]))} … ended with {process.returncode}, not {code}: "
                f"{words[-1] if words else 'without a word'}"
            )
    return Run(seconds, memory)


def held(pid: int) -> int:
    """Bytes that a process has held at most so far, on Linux; 0 elsewhere.

    Not what wait4(2) says: that counts what its parent held before it, and this one makes photographs.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else 0
