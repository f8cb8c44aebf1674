"""Many jobs at once: in order, bounded, errors at their turn, and an end that leaves nothing running."""

import threading
import time

import pytest

from pdn_jax import pipeline
from pdn_jax.errors import InputError


class Watch:
    """Counts how many are in it at once."""

    def __init__(self, seconds=0.01):
        self.seconds, self.now, self.most, self.lock = seconds, 0, 0, threading.Lock()

    def __call__(self, value):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        return value


def run(jobs, *, read=None, work=None, write=None, weigh=lambda job: 1, **options):
    return pipeline.run(
        jobs,
        read or (lambda job: job),
        work or (lambda job, item: item),
        write or (lambda job, item: item),
        weigh=weigh,
        **options,
    )


def test_results_come_in_order_though_some_take_longer():
    def read(job):
        time.sleep(0.002 * (job % 3))
        return job + 1

    results = run(range(20), read=read, work=lambda job, item: item * 10, write=lambda *both: both)
    assert list(results) == [(job, (job, 10 * job + 10)) for job in range(20)]


def test_reading_and_writing_overlap_work_of_a_bounded_number():
    inside, working = Watch(), Watch()
    jobs = run(
        range(16),
        read=inside,
        work=lambda job, item: working(item),
        write=lambda job, item: inside(item),
        threads=4,
        at_once=2,
    )
    assert len(list(jobs)) == 16
    assert working.most == 2
    assert inside.most >= 2


def test_memory_is_bounded_and_what_is_larger_goes_alone():
    flying, largest, lock = 0, 0, threading.Lock()
    weights = [30, 30, 30, 200, 30, 90, 30]

    def read(job):
        nonlocal flying, largest
        with lock:
            flying += weights[job]
            largest = max(largest, flying - (200 if flying == 200 else 0))
            assert flying <= 100 or flying == 200

    def write(job, item):
        nonlocal flying
        time.sleep(0.005)
        with lock:
            flying -= weights[job]
        return job

    jobs = run(range(7), read=read, write=write, weigh=lambda job: weights[job], memory=100)
    assert [result for _, result in jobs] == list(range(7))
    assert 60 <= largest <= 100


def test_a_mistake_in_one_comes_at_its_turn_and_the_others_go_on():
    def work(job, item):
        if job == 2:
            raise InputError("two")
        return item

    results = dict(run(range(5), work=work))
    assert isinstance(results.pop(2), InputError)
    assert results == {0: 0, 1: 1, 3: 3, 4: 4}


def test_a_fault_of_ours_is_raised_and_nothing_more_is_begun():
    begun = []

    def read(job):
        begun.append(job)
        if job == 1:
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        list(run(range(1000), read=read, threads=2))
    assert len(begun) < 20


def test_an_end_before_the_end_waits_for_what_is_being_written():
    written, reading = [], threading.Event()

    def write(job, item):
        reading.set()
        time.sleep(0.05)
        written.append(job)

    results = run(range(100), write=write, threads=2)
    next(results)
    reading.wait(5)
    results.close()
    done = len(written)
    assert 1 <= done < 10
    time.sleep(0.1)
    assert len(written) == done
    assert not [t for t in threading.enumerate() if t.name.startswith("photographs")]
