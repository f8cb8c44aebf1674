"""The command `physics`: what it measures of a pair, with which uncertainty, and what it refuses."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image as PILImage

from pdn_jax import cli, degradation, fitting, pair_physics
from pdn_jax.types import Physics

TRUTH = Physics(
    exposure=jnp.asarray(0.06),
    gains=jnp.asarray([1.25, 1.0, 0.8]),
    offset=jnp.asarray([0.001, 0.002, 0.003]),
    shot_noise=jnp.asarray(2e-3),
    read_noise=jnp.asarray(3e-6),
)


@pytest.fixture(scope="module")
def pair():
    normal = skimage.data.astronaut()[:160, 100:292]
    image = jnp.asarray(normal, jnp.float32) / 255.0
    low = jax.jit(degradation.camera().sample)(jax.random.key(0), image, TRUTH)
    return np.rint(255 * np.asarray(low)).astype(np.uint8), normal


@pytest.fixture(scope="module")
def measured(pair):
    return pair_physics.measure(*pair)


@pytest.fixture
def files(pair, tmp_path):
    for name, image in zip(("low", "normal"), pair, strict=True):
        PILImage.fromarray(image).save(tmp_path / f"{name}.png")
    PILImage.fromarray(pair[1][:100]).save(tmp_path / "smaller.png")
    PILImage.fromarray(pair[1][:40]).save(tmp_path / "tiny.png")
    return tmp_path


@pytest.mark.slow
def test_the_truth_is_in_intervals_that_are_narrow(measured):
    """As many as nine intervals of 95 % should hold; each is short enough to say something."""
    rows, _ = measured
    rows = {row.name: row for row in rows}
    truth = {"exposure": np.log2(0.06), "σs": 2e-3, "σr": 3e-6}
    colours = ("red", "green", "blue")
    truth |= {f"gain {c}": g for c, g in zip(colours, (1.25, 1.0, 0.8), strict=True)}
    truth |= {f"offset {c}": o for c, o in zip(colours, (0.001, 0.002, 0.003), strict=True)}
    assert set(rows) == set(truth)
    inside = [rows[name].low <= value <= rows[name].high for name, value in truth.items()]
    assert sum(inside) >= 7
    assert all(row.low < row.value < row.high for row in rows.values())
    assert 0.0 < rows["exposure"].high - rows["exposure"].low < 0.3
    for colour in colours:
        assert rows[f"gain {colour}"].high / rows[f"gain {colour}"].low < 1.2
    assert rows["σs"].high / rows["σs"].low < 2.0


@pytest.mark.slow
def test_the_points_lie_on_the_line(pair, measured):
    low, normal = (image.astype(np.float32) / 255.0 for image in pair)
    light, variance, expected = jax.jit(fitting.variance_points)(low, normal, measured[1])
    assert (np.diff(light) > 0).all()
    assert np.median(np.abs(np.log(variance / expected))) < 0.1
    assert (expected[1:] < 2.0 * (TRUTH.shot_noise * light + TRUTH.read_noise + 1e-6)[1:]).all()


def command(files, low, normal, *more):
    return cli.main(["physics", str(files / low), str(files / normal), *more])


@pytest.mark.slow
def test_the_command_prints_and_draws(files, capsys):
    target = files / "noise.svg"
    assert command(files, "low.png", "normal.png", "--plot", str(target)) == 0
    said = capsys.readouterr().out
    for name in ("exposure, stops", "gain red", "offset blue", "shot noise", "read noise"):
        assert name in said
    assert "-4.0" in said
    assert target.read_bytes().count(b"<path") > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("low.png", "smaller.png"), "a pair has the same size"),
        (("tiny.png", "tiny.png"), "at least 64 pixels"),
        (("none.png", "low.png"), "none.png"),
        (("low.png", "normal.png", "--window", "20"), "--window is 20"),
        (("low.png", "normal.png", "--plot", "x.txt"), "ends in .png, .svg or .pdf"),
        (("low.png", "normal.png", "--plot", "no/x.png"), "there is no folder no"),
    ],
)
def test_what_cannot_be_is_one_line(files, capsys, words, said):
    assert command(files, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_plot_is_not_overwritten_and_its_library_is_named(files, capsys, monkeypatch):
    there = files / "there.png"
    there.write_text("mine")
    assert command(files, "low.png", "normal.png", "--plot", str(there)) == 2
    assert "exists; name another" in capsys.readouterr().err
    assert there.read_text() == "mine"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert command(files, "low.png", "normal.png", "--plot", str(files / "new.png")) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
