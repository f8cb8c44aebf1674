"""How many numbers XLA's CPU backend computes at a time; to be asked for before JAX starts."""

import os

WIDE = "--xla_cpu_prefer_vector_width=512"
"""Bits of a vector, where the processor has them; XLA's own choice is 256 (jax 0.10)."""


def wide() -> None:
    """Have XLA use the widest vectors there are, where `XLA_FLAGS` says nothing of it: for training.

    Powers and exponentials then take about half the time on a processor with AVX-512, products and
    convolutions what they took. It is left to training, which is one program for long.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if WIDE.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {WIDE}".strip()
