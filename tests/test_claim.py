"""Where truths are few, wrong or missing: the arms, where their θ comes from, what is written."""

import csv
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from colab.lab import priors
from pdn_jax import degradation
from pdn_jax.types import Batch, InputError, Physics
from train.config import parse, validate
from train.data import calibrated_camera
from train.tools import claim, claim_physics, prepare

ARMS = [arms for study in claim.STUDIES.values() for arms in study]


@pytest.mark.parametrize("arms", ARMS, ids=lambda arms: next(iter(arms)))
def test_arms_are_options_that_there_are(arms):
    for changes in arms.values():
        plain = {k: v for k, v in changes.items() if ":" not in k and (k, v) != ("train.steps", 0)}
        own = [f"--config.{key}={value}" for key, value in plain.items()]
        validate(parse(["--config", "configs/claim.py", *own]))


def test_arms_of_a_comparison_see_as_many_crops():
    for arms in ARMS:
        for name in ("train.steps", "train.batch_size", "data.crop_size"):
            assert {c[name] for c in arms.values() if name in c} <= {0}


# --- what is asked where there is no truth ---------------------------------------------------------


def test_priors_are_those_of_the_laboratory(monkeypatch):
    """Its cost less its negative direction, which is held at 0 here."""
    restored = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 32, 32, 3)), jnp.float32)
    theta = degradation.neutral_physics(jnp.ones(2))
    batch = Batch(low=restored, normal=restored, physics=theta)
    monkeypatch.setattr(priors, "RESIDUAL", lambda *_: jnp.zeros(2))
    cost = priors.cost(restored, claim.jax.random.key(0), batch)
    (_, light), (_, grey) = claim.PRIORS["loss.extra"]
    ours = light * claim.exposure(None, restored, batch)["exposure"]
    ours = ours + grey * claim.colours(None, restored, batch)["colours"]
    np.testing.assert_allclose(ours.mean(), cost, rtol=1e-5)
    assert (claim_physics.LIGHT, claim_physics.GREY) == (priors.LIGHT, priors.GREY)


def test_the_light_of_a_scene_is_what_its_camera_says():
    scene = jnp.full((1, 16, 16, 3), 0.6)
    theta = Physics(
        exposure=jnp.asarray([0.1]),
        gains=jnp.asarray([[1.2, 1.0, 1 / 1.2]]),
        offset=jnp.full((1, 3), 0.002),
    )
    batch = Batch(low=jax.jit(degradation.camera().mean)(scene, theta), normal=scene, physics=theta)
    right, wrong = (claim.scene_light(None, x, batch)["light"] for x in (scene, 0.8 * scene))
    assert right[0] < 1e-3 < 0.3 < wrong[0]


# --- θ -------------------------------------------------------------------------------------------


def test_a_truth_too_bright_by_a_stop_halves_the_exposure():
    theta = claim_physics.mistaken(Physics(exposure=jnp.asarray(0.2)), 1.0)
    np.testing.assert_allclose(theta.exposure, 0.1, rtol=1e-6)


class Pairs(SimpleNamespace):
    """Some pairs of one colour each: name -> (dark, bright) of 255."""

    @property
    def items(self):
        return [SimpleNamespace(example=name, low=0) for name in self.pairs]

    def item_name(self, item):
        return item.example

    def frame(self, example, index):
        return np.full((4, 4, 3), self.pairs[example][index], np.uint8)


def test_theta_of_the_others_is_that_of_the_few():
    """A scene as bright as the kept one's and light of a tenth of it: κ = 0.1, whatever its truth."""
    camera, theta = degradation.camera(), Physics(exposure=jnp.full(1, 0.1))
    dark = round(255 * float(camera.mean(jnp.full((1, 8, 8, 3), 0.8), theta).mean()))
    kept, others = Pairs(pairs={"a": (dark, 204)}), Pairs(pairs={"b": (dark, 30)})
    known = {"a": Physics(exposure=jnp.asarray(0.1), shot_noise=jnp.asarray(4e-5))}
    theta = claim_physics.by_few(kept, others, known)["b"]
    np.testing.assert_allclose(theta.exposure, 0.1, rtol=0.02)
    np.testing.assert_allclose(theta.gains, 1.0, rtol=1e-5)
    np.testing.assert_allclose(theta.shot_noise, 4e-5, rtol=1e-5)


# --- from the command to the table -----------------------------------------------------------------


@pytest.fixture
def sets(tmp_path):
    """Pairs of a camera with their θ, and clean photographs."""
    rng = np.random.default_rng(0)
    for index in range(8):
        image = np.kron(rng.integers(60, 200, (5, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        part = "train" if index < 6 else "dev"
        paths = {f"eliei/{part}/low/{index}.png": image // 8}
        paths |= {f"eliei/{part}/high/{index}.png": image, f"clean/train/{index}.png": image}
        for path, pixels in paths.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(pixels).save(tmp_path / path)
    for kind, name in (("paired", "eliei"), ("photos", "clean")):
        where = ["--source", str(tmp_path / name), "--data-dir", str(tmp_path / "built")]
        prepare.run([kind, *where, "--name", name])
    split = claim_physics.store.Split("eliei", "train", tmp_path / "built")
    theta = Physics(exposure=jnp.asarray(0.02), shot_noise=jnp.asarray(1e-5))
    names = [f"eliei/{split.item_name(item)}" for item in split.items]
    fits = [calibrated_camera.Fit(name, theta, {}) for name in names]
    calibrated_camera.save(tmp_path / "c.json", fits, data=["eliei"], split="train", window=0)
    return tmp_path


@pytest.mark.slow
def test_a_study_from_its_command(sets, monkeypatch):
    monkeypatch.setitem(claim.START, "data.mixture", (("clean", 1.0),))
    monkeypatch.setitem(claim.START, "train.steps", 2)
    arms = claim.few(2)
    more = {"adapted": claim.ADAPTED["priors and negative, exposure from truths"]}
    monkeypatch.setitem(claim.STUDIES, "few", [arms | more])
    options = ["--config.train.steps=2", "--config.data.crop_size=32", "--config.loss.pyramid=2"]
    options += [f"--config.data.directory={sets}/built", f"--config.data.physics={sets}/c.json"]
    command = ["few", "--config", "configs/claim.py", "--out", str(sets / "out"), "--seeds", "1"]
    claim.run([*command, *options])
    with (sets / "out" / "few.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == [*arms, "adapted"]
    assert {row["against"] for row in rows} == {"2 pairs"}
    assert (sets / "out" / "few.png").exists()
    monkeypatch.setattr(claim, "train", None)  # what is finished is not done again
    claim.run([*command, *options])
    with pytest.raises(InputError, match="other options"):
        claim.run([*command, *options, "--config.train.batch_size=4"])


def test_what_truths_leave_is_what_noise_leaves_where_the_camera_is_the_model():
    """A grey of 128 at a fifth of its light with noise far above 8 bits, seen by the model itself."""
    camera = degradation.camera()
    theta = Physics(exposure=jnp.asarray(0.2), read_noise=jnp.asarray(1e-5))
    batched = claim.jax.tree.map(lambda x: x[None], theta)
    normal = jnp.full((1, 64, 64, 3), 128 / 255)
    low = camera.sample(claim.jax.random.key(0), normal, batched)
    frames = [np.round(255 * np.asarray(x[0])).astype(np.uint8) for x in (low, normal)]
    split = SimpleNamespace(
        name="data",
        items=[SimpleNamespace(example=0, low=0)],
        item_name=lambda item: "a",
        frame=lambda example, index: frames[index],
    )
    truths, white, correlated = claim_physics.residuals(split, {"data/a": theta}, levels=3)
    np.testing.assert_allclose(truths, white, rtol=0.1)
    np.testing.assert_allclose(correlated[0], white[0], rtol=1e-6)
    assert (correlated[1:] > white[1:]).all()
