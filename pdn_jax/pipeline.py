"""Many photographs at once: some are decoded and others encoded while one or two are computed."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pdn_jax.errors import InputError

THREADS = 4
"""Photographs in flight at most: on two cores one is decoded and one encoded beside two computed."""

AT_ONCE = 2
"""How many of them are computed at once: what one leaves idle, the other uses."""

MEMORY = 512 * 2**20
"""Bytes that photographs in flight may weigh; one that weighs more goes alone."""

Job = TypeVar("Job")
"""Whatever one job is."""


class Stopped(Exception):
    """A photograph was given up as all are to stop."""


class Budget:
    """Weights of what is in flight, in all at most a limit."""

    def __init__(self, limit: int):
        """limit: in the same unit as the weights."""
        self.limit = limit
        self.stopped = False
        self._used = 0
        self._change = threading.Condition()

    def take(self, weight: int) -> None:
        """Wait until there is room, or nothing else in flight.

        Args:
            weight: of what comes in.

        Raises:
            Stopped: once `stop` is called.
        """
        with self._change:
            self._change.wait_for(
                lambda: self.stopped or not self._used or self._used + weight <= self.limit
            )
            if self.stopped:
                raise Stopped
            self._used += weight

    def give(self, weight: int) -> None:
        """Make room.

        Args:
            weight: of what has left.
        """
        with self._change:
            self._used -= weight
            self._change.notify_all()

    def stop(self) -> None:
        """Let nobody in any more."""
        with self._change:
            self.stopped = True
            self._change.notify_all()


def at_once(batch: int) -> int:
    """How many photographs are to be computed at once so that batches of tiles fill.

    Args:
        batch: tiles that the device takes at once, 1 on a CPU.

    Returns:
        `AT_ONCE`, or twice the batch: one is gathered while another is computed.
    """
    return AT_ONCE if batch == 1 else 2 * batch


def run(
    jobs: Iterable[Job],
    read: Callable[[Job], Any],
    work: Callable[[Job, Any], Any],
    write: Callable[[Job, Any], Any],
    *,
    weigh: Callable[[Job], int],
    memory: int = MEMORY,
    threads: int = THREADS,
    at_once: int = AT_ONCE,
) -> Iterator[tuple[Job, Any]]:
    """Read, work on and write every job, several at a time.

    Args:
        jobs: taken as results are asked for, `threads` ahead of them.
        read: job -> what `work` takes.
        work: job and that -> what `write` takes.
        write: job and that -> a result.
        weigh: job -> bytes that it needs in memory, known before it is read.
        memory: how many such bytes may be in flight; a job that weighs more is alone.
        threads: jobs in flight at most.
        at_once: of these, how many `work` is called for at once.

    Yields:
        Job and result, or the InputError that one of the functions raised, in the order of the jobs.

    Raises:
        Exception: any other, at its job's turn; those in flight end first, as they do where the
            iterator is closed or interrupted, but go no further than the function they are in.
    """
    budget, device = Budget(memory), threading.Semaphore(at_once)

    def unless_stopped(function, *arguments):
        if budget.stopped:
            raise Stopped
        return function(*arguments)

    def one(job: Job) -> Any:
        try:
            weight = weigh(job)
            budget.take(weight)
            try:
                item = unless_stopped(read, job)
                with device:
                    item = unless_stopped(work, job, item)
                return unless_stopped(write, job, item)
            finally:
                budget.give(weight)
        except InputError as error:
            return error

    waiting, running = iter(jobs), deque[tuple[Job, Future]]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="photographs")
    try:
        while True:
            while len(running) < 2 * threads and (job := next(waiting, None)) is not None:
                running.append((job, pool.submit(one, job)))
            if not running:
                return
            job, future = running.popleft()
            yield job, future.result()
    finally:
        budget.stop()
        pool.shutdown(wait=True, cancel_futures=True)
