"""Compiled programs on disk: whole or missing, bounded, nobody else's, and no reason to stop."""

import os
import threading

import pytest

from pdn_jax import cache
from pdn_jax.cache import Cache


def test_what_was_written_is_read(tmp_path):
    first, second = Cache(tmp_path / "a" / "b"), Cache(tmp_path / "a" / "b")
    assert first.read("one") is None
    first.write("one", b"content")
    assert second.read("one") == b"content"
    assert Cache(None).read("one") is None
    Cache(None).write("one", b"content")


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_entry_counts_as_missing_and_is_replaced(tmp_path, damage):
    kept = Cache(tmp_path)
    kept.write("one", b"content")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?" if damage is None else damage)
    assert kept.read("one") is None
    kept.write("one", b"content")
    assert kept.read("one") == b"content"


def test_what_was_not_used_for_longest_goes(tmp_path):
    kept = Cache(tmp_path, limit=3 * (cache.DIGEST + 100))
    for age, name in enumerate("abc"):
        kept.write(name, bytes(100))
        os.utime(tmp_path / (name + cache.SUFFIX), (age, age))
    assert kept.read("a") is not None  # and is the newest now
    kept.write("d", bytes(100))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_a_disk_that_refuses_is_said_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    kept = Cache(tmp_path / "file" / "folder")
    for name in "ab":
        kept.write(name, b"content")
    (record,) = caplog.records
    assert str(tmp_path / "file") in record.getMessage()
    assert cache.VARIABLE in record.getMessage()
    assert "\n" not in record.getMessage()
    assert kept.read("a") is None


def test_a_full_disk_is_said_once(tmp_path, caplog, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "atomic_write", full)
    kept = Cache(tmp_path)
    kept.write("a", b"content")
    kept.write("b", b"content")
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()


def test_writers_side_by_side(tmp_path):
    def write():
        for _ in range(20):
            Cache(tmp_path, limit=2000).write("one", bytes(500))
            assert Cache(tmp_path).read("one") in (None, bytes(500))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Cache(tmp_path).read("one") == bytes(500)
    assert len(list(tmp_path.iterdir())) == 1


def test_one_variable_names_the_folder_or_turns_it_off(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert cache.default().folder == tmp_path
    monkeypatch.setenv(cache.VARIABLE, "Off")
    assert cache.default().folder is None
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default().folder.parts[-2:] == ("pdn_jax", "programs")


def test_names_depend_on_the_program_the_flags_and_the_machine(monkeypatch):
    names = {cache.name("render", 1), cache.name("render", 2)}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    names.add(cache.name("render", 1))
    monkeypatch.setattr(cache, "_build", lambda: ("another version",))
    names.add(cache.name("render", 1))
    assert len(names) == 4


def test_the_machine_is_its_processor_and_cores():
    facts = " ".join(cache.machine())
    assert "cores" in facts
    if os.path.exists("/proc/cpuinfo"):
        assert "flags" in facts or "Features" in facts or "isa" in facts
