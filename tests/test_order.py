"""The order of photographs, and that a process opens only the files of its own groups."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image as PILImage

from pdn_jax import places
from pdn_jax.types import InputError
from train.data import crops, mixture, order, store
from train.tools import prepare

pytest_plugins = ["s3_server"]

SHARDS = 4


class Photographs(list):
    """As many photographs of no pixels."""

    def __init__(self, name, count):
        super().__init__(range(count))
        self.name, self.split = name, "train"


def taken(splits, weights, steps, size, groups):
    made = order.items(splits, weights, seed=0, groups=groups)
    return [[made[step * size + place] for place in range(size)] for step in range(steps)]


def test_a_place_takes_from_its_own_part_and_each_part_is_gone_through_in_rounds():
    batches = taken([Photographs("one", 22)], [1.0], 44, 8, 4)
    for group in range(4):
        first, end = order.part_of(22, group, 4)
        seen = [item for batch in batches for _, item in batch[group::4]]
        assert set(seen) == set(range(first, end))
        counts = [seen.count(item) for item in range(first, end)]
        assert max(counts) - min(counts) <= 1
    parts = [order.part_of(22, group, 4) for group in range(4)]
    assert [first for first, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, 22)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_batch_mixes_data_sets_by_their_weights_whatever_the_groups(groups):
    splits = [Photographs("one", 40), Photographs("two", 30)]
    for batch in taken(splits, [0.75, 0.25], 20, 8, groups):
        assert sum(which == 0 for which, _ in batch) in (5, 6, 7)
    every = [which for batch in taken(splits, [0.75, 0.25], 100, 8, groups) for which, _ in batch]
    assert np.mean(np.array(every) == 0) == pytest.approx(0.75, abs=0.01)


def test_groups_are_shuffled_apart():
    """Parts of one size do not go through their photographs in the same order."""
    batches = taken([Photographs("one", 40)], [1.0], 10, 4, 4)
    places = [[item % 10 for _, item in column] for column in zip(*batches, strict=True)]
    assert len({tuple(column) for column in places}) == 4


def test_groups_that_cannot_be_are_refused():
    one = [Photographs("one", 6)]
    with pytest.raises(InputError, match=r"data.groups=3 does not divide a batch of 8"):
        order.check_groups(one, 3, 8)
    with pytest.raises(InputError, match=r"data.groups=8 is more than the 6 photographs of one/t"):
        order.check_groups(one, 8, 8)


# --- files of records ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Eight photographs in four files of records."""
    root = tmp_path_factory.mktemp("order")
    (root / "photos" / "train").mkdir(parents=True)
    for index in range(8):
        image = PILImage.new("RGB", (48, 40), (40 + 20 * index,) * 3)
        image.save(root / "photos" / "train" / f"{index}.png")
    where = ["--source", str(root / "photos"), "--data-dir", str(root / "built")]
    with pytest.MonkeyPatch.context() as patch:
        asked = tfds.download.DownloadConfig
        patch.setattr(
            tfds.download, "DownloadConfig", lambda **more: asked(num_shards=SHARDS, **more)
        )
        prepare.run(["photos", *where, "--name", "many"])
    return root / "built"


def read(directory, process, steps=6):
    """The split, and what one of several processes reads of it."""
    many = store.Split("many", "train", directory)
    batches = mixture.batches(
        [many],
        [1.0],
        seed=0,
        batch_size=4,
        taken=crops.Crops(size=32, smallest=0.5, between=0),
        cache=crops.Cache(0),
        groups=SHARDS,
        process=process,
    )
    return many, [batches[step]["normal"] for step in range(steps)]


def test_a_process_opens_the_files_of_its_own_groups_alone(built):
    _, whole = read(built, (0, 1))
    for which in range(2):
        many, seen = read(built, (which, 2))
        opened = [reader is not None for reader in many.records.data_source._readers]
        assert opened == [shard % 2 == which for shard in range(SHARDS)]
        for batch, share in zip(whole, seen, strict=True):
            np.testing.assert_array_equal(batch[mixture.places(4, (which, 2))], share)


def test_from_a_bucket_a_process_copies_the_files_of_its_own_groups_alone(
    built, server, bucket, tmp_path, monkeypatch
):
    monkeypatch.setenv("PDN_JAX_CACHE", str(tmp_path))
    for path in built.rglob("*"):
        if path.is_file():
            places.put(f"{bucket}/{path.relative_to(built)}", path.read_bytes())
    for which in range(2):
        many, seen = read(bucket, (which, 2))
        for here, there in zip(read(built, (which, 2))[1], seen, strict=True):
            np.testing.assert_array_equal(here, there)
        copies = {path.name for path in tmp_path.rglob(f"*{store.SHARD}*") if path.is_file()}
        mine = {name for shard, name in enumerate(many.records.shards) if shard % 2 == which}
        assert mine <= copies
        assert len(copies) == SHARDS // 2 * (which + 1)
