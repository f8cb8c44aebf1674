"""Wall-clock times of functions that return arrays, taken in turn so that noise strikes all alike."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """The seconds of every call."""

    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """What it takes undisturbed."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """What it takes as things are."""
        return statistics.median(self.seconds)


def clock(call: Callable[[], Any]) -> float:
    """Seconds until everything that call() returns has been computed."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Every call once untimed, then once a round for `repeats` rounds, every other round backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        clock(call)
    names = list(calls)
    for _ in range(repeats):
        for name in names:
            seconds[name].append(clock(calls[name]))
        names.reverse()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def present_device() -> str:
    """The devices in words, with jax's version: '1 cpu (2 cores), jax 0.10.2'."""
    devices = jax.local_devices()
    cores = f" ({os.cpu_count()} cores)" if devices[0].platform == "cpu" else ""
    return f"{len(devices)} {devices[0].device_kind}{cores}, jax {jax.__version__}"
