"""A finished run as weights that come with the package: half the bytes, and a card.

    python -m train.ship --run runs/small --config configs/real.py --about docs/weights.json \\
        --data eliei/dev sice/dev --name small

writes `pdn_jax/weights/small/`: weights.safetensors in float16, and card.json with what it was
trained on, the command, the date, and scores of these very weights with their 95 % intervals. What
no program can know (where the data is from, its licence, what still goes wrong) comes from --about.
"""

import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from rich.console import Console

from pdn_jax import __version__, cli
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import build, evaluate, main, sources

OWN = ("run_dir", "resume", "data.directory", "log.images")
"""Options that say nothing about the result."""

METRICS = ("psnr", "ssim", "gt_mean_psnr", "gt_mean_ssim")


def read_json(path: Path, wanted: str) -> dict[str, Any]:
    """A JSON object; raises InputError that says what was wanted."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected {wanted}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON; expected {wanted}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is no JSON object; expected {wanted}")
    return found


def settings(run: dict[str, Any], base: dict[str, Any], prefix: str = "") -> list[str]:
    """Options of a run that differ from its config, as they stand on the command line.

    Of a file that is named with its whole path only the name is told: where it lies is one
    machine's affair.
    """
    found = []
    for key, value in run.items():
        if isinstance(value, str) and Path(value).is_absolute():
            value = Path(value).name
        if isinstance(value, dict):
            found += settings(value, base.get(key, {}), f"{prefix}{key}.")
        elif value != base.get(key) and prefix + key not in OWN:
            text = repr(_tuples(value)) if isinstance(value, list) else str(value)
            found.append(f'--config.{prefix}{key}="{text}"')
    return found


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def scores_of(weights: weight_files.Weights, config, names: Sequence[str]) -> dict[str, Any]:
    """Data set -> number of photographs, and each metric's mean and 95 % interval."""
    found = {}
    for name in names:
        split = sources.opened(name, "dev", config.data.directory)
        pairs = sources.pairs(config, [split], build.camera(config))
        scores = evaluate.score(evaluate.model_method(weights), pairs)
        found[f"{split.name}/{split.split}"] = {"photographs": len(pairs)} | {
            metric: dict(
                zip(
                    ("mean", "low", "high"),
                    (round(v, 4) for v in (scores.mean(metric), *scores.interval(metric))),
                    strict=True,
                )
            )
            for metric in METRICS
        }
    return found


def trained_on(run: dict[str, Any], about: dict[str, Any], directory: str) -> list[dict[str, Any]]:
    """Every set of the mixture: weight, photographs, and what --about says of it."""
    found = []
    for name, weight in run["data"]["mixture"]:
        split = sources.opened(name, "train", directory)
        said = about["data"].get(split.name)
        if said is None:
            known = ", ".join(about["data"])
            raise InputError(f"--about says nothing of data set {split.name!r}, only of {known}")
        found.append({"name": split.name, "weight": weight, "dark photographs": len(split)} | said)
    return found


def stages_of(folder: Path, config: str, base: dict[str, Any]) -> list[dict[str, Any]]:
    """The trainings that led to a run, first to last: command, steps, crops, seed.

    A run that started from another run's weights comes after it; raises InputError where that is
    no run folder.
    """
    run = read_json(folder / "config.json", "a finished run folder's config.json")
    weights = run["model"]["weights"]
    before = stages_of(Path(weights), config, base) if weights else []
    shapes = sources.shapes(ConfigDict(run))
    one = {
        "command": " ".join([f"python -m train.main --config {config}", *settings(run, base)]),
        "steps": run["train"]["steps"],
        "crops": sum((stop - start) * count for start, stop, count, _ in shapes),
        "seed": run["seed"],
    }
    return [*before, one]


def card_of(options, weights: weight_files.Weights) -> dict[str, Any]:
    """Everything that is known of a run's weights, JSON-able."""
    run = read_json(options.run / "config.json", "a finished run folder's config.json")
    about = read_json(options.about, 'an object with "data" and "failures"')
    if not {"data", "failures"} <= about.keys():
        raise InputError(f'{options.about} needs "data" and "failures"')
    config = main.parse(["--config", options.config])
    base = json.loads(config.to_json_best_effort())
    config.data.directory = options.data_dir
    config.data.physics = ""  # scores are of real pairs
    config.eval.most = 0
    leaves = flatten_dict(weights.params).values()
    return {
        "name": options.name,
        "variant": weights.variant,
        "parameters": sum(leaf.size for leaf in leaves),
        "stored": "float16",
        "pdn_jax": __version__,
        "date": datetime.date.today().isoformat(),
        "training": stages_of(options.run, options.config, base),
        "data": trained_on(run, about, options.data_dir),
        "scores": scores_of(weights, config, options.data),
        "notes": about.get("notes", ""),
        "failures": about["failures"],
    }


def options_of(argv: Sequence[str]):
    """The parsed command line."""
    parser = cli.Parser(prog="python -m train.ship", description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="a finished run folder")
    parser.add_argument("--config", required=True, help="the config that it was trained with")
    parser.add_argument("--about", required=True, type=Path, help="JSON about data and failures")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="NAME/SPLIT", help="to score on"
    )
    parser.add_argument("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    parser.add_argument("--name", required=True, choices=weight_files.SHIPPED)
    parser.add_argument(
        "--out", type=Path, default=weight_files.FOLDER, help="folder of the shipped weights"
    )
    return parser.parse_args(argv)


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    options, console = options_of(argv), Console()
    loaded = weight_files.load(options.run, variant=options.name)
    try:
        params = weight_files.half(loaded.params)
    except ValueError as error:
        raise InputError(f"{options.run}: {error}") from error
    weights = loaded._replace(params=params)
    card = card_of(options, weights)
    folder = options.out / options.name
    folder.mkdir(parents=True, exist_ok=True)
    weight_files.save(folder, weights)
    draft = folder / f"{weight_files.CARD}.new"
    draft.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(folder / weight_files.CARD)
    for name, scores in card["scores"].items():
        means = "  ".join(f"{metric} {scores[metric]['mean']:.3f}" for metric in METRICS)
        console.print(f"{options.name} on {name}: {means}", soft_wrap=True)
    console.print(f"written to {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
