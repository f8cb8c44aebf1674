"""Fit how bright results are to be, the head of `pdn_jax.evidence` alone, to finished weights.

    python -m train.tools.fit_amount --weights runs/mine --config configs/amount.py --out runs/mine-fitted
    python -m train.tools.fit_amount --weights small --config configs/amount.py --out pdn_jax/weights/small \\
        --about docs/weights.json --data eliei/dev sice_pairs/dev

The rest of the network stays as it is: its results for many photographs are made once for each of a
few amounts a, on the 1/8 grid, and the head, which says a by way of the mean, is fitted between them,

    min over the head of  mean of w·sqrt(mean (x_a − x)² + ε),   x_a piecewise linear in a,

where photographs that are seen as they are (x = y) have the weight w of --identities, others 1. With
--about the card of bundled weights is written as well, with scores of these very weights.
"""

import argparse
import datetime
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from rich.console import Console

from pdn_jax import cli, enhancement, evidence, places
from pdn_jax import image as im
from pdn_jax import weights as weight_files
from pdn_jax.denoising import Denoising
from pdn_jax.enhance_photos import count
from pdn_jax.enhancement import Enhancement
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.types import InputError, PRNGKey
from train import build, head
from train.config import parse, validate
from train.data import mixture, synthesis
from train.data.prefetch import prefetched
from train.tools import export_weights

MADE = (1 / 3, 2 / 3, 1.0, 4 / 3)
"""Amounts that results are made for, evenly spread; 0 is the photograph itself."""

SAME = 1e-3
"""Mean difference of truth and observation, of 1, below which a photograph is one that needs nothing."""

RATE, DECAY, BATCH = 3e-3, 0.3, 64
"""Peak learning rate, weight decay and batch of the fit."""

SOFT = 1e-5
"""ε under the root."""

HEAD_ALONE = "how bright a result is to be, nothing else"
"""What a data set was used for that the network itself never saw, as cards say it."""

STREAMS = ("head", "order")


class Results(NamedTuple):
    """What the network makes of m photographs.

    seen, tried, there: of `evidence`, `means` and `lit` of each [m, 92], [m, 9], [m]. made: results on
    the 1/8 grid, for 0 and each of `MADE` [m, 5, h/8, w/8, 3], float16. truth: [m, h/8, w/8, 3]. same:
    whether it is to stay as it is [m].
    """

    seen: np.ndarray
    tried: np.ndarray
    there: np.ndarray
    made: np.ndarray
    truth: np.ndarray
    same: np.ndarray


def tries(weights: weight_files.Weights):
    """low [n, h, w, 3] -> (seen, tried, there, made) of `Results` by a network that has a head."""
    network, parts = ProgressiveDualNetwork(**weights.model), weights.params["params"]
    enhancing = Enhancement(network.width, network.stages, network.texture)
    levels = (network.widths, network.depths, network.blocks)
    denoising = Denoising(*levels, network.noise_map, amount=True)

    def tried_on(low):
        small, texture = enhancement.observe(low, network.texture)
        own = enhancing.apply({"params": parts["enhancement"]}, small, texture, method="on_grid")

        def at(amount):
            estimate = enhancement.scaled(own, jnp.full(len(low), amount))
            enhanced, _, noise = enhancement.lift(low, estimate)
            given = (enhanced[-1], noise, estimate.context)
            restored = denoising.apply({"params": parts["denoising"]}, *given)[-1]
            return im.pool(jnp.clip(restored, 0.0, 1.0), enhancement.REDUCTION)

        made = [small[:, None], jax.lax.map(at, jnp.asarray(MADE)).swapaxes(0, 1)]
        tried = evidence.means(small, own.black, sum(own.increments))
        seen, there = evidence.evidence(small, texture), evidence.lit(small)
        return seen, tried, there, jnp.concatenate(made, 1)

    return tried_on


def results(weights: weight_files.Weights, config, photographs: int) -> Iterator[Results]:
    """What the network makes of the config's crops, batch by batch."""
    tried_on = tries(weights)
    splits, shares = mixture.mixture(config)
    synthesise = build.synthesiser(config, build.camera(config), mixture.fitted(config, splits))
    part, root = mixture.parts(config, splits, shares)[0], build.keys(config)["batches"]

    @jax.jit
    def make(step, crops):
        batch = synthesise(synthesis.image_keys(root, step, part.places), crops)
        low = jnp.rint(255.0 * batch.low) / 255.0
        *facts, made = tried_on(low)
        truth = im.pool(batch.normal, enhancement.REDUCTION)
        same = jnp.abs(batch.normal - low).mean((1, 2, 3)) < SAME
        return Results(*facts, made.astype(jnp.float16), truth.astype(jnp.float16), same)

    with prefetched(part.batches, 0, threads=config.data.threads) as batches:
        for step in range(-(-photographs // part.size)):
            yield jax.tree.map(np.asarray, make(step, next(batches)))


def between(made: Array, amount: Array) -> Array:
    """Results at any amount, in straight lines between those that were made [m, h/8, w/8, 3]."""
    last = len(MADE)
    place = jnp.clip(amount / MADE[0], 0.0, last)
    lower = jnp.minimum(place.astype(jnp.int32), last - 1)
    share = (place - lower).reshape(-1, 1, 1, 1)
    rows = jnp.arange(len(made))
    return (1.0 - share) * made[rows, lower] + share * made[rows, lower + 1]


def fit(key: PRNGKey, given: Results, steps: int, identities: float) -> tuple[dict, list[float]]:
    """The head's parameters, and the loss at every step."""
    keys = dict(zip(STREAMS, jax.random.split(key, len(STREAMS)), strict=True))
    target = evidence.Target()
    first = (jnp.asarray(given.seen[:1]), jnp.asarray(given.tried[:1, evidence.OWN]))
    params = target.init(keys["head"], *first)
    schedule = optax.cosine_decay_schedule(RATE, steps)
    optimizer = optax.adamw(schedule, weight_decay=DECAY)
    rng = np.random.default_rng(int(jax.random.bits(keys["order"])))

    def score(params, rows: Results):
        made, truth = rows.made.astype(jnp.float32), rows.truth.astype(jnp.float32)
        wanted = target.apply(params, rows.seen, rows.tried[:, evidence.OWN])
        apart = between(made, evidence.amount_of(wanted, rows.tried, rows.there)) - truth
        weight = jnp.where(rows.same, identities, 1.0)
        return (weight * jnp.sqrt((apart**2).mean((1, 2, 3)) + SOFT)).mean()

    @jax.jit
    def step(params, state, rows):
        loss, slope = jax.value_and_grad(score)(params, rows)
        updates, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, losses = optimizer.init(params), []
    for _ in range(steps):
        chosen = rng.integers(0, len(given.seen), BATCH)
        params, state, loss = step(params, state, Results(*(field[chosen] for field in given)))
        losses.append(float(loss))
    return params["params"], losses


def options_of(argv: Sequence[str]):
    """(the parsed command line, the config)."""
    parser = cli.Parser(
        prog="python -m train.tools.fit_amount", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--weights", required=True, help="tiny, small, base, a file or a run folder")
    add("--config", required=True, help="what photographs: configs/amount.py")
    add("--out", required=True, type=places.here, help="folder for weights.safetensors")
    add("--head", default="", help="take the head of these weights; fit none")
    add("--photographs", type=count, default=7000, help="how many (default 7000)")
    add("--steps", type=count, default=800, help="of the fit (default 800)")
    add("--identities", type=share, default=0.5, help="their weight (default 0.5)")
    add("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    add("--physics", default="", help="what train.tools.calibrate_camera wrote (as the config)")
    add(
        "--about",
        type=places.here,
        help="JSON about data and failures, for the card of bundled weights",
    )
    add("--data", nargs="+", metavar="NAME/SPLIT", default=[], help="to score on, with --about")
    options = parser.parse_args(argv)
    if bool(options.about) != bool(options.data):
        raise InputError("--about and --data go together: a card has both")
    if options.about and options.weights not in weight_files.SHIPPED:
        raise InputError(
            f"--about is for the card of bundled weights, {', '.join(weight_files.SHIPPED)}; "
            "leave it out"
        )
    config = parse(["--config", options.config])
    config.data.directory = options.data_dir or config.data.directory
    config.data.physics = options.physics or config.data.physics
    validate(config)
    return options, config


def share(text: str) -> float:
    """Above 0, at most 1, for argparse."""
    if not 0.0 < (number := float(text)) <= 1.0:
        raise argparse.ArgumentTypeError(f"expected above 0, at most 1, got {text}")
    return number


def command(options) -> str:
    """The command line as a card has it."""
    words = ["python -m train.tools.fit_amount", "--weights", options.weights]
    words += ["--config", options.config]
    if options.head:
        words += ["--head", options.head]
    else:
        words += ["--photographs", options.photographs, "--steps", options.steps]
        words += ["--identities", options.identities]
    words += ["--out", f"pdn_jax/weights/{options.weights}"]
    words += ["--about", f"docs/{options.about.name}", "--data", *options.data]
    return " ".join([words[0], *(shlex.quote(str(word)) for word in words[1:])])


def card_of(options, config, weights: weight_files.Weights, data: list[dict]) -> dict:
    """The bundled weights' card, with this fit as its last stage and new scores."""
    card, about = weight_files.card(options.weights), export_weights.read_about(options.about)
    known = {entry["name"] for entry in card["data"]}
    more = [entry for entry in data if entry["name"] not in known]
    *kept, last = card["training"]
    kept += [] if "fit_amount" in last["command"] else [last]
    counts = {"steps": options.steps, "crops": options.photographs, "seed": config.seed}
    if options.head:
        counts = {"steps": 0, "crops": 0, "seed": config.seed}
    config.data.physics, config.eval.max_pairs = "", 0  # scores are of real pairs, all of them
    return card | {
        "date": datetime.date.today().isoformat(),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(weights.params)),
        "training": [*kept, {"command": command(options), **counts}],
        "data": [*card["data"], *({**entry, "used for": HEAD_ALONE} for entry in more)],
        "scores": export_weights.scores_of(weights, config, options.data),
        "notes": about.get("notes", ""),
        "failures": about["failures"],
    }


def head_of(name: str) -> dict:
    """The head that weights have; raises InputError where they have none."""
    params = weight_files.single(weight_files.load(name).params)
    if "target" not in params["params"]["enhancement"]:
        raise InputError(f"--head {name}: these weights have none; leave --head out to fit one")
    return params["params"]["enhancement"]["target"]


def fitted(options, config, weights: weight_files.Weights, console: Console) -> dict:
    """A head's parameters, fitted as the command line says."""
    rows = []
    for row in results(weights, config, options.photographs):
        rows.append(row)
        if len(rows) % 50 == 0:
            console.print(f"{len(rows) * len(row.seen)} of {options.photographs} photographs")
    given = Results(*(np.concatenate(field) for field in zip(*rows, strict=True)))
    target, losses = fit(jax.random.key(config.seed), given, options.steps, options.identities)
    tenth = max(1, len(losses) // 10)
    console.print(f"loss {np.mean(losses[:tenth]):.4f} → {np.mean(losses[-tenth:]):.4f}")
    return target


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    (options, config), console = options_of(argv), Console()
    weights, data = head.fitted_to(weight_files.load(options.weights), evidence=True), []
    if options.about:  # before the work, since it may say what is missing
        about = export_weights.read_about(options.about)
        described = json.loads(config.to_json_best_effort())
        data = export_weights.trained_on(described, about, options.data_dir)
    elif options.out.exists():
        raise InputError(f"--out {options.out} exists; name another")
    if options.head:
        fitted_head = head_of(options.head)
    else:
        fitted_head = fitted(options, config, weights, console)
    weights.params["params"]["enhancement"]["target"] = fitted_head
    if options.about:
        weights = weights._replace(params=weight_files.half(weights.params))
        export_weights.write(options.out, weights, card_of(options, config, weights, data))
    else:
        options.out.mkdir(parents=True)
        weight_files.save(options.out, weights)
    console.print(f"written to {options.out}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
