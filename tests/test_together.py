"""Tiles of several threads in one call: whose results are whose, what waits, and what fails."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pdn_jax.together import Together, at_once


def doubled(calls):
    """A program of one array that keeps how many tiles it was given."""

    def run(stacked):
        calls.append(len(stacked))
        return [2.0 * stacked, stacked.sum(axis=1)]

    return run


@pytest.mark.parametrize(("tiles", "count"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_programs_take_powers_of_two(tiles, count):
    assert at_once(tiles, 8) == count


def test_one_at_a_time_does_not_wait_for_anybody():
    """As on a CPU: two threads are in the program at once."""
    both = threading.Barrier(2, timeout=60)

    def run(stacked):
        both.wait()
        return [stacked]

    together = Together(1)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(together, "kind", run, [[np.ones(2)]]) for _ in range(2)]
        assert all(len(result.result()) == 1 for result in results)


def test_the_last_tile_is_repeated_and_not_given_back():
    calls = []
    tiles = [[np.full(3, float(index))] for index in range(3)]
    results = Together(4)("kind", doubled(calls), tiles)
    assert calls == [4]
    assert [float(total) for _, total in results] == [0.0, 3.0, 6.0]


def test_what_waits_meanwhile_goes_in_one_batch_and_each_gets_its_own():
    """One thread is held in the program until seven others wait: two calls in all."""
    together, calls, inside, go = Together(8), [], threading.Event(), threading.Event()

    def run(stacked):
        calls.append(len(stacked))
        if len(calls) == 1:
            inside.set()
            assert go.wait(60)
        return [2.0 * stacked]

    def one(index):
        return together("kind", run, [[np.full(2, float(index))]])[0][0]

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(one, 0)
        assert inside.wait(60)
        others = [pool.submit(one, index) for index in range(1, 8)]
        while sum(map(len, together._waiting.values())) < 7:
            pass
        go.set()
        for index, result in enumerate([first, *others]):
            np.testing.assert_array_equal(result.result(), 2.0 * index)
    assert calls == [1, 8]
    assert not together._waiting


def test_other_kinds_and_shapes_do_not_go_together():
    together, calls = Together(4), []
    together("kind", doubled(calls), [[np.ones(2)], [np.ones(2)]])
    together("other", doubled(calls), [[np.ones(2)]])
    together("kind", doubled(calls), [[np.ones(3)]])
    assert calls == [2, 1, 1]


def test_what_a_program_raises_reaches_all_that_were_in_it_and_nobody_else():
    together = Together(4)

    def broken(stacked):
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        together("kind", broken, [[np.ones(2)]])
    assert together("kind", doubled([]), [[np.ones(2)]])[0][1] == 2.0
