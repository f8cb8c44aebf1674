"""Checkpoints of the whole train state, through orbax: written beside the training, whole or not at all.

    checkpoints/STEP/state      the train state                      (orbax, uncompressed)
    checkpoints/STEP/weights    the averaged weights, for `enhance`  (safetensors)
    checkpoints/STEP/seal       digests of both, layout, dev PSNR    (json)

A checkpoint is trusted only where what is read back has the digests that it was sealed with.
"""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from rich.console import Console

from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import distributed, files
from train.kept import policy
from train.restored import Damaged, sound_state
from train.sealed import (
    SealHandler,
    SealSave,
    StateHandler,
    StateSave,
    WeightsHandler,
    WeightsSave,
    hush_late_answers,
    read_seal,
    write_seal,
)

FOLDER = "checkpoints"


class Manager(ocp.CheckpointManager):
    """Orbax's own, which leaves it to the loop to ask for a preemption: JAX counts who asks."""

    def reached_preemption(self, step: int) -> bool:
        """Orbax's hook."""
        return False


class Checkpoints:
    """The checkpoints of one run folder; a context that waits for writes under way when it ends.

    Kept are the newest `keep`, the best by dev PSNR, and with `keep_every` each whose step divides
    by it. Of the newest two one at least is proven by a later step, so that `keep` should be 2 or
    more.
    """

    def __init__(self, run_dir: Path, *, keep: int, keep_every: int = 0, console: Console):
        self._psnr: dict[int, float] = {}
        self._unread: set[int] = set()  # left as they are, until their step is written again
        self._writing = 0
        self._beside: Sequence[Path] = ()
        self._failures: list[BaseException] = []
        self.folder = (run_dir / FOLDER).resolve()
        self.console = console
        logging.set_verbosity(logging.FATAL)  # what orbax logs of an error, it raises too
        hush_late_answers()
        self._manager = Manager(
            self.folder,
            item_handlers={
                "state": StateHandler(self._failures),
                "weights": WeightsHandler(self._failures),
                "seal": SealHandler(self._failures),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy(keep, keep_every, psnr=self._psnr, unread=self._unread),
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._secure),
            ),
        )
        for step in self.steps():
            with contextlib.suppress(OSError, ValueError):  # damage is told when it is restored
                psnr = read_seal(self.folder / str(step) / "seal")["psnr"]
                if psnr is not None:
                    self._psnr[step] = psnr

    def save(
        self,
        step: int,
        state: Any,
        weights: weight_files.Weights,
        psnr: float | None = None,
        beside: Sequence[Path] = (),
    ) -> None:
        """Copy the state off the devices, then write it in the background, after the one before.

        psnr: of the weights on the dev pairs in dB, where they were judged. beside: other files that
        are to be on the disk when this checkpoint counts. Where this step is there already, nothing
        is done. Raises InputError for a full disk, also for a write that an earlier call began.
        """
        self.check()
        held = jax.tree.map(np.array, state)
        try:
            self._manager.wait_until_finished()
            if step in self._unread:
                self._forget(step)
            if step in self._manager.all_steps():
                return
            if psnr is not None:
                self._psnr[step] = psnr  # orbax asks for the best as it saves
            self._writing, self._beside = step, beside
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=StateSave(held),
                    weights=WeightsSave(weights),
                    seal=SealSave(held, weights, psnr),
                ),
                force=True,
            )
        except Exception as error:
            self._explain(error)
            raise

    def _secure(self) -> None:
        """Orbax's hook: all is written, and about to be given the name that makes it count."""
        if jax.process_index() == 0:
            try:
                for draft in self.folder.glob(f"{self._writing}.*"):
                    files.secure_all([*draft.rglob("*"), draft, self.folder, *self._beside])
            except OSError as error:
                self._failures.append(error)
                raise

    def best(self) -> float:
        """The highest PSNR of any checkpoint, of those that were deleted since too; or −∞."""
        return max(self._psnr.values(), default=-math.inf)

    def is_judged(self, step: int) -> bool:
        """Whether the checkpoint of that step has a PSNR."""
        return step in self._psnr

    def judge(self, step: int, psnr: float) -> None:
        """Give the checkpoint of that step, which is on the disk, its PSNR."""
        self._psnr[step] = psnr
        if jax.process_index() == 0:
            folder = self.folder / str(step) / "seal"
            write_seal(folder, read_seal(folder) | {"psnr": psnr})

    def wait(self) -> None:
        """Until every write is done; raises InputError for a full disk."""
        self.check()
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._explain(error)
            raise

    def check(self) -> None:
        """Raise as `wait`, without waiting, for a write that has failed meanwhile."""
        if self._failures:
            error = self._failures[0]
            self._explain(error)
            raise error

    def writing(self) -> bool:
        """Whether a write is under way."""
        return self._manager.is_saving_in_progress()

    def _explain(self, error: Exception) -> None:
        """Raise InputError where an error of orbax is that of a full disk."""
        reason = files.disk_full(error)
        if reason:
            raise InputError(
                f"no checkpoint could be written to {self.folder} ({reason}); last whole checkpoint: "
                f"{self.newest()}; make room, then go on with --config.resume=true"
            ) from error

    def newest(self) -> str:
        """Where the newest whole checkpoint lies, for a message."""
        steps = [step for step in files.numbered(self.folder) if step not in self._unread]
        return str(self.folder / str(steps[-1])) if steps else "none was written"

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """(step, state) of the newest sound checkpoint, shaped as `like`; None where there is none.

        Damaged ones are named and passed by, and deleted once a sound one is found; what the disk did
        not give is only passed by. One whose weights file alone is damaged will do where no other is
        left. Process 0 reads: where there are others they have the step and the scores from it, and
        `like` for a state. Raises InputError on all of them for checkpoints of another config, and
        where all are damaged.
        """
        found = distributed.first(lambda: self._newest_sound(like))
        step, damaged = (found[0], found[2]) if found else (None, [])
        step, damaged, unread, judged = distributed.told(
            [step, damaged, sorted(self._unread), list(self._psnr.items())]
        )
        self._psnr.clear()
        self._psnr.update(judged)
        self._unread.update(unread)
        for other in damaged:
            self._forget(other)
        return None if step is None else (step, found[1] if found else like)

    def _forget(self, step: int) -> None:
        self._manager.delete(step)
        self._unread.discard(step)
        self._psnr.pop(step, None)

    def _newest_sound(self, like: Any) -> tuple[int, Any, list[int]] | None:
        """(step, state, damaged steps to delete); what the disk did not give is in `_unread`."""
        steps, damaged, usable = self.steps(), [], None
        for step in reversed(steps):
            try:
                return step, sound_state(self.folder / str(step), like), damaged
            except Damaged as error:
                what = "cannot be read" if error.may_pass else "is damaged"
                self.console.print(
                    f"checkpoint {self.folder / str(step)} {what} ({error})"
                    + ("; going on from the one before" if step != steps[0] else ""),
                    soft_wrap=True,
                )
                if usable is None and error.state is not None:
                    usable = step, error.state
                if error.may_pass:
                    self._unread.add(step)
                else:
                    damaged.append(step)
        if usable is not None:
            self._unread.discard(usable[0])
            self.console.print(
                f"none is sound; the train state of {self.folder / str(usable[0])} is, going on "
                "from that",
                soft_wrap=True,
            )
            return *usable, [step for step in damaged if step != usable[0]]
        if steps:
            raise InputError(
                f"every checkpoint in {self.folder} is damaged"
                + (" or cannot be read; try again, or" if self._unread else ";")
                + " start again in another run_dir"
            )
        return None

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, oldest first; without those that could not be read."""
        return sorted(set(self._manager.all_steps()) - self._unread)

    def last_good(self, failed: int) -> str:
        """The newest checkpoint that a finite loss has proven, for a message; later ones are deleted.

        The loss of step t is that of the weights after t − 1 steps, so where step `failed` is not
        finite, the weights after failed − 1 steps are in doubt. Where there are no others they stay.
        """
        self.wait()
        steps = self.steps()
        proven = [step for step in steps if step < failed - 1]
        if not proven:
            doubt = (
                ", which no finite loss has proven; where it fails again, start in another run_dir"
            )
            return self.newest() + (doubt if steps else "")
        for step in steps[len(proven) :]:
            self._forget(step)
        deleted = f", those after it deleted ({len(steps) - len(proven)})"
        return self.newest() + (deleted if len(steps) > len(proven) else "")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        if self._failures and jax.process_count() > 1:
            return  # the others would be waited for, who wait for this one
        try:
            try:
                self.wait()
            finally:
                self._manager.close()
        except Exception as error:
            if kind is None:  # else the first error is the one to hear of
                self._explain(error)
                raise
