"""A run folder in a store, held by one process at a time: there are no locks, but `create if absent`.

    RUN/.pdn-held/000007     who holds it, and a count that goes on while they live

The highest number holds. The next one up can be made by one process only, whoever tries at once,
and is made where the holder has let go, is a dead process of this machine, or gave no sign of life
for `SILENCE` seconds. A holder that slept through its own end sees a higher number, or none of its own.
"""

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from pdn_jax import places
from pdn_jax.places import Location
from pdn_jax.types import InputError

FOLDER = ".pdn-held"
BEAT, SILENCE = 5.0, 30.0
"""Seconds between two signs of life, and without one until a holder counts as dead."""


class Held(Exception):
    """Another process holds the folder."""


class TakenOver(InputError):
    """Another process holds what this one held."""


class Lease:
    """A folder held until this is closed; a context. Raises Held where another process holds it.

    Where a store does not know `create if absent` nothing is held.
    """

    def __init__(self, folder: Location):
        self.folder, self._lost, self._closed = folder, False, threading.Event()
        self._seen = time.monotonic()
        self._mine: dict[str, Any] = {"token": secrets.token_hex(8), "beat": 0, **_self()}
        self._object = self._take()
        self._thread = threading.Thread(target=self._live, daemon=True)
        if self._object is not None:
            self._thread.start()

    def check(self, within: float = 0.0) -> None:
        """Raise TakenOver where another process has taken the folder over, as the store says now.

        It is not asked where it said so less than `within` seconds ago.
        """
        if self._object is None or (not self._lost and time.monotonic() - self._seen < within):
            return
        if self._lost or not self._holds():
            raise TakenOver(
                f"another training has taken over {self.folder}, as this one gave no sign of life; "
                "let it end, or name another with --config.run_dir=…"
            )

    def _holds(self) -> bool:
        asked, there = time.monotonic(), _listed(self.folder)
        if not there or there[-1].name != self._object.name:
            return False
        holder = _read(there[-1])
        if holder is None or holder["token"] != self._mine["token"]:
            return False
        self._seen = asked
        return True

    def _take(self) -> Location | None:
        before = _listed(self.folder)
        if before and not self._is_free(before[-1]):
            raise Held(f"{self.folder}")
        number = int(before[-1].name) + 1 if before else 1
        mine = self.folder / FOLDER / f"{number:06}"
        try:
            places.put(mine, json.dumps(self._mine).encode(), new=True)
        except FileExistsError as error:  # another was quicker
            raise Held(f"{self.folder}") from error
        except InputError as error:
            unknown = getattr(error.__cause__, "errno", None) == errno.ENOSYS
            if unknown or isinstance(error.__cause__, (NotImplementedError, TypeError)):
                return None
            raise
        if _listed(self.folder)[-1].name != mine.name:  # begun after one had let go meanwhile
            _remove(mine)
            raise Held(f"{self.folder}")
        for old in before:
            _remove(old)
        return mine

    def _is_free(self, last: Location) -> bool:
        seen = _read(last)
        if seen is None or _is_dead(seen):
            return True
        until = time.monotonic() + SILENCE
        while time.monotonic() < until:
            time.sleep(min(1.0, SILENCE / 10))
            now = _read(last)
            if now != seen:
                return now is None
        return True

    def _live(self) -> None:
        while not self._closed.wait(BEAT):
            with contextlib.suppress(InputError):  # it may answer the next time
                if not self._holds():
                    self._lost = True
                    return _remove(self._object)  # which a late sign of life may have made again
                self._mine["beat"] += 1
                places.put(self._object, json.dumps(self._mine).encode())

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()
        if self._object is not None:
            self._thread.join()
            if not self._lost:
                _remove(self._object)


def _listed(folder: Location) -> list[Location]:
    return sorted(places.objects(folder / FOLDER), key=lambda path: path.name)


def _read(path: Location) -> dict[str, Any] | None:
    """What a holder says; None where it has let go."""
    if not places.exists(path):
        return None
    return dict(json.loads(places.read(path)))


def _remove(path: Location) -> None:
    with contextlib.suppress(FileNotFoundError, InputError), places.explained("write", path):
        path.fs.rm_file(path.path)


def _self() -> dict[str, Any]:
    """This process, as another of this machine can tell that it has ended."""
    machine = socket.gethostname()
    with contextlib.suppress(OSError):  # Linux; containers have process numbers of their own
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{machine} {boot} {os.readlink('/proc/self/ns/pid')}"
    return {"machine": machine, "pid": os.getpid(), "since": _since(os.getpid())}


def _since(pid: int) -> str:
    """When a process began, '' where that cannot be told or it is no more."""
    with contextlib.suppress(OSError, IndexError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else rest[18]
    return ""


def _is_dead(holder: dict[str, Any]) -> bool:
    mine = _self()
    return (
        mine["since"] != ""
        and holder["machine"] == mine["machine"]
        and _since(holder["pid"]) != holder["since"]
    )
