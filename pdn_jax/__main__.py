"""`python -m pdn_jax`."""

import sys

from pdn_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
