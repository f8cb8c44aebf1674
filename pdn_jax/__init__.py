"""Low-exposure photo enhancement in JAX: degradation model, progressive dual network, bidirectional loss.

Submodules load when first used, so that `import pdn_jax` and the command line stay quick.
"""

import importlib

__version__ = "0.1.0"

_MODULES = frozenset(
    (
        "archive",
        "archive_command",
        "balance",
        "bars",
        "cache",
        "calibration",
        "checks",
        "cli",
        "compiled",
        "composition",
        "convolution",
        "copies",
        "degradation",
        "denoising",
        "dial",
        "distances",
        "enhance_films",
        "enhance_photos",
        "enhancement",
        "enhancer",
        "errors",
        "evidence",
        "executable",
        "explanation",
        "export",
        "export_command",
        "files",
        "film_names",
        "fitting",
        "host_memory",
        "image",
        "inference",
        "layout",
        "losses",
        "metrics",
        "model",
        "negative_direction",
        "page",
        "page_command",
        "pair_physics",
        "photo",
        "photo_info",
        "photos",
        "physics",
        "pipeline",
        "places",
        "positive_direction",
        "program_inputs",
        "program_kinds",
        "programs",
        "report",
        "resampling",
        "serve",
        "serve_command",
        "shapes",
        "sheet",
        "temporal",
        "tiling",
        "together",
        "traced_programs",
        "types",
        "user_cache",
        "video",
        "video_input",
        "video_output",
        "weights",
        "ycbcr",
    )
)

_FUNCTIONS = ("enhance", "Enhancer")


def __getattr__(name):
    if name in _FUNCTIONS:
        return getattr(importlib.import_module("pdn_jax.inference"), name)
    if name in _MODULES:
        return importlib.import_module(f"pdn_jax.{name}")
    raise AttributeError(f"module 'pdn_jax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES, *_FUNCTIONS])
