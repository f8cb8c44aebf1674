"""What a training reads: which data sets, in which order, from any step on; and what judges it.

The batch of a step is a function of (seed, step) alone: threads, workers, the cache, the number of
processes and where a training was resumed change nothing in it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from pdn_jax.types import InputError, Physics
from train import build
from train.data import calibrated_camera, crops, order, store, synthesis, truths
from train.data.prefetch import prefetched
from train.tools import prepare

GIB = 2**30

# --- which data sets -----------------------------------------------------------------------------


def prepared(config, console: Console) -> None:
    """Build the data sets of `config.data.sources` that are not built yet."""
    for entry in config.data.sources:
        whole = isinstance(entry, tuple) and len(entry) == 3
        if not whole or entry[0] not in ("paired", "brackets", "photos"):
            raise InputError(
                f"data.sources has {entry!r}; expected (kind, name, folder), kind one of "
                "paired, brackets, photos"
            )
        kind, name, folder = map(str, entry)
        where = ["--data-dir", config.data.directory] if config.data.directory else []
        asked = prepare.options_of([kind, "--source", folder, "--name", name, *where])
        prepare.report(name, prepare.prepare(asked, console), console)


def mixture(config) -> tuple[list[store.Split], list[float]]:
    """The splits of `config.data.mixture` and their weights; raises InputError for a bad entry."""
    entries = config.data.mixture or tuple((name, 1.0) for _, name, _ in config.data.sources)
    splits, weights = [], []
    for entry in entries or (("packaged", 1.0),):
        if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            raise InputError(f"data.mixture has {entry!r}; expected (name, weight)")
        name, weight = entry
        if type(weight) not in (int, float) or not 0 < weight < float("inf"):
            raise InputError(f"data.mixture gives {name} the weight {weight!r}; expected above 0")
        splits.append(opened(name, "train", config.data.directory))
        weights.append(float(weight))
    return divided(config, splits, weights) if config.data.truths >= 0 else (splits, weights)


def divided(config, splits: Sequence[store.Split], weights: Sequence[float]):
    """Each set of pairs in two, with and without truths, as `data.truths` and `data.untold` say.

    Raises InputError where something would take what is no truth for one.
    """
    untold = config.data.untold if config.data.truths else 1.0
    leaning = config.augment.identity or config.augment.mild or config.augment.probability
    bounded = config.loss.floor == "truth" and config.loss.balance != "positive_only"
    if untold and (leaning or bounded):
        raise InputError(
            "photographs without a truth (data.truths, data.untold) need loss.floor=noise, and "
            "augment.identity, augment.mild and augment.probability 0, which lean on it"
        )
    several, shares = [], []
    for split, weight in zip(splits, weights, strict=True):
        parts, part_shares = [split], [1.0]
        if split.kind == "paired":
            parts = truths.divided(split, config.data.truths, config.seed)
            part_shares = [1.0 - untold, untold]
        for part, share in zip(parts, part_shares, strict=True):
            if share and len(part):
                several.append(part)
                shares.append(share * weight)
    return several, shares


def opened(name: str, split: str, directory: str) -> store.Split:
    """The split that 'name/split' or 'name' says, with `split` where it says none."""
    name, _, said = name.partition("/")
    return store.Split(name, said or split, directory)


def judged(config, trained: Sequence[store.Split]) -> list[store.Split]:
    """What to judge by: `config.eval.data`, or the dev (else test) splits of what is trained on."""
    directory = config.data.directory
    if config.eval.data:
        if wrong := [name for name in config.eval.data if not isinstance(name, str)]:
            raise InputError(f"eval.data has {wrong[0]!r}; expected 'NAME' or 'NAME/SPLIT'")
        return [opened(name, "dev", directory) for name in config.eval.data]
    splits = []
    for name in dict.fromkeys(split.name for split in trained):
        there = store.plan(name, directory)["examples"]
        held_out = [split for split in ("dev", "test") if split in there]
        splits += [store.Split(name, split, directory) for split in held_out[:1]]
    if not splits:
        raise InputError(
            f"{', '.join(split.name for split in trained)}: no dev or test split to judge by; "
            "name one with --config.eval.data=\"('NAME/SPLIT',)\""
        )
    return splits


def pairs(config, splits: Sequence[store.Split]) -> list[synthesis.Pair]:
    """Whole pairs of the splits to judge by, in memory; what is drawn is drawn as `config.eval` says."""
    asked = {
        "seed": config.eval.seed,
        "draws": config.eval.draws,
        "degrade": build.eval_camera(config),
        "sample_physics": build.eval_sampler(config),
        "max_pairs": config.eval.max_pairs,
    }
    return [pair for split in splits for pair in synthesis.whole_pairs(split, **asked)]


def fitted(config, splits: Sequence[store.Split]) -> synthesis.Fitted | None:
    """θ of every real pair of the splits from `config.data.physics`, in the order of `record`.

    Without `config.data.fitted` none of them is known to the negative direction.
    """
    real = [split for split in splits if split.kind != "photos"]
    if not (config.data.physics and real):
        return None
    _, known = calibrated_camera.load_calibration(config.data.physics)
    names = [f"{split.name}/{split.item_name(item)}" for split in real for item in split.items]
    nothing = jax.tree.map(np.asarray, synthesis.degradation.neutral_physics(jnp.ones(())))
    rows: list[Physics] = [nothing, *(known.get(name, nothing) for name in names)]
    used = known if config.data.fitted else ()
    is_used = np.array([0.0, *(float(name in used) for name in names)], np.float32)
    return synthesis.Fitted(jax.tree.map(lambda *x: np.stack(x).astype(np.float32), *rows), is_used)


# --- batches by step -----------------------------------------------------------------------------


class Part(NamedTuple):
    """A stretch of the training whose batches have one shape: steps start … stop − 1.

    items: (which split, which of its items) of one place of a batch after the other. batches: of
    crops, by step. places: in the whole batch, of what this process reads. size: of the whole batch.
    """

    start: int
    stop: int
    size: int
    items: grain.MapDataset
    batches: grain.MapDataset
    places: np.ndarray
    cache: crops.Cache


def shapes(config) -> list[tuple[int, int, int, int]]:
    """(first step, step after the last, crops in a batch, pixels a side) of each part of the training."""
    options = config.data
    steps, size = config.train.steps, config.train.batch_size
    if not options.final_size:
        return [(0, steps, size, options.crop_size)]
    change = steps - round(options.final_fraction * steps)
    last = change, steps, last_batch(config, size), options.final_size
    return [part for part in ((0, change, size, options.crop_size), last) if part[0] < part[1]]


def last_batch(config, size: int) -> int:
    """Crops of `data.final_size` with about as many pixels as `size` of `data.crop_size`; 1 or more."""
    return max(1, round(size * (config.data.crop_size / config.data.final_size) ** 2))


def parts(
    config, splits: Sequence[store.Split], weights: Sequence[float], process=(0, 1)
) -> list[Part]:
    """The crops of `config.data`, by step, in parts of one shape each."""
    options, more = config.data, config.augment
    cache = crops.Cache(round(options.cache * GIB / max(1, options.workers)))
    plain = crops.Crops(0, options.smallest_crop, options.between, more.scaled, more.enlarged)
    if any(options.shift) or options.misexposed:
        faults = truths.Faults(config.seed, tuple(options.shift), options.misexposed)
        plain = plain._replace(faults=faults)
    shared, made = {"cache": cache, "process": process}, []
    for number, (start, stop, size, side) in enumerate(shapes(config)):
        order.check_groups(splits, options.groups, size)
        drawn = {"splits": splits, "weights": weights, "seed": config.seed, "part": number}
        drawn["groups"] = options.groups
        batched = batches(**drawn, batch_size=size, taken=plain._replace(size=side), **shared)
        made.append(
            Part(start, stop, size, order.items(**drawn), batched, places(size, process), cache)
        )
    return made


def batches(
    splits: Sequence[store.Split],
    weights: Sequence[float],
    *,
    seed: int,
    batch_size: int,
    taken: crops.Crops,
    cache: crops.Cache,
    part: int = 0,
    groups: int = 1,
    process: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """An endless random-access data set: element `step` is a dict of uint8 crops [n, …] of `items`.

    process is (which, of how many): each reads its own share of every batch (see `places`). Raises
    InputError for an image smaller than the crop, or a batch that does not divide.
    """
    which, count = process
    if batch_size % count:
        raise InputError(
            f"train.batch_size={batch_size} does not divide among {count} processes; "
            f"use a multiple of {count}"
        )
    for split in splits:
        crops.check_sizes(split, taken.size)
    return (
        order.items(splits, weights, seed=seed, part=part, groups=groups)
        .seed(synthesis.host_seed("crops", seed, part))
        .random_map(crops.Cropping(splits, taken, cache))
        .slice(slice(which, None, count))
        .batch(batch_size // count)
    )


def places(batch_size: int, process: tuple[int, int] = (0, 1)) -> np.ndarray:
    """Places in the whole batch of what a process reads: which, which + how many, …"""
    which, count = process
    return np.arange(which, batch_size, count)


def names_at(splits: Sequence[store.Split], parts: Sequence[Part], step: int) -> list[str]:
    """What the batch after `step` steps is made of: 'DATA/photograph' by its place."""
    (part,) = (part for part in parts if part.start <= step < part.stop)
    chosen = [part.items[step * part.size + place] for place in range(part.size)]
    return [f"{splits[s].name}/{splits[s].item_name(splits[s].items[i])}" for s, i in chosen]


# --- batches one after the other -----------------------------------------------------------------


def stream(config, parts: Sequence[Part], start: int, degrade, known) -> Iterator:
    """(crops, their places) of every step from `start` on; its reader closes it."""
    for part in parts:
        if start >= part.stop:
            continue
        first = max(start, part.start)
        with prefetched(
            part.batches, first, threads=config.data.threads, workers=config.data.workers
        ) as batched:
            if config.data.jpeg:
                batched = synthesis.compress(
                    batched,
                    build.synthesiser(config, degrade, known),
                    start=first,
                    places=part.places,
                    root=build.keys(config)["batches"],
                    seed=config.seed,
                    share=config.data.jpeg,
                    quality=tuple(config.data.jpeg_quality),
                )
            for _ in range(first, part.stop):
                yield next(batched), part.places
        part.cache.clear()  # of images reduced for crops of this size
