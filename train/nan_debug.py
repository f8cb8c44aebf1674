"""Where a number stopped being finite: one step repeated, operation by operation."""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]


def first_bad_operation(step: Callable, *arguments) -> str:
    """Runs step(*arguments) uncompiled until an operation gives NaN or infinity; what and where.

    '' where all of them are finite, as when only the compiled form overflows.
    """
    with jax.disable_jit(), jax.debug_nans(True), jax.debug_infs(True):
        try:
            jax.block_until_ready(step(*arguments))
        except FloatingPointError as error:
            what = str(error).strip().splitlines()[0]
            return f"{what} at {place(error)}"
    return ""


def place(error: BaseException) -> str:
    """The innermost line of this project in an error's traces, those before transformation included."""
    said = "".join(traceback.format_exception(error))
    ours = rf'File "{re.escape(str(ROOT))}/((?:pdn_jax|train)/[^"]+)", line (\d+), in (\S+)'
    lines = [line for line in re.findall(ours, said) if line[0] != "train/nan_debug.py"]
    if not lines:
        return "a place outside this project"
    file, line, name = lines[-1]
    return f"{file}:{line}, in {name}"
