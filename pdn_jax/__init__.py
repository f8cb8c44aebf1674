"""Low-exposure photo enhancement in JAX: degradation model, progressive dual network, bidirectional loss.

Submodules load when first used, so that `import pdn_jax` and the command line stay quick.
"""

import importlib

__version__ = "0.1.0"

_MODULES = frozenset(
    (
        "balance",
        "calibration",
        "photos",
        "compiled",
        "composition",
        "convolution",
        "degradation",
        "denoising",
        "distances",
        "enhancement",
        "files",
        "fitting",
        "image",
        "inference",
        "losses",
        "metrics",
        "model",
        "negative_direction",
        "photo",
        "physics",
        "positive_direction",
        "resampling",
        "sheet",
        "tiling",
        "types",
        "weights",
    )
)


def __getattr__(name):
    if name == "enhance":
        return importlib.import_module("pdn_jax.inference").enhance
    if name in _MODULES:
        return importlib.import_module(f"pdn_jax.{name}")
    raise AttributeError(f"module 'pdn_jax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES, "enhance"])
