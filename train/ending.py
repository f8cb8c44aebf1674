"""How the program ends that is told to: the exit code, the words, and the signals before all is loaded.

Nothing here needs more than Python itself, so that it is there from the first moment on.
"""

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

EXIT_CODE = 75
"""What a training exits with that was stopped and can be gone on with; EX_TEMPFAIL of sysexits.h."""

GO_ON = "go on with the same command and --config.resume=true"


def signals() -> list[signal.Signals]:
    """Those that ask for a stop: SIGTERM, SIGINT, and SIGHUP where it is not ignored, as `nohup` has it."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def take() -> None:
    """From now on a signal ends the program as `end` does, until another handler is there for it."""

    def handle(number, _):
        end(f"{signal.Signals(number).name}: ended, with no step under way")

    for number in signals():
        signal.signal(number, handle)


def say(task: Callable[[], None], seconds: float = 0.5) -> None:
    """Print something, from a thread that is left behind where what it prints to takes no more.

    A terminal that was told to wait, or a pipe that nobody empties, holds up whoever prints to it.
    """
    speaker = threading.Thread(target=task, daemon=True)
    speaker.start()
    speaker.join(seconds)


def end(said: str) -> NoReturn:
    """End this process with `EXIT_CODE`, whatever it is at; said: why, in short."""

    def speak():
        try:
            # Not through sys.stderr, which the main thread may be in the middle of.
            os.write(2, f"pdn_jax: {said}; what is on the disk is whole; {GO_ON}\n".encode())
            sys.stdout.flush()
        except OSError:
            pass  # nobody listens any more

    say(speak)
    os._exit(EXIT_CODE)


def hung_up() -> None:
    """Print to nowhere what would go to the terminal that is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for there in (1, 2):
        if stat.S_ISCHR(os.fstat(there).st_mode):  # it no longer says that it is a terminal
            os.dup2(nowhere, there)
    os.close(nowhere)
