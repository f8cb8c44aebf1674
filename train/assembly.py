"""What a config is turned into before the first step: devices, data, the step and its state."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from pdn_jax.types import InputError
from train import build, metrics, parallel, run_dir
from train.data import mixture, store
from train.step import init_state


class Made(NamedTuple):
    """What a config is turned into before the first step, by every process for itself.

    splits, judged: to train on and to judge by. parts: this process's shares. state: before the
    first step, or any that is shaped like it.
    """

    splits: Sequence[store.Split]
    judged: Sequence[store.Split]
    parts: Any
    pairs: Sequence
    degrade: Any
    fitted: Any
    make_step: Callable
    state: Any


def assembled(config) -> Made:
    """The data, the network, its step and its state; raises InputError for what cannot be."""
    splits, weights = mixture.mixture(config)
    judged = mixture.judged(config, splits)
    model, degrade = build.network(config), build.camera(config)
    loss, optimizer = build.loss(config, degrade), build.optimizer(config)
    fitted = mixture.fitted(config, splits)
    return Made(
        splits=splits,
        judged=judged,
        parts=mixture.parts(config, splits, weights, (jax.process_index(), jax.process_count())),
        pairs=mixture.pairs(config, judged, degrade),
        degrade=degrade,
        fitted=fitted,
        make_step=build.step_maker(
            config, model=model, degrade=degrade, loss=loss, optimizer=optimizer, fitted=fitted
        ),
        state=init_state(build.initial_params(config, model), optimizer, loss),
    )


def check(config) -> None:
    """Raise InputError for what would only be found missing once the work has begun."""
    run_dir.check(config)
    if config.log.wandb:
        metrics.wandb_library()


def chosen(config) -> list:
    """The devices; raises InputError for a batch of any part of the training that does not divide."""
    options = config.parallel
    accumulate = config.train.accumulate
    devices = parallel.choose_devices(
        options.strategy, options.devices, config.train.batch_size, accumulate
    )
    shares = len(devices) * accumulate
    for _, _, crops, side in mixture.shapes(config):
        if crops % shares:
            fits = (size for size in itertools.count(shares, shares))
            least = next(size for size in fits if mixture.last_batch(config, size) % shares == 0)
            raise InputError(
                f"train.batch_size={config.train.batch_size} makes {crops} crop(s) of {side} pixels "
                f"in the last part (data.final_size), which do not divide into "
                f"{parallel.described(devices, accumulate)}; use train.batch_size={least}"
            )
    return devices


def described(splits: Sequence[store.Split]) -> str:
    """'lol/train (485)': the splits and how many dark photographs each has."""
    return ", ".join(f"{split.name}/{split.split} ({len(split)})" for split in splits)


def described_devices(config, devices: Sequence) -> str:
    """'8 gpu device(s) of 2 processes, pmap'."""
    processes = jax.process_count()
    several = f" of {processes} processes" if processes > 1 else ""
    return f"{len(devices)} {devices[0].platform} device(s){several}, {config.parallel.strategy}"
