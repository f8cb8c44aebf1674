"""Object stores: a real S3 server on loopback, photographs and weights in its buckets."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

pytest.importorskip("moto", reason='needs an S3 server: pip install "pdn_jax[stores,test]"')
pytest.importorskip("s3fs", reason='needs pip install "pdn_jax[stores]"')

from rich.console import Console
from test_inference import tiny

from pdn_jax import cli, copies, files, photo, places, weights
from pdn_jax.errors import InputError
from train import evaluate
from train.data import calibrated_camera, store
from train.data.prepare import install
from train.tools import prepare

pytest_plugins = ["s3_server"]


def picture(seed=0, side=40):
    """A dark PNG's bytes."""
    pixels = np.random.default_rng(seed).integers(0, 60, (side, side + 8, 3), np.uint8)
    data = io.BytesIO()
    PILImage.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


# --- places ------------------------------------------------------------------------------------


def test_paths_of_this_machine_stay_what_they_are(tmp_path):
    assert places.place("a/b.png") == places.place(files.Path("a/b.png")) == files.Path("a/b.png")
    assert not places.is_url("C:/a")
    assert copies.fetched(tmp_path) == tmp_path
    assert places.exists(tmp_path)
    assert not places.exists(tmp_path / "b")


def test_an_object_is_made_only_where_there_is_none(server, bucket):
    places.put(f"{bucket}/a", b"one", new=True)
    places.put(f"{bucket}/a", b"one", new=True)  # an answer that was lost: it is ours
    with pytest.raises(FileExistsError):
        places.put(f"{bucket}/a", b"two", new=True)
    assert places.read(f"{bucket}/a") == b"one"
    places.put(f"{bucket}/a", b"two")
    assert places.read(f"{bucket}/a") == b"two"


def test_a_copy_is_made_once_and_anew_where_something_changed(server, bucket):
    for name in ("one.txt", "below/two.txt"):
        places.put(f"{bucket}/folder/{name}", name.encode())
    first = copies.fetched(f"{bucket}/folder")
    assert (first / "below/two.txt").read_text() == "below/two.txt"
    before = server.count
    assert copies.fetched(f"{bucket}/folder") == first
    assert server.count - before <= 2  # it is listed, and nothing is read
    places.put(f"{bucket}/folder/one.txt", b"another")
    assert (copies.fetched(f"{bucket}/folder") / "one.txt").read_text() == "another"


def test_a_copy_that_was_interrupted_goes_on(server, bucket, monkeypatch):
    for number in range(5):
        places.put(f"{bucket}/folder/{number}.txt", b"x" * number)
    replace, moved = Path.replace, []

    def third_fails(path, target):
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(Path(target).name)
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", third_fails)
        with pytest.raises(KeyboardInterrupt):
            copies.fetched(f"{bucket}/folder")
    assert moved == ["0.txt", "1.txt", "2.txt"]
    before = server.count
    kept = copies.fetched(f"{bucket}/folder")
    assert {path.name: path.stat().st_size for path in kept.iterdir()} == {
        f"{number}.txt": number for number in range(5)
    }
    assert server.count - before <= 2 + 2 * 2  # the listing, and the two that were missing
    assert not list(kept.parents[1].glob(".*"))


def test_of_a_copy_hidden_objects_and_those_in_folders_of_a_name_may_be_left_out(server, bucket):
    for name in ("a.txt", ".held/1", "checkpoints/1/state/big", "below/.b"):
        places.put(f"{bucket}/folder/{name}", b"x")
    kept = copies.fetched(f"{bucket}/folder", without="checkpoints/")
    assert [path.name for path in kept.rglob("*") if path.is_file()] == ["a.txt"]
    places.put(f"{bucket}/folder/.held/1", b"yy")  # not copied, so no reason to copy
    assert copies.fetched(f"{bucket}/folder", without="checkpoints/") == kept


@pytest.mark.parametrize("name", ["../a.txt", "b/../../a.txt", ".."])
def test_no_object_is_copied_out_of_the_folder(tmp_path, name):
    with pytest.raises(InputError, match=r"with '\.\.' has no place"):
        copies.inside(tmp_path, name)
    assert copies.inside(tmp_path, "b/..a.txt") == tmp_path / "b" / "..a.txt"


def test_where_a_store_tells_no_versions_nothing_old_is_taken():
    pytest.importorskip("fsspec")
    places.put("memory://versions/a.txt", b"one")
    assert copies.fetched("memory://versions/a.txt").read_bytes() == b"one"
    places.put("memory://versions/a.txt", b"two")
    assert copies.fetched("memory://versions/a.txt").read_bytes() == b"two"


def test_stages_may_be_put_there(server, bucket, own_weights):
    places.put(f"{bucket}/low.png", picture())
    out, stages = f"{bucket}/bright.png", f"{bucket}/stages.png"
    argv = ["enhance", f"{bucket}/low.png", "-o", out, "--stages", stages]
    assert cli.main([*argv, "--weights", str(own_weights)]) == 0
    assert PILImage.open(io.BytesIO(places.read(stages))).width > 100
    assert cli.main([*argv[:-1], out, "--weights", str(own_weights), "--overwrite"]) == 2


def test_what_is_known_of_a_photograph_there(server, bucket, capsys):
    places.put(f"{bucket}/low.png", picture())
    assert cli.main(["info", f"{bucket}/low.png"]) == 0
    assert "size: 48×40 pixels" in capsys.readouterr().out


def test_a_path_that_cannot_be_in_a_store_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["page", "-o", "s3://bucket/page"])
    assert "s3://bucket/page is in a store: give a path of this machine" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_and_a_plot_may_be_written_there(server, bucket, own_weights, tmp_path):
    out = f"{bucket}/network.stablehlo"
    argv = ["export", "--format", "stablehlo", "--weights", str(own_weights), "-o", out]
    assert cli.main([*argv, "--height", "64", "--width", "64"]) == 0
    assert len(places.read(out)) > 1000
    for name, gain in (("low", 1), ("normal", 4)):
        pixels = np.random.default_rng(0).integers(10, 60, (64, 64, 3), np.uint8)
        photo.write(tmp_path / f"{name}.png", pixels * np.uint8(gain))
    pair = [str(tmp_path / "low.png"), str(tmp_path / "normal.png")]
    assert cli.main(["physics", *pair, "--plot", f"{bucket}/plot.svg"]) == 0
    assert b"<svg" in places.read(f"{bucket}/plot.svg")
    assert cli.main(["physics", *pair, "--plot", f"{bucket}/plot.svg"]) == 2


def test_a_draft_that_fails_leaves_the_old_object(server, bucket):
    files.write_text(f"{bucket}/a.txt", "old")

    def half():
        with files.atomic_write(f"{bucket}/a.txt") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert server.keys(bucket) == {"a.txt": 3}
    assert places.read(f"{bucket}/a.txt") == b"old"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda url: places.read(f"{url}/none"), "there is no such object"),
        (lambda url: places.read("s3://no-such-bucket/a"), "bucket does not exist"),
        (lambda url: places.objects(places.place("s3://no-such-bucket/")), "bucket does not exist"),
        (lambda url: places.put("s3://no-such-bucket/a", b""), "bucket does not exist"),
        (lambda url: places.place("nowhere://a"), "names no store"),
        (lambda url: places.place("file:///tmp/a"), "is no store"),
    ],
)
def test_what_is_missing_is_one_line(server, bucket, what, said):
    with pytest.raises(InputError, match=said) as caught:
        what(bucket)
    assert "\n" not in str(caught.value)


# --- enhance -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    weights.save(path, tiny())
    return path


def enhance(*argv):
    return cli.main(["enhance", *map(str, argv)])


def test_enhance_from_bucket_to_bucket_is_enhance(server, bucket, own_weights, tmp_path, capsys):
    there = server.bucket(bucket.removeprefix("s3://") + "-bright")
    for name, seed in (("a.png", 0), ("album/b.png", 1)):
        places.put(f"{bucket}/scans/{name}", picture(seed))
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / name).write_bytes(picture(seed))
    places.put(f"{bucket}/scans/notes.txt", b"no photo")
    places.put(f"{bucket}/models/w.safetensors", own_weights.read_bytes())
    stored = ["--weights", f"{bucket}/models/w.safetensors"]
    assert enhance(f"{bucket}/scans", "-o", there, *stored) == 0
    assert "notes.txt (its name ends in .txt)" in capsys.readouterr().err
    assert enhance(tmp_path / "scans", "-o", tmp_path / "out", "--weights", own_weights) == 0
    assert set(server.keys(there)) == {"a.png", "album/b.png"}
    for name in ("a.png", "album/b.png"):
        assert places.read(f"{there}/{name}") == (tmp_path / "out" / name).read_bytes()
    # Nothing is replaced unless it may be, and what is there is passed by.
    assert enhance(f"{bucket}/scans/*.png", "-o", f"{there}/", *stored) == 2
    assert f"{there}/a.png exists" in capsys.readouterr().err
    assert enhance(f"{bucket}/scans/**", "-o", there, *stored, "--skip-existing") == 0
    assert enhance(f"{bucket}/scans/a.png", "-o", f"{there}/a.png", *stored, "--overwrite") == 0
    # From a store to this machine, and back.
    assert enhance(f"{bucket}/scans/a.png", "-o", tmp_path / "c.png", *stored) == 0
    assert enhance(tmp_path / "scans", "-o", f"{there}/more", *stored, "--dry-run") == 0
    assert f"{there}/more/album/b.png" in capsys.readouterr().out
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "out" / "a.png").read_bytes()


def test_results_within_the_input_are_no_input(server, bucket, own_weights):
    places.put(f"{bucket}/a.png", picture())
    for expected in (0, 0):
        more = ["--weights", own_weights, "--skip-existing"]
        assert enhance(f"{bucket}/", "-o", f"{bucket}/bright", *more) == expected
    assert set(server.keys(bucket)) == {"a.png", "bright/a.png"}


def test_a_store_that_refuses_is_one_line_and_exit_code_2(server, bucket, own_weights, capsys):
    places.put(f"{bucket}/a.png", picture())
    server.denied = ("GET", "HEAD")
    assert enhance(f"{bucket}/", "-o", f"{bucket}/out", "--weights", own_weights) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert f"cannot read {bucket}/" in said
    assert "Access Denied" in said
    server.well()
    server.denied = ("PUT",)
    assert enhance(f"{bucket}/a.png", "-o", f"{bucket}/b.png", "--weights", own_weights) == 1
    assert f"cannot write {bucket}/b.png: Access Denied" in capsys.readouterr().err
    assert set(server.keys(bucket)) == {"a.png"}


def test_other_stores_of_fsspec_will_do(own_weights, capsys):
    places.put("memory://shelf/in/a.png", picture())
    assert enhance("memory://shelf/in", "-o", "memory://shelf/out", "--weights", own_weights) == 0
    names = places.names(places.place("memory://shelf"))
    assert set(names) == {"in/a.png", "out/a.png"}
    assert places.read(names["out/a.png"]).startswith(b"\x89PNG")
    assert enhance("memory://shelf/in", "-o", "memory://shelf/out", "--weights", own_weights) == 2
    assert "out/a.png exists" in capsys.readouterr().err


@pytest.mark.slow
def test_errors_half_of_the_time_are_tried_again(server, bucket, own_weights):
    for name in "ab":
        places.put(f"{bucket}/in/{name}.png", picture())
    server.errors, server.delay = 0.5, 0.05
    assert enhance(f"{bucket}/in", "-o", f"{bucket}/out", "--weights", own_weights) == 0
    server.well()
    results = [places.read(f"{bucket}/out/{name}.png") for name in "ab"]
    assert results[0] == results[1]
    assert set(server.keys(bucket, "out/")) == {"out/a.png", "out/b.png"}


@pytest.mark.slow
def test_a_store_that_never_answers_ends_in_one_line(server, bucket, monkeypatch):
    places.put(f"{bucket}/a", b"1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    server.errors = 1.0
    before = server.count
    with pytest.raises(InputError, match=f"cannot read {bucket}/a: "):
        places.read(f"{bucket}/a")
    assert server.count - before > 1


# --- data sets -----------------------------------------------------------------------------------


def prepared(*argv):
    return prepare.prepare(prepare.options_of([*map(str, argv)]), Console(quiet=True))


def test_data_sets_are_built_from_a_store_into_one(server, bucket, tmp_path, monkeypatch):
    for split, name in (("train", "a"), ("train", "b"), ("dev", "c")):
        places.put(f"{bucket}/photographs/{split}/{name}.png", picture(ord(name)))
    made = ["photos", "--source", f"{bucket}/photographs", "--name", "three"]
    into = ["--data-dir", f"{bucket}/data"]
    plan = prepared(*made, *into)
    assert {split: len(some) for split, some in plan["examples"].items()} == {"train": 2, "dev": 1}
    here = prepared(*made, "--data-dir", tmp_path)
    stored, local = (store.Split("three", "train", where) for where in (into[1], tmp_path))
    np.testing.assert_array_equal(stored.frame(0, -1), local.frame(0, -1))
    assert stored.examples == local.examples
    assert store.names(into[1]) == ["three"]
    # Nothing is done a second time, wherever it is asked for: the copy has the times of the store.
    monkeypatch.setenv("PDN_JAX_CACHE", str(tmp_path / "another host"))
    before = server.keys(bucket)
    assert prepared(*made, *into)["fingerprint"] == plan["fingerprint"] == here["fingerprint"]
    assert server.keys(bucket) == before
    places.put(f"{bucket}/photographs/train/d.png", picture(9))
    with pytest.raises(InputError, match="built from something else"):
        prepared(*made, *into)
    assert len(prepared(*made, *into, "--rebuild")["examples"]["train"]) == 3


def test_a_data_set_without_its_last_file_is_none(server, bucket, tmp_path):
    root = places.place(f"{bucket}/data")

    def built(staging):
        folder = staging / "photos" / "three" / store.VERSION
        folder.mkdir(parents=True)
        for name in ("metadata.json", "dataset_info.json", "photos-train.array_record"):
            (folder / name).write_text("{}")
        return folder

    genuine, sent = places.send, []

    def fails(file, given, **more):
        sent.append(file.name)
        if len(sent) == 3:
            raise InputError("the store is gone")
        genuine(file, given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "send", fails)
        with pytest.raises(InputError, match="the store is gone"):
            install.install(built, root)
    assert sent[-1] == "metadata.json"
    assert store.find("three", root) is None
    assert install.install(built, root) == store.find("three", root)


def test_tables_and_calibrations_may_be_there(server, bucket):
    scores = evaluate.Scores(("a",), np.ones((1, 4)), (0,))
    out = places.place(f"{bucket}/run/evaluation.csv")
    files.check_target(out)
    evaluate.write_table(out, {"this model": scores})
    assert places.read(out).startswith(b"method,photograph")
    with pytest.raises(InputError, match="exists"):
        files.check_target(out)
    assert str(evaluate.folder_of(f"{bucket}/run")) == f"{bucket}/run"
    places.put(f"{bucket}/calibrated.json", b"{}")
    with pytest.raises(InputError, match="is no calibration of version"):
        calibrated_camera.load_calibration(f"{bucket}/calibrated.json")


def test_films_are_copied_here_and_put_whole(server, bucket, own_weights, monkeypatch):
    from pdn_jax import video

    def doubled(source, target, enhancer, **_):
        target.write_bytes(2 * source.read_bytes())
        return type("Done", (), {"notes": ()})

    monkeypatch.setattr(video, "enhance_film", doubled)
    places.put(f"{bucket}/in/a.mp4", b"film")
    more = ["--weights", own_weights]
    assert enhance(f"{bucket}/in/a.mp4", "-o", f"{bucket}/b.mp4", *more) == 0
    assert places.read(f"{bucket}/b.mp4") == b"filmfilm"
    assert enhance(f"{bucket}/in/a.mp4", "-o", f"{bucket}/b.mp4", *more) == 2
    assert enhance(f"{bucket}/in/a.mp4", "-o", f"{bucket}/out/", *more) == 0
    assert set(server.keys(bucket)) == {"in/a.mp4", "b.mp4", "out/a.mp4"}
