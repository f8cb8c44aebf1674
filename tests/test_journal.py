"""A survey that was stopped goes on where it was, and sees what has changed since."""

import numpy as np
import pytest
from PIL import Image as PILImage
from rich.console import Console

from train.data.prepare import survey
from train.data.prepare.journal import Journal
from train.data.prepare.listing import Record, Refused
from train.tools import prepare


def photographs(folder, names="abcdef"):
    folder.mkdir(exist_ok=True)
    for name in names:
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (24, 24, 3), np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def build(source, where):
    argv = ["photos", "--source", source, "--name", "some", "--data-dir", where]
    return prepare.prepare(prepare.options_of([*map(str, argv)]), Console(quiet=True))


@pytest.fixture
def read(monkeypatch):
    """Names of what is read, two at a time; the photograph named in `stop` interrupts."""
    names, genuine = [], survey.survey_photo
    monkeypatch.setattr(survey, "AT_ONCE", 2)

    def counted(source, record):
        names.append(record.name)
        if record.name in stop:
            raise KeyboardInterrupt
        return genuine(source, record)

    stop = []
    monkeypatch.setitem(survey.SURVEYS, "photos", counted)
    names_and_stop = type("Read", (), {"names": names, "stop": stop})
    return names_and_stop


def test_a_survey_goes_on_where_it_was_stopped(tmp_path, read, monkeypatch):
    monkeypatch.setenv("PDN_JAX_CACHE", str(tmp_path / "cache"))
    source, where = photographs(tmp_path / "photographs"), tmp_path / "data"
    (source / "b.png").write_bytes(b"no picture")
    read.stop.append("e.png")
    with pytest.raises(KeyboardInterrupt):
        build(source, where)
    (kept,) = (tmp_path / "cache" / prepare.SURVEYED).iterdir()
    with kept.open("ab") as file:
        file.write(b"half a line")
    read.stop.clear()
    read.names.clear()
    photographs(source, "c")  # written anew: read anew
    plan = build(source, where)
    assert set(read.names) == {"c.png", "e.png", "f.png"}
    assert not kept.exists()
    assert plan["refused"][0][0] == "b.png"
    whole = build(source, tmp_path / "whole")
    assert {name: whole[name] for name in whole if name != "path"} == {
        name: plan[name] for name in plan if name != "path"
    }


def test_results_come_back_as_they_were(tmp_path):
    source = photographs(tmp_path / "photographs", "ab")
    dark = source / "a.png"
    pair = Record("a", "", "train", (dark, source / "b.png"))
    seen = survey.survey_pair(source, pair)
    nothing = None, [Refused("x", "why")]
    other = pair._replace(name="x")
    with Journal(tmp_path / "journal") as journal:
        journal.keep("paired", pair, seen)
        journal.keep("paired", other, nothing)
    with Journal(tmp_path / "journal") as journal:
        assert journal.known("paired", pair) == seen
        assert journal.known("paired", other) == nothing
        assert journal.known("photos", pair) is None
        dark.write_bytes(dark.read_bytes() + b" ")
        assert journal.known("paired", pair) is None
