"""Tiles of several photographs in one call of a program, whichever threads they come from.

While the device computes one batch, the threads that come meanwhile leave their tiles; the first of
them to get the device takes the next batch from all that wait. Nothing waits for a batch to fill.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Run = Callable[..., Sequence[np.ndarray]]
"""Arrays of several tiles, stacked -> results of as many, stacked."""


class Tile:
    """What a program is to be given for one tile, and what became of it."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        """arrays: without the axis of tiles."""
        self.arrays, self.done = arrays, False
        self.results: list[np.ndarray] = []
        self.error: Exception | None = None


class Together:
    """One device's programs, called with up to `most` tiles at once; for several threads."""

    def __init__(self, most: int):
        """most: tiles of a batch; with 1 threads do not wait for each other."""
        self.most = most
        self._device, self._lock = threading.Lock(), threading.Lock()
        self._waiting: dict[Any, deque[Tile]] = {}

    def __call__(self, kind: str, run: Run, tiles: Sequence[Sequence[np.ndarray]]) -> list[list]:
        """Results of a program for tiles of one shape.

        Args:
            kind: what tells this program from others; tiles of one kind, shapes and dtypes go together.
            run: calls it.
            tiles: for each its arrays, as many as `most` at a time.

        Returns:
            For each tile its results, without the axis of tiles.

        Raises:
            Exception: what `run` raised for a batch that one of these tiles was in.
        """
        mine = [Tile(arrays) for arrays in tiles]
        if self.most == 1:
            for tile in mine:
                _compute(run, [tile], 1)
        else:
            self._with_others(kind, run, mine)
        for tile in mine:
            if tile.error is not None:
                raise tile.error
        return [tile.results for tile in mine]

    def _with_others(self, kind: str, run: Run, mine: list[Tile]) -> None:
        alike = (kind, *((array.shape, str(array.dtype)) for array in mine[0].arrays))
        with self._lock:
            self._waiting.setdefault(alike, deque()).extend(mine)
        for tile in mine:
            while not tile.done:
                with self._device:
                    if not tile.done:
                        _compute(run, *self._next(alike))

    def _next(self, alike: Any) -> tuple[list[Tile], int]:
        """The tiles of a kind that have waited longest, and how many the program takes."""
        with self._lock:
            waiting = self._waiting[alike]
            taken = [waiting.popleft() for _ in range(min(self.most, len(waiting)))]
            if not waiting:
                del self._waiting[alike]
        return taken, at_once(len(taken), self.most)


def at_once(tiles: int, most: int) -> int:
    """How many tiles a program takes: a power of two, so that few programs do.

    Args:
        tiles: how many there are, 1 or more.
        most: at most so many.

    Returns:
        As many or more, up to `most`.
    """
    return min(most, 1 << (tiles - 1).bit_length())


def _compute(run: Run, tiles: list[Tile], count: int) -> None:
    """Fill in what becomes of the tiles; the last is repeated where the program takes more."""
    filled = tiles + tiles[-1:] * (count - len(tiles))
    try:
        results = run(*(np.stack(one) for one in zip(*(t.arrays for t in filled), strict=True)))
    except Exception as error:
        for tile in tiles:
            tile.error, tile.done = error, True
        return
    for place, tile in enumerate(tiles):
        tile.results, tile.done = [result[place] for result in results], True
