"""Scores of an enhancement over pairs: per image, mean, bootstrap intervals.

    python -m train.evaluate --weights RUN_FOLDER --data lol --split test
    python -m train.evaluate --weights RUN_FOLDER --low DIR --normal DIR [--out table.csv]
    python -m train.evaluate --restored DIR --data lol --split test       # other software's results
    python -m train.evaluate --weights small --data lol --split dev --properties

prints and writes the table, plain numbers first; GT-mean numbers, which lean on the truth,
stand beside them under their own name. `--properties` measures restraint and the like instead, see
`train.properties`. PSNR is at most 60 dB: rounding to 8 bits alone leaves 59,
and of two equal photographs, as of two black ones, it would be infinite, and every mean with it.
"""

import csv
import hashlib
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from pdn_jax import cli, copies, enhance_photos, files, inference, metrics, photo, places
from pdn_jax import weights as weight_files
from pdn_jax.compiled import Compiled
from pdn_jax.places import Location
from pdn_jax.types import InputError
from train import properties
from train.data import store, synthesis
from train.data.prepare import pairing
from train.properties import LIMIT

COLUMNS = ("psnr", "ssim", "gt_mean_psnr", "gt_mean_ssim")


class Scores(NamedTuple):
    """Rows of one method: image names, a float array [images, len(COLUMNS)], a scene's number each.

    Photographs with the same truth show the same scene.
    """

    names: tuple[str, ...]
    values: np.ndarray
    scenes: tuple[int, ...]

    def mean(self, column: str) -> float:
        """The mean of one column over the images."""
        return float(self.values[:, COLUMNS.index(column)].mean())

    def interval(self, column: str) -> tuple[float, float]:
        """Bootstrap 95 % interval of that mean, over scenes."""
        values = jnp.asarray(self.values[:, COLUMNS.index(column)])
        ends = metrics.bootstrap_interval(jax.random.key(0), values, jnp.asarray(self.scenes))
        return tuple(map(float, ends))


@Compiled
def _score(image, truth):
    matched = metrics.gt_mean(image, truth)
    pairs = ((image, truth), (matched, truth))
    both = [(jnp.minimum(metrics.psnr(*pair), LIMIT), metrics.ssim(*pair)) for pair in pairs]
    return jnp.stack([value for scores in both for value in scores])


def score(method: Callable[[np.ndarray], np.ndarray], pairs: Iterable[synthesis.Pair]) -> Scores:
    """Plain and GT-mean PSNR (up to `LIMIT`) and SSIM of method(low), one row per pair."""
    return score_named(lambda name, low: method(low), pairs)


def score_named(method: properties.Restored, pairs: Iterable[synthesis.Pair]) -> Scores:
    """`score` of a method that is also given the pair's name."""
    names, rows, scenes, known = [], [], [], {}
    for name, low, normal in pairs:
        result = np.clip(np.asarray(method(name, low), np.float32), 0.0, 1.0)
        rows.append(np.asarray(_score(jnp.asarray(result), jnp.asarray(normal))))
        names.append(name)
        scenes.append(known.setdefault(hashlib.sha256(normal.tobytes()).digest(), len(known)))
    return Scores(tuple(names), np.stack(rows), tuple(scenes))


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "input": lambda low: low,
    "gamma 0.45": Compiled(lambda low: metrics.gamma(low, 0.45)),
    "equalised": Compiled(metrics.equalize),
}


def model_method(weights: weight_files.Weights) -> Callable[[np.ndarray], np.ndarray]:
    """The network with those weights as a method for `score`."""
    return lambda low: inference.enhance(low, weights)


def over_turns(method: properties.Restored, turns: int) -> properties.Restored:
    """The mean of what a method makes of a photograph and its mirror image (2), of both and both
    upside down (4), or of those and their quarter turns (8), each turned back."""
    places_of = {1: (0,), 2: (0, 4), 4: (0, 2, 4, 6), 8: range(8)}[turns]

    def mean(name: str, low: np.ndarray) -> np.ndarray:
        total = np.zeros_like(low)
        for place in places_of:
            turned = np.rot90(low, place % 4)
            result = method(name, np.ascontiguousarray(turned[:, :: -1 if place > 3 else 1]))
            total += np.rot90(result[:, :: -1 if place > 3 else 1], -(place % 4))
        return total / turns

    return mean


def comparison(weights: weight_files.Weights, pairs: Iterable[synthesis.Pair]) -> dict[str, Scores]:
    """`score` of every baseline and of the network, which is named 'this model'."""
    methods = BASELINES | {"this model": model_method(weights)}
    return {name: score(method, pairs) for name, method in methods.items()}


def comparison_table(results: dict[str, Scores]) -> Table:
    """PSNR / SSIM, plain: a row per image and the mean, a column per method."""
    table = Table(title=f"PSNR in dB (at most {LIMIT:g}) / SSIM, plain")
    table.add_column("photograph")
    for name in results:
        table.add_column(name, justify="right")
    names = next(iter(results.values())).names
    for row, name in enumerate(names):
        cells = [f"{s.values[row, 0]:.2f} / {s.values[row, 1]:.3f}" for s in results.values()]
        table.add_row(name, *cells, end_section=row == len(names) - 1)
    means = [f"{s.mean('psnr'):.2f} / {s.mean('ssim'):.3f}" for s in results.values()]
    table.add_row("mean", *means, style="bold")
    return table


def scores_table(scores: Scores, title: str) -> Table:
    """One method's table: every column per image, then mean and 95 % interval.

    The interval of fewer than `properties.FEWEST` scenes is "–".
    """
    table = Table("photograph", *(name.replace("_", "-") for name in COLUMNS), title=title)
    for name, row in zip(scores.names, scores.values, strict=True):
        table.add_row(name, *(f"{value:.3f}" for value in row))
    table.add_section()
    table.add_row("mean", *(f"{scores.mean(c):.3f}" for c in COLUMNS), style="bold")
    spans = ["–"] * len(COLUMNS)
    if len(set(scores.scenes)) >= properties.FEWEST:
        spans = ["{:.3f} to {:.3f}".format(*scores.interval(column)) for column in COLUMNS]
    table.add_row("95 % interval", *spans)
    return table


def write_table(path: Location, results: dict[str, Scores]) -> None:
    """A csv with a row per method and image, then the means and the intervals."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["method", "photograph", "scene", *COLUMNS])
    for method, scores in results.items():
        for name, scene, row in zip(scores.names, scores.scenes, scores.values, strict=True):
            writer.writerow([method, name, scene, *(f"{value:.6f}" for value in row)])
        summary = [(scores.mean(column), *scores.interval(column)) for column in COLUMNS]
        for part, row in zip(
            ("mean", "interval low", "interval high"), zip(*summary, strict=True), strict=True
        ):
            writer.writerow([method, part, "", *(f"{value:.6f}" for value in row)])
    files.write_text(path, text.getvalue())


def read_pairs(low: Path, normal: Path) -> Iterable[synthesis.Pair]:
    """The pairs of two folders, matched as `prepare` does, all of them, and read one by one."""
    lows, normals = photo.images_in(low), photo.images_in(normal)
    matched = pairing.partners(lows, low, normals, normal)
    paired = {*matched, *(truth for truth, _ in matched.values())}
    for here, paths, there, others in ((low, lows, normal, normals), (normal, normals, low, lows)):
        for path in (path for path in paths if path not in paired):
            raise InputError(f"{path}: {pairing.no_partner(path, here, others, there)} in {there}")
    for path in lows:
        dark, bright = photo.read_pair(path, matched[path][0])
        yield path.stem, dark.astype(np.float32) / 255.0, bright.astype(np.float32) / 255.0


def options_of(argv: list[str]):
    """The parsed command line; raises InputError unless it names one source of pairs."""
    parser = cli.Parser(prog="python -m train.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="tiny, small, base, a file, a run folder")
    parser.add_argument(
        "--restored",
        type=places.argument,
        help="or: folder of other software's results, named like the inputs",
    )
    parser.add_argument("--data", help="a built data set (see train.tools.prepare)")
    parser.add_argument("--split", default="test", help="its split (default: test)")
    parser.add_argument("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    parser.add_argument(
        "--draws",
        type=enhance_photos.count,
        default=2,
        metavar="N",
        help="dark versions of each photograph without a dark partner (default 2, as eval.draws)",
    )
    parser.add_argument("--low", type=places.argument, help="or: folder of dark photographs")
    parser.add_argument("--normal", type=places.argument, help="folder of the truth, same names")
    parser.add_argument(
        "--properties", action="store_true", help="restraint, twice = once, turns, black, letterbox"
    )
    parser.add_argument(
        "--turns",
        type=int,
        choices=(1, 2, 4, 8),
        default=1,
        help="score the mean over so many mirror images and quarter turns, at as many times the time",
    )
    parser.add_argument(
        "--inputs",
        type=places.argument,
        help="folder to write what --properties needs to be run on, and end",
    )
    parser.add_argument(
        "--out",
        type=places.argument,
        help="csv to write (default: evaluation-NAME.csv beside the weights, if these are yours)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing csv")
    options = parser.parse_args(argv)
    folders = options.low is not None, options.normal is not None
    if any(folders) == (options.data is not None) or any(folders) != all(folders):
        raise InputError("name either --data, or both --low and --normal")
    asked = [name for name in ("weights", "restored", "inputs") if getattr(options, name)]
    if len(asked) != 1:
        raise InputError("name one of --weights, --restored and --inputs")
    if options.turns > 1 and not options.weights:
        raise InputError("--turns runs a network several times: name its --weights")
    if options.inputs and not options.properties:
        raise InputError("--inputs writes what --properties is measured on: add --properties")
    return options


def pairs_of(options) -> tuple[str, Iterable[synthesis.Pair]]:
    """(what to call them, the pairs) that the command line asks for."""
    if options.data is None:
        low, normal = copies.fetched(options.low), copies.fetched(options.normal)
        return low.resolve().name, read_pairs(low, normal)
    split = store.Split(options.data, options.split, options.data_dir)
    return f"{split.name}-{split.split}", synthesis.whole_pairs(split, draws=options.draws)


def folder_of(weights: str) -> Location:
    """Where a table goes that no --out names: beside the weights, here for bundled ones."""
    path = places.place(weights)
    if places.is_url(path):
        return path.parent if path.suffix == ".safetensors" else path
    if weights in weight_files.SHIPPED or weight_files.FOLDER in path.resolve().parents:
        return Path()
    return path if path.is_dir() else path.parent


def run(argv: list[str]) -> None:
    """The command line; raises InputError for bad input."""
    options = options_of(argv)
    if options.inputs:
        count = properties.write_inputs(options.inputs, pairs_of(options)[1])
        print(f"{count} photographs written to {options.inputs}")
        return
    if options.restored:
        restored = copies.fetched(options.restored)
        what, folder = restored.resolve().name, Path()
        method = properties.restored_in(restored)
    else:
        weights = weight_files.load(options.weights)
        what, folder = weights.variant, folder_of(options.weights)
        network = model_method(weights)

        method = over_turns(lambda name, image: network(image), options.turns)

    name, pairs = pairs_of(options)
    kind = "properties" if options.properties else "evaluation"
    out = options.out or folder / f"{kind}-{name}.csv"
    files.check_target(out, options.overwrite)
    if options.properties:
        measured = properties.measure(method, pairs)
        Console().print(properties.table(measured, f"{what} on {name}"))
        properties.write_table(out, measured)
    else:
        scores = score_named(method, pairs)
        Console().print(scores_table(scores, f"{what} on {name}"))
        write_table(out, {"this model" if options.weights else what: scores})
    print(f"written to {out}")


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
