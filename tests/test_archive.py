"""Archives: the same results as `enhance`, once each, whatever stops on the way; memory of the lists."""

import csv
import importlib.util
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from test_inference import tiny

from pdn_jax import cli, weights
from pdn_jax.archive import lists, walk
from pdn_jax.archive.walk import Entry

ROOT = Path(__file__).parents[1]
NAMES = ("a.png", "album/b.jpg", "album/c.png", "d.gif")


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    weights.save(path, tiny())
    return path


@pytest.fixture
def scans(tmp_path):
    """Four dark photographs of two sizes."""
    for seed, name in enumerate(NAMES):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 60, (32 + 8 * (seed % 2), 40, 3), np.uint8)
        PILImage.fromarray(pixels).save(path)
    return tmp_path / "scans"


def archived(source, out, own_weights, *more):
    argv = ["archive", source, "-o", out, "--weights", own_weights, "--part", 2, *more]
    return cli.main([*map(str, argv)])


def results(out):
    """Name -> content of all that is there but the lists."""
    paths = [path for path in out.rglob("*") if path.is_file() and ".pdn-archive" not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_results_are_those_of_enhance(scans, tmp_path, own_weights, capsys):
    assert archived(scans, tmp_path / "out", own_weights) == 0
    assert "4 written, 0 were there, 0 failed" in capsys.readouterr().err
    argv = ["enhance", scans, "-o", tmp_path / "plain", "--weights", own_weights]
    assert cli.main([*map(str, argv)]) == 0
    plain, here = results(tmp_path / "plain"), results(tmp_path / "out")
    assert here.pop("failures.csv") == b"photograph,reason\r\n"
    here["d.png"] = here.pop("d.gif.png")  # a whole name where another format's is put behind it
    assert here == plain


def test_what_is_there_by_name_and_size_is_passed_by(scans, tmp_path, own_weights, capsys):
    out = tmp_path / "out"
    assert archived(scans, out, own_weights) == 0
    before, times = results(out), {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
    (out / "album" / "c.png").unlink()
    (out / "a.png").write_bytes(b"cut short")
    assert archived(scans, out, own_weights) == 0
    assert "2 written, 2 were there" in capsys.readouterr().err
    assert results(out) == before
    assert out.joinpath("d.gif.png").stat().st_mtime_ns == times[out / "d.gif.png"]


def test_results_without_a_record_count_where_they_are_there(scans, tmp_path, own_weights, capsys):
    """As a kill leaves them between a photograph and the end of its part."""
    out = tmp_path / "out"
    assert archived(scans, out, own_weights) == 0
    for part in (out / ".pdn-archive" / "parts").iterdir():
        part.unlink()
    assert archived(scans, out, own_weights) == 0
    assert "0 written, 4 were there" in capsys.readouterr().err


def test_a_photograph_more_or_less_changes_its_own_part_alone(scans, tmp_path, own_weights, capsys):
    """What was written stays known by its name and both sizes; a source of another size is made anew."""
    out = tmp_path / "out"
    assert archived(scans, out, own_weights) == 0
    before = results(out)
    PILImage.new("RGB", (40, 32), (9, 9, 9)).save(scans / "album" / "a0.png")
    (out / "album" / "c.png").write_bytes(b"c")
    PILImage.new("RGB", (40, 32), (5, 9, 9)).save(scans / "d.gif")
    capsys.readouterr()
    assert archived(scans, out, own_weights) == 0
    assert "3 written, 2 were there" in capsys.readouterr().err
    after = results(out)
    assert after.keys() == before.keys() | {"album/a0.png"}
    assert {name for name in before if after[name] != before[name]} == {"d.gif.png"}


def test_parts_begin_where_names_say_so(tmp_path):
    """One name less leaves all other parts as they were; none is longer than four times the usual."""
    entries = [Entry(f"{number:05}.jpg", 7) for number in range(3000)]
    found = []
    for some in (entries, entries[:1500] + entries[1501:]):
        kept = lists.Lists(str(tmp_path / f"{len(some)}"))
        count, listed = kept.write(some, 20)
        parts = [kept.entries(number) for number in range(count)]
        assert [entry for part in parts for entry in part] == some
        assert listed == len(some)
        assert 100 < count < 220
        assert max(map(len, parts)) <= 80
        found.append({tuple(part) for part in parts})
    assert len(found[0] - found[1]) <= 2


def test_an_output_is_one_archives(scans, tmp_path, own_weights, capsys):
    out = tmp_path / "out"
    assert archived(scans, out, own_weights) == 0
    (tmp_path / "others").mkdir()
    (tmp_path / "others/a.png").write_bytes((scans / "a.png").read_bytes())
    capsys.readouterr()
    assert archived(tmp_path / "others", out, own_weights) == 2
    assert f"holds the archive of {scans}: name another output" in capsys.readouterr().err
    assert archived(scans, scans / "x" / "..", own_weights) == 2
    assert "is the input: name another place" in capsys.readouterr().err
    inside = scans / "x" / ".." / "bright"
    for _ in range(2):
        assert archived(scans, inside, own_weights) == 0
        assert " 4 photographs in" in f" {capsys.readouterr().err}"


def test_a_link_that_leads_nowhere_is_a_failure_of_its_own(scans, tmp_path, own_weights, capsys):
    (scans / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (scans / "notes.txt").symlink_to(tmp_path / "nowhere.txt")
    assert archived(scans, tmp_path / "out", own_weights) == 1
    assert "4 written, 0 were there, 1 failed" in capsys.readouterr().err
    assert "gone.jpg" in (tmp_path / "out/failures.csv").read_text()


def test_drafts_that_a_kill_left_are_removed(scans, tmp_path, own_weights):
    out = tmp_path / "out"
    (out / "album").mkdir(parents=True)
    draft = out / "album" / ".pdn-killed.tmp"
    draft.write_bytes(b"half")
    os.utime(draft, (1.0, 1.0))
    assert archived(scans, out, own_weights) == 0
    assert not draft.exists()


def test_a_dry_run_says_what_fails(tmp_path, own_weights, capsys):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"nothing")
    assert archived(folder, tmp_path / "out", own_weights, "--dry-run") == 2
    said = capsys.readouterr().err
    assert "failed: " in said
    assert "none of 1 photographs could be enhanced" in said


def test_failures_are_in_one_table_and_tried_again(scans, tmp_path, own_weights, capsys):
    sound = (scans / "a.png").read_bytes()
    (scans / "a.png").write_bytes(sound[: len(sound) // 2])
    out = tmp_path / "out"
    assert archived(scans, out, own_weights) == 1
    assert "3 written, 0 were there, 1 failed" in capsys.readouterr().err
    with (out / "failures.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["photograph"] == "a.png"
    assert "damaged" in row["reason"]
    assert not (out / "a.png").exists()
    (scans / "a.png").write_bytes(sound)
    assert archived(scans, out, own_weights) == 0
    assert results(out)["failures.csv"] == b"photograph,reason\r\n"


def test_a_dry_run_counts_and_writes_nothing(scans, tmp_path, own_weights, capsys):
    more = ["--dry-run", "--workers", 4, "--price", 2]
    assert archived(scans / "**", tmp_path / "out", own_weights, *more) == 0
    said = capsys.readouterr().err
    assert said.startswith("4 photographs, 0.000 GB; a sample of 4 took")
    assert "4 worker(s)" in said
    assert "at 2 an hour" in said
    assert not (tmp_path / "out").exists()


def test_results_within_the_input_are_no_input(scans, own_weights):
    for _ in range(2):
        assert archived(scans, scans / "bright", own_weights) == 0
    assert not (scans / "bright" / "bright").exists()


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("", list(NAMES)),
        ("/**", list(NAMES)),
        ("/*.png", ["a.png"]),
        ("/**/*.png", ["a.png", "album/c.png"]),
        ("/album/*", ["b.jpg", "c.png"]),
    ],
)
def test_patterns(scans, pattern, wanted):
    root, below = walk.root_of(f"{scans}{pattern}")
    listed = walk.names(root, below, scans / "out")
    assert sorted(entry.name for entry in listed) == sorted(wanted)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--exposure", "-1"], "exposure"),
        (["--workers", "-1"], "--workers -1"),
    ],
)
def test_bad_options_are_one_line(scans, tmp_path, own_weights, capsys, more, said):
    assert archived(scans, tmp_path / "out", own_weights, *more) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--jobs", "0"], "--jobs: expected a whole number above 0, got 0"),
        (["--part", "x"], "--part: expected a whole number above 0, got x"),
        (["--quality", "101"], "--quality: expected a whole number from 1 to 100, got 101"),
    ],
)
def test_numbers_that_cannot_be(scans, tmp_path, own_weights, capsys, more, said):
    with pytest.raises(SystemExit) as stop:
        archived(scans, tmp_path / "out", own_weights, *more)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_an_input_without_photographs_is_refused(tmp_path, own_weights, capsys):
    assert archived(tmp_path / "none", tmp_path / "out", own_weights) == 2
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert archived(tmp_path / "empty", tmp_path / "out", own_weights) == 2
    assert "holds no photographs" in capsys.readouterr().err


def test_listing_takes_no_more_memory_for_more_names(tmp_path):
    def peak(count):
        entries = (Entry(f"{n // 1000:06}/{n:09}.jpg", n) for n in range(count))
        tracemalloc.start()
        parts, listed = lists.Lists(str(tmp_path / str(count))).write(entries, 100)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count / 200 < parts < count / 50
        assert listed == count
        return size

    assert peak(20_000) < 3 * peak(
        1000
    )  # the longest part's, which is four times the usual at most


def test_no_two_photographs_have_one_result():
    names = [
        "d.gif",
        "d.gif.png",
        "d.png",
        "d.gif.png.png",
        "d.png.gif",
        "a.heic",
        "a.heic.jpg",
        "v1.2.png",
    ]
    for form in ("same", "jpg", "png", "tiff"):
        made = [lists.result_name(name, form)[0] for name in names]
        assert len(set(made)) == len(names), (form, made)
    assert lists.result_name("v1.2.png", "same")[0] == "v1.2.png"
    assert lists.result_name("d.gif.png", "same")[0] == "d.gif.png.png"


def test_links_to_folders_are_followed_once(scans, tmp_path):
    (tmp_path / "disk").mkdir()
    (scans / "a.png").rename(tmp_path / "disk" / "far.png")
    (scans / "more").symlink_to(tmp_path / "disk")
    (scans / "album" / "back").symlink_to(scans)
    (tmp_path / "disk" / "round").symlink_to(scans / "album")
    found = [entry.name for entry in walk.names(scans, "", tmp_path / "out")]
    assert found == ["d.gif", "album/b.jpg", "album/c.png", "more/far.png"]


def test_a_folder_that_cannot_be_listed_is_one_line(
    scans, tmp_path, monkeypatch, capsys, own_weights
):
    def refuses(top, onerror, **_):
        onerror(PermissionError(13, "Permission denied", f"{top}/album"))
        return iter(())

    monkeypatch.setattr(walk.os, "walk", refuses)
    assert archived(scans, tmp_path / "out", own_weights) == 2
    assert "/scans/album: Permission denied" in capsys.readouterr().err


def test_an_input_that_holds_nothing_claims_no_output(scans, tmp_path, own_weights, capsys):
    assert archived(f"{scans}/typo*", tmp_path / "out", own_weights) == 2
    assert "holds no photographs" in capsys.readouterr().err
    assert archived(f"{scans}/a*", tmp_path / "out", own_weights) == 0


def test_a_folder_whose_name_looks_like_a_pattern(scans, tmp_path):
    plain = scans.rename(tmp_path / "in [2020]")
    assert walk.root_of(str(plain)) == (plain, "")


def test_names_that_are_no_text_are_in_the_table(tmp_path):
    kept, entry = lists.Lists(str(tmp_path)), Entry("b\udcff.png", 4)
    assert kept.write([entry], 2) == (1, 1)
    kept.finish([entry], {}, [(entry.name, "broken")])
    kept.gather(1)
    assert "b\\udcff.png,broken" in (tmp_path / "failures.csv").read_text()


def test_samples_are_of_all(tmp_path):
    count, size, sample = walk.counted((Entry(str(n), 2) for n in range(1000)), 10)
    assert (count, size, len(sample)) == (1000, 2000, 10)
    assert 100 < np.mean([int(entry.name) for entry in sample]) < 900


@pytest.mark.slow
def test_from_bucket_to_bucket(scans, own_weights, tmp_path, capsys):
    pytest.importorskip("moto", reason='needs an S3 server: pip install "pdn_jax[stores,test]"')
    pytest.importorskip("s3fs", reason='needs pip install "pdn_jax[stores]"')
    from s3_server import Server

    from pdn_jax import places

    server, before = Server(), dict(os.environ)
    os.environ.update(server.environment)
    try:
        scanned, bright = server.bucket("scans"), server.bucket("bright")
        for name in NAMES:
            places.put(f"{scanned}/{name}", (scans / name).read_bytes())
        assert archived(f"{scanned}/**", f"{bright}/", own_weights) == 0
        assert archived(scans, tmp_path / "out", own_weights) == 0
        for name, content in results(tmp_path / "out").items():
            assert places.read(f"{bright}/{name}") == content
        capsys.readouterr()
        server.barred = "album%2F"  # its listing
        assert archived(f"{scanned}/**", f"{server.bucket('other')}/", own_weights) == 2
        assert "cannot read" in capsys.readouterr().err
        server.barred = "/bright/a.png"
        assert archived(f"{scanned}/**", f"{bright}/", own_weights) == 1
        assert "0 written, 3 were there, 1 failed" in capsys.readouterr().err
        assert b"a.png,cannot read" in places.read(f"{bright}/failures.csv")
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.slow
def test_on_ray_it_is_the_same(scans, own_weights, tmp_path):
    if not importlib.util.find_spec("ray"):
        pytest.skip('needs pip install "pdn_jax[archive]"')
    assert archived(scans, tmp_path / "out", own_weights) == 0
    argv = [scans, "-o", tmp_path / "ray", "--weights", own_weights, "--part", 2]
    argv += ["--workers", 1, "--cpus", 0.5]
    command = [sys.executable, "-m", "pdn_jax", "archive", *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert results(tmp_path / "ray") == results(tmp_path / "out")


def test_weights_that_are_missing_are_said_before_any_worker_starts(scans, tmp_path, capsys):
    assert archived(scans, tmp_path / "out", tmp_path / "none.safetensors", "--workers", 2) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
