"""Processes of their own: for what should share neither memory nor threads with anything else."""

import contextlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    # Large arrays on huge pages: what every engine then gains by, it gains alike.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # Several engines may share one accelerator.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""What every process is started with, whatever runs in it."""

PAUSE = 0.2
"""Seconds before a question: threads that have just worked elsewhere may still spin for more."""


class Failure(Exception):
    """What went wrong in a process, in one line."""


class Worker:
    """A process that runs a generator and is asked for one thing after the other.

    It is started with `ENVIRONMENT` and what `environment` adds. The generator's first yield is
    `answer`; `ask` sends it a question and returns what it yields next. Function and arguments must
    be importable and picklable. Raises Failure where the generator raises or the process ends. Used
    in a `with`, at whose end the process ends.
    """

    def __init__(
        self,
        function: Callable[..., Generator],
        *arguments: Any,
        environment: dict[str, str] | None = None,
    ):
        """Start the process and wait for the first answer."""
        spawning = multiprocessing.get_context("spawn")
        self._connection, far = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(far, function, arguments))
        with _environment(ENVIRONMENT | (environment or {})):
            self._process.start()
        far.close()
        try:
            self.answer = self._receive()
        except BaseException:
            self.close()
            raise

    def ask(self, question: Any = None) -> Any:
        """What the generator yields for this question, once other workers' threads are asleep."""
        time.sleep(PAUSE)
        self._connection.send(question)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer, failure = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise Failure(f"its process ended with code {code} (-9: out of memory)") from None
        if failure is not None:
            line, details = failure
            raise Failure(line) from RuntimeError(details)
        return answer

    def close(self) -> None:
        """Hang up, on which the process ends, and wait for that."""
        self._connection.close()
        self._process.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def apart(
    function: Callable[..., Generator],
    *arguments: Any,
    environment: dict[str, str] | None = None,
) -> Any:
    """The first answer of a worker, which then ends; raises as `Worker`."""
    with Worker(function, *arguments, environment=environment) as worker:
        return worker.answer


def _serve(connection: Any, function: Callable[..., Generator], arguments: tuple) -> None:
    try:
        generator = function(*arguments)
        answer = next(generator)
        while True:
            connection.send((answer, None))
            answer = generator.send(connection.recv())
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # nobody asks any more
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send((None, (one_line(error), traceback.format_exc())))


def one_line(error: Exception) -> str:
    """'ValueError: what it says first', at most 200 characters."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0] if said else ''}".rstrip(": ")[:200]


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- the memory of the process that asks -------------------------------------------------------


def resident() -> int | None:
    """Bytes of it in memory now, from where `peak` starts anew; None where Linux does not say."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int | None:
    """The most bytes of it that were in memory since `resident` was asked."""
    return _status("VmHWM")


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(sizes[0]) if sizes else None


def threads() -> int:
    """How many threads an engine may use: the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
