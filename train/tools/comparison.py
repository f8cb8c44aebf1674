"""Finished runs held against each other: photograph by photograph, over seeds and scenes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table
from scipy import stats

from pdn_jax import files
from pdn_jax.types import InputError
from train.tools.calibration_report import pixels

METHOD = "this model"


class Difference(NamedTuple):
    """Δ of an arm's mean from the baseline's, and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


class Scores(NamedTuple):
    """A run's photographs, the number of each one's scene, and plain (PSNR, SSIM), [photographs, 2]."""

    names: tuple[str, ...]
    scenes: tuple[str, ...]
    values: np.ndarray


def scores_of(run_dir: Path) -> Scores:
    """What a finished run's evaluation.csv says of the network."""
    with (run_dir / "evaluation.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == METHOD and row["scene"]]
    names, scenes = (tuple(row[name] for row in rows) for name in ("photograph", "scene"))
    return Scores(names, scenes, np.array([[float(r["psnr"]), float(r["ssim"])] for r in rows]))


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


# --- what came out ---------------------------------------------------------------------------------


def collect(runs: dict[str, list[Path]]) -> tuple[Scores, dict[str, np.ndarray]]:
    """(one run's photographs, arm -> [seeds, photographs, 2]) of finished runs, a folder a seed."""
    scores = {arm: [scores_of(folder) for folder in folders] for arm, folders in runs.items()}
    one = next(iter(scores.values()))[0]
    for arm, several in scores.items():
        for folder, other in zip(runs[arm], several, strict=True):
            if other.names != one.names:
                raise InputError(f"{folder} was judged by other photographs; name another --out")
    return one, {arm: np.stack([run.values for run in several]) for arm, several in scores.items()}


def compared(judged: Scores, scores: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """A row per data set and arm: means, and the paired differences from the baseline."""
    baseline, rows = next(iter(scores.values())), []
    for data, places in sets_of(judged.names).items():
        scenes = np.array(judged.scenes)[places]
        for arm, values in scores.items():
            row = {"arm": arm, "data": data, "photographs": len(places)}
            row |= {"scenes": len(set(scenes)), "seeds": len(values)}
            for index, metric in enumerate(("psnr", "ssim")):
                ours, first = (each[:, places, index] for each in (values, baseline))
                row[metric] = float(ours.mean())
                ends = difference(ours, first, scenes)._asdict()
                row |= {f"{metric} difference {end}": value for end, value in ends.items()}
            rows.append(row)
    return rows


def difference_in(row: dict[str, object], metric: str) -> Difference:
    """That of a row of `compared`."""
    return Difference(*(row[f"{metric} difference {end}"] for end in Difference._fields))


def table_of(rows: Sequence[dict[str, object]], title: str) -> Table:
    """The rows, as printed."""
    table = Table(title=title)
    for name in ("data", "arm", "PSNR", "SSIM", "Δ PSNR from baseline", "Δ SSIM from baseline"):
        left = name in ("data", "arm")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for place, row in enumerate(rows):
        last = place + 1 == len(rows) or rows[place + 1]["data"] != row["data"]
        changes = [str(difference_in(row, metric)) for metric in ("psnr", "ssim")]
        means = f"{row['psnr']:.2f}", f"{row['ssim']:.3f}"
        table.add_row(str(row["data"]), str(row["arm"]), *means, *changes, end_section=last)
    return table


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """The rows, as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def figure(rows: Sequence[dict[str, object]]) -> np.ndarray:
    """Δ from the baseline with its interval, a panel for each set and metric; uint8."""
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(str(row["data"]) for row in rows))
    arms = list(dict.fromkeys(str(row["arm"]) for row in rows))[1:]
    sheet = Figure(figsize=(9.0, 0.8 + (0.5 + 0.32 * len(arms)) * len(sets)), dpi=110)
    sheet.set_layout_engine("constrained")
    axes = sheet.subplots(len(sets), 2, squeeze=False, sharey=True)
    units = {"psnr": "PSNR, dB", "ssim": "SSIM"}
    for data, pair in zip(sets, axes, strict=True):
        others = [row for row in rows if row["data"] == data][1:]
        for axis, (metric, unit) in zip(pair, units.items(), strict=True):
            for height, row in enumerate(others):
                value = difference_in(row, metric)
                clear = value.low > 0 or value.high < 0
                colour = "#1b4965" if clear else "#9aa5ad"
                axis.plot([value.low, value.high], [height, height], color=colour, lw=2)
                axis.plot([value.mean], [height], "o", color=colour)
            axis.axvline(0.0, color="#c1121f", lw=1)
            axis.set_yticks(range(len(others)), [str(row["arm"]) for row in others])
            axis.set_xlabel(f"Δ {unit} from {rows[0]['arm']}")
            axis.set_title(data)
            axis.locator_params("x", nbins=5)
    axes[0, 0].set_ylim(len(arms) - 0.5, -0.5)  # and all others with it
    return pixels(sheet)
