"""What a survey has seen already, a line each in the cache, so that a stop costs little.

A line counts where its record has the same files, of the same size and time, as it had then.
"""

import contextlib
import hashlib
import json
from pathlib import Path

from pdn_jax.types import InputError
from train.data.prepare.folders import Refused
from train.data.prepare.image_stats import Facts, Surveyed
from train.data.prepare.listing import Record

Result = tuple[Surveyed | None, list[Refused]]


class Journal:
    """The results of a survey by their records' keys; a context. None for a file keeps nothing."""

    def __init__(self, path: Path | None):
        self.path, self._places = path, {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        at = 0
        for line in self._file:
            if line.endswith(b"\n"):  # not one that a stop has cut short
                self._places[bytes.fromhex(line[:32].decode())] = at
            at += len(line)
        if at and not line.endswith(b"\n"):
            self._file.write(b"\n")

    def known(self, kind: str, record: Record) -> Result | None:
        """What was seen of a record as it is now; None where nothing was."""
        at = self._places.get(_key(kind, record)) if self.path else None
        if at is None:
            return None
        self._file.seek(at)
        seen = json.loads(self._file.readline()[32:])
        refused = [Refused(*one) for one in seen["refused"]]
        if seen["frames"] is None:
            return None, refused
        frames = tuple(Facts(*frame) for frame in seen["frames"])
        return Surveyed(record, frames, seen["edges"], seen["bright"]), refused

    def keep(self, kind: str, record: Record, result: Result) -> None:
        """Write down what was seen."""
        if self.path is None:
            return
        surveyed, refused = result
        seen = {
            "frames": surveyed and surveyed.frames,
            "edges": surveyed and surveyed.edges,
            "bright": surveyed.bright if surveyed else 0,
            "refused": refused,
        }
        line = f"{_key(kind, record).hex()}{json.dumps(seen)}\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path} cannot be written ({error.strerror})") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        if self.path is not None:
            self._file.close()


def _key(kind: str, record: Record) -> bytes:
    files = []
    for path in record.files:
        with contextlib.suppress(OSError):  # reading it says what is wrong
            status = path.stat()
            files.append([str(path), status.st_size, status.st_mtime_ns])
    text = json.dumps([kind, record.name, files])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
