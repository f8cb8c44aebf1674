"""The folder of a run: made new, or the one of the same run; what it was started with is kept there."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pdn_jax.types import InputError
from train import datasets

FREE = (
    *("resume", "run_dir", "log", "checkpoint", "parallel", "train.learning_rate"),
    *("data.threads", "data.workers", "data.cache", "debug"),
)
"""Options that may differ between a run and its resumption. Resuming is exact with any of these but
the learning rate, which is there for a run that diverged."""


def check(config) -> None:
    """Raise InputError for a run folder that exists without config.resume, or is of another run.

    With config.resume a folder that does not exist is a run that has yet to begin, so that the
    same command starts and goes on.
    """
    run_dir = Path(config.run_dir)
    path = run_dir / "config.json"
    if not run_dir.exists():
        return
    if not config.resume:
        raise InputError(
            f"run folder {run_dir} exists; go on with --config.resume=true, "
            "or name another with --config.run_dir=…"
        )
    changed = differences(_read(path), json.loads(_text(config.to_dict())))
    if changed:
        raise InputError(
            f"{path} was written with other options ({', '.join(changed)}); "
            "resume with the same, or start a new run with --config.run_dir=…"
        )


def make(config, splits: Sequence[datasets.Split]) -> Path:
    """Make the run folder, with config.json, and data.json: fingerprints of the splits that it uses.

    Raises InputError where that cannot be, and where a split is no longer what it was when the run
    began.
    """
    run_dir = Path(config.run_dir)
    data, used = run_dir / "data.json", {f"{s.name}/{s.split}": fingerprint(s) for s in splits}
    before = _read(data) if data.exists() else used
    changed = [name for name in used if before.get(name) != used[name]]
    if changed:
        raise InputError(
            f"{', '.join(changed)}: not the photographs that {run_dir} began with; "
            "prepare them as they were, or start a new run with --config.run_dir=…"
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for path, content in ((run_dir / "config.json", config.to_dict()), (data, used)):
            draft = path.with_suffix(".json.new")
            draft.write_text(_text(content))
            draft.replace(path)
    except OSError as error:
        raise InputError(
            f"run folder {run_dir} cannot be written ({error.strerror}); "
            "name another with --config.run_dir=…"
        ) from error
    return run_dir


def fingerprint(split: datasets.Split) -> str:
    """A digest of its photographs' names, order and content."""
    return hashlib.blake2b(json.dumps(split.examples).encode(), digest_size=16).hexdigest()


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Keys whose values differ, those of `FREE` aside."""
    changed = []
    for key in sorted(old.keys() | new.keys()):
        if prefix + key in FREE:
            continue
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key}: {a} there, {b} here")
    return changed


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
