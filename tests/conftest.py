"""Shapes in annotations are checked under pytest, and arrays never change rank unasked."""

import gc
import os
import platform
import sys
import types

# A busy machine may let a device wait long for the others: no reason to end the process. Tests compile
# far more than they compute: short vectors and plain loops take LLVM a third less time, one thread for
# each program a sixth less. Where a test asks for optimised programs, the first level does.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=600 "
    "--xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=1 "
    + "--xla_cpu_max_isa=AVX2"
    * (platform.machine() in ("x86_64", "AMD64")),
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import tempfile
from collections import Counter
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

hook = install_import_hook("pdn_jax", "typecheck.check")
jax.config.update("jax_numpy_rank_promotion", "raise")
HASTILY = jax.config.read("jax_disable_most_optimizations")

# What one test compiled, the next need not, nor a process that it starts, nor the other one of xdist: a
# fresh cache for every session, down to the single operation, as loading one takes half the time.
own = tempfile.TemporaryDirectory(prefix="pdn-jax-cache-")
shared = "PYTEST_XDIST_WORKER" in os.environ and os.environ.get("JAX_COMPILATION_CACHE_DIR")
os.environ["JAX_COMPILATION_CACHE_DIR"] = shared or own.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["PDN_JAX_CACHE"] = os.path.join(own.name, "programs")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# Data sets built by a test are this session's alone.
built = tempfile.TemporaryDirectory(prefix="pdn-jax-data-")
os.environ["TFDS_DATA_DIR"] = built.name


MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module", autouse=True)
def no_file_changes_how_the_next_is_compiled():
    """Optimising takes twice the time."""
    yield
    assert jax.config.read("jax_disable_most_optimizations") == HASTILY


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_let_go():
    """Between files: a process may hold 65,530 maps of memory, and each program takes several."""
    yield
    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


def pytest_collection_modifyitems(items):
    """Files with most that takes long come first, so that no process ends with one by itself."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish():
    """What has been imported by now stays; looking through it for garbage takes most of a second."""
    gc.freeze()


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the library: what it was given is in `calls`."""
    fake = types.ModuleType("wandb")
    fake.Error = type("Error", (Exception,), {})
    fake.Image = lambda image: ("image", image.shape)
    fake.Histogram = lambda np_histogram: ("histogram", np_histogram)
    fake.calls = []

    class Started:
        def log(self, values, step):
            fake.calls.append(("log", step, values))

        def finish(self, exit_code):
            fake.calls.append(("finish", exit_code))

    def init(**keywords):
        fake.calls.append(("init", keywords))
        return Started()

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake
