"""How fast training runs, and what a step is made of.

    python -m benchmarks.train --variant small --batch 8 --steps 30

Three tables, each timed in turn in one run: steps per second on photographs as `train.loop`
reads them against one batch again and again (1 means that the devices never wait for data);
a step with both directions and the dynamic balance against the positive direction alone; and
the parts of a step, on one device with its share of the batch.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import timing
from benchmarks.count import positive_integer
from configs import base
from pdn_jax import degradation
from pdn_jax.cli import explained
from pdn_jax.model import VARIANTS
from train import build, data, parallel, pipeline, sources
from train.step import init_state

BALANCES = ("gradient_ratio", "positive_only")


def configured(variant: str, batch: int, crop: int | None, balance: str):
    """`configs.base` with a variant, a batch size, a crop size if given and a balance."""
    config = base.get_config()
    config.model.variant = variant
    config.train.batch_size = batch
    config.data.crop_size = crop or config.data.crop_size
    config.loss.balance = balance
    return config


def make_training(config, params, devices: list) -> tuple[Callable, parallel.Mapped]:
    """(step, mapped), put together as `train.loop` does; step(batch) -> logs trains `params` on."""
    model = build.network(config)
    degrade = degradation.camera()
    loss = build.loss(config, degrade)
    optimizer = build.optimizer(config)
    make_step = build.step_maker(
        config, model=model, degrade=degrade, loss=loss, optimizer=optimizer
    )
    mapped = parallel.STRATEGIES[config.parallel.strategy](make_step, devices)
    state = mapped.replicate(init_state(params, optimizer, loss))

    def step(batch):
        nonlocal state
        state, logs = mapped.step(state, *batch)
        return logs

    return step, mapped


def photographs(config) -> Iterator[data.Crops]:
    """The training batches, from the first on, prefetched as in training."""
    batches = sources.batches(config, *sources.mixture(config))
    with pipeline.stream(batches, 0, threads=config.data.threads) as crops:
        yield from crops


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
    return {name: float(value) for name, value in logs.items()}


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

    return timing.in_turn({name: caller(*found) for name, found in trainings.items()}, repeats)


def part_times(configs: dict[str, Any], params, share: int, repeats: int):
    """Name -> `Timing` of the parts of a step, jitted one by one, for `share` crops on one device."""
    config = configs["gradient_ratio"]
    model, degrade = build.network(config), degradation.camera()
    params = jax.device_put(params)
    crops = {name: part[:share] for name, part in next(photographs(config)).items()}
    keys = data.image_keys(jax.random.key(config.seed), 0, np.arange(share))
    synthesise = jax.jit(build.synthesiser(config, degrade))
    forward = jax.jit(model.apply)
    batch = jax.block_until_ready(synthesise(keys, crops))
    output = jax.block_until_ready(forward(params, batch.low))

    def backward(params, low, cotangent):
        output, pull = jax.vjp(lambda params: model.apply(params, low), params)
        return output, pull(cotangent)

    def scored(config) -> Callable:
        loss = build.loss(config, degrade)
        score, state = jax.jit(jax.value_and_grad(loss.measure, has_aux=True)), loss.init()
        return lambda: score(output, batch, state)

    backward = jax.jit(backward)
    calls = {
        "synthesise": lambda: synthesise(keys, crops),
        "forward": lambda: forward(params, batch.low),
        "forward and backward": lambda: backward(params, batch.low, output),
        "positive loss": scored(configs["positive_only"]),
        "both directions": scored(config),
    }
    return timing.in_turn(calls, repeats)


# --- tables ----------------------------------------------------------------------------------


def speed_table(speeds: dict[str, float]) -> Table:
    """Steps per second of each source, and their ratio."""
    table = Table("data")
    table.add_column("steps/s", justify="right")
    for name, speed in speeds.items():
        table.add_row(name, f"{speed:.3f}")
    loaded, repeated = speeds.values()
    table.add_row("ratio", f"{loaded / repeated:.3f}", style="bold")
    return table


def times_table(title: str, times: dict[str, timing.Timing]) -> Table:
    """Milliseconds, minimum and median."""
    table = Table(title)
    for name in ("min ms", "median ms"):
        table.add_column(name, justify="right")
    for name, found in times.items():
        table.add_row(name, f"{1e3 * found.minimum:.1f}", f"{1e3 * found.median:.1f}")
    return table


def balance_table(times: dict[str, timing.Timing]) -> Table:
    """The whole step under both balances, and their ratio."""
    table = times_table("step", times)
    both, alone = (times[name] for name in BALANCES)
    ratios = (both.minimum / alone.minimum, both.median / alone.median)
    table.add_row("ratio", *(f"{ratio:.3f}" for ratio in ratios), style="bold")
    return table


def main(argv: list[str] | None = None) -> None:
    """The command line: three tables; raises InputError for a batch that does not divide."""
    parser = argparse.ArgumentParser(
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
    options = parser.parse_args(argv)

    configs = {
        name: configured(options.variant, options.batch, options.crop, name) for name in BALANCES
    }
    config = configs["gradient_ratio"]
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
    console.print(speed_table(speeds))
    console.print(balance_table(balance_times(config, trainings, options.repeats)))
    share = options.batch // len(devices)
    parts = part_times(configs, params, share, options.repeats)
    console.print(times_table(f"part, {share} crops", parts))


if __name__ == "__main__":
    sys.exit(explained(main))
