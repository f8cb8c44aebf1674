"""Where a number stopped being finite: one step repeated, operation by operation."""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]


def first_bad_operation(step: Callable, *arguments) -> str:
    """Runs step(*arguments) uncompiled until an operation gives NaN or infinity; what and where.

    '' where all of them are finite, as when only the compiled form overflows. Takes seconds to
    minutes.
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
    lines = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', said)
    ours = [
        (Path(file).resolve().relative_to(ROOT), line, name)
        for file, line, name in lines
        if Path(file).resolve().is_relative_to(ROOT)
        and Path(file).resolve().relative_to(ROOT).parts[0] in ("pdn_jax", "train")
        and Path(file).resolve() != Path(__file__).resolve()
    ]
    if not ours:
        return "a place outside this project"
    file, line, name = ours[-1]
    return f"{file}:{line}, in {name}"
