"""The folder for what can be had anew: compiled programs, copies, packages, and what is at work."""

import os
from pathlib import Path

VARIABLE = "PDN_JAX_CACHE"
"""Environment variable: the folder of the cache; "off" keeps no compiled programs."""


def folder() -> Path:
    """Where `VARIABLE` says, else the user's own.

    Returns:
        The folder, which need not be there.
    """
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named.lower() not in ("", "off") else own()


def own() -> Path:
    """The user's own, whatever the environment says.

    Returns:
        The folder, which need not be there.
    """
    import platformdirs

    return platformdirs.user_cache_path("pdn_jax", appauthor=False)
