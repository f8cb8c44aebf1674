"""Checkpoints of the whole train state, through orbax: written beside the training, whole or not at all.

    checkpoints/STEP/state             the train state                  (orbax, uncompressed)
    checkpoints/STEP/weights           the averaged weights for `enhance`  (safetensors)
    checkpoints/STEP/checksums.json    digests of their files, layout of the state, dev PSNR

Process 0 alone reads and writes them; others have the state from it. A checkpoint is trusted only
where its files have the digests that they were written with. Damaged ones become damaged-STEP.
"""

import contextlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    EveryNSteps,
    LatestN,
)
from rich.console import Console

from pdn_jax import files
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import distributed, run_dir

CHECKSUMS = "checksums.json"

ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
"""Orbax waits for no other process: what fails on process 0 is then heard of at once."""


NOBODY = distributed.Silent()


class Damaged(Exception):
    """A checkpoint that is not what was written."""


class Manager(ocp.CheckpointManager):
    """Orbax's own with two of its hooks: `psnr`, step -> dB, is what the best is chosen by."""

    def __init__(self, folder: Path, psnr: dict[int, float], **keywords: Any):
        self._psnr = psnr
        super().__init__(folder, **keywords)

    def metrics(self, step: int) -> dict[str, float] | None:
        """The scores of a checkpoint."""
        return {"psnr": self._psnr[step]} if step in self._psnr else None

    def reached_preemption(self, step: int) -> bool:
        """The loop asks for a preemption, at the same step on all processes."""
        return False


class Checkpoints:
    """The checkpoints in a run's folder; a context that waits for writes under way when it ends.

    Kept are the newest `keep`, the best by dev PSNR, and with `keep_every` each whose step divides
    by it. Of the newest two one at least is proven by a later step, so that `keep` should be 2 or
    more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        keep_every: int = 0,
        console: Console,
        carrier: Any = NOBODY,
    ):
        """carrier: a `mirror.Mirror` that carries to a store what is written to the folder."""
        self.folder, self.console = (folder / run_dir.CHECKPOINTS).resolve(), console
        self._carrier = carrier
        self._psnr: dict[int, float] = {}
        self._manager: Manager | None = None
        if not distributed.is_first():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for step in self.steps():
            with contextlib.suppress(Damaged):  # said when it is restored
                psnr = read_checksums(self.folder / str(step))["psnr"]
                if psnr is not None:
                    self._psnr[step] = psnr
        best = BestN(
            get_metric_fn=lambda scores: scores["psnr"], n=1, keep_checkpoints_without_metrics=False
        )
        rare = [EveryNSteps(keep_every)] if keep_every else []
        logging.set_verbosity(logging.FATAL)  # what orbax logs of an error, it raises too
        self._manager = Manager(
            self.folder,
            self._psnr,
            item_handlers={"state": handler()},
            options=ocp.CheckpointManagerOptions(
                create=False,
                preservation_policy=AnyPreservationPolicy([LatestN(keep), best, *rare]),
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._complete),
                multiprocessing_options=ALONE,
            ),
        )

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
        is done. Raises what the write of an earlier call raised.
        """
        if psnr is not None:
            self._psnr[step] = psnr
        self.wait()
        if self._manager is None or step in self.steps():
            return
        held = jax.tree.map(np.array, state)
        self._writing = step, weights, layout(held), psnr, beside
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(held))
        run_dir.check_room(self.folder, size + size // 4)
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.PyTreeSave(held)),
            metrics=self._manager.metrics(step),
            force=True,
        )

    def _complete(self) -> None:
        """Orbax's hook: the state is written; what is missing, before the name that makes it count."""
        step, weights, described, psnr, beside = self._writing
        (draft,) = self.folder.glob(f"{step}.orbax-checkpoint-tmp*")
        (draft / "weights").mkdir()
        weight_files.save(draft / "weights", weights)
        written = [path for path in sorted(draft.glob("*/**/*")) if path.is_file()]
        digests = {
            str(path.relative_to(draft)): run_dir.digest(path.read_bytes()) for path in written
        }
        write_checksums(draft, {"files": digests, "layout": described, "psnr": psnr})
        files.sync_all([*draft.rglob("*"), draft, self.folder, *beside])
        self._carrier.put(draft, step)

    def wait(self) -> None:
        """Until every write is done; raises what one of them raised."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Raise as `wait`, without waiting, for a write that has failed meanwhile."""
        if not self.writing():
            self.wait()

    def writing(self) -> bool:
        """Whether a write is under way."""
        return self._manager is not None and self._manager.is_saving_in_progress()

    def best(self) -> float:
        """The highest PSNR of any checkpoint, of those that were deleted since too; or −∞."""
        return max(self._psnr.values(), default=-math.inf)

    def is_judged(self, step: int) -> bool:
        """Whether the checkpoint of that step has a PSNR."""
        return step in self._psnr

    def judge(self, step: int, psnr: float) -> None:
        """Give the checkpoint of that step, which is on the disk, its PSNR."""
        self._psnr[step] = psnr
        if self._manager is not None:
            folder = self.folder / str(step)
            write_checksums(folder, read_checksums(folder) | {"psnr": psnr})
            self._carrier.judged(step)
            self._manager.reload()

    def steps(self) -> list[int]:
        """The steps of whole checkpoints, oldest first."""
        return run_dir.numbered(self.folder)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """(step, state) of the newest sound checkpoint, shaped as `like`; None where there is none.

        Damaged ones are named and passed by, and moved aside once a sound one is found. Processes
        other than the first have the step and the scores, and `like` for a state. Raises InputError
        on all of them for checkpoints of another config, and where all are damaged.
        """
        result = distributed.first(lambda: self._newest_sound(like))
        step, psnr = distributed.broadcast_json([result and result[0], list(self._psnr.items())])
        self._psnr.clear()
        self._psnr.update(psnr)
        return None if step is None else (step, result[1] if result else like)

    def _newest_sound(self, like: Any) -> tuple[int, Any] | None:
        steps = self.steps()
        for index, step in reversed(list(enumerate(steps))):
            self._carrier.fetch(step)
            try:
                state = read_state(self.folder / str(step), like)
            except Damaged as error:
                then = "; going on from the one before" if index else ""
                said = f"checkpoint {self.folder / str(step)} is damaged ({error}){then}"
                self.console.print(said, soft_wrap=True)
                continue
            for damaged in steps[index + 1 :]:
                self._set_aside(damaged)
            return step, state
        if steps:
            raise InputError(
                f"every checkpoint in {self.folder} is damaged or cannot be read; "
                "start again in another run_dir"
            )
        return None

    def _set_aside(self, step: int) -> None:
        """Not deleted, since it may be the disk that could not be read just now."""
        aside = self.folder / f"damaged-{step}"
        if aside.exists():
            shutil.rmtree(aside)
        (self.folder / str(step)).rename(aside)
        self._carrier.set_aside(step)
        self._psnr.pop(step, None)
        self._manager.reload()

    def last_good(self, failed: int) -> str:
        """The newest checkpoint that a finite loss has proven, for a message; later ones are deleted.

        The loss of step t is that of the weights after t − 1 steps, so where step `failed` is not
        finite, the weights after failed − 1 steps are in doubt. Where there are no others they stay.
        """
        self.wait()
        steps = self.steps()
        proven = [step for step in steps if step < failed - 1]
        doubtful = steps[len(proven) :]
        if not proven:
            doubt = "no finite loss has proven; where it fails again, start in another run_dir"
            return run_dir.newest(self.folder) + (f", which {doubt}" if doubtful else "")
        if self._manager is not None:
            for step in doubtful:
                self._manager.delete(step)
        deleted = f", those after it deleted ({len(doubtful)})" if doubtful else ""
        return f"{self.folder / str(proven[-1])}{deleted}"

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        if self._manager is not None:
            # after an error that one is to be heard of
            late = contextlib.suppress(Exception) if kind else contextlib.nullcontext()
            with contextlib.closing(self._manager), late:
                self.wait()


def handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax's for the state; floats hardly shrink, and the training wants the processor."""
    return ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=ALONE)


def layout(state: Any) -> str:
    """A digest of the names, shapes and dtypes of a state: another config has another one."""
    leaves = jax.tree.leaves_with_path(state)
    lines = [f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype}" for path, x in leaves]
    return run_dir.digest("\n".join(lines).encode())


def read_state(folder: Path, like: Any) -> Any:
    """The state in a checkpoint's folder, shaped as `like`.

    Raises Damaged where a file is not what was written, InputError for one of another config.
    """
    shapes = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    checksums = read_checksums(folder)
    if checksums["layout"] != layout(shapes):
        raise InputError(
            f"{folder} does not hold the state of this config; "
            "resume with the config it was written with"
        )
    try:
        for name, digest in checksums["files"].items():
            if run_dir.digest((folder / name).read_bytes()) != digest:
                raise Damaged(f"{name} is not what was written")
        plan = ocp.checkpoint_utils.construct_restore_args(shapes)
        wanted = ocp.args.PyTreeRestore(shapes, restore_args=plan)
        return handler().restore(folder / "state", args=wanted)
    except (OSError, MemoryError) as error:
        raise Damaged(str(error) or type(error).__name__) from error


def write_checksums(folder: Path, checksums: dict[str, Any]) -> None:
    """Checksums with a digest of their own, as JSON; the old file or the new one at any moment."""
    own = run_dir.digest(json.dumps(checksums, sort_keys=True).encode())
    files.write_text(folder / CHECKSUMS, json.dumps(checksums | {"digest": own}, indent=1))


def read_checksums(folder: Path) -> dict[str, Any]:
    """{"files": {name: digest}, "layout": digest, "psnr": dB or None}; raises Damaged."""
    try:
        checksums = dict(json.loads((folder / CHECKSUMS).read_text()))
        own = checksums.pop("digest", None)
    except (OSError, ValueError, TypeError) as error:
        raise Damaged(f"{CHECKSUMS}: {error}") from error
    if own != run_dir.digest(json.dumps(checksums, sort_keys=True).encode()):
        raise Damaged(f"{CHECKSUMS} is not what was written")
    return checksums
