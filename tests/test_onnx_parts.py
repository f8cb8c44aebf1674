"""The network as two ONNX files: what the whole's says of the grid and the tile's makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from benchmarks import engines
from pdn_jax import layout
from pdn_jax.export import onnx_parts
from pdn_jax.model import ProgressiveDualNetwork

MODELS = {
    "smallest": {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (2,)},
    "rows": {
        **{"stages": 2, "width": 8, "widths": (8,), "depths": (0,), "blocks": (2,)},
        "texture": "rows",
    },
    "no noise": {
        **{"stages": 2, "width": 8, "widths": (12, 8), "depths": (0, 0), "blocks": (2, 2)},
        "noise_map": False,
    },
    "three levels": {
        **{"stages": 3, "width": 16, "widths": (8, 12, 16), "depths": (0, 1, 0)},
        "blocks": (2, 2, 2),
        "evidence": True,
    },
}
LOW = np.random.default_rng(3).uniform(0.0, 0.2, (64, 192, 3)).astype(np.float32)


def planes(image):
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])


def run(session, values):
    given = {value.name: values[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "smallest")) for name in MODELS],
)
def test_the_parts_make_the_whole(name):
    model = MODELS[name]
    params = engines.parameters(engines.Task("made", model, 16, 16))
    # Stored in half precision, as the bundled weights are: so nothing is lost here either.
    params = jax.tree.map(lambda leaf: np.float32(np.float16(leaf)), params)
    data = [write(params, model, {}) for write in (onnx_parts.whole, onnx_parts.tile)]
    whole, tile = map(onnxruntime.InferenceSession, data)
    small, texture = map(planes, layout.observe(LOW, model.get("texture", "both")))
    grid = run(whole, {"small": small, "texture": texture})
    assert grid["stages"].shape == (1, 3 * model["stages"], 8, 24)
    assert ("noise" in grid) == model.get("noise_map", True)
    grid["path"] = grid["stages"][:, -3:]
    made = run(tile, {**grid, "low": planes(LOW)})

    quick = {"xla_backend_optimization_level": 0}
    network = jax.jit(ProgressiveDualNetwork(**model).apply, compiler_options=quick)
    output = network(params, jnp.asarray(LOW)[None])
    wanted = {"restored": output.restored, "brightened": output.enhanced[-1]}
    wanted |= {f"level{n}": image for n, image in enumerate(output.denoised[-2::-1], 1)}
    assert made.keys() == wanted.keys()
    for called, image in wanted.items():
        np.testing.assert_allclose(made[called], planes(image[0]), atol=2e-5)

    # The left half alone is the same, but for as much as the cut edge changes.
    half = {key: array if key == "black" else array[..., :12] for key, array in grid.items()}
    kept = 96 - layout.margin(model["depths"], model["blocks"])
    assert kept > 0
    part = run(tile, {**half, "low": planes(LOW)[..., :96]})["restored"]
    np.testing.assert_allclose(part[..., :kept], made["restored"][..., :kept], atol=2e-5)
