"""Scores: equal photographs, pairs of folders, and what a command line may name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from configs import base
from pdn_jax.types import InputError
from train import evaluate

ROOT = Path(__file__).parents[1]
BLACK = np.zeros((24, 32, 3), np.float32)


def noisy(sigma):
    noise = np.random.default_rng(0).normal(0.0, sigma, BLACK.shape)
    return np.clip(0.5 + noise, 0.0, 1.0).astype(np.float32)


def test_equal_photographs_count_60_db_and_leave_a_mean():
    """A black pair: the input is its own truth, and every number of the table stays finite."""
    pairs = [("black", BLACK, BLACK), ("grey", BLACK + 0.4, BLACK + 0.5)]
    for name, method in evaluate.BASELINES.items():
        scores = evaluate.score(method, pairs)
        assert np.isfinite(scores.values).all(), name
        assert np.isfinite([scores.mean("psnr"), *scores.interval("psnr")]).all(), name
    scores = evaluate.score(evaluate.BASELINES["input"], pairs)
    psnr, gt_mean = (scores.values[:, evaluate.COLUMNS.index(c)] for c in ("psnr", "gt_mean_psnr"))
    np.testing.assert_allclose(psnr, [evaluate.LIMIT, 20.0], atol=1e-3)  # 10·log10(1 / 0.1²)
    np.testing.assert_allclose(gt_mean, evaluate.LIMIT)  # grey by its mean is its truth as well
    assert scores.mean("psnr") == pytest.approx(40.0, abs=1e-3)


@pytest.mark.parametrize(
    ("scenes", "known"), [((0, 0, 0), False), ((0, 1, 1), False), ((0, 1, 2), True)]
)
def test_an_interval_is_shown_of_three_scenes_or_more(scenes, known):
    values = np.array([[20.0, 0.5, 22.0, 0.6], [21.0, 0.6, 23.0, 0.7], [24.0, 0.9, 25.0, 0.8]])
    table = evaluate.scores_table(evaluate.Scores(("a", "b", "c"), values, scenes), "title")
    for column in table.columns[1:]:
        *_, mean, span = column.cells
        assert float(mean) > 0.0
        assert (" to " in span, span == "–") == (known, not known)


def test_no_photograph_of_8_bits_is_above_the_limit_but_for_being_equal():
    """Rounding to 8 bits leaves 10·log10(12·255²) = 58.9 dB, below the limit."""
    truth = noisy(0.1)
    rounded = np.rint(truth * 255) / np.float32(255)
    scores = evaluate.score(lambda _: rounded, [("a", truth, truth)])
    assert scores.mean("psnr") == pytest.approx(10 * np.log10(12 * 255**2), abs=0.3)
    assert scores.mean("psnr") < evaluate.LIMIT


@pytest.mark.parametrize("turns", [1, 2, 4, 8])
def test_turns_come_back_to_their_place(turns):
    """What treats all alike gives the same; what marks a corner marks as many as there are turns of it."""
    photo = np.random.default_rng(0).random((6, 9, 3), np.float32)
    seen = []

    def method(name, low):
        seen.append(low.tobytes())
        return low**2

    mean = evaluate.over_turns(method, turns)("one", photo)
    np.testing.assert_allclose(mean, photo**2, rtol=1e-6)
    assert len(set(seen)) == turns

    def marking(name, low):
        marked = np.zeros_like(low)
        marked[0, 0] = 1.0
        return marked

    marked = evaluate.over_turns(marking, turns)("one", photo)[..., 0]
    corners = marked[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.sum() == pytest.approx(1.0) == marked.sum()
    assert np.count_nonzero(corners) == min(turns, 4)


def test_pairs_of_two_folders_are_matched_by_name(tmp_path):
    for folder, names in (("low", ("b.png", "a.PNG")), ("normal", ("a.png", "b.jpg"))):
        (tmp_path / folder).mkdir()
        for place, name in enumerate(sorted(names)):
            image = np.full((24, 32, 3), 100 * place + 50, np.uint8)
            PILImage.fromarray(image).save(tmp_path / folder / name)
    pairs = list(evaluate.read_pairs(tmp_path / "low", tmp_path / "normal"))
    assert [name for name, *_ in pairs] == ["a", "b"]
    for (_, low, normal), level in zip(pairs, (50, 150), strict=True):
        np.testing.assert_allclose(low, level / 255, atol=1e-6)
        np.testing.assert_allclose(normal, level / 255, atol=0.01)
    (tmp_path / "low/b.png").unlink()
    with pytest.raises(InputError, match=r"b\.jpg: no partner in .*low$"):
        next(iter(evaluate.read_pairs(tmp_path / "low", tmp_path / "normal")))


@pytest.mark.parametrize(
    ("side", "extra", "said"),
    [
        ("low", "c.png", r"low/c\.png: no partner in .*normal"),
        ("normal", "c.png", r"normal/c\.png: no partner in .*low"),
        ("low", "a.webp", r"low/a\.png: one of several for a\.jpg in .*normal"),
        ("normal", "a.webp", r"low/a\.jpg: one of several for a\.png, a\.webp in .*normal"),
    ],
)
def test_a_photograph_that_belongs_to_none_is_named(tmp_path, side, extra, said):
    for folder in ("low", "normal"):
        (tmp_path / folder).mkdir()
        name = "a.png" if folder == side else "a.jpg"
        PILImage.new("RGB", (32, 24)).save(tmp_path / folder / name)
    PILImage.new("RGB", (32, 24)).save(tmp_path / side / extra)
    with pytest.raises(InputError, match=f"{said}$"):
        next(iter(evaluate.read_pairs(tmp_path / "low", tmp_path / "normal")))


@pytest.mark.slow
def test_photographs_without_a_partner_are_darkened_as_often_as_a_run_does():
    given = ["--weights", "tiny", "--data", "packaged", "--split", "dev"]
    names = [name for name, *_ in evaluate.pairs_of(evaluate.options_of(given))[1]]
    assert len(names) == 2 * len({name.split(" at ")[0] for name in names})
    assert base.get_config().eval.draws == 2
    once = evaluate.pairs_of(evaluate.options_of([*given, "--draws", "1"]))[1]
    assert len(list(once)) == len(names) // 2


def test_two_folders_need_no_file_locks(tmp_path):
    """fcntl is what Windows lacks; data sets lock with it, folders of photographs do not."""
    code = "import sys; sys.modules['fcntl'] = None; from train import evaluate; "
    code += "evaluate.run(sys.argv[1:])"
    for folder in ("low", "normal"):
        (tmp_path / folder).mkdir()
        PILImage.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(tmp_path / folder / "a.png")
    options = ["--weights", "tiny", "--low", "low", "--normal", "normal", "--out", "table.csv"]
    quiet = ("-W", "ignore:only soft file lock")  # jax's own, where filelock is installed
    command = [
        sys.executable,
        *quiet,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}",
    ]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "table.csv").is_file()


@pytest.mark.parametrize(
    "argv", [[], ["--data", "a", "--low", "b", "--normal", "c"], ["--low", "b"]]
)
def test_pairs_come_from_one_place(argv):
    with pytest.raises(InputError, match="name either --data, or both"):
        evaluate.options_of(["--weights", "tiny", *argv])
