"""Being told to stop: signals, and the notices of platforms that take machines back.

    with Stopping(console, ends=True) as stopping:
        …
        stopping.begin(console)                # from here on there is something to save
        for step in …:
            …
            if stopping.asked():               # finish the step, write a checkpoint, leave

A signal is heard by a thread, since Python's own handlers wait while the main thread compiles or
computes. Should the main thread not come round in `GRACE` seconds, the process ends from there: the
checkpoints on disk are whole at any moment, so all that is lost is what came after the last one.
"""

import ctypes
import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

import jax
import orbax.checkpoint as ocp
from rich.console import Console

from train import ending, witness

GRACE = 8.0
"""Seconds between a signal and the hard end."""

AGAIN = 1.0
"""Seconds after a signal from which another is one more. `timeout`, terminals and schedulers send the
same one to a process and to its group, so that it may come twice at once."""


class Stopped(Exception):
    """The training was told to stop, and did; says how to go on."""


@dataclasses.dataclass
class Watched:
    """Items, and a question before each."""

    items: Iterable
    asked: Callable[[], bool]
    stopping: "Stopping"

    def __iter__(self) -> Iterator:
        for item in self.items:
            if self.asked():
                raise self.stopping.stopped("between photographs")
            yield item


class Stopping:
    """A context in which signals ask for a stop instead of ending the process; for the main thread.

    ends: whether the process may be ended from here, as `ending.end` does: at a second signal, before
    `begin`, and where the main thread does not come round. In a notebook it may not; there a second
    signal is a KeyboardInterrupt. In a thread other than the main one only `ask` asks.

    Where several processes make one run they have to stop after the same step. A signal is then
    passed on to JAX, whose preemption service tells all of them, also of one before `begin`.
    """

    def __init__(self, console: Console, *, ends: bool = False, grace: float = GRACE):
        self.console, self.ends, self.grace = console, ends, grace
        self.reason = ""
        self.heard = ""
        self.begun = False
        self._times = 0
        self._heard_at = self._handled_at = math.inf
        self._tell_jax: Callable[[int], None] | None = None
        self._done = threading.Event()
        self._before: dict[int, object] = {}

    # --- for the training

    def begin(self, console: Console) -> None:
        """There will be something to save, and one who asks; what is said is said there."""
        self.console, self.begun = console, True

    def ask(self, reason: str) -> None:
        """Ask for a stop."""
        self.reason = reason
        said = f"{reason}: stopping, with a checkpoint of what is done"
        ending.say(lambda: self.console.print(said, soft_wrap=True))

    def asked(self) -> bool:
        """Whether to stop here; several processes hear the same where they ask equally often."""
        self._times += 1
        several = jax.distributed.is_initialized()
        if several and not self.reason and ocp.utils.reached_preemption(self._times):
            self.ask("a signal to one of the processes")
            self._limit()
        return bool(self.reason)

    def watched(self, items: Iterable, alone: bool = False) -> "Watched":
        """The same items, raising Stopped where a stop is asked for between them.

        alone: only this process iterates, so that only its own signals count.
        """
        return Watched(items, (lambda: bool(self.heard)) if alone else self.asked, self)

    def stopped(self, where: str) -> "Stopped":
        """What to raise: why, where, and how to go on."""
        return Stopped(f"{self.reason or self.heard}: stopped {where}; {ending.GO_ON}")

    # --- signals

    def take(self) -> None:
        """Hear the signals from now on, also where JAX has taken SIGTERM for itself meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            return
        if jax.distributed.is_initialized() and self._tell_jax is None:
            self._tell_jax = native_handler(signal.SIGTERM)
        for number in ending.signals():
            self._before.setdefault(number, signal.signal(number, self._handle))

    def _handle(self, *_) -> None:
        """Python's own handler, whenever the main thread comes round."""
        now = time.monotonic()
        if now - self._handled_at > AGAIN and not self.ends:
            raise KeyboardInterrupt
        self._handled_at = min(self._handled_at, now)

    def _hear(self, name: str) -> None:
        """What the thread does about a signal, whatever the main thread is at."""
        now = time.monotonic()
        if now - self._heard_at > AGAIN and self.ends:
            self._end(f"{name} again: ended at once")
        if self.heard:
            return
        self.heard, self._heard_at = name, now
        several = jax.distributed.is_initialized()
        if self.ends and not self.begun and not several:
            self._end(f"{name}: ended before the first step")
        self._limit()
        if not several:
            self.ask(name)
        elif self._tell_jax is not None:
            self._tell_jax(signal.SIGTERM)

    def _listen(self) -> None:
        while number := os.read(self._read, 1):
            if number[0] == 0:
                return
            if number[0] in self._before:
                if number[0] == signal.SIGHUP:
                    ending.hung_up()
                self._hear(signal.Signals(number[0]).name)

    def _limit(self) -> None:
        """Give the main thread `grace` seconds from now."""

        def limit():
            if not self._done.wait(self.grace):
                self._end(f"{self.reason or self.heard}: not done in {self.grace:.0f} s, ended")

        if self.ends:
            threading.Thread(target=limit, daemon=True).start()

    def _end(self, said: str) -> NoReturn:
        witness.dismiss()
        ending.end(said)

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self.take()
            self._thread = threading.Thread(target=self._listen, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if not (self.ends and self.heard):  # what is still to be printed may not hold it up either
            self._done.set()
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.write(self._write, b"\0")
            self._thread.join()
            os.close(self._read)
            os.close(self._write)


def native_handler(number: int) -> Callable[[int], None] | None:
    """The handler of a signal that native code has installed and Python knows nothing of, if any."""
    native = ctypes.CDLL(None).signal
    native.restype, native.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    found = native(number, None)
    native(number, found)
    return ctypes.CFUNCTYPE(None, ctypes.c_int)(found) if found and found > 1 else None
