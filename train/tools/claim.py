"""Where truths are few, wrong or missing: does the negative direction help there?

    python -m train.tools.claim few --config configs/claim.py --out runs/claim

Each seed trains a network without the camera first, on sice and clean photographs, and every arm of
every study goes on from that of its seed, with as many steps of as many crops. Arms are held
against the first of their comparison on whole dev photographs: table, study.csv, study.png. One
process runs all, so that a step is compiled once for all seeds; what is finished is not done again.
"""

import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from pdn_jax import cli, files, image, photo
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import build, evaluate, loop
from train.config import flattened, parse, validate
from train.data import mixture
from train.step import init_state, make_train_step
from train.tools import claim_physics, comparison, sweep

POSITIVE = {"loss.balance": "positive_only"}
NEGATIVE = {"loss.balance": "gradient_ratio", "loss.ratio": 0.3, "loss.floor": "noise"}
BY_TRUTH, GUESSED, METERED, FEW, MISTAKEN = (f"physics:{kind}" for kind in claim_physics.KINDS)
"""Where an arm's θ comes from, see `claim_physics`; the first is the calibration as it is."""

START = {
    "data.mixture": (("sice", 0.5), ("clean", 0.5)),
    "data.physics": "",
    "train.steps": 400,
    "train.learning_rate": 2e-3,
    **POSITIVE,
}
"""The network that knows nothing of the camera, by its options."""

ALONE = {"data.mixture": (("eliei", 1.0),), "data.truths": 0, "train.learning_rate": 3e-4}
PRIORS = {
    "loss.extra": (("train.tools.claim:exposure", 0.5), ("train.tools.claim:colours", 5.0)),
}
OBSERVED = {"loss.balance": "fixed", "loss.weight": 0.1, "loss.floor": "noise"}


def few(count: int) -> sweep.Arms:
    """The study of so many pairs: alone, and with all other dark photographs without their truths."""
    own = {"data.truths": count, "data.mixture": (("eliei", 0.4), ("clean", 0.6))}
    more = {"data.mixture": (("eliei", 0.7), ("clean", 0.3)), "data.untold": 3 / 7}
    return {
        f"{count} pairs": own | POSITIVE,
        f"{count} pairs and dark ones, θ from their truths": own | more | NEGATIVE | {BY_TRUTH: ""},
        f"{count} pairs and dark ones, θ from the {count}": own | more | NEGATIVE | {FEW: ""},
    }


def of_one_camera(count: int) -> sweep.Arms:
    """As `few`, with nothing but photographs of the camera."""
    own = {"data.truths": count, "data.mixture": (("eliei", 1.0),)}
    more = NEGATIVE | {"data.untold": 0.5}
    return {
        f"{count} pairs of one camera": own | POSITIVE,
        f"{count} pairs of one camera and dark ones, θ from their truths": own
        | more
        | {BY_TRUTH: ""},
        f"{count} pairs of one camera and dark ones, θ from the {count}": own | more | {FEW: ""},
    }


RIGHT = {"right truths": POSITIVE, "right truths, negative": NEGATIVE | {BY_TRUTH: ""}}
SHIFT, STOPS = {"data.shift": (1, 3)}, {"data.misexposed": 2 / 3}
PRESENT = {
    "data.mixture": (("eliei", 0.4), ("sice", 0.35), ("clean", 0.25)),
    "data.wide": 0.5,
    "augment.probability": 0.5,
    "augment.scaled": 0.5,
}
DYNAMIC = PRESENT | {"loss.balance": "gradient_ratio"}
LIT = {"loss.extra": (*PRIORS["loss.extra"], ("train.tools.claim:scene_light", 0.1))}
ADAPTED = {
    "priors alone": ALONE | PRIORS | POSITIVE,
    "negative alone, θ guessed": ALONE | OBSERVED | {GUESSED: ""},
    "priors and negative, θ guessed": ALONE | PRIORS | OBSERVED | {GUESSED: ""},
    "priors and negative, exposure from truths": ALONE | PRIORS | OBSERVED | {METERED: ""},
    "priors and the mean light of θ from truths": ALONE | LIT | POSITIVE | {BY_TRUTH: ""},
    "priors and negative, θ from truths": ALONE | PRIORS | OBSERVED | {BY_TRUTH: ""},
}

STUDIES: dict[str, list[sweep.Arms]] = {
    "few": [few(count) for count in (5, 10, 20)],
    "camera": [of_one_camera(count) for count in (5, 20)],
    "misaligned": [
        {
            "misaligned": SHIFT | POSITIVE,
            "misaligned, negative": SHIFT | NEGATIVE | {BY_TRUTH: ""},
            **RIGHT,
        },
        RIGHT,
    ],
    "exposure": [
        {
            "wrong exposure": STOPS | POSITIVE,
            "wrong exposure, negative, θ from right truths": STOPS | NEGATIVE | {BY_TRUTH: ""},
            "wrong exposure, negative, θ from these": STOPS | NEGATIVE | {MISTAKEN: ""},
            **RIGHT,
        }
    ],
    "unseen": [
        {"not adapted": ALONE | POSITIVE | {"train.steps": 0}} | ADAPTED,
        ADAPTED,
        dict(list(ADAPTED.items())[-2:]),
    ],
    "correlated": [
        {
            "no negative direction": PRESENT | POSITIVE,
            "whitened as white": DYNAMIC,
            "whitened with 0.25": DYNAMIC | {"loss.correlation": 0.25},
            "low resolution, white": DYNAMIC | {"loss.finest": 2},
            "low resolution, 0.25": DYNAMIC | {"loss.finest": 2, "loss.correlation": 0.25},
        }
    ],
}
"""Study -> its comparisons: arm -> options that differ from the config; the first is the baseline."""


# --- what is asked where there is no truth ---------------------------------------------------------


def exposure(output, restored, batch):
    """Every part of 16×16 pixels is to be well exposed, as in `colab.lab.priors`."""
    parts = image.luminance(image.pool(image.pad_to_multiple(restored, 16), 16))
    return {"exposure": ((parts - claim_physics.GREY) ** 2).mean(axis=(1, 2))}


def colours(output, restored, batch):
    """The mean is to be grey, as there."""
    return {"colours": restored.mean(axis=(1, 2)).var(axis=-1)}


def scene_light(output, restored, batch):
    """All that θ says without a look at any pixel: the mean light of the crop, channel by channel.

    |ln| of the result's over (the observation's − offset) / (κ·gains).
    """
    theta = batch.physics
    dark = image.linearize(batch.low).mean(axis=(1, 2))
    scene = jnp.maximum(dark - theta.offset, 0.1 * dark) / (theta.exposure[:, None] * theta.gains)
    mine = image.linearize(restored).mean(axis=(1, 2))
    return {"light": jnp.abs(jnp.log((mine + 1e-3) / (scene + 1e-3))).mean(axis=-1)}


# --- training ------------------------------------------------------------------------------------


def compiled(config, steps: dict[str, Any]):
    """step(key, θ of pairs, state, crops, places), compiled once for configs that ask the same."""
    data = {"mixture", "truths", "untold", "shift", "misexposed", "fitted"}
    data |= {"physics"} if config.data.wide == 1.0 else set()
    left_out = {"seed", "run_dir", "model.weights", *(f"data.{name}" for name in data)}
    sections = ("eval.", "checkpoint.", "log.")
    asked = {
        key: value
        for key, value in flattened(config.to_dict()).items()
        if key not in left_out and not key.startswith(sections)
    }
    if (name := json.dumps(asked, sort_keys=True)) in steps:
        return steps[name]
    degrade, model = build.camera(config), build.network(config)
    loss, optimizer = build.loss(config, degrade), build.optimizer(config)
    synthesise = build.synthesiser(config, degrade)

    @functools.partial(jax.jit, donate_argnums=2)
    def step(key, fitted, state, crops, places):
        one = make_train_step(
            key,
            apply=model.apply,
            loss=loss,
            optimizer=optimizer,
            synthesise=functools.partial(synthesise, fitted=fitted),
            ema_decay=config.train.ema_decay,
        )
        return one(state, crops, places)

    steps[name] = step, lambda params: init_state(params, optimizer, loss)
    return steps[name]


def train(config, steps: int, made: dict[str, Any]) -> weight_files.Weights:
    """The averaged weights after so many steps; raises InputError where they are not finite."""
    validate(config)
    params = build.initial_params(config, build.network(config))
    if steps:
        splits, weights = mixture.mixture(config)
        known = mixture.fitted(config, splits)
        step, init = compiled(config, made)
        root, state = build.keys(config)["batches"], init(params)
        parts = mixture.parts(config, splits, weights)
        for crops, places in mixture.stream(config, parts, 0, build.camera(config), known):
            state, logs = step(root, known, state, crops, jnp.asarray(places))
        values = {name: float(value) for name, value in logs.scalars.items()}
        if not np.isfinite(list(values.values())).all():
            raise InputError(f"{config.run_dir}: step {steps} is not finite: {values}")
        params = state.average
    return loop.weights_of(config, params, steps)


def run_arm(options, arm: str, changes: dict, seed: int, made: dict, pairs: list) -> None:
    """One arm with one seed, unless it is finished: config.json, weights, evaluation.csv."""
    folder = sweep.run_dir_of(options.out, arm, seed)
    config, steps = config_of(options, changes, seed, folder)
    content = json.dumps(config.to_dict() | {"steps": steps}, indent=1)
    done, beside = folder / "evaluation.csv", folder / "config.json"
    if done.exists():
        if beside.read_text() != content:
            raise InputError(f"{folder} is a run of other options; name another --out")
        return
    weights = train(config, steps, made)
    folder.mkdir(parents=True, exist_ok=True)
    weight_files.save(folder / "weights.safetensors", weights)
    scores = evaluate.score(evaluate.model_method(weights), pairs)
    files.write_text(beside, content)
    evaluate.write_table(done, {comparison.METHOD: scores})


def config_of(options, changes: dict, seed: int, folder: Path):
    """(the config of a run, its steps); θ and the start are made where they are not there."""
    started = options.out / f"start-{seed}" / "weights.safetensors"
    settings = {"run_dir": folder, "seed": seed} | changes
    if changes is not START:
        settings["model.weights"] = started
    kinds = [key for key in settings if key.startswith("physics:")]
    plain = {key: value for key, value in settings.items() if key not in kinds}
    steps = plain.get("train.steps")
    if steps == 0:
        del plain["train.steps"]
    own = [f"--config.{key}={value}" for key, value in plain.items()]
    config = parse(["--config", options.config, *own, *options.more])
    for kind in kinds:
        config.data.physics = str(
            claim_physics.written(kind.removeprefix("physics:"), config, started, options.out)
        )
    return config, config.train.steps if steps is None else steps


def options_of(argv: Sequence[str]):
    """The parsed command line; what it does not know must be for the config."""
    name, said = "python -m train.tools.claim", __doc__.splitlines()[0]
    parser = sweep.parser_of(name, said, side_by_side=False)
    parser.add_argument("study", choices=STUDIES, help="which truths are few, wrong or missing")
    options, options.more = parser.parse_known_args(argv)
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds} must be 1 or more")
    return options


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    options, console, made = options_of(argv), Console(), {}
    base, _ = config_of(options, {}, 0, options.out)
    pairs = list(mixture.pairs(base, mixture.judged(base, ())))
    arms = {arm: changes for arms in STUDIES[options.study] for arm, changes in arms.items()}
    for seed in range(options.seeds):
        for arm, changes in {"start": START, **arms}.items():
            began = time.monotonic()
            run_arm(options, arm, changes, seed, made, pairs)
            console.print(f"{arm}, seed {seed}: {time.monotonic() - began:.0f} s")
    rows = []
    for arms in STUDIES[options.study]:
        runs = {
            arm: [sweep.run_dir_of(options.out, arm, seed) for seed in range(options.seeds)]
            for arm in arms
        }
        rows.append(comparison.compared(*comparison.collect(runs)))
        console.print(comparison.table_of(rows[-1], f"{options.study}: {options.seeds} seeds"))
    table = [
        {"study": options.study, "against": part[0]["arm"], **r} for part in rows for r in part
    ]
    comparison.write_csv(options.out / f"{options.study}.csv", table)
    drawn = comparison.figure(rows[0])
    photo.write(options.out / f"{options.study}.png", drawn, overwrite=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
