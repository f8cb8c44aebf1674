"""pdn_jax.files: the old file or the new one at any moment."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from pdn_jax import files

ROOT = Path(__file__).parents[1]


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("one", "größer"):
        files.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with files.atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_while_it_is_written_the_old_file_is_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_draft_of_the_longest_name_fits(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    files.write_text(path, "x")
    assert path.exists()


def test_drafts_that_a_kill_left_are_removed(tmp_path):
    (tmp_path / f"{files.DRAFT}12ab34cd.tmp").write_text("half")
    (tmp_path / "mine.tmp").write_text("whole")
    files.remove_drafts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.tmp"]


def test_a_full_disk_is_seen_among_the_causes():
    outer = RuntimeError("write failed")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device", "x")
    assert files.disk_full(outer) == "No space left on device: x"
    assert files.disk_full(RuntimeError("else")) == ""


def test_a_draft_that_is_being_written_is_no_litter(tmp_path):
    """Another process tries while this one is in the middle of its file."""
    code = f"from pdn_jax import files; files.remove_drafts({str(tmp_path)!r})"
    (tmp_path / f"{files.DRAFT}12ab34cd.tmp").write_text("half")
    with files.atomic_write(tmp_path / "a.txt") as file:
        file.write(b"new")
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"
