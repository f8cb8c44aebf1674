"""What an enhancement should leave alone, measured: photographs that need nothing, black, turns.

Of pairs (dark photograph y, well-exposed x) and a method E:

    restraint     PSNR(E(x), x), and mean E(x) / mean x of encoded values
    twice = once  PSNR(E(E(y)), E(y))
    turned        PSNR(turn⁻¹ E(turn y), E(y)), turn by a quarter
    letterboxed   |mean of E's picture between black bars / mean E(y) − 1|
    black         the largest value of E(0), of 255

A method of other software is a folder of its results for the inputs that `write_inputs` writes.
"""

import csv
import io
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from pdn_jax import files, metrics, photo, places
from pdn_jax.places import Location
from pdn_jax.types import InputError
from train.data.synthesis import Pair

Restored = Callable[[str, np.ndarray], np.ndarray]
"""(name of an input, the input) -> what a method makes of it, float [h, w, 3]; KeyError for nothing."""

LIMIT = 60.0
"""dB that a PSNR counts at most, as in libvmaf for 8 bits."""

FEWEST = 3
"""Scenes from which an interval is shown; of one alone the bootstrap has no width."""

BAR = 8
"""A letterbox's bars are one part in so many of the photograph's height, above and below."""

PROPERTIES = {
    "restraint": ("restraint, PSNR in dB", "{:.2f}"),
    "ratio": ("restraint, mean out / in", "{:.3f}"),
    "twice": ("twice = once, PSNR in dB", "{:.2f}"),
    "turned": ("quarter turn, PSNR in dB", "{:.2f}"),
    "letterboxed": ("letterboxed, change of the mean", "{:.4f}"),
    "black": ("black frame, largest of 255", "{:.1f}"),
}
"""Column -> (its name, how it is shown)."""


class Properties(NamedTuple):
    """Photographs' names and {column: a value of each}; `black` has one value."""

    names: tuple[str, ...]
    values: dict[str, np.ndarray]

    def interval(self, column: str) -> tuple[float, float]:
        """Bootstrap 95 % interval of a column's mean, over photographs."""
        values = jnp.asarray(self.values[column])
        scenes = jnp.arange(len(values))
        return tuple(map(float, metrics.bootstrap_interval(jax.random.key(0), values, scenes)))


def file_name(name: str) -> str:
    """A pair's name as one of files."""
    return name.replace("/", "_")


def letterboxed(image: np.ndarray) -> np.ndarray:
    """The photograph between two black bars, of the height it had and theirs."""
    bar = np.zeros_like(image[: max(1, len(image) // BAR)])
    return np.concatenate([bar, image, bar])


def inputs(name: str, low: np.ndarray, normal: np.ndarray) -> dict[str, np.ndarray]:
    """What a method is given of one pair, by its `file_name`."""
    return {
        f"{name}-normal": normal,
        f"{name}-low": low,
        f"{name}-turned": np.ascontiguousarray(np.rot90(low)),
        f"{name}-letterboxed": letterboxed(low),
    }


def black_frame() -> np.ndarray:
    """400 × 600 pixels without any light."""
    return np.zeros((400, 600, 3), np.float32)


def measure(method: Restored, pairs: Iterable[Pair]) -> Properties:
    """Every property of a method, one value per pair; nan where a folder has no second round."""
    names, rows = [], []
    for whole, low, normal in pairs:
        name = file_name(whole)
        given = inputs(name, low, normal)
        made = {key: np.clip(method(key, image), 0.0, 1.0) for key, image in given.items()}
        once, boxed = made[f"{name}-low"], made[f"{name}-letterboxed"]
        bar = (len(boxed) - len(once)) // 2
        try:
            twice = psnr(method(f"twice/{name}-low", once), once)
        except KeyError:
            twice = np.nan
        names.append(whole)
        rows.append(
            (
                psnr(made[f"{name}-normal"], normal),
                made[f"{name}-normal"].mean() / max(normal.mean(), 1.0 / 255.0),
                twice,
                psnr(np.rot90(made[f"{name}-turned"], -1), once),
                abs(boxed[bar:-bar].mean() / max(once.mean(), 1.0 / 255.0) - 1.0),
            )
        )
    if not rows:
        raise InputError("no photograph to measure properties of")
    values = dict(zip(PROPERTIES, np.asarray(rows, np.float32).T, strict=False))
    black = 255.0 * np.clip(method("black", black_frame()), 0.0, 1.0).max()
    return Properties(tuple(names), values | {"black": np.asarray([black], np.float32)})


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB, `LIMIT` at most."""
    clipped = jnp.asarray(np.clip(image, 0.0, 1.0)), jnp.asarray(truth)
    return min(float(metrics.psnr(*clipped)), LIMIT)


def table(properties: Properties, title: str) -> Table:
    """A row per property: its mean and 95 % interval, "–" for fewer than `FEWEST` photographs."""
    shown = Table("property", "mean", "95 % interval", title=title)
    for column, (name, form) in PROPERTIES.items():
        mean = float(properties.values[column].mean())
        missing = np.isnan(mean)
        if missing or column == "black":
            span = ""
        elif len(properties.names) < FEWEST:
            span = "–"
        else:
            span = " to ".join(map(form.format, properties.interval(column)))
        shown.add_row(name, "—" if missing else form.format(mean), span)
    return shown


def write_table(path: Location, properties: Properties) -> None:
    """A csv with a row per photograph, then the means and the intervals."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["photograph", *PROPERTIES])
    columns = [column for column in PROPERTIES if column != "black"]
    for row, name in enumerate(properties.names):
        writer.writerow([name, *(f"{properties.values[c][row]:.6f}" for c in columns), ""])
    means = [f"{values.mean():.6f}" for values in properties.values.values()]
    spans = [properties.interval(column) for column in columns]
    writer.writerow(["mean", *means])
    for place, end in enumerate(("interval low", "interval high")):
        writer.writerow([end, *(f"{span[place]:.6f}" for span in spans), ""])
    files.write_text(path, text.getvalue())


# --- other software's results ----------------------------------------------------------------


def write_inputs(folder: Location, pairs: Iterable[Pair]) -> int:
    """Write what a method is to be run on, NAME-low.png and so on; returns how many files.

    Its results, under the same names, go into a folder for `restored_in`; those of its own NAME-low
    once more, into `twice` there.
    """
    if not places.is_url(folder):
        folder.mkdir(parents=True, exist_ok=True)
    count = 0
    of_pairs = (inputs(file_name(name), low, normal) for name, low, normal in pairs)
    for given in itertools.chain([{"black": black_frame()}], of_pairs):
        for name, image in given.items():
            photo.write(folder / f"{name}.png", np.rint(255.0 * image).astype(np.uint8))
            count += 1
    return count


def restored_in(folder: Path) -> Restored:
    """The method whose results lie in a folder, by the names of its inputs, in any image format.

    Raises InputError where one is missing or of another size, KeyError for a missing second round.
    """
    results = {path.stem: path for path in photo.images_in(folder)}
    if (folder / "twice").is_dir():
        results |= {f"twice/{path.stem}": path for path in photo.images_in(folder / "twice")}

    def method(name: str, image: np.ndarray) -> np.ndarray:
        name = name if name.startswith("twice/") else file_name(name)
        if name not in results and name.startswith("twice/"):
            raise KeyError(name)
        if name not in results:
            raise InputError(
                f"{folder} has no photograph {name}; --inputs DIR writes what to run on"
            )
        restored = photo.read(results[name]).astype(np.float32) / 255.0
        if restored.shape != image.shape:
            sizes = [f"{shape[1]}×{shape[0]}" for shape in (restored.shape, image.shape)]
            raise InputError(f"{results[name]} has {sizes[0]} pixels; its input has {sizes[1]}")
        return restored

    return method
