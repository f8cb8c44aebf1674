"""What the C library does with memory that is given back to it; on others than glibc, nothing."""

import ctypes
import functools
import sys
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Parameters of glibc's mallopt(3)."""


@functools.cache
def _glibc() -> Any:
    """The C library where it is glibc, else None."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "malloc_trim") else None


def keep_pages() -> None:
    """Have malloc keep the pages of arrays that are freed, for those that come next: for training.

    A step on a CPU makes and frees the same large arrays each time. By default glibc asks the kernel
    for each and gives it back, and the kernel clears every page anew, at a page fault each.
    """
    if _glibc():
        _glibc().mallopt(M_MMAP_MAX, 0)
        _glibc().mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        _glibc().mallopt(M_TOP_PAD, 64 * 2**20)
        _glibc().mallopt(M_ARENA_MAX, 1)


LARGE = 3 * 24_000_000
"""Numbers of photographs past which freed memory is worth giving back: 24 Mpixel."""


def give_back(numbers: int) -> None:
    """Have malloc give freed pages back to the kernel, of which it keeps 1.2 GB after 100 Mpixel.

    Args:
        numbers: how many the photographs have that were read or worked on; of few it is little.
    """
    if numbers > LARGE and _glibc():
        _glibc().malloc_trim(0)
