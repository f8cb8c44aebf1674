#!/usr/bin/env bash
# jax and jaxlib 0.10.2, Python 3.11, CPU: a program that jax took from its own persistent compilation
# cache can be serialized again, without a word. What comes out is less than half as long, loads, and
# stops only when it runs: its kernels are not in it. Compiled in the process itself it comes out whole.
# So whoever keeps serialized programs beside that cache must know which of the two a program was.
#
# Output seen (bytes as "shorter" or not, since they depend on the processor):
#   compiled here: runs, 320.0
#   taken from the cache: shorter, NOT_FOUND: Function wrapped_broadcast not found (type id: 1)
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.2
cd "$folder"
export JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR="$folder/cache"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
"$folder/venv/bin/python" - <<'PYTHON' | tee seen.txt
import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable

x = jnp.ones((16, 16))


def through_bytes():
    function = jax.jit(lambda x: jnp.tanh(jnp.pad(x, 2) @ jnp.ones((20, 20))).sum())
    content, *trees = serialize_executable.serialize(function.lower(x).compile())
    loaded = serialize_executable.deserialize_and_load(content, *trees)
    try:
        return len(content), float(loaded(x))
    except jax.errors.JaxRuntimeError as error:
        return len(content), error


whole, result = through_bytes()
print("compiled here: runs,", result)
jax.clear_caches()
bytes_left, error = through_bytes()
print("taken from the cache:", "shorter," if bytes_left < whole / 2 else "as long,", error)
PYTHON
diff seen.txt - <<'EXPECTED'
compiled here: runs, 320.0
taken from the cache: shorter, NOT_FOUND: Function wrapped_broadcast not found (type id: 1)
EXPECTED
