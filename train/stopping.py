"""Being told to stop: SIGTERM, SIGINT and the notices of platforms that take machines back.

    with Stopping(console) as stopping:
        for step in …:
            …
            if stopping.asked(step):       # finish the step, write a checkpoint, leave

A signal is heard by a thread, since Python's own handlers wait while the main thread compiles or
computes. Should the main thread not come round in `GRACE` seconds, the process ends from there: the
checkpoints on disk are whole at any moment, so all that is lost is what came after the last one.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator

import orbax.checkpoint as ocp
from jax._src import distributed
from rich.console import Console

EXIT_CODE = 75
"""What a training exits with that was stopped and can be gone on with; EX_TEMPFAIL of sysexits.h."""

GRACE = 8.0
"""Seconds between a signal and the hard end."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """The training was told to stop, and did; says how to go on."""


class Stopping:
    """A context in which signals ask for a stop instead of ending the process; for the main thread.

    A second signal ends the process at once. In a thread other than the main one, or where signals
    are already someone else's, only `ask` asks.
    """

    def __init__(self, console: Console, grace: float = GRACE):
        self.console, self.grace = console, grace
        self.reason = ""
        self._done = threading.Event()
        self._before: dict[int, object] = {}

    def ask(self, reason: str) -> None:
        """Ask for a stop."""
        if self.reason:
            os._exit(EXIT_CODE)
        self.reason = reason
        self.console.print(f"{reason}: finishing this step, then a checkpoint", soft_wrap=True)
        threading.Thread(target=self._end, daemon=True).start()

    def asked(self, step: int) -> bool:
        """Whether to stop after this step; where several processes run, all hear the same."""
        if distributed.global_state.client is not None:
            if ocp.utils.reached_preemption(step):
                self.reason = self.reason or "the platform takes this machine back"
                return True
            return False
        return bool(self.reason)

    def watched(self, items: Iterable) -> Iterator:
        """The same items, raising Stopped where a stop is asked for between them."""
        for item in items:
            if self.reason and distributed.global_state.client is None:
                raise Stopped(self.reason)
            yield item

    def _end(self) -> None:
        if not self._done.wait(self.grace):
            said = f"{self.reason}: not done in {self.grace:.0f} s, ended; the last checkpoint is whole"
            self.console.print(said, soft_wrap=True)
            os._exit(EXIT_CODE)

    def _listen(self) -> None:
        while number := os.read(self._read, 1):
            if number[0] == 0:
                return
            self.ask(signal.Signals(number[0]).name)

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            for number in SIGNALS:
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
