"""The scripts of colab/lab: short, what they say they are, and each run small from end to end."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image as PILImage
from test_survive import NETWORK

from colab.lab import brightness, no_truth, pareto, priors, steps, ten_pairs, terms
from pdn_jax import cli, degradation, weights
from pdn_jax.balance import GradientStatistics
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.types import Physics
from train import imports

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "colab/lab").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short(path):
    assert len(path.read_text().splitlines()) < 60


# --- what they are ---------------------------------------------------------------------------


def test_haze_veils_what_is_far():
    light = jnp.full((2, 9, 4, 3), 0.2)
    seen = steps.haze(density=1.0, air=0.6).mean(light, Physics(exposure=jnp.ones(2)))
    np.testing.assert_allclose(seen[:, -1], 0.2, rtol=1e-6)  # near, at the bottom
    np.testing.assert_allclose(seen[:, 0], 0.2 * np.exp(-1) + 0.6 * (1 - np.exp(-1)), rtol=1e-5)
    assert (np.diff(seen[0, :, 0, 0]) < 0).all()


@pytest.mark.parametrize("length", [1, 4, 5])
def test_motion_blur_is_the_mean_along_a_row(length):
    spot = jnp.zeros((7, 15, 3)).at[3, 7].set(1.0)
    seen = steps.motion_blur(length).mean(spot, Physics())
    assert seen.shape == spot.shape
    np.testing.assert_allclose(seen[3].sum(0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.unique(seen[3, :, 0]), np.unique([0, 1 / length]), rtol=1e-5)
    assert not seen[2].any()
    flat = steps.motion_blur(length).mean(jnp.full((7, 15, 3), 0.3), Physics())
    np.testing.assert_allclose(flat, 0.3, rtol=1e-5)


def test_the_frequencies_have_the_energy_of_the_error():
    """Parseval: the squares over all frequencies; stripes are one of them, and cost less than noise."""
    error = 0.1 * jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    found = terms.frequencies(error, jnp.zeros_like(error)) + 1e-3
    counts = np.where(np.isin(np.arange(9), [0, 8]), 1, 2)[None, None, :, None]
    np.testing.assert_allclose((counts * (found**2 - 1e-6)).sum(), (error**2).sum(), rtol=1e-4)
    stripe = jnp.broadcast_to(0.1 * jnp.cos(jnp.pi / 2 * jnp.arange(16))[:, None], (1, 16, 16, 1))
    found = terms.frequencies(stripe, jnp.zeros_like(stripe))
    assert int((found > 0.1).sum()) == 1
    noise = jax.random.permutation(jax.random.key(1), stripe.ravel()).reshape(stripe.shape)
    assert found.sum() < 0.2 * terms.frequencies(noise, jnp.zeros_like(noise)).sum()


@pytest.mark.parametrize("term", [terms.edges, terms.multi_scale_ssim])
def test_terms_are_nothing_at_the_truth_and_grow(term):
    batch = imports.tiny_batch(48)
    scores = [term(None, (1 - error) * batch.normal, batch) for error in (0.0, 0.1, 0.3)]
    first, *others = (np.stack(list(each.values()))[0] for each in scores)
    np.testing.assert_allclose(first, 0.0, atol=1e-5)
    assert (first < others[0]).all()
    assert (others[0] < others[1]).all()


def test_a_term_blind_to_the_gain_sees_structure_alone():
    batch = imports.tiny_batch(48)
    scores = [
        brightness.gain_blind(None, image, batch)["gain_blind"]
        for image in (0.4 * batch.normal, batch.normal, 1 - batch.normal)
    ]
    np.testing.assert_allclose(np.stack(scores[:2]), 0.0, atol=1e-6)
    assert (scores[2] > 0.01).all()
    slopes = jax.grad(lambda x: brightness.gain_blind(None, x, batch)["gain_blind"].sum())
    assert np.isfinite(slopes(jnp.zeros_like(batch.normal))).all()


@pytest.mark.parametrize(
    ("positive", "negative", "product", "alpha"),
    [
        (1.0, 1.0, 0.0, 0.5),  # of one length and apart: the middle
        (4.0, 1.0, 1.5, 0.0),  # the shorter one is the shortest mean
        (1.0, 4.0, 0.0, 0.8),
        (1.0, 1.0, -1.0, 0.5),  # against each other: nothing can be gained
        (1.0, 0.0, 0.0, 1.0),  # the hinge is shut
    ],
)
def test_the_pareto_weight_by_hand(positive, negative, product, alpha):
    statistics = GradientStatistics(*map(jnp.asarray, (1.0, 1.0, 1.0, positive, negative, product)))
    made = pareto.shortest_mean(decay=0.0)
    state, _ = made.update(made.init(), statistics)
    np.testing.assert_allclose(state, alpha, atol=1e-6)
    both = made.weights(state)
    np.testing.assert_allclose(both.positive + both.negative, 1.0)


@pytest.mark.slow
def test_all_of_them_pass_the_trial_of_a_training():
    batch = imports.tiny_batch(32)
    names = ("terms:edges", "terms:multi_scale_ssim", "brightness:gain_blind")
    imports.terms(tuple((f"colab.lab.{name}", 0.1) for name in names), batch)
    imports.distance("colab.lab.terms:frequencies", batch)
    imports.balance("colab.lab.pareto:PARETO")
    imports.steps("data.scene", ("colab.lab.steps:MIST", "colab.lab.steps:SHAKE"), batch)


@pytest.mark.slow
def test_the_priors_know_a_grey_scene():
    """Exposure and cast of a grey scene of the light that most have are those it was taken with."""
    normal = jnp.full(
        (2, 32, 32, 3), float(np.interp(priors.LIGHT, [0.1329, 0.1746], [0.4, 0.455]))
    )
    taken = Physics(
        exposure=jnp.asarray([0.05, 0.2]), gains=jnp.asarray([[1.25, 1.0, 0.8], [1.0, 1.0, 1.0]])
    )
    low = jax.jit(degradation.camera().mean)(normal, taken)
    noise = imports.output_of(low).noise
    assumed = priors.physics_of(low, noise)
    np.testing.assert_allclose(assumed.exposure, taken.exposure, rtol=0.05)
    np.testing.assert_allclose(assumed.gains, taken.gains, rtol=0.02)
    batch = imports.tiny_batch(32).replace(low=low, normal=low, physics=assumed)
    costs = [float(priors.cost(f * normal, jax.random.key(0), batch)) for f in (1.0, 0.5)]
    assert costs[0] < costs[1]


# --- run small -------------------------------------------------------------------------------


def small(run_dir):
    """Options of a training of two steps."""
    options = {
        **{"run_dir": run_dir, "data.crop_size": 32, "model.change": NETWORK, "train.steps": 2},
        **{"train.batch_size": 2, "eval.max_pairs": 1, "eval.draws": 1, "log.images": False},
        **{"parallel.strategy": "single", "parallel.devices": 1, "log.every": 1},
    }
    return [f"--config.{key}={value}" for key, value in options.items()]


def logged(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("script", [steps, terms, pareto], ids=lambda script: script.__name__)
def test_a_training_with_it(script, tmp_path):
    script.main(small(tmp_path / "run"))
    folder = tmp_path / "run"
    rows = logged(folder)
    assert len(rows) == 2
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    kept = json.loads((folder / "config.json").read_text())
    if script is steps:
        assert kept["data"]["scene"] == kept["eval"]["scene"] != []
    if script is terms:
        assert float(rows[0]["edges"]) > 0 < float(rows[0]["multi_scale_ssim"])
    if script is pareto:
        assert float(rows[0]["balance/alpha"]) == 1.0
        assert b"<svg" in (folder / "balance.svg").read_bytes()


@pytest.fixture(scope="module")
def photographs():
    photo = skimage.data.astronaut()
    return [
        photo[top : top + 72, left : left + 80]
        for top in (0, 90)
        for left in (0, 90, 180, 270, 360)
    ]


@pytest.fixture(scope="module")
def ten(photographs, tmp_path_factory):
    """Ten pairs of a camera, in low/ and high/."""
    folder = tmp_path_factory.mktemp("mycamera")
    camera = jax.jit(degradation.camera().sample)
    for index, normal in enumerate(photographs):
        theta = Physics(exposure=jnp.asarray(0.08), shot_noise=jnp.asarray(1e-3))
        key = jax.random.fold_in(jax.random.key(0), index)
        low = camera(key, jnp.asarray(normal, jnp.float32) / 255, theta)
        for part, image in (("low", np.rint(255 * np.asarray(low))), ("high", normal)):
            (folder / part).mkdir(exist_ok=True)
            PILImage.fromarray(image.astype(np.uint8)).save(folder / part / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of a network that is small enough."""
    model = dict(NETWORK)
    network = ProgressiveDualNetwork(**model)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    weights.save(path, weights.Weights("small", model, jax.tree.map(np.asarray, params), {}))
    return path


@pytest.mark.slow
def test_adapted_without_a_truth(ten, start, tmp_path, capsys):
    target = tmp_path / "adapted.safetensors"
    costs = no_truth.main(ten / "low", target, start=str(start), steps=8, size=96, crops=2)
    assert len(costs) == 8
    assert np.isfinite(costs).all()
    adapted, before = weights.load(str(target)), weights.load(str(start))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), adapted.params, before.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    assert cli.explained(lambda: no_truth.main(ten / "low", target)) == 2
    assert "exists; name another file" in capsys.readouterr().err


@pytest.mark.slow
def test_fine_tuned_to_ten_pairs(ten, start, tmp_path):
    options = [*small(tmp_path / "mine"), f"--config.model.weights={start}"]
    folder = ten_pairs.main(ten, tmp_path / "mine", *options)
    assert len(logged(folder)) == 2
    assert (tmp_path / "mine-camera.json").exists()
    kept = json.loads((folder / "config.json").read_text())
    assert [weight for _, weight in kept["data"]["mixture"]] == [0.5, 0.5]
