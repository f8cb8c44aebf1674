"""Where θ of dark photographs comes from when their truths are few, wrong or missing.

`fitted`: the calibration as it is, each θ from the photograph's own truth, which says what the truth
says of exposure and colours. `guessed`: without any truth, as `colab.lab.priors` has it, from the
photograph and the noise that a network sees in it. `metered`: as guessed, but for the exposure, which
is the fitted one, as if a camera's settings told it. `few`: the pairs that keep their truth as
fitted; the others by the mean light, offset and noise of those. `mistaken`: as fitted to truths of a
wrong exposure, κ·2^−s for a truth s stops too bright.

    python -m train.tools.claim_physics --config configs/claim.py

prints how far the truths themselves are from what the camera saw, in standard deviations by level.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from pdn_jax import cli, degradation, image, losses, model
from pdn_jax import weights as weight_files
from pdn_jax.types import Batch, Physics
from train.config import parse
from train.data import calibrated_camera, store, truths

KINDS = ("fitted", "guessed", "metered", "few", "mistaken")
LIGHT, GREY = 0.15, 0.45
"""Mean linear light of a scene, and what a well-exposed part has in sRGB."""


def written(kind: str, config, weights: Path, out: Path) -> Path:
    """The calibration of that kind for `config`, made where it is not there; `fitted` is there."""
    if kind == "fitted":
        return Path(config.data.physics)
    path = out / f"{kind}-{config.data.truths}-{config.seed}.json"
    if path.exists():
        return path
    split = store.Split("eliei", "train", config.data.directory)
    _, known = calibrated_camera.load_calibration(config.data.physics)
    names = [split.item_name(item) for item in split.items]
    known = {name: known[f"{split.name}/{name}"] for name in names}
    if kind == "guessed":
        made = guessed(split, weights)
    elif kind == "metered":
        blind = guessed(split, weights)
        made = {name: blind[name].replace(exposure=known[name].exposure) for name in names}
    elif kind == "few":
        kept, others = truths.divided(split, config.data.truths, config.seed)
        made = known | by_few(kept, others, known)
    else:
        faults = truths.Faults(config.seed, tuple(config.data.shift), config.data.misexposed)
        made = {name: mistaken(known[name], faults.of(name)[1]) for name in names}
    fits = [calibrated_camera.Fit(f"{split.name}/{name}", made[name], {}) for name in names]
    out.mkdir(parents=True, exist_ok=True)
    calibrated_camera.save(path, fits, data=[split.name], split=split.split, window=0)
    return path


def light(photograph: np.ndarray) -> np.ndarray:
    """Mean linear light of each channel."""
    whole = jnp.asarray(photograph, jnp.float32) / 255.0
    return np.asarray(image.linearize(whole).mean(axis=(0, 1)), np.float64)


def from_light(ratio: np.ndarray, offset, shot, read) -> Physics:
    """θ of the camera whose light is `ratio` of the scene's, channel by channel."""
    exposure = float(np.clip(np.exp(np.log(ratio).mean()), 1e-3, 1.0))
    gains = ratio / np.exp(np.log(ratio).mean())
    fields = {"exposure": exposure, "gains": gains, "offset": offset}
    fields |= {"shot_noise": shot, "read_noise": read}
    return Physics(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def guessed(split: store.Split, weights: Path) -> dict[str, Physics]:
    """Pair -> θ: the scene is grey and `LIGHT` bright, there is no offset, the network says the noise."""
    loaded, made = weight_files.load(str(weights)), {}
    network = jax.jit(model.ProgressiveDualNetwork(**loaded.model).apply)
    params = weight_files.single(loaded.params)
    for item in split.items:
        low = split.frame(item.example, item.low)
        noise = network(params, jnp.asarray(low, jnp.float32)[None] / 255.0).noise
        ratio = np.maximum(light(low) + 1e-5, 1e-6) / LIGHT
        sigma = float(noise.shot[0]), float(noise.read[0])
        made[split.item_name(item)] = from_light(ratio, np.zeros(3), *sigma)
    return made


def by_few(kept: store.Split, others: store.Split, known: dict[str, Physics]) -> dict[str, Physics]:
    """Pair without truth -> θ: its scene is as bright and coloured as those of the kept, in the mean."""
    thetas = [known[kept.item_name(item)] for item in kept.items]
    scene = np.mean([light(kept.frame(item.example, -1)) for item in kept.items], axis=0)
    offset = np.mean([theta.offset for theta in thetas], axis=0)
    shot, read = (
        np.exp(np.mean([np.log(max(float(theta[name]), 1e-12)) for theta in thetas]))
        for name in ("shot_noise", "read_noise")
    )
    made = {}
    for item in others.items:
        dark = light(others.frame(item.example, item.low))
        ratio = np.maximum(dark - offset, 0.1 * dark + 1e-6) / scene
        made[others.item_name(item)] = from_light(ratio, np.minimum(offset, dark), shot, read)
    return made


def mistaken(physics: Physics, stops: float) -> Physics:
    """θ as a truth that is so many stops too bright would have it."""
    return physics.replace(exposure=jnp.minimum(physics.exposure * 2.0**-stops, 1.0))


# --- what the truth leaves -------------------------------------------------------------------------


def residuals(split: store.Split, known: dict[str, Physics], levels: int = 4) -> np.ndarray:
    """Mean |whitened residual| of truths by level, and what noise would leave: white, and with 0.25.

    [3, levels], means over the pairs of `split` with their own θ, 'DATA/pair' -> θ.
    """
    camera = degradation.camera()

    @jax.jit
    def of_one(low, normal, physics):
        batch = Batch(low=low, normal=normal, physics=physics)
        whitened = functools.partial(losses.whitened, losses.l1())
        white = losses.expected
        correlated = functools.partial(losses.expected, correlation=0.25)
        made = [
            [each(levels=level + 1, finest=level)(camera, normal, batch) for level in range(levels)]
            for each in (whitened, white, correlated)
        ]
        return jnp.asarray(made)[..., 0]

    rows = []
    for item in split.items:
        images = [split.frame(item.example, index)[None] for index in (item.low, -1)]
        theta = jax.tree.map(lambda x: x[None], known[f"{split.name}/{split.item_name(item)}"])
        rows.append(of_one(*(jnp.asarray(x, jnp.float32) / 255.0 for x in images), theta))
    return np.mean(rows, axis=0)


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    parser = cli.Parser(
        prog="python -m train.tools.claim_physics", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--config", required=True, help="names the data and their calibration")
    options, more = parser.parse_known_args(argv)
    config = parse(["--config", options.config, *more])
    split = store.Split("eliei", "train", config.data.directory)
    _, known = calibrated_camera.load_calibration(config.data.physics)
    rows = residuals(split, known)
    for name, row in zip(("truths", "white noise", "noise of 0.25"), rows, strict=True):
        print(f"{name:14s}", *(f"{value:.2f}" for value in row))


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
