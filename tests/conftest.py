"""Shapes in annotations are checked under pytest, and arrays never change rank unasked."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from jaxtyping import install_import_hook

hook = install_import_hook("pdn_jax", "typecheck.check")
jax.config.update("jax_numpy_rank_promotion", "raise")
