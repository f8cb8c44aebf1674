"""Being told to stop: SIGTERM, SIGINT and the notices of platforms that take machines back.

    with Stopping(console) as stopping:
        for step in …:
            …
            if stopping.asked():           # finish the step, write a checkpoint, leave

A signal is heard by a thread, since Python's own handlers wait while the main thread compiles or
computes. Should the main thread not come round in `GRACE` seconds, the process ends from there: the
checkpoints on disk are whole at any moment, so all that is lost is what came after the last one.
"""

import dataclasses
import os
import signal
import threading
from collections.abc import Iterable, Iterator

import jax
import orbax.checkpoint as ocp
from rich.console import Console

EXIT_CODE = 75
"""What a training exits with that was stopped and can be gone on with; EX_TEMPFAIL of sysexits.h."""

GRACE = 8.0
"""Seconds between a signal and the hard end."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)

GO_ON = "go on with the same command and --config.resume=true"


class Stopped(Exception):
    """The training was told to stop, and did; says how to go on."""


@dataclasses.dataclass
class Watched:
    """Items, and a question before each."""

    items: Iterable
    stopping: "Stopping"

    def __iter__(self) -> Iterator:
        for item in self.items:
            if self.stopping.asked():
                raise self.stopping.stopped("between photographs")
            yield item


class Stopping:
    """A context in which signals ask for a stop instead of ending the process; for the main thread.

    A second signal ends the process at once. In a thread other than the main one only `ask` asks.

    Where several processes make one run they have to stop after the same step. SIGTERM is then left
    to JAX, whose preemption service tells all of them; SIGINT is passed on to it.
    """

    def __init__(self, console: Console, grace: float = GRACE):
        self.console, self.grace = console, grace
        self.reason = ""
        self._times = 0
        self._done = threading.Event()
        self._before: dict[int, object] = {}

    def ask(self, reason: str) -> None:
        """Ask for a stop."""
        if self.reason:
            os._exit(EXIT_CODE)
        self.reason = reason
        self.console.print(f"{reason}: finishing this step, then a checkpoint", soft_wrap=True)
        threading.Thread(target=self._end, daemon=True).start()

    def asked(self) -> bool:
        """Whether to stop here; several processes hear the same where they ask equally often."""
        self._times += 1
        if jax.distributed.is_initialized() and ocp.utils.reached_preemption(self._times):
            self.ask("SIGTERM to one of the processes")
        return bool(self.reason)

    def watched(self, items: Iterable) -> "Watched":
        """The same items, raising Stopped where a stop is asked for between them."""
        return Watched(items, self)

    def stopped(self, where: str) -> "Stopped":
        """What to raise: why, where, and how to go on."""
        return Stopped(f"{self.reason}: stopped {where}; {GO_ON}")

    def _end(self) -> None:
        if not self._done.wait(self.grace):
            self.console.print(
                f"{self.reason}: not done in {self.grace:.0f} s, ended; the last checkpoint is whole; "
                f"{GO_ON}",
                soft_wrap=True,
            )
            os._exit(EXIT_CODE)

    def _listen(self) -> None:
        while number := os.read(self._read, 1):
            if number[0] == 0:
                return
            if jax.distributed.is_initialized():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self.ask(signal.Signals(number[0]).name)

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            for number in SIGNALS[jax.distributed.is_initialized() :]:
                self._before[number] = signal.signal(number, lambda *_: None)
            self._thread = threading.Thread(target=self._listen, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.write(self._write, b"\0")
            self._thread.join()
            os.close(self._read)
            os.close(self._write)
