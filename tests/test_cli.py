"""The command line: good input makes files, bad input makes one line, exit code 2 and no change."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from test_inference import tiny

from pdn_jax import __version__, inference, photo, weights
from pdn_jax.cli import explained, main
from pdn_jax.types import InputError

DARK = np.random.default_rng(0).integers(0, 60, (40, 50, 3), dtype=np.uint8)
BEFORE = b"here before"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in: a photo, a run folder with weights, and an output of old."""
    monkeypatch.chdir(tmp_path)
    photo.write("dark.png", DARK)
    Path("run").mkdir()
    weights.save("run", tiny())
    Path("old.png").write_bytes(BEFORE)
    return tmp_path


def enhance(*arguments, output="new.png", run="run"):
    return [str(a) for a in ("enhance", *arguments, "-o", output, "--weights", run)]


def run(argv):
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


def refused(capsys, argv, *words, code=2):
    """Run what must fail: one line on stderr that holds the words, no file changed or added."""
    before = sorted(Path().rglob("*"))
    assert run(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pdn_jax: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert Path("old.png").read_bytes() == BEFORE
    assert sorted(Path().rglob("*")) == before


# --- what works ------------------------------------------------------------------------------


def test_help_answers_without_jax():
    root = Path(__file__).parents[1]
    command = [sys.executable, "-X", "importtime", "-m", "pdn_jax", "--help"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    modules = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "enhance" in done.stdout
    assert "pdn_jax.cli" in modules
    assert not modules & {"jax", "numpy", "flax", "PIL", "rich"}


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"pdn_jax {__version__}\n"


def test_one_photo(place, capsys):
    assert run(enhance("dark.png")) == 0
    np.testing.assert_array_equal(photo.read("new.png"), inference.enhance(DARK, tiny()))
    assert capsys.readouterr() == ("", "")


def test_dials_and_variant(place):
    options = ["--exposure", "0.5", "--denoise", "0.25", "--variant", "tiny"]
    assert run(enhance("dark.png", *options)) == 0
    expected = inference.enhance(DARK, tiny(), exposure=0.5, denoise=0.25)
    np.testing.assert_array_equal(photo.read("new.png"), expected)


def test_overwrite(place):
    assert run(enhance("dark.png", "--overwrite", output="old.png")) == 0
    assert photo.read("old.png").shape == DARK.shape


def test_stages_are_drawn(place):
    assert run(enhance("dark.png", "--stages", "sheet.png")) == 0
    sheet = photo.read("sheet.png")
    assert sheet.shape[0] > 240
    assert sheet.shape[1] > 9 * 300
    assert Path("new.png").exists()


def test_a_sheet_shows_the_picture_alone_and_its_result(place):
    """Not the bars around it, and what is written, without its veil, as the last."""
    photo.write("barred.png", np.pad(DARK, ((20, 20), (0, 0), (0, 0))))
    assert run(enhance("barred.png", "--stages", "barred-sheet.png")) == 0
    assert run(enhance("dark.png", "--stages", "sheet.png", output="alone.png")) == 0
    barred, sheet = (photo.read(name) for name in ("barred-sheet.png", "sheet.png"))
    left = barred.shape[1] - sheet.shape[1]  # for a longer name
    np.testing.assert_array_equal(barred[40:, 100 + left :], sheet[40:, 100:])


def test_what_is_left_alone_has_no_stages(place, capsys):
    photo.write("bright.png", 255 - DARK)
    assert run(enhance("bright.png", "--auto", "--stages", "sheet.png")) == 0
    assert not Path("sheet.png").exists()
    assert "left alone" in capsys.readouterr().err


def test_a_sheet_takes_no_photographs_place(place, capsys):
    before = Path("dark.png").read_bytes()
    argv = enhance("dark.png", "--stages", "dark.png", "--overwrite")
    refused(capsys, argv, "dark.png is named twice")
    assert Path("dark.png").read_bytes() == before


@pytest.mark.parametrize("terminal", [False, True])
def test_a_folder_becomes_a_folder(place, capsys, monkeypatch, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    Path("in").mkdir()
    photo.write("in/a.jpg", DARK)
    photo.write("in/b.png", DARK[::-1])
    assert run(enhance("in", output="made/out")) == 0
    assert sorted(path.name for path in Path("made/out").iterdir()) == ["a.jpg", "b.png"]
    expected = inference.enhance(DARK[::-1], tiny())
    np.testing.assert_array_equal(photo.read("made/out/b.png"), expected)
    assert ("100%" in capsys.readouterr().err) == terminal


def test_bad_photos_among_many_are_named_and_the_rest_is_done(place, capsys):
    Path("out").mkdir()
    Path("out/old.png").write_bytes(BEFORE)
    Path("text.png").write_text("no photo")
    photo.write("fine.jpg", DARK)
    argv = enhance("dark.png", "text.png", "no.png", "old.png", "fine.jpg", output="out")
    assert run(argv) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    for line, name in zip(lines, ["text.png", "no.png", "out/old.png"], strict=True):
        assert line.startswith("pdn_jax: error: ")
        assert name in line
    assert last == "pdn_jax: 2 enhanced; 3 of 5 failed"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "dark.png",
        "fine.jpg",
        "old.png",
    ]
    assert Path("out/old.png").read_bytes() == BEFORE


def test_info(place, capsys):
    weights.save("run", tiny()._replace(metadata={"psnr": "20.1"}))
    assert run(["info", "dark.png"]) == 0
    assert capsys.readouterr().out.startswith("format: PNG\n")
    assert run(["info", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = sum(leaf.size for leaf in tiny().params["params"]["denoising"]["level2"]["a0"].values())
    assert lines[0] == "variant: tiny"
    assert int(lines[1].split()[1].replace(",", "")) > count
    assert {"stages: 4", "width: 16", "psnr: 20.1"} <= set(lines)


# --- weights that come with the package --------------------------------------------------------


def result_of(argv):
    assert run(argv) == 0
    return photo.read(Path("new.png"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "small"),
        (["--weights", "tiny"], "tiny"),
        (["--variant", "tiny"], "tiny"),
        (["--weights", "run", "--variant", "tiny"], "run"),
    ],
)
def test_weights_are_named_or_not(place, options, name):
    bright = result_of(["enhance", "dark.png", "-o", "new.png", *options])
    np.testing.assert_array_equal(bright, inference.enhance(DARK, name))


def test_weights_brighten_a_dark_photo(place):
    assert result_of(["enhance", "dark.png", "-o", "new.png"]).mean() > 2 * DARK.mean()


def test_weights_are_listed(capsys, monkeypatch):
    """A column each, whole in a terminal of 80."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["weights"]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in re.split("[│┃]", line)] for line in out.splitlines()]
    table = {row[1]: row[2:-1] for row in rows if len(row) == 6}
    assert table[""] == ["tiny", "small (default)", "base"]
    cards = [weights.card(name) for name in weights.SHIPPED]
    assert table["parameters"] == [f"{card['parameters']:,}" for card in cards]
    assert table["trained"] == [card["date"] for card in cards]
    for data in cards[0]["scores"]:
        scores = [card["scores"][data] for card in cards]
        wanted = [f"{s['psnr']['mean']:.2f} / {s['ssim']['mean']:.3f}" for s in scores]
        assert table[data] == wanted


def test_info_of_shipped_weights_names_their_card(capsys):
    assert run(["info", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"card: {weights.FOLDER / 'tiny/card.json'}"


# --- bad photos ------------------------------------------------------------------------------


def damaged(path, content):
    Path(path).write_bytes(content)
    return path


def cut(path):
    Image.fromarray(DARK).save(path)
    return damaged(path, Path(path).read_bytes()[:700])


def small(path):
    Image.fromarray(DARK[:15]).save(path)
    return path


def animated(path):
    Image.fromarray(DARK).save(path, save_all=True, append_images=[Image.fromarray(DARK[::-1])])
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda: "missing.png",
        lambda: damaged("empty.png", b""),
        lambda: damaged("text.png", b"no photo at all"),
        lambda: cut("cut.png"),
        lambda: cut("cut.jpg"),
        lambda: small("small.png"),
        lambda: animated("animated.gif"),
    ],
)
def test_bad_photos(place, capsys, make):
    path = make()
    code = 1 if Path(path).exists() else 2
    refused(capsys, enhance(path, "--overwrite", output="old.png"), path, code=code)


def test_too_many_pixels(place, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    argv = enhance("dark.png", "--overwrite", output="old.png")
    refused(capsys, argv, "dark.png", "pixels", code=1)


def test_a_folder_without_photos(place, capsys):
    Path("in").mkdir()
    refused(capsys, enhance("in", output="out"), "in", "no photos")


def test_two_photos_that_would_become_one_keep_their_names(place, capsys):
    photo.write("dark.jpg", DARK)
    assert run(enhance("dark.png", "dark.jpg", "--format", "png", output="out")) == 0
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["dark.jpg.png", "dark.png.png"]


# --- bad outputs -----------------------------------------------------------------------------


def test_outputs_that_cannot_be(place, capsys):
    refused(capsys, enhance("dark.png", output="old.png"), "old.png", "--overwrite")
    refused(capsys, enhance("dark.png", output="dark.png"), "dark.png", "--overwrite")
    refused(capsys, enhance("dark.png", output="a.xyz"), "a.xyz", ".jpg", ".png", ".tif")
    refused(capsys, enhance("dark.png", "dark.png", output="old.png"), "old.png", "is a file")
    argv = enhance("dark.png", "--format", "jpg", output="a.png")
    refused(capsys, argv, "a.png is a PNG by its name, --format says jpg")
    refused(capsys, enhance("dark.png", "--suffix=-b", output="a.png"), "--suffix", "a.png")
    argv = enhance("dark.png", "dark.png", output="old.png/a")
    refused(capsys, argv, "old.png/a", code=1)


def test_folders_are_made(place):
    assert run(enhance("dark.png", output="no/a.png")) == 0
    assert run(enhance("dark.png", output="run")) == 0
    assert photo.read("no/a.png").shape == photo.read("run/dark.png").shape == DARK.shape


def test_sheets_that_cannot_be(place, capsys):
    refused(capsys, enhance("dark.png", "--stages", "old.png"), "old.png", "--overwrite")
    refused(capsys, enhance("dark.png", "--stages", "new.png"), "new.png", "twice")
    refused(capsys, enhance("dark.png", "--stages", "a.xyz"), "a.xyz")
    refused(capsys, enhance("dark.png", "--stages", "file:///a.png"), "file:///a.png is no store")
    photo.write("b.png", DARK)
    argv = enhance("dark.png", "b.png", "--stages", "a.png", output="out")
    refused(capsys, argv, "a.png", "one photo")


# --- bad weights and options -----------------------------------------------------------------


def test_weights_that_cannot_be_used(place, capsys):
    file = Path("run/weights.safetensors")
    whole = file.read_bytes()
    refused(capsys, enhance("dark.png", run="no"), "no does not exist", "weights.safetensors")
    refused(capsys, ["info", "no"], "no does not exist")
    refused(capsys, enhance("dark.png", run="old.png"), "old.png", "safetensors")
    unnamed = ["enhance", "dark.png", "-o", "new.png", "--variant", "huge"]
    refused(capsys, unnamed, "'huge'", "tiny, small, base", "--weights")
    refused(capsys, enhance("dark.png", "--variant", "base"), str(file), "'base'", "'tiny'")
    file.write_bytes(whole[: len(whole) // 2])
    refused(capsys, enhance("dark.png"), str(file))
    refused(capsys, ["info", "run"], str(file))
    file.write_bytes(safetensors.numpy.save({"a": np.ones(3)}))
    refused(capsys, enhance("dark.png"), str(file), "not one of pdn_jax")
    file.write_bytes(safetensors.numpy.save({"a": np.ones(3)}, {"pdn_jax": "7"}))
    refused(capsys, enhance("dark.png"), str(file), "format 7")
    weights.save("run", tiny()._replace(model=tiny().model | {"width": 8}))
    refused(capsys, enhance("dark.png"), "params/denoising/lift", "shape")
    refused(capsys, enhance("dark.png", "dark.png", output="out"), "params/denoising/lift")
    file.unlink()
    refused(capsys, enhance("dark.png"), str(file), "does not exist")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--exposure", "0"], ["exposure", "0"]),
        (["--exposure=-1"], ["exposure", "-1"]),
        (["--exposure", "nan"], ["exposure", "nan"]),
        (["--exposure", "inf"], ["exposure", "inf"]),
        (["--exposure", "much"], ["--exposure", "much"]),
        (["--denoise", "1.5"], ["denoise", "1.5"]),
        (["--denoise=-0.5"], ["denoise", "-0.5"]),
        (["--brightness", "2"], ["--brightness"]),
    ],
)
def test_bad_options(place, capsys, options, words):
    refused(capsys, enhance("dark.png", *options), *words)


@pytest.mark.parametrize("argv", [[], ["darken"], ["enhance", "dark.png"], ["info"]])
def test_incomplete_commands(place, capsys, argv):
    refused(capsys, argv, "--help")


# --- what is not the person's fault ----------------------------------------------------------


def test_interruption_is_130_without_a_trace(place, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(inference.Enhancer, "__call__", interrupted)
    for argv in (enhance("dark.png"), enhance("dark.png", "dark.png", output="out")):
        assert run(argv) == 130
        assert capsys.readouterr().err == "pdn_jax: interrupted\n"
    assert not Path("new.png").exists()


def test_explained(capsys):
    def fails(error):
        raise error

    assert explained(lambda: None) == 0
    assert explained(lambda: 3) == 3
    assert explained(lambda: fails(InputError("this\nthat"))) == 2
    assert capsys.readouterr().err == "pdn_jax: error: this that\n"
    with pytest.raises(ValueError, match="ours"):
        explained(lambda: fails(ValueError("ours")))


def test_names_that_are_too_long_are_one_line(place, capsys):
    long = "x" * 300 + ".png"
    refused(capsys, enhance("dark.png", output=long), "its name is too long")
    refused(capsys, enhance(long), "does not exist")
    refused(capsys, enhance(long, "dark.png", output="out"), "its name is too long")


def test_lines_go_on_where_letters_are_none_or_nobody_reads():
    """A name with bytes that are no UTF-8, on a terminal of a strict one; a pipe that is closed."""
    code = "from pdn_jax.report import tell; tell('a\\udcff'); print('went on', flush=True)"
    command = [sys.executable, "-c", code]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, text=True, env=strict, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("a\\udcff\nwent on\n", "")
    read, write = os.pipe()
    os.close(read)
    code = "from pdn_jax.report import tell; [tell(str(n)) for n in range(3)]"
    done = subprocess.run([*command[:2], code], stdout=write, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


# --- photographs as they are in the world ----------------------------------------------------


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_has_a_line_for_each_photo(place, capsys):
    Path("in").mkdir()
    photo.write("in/a.png", DARK)
    Path("in/notes.txt").write_text("notes")
    Path("in/text.png").write_text("no photo")
    assert run(enhance("in", "--json", output="out")) == 1
    left_out, done, failed = lines_of(capsys)
    assert left_out == {"source": "in/notes.txt", "left_out": "not a photo"}
    assert (done["source"], done["target"], done["written"]) == ("in/a.png", "out/a.png", True)
    assert (done["width"], done["height"], done["format"], done["bits"]) == (50, 40, "PNG", 8)
    assert done["exposure"] < -1
    assert done["noise"] > 5
    assert done["seconds"] > 0
    assert failed["source"] == "in/text.png"
    assert failed["error"].startswith("in/text.png is not a photo")


def test_a_dry_run_writes_nothing(place, capsys):
    before = sorted(Path().rglob("*"))
    assert run(enhance("dark.png", "--dry-run", "--suffix=-b", output="out")) == 0
    assert capsys.readouterr().out == "dark.png -> out/dark-b.png\n"
    assert sorted(Path().rglob("*")) == before


def test_a_dry_run_names_what_would_fail(place, capsys):
    Path("out").mkdir()
    Path("out/dark.png").write_bytes(BEFORE)
    photo.write("other.png", DARK)
    assert run(enhance("dark.png", "other.png", "--dry-run", output="out")) == 1
    out, err = capsys.readouterr()
    assert out == "other.png -> out/other.png\n"
    assert err.startswith("pdn_jax: error: out/dark.png exists")
    assert run(enhance("dark.png", "--dry-run", "--overwrite", output="out")) == 0


def test_a_run_that_was_half_done_goes_on(place, capsys):
    Path("in").mkdir()
    photo.write("in/a.png", DARK)
    photo.write("in/b.png", DARK)
    Path("out").mkdir()
    Path("out/a.png").write_bytes(BEFORE)
    assert run(enhance("in", "--skip-existing", output="out")) == 0
    assert Path("out/a.png").read_bytes() == BEFORE
    assert photo.read("out/b.png").shape == DARK.shape
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "pdn_jax: 1 enhanced; 1 left out: 1 its result exists"


def test_auto_leaves_bright_photos_alone_and_says_so(place, capsys):
    photo.write("bright.png", 255 - DARK)
    assert run(enhance("dark.png", "bright.png", "--auto", output="out")) == 0
    assert [path.name for path in Path("out").iterdir()] == ["dark.png"]
    assert "bright.png: not dark: left alone" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--quality", "0"], ["--quality", "x"], ["-j", "0"]])
def test_numbers_that_cannot_be(place, capsys, options):
    refused(capsys, enhance("dark.png", *options), "whole number", options[1])
