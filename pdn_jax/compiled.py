"""Compiled functions that meet photographs of ever new sizes, in one process, for as long as wanted.

A program compiled for the CPU takes some 200 maps of memory, and Linux gives a process 65,530
(`vm.max_map_count`): without a bound, a folder of some 320 photographs, each of its own size, ends
in a segmentation fault.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

PROGRAMS = 64
"""How many programs of one function are kept, one for each set of shapes."""


class Compiled:
    """`jax.jit(function, **options)`, which lets its programs go before they are over `PROGRAMS`.

    What comes after that is compiled anew. Integers among the arguments count by their value, as
    static ones do; of anything else the shape counts.
    """

    def __init__(self, function: Callable, **options):
        self.compiled = jax.jit(function, **options)
        self._met: set[tuple] = set()

    def __call__(self, *args) -> Any:
        """Run the function, compiled for these shapes.

        Args:
            *args: of the function.

        Returns:
            What the function makes of them.
        """
        shapes = tuple(x if isinstance(x, int) else np.shape(x) for x in jax.tree.leaves(args))
        if shapes not in self._met and len(self._met) >= PROGRAMS:
            self.compiled.clear_cache()
            self._met.clear()
        self._met.add(shapes)
        return self.compiled(*args)
