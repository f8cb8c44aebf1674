"""What saves and bfloat16 cost: the tables of `benchmarks.saving` and `benchmarks.precision`."""

import numpy as np
from test_survive import NETWORK

from benchmarks import precision, saving
from train import build, evaluate


def test_steps_and_saves_are_told_apart(monkeypatch, capsys):
    """Four saves, two of each kind, five steps from one to the next."""
    monkeypatch.setenv("COLUMNS", "200")
    configured = saving.training.configured

    def smallest(*given):
        config = configured(*given)
        config.model.change = NETWORK
        return config

    monkeypatch.setattr(saving.training, "configured", smallest)
    saving.run(["--variant", "tiny", "--batch", "4", "--crop", "32", "--saves", "4"])
    said = capsys.readouterr().out
    times = {}
    for name, what in saving.ROWS.items():
        (line,) = (line for line in said.splitlines() if what in line)
        times[name] = int(line.strip("│ ").split("│")[1])
    assert times["alone"] + times["during"] == 20
    assert (times["call"], times["whole"]) == (2, 2)


def test_the_difference_is_that_of_bfloat16(monkeypatch, capsys):
    """Photograph by photograph, less float32."""
    monkeypatch.setenv("COLUMNS", "200")
    trained = []

    def scores(dtype, options, run_dir):
        trained.append((dtype, options.steps))
        values = np.full((3, len(evaluate.COLUMNS)), 20.0)
        return evaluate.Scores(("a", "b", "c"), values - 0.05 * (dtype == "bfloat16"), (0, 1, 2))

    monkeypatch.setattr(precision, "trained", scores)
    precision.run(["--steps", "7"])
    assert trained == [(name, 7) for name in build.DTYPES]
    assert "-0.050 (-0.050 to -0.050)" in capsys.readouterr().out
