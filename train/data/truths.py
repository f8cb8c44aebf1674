"""Truths that are few, missing or wrong: what a study makes of the pairs of a data set.

Which pairs keep their truth, and by how much each truth is wrong, is drawn from the run's seed and
the pair's name: the same in every crop of a run, another in a run of another seed.
"""

import copy
import zlib
from typing import NamedTuple

import numpy as np

from pdn_jax.photos import colour
from train.data.store import Split
from train.data.synthesis import host_seed


class Faults(NamedTuple):
    """How truths are wrong: `shift`, range of pixels beside their place; `stops`, + or − of light."""

    seed: int
    shift: tuple[int, int] = (0, 0)
    stops: float = 0.0

    def of(self, name: str) -> tuple[tuple[int, int], float]:
        """((rows, columns), stops) of the truth of that pair.

        The larger of |rows| and |columns| is uniform in `shift`, the place at that distance too.
        """
        rng = np.random.default_rng(drawn(self.seed, name))
        reach = int(rng.integers(self.shift[0], self.shift[1], endpoint=True))
        along = int(rng.integers(-reach, reach, endpoint=True))
        across = reach * int(rng.choice((-1, 1)))
        place = (along, across) if rng.integers(2) else (across, along)
        return place, float(rng.choice((-1.0, 1.0))) * self.stops

    def done_to(self, name: str, image: np.ndarray) -> np.ndarray:
        """The truth of that pair, uint8 [h, w, 3], as it is told."""
        place, stops = self.of(name)
        return reexposed(shifted(image, place), stops)


def drawn(seed: int, name: str) -> int:
    """A seed for what is drawn of one pair."""
    return host_seed("truths", seed, zlib.crc32(name.encode()))


def shifted(image: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The picture moved by (rows, columns), edges repeated."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - place[0], 0, height - 1)
    columns = np.clip(np.arange(width) - place[1], 0, width - 1)
    return image[rows][:, columns]


def reexposed(image: np.ndarray, stops: float) -> np.ndarray:
    """uint8 sRGB at so many stops more of linear light, cut off at white."""
    if not stops:
        return image
    light = np.minimum(colour.linear(np.arange(256) / 255.0) * 2.0**stops, 1.0)
    return np.round(255.0 * colour.encoded(light)).astype(np.uint8)[image]


def divided(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """(`count` of its pairs, the others without their truth); more pairs hold the fewer."""
    ranked = sorted(split.items, key=lambda item: drawn(seed, split.item_name(item)))
    kept, others = copy.copy(split), copy.copy(split)
    kept.items, others.items = ranked[:count], ranked[count:]
    others.has_truth = False
    return kept, others
