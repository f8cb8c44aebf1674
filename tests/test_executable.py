"""Programs from their bytes or from StableHLO: without jax the same numbers; where that fails, compiled."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from pdn_jax import Enhancer, cache, executable, programs, traced_programs, weights

PHOTO = np.random.default_rng(0).integers(0, 60, (40, 50, 3), dtype=np.uint8)

SCRIPT = """
import sys
import numpy as np
from pdn_jax.enhancer import Enhancer
photo = np.load("photo.npy")
enhancer = Enhancer("tiny")
np.save("result.npy", enhancer(photo))
heavy = {"jax", "flax", "chex", "rich", "optax", "orbax", "matplotlib", "jaxtyping"}
print(enhancer.programs.compiled, *sorted(heavy & set(sys.modules)))
"""


@pytest.fixture
def jax_cache(tmp_path):
    """Jax's own compilation cache is off, or where the function that this gives says."""
    before = jax.config.jax_compilation_cache_dir

    def use(folder):
        jax.config.update("jax_compilation_cache_dir", folder and str(folder))
        compilation_cache.reset_cache()

    use(None)
    yield use
    use(before)


@pytest.fixture
def place(tmp_path, monkeypatch, jax_cache):
    """A folder with a photograph, and a cache of its own; programs in memory are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    np.save("photo.npy", PHOTO)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())
    return tmp_path


def process():
    """What another process says, and what it makes of the photograph."""
    command = [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout.split(), np.load("result.npy")


@pytest.mark.slow
def test_another_process_neither_compiles_nor_imports_what_compiles(place):
    first, photo = process()
    assert first == ["2"]
    second, same = process()
    assert second == ["0"]
    np.testing.assert_array_equal(same, photo)
    assert photo.mean() > PHOTO.mean()


@pytest.mark.slow
def test_damaged_entries_are_compiled_anew_without_a_word(place):
    _, photo = process()
    for path in (place / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    words, same = process()
    assert words[0] == "2"
    np.testing.assert_array_equal(same, photo)
    assert process()[0] == ["0"]


def test_loaded_programs_give_what_compiled_ones_give(place, monkeypatch):
    compiled = Enhancer("tiny")
    result = compiled(PHOTO)
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())
    loaded = Enhancer("tiny")
    np.testing.assert_array_equal(loaded(PHOTO), result)
    assert (compiled.programs.compiled, loaded.programs.compiled) == (2, 0)


@pytest.mark.slow
def test_what_jax_took_from_its_own_cache_is_not_written_again(place, monkeypatch, jax_cache):
    """jaxlib 0.10 leaves the kernels out of it: findings/reloaded_program_without_kernels.sh."""
    jax_cache(place / "jax")
    monkeypatch.setattr(traced_programs, "artifact", lambda *_: None)  # jax compiles all
    result = Enhancer("tiny")(PHOTO)
    assert len(list((place / "jax").iterdir())) >= 2
    monkeypatch.setenv(cache.VARIABLE, str(place / "another"))
    for _ in range(2):
        monkeypatch.setattr(programs, "SHELF", programs.Shelf())
        other = Enhancer("tiny")
        np.testing.assert_array_equal(other(PHOTO), result)
        assert other.programs.compiled == 2
    assert not (place / "another").exists()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["__init__", "__call__"])
def test_another_interface_of_jaxlib_is_no_reason_to_stop(place, monkeypatch, moment):
    result = Enhancer("tiny")(PHOTO)
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())

    def missing(*_):
        raise AttributeError("no such function")

    monkeypatch.setattr(executable.Loaded, moment, missing)
    other = Enhancer("tiny")
    np.testing.assert_array_equal(other(PHOTO), result)
    assert other.programs.compiled == 2


def test_a_cache_that_cannot_be_written_is_one_line(place, caplog, monkeypatch):
    (place / "cache").write_text("a file in the folder's place")
    monkeypatch.setattr(programs, "SHELF", programs.Shelf())
    assert Enhancer("tiny")(PHOTO).shape == PHOTO.shape
    (record,) = caplog.records
    assert str(place / "cache") in record.getMessage()


def test_bundled_weights_say_where_they_look_for_texture():
    assert {weights.load(name).model["texture"] for name in weights.SHIPPED} == {"both"}
