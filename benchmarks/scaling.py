"""What more devices cost: the step's time, what it all-reduces, and where that starts to hurt.

    python -m benchmarks.scaling --variant small --batch 8

The first table trains on the same crops with 1, 2, 4 and 8 devices, each number in a process of its
own that pretends to have as many (`--xla_force_host_platform_device_count`). They share the cores of
this machine, so the times show what sharing costs, never a speed-up. The all-reduced bytes are those
of the operands of every all-reduce in the compiled step. The last columns are how far the loss of any
step is from that of the first row, relatively, and the weights at the end, absolutely. The last row is
one more run of the first with the crops in reverse order, so that what it is off by is rounding alone.

The second table is arithmetic. An all-reduce of P float32 parameters around a ring of n devices, each
with B bytes/s to the next, takes at least 2 (n − 1) · (hop + 4 P / (n B)) seconds; a crop takes 6 FLOPs
per multiply-accumulate of the network, forward and backward, at the device's peak. Sources in
docs/scaling.md.
"""

import argparse
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import count, train, workers
from benchmarks.count import positive_integer
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError
from train import build, parallel
from train.config import validate

BYTES = {
    **{"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2},
    **{"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8},
}
"""Size of one number of each of XLA's types."""


class Machine(NamedTuple):
    """A ring: how many devices, each one's peak FLOP/s, bytes/s to the next, seconds for the first."""

    devices: int
    peak: float
    link: float
    hop: float


MACHINES = {
    "v5e-8, bfloat16": Machine(8, 197e12, 90e9, 1e-6),
    "8 H100, bfloat16": Machine(8, 989e12, 450e9, 1e-6),
    "8 H100, TF32": Machine(8, 494e12, 450e9, 1e-6),
    "2 hosts of 8 H100, 10 Gbit/s": Machine(2, 8 * 989e12, 1.25e9, 50e-6),
}
"""Sources in docs/scaling.md; in the last, hosts stand for devices."""

TOLERATED = 0.1
"""Part of a step's computation that an all-reduce may take before it is said to hurt."""


class Setting(NamedTuple):
    """What is trained, and how; change: `config.model.change`; reverse: the crops in reverse order."""

    variant: str
    batch: int
    crop: int
    strategy: str = "pmap"
    accumulate: int = 1
    steps: int = 20
    change: tuple = ()
    reverse: bool = False


class Measured(NamedTuple):
    """Of some devices: seconds and loss of every step, all-reduces, their bytes, weights at the end."""

    seconds: list[float]
    losses: list[float]
    reductions: int
    reduced: int
    weights: np.ndarray


# --- measured ------------------------------------------------------------------------------------


def all_reduced(program: str) -> tuple[int, int]:
    """(all-reduces, bytes of their operands) in a compiled program's text."""
    shapes = re.findall(r"= (.+?) all-reduce(?:-start)?\(", program)
    numbers = [
        BYTES[dtype] * math.prod(int(side) for side in sides.split(",") if side)
        for shape in shapes
        for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", shape)
    ]
    return len(shapes), sum(numbers)


def configured(setting: Setting):
    """The config of a setting."""
    config = train.configured(setting.variant, setting.batch, setting.crop, "gradient_ratio")
    config.model.change = setting.change
    config.parallel.strategy = setting.strategy
    config.train.accumulate = setting.accumulate
    config.train.steps = setting.steps
    return config


def run(setting: Setting) -> Iterator[Measured]:
    """What `workers` runs: the steps of a setting on all the devices of this process."""
    config = configured(setting)
    validate(config)
    devices = parallel.choose_devices(setting.strategy, 0, setting.batch, setting.accumulate)
    params = build.initial_params(config, build.network(config))
    mapped, state = train.assembled(config, params, devices)
    shape = (setting.batch, setting.crop // 8, setting.crop // 8, 3)
    blocks = np.random.default_rng(0).integers(60, 200, shape)
    crops = {"normal": np.kron(blocks, np.ones((1, 8, 8, 1))).astype(np.uint8)}
    places = np.arange(setting.batch)[:: -1 if setting.reverse else 1]
    batch = mapped.shard(({name: value[places] for name, value in crops.items()}, places))
    seconds, losses = [], []
    for _ in range(setting.steps):
        start = time.perf_counter()
        state, logs = mapped.step(state, *batch)
        losses.append(float(mapped.collect(logs).scalars["loss"]))
        seconds.append(time.perf_counter() - start)
    program = mapped.step.lower(state, *batch).compile().as_text()
    weights = [np.ravel(leaf) for leaf in jax.tree.leaves(mapped.collect(state.params))]
    yield Measured(seconds, losses, *all_reduced(program), np.concatenate(weights))


def pretending(devices: int) -> dict[str, str]:
    """The environment of a process that is to have so many devices on its host."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    others = [flag for flag in flags if "host_platform_device_count" not in flag]
    forced = f"--xla_force_host_platform_device_count={devices}"
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join([*others, forced])}


def on_devices(setting: Setting, devices: Sequence[int]) -> dict[str, Measured]:
    """What was measured on each number of devices, and on the first with the crops in reverse order.

    Raises InputError for a batch that does not divide.
    """
    for many in devices:
        if setting.batch % (many * setting.accumulate):
            raise InputError(
                f"--batch {setting.batch} does not divide into {many} devices times --accumulate "
                f"{setting.accumulate}; use a multiple of {many * setting.accumulate}"
            )

    def on(many: int, setting: Setting) -> Measured:
        return workers.apart(run, setting, environment=pretending(many))

    results = {str(many): on(many, setting) for many in devices}
    return results | {f"{devices[0]}, reversed": on(devices[0], setting._replace(reverse=True))}


def differences(results: Measured, one: Measured) -> tuple[float, float]:
    """The largest relative difference of a step's loss, and the largest of a weight."""
    ours, theirs = np.array(results.losses), np.array(one.losses)
    loss = np.abs(ours - theirs) / np.abs(theirs)
    return float(loss.max()), float(np.abs(results.weights - one.weights).max())


def measured_table(results: dict[str, Measured]) -> Table:
    """A row for each number of devices, and for the crops in reverse order."""
    table = Table("devices")
    columns = ("ms a step", "of the first", "all-reduces", "bytes", "4 × parameters")
    for name in (*columns, "loss off by", "weights"):
        table.add_column(name, justify="right")
    first = next(iter(results.values()))
    # The first step holds the compilation.
    base = statistics.median(first.seconds[1:])
    for many, its in results.items():
        median = statistics.median(its.seconds[1:])
        cells = f"{1e3 * median:.1f}", f"{median / base:.2f}", str(its.reductions)
        sizes = f"{its.reduced:,}", f"{4 * its.weights.size:,}"
        table.add_row(many, *cells, *sizes, *(f"{d:.0e}" for d in differences(its, first)))
    return table


# --- on paper ------------------------------------------------------------------------------------


def reduction_seconds(parameters: int, machine: Machine) -> float:
    """The least time of an all-reduce of so many float32 parameters: 2 (n − 1) (hop + 4 P / (n B))."""
    part = 4 * parameters / machine.devices
    return 2 * (machine.devices - 1) * (machine.hop + part / machine.link)


def crop_seconds(macs: int, machine: Machine) -> float:
    """The least time of a crop, forward and backward: 6 FLOPs per multiply-accumulate, at the peak."""
    return 6 * macs / machine.peak


def paper_table(crop: int) -> Table:
    """For every machine and variant: the two times, and how many crops on each device are enough.

    That is, for the all-reduce to take `TOLERATED` of the time of the crops, on devices that work at
    their peak, or at a tenth of it.
    """
    table = Table("machine", "variant", title=f"on paper, crops of {crop}×{crop}")
    for name in ("MB reduced", "all-reduce, µs", "a crop, µs", "crops, at the peak", "at a tenth"):
        table.add_column(name, justify="right")
    for name, machine in MACHINES.items():
        for variant in VARIANTS:
            parameters, *macs = count.network_macs(variant, (1, crop, crop, 3))
            reduction = reduction_seconds(parameters, machine)
            one = crop_seconds(sum(macs), machine)
            least = (math.ceil(part * reduction / (TOLERATED * one)) for part in (1.0, 0.1))
            sizes = f"{4e-6 * parameters:.2f}", f"{1e6 * reduction:.2f}", f"{1e6 * one:.2f}"
            table.add_row(name, variant, *sizes, *map(str, least))
    return table


def main(argv: list[str] | None = None) -> None:
    """The command line: two tables; raises InputError for a batch that does not divide."""
    parser = Parser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--variant", choices=VARIANTS, default="small")
    parser.add_argument("--batch", type=positive_integer, default=8, help="crops, on all devices")
    parser.add_argument("--crop", type=positive_integer, default=128, help="pixels a side")
    parser.add_argument("--strategy", choices=("pmap", "shard_map"), default="pmap")
    parser.add_argument("--accumulate", type=positive_integer, default=1, help="micro-batches")
    parser.add_argument("--steps", type=positive_integer, default=20, help="of each, from 2")
    parser.add_argument("--devices", type=positive_integer, nargs="*", default=[1, 2, 4, 8])
    options = parser.parse_args(argv)
    if options.steps < 2:
        raise InputError("--steps is 1; expected at least 2, since the first holds the compilation")
    fields = {name: value for name, value in vars(options).items() if name in Setting._fields}
    console = Console()
    if options.devices:
        results = on_devices(Setting(**fields), options.devices)
        console.print(
            f"{options.variant}, {options.batch} crops of {options.crop}×{options.crop} in all, "
            f"{options.strategy}, on {workers.threads()} cores that the devices share, "
            f"jax {jax.__version__}"
        )
        console.print(measured_table(results))
    console.print(paper_table(options.crop))


if __name__ == "__main__":
    sys.exit(explained(main))
