"""Sweeps and studies: what is run, how arms are compared, what is written; no training is done here."""

import csv
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

from pdn_jax import cli
from train import evaluate
from train.config import parse
from train.tools import ablation, comparison, sweep

NAMES = [f"dark/dev/{i}" for i in range(6)] + [f"hdr/dev/{i}" for i in range(4)]


def finished(run_dir, psnr, ssim, names=NAMES):
    """A run folder with the table that `train.evaluate` writes, beside another method's."""
    run_dir.mkdir(parents=True, exist_ok=True)
    values = np.stack([psnr, ssim, psnr, ssim], axis=-1)
    scores = evaluate.Scores(tuple(names), values, tuple(range(len(names))))
    evaluate.write_table(run_dir / "evaluation.csv", {"input": scores, comparison.METHOD: scores})


@pytest.fixture
def trainings(monkeypatch):
    """Commands that would have been run; each leaves a run whose scores its options decide."""
    commands = []

    def fake(command, stdout, stderr, env):
        options = dict(part[9:].split("=", 1) for part in command if part.startswith("--config."))
        commands.append(
            options
            | {"device": env.get("CUDA_VISIBLE_DEVICES")}
            | {"config": command[command.index("--config") + 1]}
        )
        Path(options["run_dir"]).mkdir(parents=True)
        config = parse(command[command.index("--config") :])
        (Path(options["run_dir"]) / "config.json").write_text(config.to_json_best_effort())
        seed = float(options["seed"])
        worse = 1.0 if options.get("loss.balance") == "positive_only" else 0.0
        finished(
            Path(options["run_dir"]),
            20.0 + np.arange(10.0) + seed - worse,
            0.7 + 0.01 * np.arange(10.0) - 0.1 * worse,
        )
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(sweep.subprocess, "run", fake)
    return commands


def command(tmp_path, *more):
    return ["claims", "--config", "configs/study.py", "--out", str(tmp_path / "out"), *more]


def test_every_arm_is_run_with_every_seed_and_the_differences_are_found(tmp_path, trainings):
    ablation.run(command(tmp_path, "--seeds", "2", "--jobs", "2", "--config.train.steps=7"))
    arms = ablation.STUDIES["claims"]
    assert len(trainings) == 2 * len(arms)
    assert {c["seed"] for c in trainings} == {"0", "1"}
    assert all(c["train.steps"] == "7" and c["resume"] == "true" for c in trainings)
    with (tmp_path / "out/study.csv").open(newline="") as file:
        rows = {(row["arm"], row["data"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * len(arms)
    worse = rows["no negative direction", "dark"]
    assert float(worse["psnr difference mean"]) == pytest.approx(-1.0)
    assert float(worse["ssim difference high"]) == pytest.approx(-0.1)
    assert float(worse["psnr"]) == pytest.approx(20.5 + 2.5 - 1.0)
    same = rows["fixed weight", "hdr"]
    assert float(same["psnr difference low"]) == float(same["psnr difference high"]) == 0.0
    assert (tmp_path / "out/study.png").stat().st_size > 5000


def test_what_is_finished_is_not_run_again(tmp_path, trainings):
    ablation.run(command(tmp_path, "--seeds", "1"))
    count = len(trainings)
    ablation.run(command(tmp_path, "--seeds", "2"))
    assert len(trainings) == 2 * count


def test_runs_of_other_options_are_not_taken_for_these(tmp_path, trainings, capsys):
    ablation.run(command(tmp_path, "--seeds", "1", "--config.train.steps=7"))
    count = len(trainings)
    again = command(tmp_path, "--seeds", "1", "--config.train.steps=8")
    assert cli.explained(lambda: ablation.run(again)) == 2
    said = capsys.readouterr().err
    assert "dynamic-balance-0 is a run of other options (train.steps: 7 there, 8 here)" in said
    assert len(trainings) == count


def test_a_run_that_fails_is_named(tmp_path, monkeypatch, capsys):
    def fail(command, stdout, stderr, env):
        stdout.write("pdn_jax: error: no data set 'eliei'\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(sweep.subprocess, "run", fail)
    assert cli.explained(lambda: ablation.run(command(tmp_path))) == 2
    said = capsys.readouterr().err
    assert said.startswith("pdn_jax: error: 'dynamic balance', seed 0, stopped with 2")
    assert "no data set 'eliei'" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seeds", "0"], "--seeds 0"),
        (["--config.train.stepz=1"], "stepz"),
        (["x"], "'x'"),
        (["--config.seed=5"], "--config.seed=5 is what the study itself sets"),
        (["--config.loss.balance=fixed"], "--config.loss.balance=fixed is what"),
    ],
)
def test_bad_options_stop_before_any_training(tmp_path, trainings, capsys, more, said):
    assert cli.explained(lambda: ablation.run(command(tmp_path, *more))) == 2
    assert said in capsys.readouterr().err
    assert not trainings


def test_runs_of_other_photographs_are_not_mixed(tmp_path, trainings, capsys):
    ablation.run(command(tmp_path, "--seeds", "1"))
    finished(tmp_path / "out/one-stage-0", np.ones(10), np.ones(10), [f"x/{i}" for i in range(10)])
    assert cli.explained(lambda: ablation.run(command(tmp_path, "--seeds", "1"))) == 2
    assert "other photographs" in capsys.readouterr().err


@pytest.mark.parametrize("name", ablation.STUDIES)
def test_every_arm_is_a_config_that_trains(name):
    for changes in ablation.STUDIES[name].values():
        settings = [f"--config.{key}={value}" for key, value in changes.items()]
        config = parse(["--config", "configs/study.py", *settings])
        for key, value in changes.items():
            section, option = key.split(".")
            assert config[section][option] == value


# --- grids ---------------------------------------------------------------------------------------


def swept(tmp_path, *more):
    grid = ["--grid", "loss.balance=fixed,positive_only", "data.crop_size=64,96"]
    return [*grid, "--config", "configs/study.py", "--out", str(tmp_path / "out"), *more]


def test_every_point_of_a_grid_is_run_and_compared_with_the_first(tmp_path, trainings):
    sweep.run(swept(tmp_path, "--seeds", "2"))
    points = [(c["loss.balance"], c["data.crop_size"], c["seed"]) for c in trainings]
    assert points[:4] == [
        *(("fixed", "64", "0"), ("fixed", "96", "0")),
        *(("positive_only", "64", "0"), ("positive_only", "96", "0")),
    ]
    assert len(set(points)) == 8
    with (tmp_path / "out/sweep.csv").open(newline="") as file:
        rows = {(row["arm"], row["data"]): row for row in csv.DictReader(file)}
    worse = rows["balance=positive_only crop_size=96", "dark"]
    assert float(worse["psnr difference mean"]) == pytest.approx(-1.0)
    assert (tmp_path / "out/sweep.png").stat().st_size > 5000
    sweep.run(swept(tmp_path, "--seeds", "3"))
    assert len(trainings) == 12


def test_points_are_named_by_what_tells_them_apart():
    assert list(sweep.grid_of(["data.cast=0,1"])) == ["cast=0", "cast=1"]
    assert list(sweep.grid_of(["data.cast=0,1", "eval.cast=2"])) == [
        *("data.cast=0 eval.cast=2", "data.cast=1 eval.cast=2")
    ]


def test_a_run_at_a_time_on_each_device(tmp_path, trainings):
    sweep.run(swept(tmp_path, "--seeds", "2", "--devices", "0", "3"))
    assert {c["device"] for c in trainings} == {"0", "3"}
    assert len(trainings) == 8


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a", ["a"]),
        ("1,2.5", ["1", "2.5"]),
        ("(1,2),(3,)", ["(1,2)", "(3,)"]),
        ("('a:b',0.1),()", ["('a:b',0.1)", "()"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_values_are_split_outside_of_brackets(text, values):
    assert sweep.split_values(text) == values


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (["loss.balanse=fixed,uncertainty"], "did you mean --config.loss.balance?"),
        (["loss.balance=fixed,uncertain"], "loss.balance is 'uncertain'; expected one of"),
        (["loss.balance=fixed,no_lab:mine"], "loss.balance: there is no module 'no_lab'"),
        (["data.crop_size=64,65"], "data.crop_size is 65; expected a multiple of 8"),
        (["data.crop_size=64,many"], "many"),
        (["loss.balance=fixed"], "one point"),
        (["loss.balance"], "expected key=value,value"),
        (["loss.balance=fixed,"], "expected key=value,value"),
        (["loss.balance=fixed,fixed"], "a value is there twice"),
        (["loss.weight=1,2", "loss.weight=2"], "a value is there twice"),
        (["seed=1,2"], "seed is what the study itself sets"),
        (["loss.weight=1,2", "--jobs", "2", "--devices", "0"], "leave --jobs out"),
    ],
)
def test_a_bad_grid_is_one_line_before_any_training(tmp_path, trainings, capsys, grid, said):
    words = ["--grid", *grid, "--config", "configs/study.py", "--out", str(tmp_path / "out")]
    assert cli.explained(lambda: sweep.run(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not trainings
