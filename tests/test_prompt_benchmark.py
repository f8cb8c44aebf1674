"""`benchmarks.prompt` and `.command`: what a command took and held, rows of what needs no photograph."""

import sys

import numpy as np
import pytest

from benchmarks import command, prompt
from pdn_jax.types import InputError

MEGABYTES = 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_the_commands_own(tmp_path):
    ours = np.ones(400_000_000, np.uint8)  # that a child would be said to have held as well
    little = command.timed([sys.executable, "-c", "import time; time.sleep(0.2)"], tmp_path)
    code = "import time; x = b'1' * 200_000_000; time.sleep(0.2)"
    much = command.timed([sys.executable, "-c", code], tmp_path)
    assert 1 * MEGABYTES < little.memory < 100 * MEGABYTES < len(ours)
    assert 190 * MEGABYTES < much.memory - little.memory < 210 * MEGABYTES
    assert little.seconds >= 0.2


def test_a_command_that_ends_otherwise_is_named(tmp_path):
    code = "import sys; print('said it'); sys.exit(3)"
    with pytest.raises(InputError, match=r"ended with 3, not 0: said it"):
        command.timed([sys.executable, "-c", code], tmp_path)


@pytest.mark.slow
def test_what_needs_no_photograph(capsys):
    assert prompt.main(["--cases", "talk", "--repeats", "1"]) == 0
    said = capsys.readouterr().out
    for name in prompt.TALK:
        assert name in said
