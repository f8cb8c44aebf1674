"""How fast training runs, and what a step is made of.

    python -m benchmarks.train --variant small --batch 8 --steps 30
    python -m benchmarks.train --against ../another-checkout
    python -m benchmarks.train --against ../another-checkout --config configs/real.py \
        --config.data.physics=/data/calibrated.json

Tables, each timed in turn in one run: steps on photographs as `train.loop` reads them against one
batch again and again (1 means that the devices never wait for data); a step with both directions
and the dynamic balance against the positive direction alone; on one device with its share of the
batch, the parts of a step, its memory and time with and without rematerialisation, and, where
PyTorch is installed, a loop of the same network there with the same positive loss and crops.
GFLOP/s are 2 × the multiply-accumulates of the network, forward and to its parameters; the loss's
windows are products too, and not counted.

With --against whole trainings are timed instead, in turn here and in that checkout; what stands behind
the options goes to `train.main` of both.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import timing, train_against, train_parts, workers
from benchmarks.count import positive_integer
from configs import base
from pdn_jax import degradation
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError
from train import build, parallel
from train.config import validate
from train.data import mixture, synthesis
from train.data.prefetch import prefetched
from train.step import init_state

BALANCES = ("gradient_ratio", "positive_only")


def configured(variant: str, batch: int, crop: int | None, balance: str, dtype: str = "float32"):
    """`configs.base` with a variant, a batch size, a crop size if given and a balance."""
    config = base.get_config()
    config.model.variant = variant
    config.model.dtype = dtype
    config.train.batch_size = batch
    config.data.crop_size = crop or config.data.crop_size
    config.loss.balance = balance
    return config


def assembled(config, params, devices: list) -> tuple[parallel.Mapped, Any]:
    """(mapped, state on the devices), put together as `train.loop` does."""
    model = build.network(config)
    degrade = degradation.camera()
    loss = build.loss(config, degrade)
    optimizer = build.optimizer(config)
    make_step = build.step_maker(
        config, model=model, degrade=degrade, loss=loss, optimizer=optimizer
    )
    mapped = parallel.STRATEGIES[config.parallel.strategy](make_step, devices)
    return mapped, mapped.replicate(init_state(params, optimizer, loss))


def make_training(config, params, devices: list) -> tuple[Callable, parallel.Mapped]:
    """(step, mapped) of `assembled`; step(batch) -> logs trains `params` on."""
    mapped, state = assembled(config, params, devices)

    def step(batch):
        nonlocal state
        state, logs = mapped.step(state, *batch)
        return logs

    return step, mapped


def photographs(config) -> Iterator[synthesis.Crops]:
    """The training batches, from the first on, prefetched as in training."""
    batches = mixture.parts(config, *mixture.mixture(config))[0].batches
    with prefetched(batches, 0, threads=config.data.threads) as stream:
        yield from stream


def seconds_of(step: Callable, mapped: parallel.Mapped, batches: Iterator, steps: int) -> float:
    """Seconds of `steps` steps, each reading the logs of the one before as `train.loop` does."""
    pending = None
    start = time.perf_counter()
    for _ in range(steps):
        logs = step(next(batches))
        if pending is not None:
            read(pending)
        pending = mapped.collect(logs)
    read(pending)
    return time.perf_counter() - start


def read(logs) -> dict[str, float]:
    """The logs as floats: waits for the step that they come from."""
    return {name: float(value) for name, value in logs.scalars.items()}


# --- what is measured ------------------------------------------------------------------------


def data_speeds(config, step, mapped, *, steps: int, rounds: int) -> dict[str, float]:
    """Steps per second of each source of data, `steps` steps of each in blocks taken in turn.

    Each block begins untimed with as many steps as batches may wait in the prefetch buffer, so
    that none loaded during the other's turn is counted.
    """
    indices = np.arange(config.train.batch_size)
    stream = photographs(config)
    first = mapped.shard((next(stream), indices))
    sources = {
        "photographs": (mapped.shard((crops, indices)) for crops in stream),
        "one batch repeated": itertools.repeat(first),
    }
    seconds = dict.fromkeys(sources, 0.0)
    for block in np.array_split(np.arange(steps), min(rounds, steps)):
        for name, batches in sources.items():
            seconds_of(step, mapped, batches, 2 * config.data.threads)
            seconds[name] += seconds_of(step, mapped, batches, len(block))
    return {name: steps / spent for name, spent in seconds.items()}


def balance_times(config, trainings: dict[str, tuple], repeats: int) -> dict[str, timing.Timing]:
    """Name -> `Timing` of a whole step of each training, all on the same batch."""
    crops = next(photographs(config))

    def caller(step, mapped):
        batch = mapped.shard((crops, np.arange(len(crops["normal"]))))
        return lambda: step(batch)

    return timing.in_turn(
        {name: caller(*training) for name, training in trainings.items()}, repeats
    )


# --- tables ----------------------------------------------------------------------------------


def speed_table(speeds: dict[str, float], images: int, products: int) -> Table:
    """Steps, images and GFLOP per second of each source, and their ratio; MACs of a step given."""
    table = Table("data")
    for name in ("steps/s", "images/s", "GFLOP/s"):
        table.add_column(name, justify="right")
    for name, speed in speeds.items():
        flops = 2e-9 * products * speed
        table.add_row(name, f"{speed:.3f}", f"{speed * images:.2f}", f"{flops:.1f}")
    loaded, repeated = speeds.values()
    table.add_row("ratio", f"{loaded / repeated:.3f}", "", "", style="bold")
    return table


def parts_table(title: str, times: dict[str, timing.Timing], products: dict[str, int]) -> Table:
    """Milliseconds of each part, its share of the whole step, GFLOP/s where it has products.

    Backward is both passes less forward. The sum of the parts is what they take one by one, each
    reading and writing its arrays; within the step the compiler joins some.
    """
    medians = {name: 1e3 * timing.median for name, timing in times.items()}
    medians["backward"] = medians.pop("forward and backward") - medians["forward"]
    whole = medians.pop("whole step")
    order = sorted(medians, key=lambda name: (name != "forward", name != "backward"))
    table = Table(title)
    for name in ("median ms", "of the step", "GFLOP/s"):
        table.add_column(name, justify="right")
    for name in order:
        flops = f"{2e-6 * products[name] / medians[name]:.1f}" if name in products else ""
        table.add_row(name, f"{medians[name]:.2f}", f"{medians[name] / whole:.1%}", flops)
    total = sum(medians.values())
    table.add_row("sum of the parts", f"{total:.2f}", f"{total / whole:.1%}", "")
    flops = f"{2e-6 * products['whole step'] / whole:.1f}"
    table.add_row("whole step", f"{whole:.2f}", "100.0%", flops, style="bold")
    return table


def memory_table(results: dict[str, tuple[int, timing.Timing]]) -> Table:
    """Temporary memory and time of a step as it is, and with gradient checkpointing."""
    table = Table("network in reverse")
    for name in ("MiB", "min ms", "median ms"):
        table.add_column(name, justify="right")
    for name, (size, its) in results.items():
        table.add_row(
            name, f"{size / 2**20:.1f}", f"{1e3 * its.minimum:.1f}", f"{1e3 * its.median:.1f}"
        )
    return table


def times_table(title: str, times: dict[str, timing.Timing]) -> Table:
    """Milliseconds, minimum and median."""
    table = Table(title)
    for name in ("min ms", "median ms"):
        table.add_column(name, justify="right")
    for name, its in times.items():
        table.add_row(name, f"{1e3 * its.minimum:.1f}", f"{1e3 * its.median:.1f}")
    return table


def ratio_table(title: str, times: dict[str, timing.Timing]) -> Table:
    """Two times, and the first over the second."""
    table = times_table(title, times)
    first, second = times.values()
    ratios = (first.minimum / second.minimum, first.median / second.median)
    table.add_row("ratio", *(f"{ratio:.3f}" for ratio in ratios), style="bold")
    return table


def print_against(options: argparse.Namespace, more: list[str]) -> None:
    """Whole trainings here and in another checkout."""
    checkouts = {"this": train_against.ROOT, "against": options.against.resolve()}
    given = [
        f"--config.model.variant={options.variant}",
        f"--config.train.batch_size={options.batch}",
        f"--config.data.crop_size={options.crop or 128}",
        "--config.data.final_size=0",
        *more,
    ]
    paces = train_against.in_turn(checkouts, options.config, options.steps, options.rounds, given)
    title = f"{options.config}, {options.variant}, {options.batch} crops"
    Console().print(train_against.table(title, paces))


def main(argv: list[str] | None = None) -> None:
    """The command line: three tables; raises InputError for a batch that does not divide."""
    parser = Parser(
        prog="python -m benchmarks.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--variant", choices=VARIANTS, default="small")
    parser.add_argument("--batch", type=positive_integer, default=8, help="crops, on all devices")
    parser.add_argument("--crop", type=positive_integer, help="pixels a side; as in configs.base")
    parser.add_argument("--steps", type=positive_integer, default=30, help="timed, of each kind")
    parser.add_argument("--rounds", type=positive_integer, default=3, help="turns of each source")
    parser.add_argument("--repeats", type=positive_integer, default=10, help="of each part")
    parser.add_argument("--dtype", choices=build.DTYPES, default="float32")
    parser.add_argument("--remat", type=positive_integer, default=2, help="crops at a time")
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--config", default="configs/base.py", help="with --against: the recipe")
    options, more = parser.parse_known_args(argv)
    if options.against:
        return print_against(options, more)
    if more:
        parser.error(f"{more[0]} is no option here, only with --against")

    configs = {
        name: configured(options.variant, options.batch, options.crop, name, options.dtype)
        for name in BALANCES
    }
    config = configs["gradient_ratio"]
    validate(config)
    devices = parallel.choose_devices(
        config.parallel.strategy, 0, options.batch, config.train.accumulate
    )
    # Held by the host, since a training gives its own copy away.
    params = jax.tree.map(np.asarray, build.initial_params(config, build.network(config)))
    trainings = {name: make_training(configs[name], params, devices) for name in BALANCES}

    console = Console()
    console.print(
        f"{options.variant}, batch {options.batch} of {config.data.crop_size}×"
        f"{config.data.crop_size}, {config.parallel.strategy}, {timing.present_device()}"
    )
    speeds = data_speeds(
        config, *trainings["gradient_ratio"], steps=options.steps, rounds=options.rounds
    )
    share = options.batch // len(devices)
    crops = {name: part[:share] for name, part in next(photographs(config)).items()}
    setting, alone = (train_parts.Setting(configs[name], params, crops) for name in BALANCES)
    forward, backward = train_parts.network_macs(setting)
    products = {"forward": forward, "backward": backward, "whole step": forward + backward}
    console.print(speed_table(speeds, options.batch, products["whole step"] * len(devices)))
    times = balance_times(config, trainings, options.repeats)
    console.print(ratio_table("step", {name: times[name] for name in BALANCES}))
    parts = train_parts.part_times(setting, options.repeats)
    console.print(parts_table(f"part, {share} crops", parts, products))
    results = train_parts.rematerialisation(setting, options.remat, options.repeats)
    console.print(memory_table(results))
    try:
        times = train_parts.against_torch(alone, options.rounds, options.repeats)
    except (InputError, RuntimeError, workers.Failure) as error:
        console.print(f"PyTorch is left out: {error}", markup=False, highlight=False)
    else:
        console.print(ratio_table("positive loss, crops darkened beforehand", times))


if __name__ == "__main__":
    sys.exit(explained(main))
