"""Learn a camera's physics from its pairs: θ of each, and the distribution to draw from.

    python -m train.tools.calibrate_camera --data lol [--split train] [--out calibrated.json]

fits θ to a window of every pair and writes it as json, with two pictures beside it: fitted and
drawn θ (.png), and real dark frames beside synthetic ones (-pairs.jpg). What the model cannot
explain is left out of the distribution, by name and with its reason.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.console import Console
from rich.progress import track

from pdn_jax import cli, degradation, files, losses, photo, places
from pdn_jax import image as im
from pdn_jax.compiled import Compiled
from pdn_jax.types import Batch, Image, InputError, Physics, PRNGKey
from train.data import calibrated_camera, store
from train.data.calibrated_camera import Fit
from train.tools import calibration_report as report

Pair = tuple[str, np.ndarray, np.ndarray]
"""(name, low, normal), uint8 [h, w, 3]."""

DEGRADE = degradation.camera()

BATCH = 4
"""Pairs fitted by one call: 0.65 s a pair on two cores where one by one takes 0.95 s."""

SMALLEST = 32
"""Pixels a side that `fit_physics` needs."""

RESIDUAL_LIMIT = 3.0
"""A pair is left out where its residual is beyond this many times the median of its data set."""

BLACK_LIMIT = 0.1
"""A pair is left out where θ says black for more than this part of what the photograph shows lit."""

BLACK, LIT = 1.0 / 255.0, 4.0 / 255.0

EVIDENCE = {
    "residual": "r of the truth, whitened by θ's own noise, where neither photograph is saturated",
    "black": "part of the pixels that θ says are below 1 of 255 and the photograph has above 4",
    "noise": "spread of the residual less its surroundings, of 255",
    "correlation": "of that residual between neighbours",
    "model_noise": "the same spread in a dark frame drawn with this θ",
    "model_correlation": "the same correlation there",
}
"""What is measured of each fit beside θ."""


# --- fitting -----------------------------------------------------------------------------------


def usable(low: Image, normal: Image) -> Array:
    """1 where neither photograph is saturated: what is cut off says nothing of the camera."""
    return ((low < 0.98) & (normal < 0.98)).astype(low.dtype)


def noise(observed: Image, mean: Image, weight: Array) -> tuple[Array, Array]:
    """Spread of what remains of an observation, of 255, and its correlation between neighbours.

    What remains is less its blur of σ = 2 pixels, so that it holds no misfit of the light.
    """
    remains = (observed - mean) * weight * 255.0
    remains = (remains - im.blur(remains, 2.0)) * weight
    power = (remains**2).sum() / jnp.maximum(weight.sum(), 1.0)
    beside = (remains[:, 1:] * remains[:, :-1]).sum()
    both = jnp.maximum((weight[:, 1:] * weight[:, :-1]).sum(), 1.0)
    return jnp.sqrt(power), beside / both / jnp.maximum(power, 1e-6)


Sampler = Callable[[Image, Physics], Image]


def as_noisy(
    sample: Sampler, spread: Array, normal: Image, mean: Image, weight: Array, physics: Physics
) -> Physics:
    """θ with σs and σr raised until a frame drawn with it has that spread.

    `fit_physics` takes noise for white. What a camera's own processing has smeared over several
    pixels it sees in part only; here all of it is counted, as the white noise of the same strength.
    """

    def power(physics):
        return noise(sample(normal, physics), mean, weight)[0] ** 2

    rounding = power(physics.replace(shot_noise=0.0 * mean.mean(), read_noise=0.0 * mean.mean()))
    for _ in range(3):
        wanted, drawn = (jnp.maximum(p - rounding, 1e-3) for p in (spread**2, power(physics)))
        gain = jnp.clip(wanted / drawn, 1.0, 10.0)
        physics = physics.replace(
            shot_noise=gain * physics.shot_noise, read_noise=gain * physics.read_noise
        )
    return physics


def examine(key: PRNGKey, low: Array, normal: Array) -> tuple[Physics, dict[str, Array]]:
    """θ of one pair, uint8 [h, w, 3], and `EVIDENCE`.

    The residual is `losses.whitened`'s r(x), over unsaturated pixels alone: highlights that the
    reference has lost are the greatest misfit of most pairs and leave their θ sound.
    """
    low, normal = (photograph.astype(jnp.float32) / 255.0 for photograph in (low, normal))
    physics = degradation.fit_physics(low, normal)
    mean = DEGRADE.mean(normal, physics)
    weight = usable(low, normal)
    calm = weight / (1.0 + ((normal - im.blur(normal, 1.0)) / 0.02) ** 2)
    spread, correlation = noise(low, mean, calm)
    sample = functools.partial(DEGRADE.sample, key)  # the same draws throughout, to compare by
    physics = as_noisy(sample, spread, normal, mean, calm, physics)
    share = jnp.maximum(weight.mean(), 1e-3)
    batch = jax.tree.map(
        lambda leaf: leaf[None],
        Batch(low=jnp.where(weight > 0, low, mean), normal=normal, physics=physics),
    )
    residual = losses.whitened(losses.l1())(DEGRADE, batch.normal, batch)[0] / share
    black = (weight * (mean < BLACK) * (low > LIT)).mean() / share
    drawn = noise(sample(normal, physics), mean, calm)
    values = (residual, black, spread, correlation, *drawn)
    return physics, dict(zip(EVIDENCE, values, strict=True))


_examine_all = Compiled(jax.vmap(examine))


def central(image: np.ndarray, window: int) -> np.ndarray:
    """The middle of an image, window pixels a side or as many as there are; 0 for all of it."""
    height, width = (min(side, window) if window else side for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def fit_pairs(pairs: Iterable[Pair], *, window: int) -> list[Fit]:
    """θ and evidence of every pair, in order, from its central window.

    Windows of one size are fitted `BATCH` together by one compilation. Raises InputError for a
    pair of two sizes or below `SMALLEST`.
    """
    fits, waiting = {}, {}

    def flush(group):
        padded = [group[min(place, len(group) - 1)] for place in range(BATCH)]
        keys = jax.random.split(jax.random.key(0), BATCH)
        low, normal = (np.stack([pair[part] for pair in padded]) for part in (2, 3))
        examined = jax.tree.map(np.asarray, _examine_all(keys, low, normal))
        for place, (order, name, *_) in enumerate(group):
            physics, evidence = jax.tree.map(lambda leaf, place=place: leaf[place], examined)
            fits[order] = Fit(name, physics, {key: float(v) for key, v in evidence.items()})
        group.clear()

    for order, (name, low, normal) in enumerate(pairs):
        if low.shape != normal.shape or min(low.shape[:2]) < SMALLEST:
            raise InputError(
                f"{name} is {low.shape[1]}×{low.shape[0]} and {normal.shape[1]}×{normal.shape[0]} "
                f"pixels: a pair must have one size of at least {SMALLEST} a side"
            )
        low, normal = central(low, window), central(normal, window)
        group = waiting.setdefault(low.shape, [])
        group.append((order, name, low, normal))
        if len(group) == BATCH:
            flush(group)
    for group in filter(None, waiting.values()):
        flush(group)
    return [fits[order] for order in sorted(fits)]


def judge(fits: Sequence[Fit]) -> list[Fit]:
    """The fits, with a reason where one is to be left out; residuals are compared within a data set."""
    judged = []
    for fit in fits:
        data = fit.name.split("/")[0]
        peers = [f.evidence["residual"] for f in fits if f.name.split("/")[0] == data]
        limit = RESIDUAL_LIMIT * float(np.median(peers))
        residual, black = fit.evidence["residual"], fit.evidence["black"]
        reasons = []
        if residual > limit:
            reasons.append(f"residual {residual:.2f}, the limit is {limit:.2f}")
        if black > BLACK_LIMIT:
            reasons.append(f"black for {black:.0%} of it that is lit")
        judged.append(fit._replace(reason=" and ".join(reasons)))
    return judged


# --- the command line --------------------------------------------------------------------------


def outputs(out: Path) -> tuple[Path, Path, Path]:
    """The json, the picture of the distribution, the picture of the pairs."""
    return out, out.with_suffix(".png"), out.with_name(f"{out.stem}-pairs.jpg")


def check_outputs(out: Path, overwrite: bool) -> None:
    """Raise InputError unless all of them can be written, before any work is done for it."""
    json_file, *pictures = outputs(out)
    files.check_target(json_file, overwrite, (".json",))
    for path in pictures:
        photo.check_writable(path, overwrite)


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as it can be without the data."""
    parser = cli.Parser(
        prog="python -m train.tools.calibrate_camera", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--data", required=True, nargs="+", metavar="NAME", help="built data sets")
    add("--split", default="train", help="which split of them (default train)")
    add("--data-dir", type=places.here, metavar="DIR", help="where they were built")
    out = Path("calibrated.json")
    add(
        "--out",
        type=places.here,
        default=out,
        help=f"json to write, pictures beside it (default {out})",
    )
    window = "side of the central window fitted, in pixels; 0 for the whole (default 256)"
    add("--window", type=int, default=256, help=window)
    add("--overwrite", action="store_true", help="replace files that exist")
    options = parser.parse_args(argv)
    if options.window and options.window < SMALLEST:
        raise InputError(f"--window is {options.window}; expected 0 or at least {SMALLEST}")
    if len(set(options.data)) < len(options.data):
        raise InputError(f"--data {' '.join(options.data)}: name each data set once")
    check_outputs(options.out, options.overwrite)
    return options


def run(argv: Sequence[str]) -> None:
    """The command line: fit, judge, write and show; raises InputError for bad input."""
    options, console = options_of(argv), Console()
    data, window = options.data, options.window
    sources = [store.Split(name, options.split, options.data_dir) for name in data]

    def pairs() -> Iterator[Pair]:
        for source in sources:
            for pair, low, normal in source.pairs():
                yield f"{source.name}/{pair}", low, normal

    total = sum(len(source) for source in sources)
    bar = track(pairs(), "fitting", total, console=console, disable=not console.is_terminal)
    fits = judge(fit_pairs(bar, window=window))
    sound = [fit for fit in fits if not fit.reason]
    if len(sound) < 2:
        raise InputError(
            f"{len(sound)} of {len(fits)} pairs of {', '.join(data)} fit the model; "
            "a distribution needs at least 2"
        )
    camera = calibrated_camera.distribution(fits)
    chosen = report.examples(sound)
    shown = [
        (name, central(low, window), central(normal, window))
        for name, low, normal in pairs()
        if name in chosen
    ]
    drawings = report.distribution_plot(camera), report.pairs_picture(shown, chosen, camera)
    json_file, *pictures = outputs(options.out)
    calibrated_camera.save(json_file, fits, data=data, split=options.split, window=window)
    for path, drawing in zip(pictures, drawings, strict=True):
        photo.write(path, drawing, overwrite=True)
    for table in report.tables(fits, camera):
        console.print(table)
    console.print(f"written to {json_file}, {pictures[0]} and {pictures[1]}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
