"""Mapping the per-device step over devices: pmap, shard_map, or one device.

A strategy takes the maker of the step (which wants an axis name) and the devices, and gives
functions that move a state and a batch onto them. What the step sees is the same everywhere.

With several processes the devices are those of all of them. Each process then hands over the whole
state and its own share of the batch, and gets back what its own devices hold.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pdn_jax.types import InputError
from train.config import choose

AXIS = "devices"


class Mapped(NamedTuple):
    """A step mapped over devices, and the way there and back.

    step(state, *batch) -> (state, logs), state donated. replicate: host state -> devices.
    shard: this process's batch [n, ...] -> devices. collect: state or logs -> one copy.
    """

    step: Callable
    replicate: Callable[[Any], Any]
    shard: Callable[[Any], Any]
    collect: Callable[[Any], Any]


MakeStep = Callable[[str | None], Callable]


def by_pmap(make_step: MakeStep, devices: Sequence[jax.Device]) -> Mapped:
    """One copy of the state per device, one slice of the batch each: `jax.pmap`."""
    step = jax.pmap(make_step(AXIS), axis_name=AXIS, devices=devices, donate_argnums=0)
    own = Mesh(np.asarray(devices), (AXIS,)).local_mesh
    # Laid out as the step's own results are, or the second call would compile it again.
    layout = NamedSharding(own, PartitionSpec(AXIS))

    def replicate(state):
        return jax.tree.map(
            lambda x: jax.device_put(np.broadcast_to(x, (own.size, *np.shape(x))), layout),
            state,
        )

    def shard(batch):
        return jax.tree.map(lambda x: x.reshape(own.size, -1, *x.shape[1:]), batch)

    @jax.jit  # leaf after leaf it would be compiled, and started, a hundred times
    def first(tree):
        return jax.tree.map(lambda x: x[0], tree)

    def collect(tree):
        return first(jax.tree.map(lambda x: x.addressable_data(0), tree))

    return Mapped(step=step, replicate=replicate, shard=shard, collect=collect)


def by_shard_map(make_step: MakeStep, devices: Sequence[jax.Device]) -> Mapped:
    """The same over a mesh: `jax.shard_map`, its replication check off.

    With the check on, the gradient of a replicated parameter is summed over devices before the
    step's own mean, and comes out wrong without a word.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    replicated, split = PartitionSpec(), PartitionSpec(AXIS)
    body = make_step(AXIS)

    def onto(spec):
        layout = NamedSharding(mesh, spec)
        return lambda tree: jax.make_array_from_process_local_data(layout, tree)

    def mapped(state, *batch):
        return jax.shard_map(
            body,
            mesh=mesh,
            in_specs=(replicated, *(split for _ in batch)),
            out_specs=(replicated, replicated),
            check_vma=False,
        )(state, *batch)

    return Mapped(
        step=jax.jit(mapped, donate_argnums=0),
        replicate=onto(replicated),
        shard=onto(split),
        collect=lambda tree: jax.tree.map(lambda x: x.addressable_data(0), tree),
    )


def on_one(make_step: MakeStep, devices: Sequence[jax.Device]) -> Mapped:
    """The first device alone: `jax.jit`, no axis."""
    return Mapped(
        step=jax.jit(make_step(None), donate_argnums=0),
        replicate=lambda state: jax.device_put(state, devices[0]),
        shard=lambda batch: jax.device_put(batch, devices[0]),
        collect=lambda tree: tree,
    )


STRATEGIES = {"pmap": by_pmap, "shard_map": by_shard_map, "single": on_one}


def choose_devices(strategy: str, wanted: int, batch_size: int, accumulate: int) -> list:
    """The devices to use, process by process, as many of each; `wanted` of each, or all for 0.

    Raises InputError for what does not fit, and for a batch that does not divide.
    """
    choose("parallel.strategy", strategy, STRATEGIES)
    processes = jax.process_count()
    if strategy == "single" and processes > 1:
        raise InputError(
            f"parallel.strategy is 'single', but there are {processes} processes; "
            "use pmap or shard_map"
        )
    there = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
    counts = [len(own) for own in there]
    if wanted < 0 or wanted > min(counts):
        raise InputError(
            f"parallel.devices is {wanted}, but there are {min(counts)}; use 0 for all"
        )
    if not wanted and len(set(counts)) > 1:
        raise InputError(
            f"the processes have {', '.join(map(str, counts))} devices, and each has to use as many; "
            f"use --config.parallel.devices={min(counts)}"
        )
    devices = [device for own in there for device in own[: wanted or len(own)]]
    devices = devices[:1] if strategy == "single" else devices
    shares = len(devices) * accumulate
    if batch_size % shares:
        raise InputError(
            f"train.batch_size={batch_size} does not divide into {described(devices, accumulate)}; "
            f"use a multiple of {shares}"
        )
    return devices


def described(devices: Sequence[jax.Device], accumulate: int) -> str:
    """'4 devices of 2 processes times train.accumulate=1': what a batch is divided into."""
    processes = jax.process_count()
    of = f" of {processes} processes" if processes > 1 else ""
    return f"{len(devices)} devices{of} times train.accumulate={accumulate}"
