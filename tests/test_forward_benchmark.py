"""`benchmarks.forward`: its arithmetic by hand, workers that fail, and the command printed once."""

import itertools
import multiprocessing
import os
import time

import jax
import numpy as np
import pytest

from benchmarks import count, engines, forward, roofline, timing, workers
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError

SMALLEST = {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (2,)}
TASK = engines.Task("smallest", SMALLEST, 16, 32)
MACHINE = roofline.Roofline("a machine", "cpu", 2e11, 1e10, 64)


# --- the roofline ------------------------------------------------------------------------------


def test_the_least_time_is_the_longer_of_two():
    assert MACHINE.seconds(10**9, 0) == pytest.approx(0.01)
    assert MACHINE.seconds(0, 10**9) == pytest.approx(0.1)
    assert MACHINE.seconds(10**11, 10**9) == pytest.approx(1.0)


def test_the_better_of_two_measurements_counts():
    other = MACHINE._replace(flops=3e11, bandwidth=1e9)
    best = MACHINE._replace(flops=3e11)
    assert MACHINE.best(other) == other.best(MACHINE) == best
    assert "300 GFLOP/s (a product of 64×64), 10.0 GB/s" in str(best)


def test_peaks_follow_from_the_fastest_calls(monkeypatch):
    seconds = iter([9.0, 0.5, 0.25, 9.0, 2.0, 4.0])

    def clock(call):
        jax.block_until_ready(call())
        return next(seconds)

    monkeypatch.setattr(timing, "clock", clock)
    (machine,) = roofline.measure("float32", 2, shrink=64)
    assert machine.flops == 2 * 32**3 / 0.25
    assert machine.bandwidth == 2 * 2**28 / 64 / 2.0
    assert (machine.platform, machine.side) == ("cpu", 32)
    assert machine.device == timing.present_device()


# --- rows --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cost_counts_products_and_what_must_move():
    macs, moved = engines.cost(TASK._replace(variant="tiny", model=VARIANTS["tiny"]))
    parameters, *parts = count.network_macs("tiny", (1, 16, 32, 3))
    assert macs == sum(parts)
    assert moved == 4 * (parameters + 2 * 16 * 32 * 3)


def test_numbers_follow_from_the_times():
    task = TASK._replace(height=400, width=600)
    result = forward.Result(timing.Timing((0.02, 0.01, 0.04)), 2_500_000)
    xla = forward.Result(timing.Timing((0.012, 0.03)), None)
    cells = forward.row(task, result, xla, MACHINE, (500_000_000, 40))
    assert cells == ("10.0", "20.0", "24.00", "100.0", "50 %", "2", "1.20×")
    assert forward.row(task, xla, xla, MACHINE, (0, 6 * 10**7))[-3:] == ("50 %", "–", "1.00×")
    assert len(cells) == len(forward.COLUMNS)


class Told:
    """A worker that answers what it was told, and notes who was asked."""

    def __init__(self, name, answers, asked):
        self.name, self.answers, self.asked = name, iter(answers), asked

    def ask(self):
        self.asked.append(self.name)
        return next(self.answers)


def told(asked):
    """Two of them, with three rounds each."""
    rounds = {
        "a": [engines.Round((3.0,), 5), engines.Round((2.0, 1.0), 6), engines.Round((4.0,), 7)],
        "b": [engines.Round((8.0,), None)] * 3,
    }
    return {name: Told(name, answers, asked) for name, answers in rounds.items()}


def test_engines_are_asked_in_turn_there_and_back(monkeypatch):
    asked = []
    results = forward.in_turn(told(asked), 3, np.inf)
    assert "".join(asked) == "abbaab"
    assert results["a"] == forward.Result(timing.Timing((3.0, 2.0, 1.0, 4.0)), 7)
    assert results["b"] == forward.Result(timing.Timing((8.0,) * 3), None)
    ticks = itertools.count(0.0, 10.0)
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    asked.clear()
    forward.in_turn(told(asked), 3, 5.0)
    assert "".join(asked) == "abba"  # two rounds at least


def test_of_several_calls_the_first_does_not_count(monkeypatch):
    ticks = itertools.accumulate(itertools.cycle([0.0, 0.125]))
    monkeypatch.setattr(engines.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert engines.timed(lambda: calls.append(1)) == (0.125, 0.125)
    assert len(calls) == 3  # 0.375 s, the first beyond 0.3 s
    ticks = itertools.accumulate(itertools.cycle([0.0, 7.0]))
    assert engines.timed(lambda: calls.append(1)) == (7.0,)


# --- agreement ---------------------------------------------------------------------------------


def test_difference():
    image = np.full((2, 3, 3), 0.5, np.float32)
    other = image.copy()
    other[1, 2, 0] = 0.75
    assert forward.difference(image, other) == 0.25
    assert forward.difference(image + 1, image) == 1.0


def test_difference_from_eight_bits_leaves_rounding_and_clipping_aside():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 0, 100, 255
    other = image / 255
    other[0, 0] = -0.3, 100.49 / 255, 1.7
    assert forward.difference(image, other) == 0.0
    other[0, 0, 1] = 102.5 / 255
    assert forward.difference(image, other) == pytest.approx(2 / 255, rel=1e-4)


@pytest.mark.parametrize("other", [0.502, np.nan])
def test_engines_that_disagree_are_not_compared(other, tmp_path):
    image = np.full((4, 4, 3), 0.5, np.float32)
    for name, level in (("xla", 0.5), ("torch", 0.5009), ("onnx", other)):
        np.save(tmp_path / f"{name}.npy", np.full_like(image, level))
    forward.compare(TASK, "torch", tmp_path)
    with pytest.raises(forward.Disagreement, match=r"smallest, 16×32: .* ONNX Runtime .* 0.001"):
        forward.compare(TASK, "onnx", tmp_path)


# --- who takes part ----------------------------------------------------------------------------


def test_what_is_not_installed_is_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(engines, "missing", lambda name: ["torch"] if name == "torch" else [])
    names, lines = forward.available(["torch", "onnx"], "cpu", "float32")
    assert names == ["xla", "onnx"]
    assert lines == ['PyTorch is left out: not installed: torch; pip install -e ".[compare]"']


def test_missing_is_what_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(engines.NEEDS, "torch", ("jax", "no_such_package"))
    assert engines.missing("torch") == ["no_such_package"]
    assert engines.missing("xla") == []


@pytest.mark.parametrize(("platform", "dtype"), [("tpu", "float32"), ("gpu", "bfloat16")])
def test_who_is_not_compared_there(platform, dtype):
    names, (line,) = forward.available(["xla", "compiled"], platform, dtype)
    assert names == ["xla"]
    assert line.startswith("PyTorch compiled is left out")


class Impostor:
    """In place of a worker: makes an image, or fails to."""

    def __init__(self, serve, name, task, folder):
        if name == "compiled":
            raise workers.Failure("InvalidCxxCompiler: none found")
        np.save(folder / f"{name}.npy", np.zeros((2, 2, 3), np.float32))
        self.ask = lambda: engines.Round((1.0,), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_an_engine_that_fails_is_left_out_with_its_reason(monkeypatch):
    monkeypatch.setattr(workers, "Worker", Impostor)
    results, lines = forward.measure(TASK, ["xla", "torch", "compiled"], rounds=1, seconds=1.0)
    assert list(results) == ["xla", "torch"]
    assert lines == [
        "PyTorch compiled is left out at smallest, 16×32: InvalidCxxCompiler: none found"
    ]


def test_xla_that_fails_ends_it(monkeypatch):
    def failing(*_):
        raise workers.Failure("ValueError: no")

    monkeypatch.setattr(workers, "Worker", failing)
    with pytest.raises(workers.Failure, match="ValueError: no"):
        forward.measure(TASK, ["xla"], rounds=1, seconds=1.0)


# --- processes ---------------------------------------------------------------------------------


def echo(first):
    """For a worker: hands back what it is asked, with the environment that it was started in."""
    asked = yield first, os.getpid(), os.environ["GLIBC_TUNABLES"]
    while True:
        if asked == "end":
            os._exit(3)
        asked = yield 1 / asked


@pytest.mark.slow
def test_a_worker_is_a_process_that_answers(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "mine")
    with workers.Worker(echo, "first") as worker:
        first, process, tunables = worker.answer
        assert (first, process != os.getpid(), worker.ask(4)) == ("first", True, 0.25)
        assert tunables == workers.ENVIRONMENT["GLIBC_TUNABLES"]
        with pytest.raises(workers.Failure, match="ZeroDivisionError: division by zero"):
            worker.ask(0)
    assert os.environ["GLIBC_TUNABLES"] == "mine"
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_worker_that_ends_is_a_failure():
    with workers.Worker(echo, "first") as worker, pytest.raises(workers.Failure, match="code 3"):
        worker.ask("end")


def test_failures_are_one_short_line():
    assert workers.one_line(ValueError("\n  first\nsecond")) == "ValueError: first"
    assert workers.one_line(InputError()) == "InputError"
    assert len(workers.one_line(ValueError("x" * 999))) == 200


def taking(count):
    """For a worker: bytes taken, the peak while they are held, when they are gone, and since."""
    before = workers.resident()
    if before is None:
        yield None
    taken = np.ones(count)
    size, held = taken.nbytes, workers.peak() - before
    del taken
    gone = workers.peak() - before
    again = workers.resident()
    yield size, held, gone, workers.peak() - again


@pytest.mark.slow
def test_memory_is_what_was_taken_since():
    """In a process of its own: memory that an old one has given back is taken without a trace."""
    found = workers.apart(taking, 2**23)
    if found is None:
        pytest.skip("Linux only")
    size, held, gone, since = found
    assert 0.9 * size < held < 1.5 * size
    assert gone > 0.9 * size
    assert since < 2**23


# --- the command -------------------------------------------------------------------------------


def rows(text):
    """The cells of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.slow
def test_forward_prints_a_row_per_variant_and_engine(monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "tiny", SMALLEST)
    monkeypatch.setattr(engines, "missing", lambda name: ["torch"])
    smallest = "--sizes 16x24 17x31 --variants tiny --engines xla torch --rounds 1 --peaks 1"
    forward.main(smallest.split())
    text = capsys.readouterr().out
    for words in ("16×24, float32", "17×31, float32", "roofline: ", "GB/s", "PyTorch is left out"):
        assert words in text
    assert jax.__version__ in text
    table = rows(text)
    assert [cells[:2] for cells in table] == [["tiny", "XLA"]] * 2
    for cells in table:
        fastest, median, speed, flops, share, memory, ratio = cells[2:]
        assert 0 < float(fastest) <= float(median)
        assert float(speed) > 0
        assert float(flops) > 0
        assert 0 <= float(share.removesuffix(" %")) <= 100
        assert memory == "–" or 0 < float(memory) < 2000
        assert ratio == "1.00×"


@pytest.mark.slow
def test_large_photographs_are_what_a_user_gets(monkeypatch, tmp_path):
    """In tiles, uint8 in and out; to rounding what the jitted network makes."""
    task = TASK._replace(height=72, width=80)
    params, photo = engines.parameters(task), engines.photograph(task)
    images = []
    for tile in (64, 1536):
        monkeypatch.setattr(engines.enhancer, "TILE", tile)
        assert task.in_tiles == (tile == 64)
        engine = engines.xla(task, params, tmp_path)
        images.append(engine.image(engine.run(engine.feed(photo))))
    assert [image.dtype for image in images] == [np.uint8, np.float32]
    assert forward.difference(*images) < 1e-5
    assert not task._replace(dtype="bfloat16").in_tiles


@pytest.mark.slow
def test_every_engine_that_is_installed_is_compared(monkeypatch, capsys):
    for package in engines.NEEDS["onnx"]:
        pytest.importorskip(package)
    monkeypatch.setitem(VARIANTS, "tiny", SMALLEST)
    forward.main(
        [
            "--sizes",
            "17x31",
            "--variants",
            "tiny",
            "--rounds",
            "1",
            "--peaks",
            "1",
            "--seconds",
            "1",
        ]
    )
    text = capsys.readouterr().out
    assert "left out" not in text
    assert [cells[1] for cells in rows(text)] == list(engines.TITLES.values())
