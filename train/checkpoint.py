"""Checkpoints of the whole train state, through orbax: written beside the training, whole or not at all.

    checkpoints/STEP/state      the train state                      (orbax, uncompressed)
    checkpoints/STEP/weights    the averaged weights, for `enhance`  (safetensors)
    checkpoints/STEP/seal       digests of both, and their layout    (json)

A checkpoint is trusted only where what is read back has the digests that it was sealed with.
"""

import errno
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from rich.console import Console

from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train.sealed import SealHandler, SealSave, WeightsHandler, WeightsSave, digest, layout

FOLDER = "checkpoints"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk answers that has no room left."""


class Manager(ocp.CheckpointManager):
    """Orbax's own, which leaves it to the loop to ask for a preemption: JAX counts who asks."""

    def reached_preemption(self, step: int) -> bool:
        """Orbax's hook."""
        return False


class Checkpoints:
    """The checkpoints of one run folder; a context that waits for writes under way when it ends.

    Kept are the newest `keep`, the best by dev PSNR, and with `keep_every` each whose step divides
    by it.
    """

    def __init__(self, run_dir: Path, *, keep: int, keep_every: int = 0, console: Console):
        policies = ocp.checkpoint_managers
        kept = [policies.LatestN(keep)]
        kept.append(
            policies.BestN(
                get_metric_fn=lambda metrics: metrics["psnr"],
                n=1,
                keep_checkpoints_without_metrics=False,
            )
        )
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        self.folder = (run_dir / FOLDER).resolve()
        self.console = console
        logging.set_verbosity(logging.FATAL)  # what orbax logs of an error, it raises too
        hush_late_answers()
        self._manager = Manager(
            self.folder,
            item_handlers={
                # floats hardly shrink, and the training wants the processor
                "state": ocp.PyTreeCheckpointHandler(use_compression=False),
                "weights": WeightsHandler(),
                "seal": SealHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics["psnr"],  # without it metrics are not written
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            ),
        )

    def save(
        self,
        step: int,
        state: Any,
        weights: weight_files.Weights,
        metrics: dict[str, float] | None,
    ) -> None:
        """Copy the state off the devices, then write it in the background; `metrics` has 'psnr'.

        Where this step is there already, nothing is done. Raises InputError for a full disk, also
        for a write that an earlier call began.
        """
        held = jax.tree.map(np.array, state)
        try:
            if step in self._manager.all_steps():
                return
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(held),
                    weights=WeightsSave(weights),
                    seal=SealSave(held, weights),
                ),
                metrics=metrics,
                force=True,
            )
        except Exception as error:
            self._explain(error)
            raise

    def wait(self) -> None:
        """Until every write is done; raises InputError for a full disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._explain(error)
            raise

    def writing(self) -> bool:
        """Whether a write is under way."""
        return self._manager.is_saving_in_progress()

    def _explain(self, error: Exception) -> None:
        """Raise InputError where an error of orbax is that of a full disk."""
        reason = disk_full(error)
        if reason:
            raise InputError(
                f"no checkpoint could be written to {self.folder} ({reason}); last whole one: "
                f"{self.newest()}; make room, then go on with --config.resume=true"
            ) from error

    def newest(self) -> str:
        """Where the newest whole checkpoint lies, for a message."""
        steps = self.steps()
        return str(self.folder / str(steps[-1])) if steps else "none was written"

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """(step, state) of the newest sound checkpoint, shaped as `like`; None where there is none.

        Damaged ones are named and passed by, and deleted once a sound one is found. Raises InputError
        for checkpoints of another config, and where all are damaged.
        """
        steps, damaged = self.steps(), []
        for step in reversed(steps):
            try:
                found = step, self._sound(step, like)
            except Damaged as error:
                self.console.print(
                    f"checkpoint {self.folder / str(step)} is damaged ({error}); "
                    "going on from the one before",
                    soft_wrap=True,
                )
                damaged.append(step)
                continue
            for other in damaged:
                self._manager.delete(other)
            return found
        if steps:
            raise InputError(
                f"every checkpoint in {self.folder} is damaged; start again in another run_dir"
            )
        return None

    def _sound(self, step: int, like: Any) -> Any:
        """The state of that step; raises Damaged, or InputError where it is of another config."""
        shapes = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        try:
            seal = self._read(step, seal=SealSave()).seal
            of_this_config = seal["layout"] == layout(shapes)
        except Exception as error:
            raise Damaged(_first_line(error)) from error
        if not of_this_config:
            raise InputError(
                f"{self.folder / str(step)} does not hold the state of this config; "
                "resume with the config it was written with"
            )
        plan = ocp.checkpoint_utils.construct_restore_args(shapes)
        state = ocp.args.PyTreeRestore(shapes, restore_args=plan)
        try:
            found = self._read(step, state=state, weights=WeightsSave())
            digests = digest(found.state), digest(found.weights.params)
        except Exception as error:
            raise Damaged(_first_line(error)) from error
        if digests != (seal["state"], seal["weights"]):
            raise Damaged("what is read is not what was written")
        return found.state

    def _read(self, step: int, **items) -> ocp.args.Composite:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def steps(self) -> list[int]:
        """The steps that there are whole checkpoints of, oldest first."""
        return sorted(self._manager.all_steps())

    def last_good(self, failed: int) -> str:
        """The newest checkpoint that a finite loss has proven, for a message; later ones are deleted.

        The loss of step t is that of the weights after t − 1 steps, so where step `failed` is not
        finite, the weights after failed − 1 steps are no good.
        """
        self.wait()
        for step in self.steps():
            if step >= failed - 1:
                self._manager.delete(step)
        return self.newest()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            try:
                self.wait()
            finally:
                self._manager.close()
        except Exception as error:
            if kind is None:  # else the first error is the one to hear of
                self._explain(error)
                raise


def hush_late_answers() -> None:
    """Keep quiet what the array store says to an event loop that orbax has closed.

    Of several files read or written at once orbax raises the first failure and closes its loop; the
    others, done later, find it closed, which native code reports through `sys.unraisablehook`.
    """
    hook = sys.unraisablehook
    if hasattr(hook, "hushes_late_answers"):
        return

    def hushed(report):
        trace = report.exc_traceback
        late = trace is not None and trace.tb_frame.f_code.co_name == "call_soon_threadsafe"
        if not (late and str(report.exc_value) == "Event loop is closed"):
            hook(report)

    hushed.hushes_late_answers = True
    sys.unraisablehook = hushed


class Damaged(Exception):
    """A checkpoint that is not what was written."""


def disk_full(error: BaseException | None) -> str:
    """What a full disk said, somewhere among an error's causes; '' where it is something else."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return str(error.strerror)
        for said in ("No space left on device", "Disk quota exceeded", "File too large"):
            if said in str(error):
                return said
        error = error.__cause__ or error.__context__
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
