"""Last words of a process that could not speak them: a second one listens, and speaks when it is gone."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

WITNESS = """
import sys
if not sys.stdin.buffer.read():
    print(sys.argv[1], file=sys.stderr)
"""
_witness: list[subprocess.Popen] = []


@contextlib.contextmanager
def witnessed(go_on: str) -> Iterator[None]:
    """Have a second process say how to go on, should this one end without a word.

    JAX, and gloo beneath it, abort a process that has lost another, before any line of Python.
    """
    words = (
        "pdn_jax: a process of the run ended without a word: killed, or aborted since another was "
        f"lost, whose own log says why; {go_on}"
    )
    command = [sys.executable, "-I", "-S", "-c", WITNESS, words]
    _witness.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
    try:
        yield
    finally:
        dismiss()


def dismiss() -> None:
    """Let the witness go: what there is to say has been said."""
    while _witness:
        with contextlib.suppress(BrokenPipeError):
            _witness.pop().communicate(b"said")
