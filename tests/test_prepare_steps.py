"""What a source holds, what its photographs are, which split they go to, where a set is found."""

import errno
import fcntl
import os
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from pdn_jax import photo
from pdn_jax.types import InputError
from train.data import store
from train.data.prepare import duplicates, folders, image_stats, install, listing, survey, tables
from train.data.prepare.plan import DISAGREE, make_plan

RANDOM = np.random.default_rng(0)

SYSTEM = "a folder of the system's own"
NO_PHOTO = f"not a photo: expected one of {' '.join(photo.EXTENSIONS)}"


def scene(seed, height=24, width=32):
    """A photograph with something in it."""
    coarse = np.random.default_rng(seed).integers(60, 250, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def relative(root, listed):
    """{name: (scene, split, file, …)} of a listing."""
    return {
        r.name: (r.scene, r.split, *(path.relative_to(root).as_posix() for path in r.files))
        for r in listed.records
    }


# --- pairs by folders ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["low/1.png", "high/1.png"], {"1": ("", "", "low/1.png", "high/1.png")}),
        (["input/1.png", "gt/1.JPG"], {"1": ("", "", "input/1.png", "gt/1.JPG")}),
        (["Low/A.PNG", "Normal/a.png"], {"A": ("", "", "Low/A.PNG", "Normal/a.png")}),
        (
            ["our485/low/2.png", "our485/high/2.png", "eval15/low/1.png", "eval15/high/1.png"],
            {
                "our485/2": ("", "train", "our485/low/2.png", "our485/high/2.png"),
                "eval15/1": ("", "test", "eval15/low/1.png", "eval15/high/1.png"),
            },
        ),
        (
            ["R/Train/Low/low00001.png", "R/Train/Normal/normal00001.png"],
            {
                "R/Train/00001": (
                    "",
                    "train",
                    "R/Train/Low/low00001.png",
                    "R/Train/Normal/normal00001.png",
                )
            },
        ),
        (
            ["low/val/a/1.png", "high/val/a/1.png"],
            {"val/a/1": ("val/a", "dev", "low/val/a/1.png", "high/val/a/1.png")},
        ),
        (
            ["low/test/1.png", "high/test/1.png"],
            {"test/1": ("", "test", "low/test/1.png", "high/test/1.png")},
        ),
        (
            ["low/highway.png", "low/way.png", "high/highway.png", "high/way.png"],
            {
                "highway": ("", "", "low/highway.png", "high/highway.png"),
                "way": ("", "", "low/way.png", "high/way.png"),
            },
        ),
        (
            ["low/1.png", "low/1.jpg", "high/1.png", "high/1.jpg"],
            {
                "low/1.png": ("", "", "low/1.png", "high/1.png"),
                "low/1.jpg": ("", "", "low/1.jpg", "high/1.jpg"),
            },
        ),
        (
            ["Low/1.png", "low/1.png", "low/2.png", "high/1.png", "high/2.png"],
            {
                "Low/1.png": ("", "", "Low/1.png", "high/1.png"),
                "low/1.png": ("", "", "low/1.png", "high/1.png"),
                "2": ("", "", "low/2.png", "high/2.png"),
            },
        ),
        (
            ["low/a.png", "low/A.png", "high/a.jpg", "high/A.jpg"],
            {
                "A": ("", "", "low/A.png", "high/A.jpg"),
                "a": ("", "", "low/a.png", "high/a.jpg"),
            },
        ),
        (
            ["low/e\u0301.png", "high/\u00e9.png"],
            {"e\u0301": ("", "", "low/e\u0301.png", "high/\u00e9.png")},
        ),
        (
            ["low/a b.png", "high/a b.png", "low/\u591c.png", "high/\u591c.png"],
            {
                "a b": ("", "", "low/a b.png", "high/a b.png"),
                "\u591c": ("", "", "low/\u591c.png", "high/\u591c.png"),
            },
        ),
    ],
)
def test_pairs_are_found_in_folders(tmp_path, files, expected):
    touch(tmp_path, *files)
    listed = listing.paired(tmp_path)
    assert relative(tmp_path, listed) == expected
    assert listed.refused == ()


def test_what_has_no_place_among_pairs_is_refused_by_name(tmp_path):
    touch(tmp_path, "low/1.png", "high/1.png", "low/2.png", "high/3.png", "gt/1.png", "b.png")
    touch(tmp_path, "low/x.jpg", "low/x.bmp", "high/x.png", "notes.txt", "low/.hidden", "up/4.png")
    (tmp_path / "empty").mkdir()
    listed = listing.paired(tmp_path)
    assert [record.name for record in listed.records] == ["1"]
    refused = dict(listed.refused)
    assert refused.pop("notes.txt").startswith("not a photo")
    assert refused == {
        "low/.hidden": "hidden",
        "low/2.png": "no partner in high",
        "high/3.png": "no partner in low",
        "gt/1.png": "not read: the truths are those in high",
        "b.png": "in no folder of dark photographs or of their truths",
        "up/4.png": "in no folder of dark photographs or of their truths",
        "low/x.jpg": "one of several for x.png in high",
        "low/x.bmp": "one of several for x.png in high",
        "high/x.png": "one of several for x.bmp, x.jpg in low",
    }


@pytest.mark.parametrize("function", [listing.paired, listing.brackets, listing.photos])
def test_copies_that_boxes_and_systems_keep_are_left_out_by_name(tmp_path, function):
    """Each would be a photograph, or a scene of its own, by its place and extension."""
    photos = ("low/s/1.png", "high/s/1.png")
    folders_left_out = {
        **dict.fromkeys(("low/s/@eaDir", "high/#Recycle", "$RECYCLE.BIN", "__MACOSX"), SYSTEM),
        "low/.Trash-1000": "hidden",
    }
    files_left_out = {
        "low/s/.DS_Store": "hidden",
        "low/s/._1.png": "hidden",
        "high/s/Thumbs.db": NO_PHOTO,
        "high/s/desktop.ini": NO_PHOTO,
    }
    touch(tmp_path, *photos, *files_left_out)
    touch(tmp_path, *(f"{folder}/low/s/1.png" for folder in folders_left_out))
    listed = function(tmp_path)
    assert dict(listed.refused) == folders_left_out | files_left_out
    assert len(listed.refused) == len(folders_left_out | files_left_out)
    names = {path.relative_to(tmp_path).as_posix() for r in listed.records for path in r.files}
    assert names == set(photos)


def test_a_hidden_folder_may_be_the_source_itself(tmp_path):
    touch(tmp_path, ".photos/1.png")
    assert [r.name for r in listing.photos(tmp_path / ".photos").records] == ["1.png"]


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    touch(tmp_path, "elsewhere/1.png", "set/high/1.png")
    (tmp_path / "set" / "low").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
    (tmp_path / "elsewhere" / "gone.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "elsewhere" / "pipe.png")
    listed = listing.paired(tmp_path / "set")
    assert [record.name for record in listed.records] == ["1"]
    refused = dict(listed.refused)
    assert refused.pop("low/gone.png") == "a link to nothing"
    assert refused.pop("low/pipe.png") == "not a file"
    assert all("a link to a folder that it lies in" in reason for reason in refused.values())
    assert refused


def test_a_name_that_is_no_text_is_refused_and_can_be_printed(tmp_path):
    touch(tmp_path, "a.png")
    try:
        open(os.fsencode(tmp_path) + b"/bad\xff.png", "wb").close()
    except OSError:
        pytest.skip("this disk holds no such names")
    listed = listing.photos(tmp_path)
    assert [record.name for record in listed.records] == ["a.png"]
    ((name, reason),) = listed.refused
    assert name.encode() == b"bad\\udcff.png"
    assert "UTF-8" in reason
    assert folders.printable("a\nb\x1b é 夜\u2028") == "a\\nb\\x1b é 夜\\u2028"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    touch(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    try:
        assert dict(listing.photos(tmp_path).refused) == {
            "closed": "cannot be read: Permission denied"
        }
        with pytest.raises(InputError, match="closed cannot be read"):
            listing.photos(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o755)


@pytest.mark.parametrize("function", [listing.paired, listing.brackets, listing.photos])
def test_folders_that_hold_nothing_are_refused(tmp_path, function):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        function(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is empty"):
        function(tmp_path)


def test_a_folder_without_pairs_says_what_was_expected(tmp_path):
    touch(tmp_path, "low/1.png", "other/1.png")
    with pytest.raises(InputError, match=r"holds no pairs.*low/ and high/.*pairs\.csv"):
        listing.paired(tmp_path)
    with pytest.raises(InputError, match="--only"):
        listing.paired(tmp_path, only=("set=a",))


# --- tables ----------------------------------------------------------------------------------


def table(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_pairs_of_a_table(tmp_path):
    touch(tmp_path, "a/1 é.png", "a/2.jpg", "b.png", "c.png")
    text = (
        "\ufeffscene, low ,high,split,set\r\n"
        "s,a/1 é.png,b.png,Eval,x\r\n"
        "\r\n"
        's,a\\2.jpg,"./b.png",,x\r\n'
        "t,c.png,b.png,mine,y\r\n"
    )
    table(tmp_path / "pairs.csv", text)
    expected = {
        "a/1 é": ("s", "test", "a/1 é.png", "b.png"),
        "a/2": ("s", "", "a/2.jpg", "b.png"),
        "c": ("t", "mine", "c.png", "b.png"),
    }
    assert relative(tmp_path, listing.paired(tmp_path)) == expected
    other = table(tmp_path / "other.csv", text.replace("c.png", "c.PNG"))
    listed = listing.paired(tmp_path, other, only=("set=x",))
    assert list(relative(tmp_path, listed)) == ["a/1 é", "a/2"]
    assert listed.refused == ()
    assert set(listed.files) >= {other, tmp_path / "b.png"}
    with pytest.raises(InputError, match=r"other\.csv has no rows with set=z"):
        listing.paired(tmp_path, other, only=("set=z",))
    with pytest.raises(InputError, match="no column colour"):
        listing.paired(tmp_path, other, only=("colour=z",))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../b.png,b.png", "../b.png leads out of the source folder"),
        ("b.png,x/../../b.png", "x/../../b.png leads out of the source folder"),
        ("/etc/a.png,b.png", "/etc/a.png leads out of the source folder"),
        ("C:\\a.png,b.png", "C:\\a.png leads out of the source folder"),
        ("..\\b.png,b.png", "..\\b.png leads out of the source folder"),
        ("gone.png,b.png", "gone.png does not exist"),
        ("b.txt,b.png", "b.txt is not a photo: expected one of"),
        (",b.png", "an empty path"),
        ("c.png", "an empty path"),
        ("b.png,b.png", "low and high are the same file"),
        ("a.png,c.png", "the low of line 2 again"),
        ("c.png,b.png,,1-2", "'1-2' cannot name a split"),
        ("c.png,b.png,,all", "'all' cannot name a split"),
        ("n" * 300 + ".png,b.png", "cannot be read"),
    ],
)
def test_a_bad_row_is_refused_and_the_rest_is_read(tmp_path, row, reason):
    touch(tmp_path, "a.png", "b.png", "c.png", "b.txt")
    table(tmp_path / "pairs.csv", f"low,high,scene,split\na.png,b.png,,\n{row}\n")
    listed = listing.paired(tmp_path)
    assert [record.name for record in listed.records] == ["a"]
    ((name, why),) = listed.refused
    assert name == "pairs.csv, line 3"
    assert reason in why


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"low,hihg\na.png,a.png\n", "has no column high: expected low, high, got low, hihg"),
        (b"low;high\n", "has no column low: expected low, high, got low;high"),
        (b"", "got nothing"),
        (b"low,high\n", "has no rows"),
        ("low,high\né.png,é.png\n".encode("latin-1"), "is not UTF-8"),
        ("low,high\n".encode("utf-16"), "is not UTF-8"),
        (b'low,high\n"a.png,b.png\n', "cannot be read as a csv"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path, data, reason):
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "pairs.csv").write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        listing.paired(tmp_path)
    assert str(tmp_path / "pairs.csv") in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"gone\.csv cannot be read: No such file"):
        tables.read_table(tmp_path / "gone.csv", ())


# --- brackets and photographs ----------------------------------------------------------------


def test_brackets_are_folders(tmp_path):
    touch(tmp_path, "s/10.jpg", "s/2.jpg", "val/t/1.jpg", "Label/s.jpg", "lone.jpg", "s/x.txt")
    listed = listing.brackets(tmp_path)
    assert relative(tmp_path, listed) == {
        "s": ("s", "", "s/2.jpg", "s/10.jpg"),
        "val/t": ("val/t", "dev", "val/t/1.jpg"),
    }
    refused = dict(listed.refused)
    assert refused.pop("s/x.txt").startswith("not a photo")
    assert refused == {
        "Label/s.jpg": "a reference, not an exposure",
        "lone.jpg": "lies in no scene's folder",
    }


def test_brackets_of_a_table(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg")
    rows = "1.jpg,a,val\n2.jpg,b,\n3.jpg,a,\n4.jpg,,\n5.jpg,c,train\n6.jpg,c,test\n1.jpg,b,\n"
    table(tmp_path / "frames.csv", "file,scene,split\n" + rows)
    listed = listing.brackets(tmp_path)
    assert relative(tmp_path, listed) == {
        "a": ("a", "dev", "1.jpg", "3.jpg"),
        "b": ("b", "", "2.jpg"),
    }
    assert dict(listed.refused) == {
        "4.jpg": "no scene",
        "5.jpg": "scene c is in several splits",
        "6.jpg": "scene c is in several splits",
        "frames.csv, line 8": "the file of line 2 again",
    }
    with pytest.raises(InputError, match="no column scene"):
        listing.brackets(tmp_path, table(tmp_path / "other.csv", "file\n1.jpg\n"))


def test_splits_of_scenes(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "c/1.jpg")
    splits = table(tmp_path / "splits.csv", "scene,split\na,val\nb,\nnone,test\na,dev\n")
    listed = listing.brackets(tmp_path, splits=splits)
    assert [(r.scene, r.split) for r in listed.records] == [
        ("a", "dev"),
        ("b", "train"),
        ("c", "train"),
    ]
    assert dict(listed.refused) == {"splits.csv, none": "no such scene"}
    assert listed.notes == ("2 scenes to which splits.csv gives no split are in train",)
    for text, reason in (
        ("scene,split\na,val\na,test\n", "line 3: scene a is in test and in dev"),
        ("scene,split\nx,val\n", "names none of the 3 scenes"),
        ("scene,split\na,1+1\n", r"line 2: '1\+1' cannot name a split"),
        ("scene\na\n", "no column split"),
    ):
        with pytest.raises(InputError, match=reason):
            listing.brackets(tmp_path, splits=table(splits, text))


def test_photographs_of_a_folder(tmp_path):
    touch(tmp_path, "train/10.png", "train/9.JPG", "Val/x.webp", "b.png", "c.doc", ".d/e.png", "²")
    listed = listing.photos(tmp_path)
    assert [(r.name, r.split) for r in listed.records] == [
        ("Val/x.webp", "dev"),
        ("b.png", ""),
        ("train/9.JPG", "train"),
        ("train/10.png", "train"),
    ]
    assert [name for name, _ in listed.refused] == [".d", "c.doc", "²"]
    assert sorted(["²", "10", "9", "a10", "a9"], key=folders.natural) == [
        *("9", "10", "a9", "a10", "²")
    ]


# --- what a photograph is --------------------------------------------------------------------


def known(tmp_path, image, name="a.png", **options):
    return image_stats.facts(tmp_path, save(tmp_path / name, image, **options))[0]


def test_facts_by_hand(tmp_path):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:5] = 255, 0, 0  # a quarter has a full channel
    image[5:10] = 0, 51, 0  # a quarter is neither full nor black, and half is black
    facts = known(tmp_path, image)
    assert (facts.file, facts.width, facts.height) == ("a.png", 40, 20)
    assert facts.mean == pytest.approx((255 / 4 + 51 / 4) / 3)
    assert facts.clipped == pytest.approx(0.75)


def alike(one, other):
    """Whether two photographs have looks of one picture."""
    return one.look == other.look != "" or list(duplicates.alike([one.look, other.look])) != []


def test_a_copy_has_the_same_content_and_one_encoded_anew_the_same_look(tmp_path):
    image = scene(1, 64, 64)
    one, copy = known(tmp_path, image), known(tmp_path, image, "b.bmp")
    again = known(tmp_path, image, "c.jpg", quality=60)
    smaller = known(tmp_path, np.asarray(Image.fromarray(image).resize((48, 48))), "d.png")
    other = known(tmp_path, scene(2, 64, 64), "e.png")
    assert one.content == copy.content
    assert one.data != copy.data
    assert len({one.content, again.content, smaller.content, other.content}) == 4
    assert alike(one, again)
    assert alike(one, smaller)
    assert not alike(one, other)


def test_flat_photographs_look_like_nothing(tmp_path):
    noise = RANDOM.integers(0, 3, (64, 64, 3), dtype=np.uint8)
    flat = [np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 90, np.uint8), noise]
    assert [known(tmp_path, image).look for image in flat] == ["", "", ""]
    assert not list(duplicates.alike(["", ""]))


def test_near_hashes_are_those_of_an_all_pairs_comparison():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 300, dtype=np.uint64)
    for place in range(200, 300):  # from 1 to 10 bits off another, anywhere
        bits[place] = bits[place - 200]
        for bit in rng.choice(64, place % 10 + 1, replace=False):
            bits[place] ^= np.uint64(1) << np.uint64(bit)
    apart = np.bitwise_count(bits[:, None] ^ bits)
    naive = {(a, b) for a, b in np.argwhere(apart <= duplicates.ALIKE).tolist() if a > b}
    assert {tuple(pair) for pair in duplicates.near(bits).tolist()} == naive
    assert len(naive) >= 60


def test_far_fewer_hashes_are_compared_than_there_are_pairs(monkeypatch):
    compared = []

    def counted(bits):
        compared.append(len(bits))
        return np.bitwise_count(bits)

    fake = type("numpy", (), {"__getattr__": lambda _, name: getattr(np, name)})()
    fake.bitwise_count = counted
    monkeypatch.setattr(duplicates, "np", fake)
    count = 5000
    duplicates.near(np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64))
    assert sum(compared) < count * count / 2 / 500


def test_edges_agree_for_one_scene_however_dark_and_not_for_two():
    one = scene(1, 96, 128)
    dark = (one * 0.1 + RANDOM.normal(0, 1, one.shape)).clip(0, 255).astype(np.uint8)
    assert image_stats.edge_agreement(dark, one) > 0.5
    whole = scene(1, 100, 132)
    for moved, least, most in (((1, 0), 0.99, 1), ((0, 1), 0.99, 1), ((4, 4), 0, 0.9)):
        other = whole[moved[0] :, moved[1] :][:96, :128]
        assert least < image_stats.edge_agreement(whole[:96, :128], other) < most
    assert image_stats.edge_agreement(scene(2, 96, 128), one) < DISAGREE
    assert image_stats.edge_agreement(np.zeros_like(one), one) == 1.0  # nothing to doubt it by
    assert image_stats.edge_agreement(one, np.zeros_like(one)) == 0.0


def test_the_best_exposed_frame_is_the_target(tmp_path):
    # |mean/255 − 0.48| + 0.5·clipped: 0.284, 0.402, 0.166, 0.040 + 0.5·0.5 and 0.304
    levels = {"a": (50, 50), "f": (20, 20), "b": (80, 80), "c": (10, 255), "d": (200, 200)}
    files = []
    for name, (left, right) in levels.items():
        image = np.full((16, 16, 3), left, np.uint8)
        image[:, 8:] = right
        files.append(save(tmp_path / f"{name}.png", image))
    files.append(save(tmp_path / "e.png", np.full((16, 18, 3), 20, np.uint8)))
    record = listing.Record("s", "s", "", tuple(files))
    bracket, refused = survey.survey_bracket(tmp_path, record)
    assert [frame.file for frame in bracket.frames] == ["f.png", "a.png", "b.png"]
    assert bracket.bright == 2
    assert refused == [("e.png", "the sizes of the scene's frames differ: 18×16, the target 16×16")]
    lone = listing.Record("s", "s", "", tuple(files[2:5]))
    bracket, refused = survey.survey_bracket(tmp_path, lone)
    assert bracket is None
    assert refused == [("b.png", "scene s has no frame darker than its best-exposed one")]


# --- splits ----------------------------------------------------------------------------------


def surveyed(name, scene="", frames=(("c", "0" * 16),)):
    """A record of frames of these (content, look)."""
    known = [
        image_stats.Facts(f"{name}{i}", 9, 9, 9.0, 0.0, "", *both) for i, both in enumerate(frames)
    ]
    return image_stats.Surveyed(listing.Record(name, scene, "", ()), tuple(known))


ONE, NEAR, FAR = "00000000000000ff", "000000000000003f", "ffffffff00000000"


def test_one_scene_by_name_or_by_looks():
    kept = [
        surveyed("a", "s", [("1", FAR)]),
        surveyed("b", "", [("2", ONE)]),
        surveyed("c", "s", [("3", "0f0f0f0f0f0f0f0f")]),
        surveyed("d", "", [("9", "f0f0f0f0f0f0f0f0"), ("4", NEAR)]),
        surveyed("e", "", [("5", "")]),
        surveyed("f", "", [("5", "")]),
    ]
    assert duplicates.scene_groups(kept) == [0, 1, 0, 1, 4, 5]


def test_looks_chain_into_one_scene():
    looks = [f"{(1 << n) - 1:016x}" for n in (0, 6, 12, 18, 40)]
    kept = [surveyed(look, "", [(look, look)]) for look in looks]
    assert duplicates.scene_groups(kept) == [0, 0, 0, 0, 4]


@pytest.mark.parametrize("held_out", [0.0, 0.1, 0.49])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
def test_scenes_are_drawn_whole_and_train_gets_some(count, held_out):
    groups = [place // 2 for place in range(2 * count)]
    splits = duplicates.draw_splits(groups, seed=1, held_out=held_out)
    assert splits == duplicates.draw_splits(groups, seed=1, held_out=held_out)
    assert splits[::2] == splits[1::2]
    each = [splits[::2].count(split) for split in ("dev", "test")]
    assert each == [each[0]] * 2
    assert (each[0] > 0) == (held_out > 0 and count >= 3)
    assert "train" in splits
    if count == 20 and held_out == 0.1:
        assert each == [2, 2]
        assert splits != duplicates.draw_splits(groups, seed=2, held_out=held_out)


def test_photographs_in_two_splits_are_named_once():
    kept = [
        surveyed("a", "", [("1", FAR), ("2", ONE)]),
        surveyed("b", "", [("2", ONE)]),
        surveyed("c", "", [("2", ONE)]),
        surveyed("d", "", [("3", NEAR), ("4", NEAR)]),
        surveyed("e", "", [("5", "")]),
        surveyed("f", "", [("6", "")]),
    ]
    splits = ["train", "test", "test", "dev", "train", "test"]
    assert duplicates.across(kept, splits) == [
        ["train", "a1", "test", "b0", "same pixels"],
        ["train", "a1", "dev", "d0", "looks the same"],
        ["dev", "d0", "test", "b0", "looks the same"],
    ]
    assert duplicates.across(kept, ["train"] * 6) == []


def plan_of(source, kind="photos", **options):
    listed = {"photos": listing.photos, "paired": listing.paired}[kind](source)
    return make_plan(kind, source, listed, **({"seed": 0, "held_out": 0.2} | options))


def test_a_copy_never_straddles_and_what_the_source_says_is_kept(tmp_path):
    for seed in range(10):
        save(tmp_path / f"{seed}.png", scene(seed, 48, 48))
        save(tmp_path / f"{seed} again.jpg", scene(seed, 48, 48), quality=60)
    for seed in range(4):
        plan = plan_of(tmp_path, seed=seed)
        assert plan["across"] == []
        assert [len(plan["examples"][split]) for split in ("train", "dev", "test")] == [12, 4, 4]
        for examples in plan["examples"].values():
            assert len({e["scene"] for e in examples}) == len(examples) // 2
    save(tmp_path / "test" / "x.jpg", scene(3, 48, 48), quality=50)
    plan = plan_of(tmp_path)
    assert plan["split_by"] == "the source"
    assert plan["notes"] == ["20 of 21 examples say no split and are in train"]
    ((*_, how),) = plan["across"]
    assert how == "looks the same"
    assert {"test", "test/x.jpg"} < set(plan["across"][0])


def test_a_small_source_says_that_nothing_is_held_out(tmp_path):
    for seed in range(2):
        save(tmp_path / f"{seed}.png", scene(seed))
    assert plan_of(tmp_path)["notes"] == ["nothing is held out"]


def test_nothing_left_says_why(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(InputError, match=r"leaves nothing to build \(a\.png: is empty"):
        plan_of(tmp_path)


def test_doubtful_pairs_are_named(tmp_path):
    for name, low, normal in (("right", 1, 1), ("wrong", 2, 3)):
        save(tmp_path / "low" / f"{name}.png", scene(low, 48, 64) // 4)
        save(tmp_path / "high" / f"{name}.png", scene(normal, 48, 64))
    ((name, value),) = plan_of(tmp_path, "paired")["doubtful"]
    assert name == "wrong"
    assert value < DISAGREE


def test_no_thread_changes_the_warning_filters(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{place}.png" for place in range(20)))
    seen = []

    def look(source, record):
        seen.append(warnings.filters[0])
        return None, []

    monkeypatch.setitem(survey.SURVEYS, "photos", look)
    before = list(warnings.filters)
    with pytest.raises(InputError, match="nothing to build"):
        plan_of(tmp_path)
    assert seen == [("ignore", None, Warning, None, 0)] * 20
    assert warnings.filters == before


# --- where data sets are ---------------------------------------------------------------------


def test_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "set"))
    assert store.data_dir() == tmp_path / "set"
    assert store.data_dir("~/x") == tmp_path.home() / "x"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert store.data_dir() == tmp_path.home() / "tensorflow_datasets"


def fake(text, fail=None):
    """A build that writes one small 'data set', and may be stopped after that."""

    def build(staging):
        path = staging / "photos" / "mine" / store.VERSION
        path.mkdir(parents=True)
        (path / "dataset_info.json").write_text("{}")
        (path / "metadata.json").write_text(f'{{"said": "{text}", "examples": {{}}}}')
        if fail:
            raise fail
        return path

    return build


def test_a_build_is_whole_or_not_there(tmp_path):
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):
        with pytest.raises((InputError, KeyboardInterrupt)) as caught:
            install.install(fake("one", error), tmp_path)
        assert isinstance(error, KeyboardInterrupt) or "No space left" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
    path = install.install(fake("one"), tmp_path)
    assert store.find("mine", tmp_path) == path
    with pytest.raises(InputError):
        install.install(fake("two", OSError(5, "broken")), tmp_path, replace=True)
    assert store.plan("mine", tmp_path)["said"] == "one"


def test_what_another_process_built_meanwhile_is_only_replaced_when_asked(tmp_path):
    def slow(staging):
        install.install(fake("first"), tmp_path)
        return fake("second")(staging)

    install.install(slow, tmp_path)
    assert store.plan("mine", tmp_path)["said"] == "first"
    install.install(fake("third"), tmp_path, replace=True)
    assert store.plan("mine", tmp_path)["said"] == "third"
    assert store.names(tmp_path) == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_older_set_comes_back_where_the_newer_did_not_get_there(tmp_path, monkeypatch):
    install.install(fake("one"), tmp_path)
    move = install._move

    def stopped(here, there, place):
        if here != tmp_path and there == tmp_path and here.name != install.OLDER:
            raise OSError(5, "broken")
        move(here, there, place)

    monkeypatch.setattr(install, "_move", stopped)
    with pytest.raises(InputError, match="broken"):
        install.install(fake("two"), tmp_path, replace=True)
    assert store.plan("mine", tmp_path)["said"] == "one"


def test_staging_of_a_living_build_stays_and_of_a_dead_one_goes(tmp_path):
    def build(staging):
        (tmp_path / f"{install.STAGING}dead").mkdir()
        install.clear_staging(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [staging.name]
        return fake("one")(staging)

    install.install(build, tmp_path)


def no_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("missing", ["in the system", "on the disk"])
def test_without_file_locks_it_is_said_and_nothing_is_removed(
    tmp_path, monkeypatch, caplog, missing
):
    if missing == "in the system":
        monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    else:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / f"{install.STAGING}of another process"
    left.mkdir()
    install.install(fake("one"), tmp_path)
    assert store.plan("mine", tmp_path)["said"] == "one"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", left.name}
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path} knows no file locks: build one data set at a time there")


def test_a_data_set_that_is_not_there_names_those_that_are(tmp_path):
    install.install(fake("one"), tmp_path)
    (tmp_path / "photos" / "half" / store.VERSION).mkdir(parents=True)
    (tmp_path / "photos" / "half" / store.VERSION / "metadata.json").write_text("{}")
    with pytest.raises(InputError, match=r"no data set 'half'.*there are: mine, packaged\)"):
        store.Split("half", "train", tmp_path)
    (store.find("mine", tmp_path) / "metadata.json").write_text("{")
    with pytest.raises(InputError, match=r"metadata\.json is damaged: remove"):
        store.plan("mine", tmp_path)


def test_packaged_photographs_are_built_when_first_asked_for(tmp_path):
    split = store.Split("packaged", "train", tmp_path)
    names = {example["name"] for example in split.examples}
    held = store.Split("packaged", "dev", tmp_path)
    assert {split.kind, held.kind} == {"photos"}
    assert not names & {example["name"] for example in held.examples}
    assert len(split) == len(names) >= 4
    assert min(split.frame(0, 0).shape[:2]) >= 256
    assert split.frame(0, 0).mean() == pytest.approx(split.examples[0]["frames"][0]["mean"])
    with pytest.raises(InputError, match=r"no split 'test'; it has train, dev"):
        store.Split("packaged", "test", tmp_path)
    with pytest.raises(InputError, match="without a dark partner"):
        next(split.pairs())
    assert store.names(tmp_path) == ["packaged"]
