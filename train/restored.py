"""What is read back of a checkpoint: the train state as it was written, or the reason why not."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train.sealed import StateHandler, digest, fingerprint, layout, read_seal


class Damaged(Exception):
    """A checkpoint that is not what was written; may_pass: or a disk that cannot be read just now.

    state: the train state, where that is what was written.
    """

    def __init__(self, reason: str, *, state: Any = None, may_pass: bool = False):
        super().__init__(reason)
        self.state, self.may_pass = state, may_pass


def sound_state(folder: Path, like: Any) -> Any:
    """The state of a checkpoint's folder, shaped as `like`; raises Damaged where it is not sound.

    Raises InputError where it is of another config.
    """
    shapes = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    seal = _read(lambda: read_seal(folder / "seal"))
    if seal["layout"] != layout(shapes):
        raise InputError(
            f"{folder} does not hold the state of this config; "
            "resume with the config it was written with"
        )
    for path in (folder / "state").rglob("*"):
        if path.is_file():  # orbax's errors do not say whether it was the disk, those of Python do
            _read(path.read_bytes)
    plan = ocp.checkpoint_utils.construct_restore_args(shapes)
    wanted = ocp.args.PyTreeRestore(shapes, restore_args=plan)
    state = _read(lambda: StateHandler().restore(folder / "state", args=wanted))
    if digest(state) != seal["state"]:
        raise Damaged("what is read is not what was written")
    try:
        weights = _read(lambda: weight_files.load(folder / "weights"))
    except Damaged as error:
        raise Damaged(str(error), state=state, may_pass=error.may_pass) from error
    if fingerprint(weights) != seal["weights"]:
        raise Damaged("its weights are not those that were written", state=state)
    return state


def _read(task: Callable[[], Any]) -> Any:
    """What a task reads; raises Damaged, after a second try where the disk or the memory refuses."""
    for last in (False, True):
        try:
            return task()
        except Exception as error:
            cause = error.__cause__ if isinstance(error, InputError) else error
            passing = isinstance(cause, OSError | MemoryError)
            passing = passing and not isinstance(cause, FileNotFoundError)
            if last or not passing:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise Damaged(reason, may_pass=passing) from error
            time.sleep(1.0)
