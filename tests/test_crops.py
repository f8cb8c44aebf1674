"""Crops from built data sets: what they hold, their order, restarts, workers, shares, the cache."""

import csv
import threading

import numpy as np
import pytest
from PIL import Image as PILImage

from pdn_jax.types import InputError
from train.data import crops, mixture, store
from train.data.prefetch import prefetched
from train.tools import prepare

CROPS = crops.Crops(size=32, smallest=0.4, between=3)


def scene(seed, height=64, width=80):
    """A bright image whose pixels tell their place: red rises downwards, green to the right."""
    y, x = np.mgrid[0:height, 0:width]
    planes = 100 + y, 100 + x, np.full_like(x, 60 + 20 * seed)
    return np.stack(planes, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Pairs (low is a tenth of normal), brackets of five exposures and photographs, all tiny."""
    root = tmp_path_factory.mktemp("pipeline")
    for index in range(3):
        files = {f"pairs/train/low/{index}.png": scene(index) // 10}
        files |= {f"pairs/train/high/{index}.png": scene(index)}
        files |= {f"photos/train/{index}.png": scene(index, 100, 70)}
        for path, image in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(image).save(root / path)
    rows = []
    for index in range(2):
        for exposure, divisor in enumerate((16, 8, 4, 2, 1)):
            name = f"{index}-{exposure}.png"
            (root / "brackets").mkdir(exist_ok=True)
            PILImage.fromarray(scene(index) // divisor).save(root / "brackets" / name)
            rows.append((name, f"scene {index}", "train"))
    with (root / "brackets" / "frames.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "scene", "split"), *rows])
    for kind, name in (("paired", "pairs"), ("brackets", "brackets"), ("photos", "photos")):
        where = ["--source", str(root / name), "--data-dir", str(root / "built")]
        prepare.run([kind, *where, "--name", name])
    return root / "built"


def split(built, name):
    return store.Split(name, "train", built)


def make(built, names=("pairs",), weights=None, *, seed=0, batch_size=4, budget=10**8, **more):
    return mixture.batches(
        [split(built, name) for name in names],
        weights or [1.0] * len(names),
        seed=seed,
        batch_size=batch_size,
        taken=more.pop("taken", CROPS),
        cache=crops.Cache(budget),
        **more,
    )


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


ALL = ("pairs", "brackets", "photos")


# --- what a batch is -----------------------------------------------------------------------------


def test_batches_depend_on_seed_and_step_alone(built):
    one, two = make(built, ALL), make(built, ALL)
    for step in (0, 3, 7, 3):
        assert_same(one[step], two[step])
    assert not np.array_equal(one[0]["normal"], one[1]["normal"])
    assert not np.array_equal(one[0]["normal"], make(built, ALL, seed=1)[0]["normal"])


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (("photos",), {"normal"}),
        (("pairs", "photos"), {"normal", "low", "record"}),
        (ALL, {"normal", "low", "record", "between"}),
    ],
)
def test_a_batch_holds_what_its_mixture_has(built, names, fields):
    batch = make(built, names)[0]
    assert batch.keys() == fields
    assert batch["normal"].shape == (4, 32, 32, 3)
    assert all(v.dtype == np.uint8 for k, v in batch.items() if k != "record")
    if "between" in fields:
        assert batch["between"].shape == (4, 3, 32, 32, 3)


def test_both_images_of_a_pair_are_cropped_and_turned_alike(built):
    dataset, turned = make(built), set()
    for step in range(8):
        batch = dataset[step]
        np.testing.assert_array_equal(batch["low"], batch["normal"] // 10)
        for image in batch["normal"].astype(int):
            turned.add((image[1, 0, 0] - image[0, 0, 0], image[0, 1, 0] - image[0, 0, 0]))
    # red rises downwards in the source: down, up, right, left once flipped and turned
    assert turned == {(1, 0), (-1, 0), (0, 1), (0, -1)}


def test_frames_between_are_real_exposures_of_the_same_crop(built):
    """Divided by 16, 8, 4, 2 and 1: between a dark frame and the target are those of its scene."""
    dataset = make(built, ("brackets",), taken=CROPS._replace(between=2))
    inner = {16: {8, 4, 2}, 8: {4, 2}, 4: {2}, 2: {1}}
    seen = set()
    for step in range(10):
        batch = dataset[step]
        for low, normal, frames in zip(
            batch["low"], batch["normal"], batch["between"], strict=True
        ):
            (dark,) = (d for d in inner if np.array_equal(low, normal // d))
            divisors = [d for f in frames for d in (8, 4, 2, 1) if np.array_equal(f, normal // d)]
            assert len(divisors) == 2
            assert divisors == sorted(divisors, reverse=True)
            assert set(divisors) <= inner[dark]
            seen.add(dark)
    assert seen == {16, 8, 4, 2}


@pytest.mark.parametrize(
    ("low", "count", "expected"),
    [(0, 3, [1, 2, 3]), (0, 2, [1, 3]), (2, 3, [3] * 3), (3, 2, [4, 4])],
)
def test_frames_between_by_hand(low, count, expected):
    assert crops.between({"frames": [0, 1, 2, 3, 4]}, low, count) == expected


def test_records_count_the_dark_photographs_of_all_sources(built):
    names = ("photos", "pairs", "brackets")
    dataset, seen = make(built, names), {}
    for step in range(30):
        batch = dataset[step]
        for record, low, normal in zip(batch["record"], batch["low"], batch["normal"], strict=True):
            seen.setdefault(int(record), []).append((low, normal))
    assert set(seen) == {0, *range(1, 1 + 3 + 8)}
    assert all(not low.any() for low, _ in seen[0])
    pairs = split(built, "pairs")
    for place in range(3):
        colour = pairs.frame(place, -1)[0, 0, 2]
        assert all(normal[0, 0, 2] == colour for _, normal in seen[1 + place])
    for place, item in enumerate(split(built, "brackets").items):
        divisor = (16, 8, 4, 2)[item.low]
        for low, normal in seen[4 + place]:
            np.testing.assert_array_equal(low, normal // divisor)


def test_every_photograph_is_seen_once_a_round(built):
    dataset, orders = make(built, ("pairs",), batch_size=3), set()
    for step in range(8):
        records = tuple(int(record) for record in dataset[step]["record"])
        assert sorted(records) == [1, 2, 3]
        orders.add(records)
    assert len(orders) > 1


def test_data_sets_come_by_their_weights(built):
    dataset = make(built, ("pairs", "photos"), [0.75, 0.25])
    records = np.concatenate([dataset[step]["record"] for step in range(50)])
    assert (records > 0).mean() == pytest.approx(0.75, abs=0.01)


def test_a_part_of_the_real_crops_is_taken_at_another_scale(built):
    """Steps between neighbours tell the scale: 1 as it is, less where enlarged, more where reduced."""
    taken = crops.Crops(size=32, smallest=0.4, between=2, scaled=0.5, enlarged=0.75)
    dataset, slopes = make(built, ("pairs", "brackets"), taken=taken), []
    for step in range(40):
        batch = dataset[step]
        for low, normal in zip(
            *(batch[name].astype(float) for name in ("low", "normal")), strict=True
        ):
            height, width = np.ptp(normal[16, :, :2], axis=0), np.ptp(normal[:, 16, :2], axis=0)
            slopes.append(max(height.max(), width.max()) / 31)
            assert abs(low.mean() - normal.mean() / 10) < 2 or low.mean() > normal.mean() / 20
    slopes = np.array(slopes)
    assert np.mean(slopes == 1.0) == pytest.approx(0.5, abs=0.15)
    assert 0.7 < slopes.min() < 0.9
    assert 1.7 < slopes.max() < 2.1


# --- order, restarts, workers, shares ------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_going_on_gives_the_batches_of_not_stopping(built, workers):
    """A restart at step 3 is bit for bit the run that went on; so are other counts of workers."""
    dataset = make(built, ALL)
    with prefetched(dataset, 0, threads=2, workers=workers) as batches:
        whole = [next(batches) for _ in range(6)]
    with prefetched(make(built, ALL), 3, threads=1, workers=workers) as batches:
        rest = [next(batches) for _ in range(3)]
    for step in range(6):
        assert_same(whole[step], dataset[step])
    for step in range(3):
        assert_same(rest[step], whole[3 + step])


def test_processes_share_a_batch(built):
    """Two shares are the whole batch, in the places that `places` says."""
    whole = make(built, ALL)
    shares = [make(built, ALL, process=(which, 2)) for which in range(2)]
    for step in (0, 5):
        for which, share in enumerate(shares):
            places = mixture.places(4, (which, 2))
            assert_same(share[step], {k: v[places] for k, v in whole[step].items()})
    assert sorted(np.concatenate([mixture.places(4, (w, 2)) for w in range(2)])) == [0, 1, 2, 3]


def test_a_batch_that_does_not_divide_is_refused(built):
    with pytest.raises(InputError, match=r"batch_size=4 does not divide among 3 processes"):
        make(built, process=(0, 3))


def test_an_image_smaller_than_the_crop_is_named(built):
    with pytest.raises(InputError, match=r"in data set pairs is 80×64 .*crop_size=72"):
        make(built, taken=CROPS._replace(size=72))


# --- crops of photographs, the cache -------------------------------------------------------------


def test_crops_reach_every_corner():
    image = np.arange(40 * 50).reshape(40, 50, 1).repeat(3, axis=-1)
    corners = {0, 49, 39 * 50, 39 * 50 + 49}
    for seed in range(400):
        (part,) = crops.crop([image], np.random.default_rng(seed), 32, 32)
        corners -= set(part[..., 0].ravel().tolist())
    assert not corners


def test_photographs_are_seen_from_a_part_to_the_whole():
    image, rng = np.zeros((200, 300, 3), np.uint8), np.random.default_rng(0)
    taken = crops.Crops(50, 0.4, 0)
    sides = [crops.photograph_side(image, rng, taken) for _ in range(400)]
    assert min(sides) in range(80, 84)
    assert max(sides) in range(194, 201)
    assert np.median(sides) == pytest.approx(np.sqrt(80 * 200), rel=0.1)
    sides = [crops.photograph_side(image, rng, taken._replace(size=150)) for _ in range(99)]
    assert min(sides) >= 150  # never enlarged


def test_a_larger_square_is_reduced_to_the_crop():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = 200
    (part,) = crops.crop([image], np.random.default_rng(0), 32, 64)
    assert part.shape == (32, 32, 3)
    assert part.mean() == pytest.approx(100, abs=1)


def test_large_photographs_are_reduced_to_what_crops_use():
    assert crops.reduced(np.zeros((300, 400, 3), np.uint8), 100).shape == (100, 133, 3)
    small = np.zeros((50, 70, 3), np.uint8)
    assert crops.reduced(small, 100) is small


def test_the_cache_holds_what_fits_and_decodes_it_once():
    cache, decoded = crops.Cache(250), []

    def get(key):
        return cache.get(key, lambda: decoded.append(key) or np.full(100, key, np.uint8))

    for key in (1, 2, 3, 1, 2, 3):
        assert (get(key) == key).all()
    assert decoded == [1, 2, 3, 3]
    assert cache.used == 200


def test_the_cache_counts_right_among_threads():
    cache = crops.Cache(10**6)
    gate = threading.Barrier(8)

    def work():
        gate.wait()
        for key in range(50):
            cache.get(key, lambda: np.zeros(100, np.uint8))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.used == 50 * 100 == sum(image.nbytes for image in cache.held.values())


def test_images_are_decoded_once_while_memory_allows(built, monkeypatch):
    read, count = store.Split.frame, []
    monkeypatch.setattr(
        store.Split, "frame", lambda self, *place: count.append(place) or read(self, *place)
    )
    dataset = make(built)
    for step in range(6):
        dataset[step]
    assert len(count) == 6  # three pairs, two images each
    count.clear()
    none_held = make(built, budget=0)
    for step in range(6):
        none_held[step]
    assert len(count) == 6 * 4 * 2


@pytest.mark.parametrize(("side", "size"), [(64, 64), (400, 64), (128, 64), (70, 64), (48, 64)])
def test_what_resampling_leaves_of_noise_is_as_it_is_measured(side, size):
    """σ of white noise through a crop: a half keeps 0.41 of it, as was found on photographs."""
    rng = np.random.default_rng(0)
    left = []
    for _ in range(-(-40000 // size**2)):
        noise = rng.normal(128, 20, (side, side)).round().astype(np.uint8)
        (part,) = crops.crop([noise], rng, size, side)
        left.append(part[4:-4, 4:-4].var())
    kept = crops.noise_kept(side, size)
    np.testing.assert_allclose((np.mean(left) - 1 / 12) / 400, kept, rtol=0.06)


def test_a_half_keeps_four_tenths():
    assert crops.noise_kept(128, 64) ** 0.5 == pytest.approx(0.41, abs=0.005)


def test_real_crops_of_another_scale_say_what_is_left_of_their_noise(built):
    taken = CROPS._replace(scaled=0.5, enlarged=0.75)
    element = make(built, ("pairs", "photos"), taken=taken, batch_size=64)[0]
    real, kept = element["record"] > 0, element["kept"]
    assert kept.dtype == np.float32
    assert (kept[~real] == 1.0).all()
    assert set(np.round(kept[real], 3)) > {1.0}
    assert ((kept > 0.1) & (kept <= 1.0)).all()
    assert "kept" not in make(built, ("pairs", "photos"))[0]
