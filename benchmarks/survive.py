"""A training killed over and over, held against one that was never touched.

    python -m benchmarks.survive --kills 20

trains `configs/debug.py` twice with the same options: once to its end, and once killed with SIGKILL
at random moments, in turn of its start, of the writing of a checkpoint, and of the time after one, and
started again with the same command each time. Prints where each kill fell, then compares the last checkpoints leaf by leaf,
bit by bit (parameters, their average, optimiser, balance), and the loss of every step, which says
that the same data came in the same order. Exit code 1 where anything differs.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from pdn_jax.cli import Parser, explained
from pdn_jax.types import InputError
from train.run_dir import CHECKPOINTS, numbered

STEPS, EVERY = 240, 4
MOMENTS = ("starting", "writing", "training")
"""When a run is killed, in turn."""

STARTING, TRAINING = 10.0, 2.0
"""Seconds within which a kill falls after the start, and after a new checkpoint."""

PATIENCE = 600.0
"""Seconds that a start may take before the script gives up."""


def command(run_dir: Path, steps: int, more: list[str]) -> list[str]:
    """What starts the run, and goes on with it."""
    settings = {
        "run_dir": run_dir,
        "resume": "true",
        "train.steps": steps,
        "checkpoint.every": EVERY,
        "checkpoint.keep": 3,
        "eval.every": steps,
        "log.every": 1,
        "log.images": "false",
        "parallel.devices": 1,
    }
    options = [f"--config.{name}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "train.main", "--config", "configs/debug.py", *options, *more]


def steps_of(run_dir: Path) -> list[int]:
    """Steps of whole checkpoints, oldest first."""
    return numbered(run_dir / CHECKPOINTS)


def drafts(run_dir: Path) -> set[tuple[str, int]]:
    """Checkpoints that are not whole, by name and inode."""
    try:
        return {
            (path.name, path.stat().st_ino)
            for path in (run_dir / "checkpoints").iterdir()
            if "tmp" in path.name
        }
    except OSError:  # one that has become whole meanwhile
        return set()


def start(argv: list[str], log: Path) -> subprocess.Popen:
    """The run in a session of its own, so that a kill takes all of it."""
    with log.open("a") as file:
        return subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def kill_once(argv: list[str], run_dir: Path, log: Path, rng: random.Random, moment: str) -> str:
    """Start, wait for one of `MOMENTS`, kill; what was killed, '' if the run had ended."""
    before, old = (steps_of(run_dir) or [0])[-1], drafts(run_dir)
    running, begin = start(argv, log), time.monotonic()
    later = rng.uniform(0.0, STARTING if moment == "starting" else TRAINING)
    ready = begin if moment == "starting" else 0.0
    while running.poll() is None:
        now = time.monotonic()
        if now - begin > PATIENCE:
            os.killpg(running.pid, signal.SIGKILL)
            raise InputError(f"no checkpoint in {PATIENCE:.0f} s; see {log}")
        if not ready and (steps_of(run_dir) or [0])[-1] > before:
            ready = now
        if ready and (drafts(run_dir) - old if moment == "writing" else now - ready > later):
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            half = drafts(run_dir) - old  # not what an earlier kill has left
            left = "a half-written checkpoint" if half else "no half-written one"
            when = f"{now - begin:.1f} s after its start"
            return f"killed {when}, with checkpoints {steps_of(run_dir)} and {left}"
        time.sleep(0.001)
    if running.returncode:
        raise InputError(f"the run ended with {running.returncode}; see {log}")
    return ""


def last_state(run_dir: Path) -> dict[str, np.ndarray]:
    """Leaf -> array of the newest checkpoint, as orbax gives it."""
    import jax
    import orbax.checkpoint as ocp

    folder = run_dir.resolve() / "checkpoints" / str(steps_of(run_dir)[-1]) / "state"
    state = ocp.StandardCheckpointer().restore(folder)
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(state)}


def losses(run_dir: Path) -> list[tuple[str, str]]:
    """(step, loss) of every row of metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def compare(one: Path, two: Path, console: Console) -> bool:
    """Print the comparison of two finished runs; whether they are the same bits."""
    a, b = last_state(one), last_state(two)
    parts: dict[str, list[bool]] = {}
    for name in sorted(a.keys() | b.keys()):
        same = name in a and name in b and a[name].tobytes() == b[name].tobytes()
        parts.setdefault(name.split("'")[1], []).append(same)
    for part, equal in parts.items():
        console.print(f"{part}: {sum(equal)} of {len(equal)} arrays bit-identical")
    same_losses = losses(one) == losses(two)
    console.print(
        f"loss of every step: {'identical' if same_losses else 'different'}, {len(losses(one))} steps"
    )
    configs = [json.loads((run / "config.json").read_text()) for run in (one, two)]
    for config in configs:
        config.pop("run_dir")
    return all(all(equal) for equal in parts.values()) and same_losses and configs[0] == configs[1]


def survive(folder: Path, options: argparse.Namespace, console: Console) -> bool:
    """Both runs and their comparison, in a folder."""
    whole, killed = folder / "whole", folder / "killed"
    rng = random.Random(options.seed)
    begin = time.monotonic()
    argv = command(whole, options.steps, options.more)
    with (folder / "whole.log").open("a") as file:
        done = subprocess.run(argv, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise InputError(f"the run ended with {done.returncode}; see {folder / 'whole.log'}")
    console.print(f"never killed: {options.steps} steps in {time.monotonic() - begin:.0f} s")
    argv, kills = command(killed, options.steps, options.more), 0
    while kills < options.kills:
        moment = MOMENTS[kills % len(MOMENTS)]
        said = kill_once(argv, killed, folder / "killed.log", rng, moment)
        if not said:
            raise InputError(
                f"the run ended after {kills} kills; ask for fewer --kills or more --steps"
            )
        kills += 1
        console.print(f"kill {kills}: {said}", soft_wrap=True)
    done = start(argv, folder / "killed.log").wait()
    if done:
        raise InputError(f"the run ended with {done}; see {folder / 'killed.log'}")
    return compare(whole, killed, console)


def run(argv: list[str]) -> int:
    """The command line; 0 where both are the same, 1 where not."""
    parser = Parser(prog="python -m benchmarks.survive", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the run (default {STEPS})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--out", type=Path, help="keep both runs in this new folder")
    options, options.more = parser.parse_known_args(argv)
    folder = options.out or Path(tempfile.mkdtemp(prefix="survive-"))
    try:
        folder.mkdir(parents=True, exist_ok=options.out is None)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be made: {error.strerror}") from error
    same = survive(folder, options, Console())
    print("the same bits" if same else "NOT the same")
    if options.out is None:
        shutil.rmtree(folder)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(explained(lambda: run(sys.argv[1:])))
