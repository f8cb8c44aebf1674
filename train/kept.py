"""Which checkpoints are kept: policies for orbax, which asks them as it saves."""

import dataclasses

from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    EveryNSteps,
    PreservationPolicy,
)


@dataclasses.dataclass
class Newest(PreservationPolicy):
    """Keeps the newest few, and those that could not be read, which are none of them."""

    many: int
    unread: set[int]

    def should_preserve(self, checkpoints, *, context):
        """Orbax's hook."""
        read = sorted(one.step for one in checkpoints if one.step not in self.unread)
        kept = {*self.unread, *read[-self.many :]}
        return [one.step in kept for one in checkpoints]


@dataclasses.dataclass
class Best(PreservationPolicy):
    """Keeps the checkpoint with the highest PSNR of those that have one, by step."""

    psnr: dict[int, float]

    def should_preserve(self, checkpoints, *, context):
        """Orbax's hook."""
        judged = [one.step for one in checkpoints if one.step in self.psnr]
        best = max(judged, key=lambda step: self.psnr[step], default=None)
        return [one.step == best for one in checkpoints]


def policy(keep: int, keep_every: int, *, psnr: dict[int, float], unread: set[int]):
    """The newest `keep` that could be read, the best, and with `keep_every` those that divide by it."""
    kept = [Newest(keep, unread), Best(psnr)]
    return AnyPreservationPolicy([*kept, EveryNSteps(keep_every)] if keep_every else kept)
