"""`python -m train.main --config configs/base.py [--config.key=value …]`."""

import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from pdn_jax.cli import explained
from pdn_jax.types import InputError

USAGE = "python -m train.main --config configs/base.py [--config.key=value …]"


def parse(argv: Sequence[str]):
    """The config that the command line asks for; InputError says what was meant."""
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    try:
        rest = values([USAGE, *argv])[1:]
        found = config.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{error}; usage: {USAGE}") from error
    except OSError as error:
        raise InputError(f"config {error.filename} cannot be read ({error.strerror})") from error
    if found is None:
        raise InputError(f"no config was named; usage: {USAGE}")
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; usage: {USAGE}")
    return found


def main(argv: Sequence[str]) -> int:
    """Parse, train, explain: exit code 0, or 2 with one line for bad input."""

    def run():
        config = parse(argv)
        from train.loop import train

        train(config)

    return explained(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
