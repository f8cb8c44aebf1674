"""What saves cost: the table of `benchmarks.saving`."""

import pytest
from test_survive import NETWORK

from benchmarks import saving


@pytest.mark.slow
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
