"""Exported files make what the network makes, without this package; bad input leaves nothing behind."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export

from benchmarks import engines
from pdn_jax import export_command, weights
from pdn_jax import image as im
from pdn_jax.cli import main
from pdn_jax.dial import dial
from pdn_jax.errors import InputError
from pdn_jax.export import formats, onnx_builder
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.weights import Weights

SMALLEST = {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (2,)}
OTHERS = {
    "rows, a block of 4": {**SMALLEST, "blocks": (4,), "texture": "rows"},
    "two levels, no noise": {
        **{"stages": 2, "width": 8, "widths": (12, 8), "depths": (2, 0), "blocks": (4, 4)},
        "noise_map": False,
    },
    "three levels": {
        **{"stages": 3, "width": 16, "widths": (8, 12, 16), "depths": (1, 2, 3)},
        "blocks": (2, 2, 4),
        "evidence": True,
    },
}
SIZES = [(16, 24), (32, 16), (40, 64)]
DIALS = [(1.0, 1.0), (0.5, 1.0), (1.0, 0.25), (3.0, 0.0)]


def made(model):
    """A network of random weights."""
    return Weights("made", model, engines.parameters(engines.Task("made", model, 16, 16)), {})


def dark(*shape):
    return np.random.default_rng(3).uniform(0.0, 0.2, (*shape, 3)).astype(np.float32)


def restored(loaded):
    """The network with its dials in JAX: (photographs, exposure, denoise) -> restored."""
    network = ProgressiveDualNetwork(**loaded.model)

    def restore(photo, exposure, denoise):
        return dial(network.apply(loaded.params, photo), exposure, denoise).clip(0.0, 1.0)

    return jax.jit(restore, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def smallest():
    return made(SMALLEST)


@pytest.fixture
def place(tmp_path, monkeypatch, smallest):
    """A folder to work in, with a run folder of weights."""
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    weights.save("run", smallest)
    return tmp_path


def run(*options, form="onnx", output="new.file"):
    try:
        return main(["export", "--weights", "run", "--format", form, "-o", output, *options])
    except SystemExit as stop:
        return stop.code


# --- ONNX ------------------------------------------------------------------------------------


def held_against_jax(loaded, *sizes):
    session, restore = formats.program("onnx", formats.written(loaded, "onnx")), restored(loaded)
    for size in sizes:
        photo = dark(*size)
        for dials in DIALS:
            wanted = restore(photo[None], *dials)[0]
            assert wanted.std() > 0.02
            np.testing.assert_allclose(session(photo, *dials), wanted, atol=5e-6)


def test_onnx_runtime_makes_what_jax_makes(smallest):
    held_against_jax(smallest, (24, 16))


@pytest.mark.slow
@pytest.mark.parametrize("model", OTHERS.values(), ids=OTHERS)
def test_onnx_runtime_makes_what_jax_makes_of_other_networks(model):
    held_against_jax(made(model), (24, 16), (16, 64), (40, 48))


@pytest.mark.slow
@pytest.mark.parametrize("name", weights.SHIPPED)
@pytest.mark.parametrize("form", formats.FORMATS)
def test_bundled_weights_agree_on_a_photograph(name, form):
    loaded = weights.load(name)
    assert formats.largest_difference(loaded, form, formats.written(loaded, form)) < 1e-5


def test_an_onnx_file_takes_a_batch_and_is_clipped():
    data = formats.written(weights.load("tiny"), "onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(data)
    photos = np.stack([dark(16, 32), dark(16, 32)[::-1]])
    dials = {"exposure": np.array(8.0, np.float32), "denoise": np.ones((), np.float32)}
    (both,) = session.run(["restored"], {"photograph": photos, **dials})
    one = formats.program("onnx", data)(photos[1], 8.0, 1.0)
    np.testing.assert_allclose(both[1], one, atol=1e-6)
    assert both.min() >= 0.0
    assert both.max() == 1.0


def test_half_precision_loses_nothing_of_bundled_weights():
    loaded, photo = weights.load("tiny"), dark(16, 24)
    files = [formats.written(loaded, "onnx", half=half) for half in (False, True)]
    whole, half = (formats.program("onnx", data)(photo, 0.5, 0.5) for data in files)
    np.testing.assert_array_equal(whole, half)
    assert len(files[1]) < 0.65 * len(files[0])


def test_equal_constants_are_one():
    add = onnx_builder.Builder(onnx_builder.library())
    assert add.constant(0.5) == add.constant(np.float32(0.5))
    assert len({add.constant(x) for x in (1.0, 1, [1.0], [[1.0]])}) == 4
    with pytest.raises(ValueError, match="constants are numbers"):
        add.constant(True)


# --- StableHLO -------------------------------------------------------------------------------

READER = """
import json, sys
import numpy as np
sys.modules["pdn_jax"] = None
from jax import export
program = export.deserialize(bytearray(open("new.file", "rb").read()))
results = {}
for name, photo in np.load("photos.npz").items():
    for index, dials in enumerate(np.load("dials.npy")):
        results[f"{name} {index}"] = program.call(photo[None], *dials)[0]
np.savez("results.npz", **results)
print(json.dumps([program.platforms, json.loads(program.fun_name)]))
"""


def read_elsewhere(photos):
    """What a process without this package makes of photographs, and what the file says to it."""
    np.savez("photos.npz", **photos)
    np.save("dials.npy", np.float32(DIALS))
    command = [sys.executable, "-c", READER]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.load("results.npz"), json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (32, 48)])
def test_stablehlo_runs_where_this_package_is_not(place, smallest, size, capsys):
    options = ["--height", str(size[0]), "--width", str(size[1])] if size else []
    assert run(*options, form="stablehlo") == 0
    assert "differs from JAX by at most" in capsys.readouterr().out
    photos = {str(index): dark(*s) for index, s in enumerate([size] if size else SIZES)}
    results, (platforms, facts) = read_elsewhere(photos)
    assert platforms == ["cpu", "cuda", "tpu"]
    assert facts == formats.metadata(smallest, size)
    restore = restored(smallest)
    for name, photo in photos.items():
        for index, dials in enumerate(DIALS):
            wanted = restore(photo[None], *dials)[0]
            np.testing.assert_allclose(results[f"{name} {index}"], wanted, atol=5e-6)


@pytest.mark.slow
def test_stablehlo_in_half_the_bytes(smallest):
    loaded = smallest._replace(params=weights.half(smallest.params))
    photo = dark(16, 16)
    files = [formats.written(loaded, "stablehlo", (16, 16), half=half) for half in (False, True)]
    whole, half = (formats.program("stablehlo", data)(photo, 0.5, 0.5) for data in files)
    np.testing.assert_allclose(whole, half, atol=1e-6)
    assert len(files[1]) < len(files[0])


# --- the command -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--height", "24", "--width", "40", "--float16"]])
def test_a_file_says_what_it_is(place, smallest, options, capsys):
    assert run(*options) == 0
    out, err = capsys.readouterr()
    assert out.startswith("new.file: made, 24x40, " if options else "new.file: made, any size, ")
    assert err == ""
    data = Path("new.file").read_bytes()
    entries = onnx_builder.library().load_from_string(data).metadata_props
    size = (24, 40) if options else None
    assert {e.key: e.value for e in entries} == formats.metadata(smallest, size)
    inputs = pytest.importorskip("onnxruntime").InferenceSession(data).get_inputs()
    assert [i.name for i in inputs] == ["photograph", "exposure", "denoise"]
    assert inputs[0].shape == ([1, 24, 40, 3] if options else ["batch", "height", "width", 3])


def test_a_program_says_nothing_of_where_it_was_traced():
    traced = export.export(jax.jit(im.linearize))(jax.ShapeDtypeStruct((2, 3), "float32"))
    artifact = traced.mlir_module_serialized
    assert b"image.py" in artifact
    bare = formats.without_locations(artifact)
    assert b".py" not in bare
    same = dataclasses.replace(traced, mlir_module_serialized=bare)
    value = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(same.call(value), traced.call(value))


@pytest.mark.parametrize("name", weights.SHIPPED)
def test_the_hash_is_that_of_the_weights_file(name):
    data = (weights.FOLDER / name / weights.FILENAME).read_bytes()
    facts = formats.metadata(weights.load(name), (16, 24))
    assert facts["weights"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (facts["variant"], facts["multiple"], facts["smallest"]) == (name, "8", "16")
    assert (facts["size"], facts["colour_space"], facts["range"]) == ("16x24", "sRGB", "0 to 1")


def refused(capsys, code, *words):
    """One line on stderr with these words, exit code 2, and no file that was not there."""
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("pdn_jax: error: ")
    assert all(word in err for word in words), err
    assert sorted(p.name for p in Path().iterdir() if p.suffix != ".dir") in (["run"], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--height 8 --width 64", ("--height must be a multiple of 8 from 16, got 8: take 16",)),
        ("--height 64 --width 600.5", ("--width", "600.5")),
        ("--height 64 --width 602", ("--width", "602", "take 608")),
        ("--height 64", ("--width is missing",)),
    ],
)
def test_sizes_that_cannot_be(place, capsys, options, words):
    refused(capsys, run(*options.split()), *words)


def test_targets_that_cannot_be(place, capsys):
    refused(capsys, run(output="missing/new.onnx"), "there is no folder missing")
    refused(capsys, run(output="run"), "run is a folder")
    place.joinpath("old.dir").write_bytes(b"here before")
    refused(capsys, run(output="old.dir"), "old.dir exists", "--overwrite")
    assert place.joinpath("old.dir").read_bytes() == b"here before"


def test_a_disk_that_refuses(place, capsys, monkeypatch):
    monkeypatch.setattr(formats, "largest_difference", lambda *_: 0.0)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_command.files, "atomic_write", full)
    refused(capsys, run(), "cannot write new.file: No space left on device")


def test_weights_of_another_network(place, smallest, capsys):
    other = {**smallest.params["params"], "denoising": {}}
    weights.save("run", smallest._replace(params={"params": other}))
    refused(capsys, run(), "weights do not fit the network at params/denoising")
    Path("run", weights.FILENAME).unlink()
    refused(capsys, run(), "does not exist")


@pytest.mark.parametrize(
    ("module", "form"),
    [("onnx", "onnx"), ("onnxruntime", "onnx"), ("flatbuffers", "stablehlo")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    place, capsys, monkeypatch, module, form
):
    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    refused(capsys, run(form=form), f"need {module}:", 'pip install "pdn_jax[export]"')


@pytest.mark.parametrize("apart", [0.005, float("nan")])
def test_a_file_that_differs_from_jax_is_not_written(place, capsys, monkeypatch, apart):
    photo = formats.dark_photograph(*formats.SIZES[0])
    assert 0.02 < photo.mean() < 0.2
    monkeypatch.setattr(formats, "program", lambda *_: lambda photo, *dials: photo + apart)
    monkeypatch.setattr(formats, "Enhancer", lambda _: lambda photo, **dials: photo)
    refused(capsys, run(), "differs from JAX", "more than 1/255", "nothing is written")


def test_a_file_that_agrees_is_written(place, capsys, monkeypatch):
    monkeypatch.setattr(formats, "program", lambda *_: lambda photo, *dials: photo + 0.002)
    monkeypatch.setattr(formats, "Enhancer", lambda _: lambda photo, **dials: photo)
    assert run() == 0
    assert "at most 0.5/255" in capsys.readouterr().out
    assert Path("new.file").stat().st_size > 1000


def test_a_size_left_open_is_none():
    assert formats.check_size(None, None) is None
    assert formats.check_size(16, 24) == (16, 24)
    with pytest.raises(InputError, match="--height is missing"):
        formats.check_size(None, 16)
