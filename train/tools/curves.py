"""The curves of a run: what metrics.csv holds, drawn as SVG or PNG."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pdn_jax.types import InputError
from train.metrics import FILENAME, Row, read_rows

COLOURS = ("#2a6fbb", "#d9822b", "#3a8f5c", "#b5446e", "#7a5bb5", "#6b7280", "#a08a1f", "#2aa5b5")
POINTS = 300
"""Points of a curve; longer ones are drawn as means of as many stretches, and their spread."""


class Panel(NamedTuple):
    """One drawing: its title, the columns in it, whether it is logarithmic where no value forbids it."""

    title: str
    columns: tuple[str, ...]
    logarithmic: bool = False


PANELS = (
    Panel("Loss", ("loss", "positive", "negative"), logarithmic=True),
    Panel("PSNR of the held-out pairs, dB", ("eval/psnr",)),
    Panel("SSIM of the held-out pairs", ("eval/ssim",)),
    Panel("Learning rate", ("learning_rate",)),
    Panel("Balance: ratio of the weighted gradients", ("balance/ratio",)),
    Panel("Balance: cosine of the gradients", ("balance/cosine",)),
    Panel("Balance: weight of the negative direction", ("balance/weight",)),
    Panel("Norm of the gradient", ("gradient_norm",), logarithmic=True),
    Panel("Images per second", ("images_per_second",)),
)
PARTS = "Parts of the loss"
"""What is in no panel has one of its own, after the loss."""


def panels(rows: Sequence[Row]) -> list[Panel]:
    """The panels that have something to show, with what is in no other."""
    there = {name for row in rows for name, cell in row.items() if cell} - {"step"}
    others = there - {name for panel in PANELS for name in panel.columns}
    parts = Panel(PARTS, tuple(sorted(others)), logarithmic=True)
    filled = [
        panel._replace(columns=tuple(name for name in panel.columns if name in there))
        for panel in (PANELS[0], parts, *PANELS[1:])
    ]
    return [panel for panel in filled if panel.columns]


BALANCE = (
    Panel("The two directions", ("positive", "negative"), logarithmic=True),
    Panel(
        "Weight of the negative one, and ratio of the gradients",
        ("balance/weight", "balance/ratio"),
        logarithmic=True,
    ),
    Panel("Cosine of the gradients: 1 is the same way", ("balance/cosine",)),
)
"""What the dynamic balance is to be seen by."""


def dynamic_balance(metrics: str | Path, kind: str = "svg") -> bytes:
    """The balance over a training as one drawing, svg or png, from its metrics.csv or a run folder.

    Raises InputError where there is no balance: no such file, or one of the positive direction alone.
    """
    path = Path(metrics)
    path = path / FILENAME if path.is_dir() else path
    rows = read_rows(path)
    if not any(row.get("balance/weight") for row in rows):
        raise InputError(f"{path} has no column balance/weight: no run with both directions")
    return draw(*BALANCE, rows=rows, kind=kind)


def drawings(rows: Sequence[Row]) -> dict[str, bytes]:
    """Title -> SVG of every panel, none where there are no rows."""
    return {panel.title: draw(panel, rows=rows) for panel in panels(rows)}


def curve(rows: Sequence[Row], column: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of a column, where it has finite ones."""
    points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
    steps, values = np.asarray(points, float).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def thinned(steps: np.ndarray, values: np.ndarray, most: int = POINTS):
    """(steps, means, low, high) of at most so many stretches; low and high are the 10 % and 90 %."""
    groups = np.array_split(np.arange(len(steps)), min(most, len(steps)))
    means = [(steps[group].mean(), values[group].mean()) for group in groups]
    spans = [np.quantile(values[group], [0.1, 0.9]) for group in groups]
    return (*np.asarray(means).reshape(-1, 2).T, *np.asarray(spans).reshape(-1, 2).T)


def draw(*several: Panel, rows: Sequence[Row], kind: str = "svg") -> bytes:
    """Panels above each other as svg or png.

    Letters are drawn as paths, and no date is in it, so that the same rows give the same.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "pdn_jax", "svg.fonttype": "path"}):
        figure = Figure(figsize=(5.4, 0.4 + 2.7 * len(several)), layout="constrained")
        axes = figure.subplots(len(several), sharex=True, squeeze=False).ravel()
        for axis, panel in zip(axes, several, strict=True):
            _plot(axis, panel, rows)
        axes[-1].set_xlabel("step")
        buffer = io.BytesIO()
        undated = {"Date": None, "Creator": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, metadata=undated)
    return buffer.getvalue()


def _plot(axis, panel: Panel, rows: Sequence[Row]) -> None:
    """The columns of a panel as curves on one axis."""
    curves = {name: curve(rows, name) for name in panel.columns}
    curves = {name: points for name, points in curves.items() if len(points[0])}
    for colour, (name, (steps, values)) in zip(itertools.cycle(COLOURS), curves.items()):
        middle, means, low, high = thinned(steps, values)
        if len(steps) > POINTS:
            axis.fill_between(middle, low, high, color=colour, alpha=0.2, linewidth=0)
        marker = "o" if len(steps) <= 40 else None
        axis.plot(middle, means, color=colour, marker=marker, markersize=3, label=name)
    everything = np.concatenate([values for _, values in curves.values()] or [np.zeros(0)])
    if panel.logarithmic and (everything >= 0.0).all() and (everything > 0.0).any():
        axis.set_yscale("log", nonpositive="mask")
    axis.set_title(panel.title, loc="left", fontsize=10.5, fontweight="bold")
    axis.grid(color="#e4e4e4", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axis.legend(frameon=False, fontsize=8)
