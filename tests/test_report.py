"""The page of a run: what is on it, that it needs nothing else, and runs that are not yet done."""

import base64
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from configs import debug
from pdn_jax import cli
from pdn_jax.types import InputError
from train import evaluate, metrics
from train.tools import curves, report

ROOT = Path(__file__).parents[1]
VALUES = ("loss", "restored", "learning_rate", "balance/ratio", "balance/cosine", "balance/weight")


@pytest.fixture
def run_dir(tmp_path):
    """A run that has ended: 60 rows, two evaluations, a table of two photographs, a picture."""
    folder = tmp_path / "a <run>"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(debug.get_config().to_dict()))
    found = []
    for step in range(1, 61):
        row = {"step": str(step), "images_per_second": "34.5"}
        row |= {name: str(1.0 / step) for name in VALUES}
        if step % 30 == 0:
            row |= {"eval/psnr": str(20.0 - step / 10), "eval/ssim": "0.5"}
        found.append(row)
    metrics.write_rows(folder / "metrics.csv", found)
    values = np.asarray([[18.25, 0.5, 20.0, 0.6], [19.25, 0.6, 21.0, 0.7]])
    scores = evaluate.Scores(("one", "two"), values, (0, 1))
    evaluate.write_table(folder / "evaluation.csv", {"input": scores, "this <model>": scores})
    Image.new("RGB", (300, 40), (10, 200, 30)).save(folder / "stages.png")
    return folder


class Page(HTMLParser):
    """What a page shows and fetches; complains of tags that are not closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.images, self.words, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.fetched += [given[name] for name in ("src", "href", "srcset", "data") if name in given]
        self.images += [given] if tag == "img" else []
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def made(folder, *more):
    assert cli.explained(lambda: report.run([str(folder), *more])) == 0
    return Page((folder / "report.html").read_text())


def content(image):
    kind, encoded = image["src"].split(",", 1)
    return kind, base64.b64decode(encoded)


def test_the_page_shows_curves_picture_and_scores(run_dir, capsys):
    page = made(run_dir)
    assert f"written to {run_dir / 'report.html'}" in capsys.readouterr().out
    drawn = {image["alt"] for image in page.images}
    for part in ("Loss", "PSNR", "SSIM", "Learning rate", "ratio", "cosine", "weight", "second"):
        assert any(part in name for name in drawn), part
    assert "60 of 8" in page.text
    assert "17.00 dB at step 30" in page.text  # the best, and now 14
    assert "14.00 dB" in page.text
    assert "this <model> 18.75 (" in page.text
    assert "this <model>: two 19.25 0.6 21 0.7" in page.text
    assert "train.batch_size 4" in page.text
    assert "a <run>" in page.text


def test_the_page_needs_nothing_else(run_dir):
    """All that it fetches is in it, drawings included, and they can be read."""
    page = made(run_dir)
    assert page.fetched
    assert all(link.startswith("data:") for link in page.fetched)
    assert "url(" not in report.STYLE
    kinds = [content(image) for image in page.images]
    drawings = [data for kind, data in kinds if kind == "data:image/svg+xml;base64"]
    assert len(drawings) == len(page.images) - 1
    for drawing in drawings:
        elements = list(ElementTree.fromstring(drawing).iter())
        links = [value for e in elements for name, value in e.items() if name.endswith("href")]
        assert links
        assert all(link.startswith("#") for link in links)
    (picture,) = [data for kind, data in kinds if kind == "data:image/jpeg;base64"]
    (run_dir / "back.jpg").write_bytes(picture)
    with Image.open(run_dir / "back.jpg") as back:
        assert back.size == (300, 40)
        np.testing.assert_allclose(back.getpixel((150, 20)), (10, 200, 30), atol=3)


def test_the_same_run_gives_the_same_page(run_dir):
    made(run_dir)
    first = (run_dir / "report.html").read_bytes()
    made(run_dir)
    assert (run_dir / "report.html").read_bytes() == first


@pytest.mark.parametrize("left", [0, 1, 40])
def test_a_run_that_still_goes_on(run_dir, left):
    """Without a table or a picture, in the middle of a row, or before the first one."""
    (run_dir / "evaluation.csv").unlink()
    (run_dir / "stages.png").unlink()
    lines = (run_dir / "metrics.csv").read_bytes().splitlines(keepends=True)
    if left:
        (run_dir / "metrics.csv").write_bytes(b"".join(lines[: left + 1]) + lines[left + 1][:9])
    else:
        (run_dir / "metrics.csv").unlink()
    page = made(run_dir)
    assert f"{left} of 8" in page.text
    assert "The picture is written at the first evaluation." in page.text
    assert "The table of scores is written when the run ends." in page.text
    assert ("Nothing has been logged yet." in page.text) == (left == 0)
    assert bool(page.images) == bool(left)


def test_other_tables_are_shown_too(run_dir):
    text = (run_dir / "evaluation.csv").read_text()
    (run_dir / "evaluation-lol-test.csv").write_text(text.replace("one", "elsewhere"))
    page = made(run_dir)
    assert "evaluation-lol-test.csv: means" in page.text
    assert "input: elsewhere" in page.text


@pytest.mark.slow
def test_it_touches_no_device(run_dir):
    """So that it can be run beside a training that holds them all."""
    environment = os.environ | {"JAX_PLATFORMS": "none_such"}
    command = [sys.executable, "-m", "train.tools.report", str(run_dir)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_of_one_photograph_there_is_no_interval(run_dir):
    lines = (run_dir / "evaluation.csv").read_text().splitlines()
    of_mean = [line for line in lines if ",mean," in line]
    same = [
        line.replace(",mean,", f",interval {end},") for line in of_mean for end in ("low", "high")
    ]
    kept = [line for line in lines if ",interval " not in line]
    (run_dir / "evaluation.csv").write_text("\n".join(kept + same) + "\n")
    assert " – " not in made(run_dir).text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run.joinpath("config.json").unlink(), "so that is no run"),
        (lambda run: run.joinpath("config.json").write_text("{"), "config.json cannot be read"),
        (lambda run: run.joinpath("config.json").write_text("[1]"), "config.json cannot be read"),
        (lambda run: run.joinpath("config.json").write_text("{}"), "no options of a training"),
        (lambda run: run.joinpath("stages.png").write_text("a"), "stages.png cannot be read"),
        (lambda run: run.joinpath("evaluation.csv").write_text("a\n1\n"), "no table of scores"),
        (lambda run: run.joinpath("evaluation.csv").write_text(""), "no table of scores"),
        (lambda run: run.joinpath("report.html").mkdir(), "report.html is a folder"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line(run_dir, capsys, change, said):
    change(run_dir)
    complaint([str(run_dir)], said, capsys)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nowhere"], "name the run_dir of a training"),
        (["RUN", "--out", "nowhere/page.html"], "there is no folder nowhere"),
        (["RUN", "--out", "mine.html"], "mine.html exists: choose another name"),
    ],
)
def test_bad_options_are_one_line(run_dir, capsys, monkeypatch, argv, said):
    monkeypatch.chdir(run_dir.parent)
    Path("mine.html").write_text("mine")
    complaint([argument.replace("RUN", str(run_dir)) for argument in argv], said, capsys)
    assert Path("mine.html").read_text() == "mine"
    assert cli.explained(lambda: report.run([str(run_dir), "--out", "other.html"])) == 0
    assert Page(Path("other.html").read_text()).images


def complaint(argv, said, capsys):
    assert cli.explained(lambda: report.run(argv)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error


# --- curves --------------------------------------------------------------------------------------


def test_every_column_is_in_a_panel_and_blanks_are_in_none():
    found = [{"step": "1", "loss": "1", "structure": "2", "eval/psnr": ""}]
    panels = {panel.title: panel.columns for panel in curves.panels(found)}
    assert panels == {"Loss": ("loss",), curves.PARTS: ("structure",)}
    assert curves.panels([]) == []


def test_a_curve_has_the_steps_of_its_values():
    found = [{"step": str(s), "x": x} for s, x in ((1, "5"), (2, ""), (3, "nan"), (4, "7"))]
    steps, values = curves.curve(found, "x")
    assert (steps.tolist(), values.tolist()) == ([1, 4], [5, 7])


def test_long_curves_become_means_with_their_spread():
    steps, values = np.arange(1000.0), np.tile([0.0, 10.0], 500)
    middle, means, low, high = curves.thinned(steps, values, 50)
    np.testing.assert_allclose(means, 5.0)
    np.testing.assert_allclose(middle, np.arange(50) * 20 + 9.5)
    np.testing.assert_allclose((low, high), np.stack([np.zeros(50), np.full(50, 10.0)]))
    few = curves.thinned(steps[:3], values[:3], 50)
    np.testing.assert_array_equal(few[:2], (steps[:3], values[:3]))


@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_values_without_a_logarithm_are_drawn(value):
    """Nothing warns; a curve of no numbers is an empty panel."""
    found = [{"step": str(step), "loss": value} for step in (1, 2)]
    (drawing,) = curves.drawings(found).values()
    assert (curves.COLOURS[0].encode() in drawing) == (value != "nan")


def test_the_balance_is_drawn_over_a_training(run_dir):
    """Both losses, the weight with the ratio, the cosine, above each other; the same from the file."""
    drawn = curves.dynamic_balance(run_dir)
    assert drawn == curves.dynamic_balance(run_dir / "metrics.csv")
    assert curves.dynamic_balance(run_dir, "png").startswith(b"\x89PNG")
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//*[@id='axes_3']")) == 1
    assert not root.findall(".//*[@id='axes_4']")


def test_a_run_without_a_balance_is_refused(tmp_path):
    with pytest.raises(InputError, match="no column balance/weight"):
        curves.dynamic_balance(tmp_path)
