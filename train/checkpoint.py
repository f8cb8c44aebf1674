"""Checkpoints of the whole train state, through orbax: the newest few and the best."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from pdn_jax.types import InputError

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run folder; a context that waits for writes under way when it ends."""

    def __init__(self, run_dir: Path, *, keep: int):
        policies = ocp.checkpoint_managers
        newest = policies.LatestN(keep)
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics["psnr"],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self.folder = (run_dir / FOLDER).resolve()
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics["psnr"],  # without it metrics are not written
                preservation_policy=policies.AnyPreservationPolicy([newest, best]),
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, step: int, state: Any, metrics: dict[str, float]) -> None:
        """Copy the state off the devices, then write it in the background; `metrics` has 'psnr'."""
        held = jax.tree.map(np.array, state)
        self._manager.save(step, args=ocp.args.StandardSave(held), metrics=metrics, force=True)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """(step, state) of the newest checkpoint, shaped as `like`; None where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        shapes = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        try:
            return step, self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{self.folder / str(step)} does not hold the state of this config "
                f"({str(error).splitlines()[0]}); resume with the config it was written with"
            ) from error

    def steps(self) -> list[int]:
        """The steps that there are whole checkpoints of, oldest first."""
        return sorted(self._manager.all_steps())

    def last_good(self, failed: int) -> str:
        """The newest checkpoint that a finite loss has proven, for a message; later ones are deleted.

        The loss of step t is that of the weights after t − 1 steps, so where step `failed` is not
        finite, the weights after failed − 1 steps are no good.
        """
        self._manager.wait_until_finished()
        for step in self.steps():
            if step >= failed - 1:
                self._manager.delete(step)
        steps = self.steps()
        return str(self.folder / str(steps[-1])) if steps else "none was written"

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()
