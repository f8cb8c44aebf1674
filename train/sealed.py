"""What a checkpoint holds beside the train state: the weights for `enhance`, and a seal.

The seal has the digests of the state and of the weights, and the layout of the state, so that what
is read back can be told from what was written; and the dev PSNR, where the weights were judged. Both
are written beside the training.
"""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from pdn_jax import weights as weight_files
from train import files

SEAL = "seal.json"


def digest(state: Any) -> str:
    """A fingerprint of every bit of a state of arrays."""
    found = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(state):
        found.update(np.ascontiguousarray(leaf).view(np.uint8).data)
    return found.hexdigest()


def fingerprint(weights: weight_files.Weights) -> str:
    """A fingerprint of parameters and of all that is said of them."""
    said = json.dumps([weights.variant, weights.model, weights.metadata], sort_keys=True)
    return f"{digest(weights.params)} {hashlib.blake2b(said.encode(), digest_size=8).hexdigest()}"


def layout(state: Any) -> str:
    """A fingerprint of the names, shapes and dtypes of a state: another config has another one."""
    leaves = jax.tree.leaves_with_path(state)
    rows = [f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype}" for path, x in leaves]
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()


class Noted:
    """A write under way, orbax's future: an error of it is in `failures` as soon as it is raised.

    Orbax tells of it only when all processes have met, which may take as long as its patience.
    """

    def __init__(self, future: ocp.future.Future, failures: list[BaseException]):
        self._future, self._failures = future, failures

    def result(self, timeout: float | None = None) -> Any:
        """Orbax's hook."""
        try:
            return self._future.result(timeout)
        except BaseException as error:
            self._failures.append(error)
            raise


class StateHandler(ocp.PyTreeCheckpointHandler):
    """Orbax's handler of the train state; what it reads, each process reads without the others."""

    def __init__(self, failures: list[BaseException] | None = None):
        # Floats hardly shrink, and the training wants the processor.
        super().__init__(use_compression=False)
        self._failures = [] if failures is None else failures

    async def async_save(self, directory, *given, **named):
        """Orbax's hook: the writes under way."""
        writes = await super().async_save(directory, *given, **named)
        return [Noted(write, self._failures) for write in writes or ()]


@ocp.args.register_with_handler(StateHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class StateSave(ocp.args.PyTreeSave):
    """What `StateHandler` is to write."""


class Beside(ocp.AsyncCheckpointHandler):
    """Has something written beside the training, once the folder is there, by process 0 alone."""

    def __init__(self, failures: list[BaseException] | None = None):
        self._failures = [] if failures is None else failures

    def write(self, folder: Path, args: Any) -> None:
        """Write what `args` says."""
        raise NotImplementedError

    async def async_save(self, directory, args):
        """Orbax's hook: the writes under way."""

        async def write():
            if jax.process_index() == 0:
                self.write(Path(directory), args)

        written = ocp.future.CommitFutureAwaitingContractedSignals(write())
        return [Noted(written, self._failures)]

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
        """Take the fingerprints, and write the seal."""
        seal = {
            "state": digest(args.state),
            "weights": fingerprint(args.weights),
            "layout": layout(args.state),
            "psnr": args.psnr,
        }
        write_seal(folder, seal)

    def restore(self, directory, args=None) -> dict[str, Any]:
        """Orbax's hook."""
        return read_seal(Path(directory))


@ocp.args.register_with_handler(SealHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class SealSave(ocp.args.CheckpointArgs):
    """What `SealHandler` takes the fingerprints of; psnr: None where it was not judged."""

    state: Any = None
    weights: weight_files.Weights | None = None
    psnr: float | None = None


def write_seal(folder: Path, seal: dict[str, Any]) -> None:
    """A seal with its own fingerprint, as JSON; the old one or the new one at any moment."""
    files.replace(folder / SEAL, json.dumps(seal | {"seal": _fingerprint(seal)}))


def read_seal(folder: Path) -> dict[str, Any]:
    """A seal; raises ValueError where it is not what was written."""
    seal = json.loads((folder / SEAL).read_text())
    if not isinstance(seal, dict) or seal.pop("seal", None) != _fingerprint(seal):
        raise ValueError("the seal is not what was written")
    return seal


def _fingerprint(seal: dict[str, Any]) -> str:
    text = json.dumps(seal, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


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
