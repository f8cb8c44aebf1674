"""The folder of a run: made new, or the one of the same run; what it was started with is kept there."""

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from rich.console import Console

from pdn_jax import files, places
from pdn_jax.places import Location
from pdn_jax.types import InputError
from train import distributed, leases
from train.config import differences
from train.data import store
from train.locks import locked

FREE = (
    *("resume", "run_dir", "log", "checkpoint", "parallel", "train.learning_rate"),
    *("data.directory", "data.threads", "data.workers", "data.cache", "debug"),
)
"""Options that may differ between a run and its resumption. Resuming is exact with any of these but
two: other devices agree to rounding, and the learning rate is there for a run that diverged."""

OPTIONS, DATA = "config.json", "data.json"
"""What a run was started with: its options, and the digests of its photographs."""

RUN_ID = "run-id"
"""In a store: this run and no other of its name."""

CHECKPOINTS = "checkpoints"


def check(config) -> None:
    """Raise InputError for a run folder that exists without config.resume, or is of another run.

    With config.resume a folder that does not exist is a run that has yet to begin, so that the
    same command starts and goes on. So is an empty one, and one that a kill left without options.
    """
    run_dir = places.place(config.run_dir)
    path = run_dir / OPTIONS
    if _has_not_begun(run_dir):
        return
    if not config.resume:
        raise InputError(
            f"run folder {run_dir} exists; go on with --config.resume=true, "
            "or name another with --config.run_dir=…"
        )
    changed = differences(_read(path), config.to_dict(), FREE)
    if changed:
        raise InputError(
            f"{path} was written with other options ({', '.join(changed)}); "
            "resume with the same, or start a new run with --config.run_dir=…"
        )


def used(config, splits: Sequence[store.Split]) -> dict[str, str]:
    """Fingerprints by name of the splits that a run uses, and of its calibrated camera."""
    known = {f"{split.name}/{split.split}": fingerprint(split) for split in splits}
    physics = config.data.physics
    return known | ({"data.physics": digest(places.read(physics))} if physics else {})


def make(config, data: dict[str, str]) -> Location:
    """Make the run folder, with config.json, and what it uses (`used`) in data.json.

    What a kill left half written there is removed. Raises InputError where that cannot be, where
    another training holds it, and where the data is no longer what it was when the run began.
    """
    run_dir = places.place(config.run_dir)
    known = run_dir / DATA
    before = _read(known) if places.exists(known) else data
    changed = [name for name in data if before.get(name, data[name]) != data[name]]
    if changed:
        raise InputError(
            f"{', '.join(changed)}: not what {run_dir} began with; "
            "prepare them as they were, or start a new run with --config.run_dir=…"
        )
    try:
        with disk_full_explained(run_dir):
            if not places.is_url(run_dir):
                run_dir.mkdir(parents=True, exist_ok=True)
            with held(run_dir):
                files.remove_drafts(run_dir)
                for path, content in ((known, data), (run_dir / OPTIONS, config.to_dict())):
                    text = json.dumps(content, indent=2) + "\n"
                    if not places.exists(path) or places.read(path) != text.encode():
                        files.write_text(path, text)
    except OSError as error:
        raise InputError(
            f"run folder {run_dir} cannot be written ({error.strerror}); "
            "name another with --config.run_dir=…"
        ) from error
    return run_dir


def _has_not_begun(run_dir: Location) -> bool:
    """Whether there is no folder, or an empty one, but for what `make` leaves where it is killed."""
    if places.is_url(run_dir):
        names = list(places.names(run_dir))
    else:
        names = [path.name for path in run_dir.glob("*")]
    return all(name == DATA or name.startswith(files.DRAFT) for name in names)


def held(run_dir: Location) -> contextlib.AbstractContextManager:
    """Hold a run folder until this is closed; raises InputError where another training does.

    Where system or disk know no locks nothing is held; in a store it is held by a lease.
    """
    until = contextlib.ExitStack()
    try:
        if places.is_url(run_dir):
            return leases.Lease(run_dir)
        until.enter_context(locked(run_dir, wait=False))
    except (BlockingIOError, leases.Held) as error:
        raise InputError(
            f"another training is at work in run folder {run_dir}; let it end, "
            "or name another with --config.run_dir=…"
        ) from error
    return until


def set_aside(run_dir: Path, console: Console) -> None:
    """Move what a run without a checkpoint has left to earlier-N, and say so; it starts from step 0.

    Its options stay.
    """
    stay = (OPTIONS, DATA, RUN_ID, CHECKPOINTS)
    left = [
        path
        for path in sorted(run_dir.iterdir())
        if path.name not in stay and not path.name.startswith(("earlier-", files.DRAFT))
    ]
    if not left:
        return
    places = (run_dir / f"earlier-{number}" for number in itertools.count(1))
    aside = next(path for path in places if not path.exists())
    aside.mkdir()
    for path in left:
        path.rename(aside / path.name)
    console.print(
        f"no checkpoint is in {run_dir}: starting from step 0; what was there is in {aside}",
        soft_wrap=True,
    )


def check_shared(run_dir: Location, seconds: float = 30.0) -> None:
    """Raise InputError on every process where one does not see what process 0 puts into a folder.

    seconds: for disks that take a while to show what another host has written.
    """
    if jax.process_count() == 1:
        return
    sign = run_dir / distributed.broadcast_json(f".met-{secrets.token_hex(8)}")

    def put():
        try:
            places.put(sign, b"") if places.is_url(sign) else sign.touch()
        except OSError as error:
            raise InputError(f"{sign} cannot be written ({error.strerror})") from error

    distributed.first(put)
    try:
        with distributed.same_outcome():
            until = time.monotonic() + seconds
            while not places.exists(sign):
                if time.monotonic() > until:
                    raise InputError(
                        f"process {jax.process_index()} does not see the run folder {run_dir} that "
                        "process 0 writes to; put run_dir on a disk that all hosts share"
                    )
                time.sleep(0.2)
    finally:
        if distributed.is_first():
            sign.unlink()


@contextlib.contextmanager
def disk_full_explained(run_dir: Path) -> Iterator[None]:
    """Raise InputError for what a full disk answers within, through whatever library."""
    try:
        yield
    except Exception as error:
        said = files.disk_full(error)
        if not said or "make room" in str(error):
            raise
        raise InputError(
            f"the disk of run folder {run_dir} is full ({said}); last whole checkpoint: "
            f"{newest(run_dir / CHECKPOINTS)}; make room, then go on with --config.resume=true"
        ) from error


def check_room(folder: Path, size: int) -> None:
    """Raise OSError where the disk has no room for so many bytes, and can say so.

    Orbax finds it out array by array, with a traceback each.
    """
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno in files.FULL:
                    raise


def numbered(folder: Path) -> list[int]:
    """What lies in a folder and is called by a whole number, in order: its whole checkpoints."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def newest(folder: Path) -> str:
    """Where the newest whole checkpoint of a folder lies, for a message."""
    steps = numbered(folder)
    return str(folder / str(steps[-1])) if steps else "none was written"


def fingerprint(split: store.Split) -> str:
    """A digest of its photographs' names, order and content."""
    return digest(json.dumps(split.examples).encode())


def digest(content: bytes) -> str:
    """What files and settings are compared by."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read(path: Location) -> dict:
    try:
        return dict(json.loads(places.read(path)))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read, so {path.parent} is no run to resume; "
            "name another with --config.run_dir=…"
        ) from error
