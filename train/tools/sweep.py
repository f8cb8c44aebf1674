"""Sweep: the same training over a grid of options and seeds, and what each point gains.

    python -m train.tools.sweep --grid loss.balance=positive_only,fixed,gradient_ratio data.crop_size=96,128 \
        --seeds 3 --config configs/study.py --out runs/sweep

trains every point of the grid with every seed, each a run folder of its own under --out, and compares
it with the first point, the baseline, photograph by photograph: table, sweep.csv, sweep.png. Runs that
are there already are not done again, and stopped ones go on, so the same command finishes a sweep.
What follows the options goes to `train.main`, for every run alike: --config.train.steps=500.
"""

import itertools
import json
import os
import queue
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
from rich.console import Console

from pdn_jax import cli, photo
from pdn_jax.places import here
from pdn_jax.types import InputError
from train import build
from train.config import differences, parse, validate
from train.run_dir import FREE
from train.tools import comparison

Arms = dict[str, dict[str, object]]
"""Arm -> options that differ from the config; the first arm is the baseline."""

OWN = ("run_dir", "resume", "seed")
"""Options that a sweep sets itself."""

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")
"""What tells JAX in another process which accelerator it has."""


# --- what is asked for ---------------------------------------------------------------------------


def grid_of(words: Sequence[str]) -> Arms:
    """['loss.balance=fixed,uncertainty', 'seed…'] -> every combination; the first values come first."""
    axes: dict[str, list[str]] = {}
    for word in words:
        key, _, text = word.partition("=")
        values = split_values(text)
        if not all(values):
            raise InputError(f"--grid {word}: expected key=value,value,…")
        axes[key] = [*axes.get(key, ()), *values]
        if len(set(axes[key])) < len(axes[key]):
            raise InputError(f"--grid {word}: a value is there twice")
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(points) < 2:
        raise InputError("--grid has one point; give a key two values or more to compare")
    last = [key.split(".")[-1] for key in axes]
    names = last if len(set(last)) == len(last) else list(axes)
    return {
        " ".join(f"{name}={value}" for name, value in zip(names, p.values(), strict=True)): p
        for p in points
    }


def split_values(text: str) -> list[str]:
    """ "1,(2,3),'a,b'" -> ['1', '(2,3)', "'a,b'"]: at commas outside of brackets and quotes."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += letter
    return values


def parser_of(prog: str, description: str, side_by_side: bool = True) -> cli.Parser:
    """The options that all sweeps have, and those of runs beside each other."""
    parser = cli.Parser(prog=prog, description=description)
    add = parser.add_argument
    add("--config", required=True, help="a config of a short training")
    add("--out", required=True, type=here, help="folder of the runs and the results")
    add("--seeds", type=int, default=3, help="seeds 0, 1, … of each arm (default 3)")
    if side_by_side:
        add("--jobs", type=int, default=1, help="runs at a time (default 1)")
        devices = "numbers of accelerators, a run at a time on each, instead of --jobs"
        add("--devices", nargs="+", default=[], metavar="N", help=devices)
    return parser


def check(options, arms: Arms) -> None:
    """Raise InputError for what any run of the sweep would refuse, before the first."""
    if options.seeds < 1 or options.jobs < 1:
        raise InputError(f"--seeds {options.seeds} and --jobs {options.jobs} must be 1 or more")
    if options.devices and "jobs" in options.given:
        raise InputError("--devices has a run on each; leave --jobs out")
    own = {*OWN, *(key for changes in arms.values() for key in changes)}
    for word in options.more:
        if word.removeprefix("--config.").partition("=")[0] in own:
            raise InputError(f"{word} is what the study itself sets, run by run; leave it out")
    for key in OWN:
        if any(key in changes for changes in arms.values()):
            raise InputError(f"{key} is what the study itself sets, run by run; leave it out")
    for arm, changes in arms.items():
        config = parse(command_of(options, arm, changes, 0))
        validate(config)
        build.network(config)
        build.loss(config, build.camera(config))


def options_of(argv: Sequence[str]):
    """The parsed command line; what it does not know must be for `train.main`, and is checked."""
    parser = parser_of("python -m train.tools.sweep", __doc__.splitlines()[0])
    grid = "options and their values, the baseline's first: loss.balance=fixed,uncertainty"
    parser.add_argument("--grid", nargs="+", required=True, metavar="KEY=A,B", help=grid)
    options, options.more = parser.parse_known_args(argv)
    options.given = parser.given
    check(options, grid_of(options.grid))
    return options


# --- running -------------------------------------------------------------------------------------


def run_dir_of(out: Path, arm: str, seed: int) -> Path:
    """Where an arm's run with a seed lies."""
    return out / f"{re.sub(r'[^a-zA-Z0-9_.=,]+', '-', arm)}-{seed}"


def command_of(options, arm: str, changes: dict[str, object], seed: int) -> list[str]:
    """The options of `train.main` for one run."""
    settings = {"run_dir": run_dir_of(options.out, arm, seed), "resume": "true", "seed": seed}
    own = [f"--config.{key}={value}" for key, value in (settings | changes).items()]
    return ["--config", options.config, *own, *options.more]


def is_finished(run_dir: Path, command: Sequence[str]) -> bool:
    """Whether the run is there; raises InputError where it was given other options."""
    if not (run_dir / "evaluation.csv").exists():
        return False
    asked = parse(command).to_dict()
    apart = differences(json.loads((run_dir / "config.json").read_text()), asked, FREE)
    if apart:
        raise InputError(f"{run_dir} is a run of other options ({apart[0]}); name another --out")
    return True


def train_one(
    options, arm: str, changes: dict[str, object], seed: int, places: queue.Queue
) -> None:
    """One run by `train.main` in a process of its own, unless it is finished; raises InputError.

    places: of the devices that are free, None where a run has them all.
    """
    run_dir = run_dir_of(options.out, arm, seed)
    command = command_of(options, arm, changes, seed)
    if is_finished(run_dir, command):
        return
    log, place = run_dir.with_name(f"{run_dir.name}.log"), places.get()
    own = {} if place is None else dict.fromkeys(VISIBLE, place)
    try:
        with log.open("a") as file:
            whole = [sys.executable, "-m", "train.main", *command]
            done = subprocess.run(
                whole, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **own}
            )
    finally:
        places.put(place)
    if done.returncode:
        said = log.read_text().strip().splitlines() or ["nothing"]
        raise InputError(f"{arm!r}, seed {seed}, stopped with {done.returncode}: {said[-1]}")


def train_all(options, arms: Arms, console: Console) -> None:
    """Every arm with every seed, seed by seed, `jobs` at a time or one on each device."""
    tasks = [(arm, changes, seed) for seed in range(options.seeds) for arm, changes in arms.items()]
    places: queue.Queue = queue.Queue()
    for place in options.devices or [None] * options.jobs:
        places.put(place)
    with ThreadPoolExecutor(places.qsize()) as pool:
        futures = [pool.submit(train_one, options, *task, places) for task in tasks]
        try:
            for (arm, _, seed), future in zip(tasks, futures, strict=True):
                future.result()
                console.print(f"{arm}, seed {seed}: done")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def carry_out(options, arms: Arms, name: str, title: str) -> None:
    """Train what is not there yet, and compare: name.csv, name.png and the table."""
    console = Console()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {options.out} cannot be made: {error.strerror}") from error
    train_all(options, arms, console)
    seeds = range(options.seeds)
    runs = {arm: [run_dir_of(options.out, arm, seed) for seed in seeds] for arm in arms}
    rows = comparison.compared(*comparison.collect(runs))
    comparison.write_csv(options.out / f"{name}.csv", rows)
    photo.write(options.out / f"{name}.png", comparison.figure(rows), overwrite=True)
    caption = f"{title}: {options.seeds} seeds, plain, 95 % intervals"
    console.print(comparison.table_of(rows, caption))
    console.print(f"written to {options.out}/{name}.csv and {name}.png", soft_wrap=True)


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    leave_accelerators()
    options = options_of(argv)
    carry_out(options, grid_of(options.grid), "sweep", "sweep")


def leave_accelerators() -> None:
    """What this process tries is tried on the CPU: the accelerators are for the runs."""
    jax.config.update("jax_platforms", "cpu")


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
