"""In which order photographs come, as random-access data sets without end."""

import functools
from collections.abc import Sequence

import grain

from pdn_jax.types import InputError
from train.data import store, synthesis

ROUNDS = 2**31
"""Times that a split is gone through at most. Grain's endless `repeat()` has a length that len()
refuses in batches of one."""


def items(
    splits: Sequence[store.Split],
    weights: Sequence[float],
    *,
    seed: int,
    part: int = 0,
    groups: int = 1,
) -> grain.MapDataset:
    """(which split, which of its items), without end.

    The splits take turns by their weights; each is gone through once per round, in an order
    shuffled anew every round. With several `groups` each split is in as many parts, one after the
    other, and place p of a batch takes from part p mod groups: a process that reads every n-th
    place then opens every n-th of them, and yet a batch is the same for any n.
    """
    taken = [_group(splits, weights, (seed, part), group, groups) for group in range(groups)]
    return taken[0] if groups == 1 else grain.MapDataset.mix(taken)


def _group(splits, weights, seeds: tuple[int, int], group: int, groups: int) -> grain.MapDataset:
    """`items` of one part of each split; it starts `group` turns later, so that a batch mixes splits."""
    rounds = [
        grain.MapDataset.range(*part_of(len(split), group, groups))
        .seed(synthesis.host_seed("order", *seeds, which, *([group] * (group > 0))))
        .shuffle()
        .repeat(ROUNDS)
        .map(functools.partial(_from, which))
        for which, split in enumerate(splits)
    ]
    mixed = rounds[0] if len(rounds) == 1 else grain.MapDataset.mix(rounds, list(weights))
    return mixed[group:] if group else mixed


def part_of(count: int, group: int, groups: int) -> tuple[int, int]:
    """First of `count` things in a row that are a group's, and the one after the last."""
    return group * count // groups, (group + 1) * count // groups


def check_groups(splits: Sequence[store.Split], groups: int, batch_size: int) -> None:
    """Raise InputError where a batch does not divide into groups, or a group would be empty."""
    if batch_size % groups:
        raise InputError(
            f"data.groups={groups} does not divide a batch of {batch_size} (train.batch_size, "
            "data.final_size); use a divisor of it"
        )
    for split in splits:
        if len(split) < groups:
            raise InputError(
                f"data.groups={groups} is more than the {len(split)} photographs of "
                f"{split.name}/{split.split}; use fewer"
            )


def _from(which: int, item: int) -> tuple[int, int]:
    return which, item
