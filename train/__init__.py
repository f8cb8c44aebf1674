"""The training program: configs turned into calls of `pdn_jax`."""

from pdn_jax import cli

cli.silence_compiler()  # here, since most commands import jax before they run
