"""What a checkpoint holds beside the train state: the weights for `enhance`, and a seal.

The seal has the digests of the state and of the weights, and the layout of the state, so that what
is read back can be told from what was written. Both are written beside the training.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from pdn_jax import weights as weight_files


def digest(state: Any) -> str:
    """A fingerprint of every bit of a state of arrays."""
    found = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(state):
        found.update(np.ascontiguousarray(leaf).view(np.uint8).data)
    return found.hexdigest()


def layout(state: Any) -> str:
    """A fingerprint of the names, shapes and dtypes of a state: another config has another one."""
    leaves = jax.tree.leaves_with_path(state)
    rows = [f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype}" for path, x in leaves]
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()


class Beside(ocp.AsyncCheckpointHandler):
    """Has something written beside the training, once the folder is there, by process 0 alone."""

    def write(self, folder: Path, args: Any) -> None:
        """Write what `args` says."""
        raise NotImplementedError

    async def async_save(self, directory, args):
        """Orbax's hook: the writes under way."""

        async def write():
            if jax.process_index() == 0:
                self.write(Path(directory), args)

        return [ocp.future.CommitFutureAwaitingContractedSignals(write())]

    def save(self, directory, args) -> None:
        """Orbax's hook, for a write that is waited for; its manager here never does."""
        self.write(Path(directory), args)


class WeightsHandler(Beside):
    """Writes `Weights` as a safetensors file, so that a checkpoint is usable without orbax."""

    def write(self, folder: Path, args: "WeightsSave") -> None:
        """Write the file."""
        weight_files.save(folder, args.weights)

    def restore(self, directory, args=None) -> weight_files.Weights:
        """Orbax's hook."""
        return weight_files.load(Path(directory))


@ocp.args.register_with_handler(WeightsHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class WeightsSave(ocp.args.CheckpointArgs):
    """What `WeightsHandler` is to write."""

    weights: weight_files.Weights | None = None


class SealHandler(Beside):
    """Writes what a checkpoint is known by when it is read again."""

    def write(self, folder: Path, args: "SealSave") -> None:
        """Write the digests and the layout as JSON."""
        seal = {
            "state": digest(args.state),
            "weights": digest(args.weights.params),
            "layout": layout(args.state),
        }
        (folder / "seal.json").write_text(json.dumps(seal))

    def restore(self, directory, args=None) -> dict[str, str]:
        """Orbax's hook."""
        return json.loads((Path(directory) / "seal.json").read_text())


@ocp.args.register_with_handler(SealHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class SealSave(ocp.args.CheckpointArgs):
    """What `SealHandler` takes the fingerprints of."""

    state: Any = None
    weights: weight_files.Weights | None = None
