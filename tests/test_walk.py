"""Which files, which names, what is left out: trees, patterns, collisions, circles."""

import os
from pathlib import Path

import numpy as np
import pytest
from photo_files import dng_head, scene
from PIL import Image

from pdn_jax import photo
from pdn_jax.photos import walk
from pdn_jax.types import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path, form=None):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(16, 16)).save(path, form)
    return path


def targets(plan):
    return {str(job.source): (str(job.target), job.kind) for job in plan.jobs}


def reasons(plan):
    return {str(path): reason for path, reason in plan.left_out}


# --- one file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "target", "kind"),
    [
        ("b.png", "b.png", "PNG"),
        ("new/b.TIF", "new/b.TIF", "TIFF"),
        ("out", "out/a.jpg", "JPEG"),
        ("out.d/", "out.d/a.jpg", "JPEG"),
        ("there", "there/a.jpg", "JPEG"),
    ],
)
def test_a_file_goes_to_a_file_or_into_a_folder(here, output, target, kind):
    put("a.jpg")
    Path("there").mkdir()
    assert targets(walk.plan(["a.jpg"], output)) == {"a.jpg": (target, kind)}


@pytest.mark.parametrize("output", ["b.xyz", "b.gif", "b.jxl", "b.nef"])
def test_a_file_that_cannot_be_written_is_refused_by_name(here, output):
    put("a.jpg")
    with pytest.raises(InputError, match=rf"^cannot write {output}: .*\.jpg .*\.png"):
        walk.plan(["a.jpg"], output)


def test_inputs_that_are_not_there(here):
    for given, word in (("no.png", "does not exist"), ("*.png", "matches no file")):
        with pytest.raises(InputError, match=word):
            walk.plan([given], "out")


def test_several_photos_need_a_folder(here):
    put("a.jpg"), put("b.jpg")
    Path("old.png").write_bytes(b"old")
    with pytest.raises(InputError, match=r"^old\.png is a file"):
        walk.plan(["a.jpg", "b.jpg"], "old.png")


# --- trees ---------------------------------------------------------------------------------------


def test_a_tree_is_kept(here):
    for name in ("in/a.jpg", "in/x/b.png", "in/x/y/a.jpg"):
        put(name)
    assert targets(walk.plan(["in"], "out")) == {
        "in/a.jpg": ("out/a.jpg", "JPEG"),
        "in/x/b.png": ("out/x/b.png", "PNG"),
        "in/x/y/a.jpg": ("out/x/y/a.jpg", "JPEG"),
    }


def test_two_trees_keep_their_names(here):
    put("p/in/a.jpg"), put("q/a.jpg"), put("c.jpg")
    plan = walk.plan(["p/in", "q", "c.jpg"], "out")
    assert [str(job.target) for job in plan.jobs] == ["out/in/a.jpg", "out/q/a.jpg", "out/c.jpg"]


def test_suffix_and_format(here):
    put("in/a.JPG"), put("in/b.gif")
    assert targets(walk.plan(["in"], "out", suffix="-bright")) == {
        "in/a.JPG": ("out/a-bright.JPG", "JPEG"),
        "in/b.gif": ("out/b-bright.png", "PNG"),
    }
    for form, kind, extension in (("webp", "WEBP", ".webp"), ("avif", "AVIF", ".avif")):
        plan = walk.plan(["in"], "out", form=form)
        assert targets(plan)["in/a.JPG"] == (f"out/a{extension}", kind)


def test_results_beside_their_photographs_are_not_enhanced_again(here):
    put("in/a.jpg"), put("in/a-bright.jpg"), put("in/b-bright.jpg")
    plan = walk.plan(["in"], "in", suffix="-bright")
    assert sorted(targets(plan)) == ["in/a.jpg", "in/b-bright.jpg"]
    assert reasons(plan) == {"in/a-bright.jpg": "a result of before, by its name"}


def test_results_within_the_tree_are_not_walked(here):
    put("in/a.jpg"), put("in/out/a.jpg")
    plan = walk.plan(["in"], "in/out")
    assert list(targets(plan)) == ["in/a.jpg"]
    assert reasons(plan) == {"in/out": "the folder of the results"}


def test_patterns_that_no_shell_opened(here):
    put("in/a.jpg"), put("in/x/b.jpg"), put("in/c.png")
    assert sorted(targets(walk.plan(["in/*.jpg"], "out"))) == ["in/a.jpg"]
    assert sorted(targets(walk.plan(["in/**/*.jpg"], "out"))) == ["in/a.jpg", "in/x/b.jpg"]
    put("in/[x].jpg")  # a name like a pattern is a name
    assert sorted(targets(walk.plan(["in/[x].jpg"], "out"))) == ["in/[x].jpg"]


def test_one_photo_named_twice_is_done_once(here):
    put("a.jpg")
    assert len(walk.plan(["a.jpg", "a.jpg"], "out").jobs) == 1


# --- names ---------------------------------------------------------------------------------------


def test_two_that_would_meet_keep_their_whole_names(here):
    put("in/a.jpg"), put("in/a.png"), put("in/A.webp"), put("in/b.jpg")
    plan = walk.plan(["in"], "out", form="png", suffix="+")
    assert {Path(t).name for t, _ in targets(plan).values()} == {
        "a.jpg+.png",
        "a.png+.png",
        "A.webp+.png",
        "b+.png",
    }


def test_a_name_that_lies_gets_the_right_extension(here):
    put("in/a.jpg", "PNG")
    assert targets(walk.plan(["in"], "out")) == {"in/a.jpg": ("out/a.png", "PNG")}


def test_raw_files_become_tiffs(here):
    Path("in").mkdir()
    Path("in/a.dng").write_bytes(dng_head())
    assert targets(walk.plan(["in"], "out")) == {"in/a.dng": ("out/a.tif", "TIFF")}


def test_names_up_to_the_limit_of_the_file_system(here):
    longest = "é" * 125 + "x.jpg"  # 255 bytes
    put(f"in/{longest}")
    assert targets(walk.plan(["in"], "out"))[f"in/{longest}"] == (f"out/{longest}", "JPEG")
    plan = walk.plan(["in"], "out", suffix="-b")
    assert reasons(plan) == {f"in/{longest}": "its result's name would be too long"}


# --- what is left out ----------------------------------------------------------------------------


def test_everything_left_out_is_named_with_its_reason(here):
    put("in/a.jpg")
    for name in ("@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash-1000", "__MACOSX"):
        put(f"in/{name}/a.jpg")
    put("in/.hidden.jpg")
    Path("in/notes.txt").write_text("notes")
    Path("in/clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    Path("in/empty").touch()
    Path("in/gone.jpg").symlink_to("nowhere.jpg")
    put("in/without_extension", "PNG")
    os.mkfifo("in/pipe.jpg")
    plan = walk.plan(["in"], "out")
    assert sorted(targets(plan)) == ["in/a.jpg", "in/without_extension"]
    assert targets(plan)["in/without_extension"] == ("out/without_extension.png", "PNG")
    system = "a folder of the system's own"
    assert reasons(plan) == {
        "in/@eaDir": system,
        "in/#recycle": system,
        "in/$RECYCLE.BIN": system,
        "in/.Trash-1000": "hidden",
        "in/__MACOSX": system,
        "in/.hidden.jpg": "hidden",
        "in/notes.txt": "not a photo",
        "in/clip.mp4": "a film",
        "in/empty": "empty",
        "in/gone.jpg": "a link to nothing",
        "in/pipe.jpg": "not a file",
    }


def test_links_in_a_circle_end(here):
    put("in/x/a.jpg")
    Path("in/x/back").symlink_to("..", target_is_directory=True)
    Path("in/again").symlink_to("x", target_is_directory=True)
    plan = walk.plan(["in"], "out")
    assert len(plan.jobs) == 1
    assert len(plan.left_out) == 1 + 1


def test_a_folder_that_cannot_be_read_is_named(here, monkeypatch):
    put("in/a.jpg"), put("in/closed/b.jpg")
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    plan = walk.plan(["in"], "out")
    assert list(targets(plan)) == ["in/a.jpg"]
    assert reasons(plan) == {"in/closed": "cannot be read: Permission denied"}


def test_an_empty_folder_is_refused(here):
    Path("in").mkdir()
    with pytest.raises(InputError, match=r"^in holds no photos"):
        walk.plan(["in"], "out")


def test_photographs_are_in_order(here):
    names = [f"in/{k}.png" for k in np.random.default_rng(0).permutation(9)]
    for name in names:
        put(name)
    assert [str(job.source) for job in walk.plan(["in"], "out").jobs] == sorted(names)


# --- no two results alike ------------------------------------------------------------------------


def written_to(inputs, output="out", **more):
    """Targets in order; all of them differ, whatever their case."""
    names = [str(job.target) for job in walk.plan(inputs, output, **more).jobs]
    assert len({name.casefold() for name in names}) == len(names)
    return names


def test_equal_names_of_two_folders_are_counted(here):
    put("a/x.jpg"), put("b/x.jpg"), put("c/X.JPG")
    expected = ["out/x.jpg", "out/x-2.jpg", "out/X-3.JPG"]
    assert written_to(["a/x.jpg", "b/x.jpg", "c/X.JPG"]) == expected
    assert written_to(["a/x.jpg", "b/x.jpg"], suffix="_new") == ["out/x_new.jpg", "out/x_new-2.jpg"]


def test_folders_of_one_name_do_not_meet(here):
    put("x/photos/p.jpg"), put("y/photos/p.jpg")
    assert written_to(["x/photos", "y/photos"]) == ["out/photos/p.jpg", "out/photos-2/p.jpg"]


def test_a_whole_name_that_is_another_photographs_is_not_taken(here):
    put("c/a.jpg"), put("c/a.png"), put("c/a.jpg.png")
    assert sorted(written_to(["c"], form="png")) == [
        "out/a.jpg-2.png",
        "out/a.jpg.png",
        "out/a.png.png",
    ]


def test_the_same_file_by_two_ways_is_done_once(here):
    put("tl/a.jpg")
    Path("tl2").symlink_to("tl")
    plan = walk.plan(["tl", "tl2", str(here / "tl/a.jpg")], "out")
    assert targets(plan) == {"tl/a.jpg": ("out/tl/a.jpg", "JPEG")}
    assert [reason for _, reason in plan.left_out] == 2 * ["the same file as tl/a.jpg"]


def test_a_pattern_keeps_the_tree_and_passes_by_what_folders_do(here):
    for path in ("col/a/x.jpg", "col/b/x.jpg", "col/a/@eaDir/x.jpg", "col/.hidden/x.jpg"):
        put(path)
    plan = walk.plan(["col/**/*.jpg"], "out")
    assert [str(job.target) for job in plan.jobs] == ["out/a/x.jpg", "out/b/x.jpg"]
    assert {str(path) for path, _ in plan.left_out} == {"col/a/@eaDir/x.jpg"}


def test_a_folder_is_not_called_like_a_photograph(here):
    put("a.jpg"), put("b.jpg")
    with pytest.raises(
        InputError, match=r"z\.jpg is a file: with several photos -o names a folder"
    ):
        walk.plan(["a.jpg", "b.jpg"], "z.jpg")
    assert len(written_to(["a.jpg", "b.jpg"], "z.jpg/")) == 2


def test_a_suffix_stays_within_the_folder(here):
    put("a.jpg")
    with pytest.raises(InputError, match=r"--suffix /\.\./zz"):
        walk.plan(["a.jpg"], "out/", suffix="/../zz")


def test_a_pipe_is_no_photograph_and_is_not_waited_for(here):
    put("a.jpg")
    os.mkfifo("pipe.jpg")
    walk.plan(["a.jpg", "pipe.jpg"], "out")
    assert photo.size("pipe.jpg") is None
    with pytest.raises(InputError, match=r"pipe\.jpg is no file"):
        photo.open("pipe.jpg")


def test_films_among_photographs_are_named_as_such(here):
    put("a.jpg")
    Path("b.avi").write_bytes(b"RIFF\0\0\0\0AVI LIST")
    assert walk.plan(["."], "out").left_out == [(Path("b.avi"), "a film")]
