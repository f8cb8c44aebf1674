"""The port to PyTorch, and its ONNX file, make what the network makes; both are optional."""

import math

import jax
import numpy as np
import pytest

from benchmarks import engines, workers
from pdn_jax.model import VARIANTS

torch = pytest.importorskip("torch")

LEVELS = {
    "one level": {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (4,)},
    "two levels": {"stages": 2, "width": 8, "widths": (12, 8), "depths": (2, 0), "blocks": (4, 4)},
    "three levels": {
        "stages": 3,
        "width": 16,
        "widths": (8, 12, 16),
        "depths": (1, 2, 3),
        "blocks": (2, 2, 4),
    },
}


def images(task, names, folder):
    """Engine -> the photograph that it restored, and XLA's, from this process."""
    params, photo = engines.parameters(task), engines.photograph(task)
    result = {}
    for name in ("xla", *names):
        engine = engines.ENGINES[name](task, params, folder)
        result[name] = np.asarray(engine.image(engine.run(engine.feed(photo))))
    return result


CASES = [(model, size) for model in LEVELS.values() for size in ((16, 16), (17, 31))]
CASES += [(model, (45, 38)) for model in VARIANTS.values()]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "size"), CASES)
def test_the_port_restores_the_same(model, size, tmp_path):
    found = images(engines.Task("any", model, *size), ["torch"], tmp_path)
    assert found["torch"].shape == (*size, 3)
    assert found["xla"].std() > 0.05
    np.testing.assert_allclose(found["torch"], found["xla"], atol=2e-5)


def test_every_parameter_is_taken():
    for model in (*LEVELS.values(), *VARIANTS.values()):
        task = engines.Task("any", model, 16, 16)
        network, _ = engines._port(task, engines.parameters(task))
        ours = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(engines.shapes(task)))
        assert sum(parameter.numel() for parameter in network.parameters()) == ours


@pytest.mark.slow
@pytest.mark.parametrize("model", [*LEVELS.values(), VARIANTS["tiny"]], ids=[*LEVELS, "tiny"])
def test_the_onnx_file_restores_the_same(model, tmp_path):
    for package in engines.NEEDS["onnx"]:
        pytest.importorskip(package)
    task = engines.Task("any", model, 33, 50)
    workers.apart(engines.export, task, tmp_path)
    found = images(task, ["onnx"], tmp_path)
    np.testing.assert_allclose(found["onnx"], found["xla"], atol=2e-5)
