"""A finished run as bundled pretrained weights: half the bytes, and a card.

    python -m train.tools.export_weights --run runs/small-refined --config configs/real.py configs/refine.py \\
        --about docs/weights.json --data eliei/dev sice_pairs/dev --name small

writes `pdn_jax/weights/small/`: weights.safetensors in float16, and card.json with what it was
trained on, the commands, the date, and scores of these very weights with their 95 % intervals. What
no program can know (where the data is from, its licence, what still goes wrong) comes from --about.
A run that started from another run's weights is shown with it: a config for each, first to last. One
that started from bundled weights goes on with their card.
"""

import datetime
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from rich.console import Console

from pdn_jax import __version__, cli, files, places
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import evaluate
from train.config import parse
from train.data import mixture

SILENT = ("run_dir", "resume", "data.directory", "log.", "eval.", "checkpoint.")
"""Options that say nothing about the weights, or what such options begin with."""


def read_json(path: Path, wanted: str) -> dict[str, Any]:
    """A JSON object; raises InputError that says what was wanted."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected {wanted}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON; expected {wanted}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object; expected {wanted}")
    return content


def options_of_run(folder: Path) -> dict[str, Any]:
    """The options that a finished run was trained with."""
    return read_json(folder / "config.json", "a finished run folder's config.json")


def settings(run: dict[str, Any], base: dict[str, Any], prefix: str = "") -> list[str]:
    """Options of a run that differ from its config, as they stand on the command line.

    Of a file or folder that is named with its whole path only the name is given, a run's below
    runs/: where it lies is one machine's affair.
    """
    options = []
    for key, value in run.items():
        name = prefix + key
        if name == "model.weights" and value and value not in weight_files.SHIPPED:
            value = f"runs/{Path(value).name}"
        elif isinstance(value, str) and Path(value).is_absolute():
            value = Path(value).name
        if isinstance(value, dict):
            options += settings(value, base.get(key, {}), f"{name}.")
        elif value != base.get(key) and not name.startswith(SILENT):
            text = repr(_tuples(value)) if isinstance(value, list) else str(value)
            options.append(shlex.quote(f"--config.{name}={text}"))
    return options


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def scores_of(weights: weight_files.Weights, config, names: Sequence[str]) -> dict[str, Any]:
    """Data set -> number of photographs, and each metric's mean and 95 % interval."""
    results = {}
    for name in names:
        split = mixture.opened(name, "dev", config.data.directory)
        pairs = mixture.pairs(config, [split])
        scores = evaluate.score(evaluate.model_method(weights), pairs)
        results[f"{split.name}/{split.split}"] = result = {"photographs": len(pairs)}
        for metric in evaluate.COLUMNS:
            values = scores.mean(metric), *scores.interval(metric)
            rounded = (round(value, 4) for value in values)
            result[metric] = dict(zip(("mean", "low", "high"), rounded, strict=True))
    return results


def trained_on(run: dict[str, Any], about: dict[str, Any], directory: str) -> list[dict[str, Any]]:
    """Every set of the mixture: weight, photographs, and what --about says of it."""
    sets = []
    options = {name: _tuples(run["data"][name]) for name in ("mixture", "sources")}
    config = ConfigDict({"data": options | {"directory": directory, "truths": -1}})
    for split, weight in zip(*mixture.mixture(config), strict=True):
        facts = about["data"].get(split.name)
        if facts is None:
            known = ", ".join(about["data"])
            raise InputError(f"--about says nothing of data set {split.name!r}, only of {known}")
        sets.append({"name": split.name, "weight": weight, "dark photographs": len(split)} | facts)
    return sets


def calibrated_on(run: dict[str, Any]) -> dict[str, Any]:
    """Data sets and number of pairs that the camera of synthetic darkness was fitted to, if any."""
    if not run["data"]["physics"]:
        return {}
    facts = read_json(Path(run["data"]["physics"]), "what train.tools.calibrate_camera wrote")
    return {"data": facts["data"], "split": facts["split"], "pairs": len(facts["pairs"])}


def trainings(folder: Path) -> list[Path]:
    """The run folders that led to a run, itself included, first to last."""
    before = options_of_run(folder)["model"]["weights"]
    known = not before or before in weight_files.SHIPPED
    return [*([] if known else trainings(Path(before))), folder]


def stages_of(folders: Sequence[Path], configs: Sequence[str]) -> list[dict[str, Any]]:
    """What each training was: command, steps, crops, seed; raises InputError unless each has a config."""
    if len(folders) != len(configs):
        names = ", ".join(str(folder) for folder in folders)
        raise InputError(f"--config needs one config for each of {names}, in that order")
    stages = []
    for folder, config in zip(folders, configs, strict=True):
        run = options_of_run(folder)
        base = json.loads(parse(["--config", config]).to_json_best_effort())
        command = ["python -m train.main", f"--config {config}", *settings(run, base)]
        shapes = mixture.shapes(ConfigDict(run))
        stages.append(
            {
                "command": " ".join([*command, f"--config.run_dir=runs/{folder.resolve().name}"]),
                "steps": run["train"]["steps"],
                "crops": sum((stop - start) * count for start, stop, count, _ in shapes),
                "seed": run["seed"],
            }
        )
    return stages


def read_about(path: Path) -> dict[str, Any]:
    """What --about says; raises InputError unless it says it in the form that cards have."""
    about = read_json(path, 'an object with "data" and "failures"')
    data, failures = about.get("data"), about.get("failures")
    facts = data.values() if isinstance(data, dict) else [None]
    if not isinstance(failures, list) or not all(isinstance(each, dict) for each in facts):
        raise InputError(
            f'{path}: "data" must be an object of objects by data set, "failures" a list'
        )
    return about


def card_of(options, weights: weight_files.Weights) -> dict[str, Any]:
    """Everything that is known of a run's weights, JSON-able."""
    about, folders = read_about(options.about), trainings(options.run)
    run, start = options_of_run(options.run), options_of_run(folders[0])["model"]["weights"]
    before = weight_files.card(start) if start else {"training": [], "data": []}
    data = trained_on(run, about, options.data_dir)
    renewed = {entry["name"] for entry in data}
    config = parse(["--config", options.config[-1]])
    config.data.directory = options.data_dir
    config.data.physics = ""  # scores are of real pairs
    config.eval.max_pairs = 0
    return {
        "name": options.name,
        "variant": weights.variant,
        "parameters": sum(leaf.size for leaf in flatten_dict(weights.params).values()),
        "stored": "float16",
        "pdn_jax": __version__,
        "date": datetime.date.today().isoformat(),
        "training": [*before["training"], *stages_of(folders, options.config)],
        "data": [*(one for one in before["data"] if one["name"] not in renewed), *data],
        "calibration": calibrated_on(run),
        "scores": scores_of(weights, config, options.data),
        "notes": about.get("notes", ""),
        "failures": about["failures"],
    }


def write(folder: Path, weights: weight_files.Weights, card: dict[str, Any]) -> None:
    """Weights and card, both or neither; raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(folder / weight_files.CARD) as file:
            file.write((json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
            file.flush()
            weight_files.save(folder, weights)  # the card takes its place once they are there
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from error


def options_of(argv: Sequence[str]):
    """The parsed command line."""
    parser = cli.Parser(
        prog="python -m train.tools.export_weights", description=__doc__.splitlines()[0]
    )
    add, required = parser.add_argument, {"required": True}
    add("--run", **required, type=places.here, help="a finished run folder")
    add("--config", **required, nargs="+", help="the config of each training, first to last")
    add("--about", **required, type=places.here, help="JSON about data and failures")
    add("--data", **required, nargs="+", metavar="NAME/SPLIT", help="to score on")
    add("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    add("--name", **required, choices=weight_files.SHIPPED)
    add(
        "--out", type=places.here, default=weight_files.FOLDER, help="folder of the bundled weights"
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
    folder = options.out / options.name
    if not all(place.is_dir() for place in (options.out, folder) if place.exists()):
        raise InputError(f"--out {folder} is no folder; name another")
    card = card_of(options, weights)
    write(folder, weights, card)
    for name, scores in card["scores"].items():
        means = "  ".join(f"{metric} {scores[metric]['mean']:.3f}" for metric in evaluate.COLUMNS)
        console.print(f"{options.name} on {name}: {means}", soft_wrap=True)
    console.print(f"written to {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
