"""The command line on films: which arguments are some, where they go, and what they do not take."""

import av
import numpy as np
import pytest
import video_clips as clips
from PIL import Image
from test_cli import DARK, enhance, place, refused, run  # noqa: F401

from pdn_jax import photo


@pytest.fixture
def films(place):  # noqa: F811
    """Two short films and a photograph."""
    pictures = [clips.bytes_of(np.full((32, 48, 3), 0.02 * (1 + i), np.float32)) for i in range(2)]
    for name in ("a.mp4", "b.mp4"):
        clips.write(place / name, pictures, sound=False)
    return place


def title(path):
    with av.open(str(path)) as film:
        return film.metadata.get("title")


@pytest.mark.slow
def test_films_and_photographs_go_into_a_folder_that_is_made(films):
    assert run(enhance("a.mp4", "b.mp4", "dark.png", "--suffix", "_new", output="made")) == 0
    made = {path.name for path in (films / "made").iterdir()}
    assert made == {"a_new.mp4", "b_new.mp4", "dark_new.png"}
    assert title("made/a_new.mp4") == "a dark film"
    assert run(enhance("?.mp4", output="more/")) == 0
    assert {path.name for path in (films / "more").iterdir()} == {"a.mp4", "b.mp4"}


@pytest.mark.slow
def test_strip_drops_what_a_film_says_of_itself(films):
    assert run(enhance("a.mp4", "--strip", output="out.mp4")) == 0
    assert title("out.mp4") is None


@pytest.mark.slow
def test_one_that_fails_is_named_and_the_others_go_on(films, capsys):
    (films / "b.mp4").write_bytes(b"no film")
    assert run(enhance("b.mp4", "a.mp4", output="made")) == 1
    assert "b.mp4" in capsys.readouterr().err
    assert [path.name for path in (films / "made").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    "option", [["--quality", "80"], ["--json"], ["-j", "2"], ["--auto"], ["--compare"]]
)
def test_options_of_photographs_are_refused(films, capsys, option):
    refused(capsys, enhance("a.mp4", *option, output="out.mp4"), "is for photographs, a.mp4 is")


def test_films_of_one_name_do_not_meet(films, capsys):
    (films / "c").mkdir()
    (films / "c/a.mp4").write_bytes((films / "a.mp4").read_bytes())
    refused(capsys, enhance("a.mp4", "c/a.mp4", output="made"), "the same name")


def test_what_a_dry_run_says(films, capsys):
    (films / "made").mkdir()
    (films / "made/a.mp4").write_bytes(b"")
    words = ["--dry-run", "--skip-existing"]
    assert run(enhance("a.mp4", "b.mp4", *words, output="made")) == 0
    out, err = capsys.readouterr()
    assert out == "b.mp4 -> made/b.mp4\n"
    assert err == "pdn_jax: left out: a.mp4 (its result exists)\n"


def test_a_photograph_or_a_folder_that_is_called_like_a_film_is_none(place, capsys):  # noqa: F811
    Image.fromarray(DARK).save("lie.mp4", "PNG")
    assert run(enhance("lie.mp4", output="lie.png")) == 0
    assert photo.read("lie.png").shape == DARK.shape
    (place / "holiday.ts").mkdir()
    Image.fromarray(DARK).save("holiday.ts/a.png")
    assert run(enhance("holiday.ts", output="out")) == 0
    assert (place / "out/a.png").exists()


def test_a_pattern_drops_no_photograph_and_names_what_it_passes_by(films, capsys):
    Image.fromarray(DARK).save("lie.mp4", "PNG")
    (films / "@eaDir").mkdir()
    (films / "@eaDir/a.mp4").write_bytes((films / "a.mp4").read_bytes())
    assert run(enhance("**/*.mp4", "--dry-run", output="made")) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "a.mp4 -> made/a.mp4",
        "b.mp4 -> made/b.mp4",
        "lie.mp4 -> made/lie.mp4.png",
    ]
    assert err == "pdn_jax: left out: @eaDir/a.mp4 (a folder of the system's own)\n"


def test_nothing_is_done_where_the_photographs_cannot_be(films, capsys):
    """The films are whole, but are not begun."""
    (films / "empty").mkdir()
    refused(capsys, enhance("a.mp4", "empty", output="made"), "empty holds no photos")
