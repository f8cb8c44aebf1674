"""The comparison of candidates: every row measured and trained once, none twice."""

import argparse
import csv

import pytest

from benchmarks import candidates
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError

SMALL = candidates.candidate(8, (8, 8), (1, 0), (4, 4))


@pytest.fixture
def two(monkeypatch):
    """Two small candidates."""
    monkeypatch.setattr(candidates, "CANDIDATES", {"a": SMALL, "b, wide": SMALL | {"width": 16}})
    monkeypatch.setattr(candidates, "SIZE", (16, 24))
    monkeypatch.setattr(candidates, "VARIANTS", VARIANTS.copy())
    monkeypatch.setattr("train.build.VARIANTS", candidates.VARIANTS)
    monkeypatch.setattr("benchmarks.count.VARIANTS", candidates.VARIANTS)


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_a_table_is_made_and_added_to(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(candidates, "step_seconds", lambda configs, _: dict.fromkeys(configs, 30.0))
    out = tmp_path / "table.csv"
    common = f"--mixture packaged:1 --dev packaged --minutes 1 --crop 32 --batch 4 --repeats 1 --out {out}"
    command = [*common.split(), "--runs", str(tmp_path / "runs"), "--only"]
    candidates.main([*command, "a"])
    candidates.main([*command, "a", "b, wide"])
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == ["a", "b, wide"]
    assert [row["steps"] for row in rows] == ["2", "2"]
    assert int(rows[1]["parameters"]) > int(rows[0]["parameters"])
    assert all(5 < float(row["packaged PSNR"]) < 50 for row in rows)
    assert "b, wide" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_are_timed_on_real_batches(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", SMALL)
    options = argparse.Namespace(
        data_dir="", mixture=[("packaged", 1.0)], crop=32, batch=2, dev=["packaged"]
    )
    config = candidates.configured(options, "tiny", "nowhere")
    assert 0 < candidates.step_seconds({"tiny": config}, 1)["tiny"] < 60


def test_bad_options_are_refused():
    with pytest.raises(argparse.ArgumentTypeError, match="lol"):
        candidates.weighted("lol")
    assert candidates.weighted("lol:0.5") == ("lol", 0.5)
    with pytest.raises(InputError, match="--minutes is 0"):
        candidates.main(["--mixture", "a:1", "--dev", "a", "--minutes", "0"])


def test_what_would_fail_after_hours_is_refused_first(tmp_path):
    common = ["--mixture", "packaged:1", "--minutes", "1", "--dev"]
    with pytest.raises(InputError, match="nowhere"):
        candidates.main([*common, "packaged", "nowhere"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        candidates.main([*common, "packaged", "--out", str(tmp_path / "file" / "table.csv")])
    out = tmp_path / "table.csv"
    out.write_text("candidate\n")
    with pytest.raises(InputError, match="was made with other options"):
        candidates.main([*common, "packaged", "--out", str(out)])
