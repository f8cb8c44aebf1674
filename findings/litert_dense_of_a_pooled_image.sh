#!/usr/bin/env bash
# litert-converter 0.5.0 (StableHLO -> .tflite), fed by jax 0.10.2: a dense layer on what is pooled over
# a whole image, [1, 1, 1, c] @ [c, d], is refused by the converter's own passes: they make a
# tfl.batch_matmul of it and then find its output of the wrong rank. With a batch of two, [2, 1, 1, c],
# or with an image, [1, 8, 12, c], the same layer converts; so does it as a 1×1 convolution.
#
# Output seen: as below.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  litert-converter==0.5.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.2
cat > "$folder/run.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from litert_converter import converter_api_ext as api
from litert_converter.mlir import ir, passmanager

matrix = np.ones((6, 5), np.float32)


def dense(x):
    return x @ matrix


def convolution(x):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, matrix[None, None], (1, 1), "VALID", dimension_numbers=layout)


def convert(function, shape):
    given = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = export.export(jax.jit(function))(given).mlir_module()
    context = ir.Context()
    api.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        module, passes = ir.Module.parse(text), passmanager.PassManager()
        api.set_signature(module.operation, "main", ["x"], ["y"])
        api.run_convert_to_tfl_passes(module, passes, api.ConvertToTFLConfig())
        passes.run(module.operation)
        api.export_flatbuffer_to_bytes(module.operation)


cases = [(dense, (1, 8, 12, 6)), (dense, (2, 1, 1, 6)), (dense, (1, 1, 1, 6)), (convolution, (1, 1, 1, 6))]
for function, shape in cases:
    try:
        convert(function, shape)
        said = "converts"
    except Exception as error:
        words = "'tfl.batch_matmul' op found invalid output rank, expected 3 but got 4"
        said = words if words in str(error) else str(error)
    print(function.__name__, *shape, said)
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/run.py" 2> "$folder/log" | tee "$folder/seen.txt"
diff "$folder/seen.txt" - <<'EXPECTED'
dense 1 8 12 6 converts
dense 2 1 1 6 converts
dense 1 1 1 6 'tfl.batch_matmul' op found invalid output rank, expected 3 but got 4
convolution 1 1 1 6 converts
EXPECTED
