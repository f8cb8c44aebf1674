"""A training whose folder is in a store: killed, damaged, held, refused; what docs/surviving.md promises."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import test_distributed
from PIL import Image as PILImage

pytest.importorskip("moto", reason='needs an S3 server: pip install "pdn_jax[stores,test]"')
pytest.importorskip("s3fs", reason='needs pip install "pdn_jax[stores]"')

from rich.console import Console
from test_inference import tiny
from test_survive import NETWORK

from benchmarks import survive
from configs import debug
from pdn_jax import copies, places, weights
from pdn_jax.types import InputError
from train import checkpoint, leases, loop, mirror, run_dir

pytest_plugins = ["s3_server"]

# --- held by one ---------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Signs of life ten times as often."""
    monkeypatch.setattr(leases, "BEAT", 0.2)
    monkeypatch.setattr(leases, "SILENCE", 2.0)


def test_a_folder_is_held_by_one(server, bucket, quick):
    folder = places.place(f"{bucket}/run")
    with leases.Lease(folder):
        before = server.count
        with pytest.raises(InputError, match="another training is at work in run folder"):
            run_dir.held(folder)
        assert server.count > before
    with leases.Lease(folder):
        pass
    assert server.keys(bucket) == {}


def test_a_holder_that_is_silent_loses_it_and_sees_it(server, bucket, quick, monkeypatch):
    folder = places.place(f"{bucket}/run")
    with leases.Lease(folder) as asleep:
        monkeypatch.setattr(places, "put", lambda *_, **__: None)  # its signs do not arrive
        time.sleep(0.5)
        monkeypatch.undo()
        monkeypatch.setattr(leases, "SILENCE", 0.3)
        monkeypatch.setattr(leases, "_is_dead", lambda _: True)
        with leases.Lease(folder) as awake:
            until = time.monotonic() + 10
            while not asleep._lost and time.monotonic() < until:
                time.sleep(0.05)
            with pytest.raises(InputError, match="has taken over"):
                asleep.check()
            awake.check()


def test_a_sign_of_life_that_comes_too_late_takes_nothing_back(server, bucket, quick, monkeypatch):
    folder, put = places.place(f"{bucket}/run"), places.put
    late, taken = threading.Event(), threading.Event()

    def slow(*given, **how):
        if not how and not late.is_set():
            late.set()
            taken.wait(60)
        put(*given, **how)

    with leases.Lease(folder) as asleep:
        monkeypatch.setattr(places, "put", slow)
        assert late.wait(60)
        monkeypatch.setattr(leases, "_is_dead", lambda _: True)
        with leases.Lease(folder) as awake:
            taken.set()
            asleep._thread.join(60)
            assert not asleep._thread.is_alive()
            assert list(server.keys(bucket)) == ["run/.pdn-held/000002"]
            with pytest.raises(leases.TakenOver):
                asleep.check()
            awake.check()


def test_it_is_seen_before_the_next_sign_of_life(server, bucket, monkeypatch):
    folder = places.place(f"{bucket}/run")
    with leases.Lease(folder) as asleep:
        monkeypatch.setattr(leases, "_is_dead", lambda _: True)
        with leases.Lease(folder), pytest.raises(leases.TakenOver, match="has taken over"):
            asleep.check()


def test_one_that_began_again_at_1_gives_way(server, bucket, monkeypatch):
    """Between another's look and its number the holder let go, and this one saw an empty folder."""
    folder = places.place(f"{bucket}/run")
    with leases.Lease(folder):
        listed, looks = leases._listed, itertools.count()
        monkeypatch.setattr(leases, "_listed", lambda at: listed(at) if next(looks) else [])
        holder = folder / leases.FOLDER
        places.put(holder / "000007", places.read(holder / "000001"))
        (holder / "000001").unlink()
        with pytest.raises(leases.Held):
            leases.Lease(folder)
        assert [key[-6:] for key in server.keys(bucket)] == ["000007"]


def test_one_that_is_dead_is_not_waited_for(server, bucket):
    code = (
        "import os, sys; from pdn_jax import places; from train import leases;"
        "leases.Lease(places.place(sys.argv[1])); os._exit(9)"
    )
    argv = [sys.executable, "-c", code, f"{bucket}/run"]
    assert subprocess.run(argv, env=os.environ).returncode == 9
    assert len(server.keys(bucket)) == 1
    begun = time.monotonic()
    with leases.Lease(places.place(f"{bucket}/run")):
        assert time.monotonic() - begun < leases.SILENCE / 2


# --- checkpoints ---------------------------------------------------------------------------------


def state(number):
    return {"params": {"a": np.full(3, number, np.float32)}, "step": np.asarray(number, np.int32)}


@contextlib.contextmanager
def opened(url, keep=2):
    """The checkpoints of a run in a store."""
    console = Console(quiet=True)
    console.said = []
    console.print = lambda text, **_: console.said.append(text)
    with contextlib.ExitStack() as stack:
        folder, carrier = mirror.opened(places.place(url), stack, console)
        keep = {"keep": keep, "console": console, "carrier": carrier}
        checkpoints = stack.enter_context(checkpoint.Checkpoints(folder, **keep))
        checkpoints.folder_here = folder
        yield checkpoints


def steps_in(server, bucket):
    keys = server.keys(bucket)
    places_of = {key.split("/")[2] for key in keys if key.endswith("checksums.json")}
    return sorted(int(step) for step in places_of if step.isdigit())


def test_checkpoints_go_there_and_come_back(server, bucket):
    with opened(f"{bucket}/run") as checkpoints:
        for step in (1, 2, 3):
            (checkpoints.folder_here / "metrics.csv").write_text(f"step\n{step}\n")
            checkpoints.save(step, state(step), tiny(), psnr=10.0 if step == 1 else 5.0)
    assert steps_in(server, bucket) == [1, 2, 3]  # 1 is the best one
    assert places.read(f"{bucket}/run/metrics.csv") == b"step\n3\n"
    assert not checkpoints.folder_here.exists()
    with opened(f"{bucket}/run") as checkpoints:
        step, restored = checkpoints.restore(state(0))
        assert step == 3
        np.testing.assert_array_equal(restored["params"]["a"], state(3)["params"]["a"])
        assert checkpoints.best() == 10.0
        checkpoints.save(4, state(4), tiny(), psnr=11.0)
    assert steps_in(server, bucket) == [3, 4]
    assert weights.load(f"{bucket}/run/checkpoints/4").variant == tiny().variant


def test_a_damaged_one_is_set_aside_and_the_one_before_taken(server, bucket):
    with opened(f"{bucket}/run") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), tiny())
    keys = server.keys(bucket, "run/checkpoints/2/state/")
    places.put(f"{bucket}/{max(keys)}", b"not what was written")
    with opened(f"{bucket}/run") as checkpoints:
        assert checkpoints.restore(state(0))[0] == 1
        said = checkpoints.console.said[0]
    assert "is damaged" in said
    assert not server.keys(bucket, "run/checkpoints/2/")
    aside = server.keys(bucket, "run/checkpoints/damaged-2/")
    assert max(keys).replace("/2/", "/damaged-2/") in aside
    assert steps_in(server, bucket) == [1]


def test_half_a_checkpoint_does_not_count_and_goes(server, bucket):
    with opened(f"{bucket}/run") as checkpoints:
        checkpoints.save(1, state(1), tiny())
    for key in server.keys(bucket, "run/checkpoints/1/state/"):
        places.put(f"{bucket}/{key.replace('/1/', '/2/')}", b"half")
    with opened(f"{bucket}/run") as checkpoints:
        assert checkpoints.restore(state(0))[0] == 1
    assert not server.keys(bucket, "run/checkpoints/2/")


def test_a_store_that_fails_in_a_write_is_one_line(server, bucket):
    with opened(f"{bucket}/run") as checkpoints:
        checkpoints.save(1, state(1), tiny())

    def fails():
        with opened(f"{bucket}/run") as checkpoints:
            server.denied = ("PUT",)
            checkpoints.save(2, state(2), tiny())
            checkpoints.wait()

    said = r"Access Denied; go on with --config\.resume=true .*; until then checkpoint 2 waits in /"
    with pytest.raises(InputError, match=said):
        fails()
    server.well()
    assert steps_in(server, bucket) == [1]


def refused(server, url, *steps):
    """Checkpoints of a run, the last of which the store does not take."""
    with opened(url) as checkpoints:
        for step in steps:
            server.denied = ("PUT",) * (step == steps[-1])
            (checkpoints.folder_here / "metrics.csv").write_text(f"step\n{step}\n")
            checkpoints.save(step, state(step), tiny())
            checkpoints.wait()


@pytest.mark.parametrize("steps", [(1,), (1, 2)])
def test_what_the_store_would_not_take_is_there_after_the_next_start(
    server, bucket, steps, monkeypatch
):
    run = f"{bucket}/run"
    with pytest.raises(InputError, match="Access Denied"):
        refused(server, run, *steps)
    server.well()
    with monkeypatch.context() as patched:
        patched.setattr(mirror.Mirror, "_send", lambda *_: places.read(f"{bucket}/nothing"))
        with pytest.raises(InputError, match="nothing"):
            contextlib.ExitStack().enter_context(opened(run))
    with opened(run) as checkpoints:
        (said,) = checkpoints.console.said
        assert f"checkpoint {steps[-1]}, which {run} would not take, is there now" in said
        assert steps_in(server, bucket) == [*steps]
        assert places.read(f"{run}/metrics.csv").decode() == f"step\n{steps[-1]}\n"
        step, restored = checkpoints.restore(state(0))
    assert step == steps[-1]
    np.testing.assert_array_equal(restored["params"]["a"], state(step)["params"]["a"])
    with opened(run) as checkpoints:
        assert checkpoints.console.said == []


def test_one_that_was_taken_over_changes_nothing(server, bucket, monkeypatch, tmp_path):
    """Whatever it was about to do when it fell asleep."""
    run, patch = f"{bucket}/run", monkeypatch.setattr

    def sleeper():
        with opened(run) as asleep:
            asleep.save(1, state(1), tiny())
            asleep.wait()
            patch(
                asleep._carrier._held, "_closed", threading.Event()
            )  # no sign of life from now on
            patch(leases, "_is_dead", lambda _: True)
            monkeypatch.setenv("PDN_JAX_CACHE", str(tmp_path))
            with opened(run) as awake:
                for step in (2, 3):
                    awake.save(step, state(step), tiny())
            before = server.keys(bucket)
            asleep._carrier._held._seen -= 60
            (asleep.folder_here / "metrics.csv").write_text("mine")
            for act in (asleep._carrier.push, lambda: asleep._carrier.judged(1)):
                with pytest.raises(leases.TakenOver):
                    act()
            asleep.save(4, state(4), tiny())
            with pytest.raises(leases.TakenOver):
                asleep.wait()
            assert server.keys(bucket) == before

    with pytest.raises(leases.TakenOver):
        sleeper()
    assert steps_in(server, bucket) == [2, 3]


def test_checkpoints_of_others_are_not_removed(server, bucket):
    with opened(f"{bucket}/run") as checkpoints:
        places.put(f"{bucket}/run/checkpoints/7/checksums.json", b"{}")
        checkpoints.save(1, state(1), tiny())
    assert steps_in(server, bucket) == [1, 7]


def test_options_of_now_stay_where_a_checkpoint_waited(server, bucket):
    run = f"{bucket}/run"
    places.put(f"{run}/config.json", b"then")
    with pytest.raises(InputError, match="Access Denied"):
        refused(server, run, 1)
    server.well()
    places.put(f"{run}/config.json", b"now")
    with opened(run) as checkpoints:
        assert "checkpoint 1" in checkpoints.console.said[0]
    assert places.read(f"{run}/config.json") == b"now"


def test_what_waits_is_of_one_run_and_no_other_of_its_name(server, bucket):
    run = f"{bucket}/run"
    with pytest.raises(InputError, match="Access Denied"):
        refused(server, run, 1)
    server.well()
    places.place(run).fs.rm(places.place(run).path, recursive=True)
    with opened(run) as checkpoints:
        assert checkpoints.console.said == []
    assert steps_in(server, bucket) == []


def test_what_waits_is_not_put_into_a_run_that_has_gone_on(server, bucket):
    run = f"{bucket}/run"
    with pytest.raises(InputError, match="Access Denied"):
        refused(server, run, 1, 2)
    server.well()
    here = mirror.scratch(places.place(run))
    waiting = here.parent / "waiting" / here.name
    elsewhere = waiting.rename(waiting.with_name("elsewhere"))
    with opened(run) as checkpoints:
        checkpoints.save(3, state(3), tiny())
    elsewhere.rename(waiting)
    with opened(run) as checkpoints:
        assert checkpoints.restore(state(0))[0] == 3
        assert checkpoints.console.said == []
    assert steps_in(server, bucket) == [1, 3]


@pytest.mark.slow
def test_errors_half_of_the_time_lose_no_checkpoint(server, bucket):
    server.errors = 0.5
    with opened(f"{bucket}/run") as checkpoints:
        checkpoints.save(1, state(1), tiny())
    with opened(f"{bucket}/run") as checkpoints:
        step, restored = checkpoints.restore(state(0))
    assert step == 1
    np.testing.assert_array_equal(restored["params"]["a"], state(1)["params"]["a"])


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two, one of them to judge by."""
    folder = tmp_path_factory.mktemp("photographs")
    for split in ("train", "dev"):
        (folder / split).mkdir()
        pixels = np.linspace(0, 255, 48 * 48 * 3).reshape(48, 48, 3).astype(np.uint8)
        PILImage.fromarray(pixels).save(folder / split / "a.png")
    return folder


def options(run, photographs, steps=40):
    settings = {
        "run_dir": run,
        "resume": "true",
        "train.steps": steps,
        "checkpoint.every": 10,
        "eval.every": steps,
        "log.every": 1,
        "log.images": "false",
        "parallel.devices": 1,
        "data.crop_size": 32,
        "model.change": NETWORK,
        "data.sources": (("photos", "stored", str(photographs)),),
    }
    return [f"--config.{name}={value}" for name, value in settings.items()]


def command(*given):
    return [sys.executable, "-m", "train.main", "--config", "configs/debug.py", *options(*given)]


def trained(*given):
    return subprocess.run(command(*given), env=os.environ, capture_output=True, text=True)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_write_it_ends_as_if_it_were_not(
    server,
    bucket,
    photographs,
    tmp_path,
):
    """40 steps into a bucket, killed as the second checkpoint goes there, against 40 on this disk."""
    run = f"{bucket}/run"
    server.hold = "/run/checkpoints/20/"
    killed = subprocess.Popen(command(run, photographs), env=os.environ)
    assert server.held.wait(300)
    with pytest.raises(InputError, match="another training is at work"):
        loop.train(config_of(run, photographs))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    server.well()
    assert steps_in(server, bucket) == [10]
    done = trained(run, photographs)
    assert done.returncode == 0, done.stderr
    assert "resumed at step 10" in " ".join(done.stdout.split())
    assert run in done.stdout
    done = trained(tmp_path / "run", photographs)
    assert done.returncode == 0, done.stderr
    assert survive.losses(copies.fetched(run)) == survive.losses(tmp_path / "run")
    one, two = survive.last_state(copies.fetched(run)), survive.last_state(tmp_path / "run")
    assert one.keys() == two.keys()
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    names = {key.split("/")[1] for key in server.keys(bucket)}
    assert names == {path.name for path in (tmp_path / "run").iterdir()} | {"run-id"}


def config_of(run, photographs):
    config = debug.get_config()
    changes = {"run_dir": run, "resume": True, "train.steps": 40, "checkpoint.every": 10}
    changes |= {"eval.every": 40, "log.every": 1, "log.images": False, "parallel.devices": 1}
    changes |= {"data.crop_size": 32, "model.change": NETWORK}
    changes |= {"data.sources": (("photos", "stored", str(photographs)),)}
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.slow
def test_missing_buckets_and_rights_are_one_line(server, bucket, photographs):
    done = trained("s3://no-such-bucket/run", photographs)
    assert done.returncode == 2, done.stderr
    assert "bucket does not exist" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    server.denied = ("PUT",)
    done = trained(f"{bucket}/run", photographs)
    assert done.returncode == 2, done.stderr
    assert f"cannot write {bucket}/run" in done.stderr
    assert "Access Denied" in done.stderr


@pytest.mark.slow
def test_two_processes_share_nothing_but_the_bucket(
    server, bucket, photographs, tmp_path, monkeypatch
):
    """Each with a cache and data sets of its own, as two hosts have them."""
    given = {
        name.removeprefix("--config."): value
        for name, value in (
            option.split("=", 1) for option in options(f"{bucket}/run", photographs, steps=8)
        )
    }
    given |= {"parallel.devices": 0, "checkpoint.every": 4}
    processes, port = [], test_distributed.free_port()
    for number in (0, 1):
        monkeypatch.setenv("PDN_JAX_CACHE", str(tmp_path / f"cache-{number}"))
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / f"data-{number}"))
        processes.append(test_distributed.start(number, port, given))
    ended = [test_distributed.ended(process) for process in processes]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert steps_in(server, bucket) == [4, 8]
    assert f"into {bucket}/run" in ended[0][1]
    assert len(survive.losses(copies.fetched(f"{bucket}/run"))) == 8
