"""The same photograph twice: what belongs to one scene and into one split, and what is in two."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from train.data.prepare.image_stats import Facts, Surveyed

ALIKE = 6
"""Bits of 64 in which the perceptual hashes of one photograph and a copy of it may differ.

Of 1559 frames of 235 scenes, dark ones included, all that differ less showed the same scene.
"""


def alike(looks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every two different perceptual hashes of these, in hexadecimal, that are of one picture."""
    names = sorted(set(looks) - {""})
    bits = np.array([int(look, 16) for look in names], np.uint64)
    for place, other in near(bits).tolist():
        yield names[other], names[place]


def near(bits: np.ndarray) -> np.ndarray:
    """[pairs, 2]: places (later, earlier) of different uint64 that differ in at most `ALIKE` bits.

    Not all are compared with all: `ALIKE` = 6 bits lie in at most 6 of 8 bytes, so that two bytes at
    least are the same, and only what shares two bytes, at the same places, is compared.
    """
    octets = bits[:, None] >> np.arange(0, 64, 8, dtype=np.uint64) & np.uint64(255)
    pairs = [np.empty((0, 2), np.int64)]
    for one, two in itertools.combinations(range(8), 2):
        keys = (octets[:, one] << np.uint64(8)) | octets[:, two]
        rank = np.argsort(keys, kind="stable")
        keys, starts = keys[rank], np.arange(len(rank))
        for distance in range(1, len(rank)):
            starts = starts[starts + distance < len(rank)]
            starts = starts[keys[starts] == keys[starts + distance]]
            if not len(starts):
                break
            both = np.stack([rank[starts + distance], rank[starts]], axis=1)
            close = np.bitwise_count(bits[both[:, 0]] ^ bits[both[:, 1]]) <= ALIKE
            pairs.append(both[close])
    return np.unique(np.concatenate(pairs), axis=0)


def scene_groups(examples: list[Surveyed]) -> list[int]:
    """A number per record: the same for one scene by name, and where any frames are or look the same.

    Of flat photographs, such as all black ones, none is taken for another.
    """
    looks = [frame.look for example in examples for frame in example.frames]
    links: list[tuple] = [(("look", a), ("look", b)) for a, b in alike(looks)]
    for place, example in enumerate(examples):
        marks = [("scene", example.record.scene), *(("look", f.look) for f in example.frames)]
        links += [(place, mark) for mark in marks if mark[1]]
    things = dict.fromkeys(itertools.chain(range(len(examples)), *links))
    number = {thing: place for place, thing in enumerate(things)}
    ends = np.array([[number[thing] for thing in link] for link in links], int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), (len(number), len(number)))
    _, groups = connected_components(graph, directed=False)
    first: dict = {}
    return [first.setdefault(group, place) for place, group in enumerate(groups[: len(examples)])]


def draw_splits(groups: list[int], *, seed: int, held_out: float) -> list[str]:
    """A split per record, whole groups at a time; of three or more, train, dev and test get some."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    count = min(max(1, round(held_out * len(names))), (len(names) - 1) // 2) if held_out else 0
    chosen = {}
    for place, index in enumerate(order):
        chosen[names[index]] = "dev" if place < count else "test" if place < 2 * count else "train"
    return [chosen[group] for group in groups]


def order(split: str) -> tuple[int, str]:
    """Sorts splits: train, dev, test, then others by name."""
    return {"train": 0, "dev": 1, "test": 2}.get(split, 3), split


def across(examples: list[Surveyed], splits: list[str]) -> list[list[str]]:
    """[split, name, other split, name, how] of photographs that are, or look, the same in two splits.

    Of several copies in one split the first is named; splits stand in `order`.
    """

    def by_split(item: tuple[str, object]) -> tuple[int, str]:
        return order(item[0])

    contents: dict[str, dict[str, str]] = {}
    looks: dict[str, dict[str, tuple[int, Facts]]] = {}
    for place, (example, split) in enumerate(zip(examples, splits, strict=True)):
        for frame in example.frames:
            contents.setdefault(frame.content, {}).setdefault(split, frame.file)
            looks.setdefault(frame.look, {}).setdefault(split, (place, frame))
    pairs = [
        [*one, *other, "same pixels"]
        for names in contents.values()
        for one, other in itertools.combinations(sorted(names.items(), key=by_split), 2)
    ]
    said = set()
    for a, b in (*((look, look) for look in looks if look), *alike(looks)):
        for both in itertools.product(looks[a].items(), looks[b].items()):
            (split, (place, one)), (other_split, (other_place, other)) = sorted(both, key=by_split)
            places = frozenset((place, other_place))
            if split == other_split or places in said or one.content == other.content:
                continue
            said.add(places)  # a line for two examples, however many of their frames look alike
            pairs.append([split, one.file, other_split, other.file, "looks the same"])
    return pairs
