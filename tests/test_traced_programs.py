"""Programs that were traced beforehand: they are those of the network as it is, at any size."""

import json

import numpy as np
import pytest

from pdn_jax import cache, program_inputs, programs, shapes, traced_programs, weights
from pdn_jax.enhancer import Enhancer
from pdn_jax.export import trace_programs
from pdn_jax.layout import GlobalPass, Tile

PHOTO = np.random.default_rng(0).integers(0, 60, (96, 136, 3), dtype=np.uint8)


def model_of(name):
    return dict(weights.load(name).model)


def random_parameters(model):
    """Of a network's shapes, so that every one of them matters."""
    rng = np.random.default_rng(1)
    drawn = {
        name: rng.normal(0, 0.5 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32)
        for name, shape in shapes.parameters(model).items()
    }
    return weights.unflatten(drawn)


def arrays_of(kind, channels):
    """What a program takes of a photograph of 12×17 cells, in arrays that are larger."""
    rng = np.random.default_rng(2)
    if kind == "global":
        return program_inputs.grids(*rng.uniform(0, 0.3, (2, 12, 17, 3)).astype(np.float32))
    draw = lambda *shape: rng.uniform(0, 1, (1, *shape)).astype(np.float32)  # noqa: E731
    whole = [draw(3) / 20, draw(1, 12, 17, 3), draw(12, 17, 3) / 10, draw(12, 17, channels)]
    spans = slice(0, 96), slice(0, 136)
    tile = Tile(*spans, *spans)
    arrays = program_inputs.tile_arrays(PHOTO, GlobalPass(*whole, None, None), tile, (128, 192))
    return [array[None] for array in arrays]


@pytest.mark.parametrize("kind", trace_programs.SIDES)
@pytest.mark.parametrize(
    "name", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("small", "base"))]
)
def test_they_are_the_network(name, kind):
    """Written before the network was changed? `python -m pdn_jax.export.trace_programs`."""
    model = model_of(name)
    one = programs.Programs(model, random_parameters(model), cache.Cache(None))
    arrays = arrays_of(kind, shapes.context_channels(model))
    wanted = programs.request(kind, arrays)
    made, traced = (
        program(one._parameters(program, programs.KINDS[kind].part), *arrays)
        for program in (one._traced_before(wanted), one._traced(wanted))
    )
    for result, expected in zip(made, traced, strict=True):
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        if result.dtype == np.uint8:
            apart = np.abs(result.astype(int) - expected)
            assert apart.max() <= 1
            assert apart.mean() < 0.01
            assert result.std() > 10
        else:
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_they_say_nothing_of_where_they_were_made():
    for name in weights.SHIPPED:
        for kind in trace_programs.SIDES:
            content = traced_programs.path(name, kind).read_bytes()
            assert json.loads(content.partition(b"\n")[0]) == json.loads(json.dumps(model_of(name)))
            assert b".py" not in content


@pytest.fixture
def own_shelf(monkeypatch):
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())


def test_other_photographs_and_networks_are_traced(own_shelf):
    """16 bits, floating point, and a network that is none of the bundled weights'."""

    expected = Enhancer("tiny", cache=cache.Cache(None))(PHOTO)
    for photo, white in ((257 * PHOTO.astype(np.uint16), 65535), (PHOTO / np.float32(255), 1)):
        result = Enhancer("tiny", cache=cache.Cache(None))(photo)
        assert result.dtype == photo.dtype
        assert np.abs(result / white - expected / 255).max() < 1.5 / 255
    other = json.dumps(model_of("tiny") | {"stages": 3}, sort_keys=True)
    assert traced_programs.artifact("global", other) is None


@pytest.mark.parametrize("damage", [lambda content: content[:-50], lambda _: None])
def test_where_they_cannot_be_used_all_is_traced(monkeypatch, own_shelf, damage):
    result = Enhancer("tiny", cache=cache.Cache(None))(PHOTO)
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())
    whole = traced_programs.artifact
    monkeypatch.setattr(traced_programs, "artifact", lambda *which: damage(whole(*which)))
    other = Enhancer("tiny", cache=cache.Cache(None))
    assert np.abs(other(PHOTO).astype(int) - result).max() <= 1
    assert other.programs.compiled == 2


def test_a_device_that_is_no_cpu_gets_none(monkeypatch):
    model = model_of("tiny")
    one = programs.Programs(model, weights.single(weights.load("tiny").params), cache.Cache(None))
    monkeypatch.setattr(programs, "on_cpu", lambda: False)
    arrays = arrays_of("global", shapes.context_channels(model))
    assert one._traced_before(programs.request("global", arrays)) is None


def test_writing_them_makes_them_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(traced_programs, "path", lambda name, kind: tmp_path / f"{name}-{kind}")
    monkeypatch.setattr(weights, "SHIPPED", ("tiny",))
    monkeypatch.setattr(trace_programs, "SIDES", {"global": trace_programs.SIDES["global"]})
    trace_programs.main()
    assert [file.name for file in tmp_path.iterdir()] == ["tiny-global"]
    traced_programs.artifact.cache_clear()
    model = model_of("tiny")
    one = programs.Programs(model, random_parameters(model), cache.Cache(None))
    arrays = arrays_of("global", shapes.context_channels(model))
    made = one._traced_before(programs.request("global", arrays))
    traced_programs.artifact.cache_clear()
    assert isinstance(made, programs.Loaded)
