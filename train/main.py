"""`python -m train.main --config configs/base.py [--config.key=value …]`."""

import contextlib
import os
import sys
from collections.abc import Sequence

from pdn_jax import host_memory
from train import preemption


def main(argv: Sequence[str]) -> int:
    """Parse, train, explain: exit code 0, 2 with one line for bad input, or 75 where it was stopped."""

    def run():
        from train.config import USAGE, parse

        if set(argv) & {"-h", "--help"}:
            print(f"{USAGE}\nEvery option, its unit and its default stand in configs/base.py.")
            return 0
        config = parse(argv)
        from train import distributed
        from train.loop import train
        from train.progress import Log

        stop = preemption.Preemption(Log(), ends=True, grace=config.checkpoint.grace)
        with stop, distributed.joined(config):
            try:
                train(config, stop)
            except preemption.Stopped as stopped:
                if distributed.is_first():
                    with contextlib.suppress(OSError):  # nobody reads any more
                        print(f"pdn_jax: {stopped}", file=sys.stderr, flush=True)
                return preemption.EXIT_CODE
        return 0

    from pdn_jax.cli import explained

    return explained(run)


if __name__ == "__main__":
    preemption.end_at_signals()
    host_memory.keep_pages()
    code = main(sys.argv[1:])
    if code:  # stopped, or failed: threads are not waited for, all is on the disk
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
