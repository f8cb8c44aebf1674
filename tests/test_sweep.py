"""Studies: what is run, how arms are compared, what is written; no training is done here."""

import csv
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pdn_jax import cli
from train import evaluate
from train.config import parse
from train.tools import ablation

NAMES = [f"dark/dev/{i}" for i in range(6)] + [f"hdr/dev/{i}" for i in range(4)]


def finished(run_dir, psnr, ssim, names=NAMES):
    """A run folder with the table that `train.evaluate` writes, beside another method's."""
    run_dir.mkdir(parents=True, exist_ok=True)
    values = np.stack([psnr, ssim, psnr, ssim], axis=-1)
    scores = evaluate.Scores(tuple(names), values, tuple(range(len(names))))
    evaluate.write_table(run_dir / "evaluation.csv", {"input": scores, ablation.METHOD: scores})


@pytest.fixture
def trainings(monkeypatch):
    """Commands that would have been run; each leaves a run whose scores its options decide."""
    commands = []

    def fake(command, stdout, stderr):
        options = dict(part[9:].split("=", 1) for part in command if part.startswith("--config."))
        commands.append(options | {"config": command[command.index("--config") + 1]})
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

    monkeypatch.setattr(ablation.subprocess, "run", fake)
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


@pytest.mark.parametrize(
    ("seed", "scene", "rest", "count"),
    [(1.0, 0.0, 0.3, 10), (1.0, 1.0, 1.0, 52), (1.0, 3.0, 1.0, 52), (0.3, 1.0, 1.0, 52)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(seed, scene, rest, count):
    """Three seeds, scenes of one to three frames, no effect: 0 is inside in 95 of 100 draws."""
    rng, draws, inside = np.random.default_rng(0), 400, 0
    scenes = np.arange(count) % 19
    for _ in range(draws):
        by_scene = scene * rng.normal(size=19)[scenes]
        apart = seed * rng.normal(size=(3, 1)) + by_scene + rest * rng.normal(size=(3, count))
        found = ablation.difference(apart, np.zeros_like(apart), scenes)
        inside += found.low <= 0.0 <= found.high
    assert 0.90 <= inside / draws <= 0.985


def test_one_seed_leaves_the_interval_of_the_scenes():
    """Student's t over scenes; frames of one scene count once when they agree."""
    apart, scenes = np.random.default_rng(0).normal(0.5, 1.0, 12), np.arange(12)
    found = ablation.difference(apart[None], np.zeros((1, 12)), scenes)
    low, high = stats.t.interval(0.95, 11, apart.mean(), apart.std(ddof=1) / 12**0.5)
    np.testing.assert_allclose(found, (apart.mean(), low, high))
    twice = ablation.difference(np.tile(apart, 2)[None], np.zeros((1, 24)), np.tile(scenes, 2))
    np.testing.assert_allclose(twice, found)
    assert ablation.difference(apart[None], apart[None], scenes) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ablation.STUDIES)
def test_every_arm_is_a_config_that_trains(name):
    for changes in ablation.STUDIES[name].values():
        settings = [f"--config.{key}={value}" for key, value in changes.items()]
        config = parse(["--config", "configs/study.py", *settings])
        for key, value in changes.items():
            section, option = key.split(".")
            assert config[section][option] == value


def test_a_run_that_fails_is_named(tmp_path, monkeypatch, capsys):
    def fail(command, stdout, stderr):
        stdout.write("pdn_jax: error: no data set 'eliei'\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(ablation.subprocess, "run", fail)
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
