"""The folder of a run: made new, or the one of the same run; what it was started with is kept there."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from pdn_jax.types import InputError
from train import distributed, files
from train.data import store
from train.options import differences

FREE = (
    *("resume", "run_dir", "log", "checkpoint", "parallel", "train.learning_rate"),
    *("data.directory", "data.threads", "data.workers", "data.cache", "debug"),
)
"""Options that may differ between a run and its resumption. Resuming is exact with any of these but
two: other devices agree to rounding, and the learning rate is there for a run that diverged."""

DRAFTS = (
    *(f"{name}{files.DRAFT}" for name in ("config.json", "data.json", "metrics.csv")),
    *(f"evaluation.csv{files.DRAFT}", ".weights.safetensors.*.tmp", ".stages.png.*.tmp"),
)
"""Names of what a training writes, half written, as a kill may leave it."""


def check(config) -> None:
    """Raise InputError for a run folder that exists without config.resume, or is of another run.

    With config.resume a folder that does not exist is a run that has yet to begin, so that the
    same command starts and goes on. So is an empty one, and one that a kill left without options.
    """
    run_dir = Path(config.run_dir)
    path = run_dir / "config.json"
    if not run_dir.exists() or _has_not_begun(run_dir):
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
    found = {f"{split.name}/{split.split}": fingerprint(split) for split in splits}
    if config.data.physics:
        found["data.physics"] = _digest(Path(config.data.physics).read_bytes())
    return found


def make(config, data: dict[str, str]) -> Path:
    """Make the run folder, with config.json, and what it uses (`used`) in data.json.

    What a kill left half written there is removed. Raises InputError where that cannot be, where
    another training holds it, and where the data is no longer what it was when the run began.
    """
    run_dir = Path(config.run_dir)
    kept = run_dir / "data.json"
    before = _read(kept) if kept.exists() else data
    changed = [name for name in data if before.get(name, data[name]) != data[name]]
    if changed:
        raise InputError(
            f"{', '.join(changed)}: not what {run_dir} began with; "
            "prepare them as they were, or start a new run with --config.run_dir=…"
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with held(run_dir):
            for pattern in DRAFTS:
                for path in run_dir.glob(pattern):
                    path.unlink(missing_ok=True)
            for path, content in ((kept, data), (run_dir / "config.json", config.to_dict())):
                if not path.exists() or path.read_text() != _text(content):
                    files.replace(path, _text(content))
    except OSError as error:
        if files.disk_full(error):
            raise _full(run_dir, error) from error
        raise InputError(
            f"run folder {run_dir} cannot be written ({error.strerror}); "
            "name another with --config.run_dir=…"
        ) from error
    return run_dir


def _has_not_begun(run_dir: Path) -> bool:
    """Whether a folder is empty, but for what `make` leaves where it is killed."""
    made = {"data.json", "data.json" + files.DRAFT, "config.json" + files.DRAFT}
    return run_dir.is_dir() and {path.name for path in run_dir.iterdir()} <= made


def held(run_dir: Path) -> contextlib.ExitStack:
    """Hold a run folder until this is closed; raises InputError where another training does.

    A disk that knows no locks holds nothing.
    """
    handle, until = os.open(run_dir, os.O_RDONLY), contextlib.ExitStack()
    until.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        until.close()
        raise InputError(
            f"another training is at work in run folder {run_dir}; let it end, "
            "or name another with --config.run_dir=…"
        ) from error
    except OSError:
        pass
    return until


def check_shared(run_dir: Path, seconds: float = 30.0) -> None:
    """Raise InputError on every process where one does not see what process 0 puts into a folder.

    seconds: for disks that take a while to show what another host has written.
    """
    if jax.process_count() == 1:
        return
    sign = run_dir / distributed.told(f".met-{secrets.token_hex(8)}")

    def put():
        try:
            sign.touch()
        except OSError as error:
            raise InputError(f"{sign} cannot be written ({error.strerror})") from error

    def look():
        until = time.monotonic() + seconds
        while not sign.exists():
            if time.monotonic() > until:
                raise InputError(
                    f"process {jax.process_index()} does not see the run folder {run_dir} that "
                    "process 0 writes to; put run_dir on a disk that all hosts share"
                )
            time.sleep(0.2)

    distributed.first(put)
    try:
        distributed.together(look)
    finally:
        if distributed.is_first():
            sign.unlink()


@contextlib.contextmanager
def full_disk_told(run_dir: Path) -> Iterator[None]:
    """Raise InputError for what a full disk answers within, through whatever library."""
    try:
        yield
    except Exception as error:
        if not files.disk_full(error) or "make room" in str(error):
            raise
        raise _full(run_dir, error) from error


def _full(run_dir: Path, error: Exception) -> InputError:
    steps = files.numbered(run_dir / "checkpoints")
    last = f"{run_dir}/checkpoints/{steps[-1]}" if steps else "none was written"
    return InputError(
        f"the disk of run folder {run_dir} is full ({files.disk_full(error)}); last whole checkpoint: "
        f"{last}; make room, then go on with --config.resume=true"
    )


def fingerprint(split: store.Split) -> str:
    """A digest of its photographs' names, order and content."""
    return _digest(json.dumps(split.examples).encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read, so {path.parent} is no run to resume; "
            "name another with --config.run_dir=…"
        ) from error


def _text(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
