"""Benchmarks: products counted by hand, and every table printed once at the smallest settings."""

import argparse
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from benchmarks import convolution as convolution_benchmark
from benchmarks import count, timing
from benchmarks import data as data_benchmark
from benchmarks.count import macs
from pdn_jax.model import VARIANTS

IMAGE = jax.ShapeDtypeStruct((2, 8, 10, 6), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)
SMALLEST = {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (2,)}


def convolution(features, kernel, **options):
    """(function of an image, its parameters' shapes) of one convolution."""
    module = nn.Conv(features, kernel, **options)
    params = jax.eval_shape(module.init, jax.random.key(0), IMAGE)
    return module.apply, params


# --- counted by hand -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "kernel", "options", "expected"),
    [
        (5, (3, 3), {}, 2 * 8 * 10 * 5 * 9 * 6),
        (5, (1, 1), {}, 2 * 8 * 10 * 5 * 6),
        (6, (3, 3), {"feature_group_count": 6}, 2 * 8 * 10 * 6 * 9),
        (12, (3, 1), {"feature_group_count": 3}, 2 * 8 * 10 * 12 * 3 * 2),
        (5, (3, 3), {"strides": (2, 2)}, 2 * 4 * 5 * 5 * 9 * 6),
        (5, (3, 3), {"padding": "VALID"}, 2 * 6 * 8 * 5 * 9 * 6),
        (5, (3, 3), {"kernel_dilation": (2, 2)}, 2 * 8 * 10 * 5 * 9 * 6),
    ],
)
def test_a_convolution(features, kernel, options, expected):
    assert macs(*convolution(features, kernel, **options), IMAGE) == expected


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(3, 5), (5, 7)], 3 * 5 * 7),
        ("bij,bjk->bik", [(2, 3, 5), (2, 5, 7)], 2 * 3 * 5 * 7),
        ("yh,nhwc->nywc", [(8, 8), (2, 8, 10, 3)], 2 * 8 * 8 * 10 * 3),
        ("ijk,ijk->", [(2, 3, 5), (2, 3, 5)], 2 * 3 * 5),
    ],
)
def test_a_matrix_product(equation, shapes, expected):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert macs(lambda a, b: jnp.einsum(equation, a, b), *arguments) == expected


def square_in_a_loop(x):
    return jax.lax.fori_loop(0, 5, lambda _, c: c @ x, x)


def chosen(x):
    return jax.lax.cond(x.sum() > 0, lambda x: x @ x @ x, lambda x: x @ x, x)


def by_platform(x):
    return jax.lax.platform_dependent(x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x)


NESTED = {
    "one": (lambda x: x @ x, 1),
    "jit": (lambda x: jax.jit(lambda y: y @ y)(x) @ x, 2),
    "scan": (square_in_a_loop, 5),
    "scan in scan": (lambda x: jax.lax.fori_loop(0, 3, lambda _, c: square_in_a_loop(c), x), 15),
    "cond": (chosen, 2),
    "platform": (by_platform, 1),
    "checkpoint": (jax.checkpoint(lambda x: x @ x), 1),
    "custom_jvp": (lambda x: jax.nn.relu(x @ x), 1),
    "vmap": (lambda x: jax.vmap(lambda row: x @ row)(x), 1),
    "gradient": (jax.grad(lambda x: (x @ jnp.ones((4, 4))).sum()), 1),
    "elementwise": (lambda x: x * x + jnp.exp(x), 0),
}


@pytest.mark.parametrize(("function", "products"), NESTED.values(), ids=NESTED.keys())
def test_products_within_other_operations(function, products):
    assert macs(function, SQUARE) == products * 4**3


def test_what_nobody_asked_for_is_not_counted():
    def pair(x):
        return x @ x, jax.jit(lambda y: (y @ y @ y, y + 1))(x)

    assert macs(pair, SQUARE) == 3 * 64
    assert macs(lambda x: pair(x)[0], SQUARE) == 64
    assert macs(lambda x: pair(x)[1][0], SQUARE) == 2 * 64
    assert macs(lambda x: pair(x)[1][1], SQUARE) == 0


def test_a_while_loop_is_refused_only_with_products_in_it():
    def loop(step):
        return lambda x: jax.lax.while_loop(lambda c: c.sum() < 1, step, x)

    assert macs(loop(lambda c: c + 1), SQUARE) == 0
    with pytest.raises(ValueError, match="while loop"):
        macs(loop(lambda c: c @ c), SQUARE)


def test_the_network_is_the_sum_of_its_convolutions(monkeypatch):
    """One stage, one level, written out: 3×3 convolutions and dense layers, less those not needed."""
    monkeypatch.setitem(VARIANTS, "smallest", SMALLEST)
    parameters, enhancement, denoising = count.network_macs("smallest", (1, 16, 32, 3))
    grid, blocks = 2 * 4, 8 * 16
    first, look, think = 9 * 6 * 8, 9 * 8 * 8, 9 * 8 * 8
    dense = 3 * 8 + (8 * 8) * 2 + 8 * 3
    globally = 16 * 8 + 16 * 8 + 8 * 3 + 8 * 2
    assert enhancement == grid * (first + look + think + dense) + globally
    lift, level = (8 + 3) * 8, 9 * 12 * 8 + 2 * 9 * 8 * 8 + 9 * 8 * 12
    assert denoising == grid * lift + blocks * level
    biases = 8 * 8 + 3 + 2 + 3 + 8 * 4 + 12
    kernels = first + look + think + dense + globally + lift + level
    assert parameters == kernels + biases


# --- timing ----------------------------------------------------------------------------------


def test_calls_are_timed_in_turn_there_and_back(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks) ** 2))
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    result = timing.in_turn(calls, 3)
    assert "".join(order) == "ab" + "abbaab"
    # Two ticks for each of the first two calls, then (2i + 1)² − (2i)² = 4i + 1 for call i.
    assert result["a"].seconds == (9.0, 21.0, 25.0)
    assert result["b"].seconds == (13.0, 17.0, 29.0)
    assert (result["a"].minimum, result["a"].median) == (9.0, 21.0)


def test_a_call_ends_when_its_arrays_are_there(monkeypatch):
    waited = []
    monkeypatch.setattr(timing.jax, "block_until_ready", waited.append)
    timing.clock(lambda: "arrays")
    assert waited == ["arrays"]


# --- the programs ----------------------------------------------------------------------------


@pytest.fixture
def hastily(monkeypatch):
    """The smallest network for `tiny`; a terminal that wraps nothing."""
    monkeypatch.setitem(VARIANTS, "tiny", SMALLEST)
    monkeypatch.setenv("COLUMNS", "200")


def rows(text):
    """First cell -> the other cells, of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {name: values for name, *values in cells}


@pytest.mark.slow
def test_count_prints_a_row_per_variant(capsys):
    count.main(["--size", "64x96"])
    text = capsys.readouterr().out
    for title in ("64×96", "parameters", "enhancement", "denoising", "GMACs"):
        assert title in text
    table = rows(text)
    assert list(table) == list(VARIANTS)
    assert table["tiny"][0] == f"{count.network_macs('tiny', (1, 64, 96, 3))[0]:,}"
    for _, enhancement, denoising, total in table.values():
        assert float(enhancement) + float(denoising) == pytest.approx(float(total), abs=2e-3)


@pytest.mark.parametrize("argument", ["400", "400x", "axb", "8x600", "1x2x3"])
def test_sizes_that_are_none(argument):
    with pytest.raises(argparse.ArgumentTypeError, match=argument):
        count.size(argument)
    assert count.size("400x600") == (400, 600)


@pytest.mark.parametrize("argument", ["0", "-1", "1.5", "x"])
def test_counts_that_are_none(argument):
    with pytest.raises(argparse.ArgumentTypeError, match=argument):
        count.positive_integer(argument)
    assert count.positive_integer("12") == 12


@pytest.mark.slow
def test_data_prints_how_fast_crops_come_and_are_taken(capsys):
    smallest = "--variant tiny --batch 4 --crop 32 --seconds 0.1 --steps 2 --copies 1 --workers 1"
    data_benchmark.main(smallest.split())
    table = rows(capsys.readouterr().out)
    assert list(table) == [
        *("2 threads", "2 threads, none held", "1 processes", "tiny takes"),
    ]
    first, cold, warm, held = (float(value.removesuffix(" s")) for value in table["2 threads"])
    assert min(first, cold, warm) > 0
    assert held == pytest.approx(5 * 2 * 600 * 400 * 3 / 2**20, abs=1)
    assert float(table["2 threads, none held"][-1]) == 0
    assert float(table["tiny takes"][2]) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("hastily")
def test_convolution_prints_every_form(capsys):
    convolution_benchmark.main(["--shapes", "4x6x3x2", "4x5x20x18", "--repeats", "1"])
    table = rows(capsys.readouterr().out)
    assert list(table) == ["4×6×3×2", "4×5×20×18"]
    assert all(float(cell) >= 0 for cell in table["4×6×3×2"])
    assert table["4×5×20×18"][2:4] == ["", ""]


@pytest.mark.parametrize("shape", ["4x6x3", "4x6x3x0", "axbxcxd"])
def test_shapes_that_are_none(shape):
    with pytest.raises(argparse.ArgumentTypeError, match=shape):
        convolution_benchmark.parsed(shape)
