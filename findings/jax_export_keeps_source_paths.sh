#!/usr/bin/env bash
# jax 0.10.2, Python 3.11, x86-64: the bytes of jax.export hold the whole path of every source file that
# the program was traced from, home folder and all, and export has no option for it.
# jax_traceback_in_locations_limit=0, set before the tracing, leaves them out, but with short locations
# (jax_include_full_tracebacks_in_locations=False), which sound like less, they are there whatever the
# limit. MLIR's pass strip-debuginfo takes them out of an artifact afterwards; hence `without_locations`
# in pdn_jax/export/formats.py.
#
# Output seen:
#   exported: True
#   limit 0: False
#   short locations, limit 0: True
#   stripped: False
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
mkdir "$folder/somebody"
cd "$folder/somebody"
cat > project.py <<'PYTHON'
import jax
from jax import export
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo
from jaxlib.mlir.passmanager import PassManager


def program():
    double = jax.jit(lambda x: 2 * x + 1)
    return export.export(double)(jax.ShapeDtypeStruct((3,), "float32")).mlir_module_serialized


def held(artifact):
    return __file__.encode() in artifact


print("exported:", held(program()))
jax.config.update("jax_traceback_in_locations_limit", 0)
print("limit 0:", held(program()))
jax.config.update("jax_include_full_tracebacks_in_locations", False)
artifact = program()
print("short locations, limit 0:", held(artifact))
with ir.Context() as context:
    stablehlo.register_dialect(context)
    context.load_all_available_dialects()
    module = stablehlo.deserialize_portable_artifact(context, artifact)
    PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
    print("stripped:", held(stablehlo.serialize_portable_artifact(module, "1.8.0")))
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/somebody/project.py" | tee seen.txt
diff seen.txt - <<'SEEN'
exported: True
limit 0: False
short locations, limit 0: True
stripped: False
SEEN
