"""What a calibration shows: tables, the fitted and the drawn θ, real dark frames beside synthetic ones."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.table import Table

from pdn_jax import calibration, degradation
from pdn_jax import image as im
from pdn_jax.calibration import Calibration
from pdn_jax.sheet import contact_sheet
from pdn_jax.types import Physics, PRNGKey
from train.data.calibrated_camera import Fit

DEGRADE = degradation.camera()

DRAWS = 4000
"""θ drawn for the tables and the plot."""

ROWS = 4
"""Pairs in the picture."""

TITLES = (
    *("real low", "synthetic low"),
    *("real, brightened", "synthetic, brightened"),
    "residual noise",
)

SERIES = ("#2a6fbb", "#d9822b")
"""Colours of fitted or real, and of drawn or synthetic."""


# --- the distribution --------------------------------------------------------------------------


def coordinates(camera: Calibration) -> dict[str, np.ndarray]:
    """Name -> values, in the units of the tables: as they are, but offsets as parts of κ."""
    colours = ("red", "green", "blue")
    gains, veil = np.exp(camera.log_gains), np.asarray(camera.veil)
    return {
        "κ": np.exp(camera.log_exposure),
        **{f"gain {colour}": gains[:, place] for place, colour in enumerate(colours)},
        **{f"offset/κ {colour}": veil[:, place] for place, colour in enumerate(colours)},
        **{"σs": np.exp(camera.log_shot), "σr": np.exp(camera.log_read)},
    }


@jax.jit
def drawn_like(camera: Calibration) -> Calibration:
    """`DRAWS` points of the distribution, always the same."""
    return calibration.draw(jax.random.key(0), camera, (DRAWS,))


def tables(fits: Sequence[Fit], camera: Calibration) -> list[Table]:
    """θ fitted and drawn; the residual noise of real and synthetic frames; what was left out."""
    sound = [fit.evidence for fit in fits if not fit.reason]
    theta = Table("", "fitted", "5–95 %", "drawn", "5–95 %", title=f"θ of {len(sound)} pairs")
    drawn = coordinates(drawn_like(camera))
    for name, values in coordinates(camera).items():
        theta.add_row(name, *_summary(values), *_summary(drawn[name]))

    title = "What remains of a frame less its mean: median over pairs, and 5–95 %"
    remains = Table("", "real", "5–95 %", "synthetic", "5–95 %", title=title)
    for label, name in (("spread, of 255", "noise"), ("neighbours' correlation", "correlation")):
        both = (np.asarray([e[key] for e in sound]) for key in (name, f"model_{name}"))
        remains.add_row(label, *itertools.chain(*map(_summary, both)))

    left = Table("left out", "why", title=f"{len(fits) - len(sound)} of {len(fits)} pairs left out")
    for fit in [fit for fit in fits if fit.reason]:
        left.add_row(fit.name, fit.reason)
    return [theta, remains, *([left] if left.row_count else [])]


def _summary(values: np.ndarray) -> tuple[str, str]:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{middle:.3g}", f"{low:.3g} – {high:.3g}"


def distribution_plot(camera: Calibration) -> np.ndarray:
    """Histograms of every coordinate, fitted and drawn; uint8."""
    from matplotlib.figure import Figure

    fitted, drawn = coordinates(camera), coordinates(drawn_like(camera))
    figure = Figure(figsize=(10, 9), dpi=100, layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    for axis, name in zip(axes, fitted, strict=True):
        low, high = np.quantile(np.concatenate([fitted[name], drawn[name]]), [0.002, 0.998])
        space = np.geomspace if name in LOGARITHMIC else np.linspace
        edges = space(low, high, 31) if high > low else 31
        _bars(axis, {"fitted": fitted[name], "drawn": drawn[name]}, edges)
        axis.set(xscale="log" if name in LOGARITHMIC else "linear", title=name)
    axes[0].legend(frameon=False)
    return pixels(figure)


LOGARITHMIC = ("κ", "σs", "σr")


def _bars(axis, series: dict[str, np.ndarray], edges):
    """Each series' part of values between the edges, over one another."""
    for (label, values), colour in zip(series.items(), SERIES, strict=True):
        weights = np.full(len(values), 1.0 / max(len(values), 1))
        axis.hist(values, edges, weights=weights, color=colour, alpha=0.55, label=label)
    axis.set_yticks([])


def pixels(figure) -> np.ndarray:
    """A matplotlib figure as uint8 [h, w, 3], drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


# --- synthetic dark frames beside real ones ----------------------------------------------------


@functools.partial(jax.jit, static_argnames="draws")
def _candidates(key, normal, camera, draws):
    keys = jax.random.split(key, draws)
    physics = jax.vmap(lambda k: calibration.sample_like(k, normal, camera))(keys)
    return physics, jax.lax.map(lambda theta: DEGRADE.mean(normal, theta).mean(), physics)


_mean_of = jax.jit(lambda normal, physics: DEGRADE.mean(normal, physics).mean())
_sample = jax.jit(DEGRADE.sample)


def dark_as(
    key: PRNGKey, normal: Array, camera: Calibration, brightness: float
) -> tuple[Array, Physics]:
    """A synthetic dark frame of that mean, and its θ.

    Of 64 draws the one that comes nearest to the mean by itself, so that its noise and offset go
    with that brightness; then κ is solved for the rest by bisection.
    """
    draw_key, sample_key = jax.random.split(key)
    many, means = _candidates(draw_key, normal, camera, 64)
    nearest = int(jnp.argmin(jnp.abs(means - brightness)))
    physics = jax.tree.map(lambda leaf: leaf[nearest], many)
    lower, upper = np.log(1e-4), 0.0
    for _ in range(24):
        middle = 0.5 * (lower + upper)
        physics = physics.replace(exposure=jnp.exp(jnp.asarray(middle, jnp.float32)))
        above = float(_mean_of(normal, physics)) > brightness
        lower, upper = (lower, middle) if above else (middle, upper)
    return _sample(sample_key, normal, physics), physics


def examples(sound: Sequence[Fit]) -> dict[str, Fit]:
    """Some of the pairs, by name, from the darkest exposure to the lightest."""
    ordered = sorted(sound, key=lambda fit: float(fit.physics.exposure))
    places = np.unique(np.linspace(0, len(ordered) - 1, 2 * ROWS + 1).round().astype(int)[1::2])
    return {ordered[place].name: ordered[place] for place in places}


def pairs_picture(
    shown: Sequence[tuple[str, np.ndarray, np.ndarray]], fits: dict[str, Fit], camera: Calibration
) -> np.ndarray:
    """Rows of real and synthetic low, both as they are and brightened alike, and their residuals; uint8."""
    rows = []
    for place, (name, low, normal) in enumerate(shown):
        dark, truth = (jnp.asarray(part, jnp.float32) / 255.0 for part in (low, normal))
        key = jax.random.fold_in(jax.random.key(1), place)
        synthetic, drawn = dark_as(key, truth, camera, float(dark.mean()))
        factor = float(im.linearize(truth).mean() / im.linearize(dark).mean())
        weight = np.asarray((dark < 0.98) & (truth < 0.98))
        fitted = jax.tree.map(jnp.asarray, fits[name].physics)
        residuals = [
            np.asarray(255.0 * (frame - DEGRADE.mean(truth, physics)))[weight]
            for frame, physics in ((dark, fitted), (synthetic, drawn))
        ]
        frames = [low, _photograph(synthetic)]
        bright = [_photograph(im.render(factor * im.linearize(f))) for f in (dark, synthetic)]
        rows.append([*frames, *bright, _residual_plot(residuals, low.shape[0])])
    height = max(low.shape[0] for _, low, _ in shown)
    return contact_sheet(rows, TITLES, [name for name, *_ in shown], height)


def _photograph(image: Array) -> np.ndarray:
    return np.asarray(np.rint(np.clip(image, 0.0, 1.0) * 255.0), np.uint8)


def _residual_plot(residuals: Sequence[np.ndarray], height: int) -> np.ndarray:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 2.6), dpi=max(height, 128) / 2.6, layout="constrained")
    axis = figure.subplots()
    reach = max(1.0, *(float(np.quantile(np.abs(r), 0.99)) for r in residuals))
    edges = np.linspace(-reach, reach, 61)
    _bars(axis, dict(zip(("real", "synthetic"), residuals, strict=True)), edges)
    axis.set_xlabel("levels of 255")
    axis.legend(frameon=False, fontsize=8)
    return pixels(figure)
