"""Beartype for jaxtyping's import hook, with an int good enough where a float is asked for."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
