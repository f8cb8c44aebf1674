"""`python -m train.tools.prepare`: every layout and every bad input, what is read back, nothing lost."""

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pdn_jax import cli, photo
from pdn_jax.types import InputError
from train.data import store
from train.data.prepare import builders, install
from train.tools import prepare

ROOT = Path(__file__).parents[1]


def scene(seed, height=24, width=32):
    """A photograph with something in it."""
    coarse = np.random.default_rng(seed).integers(60, 250, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def pair(root, low, normal, seed):
    save(root / low, scene(seed) // 4)
    save(root / normal, scene(seed))


def run(*arguments):
    prepare.run([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The one line of an error, exit code 2."""
    capsys.readouterr()
    assert cli.explained(lambda: run(*arguments)) == 2
    line = capsys.readouterr().err
    assert line.startswith("pdn_jax: error: ")
    assert line.count("\n") == 1
    return line


def state(root):
    """Everything under a folder: contents and times."""
    return {
        path.relative_to(root): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in root.rglob("*")
    }


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of built data sets."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path):
    """A small folder of three pairs."""
    for seed in range(3):
        pair(tmp_path / "source", f"low/{seed}.png", f"high/{seed}.png", seed)
    return tmp_path / "source"


# --- layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "splits"),
    [
        (["low/{}.png high/{}.png"], {"train": 1, "dev": 1, "test": 1}),
        (["our485/low/{}.png our485/high/{}.png", "eval15/low/{}.png eval15/high/{}.png"], None),
        (
            [
                "Real_captured/Train/Low/low0{}.png Real_captured/Train/Normal/normal0{}.png",
                "Real_captured/Test/Low/low0{}.png Real_captured/Test/Normal/normal0{}.png",
            ],
            None,
        ),
        (["input/{}.jpg gt/{}.PNG"], {"train": 1, "dev": 1, "test": 1}),
    ],
)
def test_every_layout_of_pairs(tmp_path, home, capsys, places, splits):
    for part, place in enumerate(places):
        for seed in range(3):
            pair(tmp_path / "source", *place.format(seed, seed).split(), 3 * part + seed)
    run("paired", "--source", tmp_path / "source", "--name", "lol")
    plan = store.plan("lol")
    expected = splits or {"train": 3, "test": 3}
    assert {split: len(examples) for split, examples in plan["examples"].items()} == expected
    seen = 0
    for split in expected:
        opened = store.Split("lol", split)
        for example, (_, low, normal) in zip(opened.examples, opened.pairs(), strict=True):
            files = [frame["file"] for frame in example["frames"]]
            np.testing.assert_array_equal(low, photo.read(tmp_path / "source" / files[0]))
            np.testing.assert_array_equal(normal, photo.read(tmp_path / "source" / files[1]))
            seen += 1
    assert seen == 3 * len(places)
    assert "left out: none" in capsys.readouterr().out


def test_a_table_of_pairs_with_splits(tmp_path, home, capsys):
    for seed in range(4):
        pair(tmp_path / "source", f"d/{seed} é.png", f"n/{seed}.png", seed)
    rows = ["0,a,train", "1,b,train", "2,a,val", "3,c,mine"]
    lines = ["d/{0} é.png,n/{0}.png,{1},{2}".format(*row.split(",")) for row in rows]
    lines.append("../x.png,n/0.png,a,train")
    (tmp_path / "source" / "pairs.csv").write_text("\n".join(["low,high,scene,split", *lines]))
    run("paired", "--source", tmp_path / "source", "--name", "own")
    names = {s: [e["name"] for e in es] for s, es in store.plan("own")["examples"].items()}
    assert names == {"train": ["d/0 é", "d/1 é"], "dev": ["d/2 é"], "mine": ["d/3 é"]}
    printed = capsys.readouterr().out
    assert "own (paired), split by the source" in printed
    assert "left out: 1\n  pairs.csv, line 6: ../x.png leads out of the source folder" in printed


def test_brackets(tmp_path, home, capsys):
    root = tmp_path / "source"
    for seed in range(2):
        for name, gain in (("a", 0.1), ("b", 0.3), ("c", 0.75), ("d", 1.2)):
            image = (scene(seed) * gain).clip(0, 255).astype(np.uint8)
            save(root / f"s{seed}" / f"{name}.jpg", image)
    save(root / "s1" / "e.jpg", scene(1, 20, 20) // 2)
    (tmp_path / "splits.csv").write_text("scene,split\ns1,val\ns9,val\n")
    run(
        *("brackets", "--source", root, "--name", "b"),
        *("--splits", tmp_path / "splits.csv"),
    )
    printed = capsys.readouterr().out
    assert "1 scenes to which splits.csv gives no split are in train\n" in printed
    assert "2 frames are no darker than their scene's target, and not used\n" in printed
    assert "s1/e.jpg: the sizes of the scene's frames differ: 20×20, the target 32×24" in printed
    assert "splits.csv, s9: no such scene" in printed
    assert "pairs whose" not in printed
    for split, seed in (("train", 0), ("dev", 1)):
        opened = store.Split("b", split)
        assert [frame["file"] for frame in opened.examples[0]["frames"]] == [
            f"s{seed}/{name}.jpg" for name in "abc"
        ]
        found = list(opened.pairs())
        assert [name for name, _, _ in found] == [f"s{seed} a.jpg", f"s{seed} b.jpg"]
        for (_, low, normal), name in zip(found, "ab", strict=True):
            np.testing.assert_array_equal(low, photo.read(root / f"s{seed}" / f"{name}.jpg"))
            np.testing.assert_array_equal(normal, photo.read(root / f"s{seed}" / "c.jpg"))
        np.testing.assert_array_equal(opened.frame(0, 1), found[1][1])


def test_brackets_of_a_table(tmp_path, home):
    for seed in range(2):
        for place, gain in enumerate((0.2, 0.75)):
            save(tmp_path / "s" / f"{seed}{place}.png", (scene(seed) * gain).astype(np.uint8))
    rows = [f"{seed}{place}.png,scene {seed}" for seed in range(2) for place in range(2)]
    (tmp_path / "t.csv").write_text("\r\n".join(["file,scene", *rows]))
    run("brackets", "--source", tmp_path / "s", "--name", "b", "--csv", tmp_path / "t.csv")
    opened = store.Split("b", "train")
    assert [example["scene"] for example in opened.examples] == ["scene 0", "scene 1"]
    np.testing.assert_array_equal(opened.frame(1, 0), photo.read(tmp_path / "s" / "10.png"))
    np.testing.assert_array_equal(opened.frame(1, -1), photo.read(tmp_path / "s" / "11.png"))


def test_photographs(tmp_path, home, capsys):
    for seed in range(3):
        save(tmp_path / "s" / "train" / f"{seed}.jpg", scene(seed))
    save(tmp_path / "s" / "val" / "x.webp", scene(3), lossless=True)
    save(tmp_path / "s" / "test" / "a\n[b].jpg", scene(1), quality=60)
    save(tmp_path / "s" / "test" / "copy.bmp", photo.read(tmp_path / "s" / "train" / "2.jpg"))
    run("photos", "--source", tmp_path / "s", "--name", "mine")
    printed = capsys.readouterr().out
    assert "photographs in two splits (kept): 2" in printed
    assert "train/2.jpg (train) and test/copy.bmp (test): same pixels" in printed
    assert "train/1.jpg (train) and test/a\\n[b].jpg (test): looks the same" in printed
    opened = store.Split("mine", "dev")
    np.testing.assert_array_equal(opened.frame(0, -1), scene(3))
    assert [len(store.Split("mine", split)) for split in ("train", "dev", "test")] == [
        3,
        1,
        2,
    ]


# --- every kind of file ------------------------------------------------------------------------


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"image": np.rot90(image), "exif": exif, "quality": 95}


@pytest.fixture
def odd(tmp_path):
    """A folder of pairs in which every kind of input occurs that is odd or bad."""
    root = tmp_path / "odd"

    def put(name, seed, high=None, **low):
        dark = low.pop("image", scene(seed) // 4)
        save(root / "low" / name, dark, **low)
        stem = Path(name).stem
        save(root / "high" / (high or f"{stem}.png"), scene(seed))
        return root / "low" / name

    rgb = Image.fromarray
    for seed in range(3):
        put(f"plain {seed}.jpg", seed, f"plain {seed}.jpg")
    put("ünïcode 夜 [bold] :smile:.png", 3)
    put("CASE.PNG", 4, "CASE.png")
    put("grey.png", 5, image=rgb(scene(5) // 4).convert("L"))
    put("palette.png", 6, image=rgb(scene(6) // 4).convert("P"))
    alpha = np.concatenate([scene(7) // 4, scene(8)[..., :1]], axis=-1)
    put("alpha.png", 7, image=rgb(alpha))
    put("deep.png", 8, image=rgb(scene(8)[..., 0].astype(np.uint16) * 71))
    put("deep.tiff", 9, "deep2.png", image=rgb(scene(9)[..., 1].astype(np.uint16) * 83))
    (root / "low" / "deep.tiff").rename(root / "low" / "deep2.tiff")
    put("turned.jpg", 10, **turned(scene(10) // 4))
    put("cmyk.jpg", 11, image=rgb(scene(11) // 4).convert("CMYK"))
    put("new\nline.png", 12)

    cut = put("cut.jpg", 20)
    cut.write_bytes(cut.read_bytes()[:-200])
    put("text.png", 21).write_text("no photo")
    put("nothing.png", 22).write_bytes(b"")
    put("animated.gif", 23, save_all=True, append_images=[rgb(scene(24))])
    put("size.png", 24, image=scene(24, 20, 32))
    put("tiny.png", 25, image=scene(25, 8, 8))
    save(root / "low" / "lone.png", scene(26))
    save(root / "high" / "[b]lone :smile:.png", scene(27))
    (root / "low" / "link.png").symlink_to("nowhere.png")
    (root / "notes.txt").write_text("notes")
    (root / "empty").mkdir()
    return root


REFUSED = {
    "low/cut.jpg": "is damaged or cut short",
    "low/text.png": "is not a photo",
    "low/nothing.png": "is empty (0 bytes)",
    "low/animated.gif": "is animated, 2 frames",
    "low/size.png": "the sizes of the pair differ: 32×20 but high/size.png 32×24",
    "low/tiny.png": "is 8×8 pixels",
    "low/lone.png": "no partner in high",
    "high/[b]lone :smile:.png": "no partner in low",
    "low/link.png": "a link to nothing",
    "notes.txt": "not a photo",
}


def test_every_odd_input_is_read_right_or_refused_by_name_and_the_rest_is_built(odd, home, capsys):
    before = state(odd)
    run("photos", "--source", odd, "--name", "other")
    capsys.readouterr()
    run("paired", "--source", odd, "--name", "odd")
    assert state(odd) == before
    printed = capsys.readouterr().out
    plan = store.plan("odd")
    found = dict(plan["refused"])
    assert found.keys() == REFUSED.keys()
    for name, reason in REFUSED.items():
        assert reason in found[name]
        assert f"\n  {name}: {found[name]}\n" in printed
    assert f"left out: {len(REFUSED)}\n" in printed
    assert "pairs whose sizes disagree (left out): 1\n" in printed

    kept, names = {}, set()
    for split in plan["examples"]:
        opened = store.Split("odd", split)
        for example, (name, low, normal) in zip(opened.examples, opened.pairs(), strict=True):
            names.add(name)
            files = [odd / frame["file"] for frame in example["frames"]]
            np.testing.assert_array_equal(low, photo.read(files[0]), err_msg=name)
            np.testing.assert_array_equal(normal, photo.read(files[1]), err_msg=name)
        for record in opened.records:
            kept[record["name"].decode()] = record["low"]
    assert names == {
        *("plain 0", "plain 1", "plain 2", "ünïcode 夜 [bold] :smile:", "CASE", "grey", "palette"),
        *("alpha", "deep", "deep2", "turned", "cmyk", "new\nline"),
    }
    for name in ("plain 0.jpg", "plain 2.jpg", "ünïcode 夜 [bold] :smile:.png", "CASE.PNG"):
        data = (odd / "low" / name).read_bytes()
        assert kept[name.rpartition(".")[0]] == data, "the file's own bytes are kept"
    for name in ("turned", "cmyk", "grey", "palette", "alpha", "deep", "deep2"):
        with Image.open(io.BytesIO(kept[name])) as image:
            assert (image.format, image.mode, dict(image.getexif())) == ("PNG", "RGB", {})


@pytest.mark.slow
def test_printing_survives_odd_names_and_a_poor_terminal(odd, home):
    pair(odd, "low/\n\x1b[31m夜.png", "high/\n\x1b[31m夜.png", 30)
    save(odd / "low" / "\x1b[31mx\ny.png", scene(31))
    command = ["-m", "train.tools.prepare", "paired", "--source", odd, "--name", "odd"]
    result = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "\n  low/\\x1b[31mx\\ny.png: no partner in high\n" in result.stdout
    assert result.stdout.isascii()


# --- the summary -----------------------------------------------------------------------------


def test_the_report_has_the_numbers(tmp_path, home, capsys):
    root = tmp_path / "source"
    for place, (low, normal) in enumerate(((10, 100), (20, 120), (60, 200))):
        for side, value, shape in (("low", low, (16, 20, 3)), ("high", normal, (16, 20, 3))):
            save(root / f"train/{side}/{place}.png", np.full(shape, value, np.uint8))
    save(root / "train/low/3.png", scene(3, 40, 60) // 4)
    save(root / "train/high/3.png", scene(4, 40, 60))
    pair(root, "val/low/4.png", "val/high/4.png", 4)
    run("paired", "--source", root, "--name", "numbers")
    printed = capsys.readouterr().out
    low = np.mean([10, 20, 60, (scene(3, 40, 60) // 4).mean()])
    row = next(line for line in printed.splitlines() if "train" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:5] == ["train", "4", "4", "4", "20×16 +1"]
    assert cells[5] == f"{low:.0f} (10–60)"
    assert cells[6].endswith("(100–200)")
    assert "(kept): 1\n  train/3: correlation" in printed
    assert f"built in {home / 'paired_low_light' / 'numbers' / store.VERSION}" in printed


def test_long_lists_are_cut_unless_all_is_asked_for(source, home, capsys):
    for place in range(prepare.SHOWN + 5):
        (source / f"{place}.txt").touch()
    asked = ("paired", "--source", source, "--name", "lol")
    run(*asked)
    short = capsys.readouterr().out
    assert short.count("not a photo") == prepare.SHOWN
    assert "and 5 more; --all prints them" in short
    run(*asked, "--all")
    assert capsys.readouterr().out.count("not a photo") == prepare.SHOWN + 5


def test_list(source, home, capsys):
    run("list")
    assert capsys.readouterr().out == f"no data sets in {home} yet\n"
    (source / "notes.txt").touch()
    run("paired", "--source", source, "--name", "one")
    run("photos", "--source", source, "--name", "two")
    capsys.readouterr()
    run("list")
    printed = capsys.readouterr().out
    assert "one (paired), split by scene, seed 0" in printed
    assert "two (photos), split by scene, seed 0" in printed
    assert printed.count("left out: 1\n") == 2
    assert "notes.txt" not in printed
    run("list", "--all")
    assert capsys.readouterr().out.count("notes.txt: not a photo") == 2
    (store.find("one") / "metadata.json").write_text("{")
    line = refused(capsys, "list")
    assert "damaged" in line
    assert "prepare one again" in line


# --- again, and something else -----------------------------------------------------------------


def test_a_second_run_reads_no_photograph_and_changes_nothing(
    source, home, tmp_path, capsys, monkeypatch
):
    asked = ("paired", "--source", source, "--name", "lol")
    run(*asked)
    first = capsys.readouterr().out
    before = state(tmp_path)

    def never(*_):
        raise AssertionError("a photograph was read")

    monkeypatch.setattr("train.data.prepare.image_stats.photo.decode", never)
    monkeypatch.setattr("train.data.prepare.survey.facts", never)
    run(*asked)
    assert state(tmp_path) == before
    assert capsys.readouterr().out == "lol is built already: nothing to do\n" + first
    run(*asked, "--rebuild")
    assert state(tmp_path) == before


def test_a_set_of_something_else_is_only_replaced_when_asked(source, home, capsys):
    asked = ["paired", "--source", source, "--name", "lol"]
    run(*asked)
    before = state(home)
    assert "--rebuild" in refused(capsys, *asked, "--seed", 1)
    pair(source, "low/new.png", "high/new.png", 9)
    assert "its source has changed since" in refused(capsys, *asked)
    assert "is of kind paired" in refused(capsys, "photos", *asked[1:])
    assert "is of kind paired" in refused(capsys, "photos", *asked[1:], "--rebuild")
    (source / "low" / "new.png").unlink()
    (source / "high" / "new.png").unlink()
    run(*asked)
    os.utime(source / "low" / "1.png", ns=(1, 1))
    assert "its source has changed since" in refused(capsys, *asked)
    assert state(home) == before
    pair(source, "low/new.png", "high/new.png", 9)
    run(*asked, "--rebuild")
    assert sum(map(len, store.plan("lol")["examples"].values())) == 4
    (store.find("lol") / "metadata.json").write_text("{")
    assert "damaged" in refused(capsys, *asked)
    run(*asked, "--rebuild")
    assert sum(map(len, store.plan("lol")["examples"].values())) == 4


def test_a_source_that_changes_while_it_is_read_is_refused(source, home, capsys, monkeypatch):

    real = builders.build

    def later(make):
        save(source / "low" / "1.png", scene(30))
        return real(make)

    monkeypatch.setattr(builders, "build", later)
    line = refused(capsys, "paired", "--source", source, "--name", "lol")
    assert f"{source / 'low' / '1.png'} has changed while the data set was built" in line
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--name", "a/b"], "--name 'a/b': expected"),
        (["--name", "_a"], "a letter first"),
        (["--name", ""], "a letter first"),
        (["--name", "é"], "expected"),
        (["--name", "a" * 65], "up to 64"),
        (["--name", "packaged"], "choose another"),
        (["--name", "a", "--held-out", "0.5"], "below 0.5"),
        (["--name", "a", "--held-out", "nan"], "below 0.5"),
        (["--name", "a", "--seed", "-1"], "0 or more"),
        (["--name", "a", "--only", "x"], "COLUMN=VALUE"),
        (["--name", "a", "--csv", "gone.csv"], "gone.csv cannot be read: No such file"),
    ],
)
def test_bad_options_are_refused_in_one_line(source, home, capsys, options, reason):
    assert reason in refused(capsys, "paired", "--source", source, *options)
    assert not home.exists()


def test_folders_that_cannot_be_used_are_refused(source, home, tmp_path, capsys):
    asked = ["paired", "--source", source, "--name", "a", "--data-dir"]
    before = state(source)
    assert "lies in the source" in refused(capsys, *asked, source / "built")
    (tmp_path / "in").symlink_to(source)
    assert "lies in the source" in refused(capsys, *asked, tmp_path / "in" / "built")
    assert state(source) == before
    (tmp_path / "file").touch()
    assert "file cannot be written" in refused(capsys, *asked, tmp_path / "file")
    assert "nowhere is not a folder" in refused(
        capsys, "paired", "--source", tmp_path / "nowhere", "--name", "a"
    )
    (tmp_path / "bare").mkdir()
    assert "is empty" in refused(capsys, "photos", "--source", tmp_path / "bare", "--name", "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_without_permission(source, home, tmp_path, capsys):
    (source / "low" / "1.png").chmod(0)
    run("paired", "--source", source, "--name", "lol")
    assert "low/1.png: cannot be read: Permission denied" in capsys.readouterr().out
    (tmp_path / "closed").mkdir(mode=0o555)
    line = refused(
        capsys, "paired", "--source", source, "--name", "x", "--data-dir", tmp_path / "closed"
    )
    assert "closed cannot be written (Permission denied)" in line


# --- other processes ---------------------------------------------------------------------------


def python(code, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_can_be_found(source, home, capsys):
    asked = ["paired", "--source", str(source), "--name", "lol"]
    result = python(
        f"""
        import os, signal
        from train.data.prepare import builders
        from train.tools import prepare

        records, count = builders.PairedLowLight.records, 0

        def dying(self, example):
            global count
            count += 1
            if count == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return records(self, example)

        builders.PairedLowLight.records = dying
        prepare.run({asked!r})
        """
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    (left,) = home.iterdir()
    assert left.name.startswith(install.STAGING)
    assert list(left.rglob("*array_record*"))
    assert store.names() == []
    with pytest.raises(InputError, match="no data set 'lol'"):
        store.plan("lol")
    run(*asked)
    assert [path.name for path in home.iterdir()] == ["paired_low_light"]
    assert len(store.Split("lol", "train")) == 1


@pytest.mark.slow
def test_nothing_of_this_needs_tensorflow(source, home):
    result = python(
        f"""
        import sys
        from train.data import store
        from train.tools import prepare
        prepare.run(["paired", "--source", {str(source)!r}, "--name", "lol"])
        assert len(list(store.Split("lol", "train").pairs())) == 1

        import tensorflow_datasets as tfds
        path = store.plan("lol")["path"]
        for record in tfds.builder_from_directory(path).as_data_source("train"):
            assert record["low"].shape == (24, 32, 3)
        assert "tensorflow" not in sys.modules
        """
    )
    assert result.returncode == 0, result.stderr


def test_plain_tfds_reads_the_same(odd, home, tmp_path):
    import tensorflow_datasets as tfds

    for name, gain in (("a", 0.2), ("b", 0.75)):
        save(tmp_path / "b" / "s" / f"{name}.jpg", (scene(40) * gain).astype(np.uint8))
    run("paired", "--source", odd, "--name", "odd")
    run("brackets", "--source", tmp_path / "b", "--name", "b")
    run("photos", "--source", tmp_path / "b", "--name", "p")

    def plain(name):
        builder = tfds.builder_from_directory(store.plan(name)["path"])
        return builder.as_data_source("train")

    records = plain("odd")
    for record, (name, low, normal) in zip(
        records, store.Split("odd", "train").pairs(), strict=True
    ):
        assert record["name"].decode() == name
        np.testing.assert_array_equal(record["low"], low)
        np.testing.assert_array_equal(record["normal"], normal)
    frames = plain("b")
    assert [(f["scene"], int(f["exposure"])) for f in frames] == [(b"s", 0), (b"s", 1)]
    np.testing.assert_array_equal(frames[1]["image"], photo.read(tmp_path / "b" / "s" / "b.jpg"))
    assert [record["name"] for record in plain("p")] == [b"s/a.jpg", b"s/b.jpg"]
