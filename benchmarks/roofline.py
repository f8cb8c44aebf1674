"""What this machine can do at best: arithmetic by a large matrix product, bandwidth by a copy.

The share of the roofline is the time that the machine would need for the least that must be done,
over the time that was measured. The least is the larger of two: 2 FLOP for each multiply-accumulate
of convolutions and matrix products at the peak of the product, and image in, image out and
parameters, each moved once, at the bandwidth of the copy. All that an implementation moves or
computes beyond that counts against it, elementwise work too.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import timing

SIDES = {"cpu": 2048, "other": 8192}
"""Rows and columns of the matrices."""

COPIED = {"cpu": 2**28, "other": 2**30}
"""Bytes that are copied."""


class Roofline(NamedTuple):
    """A machine: what it is, its kind of device, FLOP/s, bytes/s, and the product's size."""

    device: str
    platform: str
    flops: float
    bandwidth: float
    side: int

    def seconds(self, macs: int, moved: int) -> float:
        """The least time for that many multiply-accumulates and bytes moved once."""
        return max(2 * macs / self.flops, moved / self.bandwidth)

    def best(self, other: "Roofline") -> "Roofline":
        """The same machine, undisturbed by what slowed one of two measurements down."""
        return self._replace(
            flops=max(self.flops, other.flops), bandwidth=max(self.bandwidth, other.bandwidth)
        )

    def __str__(self) -> str:
        return (
            f"roofline: {1e-9 * self.flops:.0f} GFLOP/s (a product of {self.side}×{self.side}), "
            f"{1e-9 * self.bandwidth:.1f} GB/s (a copy, read and written)"
        )


def measure(dtype: str, repeats: int, shrink: int = 1) -> Iterator[Roofline]:
    """Yields the present device's `Roofline`, the best of `repeats`; `shrink` divides the sizes."""
    platform = jax.default_backend()
    kind = platform if platform in SIDES else "other"
    side, size = SIDES[kind] // shrink, COPIED[kind] // shrink
    matrix = jnp.full((side, side), 0.5, dtype)
    product = jax.jit(jnp.matmul)
    # Onto itself: what a new array costs is the allocator's affair, not the memory's.
    copy = jax.jit(jnp.negative, donate_argnums=0)
    copied = jnp.ones(size // 4, jnp.float32)

    def copy_again():
        nonlocal copied
        copied = copy(copied)
        return copied

    flops = 2 * side**3 / _best(lambda: product(matrix, matrix), repeats)
    bandwidth = 2 * 4 * copied.size / _best(copy_again, repeats)
    yield Roofline(timing.present_device(), platform, flops, bandwidth, side)


def _best(call: Callable, repeats: int) -> float:
    timing.clock(call)
    return min(timing.clock(call) for _ in range(repeats))
