"""Mapping the per-device step over devices: pmap, shard_map, or one device.

A strategy takes the maker of the step (which wants an axis name) and the devices, and gives
functions that move a state and a batch onto them. What the step sees is the same everywhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pdn_jax.types import InputError

AXIS = "devices"


class Mapped(NamedTuple):
    """A step mapped over devices, and the way there and back.

    step(state, *batch) -> (state, logs), state donated. replicate: host state -> devices.
    shard: global batch [n, ...] -> devices. collect: state or logs -> one copy.
    """

    step: Callable
    replicate: Callable[[Any], Any]
    shard: Callable[[Any], Any]
    collect: Callable[[Any], Any]


MakeStep = Callable[[str | None], Callable]


def by_pmap(make_step: MakeStep, devices: Sequence[jax.Device]) -> Mapped:
    """One copy of the state per device, one slice of the batch each: `jax.pmap`."""
    step = jax.pmap(make_step(AXIS), axis_name=AXIS, devices=devices, donate_argnums=0)
    # Laid out as the step's own results are, or the second call would compile it again.
    layout = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))

    def replicate(state):
        return jax.tree.map(
            lambda x: jax.device_put(np.broadcast_to(x, (len(devices), *np.shape(x))), layout),
            state,
        )

    def shard(batch):
        return jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), batch)

    return Mapped(
        step=step,
        replicate=replicate,
        shard=shard,
        collect=lambda tree: jax.tree.map(lambda x: x[0], tree),
    )


def by_shard_map(make_step: MakeStep, devices: Sequence[jax.Device]) -> Mapped:
    """The same over a mesh: `jax.shard_map`, its replication check off.

    With the check on, the gradient of a replicated parameter is summed over devices before the
    step's own mean, and comes out wrong without a word.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))
    replicated, split = PartitionSpec(), PartitionSpec(AXIS)
    body = make_step(AXIS)

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
        replicate=lambda state: jax.device_put(state, NamedSharding(mesh, replicated)),
        shard=lambda batch: jax.device_put(batch, NamedSharding(mesh, split)),
        collect=lambda tree: tree,
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


def choose_devices(
    strategy: str, wanted: int, batch_size: int, accumulate: int, batch: str = "train.batch_size"
) -> list:
    """The local devices to use, checked against the batch; InputError names both numbers.

    batch: what the batch is called there.
    """
    available = jax.local_devices()
    if strategy not in STRATEGIES:
        raise InputError(
            f"parallel.strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}"
        )
    if wanted < 0 or wanted > len(available):
        raise InputError(
            f"parallel.devices is {wanted}, but there are {len(available)}; use 0 for all"
        )
    devices = available[: wanted or len(available)]
    devices = devices[:1] if strategy == "single" else devices
    if batch_size % (len(devices) * accumulate):
        raise InputError(
            f"{batch}={batch_size} does not divide into {len(devices)} devices times "
            f"train.accumulate={accumulate}; use a multiple of {len(devices) * accumulate}"
        )
    return devices
