"""The command `physics`: what a camera did to one scene, measured on a pair of photographs.

θ is that of `physics.fit_physics`; its uncertainty is a jackknife over strips of the picture, so it
holds what differs from place to place as well as the noise.
"""

import importlib
import io
from typing import Any, NamedTuple

import numpy as np

from pdn_jax import files, photo, places
from pdn_jax.errors import InputError
from pdn_jax.places import Location

STRIPS = 8
"""Strips of which each is left out once."""

T = 2.365
"""Student's 97.5 % quantile for STRIPS − 1 degrees of freedom."""

SMALLEST = 64
"""Pixels a side that a fit without one strip still needs, and some."""


class Measured(NamedTuple):
    """A number with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


def run(low_file: str, normal_file: str, window: int, target: Location | None) -> None:
    """Print the table, and draw the plot where one is asked for.

    Args:
        low_file: the dark photograph.
        normal_file: the well-exposed one.
        window: side of the middle part measured, in pixels; 0 for the whole.
        target: of the plot, or None.

    Raises:
        InputError: photographs that cannot be read or compared, or a plot that cannot be written.
    """
    if window and window < SMALLEST:
        raise InputError(f"--window is {window}; expected 0 or at least {SMALLEST}")
    if target:
        check_plot(target)
    pair = photo.read_pair(low_file, normal_file)
    low, normal = (_middle(image, window) for image in pair)
    size = f"{low.shape[1]}×{low.shape[0]}"
    if min(low.shape[:2]) < SMALLEST:
        raise InputError(f"{low_file} is {size}; at least {SMALLEST} pixels a side are needed")
    rows, physics = measure(low, normal)
    _print(rows, f"{low_file}, {size} pixels of the middle")
    if target:
        drawing = plot(low, normal, physics, target.suffix[1:])
        try:
            with files.atomic_write(target) as file:
                file.write(drawing)
        except OSError as error:
            raise InputError(f"cannot write {target}: {error.strerror}") from error
        print(f"variance against light is in {target}")


def measure(low: np.ndarray, normal: np.ndarray) -> tuple[list[Measured], Any]:
    """Fit a pair, and all of it but each of `STRIPS` strips.

    Args:
        low: the dark photograph, uint8 sRGB [h, w, 3].
        normal: the well-exposed one, of that shape.

    Returns:
        (every number with its interval, θ as `physics.fit_physics` gives it).
    """
    import jax
    import jax.numpy as jnp

    from pdn_jax.physics import fit_physics

    fit = jax.jit(fit_physics)
    low, normal = (jnp.asarray(image, jnp.float32) / 255.0 for image in (low, normal))
    whole = fit(low, normal)
    width = low.shape[1] // (4 * STRIPS) * 4  # whole blocks of the fit
    parts = []
    for strip in range(STRIPS):
        left, right = strip * width, (strip + 1) * width
        parts.append(fit(*(jnp.concatenate([x[:, :left], x[:, right:]], 1) for x in (low, normal))))
    names, centre = zip(*_numbers(whole).items(), strict=True)
    left_out = np.array([list(_numbers(part).values()) for part in parts])
    apart = left_out - left_out.mean(axis=0)
    spread = T * np.sqrt((STRIPS - 1) / STRIPS * (apart**2).sum(axis=0))
    rows = []
    for name, value, margin in zip(names, centre, spread, strict=True):
        ends = value, value - margin, value + margin
        rows.append(Measured(name, *(np.exp(ends) if name.startswith(("gain", "σ")) else ends)))
    return rows, whole


def _numbers(physics: Any) -> dict[str, float]:
    """What is printed of θ; gains and noise as their ln, in which their errors are even."""
    from pdn_jax.calibration import NOISE_FLOOR

    numbers = {"exposure": float(np.log2(physics.exposure))}
    for index, colour in enumerate(("red", "green", "blue")):
        numbers[f"gain {colour}"] = float(np.log(physics.gains[index]))
    for index, colour in enumerate(("red", "green", "blue")):
        numbers[f"offset {colour}"] = float(physics.offset[index])
    numbers["σs"] = float(np.log(np.maximum(physics.shot_noise, NOISE_FLOOR)))
    numbers["σr"] = float(np.log(np.maximum(physics.read_noise, NOISE_FLOOR)))
    return numbers


def _print(rows: list[Measured], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from pdn_jax.calibration import NOISE_FLOOR

    table = Table("", "measured", "95 % interval", title=title, title_justify="left")
    what = {"exposure": "exposure, stops", "σs": "shot noise σs", "σr": "read noise σr"}
    for name, value, low, high in rows:
        style = "{:+.2f}" if name == "exposure" else "{:.3f}" if "gain" in name else "{:.3g}"
        cells = style.format(value), f"{style.format(low)} to {style.format(high)}"
        if name.startswith("σ") and value <= NOISE_FLOOR * 1.001:
            cells = "not seen", f"below 8-bit rounding, {NOISE_FLOOR:.1g}"
        table.add_row(what.get(name, name), *cells)
    console = Console()
    console.print(table)
    console.print(
        "offset, σs and σr are of linear light from 0 to 1, where the variance is σs·light + σr; "
        f"intervals from leaving out each of {STRIPS} strips of the picture"
    )


# --- the plot ----------------------------------------------------------------------------------


def check_plot(path: Location) -> None:
    """Refuse a plot that could not be drawn or written, before the work.

    Args:
        path: of the file.

    Raises:
        InputError: another kind of file, one that exists, no such folder, or no matplotlib.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {path}: expected a name that ends in .png, .svg or .pdf")
    if places.exists(path):
        raise InputError(f"--plot {path} exists; name another file")
    files.check_target(path)
    _matplotlib()


def _matplotlib() -> Any:
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise InputError(
            "--plot needs matplotlib, which is not installed; pip install matplotlib"
        ) from error


def plot(low: np.ndarray, normal: np.ndarray, physics: Any, kind: str) -> bytes:
    """Variance against light: measured points, the fitted line, and what rounding makes of it.

    Args:
        low: the dark photograph, uint8 sRGB [h, w, 3].
        normal: the well-exposed one, of that shape.
        physics: θ of the pair.
        kind: png, svg or pdf.

    Returns:
        The file.
    """
    import jax

    from pdn_jax.fitting import variance_points

    pair = (image.astype(np.float32) / 255.0 for image in (low, normal))
    light, measured, expected = map(np.asarray, jax.jit(variance_points)(*pair, physics))
    figure = _matplotlib().Figure(figsize=(6.4, 4.4), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.plot(light, measured, "o", color="#1b4965", label="measured, in bins of equal population")
    shot, read = float(physics.shot_noise), float(physics.read_noise)
    line = shot * np.maximum(light, 0.0) + read
    axis.plot(light, line, color="#c1121f", label=f"σs·light + σr = {shot:.2g}·light + {read:.2g}")
    axis.plot(light, expected, "--", color="#6b7280", label="the same after 8-bit rounding")
    axis.set(xlabel="light of the dark photo, linear, of 1", ylabel="variance of its noise")
    axis.set_ylim(bottom=0.0)
    axis.grid(color="#e4e4e4")
    axis.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind.lower())
    return buffer.getvalue()


def _middle(image: np.ndarray, window: int) -> np.ndarray:
    height, width = (min(side, window) if window else side for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
