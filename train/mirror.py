"""A run folder in a store: worked on in a folder of this machine, and carried there.

Orbax writes arrays to gs:// but not to s3://, nothing in a store can be appended to or renamed, and
a checkpoint is to be checked before it is used. So the training works on files, as ever, and

    RUN/checkpoints/STEP/…                 goes there as soon as orbax has written it,
    RUN/checkpoints/STEP/checksums.json    last: it makes the checkpoint count,
    RUN/run-id                             first: this run and no other of the same name,
    RUN/metrics.csv, tensorboard/ …        whole, before each checkpoint, and at the end.

What a kill has left of a checkpoint has no checksums.json, and is removed by the next start. One that
the store would not take waits beside that folder, and is put there by the next start that finds the
run as it was.
"""

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pdn_jax import copies, places, user_cache
from pdn_jax.places import Location
from pdn_jax.types import InputError
from train import distributed, leases, run_dir
from train.locks import locked

CHECKSUMS, AFTER = "checksums.json", "after"


def opened(place: Location, stack: contextlib.ExitStack, console: Any) -> tuple[Path, Any]:
    """The folder to work on for a run folder, held, and what carries it there until `stack` closes.

    A folder of this machine is worked on itself. Of several processes the first alone holds it and
    carries. Messages within name the store. Raises InputError where another training holds it, and
    where the store cannot be read.
    """
    nobody = distributed.Silent()
    held = stack.enter_context(distributed.first(lambda: run_dir.held(place)) or nobody)
    if not places.is_url(place):
        stack.enter_context(run_dir.disk_full_explained(place))
        return place, nobody
    folder = scratch(place)
    stack.enter_context(_named(folder, place, console))
    stack.enter_context(run_dir.disk_full_explained(folder))
    mirror = distributed.first(lambda: Mirror(folder, place, held))
    if mirror and mirror.brought:
        said = f"checkpoint {mirror.brought}, which {place} would not take, is there now"
        console.print(said, soft_wrap=True)
    return folder, stack.enter_context(mirror or nobody)


def scratch(place: Location) -> Path:
    """Where a run in a store is worked on; always the same, so that no kill leaves another."""
    return (
        user_cache.folder()
        / "runs"
        / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
    )


@contextlib.contextmanager
def _named(folder: Path, place: Location, console: Any) -> Iterator[None]:
    """What is said of the one is said of the other."""
    console.instead = (str(folder), str(place))
    try:
        yield
    except InputError as error:
        error.args = (str(error).replace(str(folder), str(place)),)
        raise


class Mirror:
    """What a store holds of a run, in a folder of this machine; a context that carries the rest.

    Checkpoints are there by their checksums; `fetch` brings the files of one. `brought` is the step
    of one that waited here.
    """

    def __init__(self, folder: Path, place: Location, held: leases.Lease):
        self.folder, self.place, self._held = folder, place, held
        self._known: dict[str, tuple[int, int]] = {}
        self._steps: set[str] = set()
        self._waiting = folder.parent / "waiting" / folder.name
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(folder, wait=False))
            except BlockingIOError as error:
                raise InputError(f"another process of this machine works on {folder}") from error
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._pull()
            if not (folder / run_dir.RUN_ID).exists():
                (folder / run_dir.RUN_ID).write_text(secrets.token_hex(8))
                self.push()
            self.brought = self._bring()
            self._open = stack.pop_all()

    def _pull(self) -> None:
        there = places.names(self.place)
        for name in there:
            step = self._step(name)
            if step is None and not name.startswith((f"{leases.FOLDER}/", run_dir.CHECKPOINTS)):
                self._get(name)
                self._known[name] = _state(self.folder / name)
            elif step and f"{step}/{CHECKSUMS}" not in there:
                self._remove(name)
            elif step and name == f"{step}/{CHECKSUMS}":
                self._get(name)
                self._steps.add(step)

    def _step(self, name: str) -> str | None:
        """'checkpoints/STEP' of what belongs to one."""
        first, _, rest = name.partition("/")
        step = rest.split("/")[0]
        return f"{first}/{step}" if first == run_dir.CHECKPOINTS and step.isdigit() else None

    def _get(self, name: str) -> None:
        path = copies.inside(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(places.read(self.place / name))

    def _remove(self, name: str) -> None:
        path = self.place / name
        self._held.check(2 * leases.BEAT)
        with places.explained("write", path), contextlib.suppress(FileNotFoundError):
            path.fs.rm_file(path.path)

    def _send(self, path: Path, name: str) -> None:
        self._held.check(2 * leases.BEAT)
        try:
            places.send(path, self.place / name)
        except InputError as error:
            raise InputError(
                f"{error}; go on with --config.resume=true once it can be written"
            ) from error

    # --- beside the checkpoints ------------------------------------------------------------------

    def push(self) -> None:
        """Carry there what has changed here beside the checkpoints, and remove what is gone."""
        lying = {
            path.relative_to(self.folder).as_posix(): path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.relative_to(self.folder).parts[0] != run_dir.CHECKPOINTS
        }
        for name, path in lying.items():
            state = _state(path)
            if self._known.get(name) != state:
                self._send(path, name)
                self._known[name] = state
        for name in self._known.keys() - lying.keys():
            self._remove(name)
            del self._known[name]

    # --- checkpoints -----------------------------------------------------------------------------

    def fetch(self, step: int) -> None:
        """Bring all files of a checkpoint that are there."""
        folder = f"{run_dir.CHECKPOINTS}/{step}"
        for name in places.names(self.place / folder):
            if not (self.folder / folder / name).exists():
                self._get(f"{folder}/{name}")

    def put(self, draft: Path, step: int) -> None:
        """Carry a checkpoint there that orbax has written; what it goes on from, before it.

        Where the store does not take it, it waits here for the next start.
        """
        try:
            self._put(draft, step)
        except leases.TakenOver:
            raise
        except InputError as error:
            self._keep(draft, step)
            raise InputError(
                f"{error}; until then checkpoint {step} waits in {self._waiting}"
            ) from error

    def _put(self, draft: Path, step: int) -> None:
        self._held.check()
        self.push()
        self.prune(step)
        self._steps.add(f"{run_dir.CHECKPOINTS}/{step}")
        for path in sorted(draft.rglob("*")):
            if path.is_file() and path.name != CHECKSUMS:
                name = path.relative_to(draft).as_posix()
                self._send(path, f"{run_dir.CHECKPOINTS}/{step}/{name}")
        self._held.check()
        self._send(draft / CHECKSUMS, f"{run_dir.CHECKPOINTS}/{step}/{CHECKSUMS}")

    def _keep(self, draft: Path, step: int) -> None:
        """Set a checkpoint aside that the store has not taken, with what lies beside the others."""
        shutil.rmtree(self._waiting, ignore_errors=True)
        others = shutil.ignore_patterns(run_dir.CHECKPOINTS)
        shutil.copytree(self.folder, self._waiting, ignore=others)
        shutil.copytree(draft, self._waiting / run_dir.CHECKPOINTS / str(step))
        (self._waiting / AFTER).write_text(self._newest())

    def _bring(self) -> int | None:
        """Carry a checkpoint there that waits here, and return its step, if the run is as it was."""
        after, checkpoints = self._waiting / AFTER, self._waiting / run_dir.CHECKPOINTS
        if not after.exists() or after.read_text() != self._newest():
            return None
        (step,) = run_dir.numbered(checkpoints)
        waits = checkpoints / str(step)
        others = shutil.ignore_patterns(run_dir.CHECKPOINTS, AFTER, run_dir.OPTIONS, run_dir.DATA)
        shutil.copytree(self._waiting, self.folder, ignore=others, dirs_exist_ok=True)
        self._put(waits, step)
        shutil.copytree(waits, self.folder / run_dir.CHECKPOINTS / waits.name)
        shutil.rmtree(self._waiting)
        return step

    def _newest(self) -> str:
        """Which run this is, and the checksums of its newest checkpoint."""
        folder = self.folder / run_dir.CHECKPOINTS
        newest = [folder / str(step) / CHECKSUMS for step in run_dir.numbered(folder)[-1:]]
        paths = [self.folder / run_dir.RUN_ID, *newest]
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def judged(self, step: int) -> None:
        """Carry the checksums of a checkpoint there that have changed."""
        name = f"{run_dir.CHECKPOINTS}/{step}/{CHECKSUMS}"
        self._send(self.folder / name, name)

    def set_aside(self, step: int) -> None:
        """Move a damaged checkpoint, as it was moved here: copied, then removed."""
        folder = self.folder / run_dir.CHECKPOINTS / f"damaged-{step}"
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._send(path, path.relative_to(self.folder).as_posix())
        self._drop(f"{run_dir.CHECKPOINTS}/{step}")

    def prune(self, *writing: int) -> None:
        """Remove checkpoints that are not kept here any more; no others than this process knows."""
        kept = {*run_dir.numbered(self.folder / run_dir.CHECKPOINTS), *writing}
        for step in self._steps - {f"{run_dir.CHECKPOINTS}/{number}" for number in kept}:
            self._drop(step)

    def _drop(self, step: str) -> None:
        """The checksums first: from then on it does not count."""
        names = [name for name in places.names(self.place) if self._step(name) == step]
        for name in sorted(names, key=lambda name: not name.endswith(CHECKSUMS)):
            self._remove(name)
        self._steps.discard(step)

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(self, kind, *_) -> None:
        late = contextlib.suppress(InputError) if kind else contextlib.nullcontext()
        with self._open, late:  # after an error that one is to be heard of
            self._held.check()
            self.push()
            self.prune()
        shutil.rmtree(self.folder, ignore_errors=True)


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns
