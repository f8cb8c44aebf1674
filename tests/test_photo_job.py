"""One photograph from file to file: what is written, said, left alone; and what a kill leaves."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from photo_files import camera_jpeg, packet, png_bytes, scene

from pdn_jax import files
from pdn_jax.photos import exposure, job, reader
from pdn_jax.photos.job import Options
from pdn_jax.photos.walk import Job
from pdn_jax.types import InputError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(camera_jpeg(scene(), xmp=packet()))
    return tmp_path


def times(gain):
    """A stand-in for the network, for uint8 as for floats."""

    def restore(low, there):
        top = 255 if low.dtype == np.uint8 else 1
        return np.clip(low * np.float32(gain), 0, top).astype(low.dtype)

    return restore


def run(target="out/b.jpg", kind="JPEG", source="a.jpg", restore=None, **options):
    return job.run(Job(Path(source), Path(target), kind), restore or times(2), Options(**options))


def test_a_photograph_from_file_to_file(place):
    outcome = run()
    before, after = reader.from_file("a.jpg"), reader.from_file("out/b.jpg")
    assert outcome.written
    assert outcome.size == (64, 96)
    assert (outcome.kind, outcome.bits, outcome.lost) == ("JPEG", 8, ())
    assert outcome.stops == pytest.approx(
        2.2 * np.log2(exposure.brightness(before.pixels / np.float32(255)) / exposure.USUAL),
        abs=0.02,
    )
    assert outcome.seconds > 0
    assert abs(after.pixels.astype(int) - 2 * before.pixels.astype(int)).mean() < 3
    assert after.metadata.xmp == before.metadata.xmp
    assert [path.name for path in Path("out").iterdir()] == ["b.jpg"]


def test_what_is_said(place):
    Path("a.png").write_bytes(Path("a.jpg").read_bytes())
    outcome = run("b.webp", "WEBP", "a.png")
    assert outcome.notes == ("its name says .png, it is JPEG",)
    assert outcome.lost == ("IPTC", "resolution", "comment")


def test_strip_and_quality(place):
    run("s.jpg", strip=True)
    run("q.jpg", strip=True, quality=30)
    assert b"Camera" not in Path("s.jpg").read_bytes()
    assert Path("q.jpg").stat().st_size < 0.6 * Path("s.jpg").stat().st_size


def test_auto_leaves_alone_what_is_not_dark(place):
    bright = np.clip(scene().astype(int) * 6, 0, 255).astype(np.uint8)
    Path("bright.png").write_bytes(png_bytes(bright))
    outcome = run("b.png", "PNG", "bright.png", auto=True)
    assert not outcome.written
    assert outcome.notes == ("not dark: left alone",)
    assert not Path("b.png").exists()
    assert run("c.jpg", auto=True).written


def test_compare_is_before_and_after_side_by_side(place):
    run("c.png", "PNG", compare=True)
    both, before = reader.from_file("c.png").pixels, reader.from_file("a.jpg").pixels
    gap = both.shape[1] - 2 * before.shape[1]
    assert gap == 2
    np.testing.assert_array_equal(both[:, :64], before)
    assert abs(both[:, 64 + gap :].astype(int) - 2 * before.astype(int)).max() <= 1
    assert both[:, 64 : 64 + gap].max() == 0


def test_nothing_is_overwritten_unless_allowed_itself_least(place):
    before = Path("a.jpg").read_bytes()
    with pytest.raises(InputError, match=r"^a\.jpg exists: .*--overwrite"):
        run("a.jpg")
    assert Path("a.jpg").read_bytes() == before
    assert run("a.jpg", overwrite=True).written
    assert reader.from_file("a.jpg").pixels.mean() > 1.5 * scene().mean()


@pytest.mark.parametrize("number", files.FULL)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(place, monkeypatch, number):
    Path("b.jpg").write_bytes(b"old")
    real = files.os.fsync

    def full(handle):
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match=r"^cannot write b\.jpg: No space left on device"):
        run("b.jpg", overwrite=True)
    monkeypatch.setattr(files.os, "fsync", real)
    assert Path("b.jpg").read_bytes() == b"old"
    assert sorted(path.name for path in place.iterdir()) == ["a.jpg", "b.jpg"]


def test_a_folder_without_rights_is_one_line(place, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InputError, match=r"^cannot create the folder new: Permission denied"):
        run("new/b.jpg")


def test_a_file_that_vanishes_in_between_is_one_line(place):
    Path("a.jpg").unlink()
    with pytest.raises(InputError, match=r"^a\.jpg does not exist"):
        run()


def test_a_folder_in_the_results_place(place):
    Path("b.jpg").mkdir()
    with pytest.raises(InputError, match=r"^b\.jpg is a folder"):
        run("b.jpg", overwrite=True)


def test_more_than_a_format_holds(place):
    Path("wide.png").write_bytes(png_bytes(np.full((16, 20000, 3), 9, np.uint8)))
    with pytest.raises(InputError, match=r"^w\.webp cannot be written as WEBP"):
        run("w.webp", "WEBP", "wide.png", restore=lambda low, there: low)


def test_the_longest_name_can_be_written(place):
    name = "n" * 251 + ".jpg"
    assert run(name).written


# --- exposure ------------------------------------------------------------------------------------


def test_brightness_by_hand():
    values = np.zeros((10, 10, 3), np.float32)
    values[:4] = (0.1, 0.2, 0.4)
    values[4:] = (0.9, 0.1, 0.1)
    assert exposure.brightness(values) == pytest.approx((0.9 * 0.4**0.4 * 0.9**0.6) ** 0.5)
    dark = np.full((9, 9, 3), exposure.USUAL / 2, np.float32)
    assert exposure.stops(dark) == pytest.approx(-2.2, abs=1e-3)
    assert exposure.is_dark(np.full((9, 9, 3), 0.2, np.float32))
    assert not exposure.is_dark(np.full((9, 9, 3), 0.4, np.float32))


def test_what_is_not_there_does_not_count():
    values = np.full((20, 20, 3), 0.9, np.float32)
    there = np.zeros((20, 20), bool)
    there[:10] = True
    values[:10] = 0.1
    assert exposure.brightness(values, there) == pytest.approx(0.1)


@pytest.mark.parametrize("sigma", [1, 4, 12])
def test_noise_is_estimated(sigma):
    smooth = np.tile(np.linspace(60, 150, 300)[:, None], (200, 1, 3))
    noisy = smooth + np.random.default_rng(0).normal(0, sigma, (200, 300, 1))
    estimate = exposure.noise((noisy / 255).astype(np.float32))
    assert estimate == pytest.approx(sigma, rel=0.1)


# --- kills ---------------------------------------------------------------------------------------


def test_litter_is_removed_when_it_is_old(place):
    for name in (".pdn-00000000.tmp", ".pdn-11111111.tmp", "mine.tmp"):
        Path(name).write_bytes(b"half")
    old = time.time() - 60
    os.utime(".pdn-00000000.tmp", (old, old))
    os.utime("mine.tmp", (old, old))
    job.remove_litter([place])
    assert sorted(p.name for p in place.glob(".*")) == [".pdn-11111111.tmp"]
    assert Path("mine.tmp").exists()


KENNEL = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import numpy as np
from pdn_jax.photos import job
from pdn_jax.photos.walk import Job

expected = [Path(name).read_bytes() for name in ("2.png", "3.png")]
chance, drafts = random.Random(0), 0
for _ in range(50):
    child = os.fork()
    if not child:
        os.fsync = lambda handle: time.sleep(0.1)  # a slow disk, so that kills meet a draft
        while True:
            for gain in (2, 3):
                job.run(Job(Path("a.png"), Path("out/b.png"), "PNG"),
                        lambda low, there: (gain * low).clip(0, 255), job.Options(overwrite=True))
    time.sleep(chance.uniform(0.02, 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert Path("out/b.png").read_bytes() in expected
    for draft in Path("out").glob(".pdn-*"):
        drafts += 1
        os.utime(draft, (0, 0))
    job.remove_litter([Path("out")])
    assert [path.name for path in Path("out").iterdir()] == ["b.png"]
print(drafts)
"""


@pytest.mark.slow
def test_fifty_random_kills_leave_a_whole_file_and_no_litter(place):
    """The old result or the new one at any moment; drafts go with the next run."""
    Path("a.png").write_bytes(png_bytes(scene(100, 150)))
    for gain in (2, 3):
        run(f"{gain}.png", "PNG", "a.png", times(gain))
    Path("out").mkdir()
    Path("out/b.png").write_bytes(Path("2.png").read_bytes())
    script = KENNEL.format(root=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
