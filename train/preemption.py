"""Being asked to stop: signals, and the notices of platforms that take machines back.

A signal is heard by a thread, since Python's own handlers wait while the main thread compiles or
computes. Whatever is heard when, the checkpoints on disk are whole.

Until something heavy is needed only Python itself is imported here, so that `end_at_signals` holds
from the first moment on.
"""

import contextlib
import dataclasses
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

EXIT_CODE = 75
"""What a training exits with that was stopped and can be gone on with; EX_TEMPFAIL of sysexits.h."""

GO_ON = "go on with the same command and --config.resume=true"

REPEAT = 1.0
"""Seconds after a signal from which another is a second one. `timeout`, terminals and schedulers send
the same one to a process and to its group, so that it may come twice at once."""


class Stopped(Exception):
    """The training was asked to stop, and did; says how to go on."""


def signals() -> list[signal.Signals]:
    """Those that ask for a stop: SIGTERM, SIGINT, and SIGHUP where it is not ignored, as `nohup` has it."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def end_at_signals() -> None:
    """From now on a signal ends the program as `end` does, until another handler is there for it."""

    def handle(number, _):
        end(f"{signal.Signals(number).name}: ended, with no step under way")

    for number in signals():
        signal.signal(number, handle)


PATIENCE = 0.5
"""Seconds that a terminal or a pipe has to take what is printed."""


def speaking(task: Callable[[], None]) -> threading.Thread:
    """A thread that prints, which may be left behind where a terminal or a pipe takes no more."""
    speaker = threading.Thread(target=task, daemon=True)
    speaker.start()
    return speaker


def end(said: str) -> NoReturn:
    """End this process with `EXIT_CODE`, whatever it is at; said: why, in short."""

    def speak():
        with contextlib.suppress(OSError):  # nobody listens any more
            # Not through sys.stderr, which the main thread may be in the middle of.
            os.write(2, f"pdn_jax: {said}; what is on the disk is whole; {GO_ON}\n".encode())
            sys.stdout.flush()

    speaking(speak).join(PATIENCE)
    os._exit(EXIT_CODE)


def several() -> bool:
    """Whether this process is one of several that make one run; none is before jax was imported."""
    jax = sys.modules.get("jax")
    return hasattr(jax, "distributed") and jax.distributed.is_initialized()


@dataclasses.dataclass
class Watched:
    """Items, and a question before each."""

    items: Iterable
    asked: Callable[[], bool]
    preemption: "Preemption"

    def __iter__(self) -> Iterator:
        for item in self.items:
            if self.asked():
                raise self.preemption.stopped("between photographs")
            yield item


class Preemption:
    """A context in which signals ask for a stop instead of ending the process; for the main thread.

    ends: whether the process may be ended from here, as `end` does: at a second signal, before
    `begin`, and `grace` seconds after SIGTERM or a platform's notice, 0 for no limit. A person who
    interrupts has all the time that the step and the write take. In a notebook the process may not
    be ended; there a second signal is a KeyboardInterrupt. In a thread other than the main one only
    `ask` asks.

    Where several processes make one run they have to stop after the same step, so SIGTERM is left
    to JAX, whose preemption service tells all of them, and the other signals are sent on as that.
    """

    def __init__(self, console: Any, *, ends: bool = False, grace: float = 0.0):
        self.console, self.ends, self.grace = console, ends, grace
        self.reason, self.heard, self.begun = "", "", False
        self._times = 0
        self._heard_at = self._handled_at = math.inf
        self._speaker: threading.Thread | None = None
        self._done = threading.Event()
        self._before: dict[int, Any] = {}

    # --- for the training

    def begin(self, console: Any) -> None:
        """There is something to save, and one who asks; what is said is said there."""
        self.console, self.begun = console, True

    def ask(self, reason: str, limit: float = 0.0) -> None:
        """Ask for a stop, within so many seconds, 0 for as long as it takes."""
        self.reason = reason
        limit = limit if self.ends else 0.0
        if limit:
            threading.Thread(target=self._end_after, args=(limit,), daemon=True).start()
        said = f"{reason}: stopping after this step, with a checkpoint, " + (
            f"within {limit:g} s (checkpoint.grace)" if limit else "as long as that takes"
        )
        second = "; a second signal ends at once" if self.ends else ""
        # Not waited for: the thread that listens has to tell when the next signal comes.
        self._speaker = speaking(lambda: self.console.print(said + second, soft_wrap=True))

    def asked(self) -> bool:
        """Whether to stop here; several processes hear the same where they ask equally often."""
        self._times += 1
        if not self.reason and several():
            import numpy as np
            import orbax.checkpoint as ocp
            from jax.experimental import multihost_utils

            if ocp.utils.reached_preemption(self._times):
                person = multihost_utils.process_allgather(np.bool_(self.heard)).any()
                self.ask("a signal to one of the processes", 0.0 if person else self.grace)
        return bool(self.reason)

    def watched(self, items: Iterable, alone: bool = False) -> Watched:
        """The same items, raising Stopped where a stop is asked for between them.

        alone: only this process iterates, so that only its own signals count.
        """
        return Watched(items, (lambda: bool(self.heard)) if alone else self.asked, self)

    def stopped(self, where: str) -> Stopped:
        """What to raise: why, where, and how to go on."""
        return Stopped(f"{self.reason or self.heard}: stopped {where}; {GO_ON}")

    # --- signals

    def _handle(self, *_) -> None:
        """Python's own handler, whenever the main thread comes round."""
        now = time.monotonic()
        if now - self._handled_at > REPEAT and not self.ends:
            raise KeyboardInterrupt
        self._handled_at = min(self._handled_at, now)

    def _hear(self, number: int) -> None:
        """What the thread does about a signal, whatever the main thread is at."""
        name, now = signal.Signals(number).name, time.monotonic()
        if now - self._heard_at > REPEAT and self.ends:
            self._end(f"a second signal ({name}): ended at once")
        if self.heard:
            return
        self.heard, self._heard_at = name, now
        if several():
            if number != signal.SIGTERM:
                os.kill(os.getpid(), signal.SIGTERM)
        elif self.ends and not self.begun:
            end(f"{name}: ended before the first step was done")
        else:
            self.ask(name, self.grace if number == signal.SIGTERM else 0.0)

    def _listen(self) -> None:
        while number := os.read(self._read, 1)[0]:  # 0 says the end
            if number in self._before:
                self._hear(number)

    def _end_after(self, limit: float) -> None:
        if not self._done.wait(limit):
            self._end(f"{self.reason}: not done in {limit:g} s (checkpoint.grace), ended")

    def _end(self, said: str) -> NoReturn:
        """`end`, after what is being said."""
        if self._speaker:
            self._speaker.join(PATIENCE)
        end(said)

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, self._handle) for number in signals()}
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
