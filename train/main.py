"""`python -m train.main --config configs/base.py [--config.key=value …]`."""

import contextlib
import os
import sys
from collections.abc import Sequence

from train import ending

USAGE = "python -m train.main --config configs/base.py [--config.key=value …]"


def parse(argv: Sequence[str]):
    """The config that the command line asks for; InputError says what was meant."""
    from absl import flags
    from ml_collections import config_flags

    from pdn_jax.types import InputError

    values, argv = flags.FlagValues(), [USAGE, *argv]
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)[1:]
        if holder.value is not None:
            holder.value.to_dict()  # a file that could not be loaded raises only now
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error.args[0] if error.args else error).strip().splitlines()
        raise InputError(
            f"bad option: {' '.join(map(str.strip, reason))}; usage: {USAGE}"
        ) from error
    if holder.value is None:
        raise InputError(f"no config was named; usage: {USAGE}")
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; usage: {USAGE}")
    return holder.value


def main(argv: Sequence[str]) -> int:
    """Parse, train, explain: exit code 0, 2 with one line for bad input, or 75 where it was stopped."""

    if set(argv) & {"-h", "--help"}:
        print(f"{USAGE}\nEvery option, its unit and its default stand in configs/base.py.")
        return 0

    def run():
        config = parse(argv)
        from train import distributed
        from train.loop import train
        from train.preemption import Stopped, Stopping
        from train.progress import Log

        with Stopping(Log(), ends=True) as stopping, distributed.joined(config, stopping):
            try:
                train(config, stopping)
            except Stopped as stop:
                if distributed.is_first():
                    with contextlib.suppress(OSError):  # nobody reads any more
                        print(f"pdn_jax: {stop}", file=sys.stderr, flush=True)
                return ending.EXIT_CODE
        return 0

    from pdn_jax.cli import explained

    return explained(run)


if __name__ == "__main__":
    ending.take()
    code = main(sys.argv[1:])
    if code:  # stopped, or failed: threads are not waited for, all is on the disk
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
