"""The scaling benchmark: bytes counted by hand, eight devices against one, the numbers on paper."""

import numpy as np
import pytest

from benchmarks import count, scaling, workers
from pdn_jax import cli

SMALLEST = (
    *(("stages", 2), ("width", 8), ("widths", (8, 8)), ("depths", (1, 1))),
    ("blocks", (2, 2)),
)
SETTING = scaling.Setting("tiny", batch=16, crop=32, change=SMALLEST)

PROGRAM = """
  %all-reduce.1 = f32[3,3,8]{2,1,0} all-reduce(%x), channel_id=1, to_apply=%add
  ROOT %r = (f32[], /*index=1*/bf16[5]{0}) all-reduce-start(%a, %b), to_apply=%add
  %done = (f32[], bf16[5]{0}) all-reduce-done(%r)
  %fusion = f32[9]{0} fusion(%all-reduce.1), calls=%all-reduce-like
"""


def test_bytes_are_those_of_the_operands():
    assert scaling.all_reduced(PROGRAM) == (2, 4 * 72 + 4 + 2 * 5)
    assert scaling.all_reduced("") == (0, 0)


@pytest.fixture(scope="module")
def results():
    """20 steps on one device, and on eight by both strategies, with and without micro-batches."""

    def on(devices, **changes):
        # optimised, at the level of conftest.py: without, 20 steps do not agree to this rounding
        environment = scaling.pretending(devices) | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
        return workers.apart(scaling.run, SETTING._replace(**changes), environment=environment)

    return {
        "one": on(1, strategy="single"),
        "pmap": on(8),
        "pmap, accumulated": on(8, accumulate=2),
        "shard_map, accumulated": on(8, strategy="shard_map", accumulate=2),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pmap", "pmap, accumulated", "shard_map, accumulated"])
def test_eight_devices_agree_with_one(results, name):
    """Loss after loss, for 20 steps with the dynamic balance, and the weights that they end with."""
    assert len(results["one"].losses) == 20
    loss, weight = scaling.differences(results[name], results["one"])
    assert loss < 2e-4
    assert weight < 1e-4
    assert len(set(results[name].losses)) == 20


@pytest.mark.slow
def test_gradients_are_reduced_once(results):
    """Each parameter's, in float32, and little besides: terms, gradient statistics and the exposures' counts;
    micro-batches add none."""
    assert results["one"].reductions == results["one"].reduced == 0
    for name in ("pmap", "pmap, accumulated", "shard_map, accumulated"):
        beside = results[name].reduced - 4 * results[name].weights.size
        assert 0 < beside < 400, name


def test_differences_are_relative_and_the_largest():
    one = scaling.Measured([], [1.0, 2.0, 4.0], 0, 0, np.array([1.0, -3.0]))
    other = one._replace(losses=[1.0, 2.2, 4.1], weights=np.array([1.1, -3.5]))
    assert scaling.differences(other, one) == pytest.approx((0.1, 0.5))


# --- on paper ------------------------------------------------------------------------------------


def test_the_least_times_by_hand():
    machine = scaling.Machine(devices=8, peak=100e12, link=50e9, hop=2e-6)
    by_hand = 14 * 2e-6 + 14 * 0.5e6 / 50e9
    assert scaling.reduction_seconds(1_000_000, machine) == pytest.approx(by_hand)
    assert scaling.crop_seconds(1_000_000_000, machine) == pytest.approx(60e-6)


@pytest.mark.slow
def test_the_table_on_paper(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    scaling.main(["--devices", "--crop", "32"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "H100, TF32" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [row[1] for row in cells] == ["tiny", "small", "base"]
    parameters, *macs = count.network_macs("small", (1, 32, 32, 3))
    reduction = 14 + 1e6 * 7 * parameters / 450e9
    assert float(cells[1][3]) == pytest.approx(reduction, abs=0.006)
    crop = 1e6 * 6 * sum(macs) / 494e12
    assert int(cells[1][5]) == -(-reduction // (0.1 * crop))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--batch", "12", "--accumulate", "2"], "--batch 12 does not divide into 4 devices times"),
        (["--steps", "1"], "--steps is 1; expected at least 2"),
    ],
)
def test_what_cannot_be_measured_is_one_line(given, said, capsys):
    assert cli.explained(lambda: scaling.main(given)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
