"""Ablation: the same short training with one change at a time, and its Δ from the baseline.

    python -m train.tools.ablation claims --config configs/study.py --out runs/claims

trains every arm of a study with every seed, each a run folder of its own under --out, and compares
it with the study's first arm, the baseline, photograph by photograph: table, study.csv, study.png. Runs that are
there already are not done again, and stopped ones go on, so the same command finishes a study. What
follows the options goes to `train.main`, for every arm alike: --config.train.steps=500.
"""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from pdn_jax import cli, files, photo
from pdn_jax.types import InputError
from train.config import differences, parse
from train.run_dir import FREE
from train.tools.calibration_report import pixels

STUDIES: dict[str, dict[str, dict[str, object]]] = {
    "claims": {
        "dynamic balance": {},
        "no negative direction": {"loss.balance": "positive_only"},
        "fixed weight": {"loss.balance": "fixed"},
        "negative on synthetic only": {"data.fitted": False},
        "one stage": {"model.change": (("stages", 1),)},
        "one level": {"model.change": (("widths", (16,)), ("depths", (0,)), ("blocks", (2,)))},
        "no noise map": {"model.change": (("noise_map", False),)},
    },
    "recipe": {
        "as it is": {},
        "no augmentation": {
            **{"augment.probability": 0.0, "augment.scaled": 0.0},
            **{"data.grain": 0.0, "data.wide": 0.0},
        },
        "small crops to the end": {"data.final_size": 0},
        "rate 4e-3": {"train.learning_rate": 4e-3},
    },
    "precision": {
        "float32": {},
        "bfloat16": {"model.dtype": "bfloat16"},
        "float32 in two parts": {"train.accumulate": 2},
    },
}
"""Study -> arm -> options that differ from the config; the first arm is the baseline.

"one level" works at full size with as many products as `tiny` has on its three levels. "float32 in
two parts" is the same arithmetic in another order: what it differs by is rounding alone.
"""

METHOD = "this model"
OWN = ("run_dir", "resume", "seed")
"""Options that the study sets itself."""


class Difference(NamedTuple):
    """Δ of an arm's mean from the baseline's, and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


class Scores(NamedTuple):
    """A run's photographs, the number of each one's scene, and plain (PSNR, SSIM), [photographs, 2]."""

    names: list[str]
    scenes: np.ndarray
    values: np.ndarray


def scores_of(run_dir: Path) -> Scores:
    """What a finished run's evaluation.csv says of the network."""
    with (run_dir / "evaluation.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == METHOD and row["scene"]]
    names, scenes = ([row[column] for row in rows] for column in ("photograph", "scene"))
    values = np.array([[row["psnr"], row["ssim"]] for row in rows], float)
    return Scores(names, np.array(scenes), values)


def sets_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Data set -> places of its photographs, by what stands before the first '/' of a name, if any."""
    sets: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        data, slash, _ = name.partition("/")
        sets.setdefault(data if slash else "photographs", []).append(place)
    return sets


def difference(ours: np.ndarray, baseline: np.ndarray, scenes: np.ndarray) -> Difference:
    """Mean of ours − baseline, [seeds, photographs] each, with the interval that both leave.

    Seeds and scenes are crossed: V = V_seed + V_scene − V_both, each clustered (Cameron, Gelbach and
    Miller, Robust Inference with Multiway Clustering, 2011), and Student's t with Satterthwaite's
    degrees of freedom. So it holds what another seed would change as well as what other scenes would.
    One seed or one scene leaves its part out.
    """
    apart = ours - baseline
    left = apart - apart.mean()
    cells = np.stack([left[:, scenes == scene].sum(1) for scene in np.unique(scenes)], axis=1)

    def clustered(totals: np.ndarray) -> float:
        count = totals.size
        return (totals**2).sum() / apart.size**2 * count / (count - 1) if count > 1 else 0.0

    parts = clustered(cells.sum(1)), clustered(cells.sum(0))
    variance = max(sum(parts) - clustered(cells.ravel()), *parts)
    spread = 0.0
    if variance > 0.0:
        free = zip(parts, cells.shape, strict=True)
        freedom = variance**2 / sum(part**2 / max(count - 1, 1) for part, count in free)
        spread = float(stats.t.ppf(0.975, freedom) * variance**0.5)
    mean = float(apart.mean())
    return Difference(mean, mean - spread, mean + spread)


# --- running -------------------------------------------------------------------------------------


def run_dir_of(out: Path, arm: str, seed: int) -> Path:
    """Where an arm's run with a seed lies."""
    return out / f"{arm.replace(' ', '-')}-{seed}"


def is_finished(run_dir: Path, command: Sequence[str]) -> bool:
    """Whether the run is there; raises InputError where it was given other options."""
    if not (run_dir / "evaluation.csv").exists():
        return False
    asked = parse(command).to_dict()
    apart = differences(json.loads((run_dir / "config.json").read_text()), asked, FREE)
    if apart:
        raise InputError(f"{run_dir} is a run of other options ({apart[0]}); name another --out")
    return True


def train_one(options, arm: str, changes: dict[str, object], seed: int) -> None:
    """One run by `train.main` in a process of its own, unless it is finished; raises InputError."""
    run_dir = run_dir_of(options.out, arm, seed)
    settings = {"run_dir": run_dir, "resume": "true", "seed": seed} | changes
    own = [f"--config.{key}={value}" for key, value in settings.items()]
    command = ["--config", options.config, *own, *options.more]
    if is_finished(run_dir, command):
        return
    log = run_dir.with_suffix(".log")
    with log.open("a") as file:
        whole = [sys.executable, "-m", "train.main", *command]
        done = subprocess.run(whole, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        said = log.read_text().strip().splitlines() or ["nothing"]
        raise InputError(f"{arm!r}, seed {seed}, stopped with {done.returncode}: {said[-1]}")


def train_all(options, arms: dict[str, dict[str, object]], console: Console) -> None:
    """Every arm with every seed, seed by seed, `jobs` at a time."""
    tasks = [(arm, changes, seed) for seed in range(options.seeds) for arm, changes in arms.items()]
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(train_one, options, *task) for task in tasks]
        try:
            for (arm, _, seed), future in zip(tasks, futures, strict=True):
                future.result()
                console.print(f"{arm}, seed {seed}: done")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# --- what came out ---------------------------------------------------------------------------------


def collect(options, arms: Sequence[str]) -> tuple[Scores, dict[str, np.ndarray]]:
    """(one run's photographs, arm -> [seeds, photographs, 2]) of finished runs."""
    seeds = range(options.seeds)
    scores = {
        arm: [scores_of(run_dir_of(options.out, arm, seed)) for seed in seeds] for arm in arms
    }
    one = scores[arms[0]][0]
    if any(other.names != one.names for runs in scores.values() for other in runs):
        raise InputError(
            f"{options.out} holds runs judged by other photographs; name another --out"
        )
    return one, {arm: np.stack([run.values for run in runs]) for arm, runs in scores.items()}


def compared(judged: Scores, scores: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """A row per data set and arm: means, and the paired differences from the baseline."""
    baseline, rows = next(iter(scores.values())), []
    for data, places in sets_of(judged.names).items():
        scenes = judged.scenes[places]
        for arm, values in scores.items():
            row = {"arm": arm, "data": data, "photographs": len(places)}
            row |= {"scenes": len(set(scenes)), "seeds": len(values)}
            for index, metric in enumerate(("psnr", "ssim")):
                ours, first = (each[:, places, index] for each in (values, baseline))
                row[metric] = float(ours.mean())
                row[f"{metric} difference"] = difference(ours, first, scenes)
            rows.append(row)
    return rows


def table_of(rows: Sequence[dict[str, object]], title: str) -> Table:
    """The rows, as printed."""
    table = Table(title=title)
    for name in ("data", "arm", "PSNR", "SSIM", "Δ PSNR from baseline", "Δ SSIM from baseline"):
        table.add_column(name, justify="left" if name in ("data", "arm") else "right")
    for place, row in enumerate(rows):
        last = place + 1 == len(rows) or rows[place + 1]["data"] != row["data"]
        changes = [str(row[f"{metric} difference"]) for metric in ("psnr", "ssim")]
        means = f"{row['psnr']:.2f}", f"{row['ssim']:.3f}"
        table.add_row(str(row["data"]), str(row["arm"]), *means, *changes, end_section=last)
    return table


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """The rows with each interval's ends in columns of their own."""
    text, flat = io.StringIO(), [{} for _ in rows]
    for cells, row in zip(flat, rows, strict=True):
        for name, value in row.items():
            ends = value._asdict() if isinstance(value, Difference) else {"": value}
            cells |= {f"{name} {end}".strip(): each for end, each in ends.items()}
    writer = csv.DictWriter(text, flat[0])
    writer.writeheader()
    writer.writerows(flat)
    files.write_text(path, text.getvalue())


def figure(rows: Sequence[dict[str, object]]) -> np.ndarray:
    """Δ from the baseline with its interval, a panel for each set and metric; uint8."""
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(str(row["data"]) for row in rows))
    arms = list(dict.fromkeys(str(row["arm"]) for row in rows))[1:]
    size = 9.0, 0.8 + (0.5 + 0.32 * len(arms)) * len(sets)
    sheet = Figure(figsize=size, dpi=110, layout="constrained")
    axes = sheet.subplots(len(sets), 2, squeeze=False, sharey=True)
    units = {"psnr": "PSNR, dB", "ssim": "SSIM"}
    for data, pair in zip(sets, axes, strict=True):
        others = [row for row in rows if row["data"] == data][1:]
        for axis, (metric, unit) in zip(pair, units.items(), strict=True):
            for height, row in enumerate(others):
                value = row[f"{metric} difference"]
                colour = "#1b4965" if value.low > 0 or value.high < 0 else "#9aa5ad"
                axis.plot([value.low, value.high], [height, height], color=colour, lw=2)
                axis.plot([value.mean], [height], "o", color=colour)
            axis.axvline(0.0, color="#c1121f", lw=1)
            axis.set_yticks(range(len(others)), [str(row["arm"]) for row in others])
            axis.set(xlabel=f"Δ {unit} from {rows[0]['arm']}", title=data)
    axes[0, 0].invert_yaxis()  # and all others with it
    return pixels(sheet)


def options_of(argv: Sequence[str]):
    """The parsed command line; what it does not know must be for `train.main`, and is checked."""
    parser = cli.Parser(prog="python -m train.tools.ablation", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("study", choices=STUDIES, help="which arms")
    add("--config", required=True, help="a config of a short training")
    add("--out", required=True, type=Path, help="folder of the runs and the results")
    add("--seeds", type=int, default=3, help="seeds 0, 1, … of each arm (default 3)")
    add("--jobs", type=int, default=1, help="runs at a time (default 1)")
    options, options.more = parser.parse_known_args(argv)
    if options.seeds < 1 or options.jobs < 1:
        raise InputError(f"--seeds {options.seeds} and --jobs {options.jobs} must be 1 or more")
    parse(["--config", options.config, *options.more])
    own = {*OWN, *(key for changes in STUDIES[options.study].values() for key in changes)}
    for given in options.more:
        if given.removeprefix("--config.").partition("=")[0] in own:
            raise InputError(f"{given} is what the study itself sets, run by run; leave it out")
    return options


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    options, console = options_of(argv), Console()
    arms = STUDIES[options.study]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {options.out} cannot be made: {error.strerror}") from error
    train_all(options, arms, console)
    rows = compared(*collect(options, list(arms)))
    write_csv(options.out / "study.csv", rows)
    photo.write(options.out / "study.png", figure(rows), overwrite=True)
    console.print(table_of(rows, f"{options.study}: {options.seeds} seeds, plain, 95 % intervals"))
    console.print(f"written to {options.out}/study.csv and study.png", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
