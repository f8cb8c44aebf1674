"""The training program end to end: what it writes, resuming, refusing, stopping."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage
from tensorboard.backend.event_processing import plugin_event_accumulator as server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_survive import NETWORK

import pdn_jax
from configs import debug
from pdn_jax import cli, degradation, weights
from pdn_jax.types import InputError
from train import evaluate, loop, metrics, preemption
from train.data import calibrated_camera
from train.tools import prepare, report

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of three small smooth photographs, one of them to judge by."""
    folder = tmp_path_factory.mktemp("photographs")
    for split in ("train", "dev"):
        (folder / split).mkdir()
    y, x = np.mgrid[0:72, 0:80] / 72
    for index, name in enumerate("abc"):
        planes = [0.5 + 0.4 * np.sin(3 * y + (4 + index) * x + c) for c in range(3)]
        image = np.rint(255 * np.stack(planes, axis=-1)).astype(np.uint8)
        split = "dev" if name == "b" else "train"
        PILImage.fromarray(image).save(folder / split / f"{name}.png")
    return folder


def small(run_dir, photographs, **changes):
    """`configs/debug.py`, smaller still."""
    config = debug.get_config()
    config.run_dir = str(run_dir)
    config.data.sources = (("photos", "three", str(photographs)),)
    config.data.crop_size = 32
    config.model.change = NETWORK
    config.train.steps = 6
    config.eval.every = 3
    config.checkpoint.every = 3
    config.log.every = 1
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="session")
def finished(tmp_path_factory, photographs):
    """A run that went to its end."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    return loop.train(small(run_dir, photographs))


def rows(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_it_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.json",
        "data.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "weights.safetensors",
        "stages.png",
        "evaluation.csv",
    }
    assert json.loads((finished / "config.json").read_text())["model"]["variant"] == "tiny"
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"3", "6"}


def test_metrics_have_every_step_and_term(finished):
    found = rows(finished)
    assert [int(row["step"]) for row in found] == [1, 2, 3, 4, 5, 6]
    for name in (
        "loss",
        "restored",
        "negative",
        "balance/ratio",
        "balance/cosine",
        "learning_rate",
    ):
        assert all(np.isfinite(float(row[name])) for row in found), name
    evaluated = [int(row["step"]) for row in found if row["eval/psnr"]]
    assert evaluated == [3, 6]


def test_tensorboard_reads_the_scalars_and_images(finished):
    board = EventAccumulator(str(finished / "tensorboard")).Reload()
    losses = [event.value for event in board.Scalars("loss")]
    np.testing.assert_allclose(losses, [float(row["loss"]) for row in rows(finished)], rtol=1e-4)
    assert len(board.Images("pictures/stages")) == 2


def test_no_name_in_tensorboard_is_of_two_kinds(finished):
    """Its server shows none of such a name, neither the picture nor the curve."""
    tags = EventAccumulator(str(finished / "tensorboard")).Reload().Tags()
    kinds = [tags[kind] for kind in ("scalars", "images", "histograms")]
    assert all(kinds)
    assert len(set().union(*kinds)) == sum(map(len, kinds))
    board = server.EventAccumulator(str(finished / "tensorboard")).Reload()
    assert set(board.PluginTagToContent("images")) == {"pictures/stages"}
    assert "stages" in board.PluginTagToContent("scalars")


def exposures(run_dir):
    """Step -> how many exposures are in TensorBoard's histogram of it."""
    board = EventAccumulator(str(run_dir / "tensorboard"), {"histograms": 0}).Reload()
    return {e.step: sum(e.histogram_value.bucket) for e in board.Histograms("log_exposure")}


def test_tensorboard_reads_the_estimated_exposures(finished):
    assert exposures(finished) == dict.fromkeys(range(1, 7), 4)


def test_the_report_of_a_run(finished, tmp_path):
    out = tmp_path / "page.html"
    assert cli.explained(lambda: report.run([str(finished), "--out", str(out)])) == 0
    page = out.read_text()
    assert f"{float(rows(finished)[-1]['eval/psnr']):.2f} dB" in page
    for part in ("Balance: cosine", "Images per second", "data:image/jpeg", "this model"):
        assert part in page


def test_the_picture_has_a_row_for_each_pair(finished):
    with PILImage.open(finished / "stages.png") as picture:
        width, height = picture.size
    assert width > 7 * 160  # low, two stages, two levels, restored, truth
    assert height > 160


def test_the_table_agrees_with_the_weights(finished, photographs):
    """The csv's PSNR, computed again from the written weights and the run's own pairs."""
    with (finished / "evaluation.csv").open(newline="") as file:
        table = {(row["method"], row["photograph"]): row for row in csv.DictReader(file)}
    methods = {method for method, _ in table}
    assert methods == {"input", "gamma 0.45", "equalised", "this model"}
    last = rows(finished)[-1]
    assert float(table["this model", "mean"]["psnr"]) == pytest.approx(
        float(last["eval/psnr"]), abs=1e-3
    )


def test_the_weights_enhance_a_photo_of_any_size(finished, tmp_path):
    dark = np.random.default_rng(0).integers(0, 40, (45, 67, 3), dtype=np.uint8)
    PILImage.fromarray(dark).save(tmp_path / "dark.png")
    out = tmp_path / "bright.png"
    assert (
        cli.main(
            ["enhance", str(tmp_path / "dark.png"), "-o", str(out), "--weights", str(finished)]
        )
        == 0
    )
    with PILImage.open(out) as bright:
        assert bright.size == (67, 45)
        np.testing.assert_array_equal(np.asarray(bright), pdn_jax.enhance(dark, finished))


# --- resuming ----------------------------------------------------------------------------------


END_TO_END = """
import sys
from test_train import Path, loop, small
config = small(Path(sys.argv[1]), Path(sys.argv[2]))
config.parallel.strategy = "single"
loop.train(config)
"""


def test_two_trainings_leave_the_same_file(photographs, tmp_path):
    """Two processes, each by itself: RUN/weights.safetensors is the same, byte by byte."""
    hashes = []
    for name in ("one", "two"):
        command = [sys.executable, "-c", END_TO_END, str(tmp_path / name), str(photographs)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        content = (tmp_path / name / "weights.safetensors").read_bytes()
        hashes.append(hashlib.sha256(content).hexdigest())
    assert hashes[0] == hashes[1]


def stop_after_four(config, monkeypatch):
    """Train until step 4 is logged."""

    class Stopped(Exception):
        pass

    write = metrics.Metrics.write

    def stop_at_four(self, step, values):
        write(self, step, values)
        if step == 4:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(metrics.Metrics, "write", stop_at_four)
        with pytest.raises(Stopped):
            loop.train(config)


def test_resuming_is_as_if_it_never_stopped(finished, photographs, tmp_path, monkeypatch):
    """Stopped after step 4, resumed from the checkpoint at 3: same weights, bit for bit, same rows."""
    config = small(tmp_path / "run", photographs)
    stop_after_four(config, monkeypatch)
    assert [int(row["step"]) for row in rows(tmp_path / "run")] == [1, 2, 3, 4]
    config.resume = True
    loop.train(config)

    ours, theirs = weights.load(tmp_path / "run"), weights.load(finished)
    chex.assert_trees_all_equal(ours.params, theirs.params)
    for mine, other in zip(rows(tmp_path / "run"), rows(finished), strict=True):
        assert (mine["step"], mine["loss"], mine["eval/psnr"]) == (
            other["step"],
            other["loss"],
            other["eval/psnr"],
        )


def test_a_checkpoint_goes_on_with_another_number_of_devices(
    finished, photographs, tmp_path, monkeypatch, capsys
):
    """Written by four with pmap, gone on with by two with shard_map: the same weights, to rounding."""
    config = small(tmp_path / "run", photographs)
    stop_after_four(config, monkeypatch)
    assert "4 cpu device(s), pmap" in " ".join(capsys.readouterr().out.split())
    config.update_from_flattened_dict(
        {"resume": True, "parallel.strategy": "shard_map", "parallel.devices": 2}
    )
    loop.train(config)
    said = " ".join(capsys.readouterr().out.split())
    assert "2 cpu device(s), shard_map" in said
    assert "resumed at step 3" in said
    ours, theirs = weights.load(tmp_path / "run"), weights.load(finished)
    chex.assert_trees_all_close(ours.params, theirs.params, atol=1e-4)
    for mine, other in zip(rows(tmp_path / "run"), rows(finished), strict=True):
        assert float(mine["loss"]) == pytest.approx(float(other["loss"]), rel=2e-4)


def test_an_evaluation_that_a_stop_dropped_is_made_up_for(photographs, tmp_path, monkeypatch):
    """Told to stop in that of step 4: done when the run goes on. The best is kept, saved or not due."""
    changes = {"eval.every": 2, "checkpoint.every": 5, "checkpoint.keep": 2}
    config = small(tmp_path / "run", photographs, **changes)
    evaluation = loop.evaluation

    def dropped(config, step, *more):
        return {} if step == 4 else evaluation(config, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluation", dropped)
        with pytest.raises(preemption.Stopped, match="after step 4 of 6, with a checkpoint"):
            loop.train(config)
    assert len(rows(tmp_path / "run")) == 4
    assert not rows(tmp_path / "run")[-1]["eval/psnr"]
    config.resume = True
    loop.train(config)
    judged = {int(row["step"]): row["eval/psnr"] for row in rows(tmp_path / "run")}
    assert [step for step, psnr in judged.items() if psnr] == [2, 4, 6]
    assert list(judged) == [1, 2, 3, 4, 5, 6]
    best = max((2, 4, 6), key=lambda step: float(judged[step]))
    kept = {int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()}
    assert kept == {5, 6, best}


def test_a_watched_run(photographs, tmp_path, monkeypatch, wandb, capsys):
    """Stopped after step 4 and resumed at 3: on in the same run elsewhere, steps 13 to 18 profiled."""
    run_dir = tmp_path / "run"
    changes = {"log.wandb": "dark", "log.profile": True, "train.steps": 19, "log.every": 4}
    config = small(run_dir, photographs, **changes)
    stop_after_four(config, monkeypatch)
    assert "no profile: the run ended before step 10" in capsys.readouterr().out
    config.resume = True
    loop.train(config)

    assert f"a profile of steps 13 to 18 is in {run_dir / 'profile'}" in capsys.readouterr().out
    assert len(list(run_dir.glob("profile/**/*.xplane.pb"))) == 1
    saved, logged = {3: 12, 6: 8, 9: 4, 12: 12, 15: 12, 18: 8}, {4: 4, 8: 8, 16: 4, 19: 4}
    assert exposures(run_dir) == saved | logged  # each image of 19 steps once
    begun = [call[1] for call in wandb.calls if call[0] == "init"]
    assert [call["project"] for call in begun] == ["dark", "dark"]
    assert begun[0]["id"] == begun[1]["id"]
    assert begun[1]["config"]["train"]["steps"] == 19
    assert [call[1] for call in wandb.calls if call[0] == "finish"] == [1, 0]
    logged = {}
    for _, step, values in (call for call in wandb.calls if call[0] == "log"):
        logged[step] = logged.get(step, {}) | values
    assert {"loss", "log_exposure", "balance/cosine"} <= set(logged[16])
    assert {"pictures/stages", "stages", "eval/psnr"} <= set(logged[18])
    for row in rows(run_dir):
        for name in ("loss", "balance/ratio", "eval/ssim"):
            if row[name]:
                assert logged[int(row["step"])][name] == pytest.approx(float(row[name]), rel=1e-5)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """Pairs, brackets and photographs, built, and a calibration of two of the pairs."""
    root, rng = tmp_path_factory.mktemp("mixture"), np.random.default_rng(2)
    y, x = np.mgrid[0:48, 0:56] / 48

    def picture(seed, divisor=1):
        planes = [0.5 + 0.4 * np.sin((3 + seed) * y + 5 * x + c + seed) for c in range(3)]
        noise = rng.normal(0, 2, (48, 56, 3)) if divisor > 1 else 0
        return np.clip(255 * np.stack(planes, axis=-1) / divisor + noise, 0, 255).astype(np.uint8)

    files = {f"photos/train/{i}.png": picture(i) for i in range(3)}
    for i in range(4):
        split = "dev" if i == 3 else "train"
        files |= {f"pairs/{split}/low/{i}.png": picture(i, 12)}
        files |= {f"pairs/{split}/gt/{i}.png": picture(i)}
        files |= {f"brackets/{split}/{i}/{d}.png": picture(i, d) for d in (12, 6, 3, 1)}
    for path, image in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(image).save(root / path)
    for kind, name in (("paired", "pairs"), ("brackets", "brackets"), ("photos", "photos")):
        where = ["--source", str(root / name), "--data-dir", str(root / "built")]
        prepare.run([kind, *where, "--name", name])
    theta = degradation.neutral_physics(jnp.asarray(0.05))
    theta = theta.replace(shot_noise=jnp.asarray(1e-4), read_noise=jnp.asarray(1e-7))
    fits = [calibrated_camera.Fit(f"pairs/train/{i}", theta, {}) for i in range(2)]
    calibrated_camera.save(root / "cam.json", fits, data=["pairs"], split="train", window=0)
    return root


def mixed(run_dir, mixture, **changes):
    config = debug.get_config()
    config.update_from_flattened_dict(
        {
            "run_dir": str(run_dir),
            "data.directory": str(mixture / "built"),
            "data.mixture": (("pairs", 0.4), ("brackets", 0.3), ("photos", 0.3)),
            "data.physics": str(mixture / "cam.json"),
            "data.crop_size": 32,
            "model.change": NETWORK,
            "train.batch_size": 8,
            "data.final_size": 48,
            "data.final_fraction": 0.4,
            "data.grain": 0.4,
            "data.wide": 0.5,
            "data.jpeg": 0.5,
            "augment.probability": 0.5,
            "augment.scaled": 0.5,
            "train.steps": 6,
            "eval.every": 6,
            "checkpoint.every": 3,
            "log.every": 1,
        }
        | changes
    )
    return config


def test_a_mixture_with_everything_resumes_bit_for_bit(mixture, tmp_path, monkeypatch):
    """Pairs with and without θ, brackets, photographs, JPEG, larger crops at the end: stopped at 4,
    on from 3, with workers."""
    whole = weights.load(loop.train(mixed(tmp_path / "whole", mixture)))
    config = mixed(tmp_path / "part", mixture, **{"data.workers": 2})
    stop_after_four(config, monkeypatch)
    config.resume = True
    chex.assert_trees_all_equal(weights.load(loop.train(config)).params, whole.params)
    assert all(np.isfinite(float(row["negative"])) for row in rows(tmp_path / "part"))


def test_evaluation_of_a_built_set(mixture, finished, tmp_path, capsys):
    out = tmp_path / "table.csv"
    evaluate.run(
        [
            *("--weights", str(finished), "--data", "brackets", "--split", "dev"),
            *("--data-dir", str(mixture / "built"), "--out", str(out)),
        ]
    )
    with out.open(newline="") as file:
        names = [row["photograph"] for row in csv.DictReader(file)]
    assert names[:3] == [f"dev/3 {divisor}.png" for divisor in (12, 6, 3)]
    built = ["--data", "brackets", "--data-dir", str(mixture / "built")]
    code, error = explain(["--weights", str(finished), *built], capsys)
    assert (code, "brackets has no split 'test'" in error, "\n" in error) == (2, True, False), error
    code, error = explain(["--weights", str(finished)], capsys)
    assert (code, "name either --data, or both" in error) == (2, True)


def test_an_existing_run_is_not_overwritten(finished, photographs, capsys):
    before = (finished / "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"exists; go on with --config\.resume=true"):
        loop.train(small(finished, photographs))
    assert (finished / "weights.safetensors").read_bytes() == before


def test_resuming_with_other_options_is_refused(finished, photographs):
    config = small(finished, photographs, **{"train.weight_decay": 0.5})
    config.resume = True
    with pytest.raises(InputError, match=r"train\.weight_decay: 0\.0001 there, 0\.5 here"):
        loop.train(config)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_of_something_else_is_not_resumed(photographs, tmp_path, content):
    """Nor overwritten: it has no config, or half of one."""
    (tmp_path / "weights.safetensors").write_text("mine")
    if content:
        (tmp_path / "config.json").write_text(content)
    config = small(tmp_path, photographs)
    config.resume = True
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        loop.train(config)
    assert (tmp_path / "weights.safetensors").read_text() == "mine"


# --- starting from weights, diverging ----------------------------------------------------------


def test_a_run_starts_from_given_weights(finished, photographs, tmp_path):
    config = small(tmp_path / "run", photographs, **{"train.learning_rate": 0.0, "train.steps": 1})
    config.model.weights = str(finished)
    ours = weights.load(loop.train(config)).params
    chex.assert_trees_all_close(ours, weights.load(finished).params, atol=1e-7)


def test_weights_of_another_variant_are_refused(finished, photographs, tmp_path):
    config = small(tmp_path / "run", photographs)
    config.model.variant = "small"
    config.model.weights = str(finished)
    with pytest.raises(InputError, match=r"tiny.*small|small.*tiny"):
        loop.train(config)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(photographs, tmp_path, monkeypatch):
    """At its step, with its terms and the last checkpoint that is good; from there it can go on."""
    changes = {"log.every": 100, "train.steps": 8, "checkpoint.every": 1}
    config = small(tmp_path / "run", photographs, **changes)
    check = loop.check_finite

    def broken(step, scalars, *more):
        if step == 5:
            scalars = scalars | {"structure": jnp.asarray(jnp.nan)}
        return check(step, scalars, *more)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "check_finite", broken)
        with pytest.raises(
            loop.Diverged,
            match=r"step 5 .*structure nan; .*three/train/a.png.*checkpoints/3, those",
        ):
            loop.train(config)
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert "3" in names
    assert not names & {"4", "5"}
    config.resume = True
    config.train.learning_rate = 1e-4
    assert (loop.train(config) / "weights.safetensors").exists()


def test_a_learning_rate_beyond_reason_ends_in_one_line(photographs, tmp_path, capsys):
    changes = {"train.learning_rate": 1e30, "train.warmup": 0.0, "checkpoint.every": 1}
    config = small(tmp_path / "run", photographs, **changes)
    assert cli.explained(lambda: loop.train(config) and 0) == 2
    error = capsys.readouterr().err.strip()
    assert "is not finite" in error
    assert "learning_rate" in error
    assert "\n" not in error


def test_the_operation_that_went_wrong_is_found(photographs, tmp_path, capsys):
    """The same run, looked at step by step: which operation, where; which photographs."""
    changes = {"train.learning_rate": 1e30, "train.warmup": 0.0, "checkpoint.every": 1}
    config = small(tmp_path / "run", photographs, **changes, **{"debug.nan": True})
    assert cli.explained(lambda: loop.train(config) and 0) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(
        r"step \d is not finite: .*; its batch: (three/train/[ac].png(, )?){4}; ", error
    ), error
    assert re.search(r"(nan|inf).* at pdn_jax/\w+\.py:\d+, in \w+", error), error


# --- evaluation --------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("one", "two"):
        normal = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        for folder, image in (("low", normal // 6), ("normal", normal)):
            (tmp_path / folder).mkdir(exist_ok=True)
            PILImage.fromarray(image).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def command(finished, pairs, *more):
    return [
        *("--weights", str(finished), "--low", str(pairs / "low")),
        *("--normal", str(pairs / "normal"), "--out", str(pairs / "table.csv"), *more),
    ]


def test_evaluation_of_folders(finished, pairs, capsys):
    """The written numbers are scikit-image's."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    evaluate.run(command(finished, pairs))
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert printed.index("psnr") < printed.index("gt-mean-psnr")
    with (pairs / "table.csv").open(newline="") as file:
        table = {row["photograph"]: row for row in csv.DictReader(file)}
    for name in ("one", "two"):
        low, truth = (
            np.asarray(PILImage.open(pairs / folder / f"{name}.png"), np.float32) / 255
            for folder in ("low", "normal")
        )
        result = np.clip(pdn_jax.enhance(low, finished), 0, 1)
        wanted = peak_signal_noise_ratio(truth, result, data_range=1)
        assert float(table[name]["psnr"]) == pytest.approx(wanted, abs=1e-4)
        wanted = structural_similarity(
            truth,
            result,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1,
            data_range=1,
        )
        assert float(table[name]["ssim"]) == pytest.approx(wanted, abs=1e-4)
        assert float(table[name]["gt_mean_psnr"]) != float(table[name]["psnr"])
    mean = (float(table["one"]["psnr"]) + float(table["two"]["psnr"])) / 2
    assert float(table["mean"]["psnr"]) == pytest.approx(mean, abs=1e-4)
    assert float(table["interval low"]["psnr"]) <= mean <= float(table["interval high"]["psnr"])


def test_evaluation_writes_beside_the_weights(finished, pairs, tmp_path, capsys):
    """Without --out, and not over the table that training left."""
    before = (finished / "evaluation.csv").read_bytes()
    evaluate.run(command(finished, pairs)[:-2])
    (finished / "evaluation-low.csv").unlink()
    assert (finished / "evaluation.csv").read_bytes() == before


def test_shipped_weights_are_judged_by_name_and_nothing_is_put_beside_them(pairs, monkeypatch):
    monkeypatch.chdir(pairs)
    folders = ["--low", "low", "--normal", "normal"]
    evaluate.run(["--weights", "tiny", *folders])
    by_name = (pairs / "evaluation-low.csv").read_bytes()
    evaluate.run(["--weights", str(weights.FOLDER / "tiny"), *folders, "--overwrite"])
    assert (pairs / "evaluation-low.csv").read_bytes() == by_name


@pytest.mark.parametrize("out", ["/proc/table.csv", ".", "nowhere/table.csv"])
def test_evaluation_needs_a_place_to_write(finished, pairs, capsys, monkeypatch, out):
    monkeypatch.chdir(pairs)
    code, error = explain([*command(finished, pairs)[:-1], out, "--overwrite"], capsys)
    assert (code, out in error or "/proc" in error, "\n" in error) == (2, True, False)


def explain(argv, capsys):
    code = cli.explained(lambda: evaluate.run(argv))
    return code, capsys.readouterr().err.strip()


def test_evaluation_does_not_overwrite(finished, pairs, capsys):
    (pairs / "table.csv").write_text("mine")
    code, error = explain(command(finished, pairs), capsys)
    assert (code, "table.csv exists" in error, "\n" in error) == (2, True, False)
    assert (pairs / "table.csv").read_text() == "mine"


def test_evaluation_names_a_missing_partner(finished, pairs, capsys):
    (pairs / "normal" / "two.png").unlink()
    code, error = explain(command(finished, pairs), capsys)
    assert (code, "two" in error, "\n" in error) == (2, True, False)
    assert not (pairs / "table.csv").exists()


def test_evaluation_names_a_pair_of_two_sizes(finished, pairs, capsys):
    PILImage.new("RGB", (50, 40)).save(pairs / "normal" / "one.png")
    code, error = explain(command(finished, pairs), capsys)
    assert (code, "one.png" in error, "\n" in error) == (2, True, False)
    assert not (pairs / "table.csv").exists()
