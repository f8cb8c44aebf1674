"""Weights: what goes into a file comes out of it, and a file that is not right is refused by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from pdn_jax import files, weights
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError
from pdn_jax.weights import Weights


def example():
    layer = {
        "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "turned": np.arange(6, dtype=np.float32).reshape(3, 2).T,
        "half": jnp.arange(4, dtype=jnp.bfloat16),
        "single": np.asarray(3.0, np.float32),
    }
    params = {"params": {"denoising": {"level0": layer}, "bias": jnp.ones(3)}}
    model = {"stages": 4, "widths": (20, 12, 8), "deep": {"er": ((1, 2), 3)}, "dtype": None}
    return Weights("tiny", model, params, {"data": "a few pairs", "psnr": "20.1"})


@pytest.fixture
def saved(tmp_path):
    weights.save(tmp_path / "weights.safetensors", example())
    return tmp_path / "weights.safetensors"


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        weights.load(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def facts_of(path):
    """The file's one entry of metadata."""
    with safetensors.safe_open(path, "numpy") as file:
        (entry,) = file.metadata().items()
    assert entry[0] == weights.ENTRY
    return json.loads(entry[1])


def rewritten(path, **changes):
    """The same file with other metadata; None takes a part away."""
    facts = facts_of(path) | {"digest": None} | changes
    text = json.dumps({name: value for name, value in facts.items() if value is not None})
    path.write_bytes(safetensors.numpy.save({"a": np.ones(2, np.float32)}, {weights.ENTRY: text}))


def test_everything_comes_back(saved):
    loaded, expected = weights.load(saved), example()
    assert loaded._replace(params=None) == expected._replace(params=None)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(expected.params)
    for leaf, truth in zip(*map(jax.tree.leaves, (loaded.params, expected.params)), strict=True):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype == truth.dtype
        np.testing.assert_array_equal(leaf, truth)


def test_names_in_the_file_are_the_paths_in_the_tree(saved):
    with safetensors.safe_open(saved, "numpy") as file:
        assert "params/denoising/level0/kernel" in file.keys()  # noqa: SIM118
    assert facts_of(saved)["format"] == weights.FORMAT


@pytest.mark.slow
def test_the_same_weights_are_the_same_bytes_in_any_process(tmp_path):
    """Hashes of strings differ between processes, and with them the order of a set or a Rust map."""
    code = """
import sys
import numpy as np
from pdn_jax import weights
names = list({"kernel", "bias", "scale", "mean", "deep", "wide"})  # in any order
params = {"params": {name: {n: np.ones(3, np.float32) for n in names} for name in names}}
facts = {name: str(len(name)) for name in names}
weights.save(sys.argv[1], weights.Weights("tiny", {"stages": 4, "widths": (1, 2)}, params, facts))
"""
    for seed in range(4):
        environment = os.environ | {"PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", code, str(tmp_path / f"{seed}.safetensors")]
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[1])
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1


def test_a_folder_stands_for_the_file_in_it(saved):
    assert weights.load(saved.parent).variant == "tiny"
    assert weights.load(str(saved), variant="tiny").variant == "tiny"
    weights.save(saved.parent, example()._replace(variant="base"))
    assert weights.load(saved).variant == "base"


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        weights.save(saved, example()._replace(variant="base"))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_save_names_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        weights.save(tmp_path / "nowhere" / "a.safetensors", example())


def test_missing_files_are_named(tmp_path):
    assert "does not exist" in refused(tmp_path / "no.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors does not exist"):
        weights.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", b"text " * 500])
def test_what_is_not_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert "not a whole safetensors file" in refused(path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
def test_truncated_files_are_refused(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    assert "not a whole safetensors file" in refused(saved)


def test_a_bit_that_flipped_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    content[-3] ^= 4
    saved.write_bytes(content)
    assert "is damaged" in refused(saved)


def test_foreign_safetensors_are_refused(saved):
    saved.write_bytes(safetensors.numpy.save({"a": np.ones(2, np.float32)}))
    assert "not one of pdn_jax" in refused(saved)


def test_another_format_version_is_refused(saved):
    rewritten(saved, format="7")
    assert "format 7, expected 2" in refused(saved)
    first = {"pdn_jax": "1", "variant": "tiny", "model": "{}", "metadata": "{}"}
    saved.write_bytes(safetensors.numpy.save({"a": np.ones(2, np.float32)}, first))
    assert "format 1, expected 2" in refused(saved)
    saved.write_bytes(safetensors.numpy.save({"a": np.ones(2, np.float32)}, {"pdn_jax": "{"}))
    assert "is damaged" in refused(saved)


@pytest.mark.parametrize("model", [None, "{", [1, 2]])
def test_a_bad_description_is_refused(saved, model):
    rewritten(saved, model=model)
    assert "describes its network badly" in refused(saved)


def test_another_variant_is_refused_and_both_are_named(saved):
    message = refused(saved, variant="base")
    assert "'tiny'" in message
    assert "'base'" in message


def shapes(**leaves):
    return {
        "params": {"a": {name: jax.ShapeDtypeStruct(s, "float32") for name, s in leaves.items()}}
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bias": (3,), "kernel": (2, 4)}, ["params/a/kernel", "(2, 4)", "(2, 3)"]),
        ({"bias": (4,), "kernel": (2, 4)}, ["params/a/bias", "(4,)", "(3,)"]),
        ({"bias": (3,)}, ["params/a/kernel", "missing", "(2, 3)"]),
        ({"bias": (3,), "kernel": (2, 3), "more": ()}, ["params/a/more", "()", "no such leaf"]),
    ],
)
def test_check_names_the_first_leaf_that_differs(given, words):
    expected = shapes(bias=(3,), kernel=(2, 3))
    weights.check(shapes(bias=(3,), kernel=(2, 3)), expected)
    with pytest.raises(InputError) as caught:
        weights.check(shapes(**given), expected)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# --- bundled pretrained weights ----------------------------------------------------------------


def test_they_are_few_bytes_and_whole():
    sizes = [(weights.FOLDER / name / weights.FILENAME).stat().st_size for name in weights.SHIPPED]
    assert sum(sizes) < 6e6
    for name in weights.SHIPPED:
        bundled = weights.load(name, variant=name)
        model = ProgressiveDualNetwork(**bundled.model)
        low = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
        weights.check(bundled.params, jax.eval_shape(model.init, jax.random.key(0), low))
        leaves = jax.tree.leaves(bundled.params)
        assert all(leaf.dtype == np.float16 and np.isfinite(leaf).all() for leaf in leaves)
        assert bundled.model == VARIANTS[name] | {"evidence": True}


def test_their_cards_say_what_they_are():
    for name in weights.SHIPPED:
        card = weights.card(name)
        leaves = jax.tree.leaves(weights.load(name).params)
        assert card["parameters"] == sum(leaf.size for leaf in leaves)
        *trained, head = card["training"]
        assert head["command"].startswith("python -m train.tools.fit_amount ")
        for training, config in zip(trained, ("real", "refine"), strict=False):
            wanted = f"python -m train.main --config configs/{config}.py "
            assert training["command"].startswith(wanted)
            assert training["steps"] > 0
        assert all(
            {"name", "what", "source", "licence", "weight"} <= d.keys() for d in card["data"]
        )
        for scores in card["scores"].values():
            for metric in ("psnr", "ssim"):
                low, mean, high = (scores[metric][k] for k in ("low", "mean", "high"))
                assert low < mean < high
        training, *seen = card["failures"]
        assert "one key used twice" in training["what"]
        for failure in seen:
            assert failure["what"]
            assert (weights.FOLDER / name / failure["picture"]).is_file()
        about = json.loads((Path(__file__).parents[1] / "docs/weights.json").read_text())
        assert about["failures"] == card["failures"]
        assert about["notes"] == card["notes"]


def test_a_name_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    weights.save("small/weights.safetensors", example())
    assert weights.load("small").variant == "small"
    assert weights.load("./small").variant == "tiny"


def test_half_precision_and_back():
    values = np.asarray([0.0, 1e-3, -2.5, 1 / 3], np.float32)
    params = {"params": {"a": values, "b": {"c": 2 * values}}}
    stored = weights.half(params)
    assert stored["params"]["b"]["c"].dtype == np.float16
    back = weights.single(stored)
    assert back["params"]["a"].dtype == np.float32
    np.testing.assert_allclose(back["params"]["a"], values, rtol=5e-4)
    with pytest.raises(ValueError, match="not finite in float16"):
        weights.half({"params": {"a": np.float32([1e6])}})
