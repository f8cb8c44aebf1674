"""The decision of how bright it is to be, fitted to weights that are finished."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdn_jax import evidence, weights
from pdn_jax import image as im
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError
from train import head
from train.tools import fit_amount

LOW = jax.random.uniform(jax.random.key(1), (2, 32, 40, 3))
CONFIG = """
from configs import amount

def get_config():
    config = amount.get_config()
    config.data.mixture, config.data.physics = (), ""
    config.data.crop_size, config.train.batch_size = 32, 4
    return config
"""


def plain():
    """`tiny` without a head."""
    module = ProgressiveDualNetwork(**VARIANTS["tiny"])
    params = jax.tree.map(np.asarray, jax.jit(module.init)(jax.random.key(0), LOW))
    return weights.Weights("tiny", dict(VARIANTS["tiny"]), params, {})


def restored(loaded, params=None):
    network = ProgressiveDualNetwork(**loaded.model)
    return np.asarray(jax.jit(network.apply)(params or loaded.params, LOW).restored)


def test_a_head_comes_and_goes_and_changes_nothing():
    before = plain()
    after = head.fitted_to(before, evidence=True)
    np.testing.assert_allclose(restored(after), restored(before), atol=1e-6)
    again = head.fitted_to(after, evidence=False)
    assert again.model | {"evidence": False} == before.model | {"evidence": False}
    for name, leaf in weights.flatten(before.params).items():
        np.testing.assert_array_equal(weights.flatten(again.params)[name], leaf)
    assert weights.flatten(again.params).keys() == weights.flatten(before.params).keys()


def test_results_between_those_that_were_made():
    made = jax.random.uniform(jax.random.key(0), (6, 5, 2, 3, 3))
    amounts = jnp.asarray([0.0, 1 / 3, 0.5, 1.0, 4 / 3, 2.0])
    found = fit_amount.between(made, amounts)
    wanted = [made[0, 0], made[1, 1], made[2, 1:3].mean(0), made[3, 3], made[4, 4], made[5, 4]]
    np.testing.assert_allclose(found, np.stack(wanted), atol=1e-6)


def test_it_learns_what_needs_nothing():
    rng = np.random.default_rng(0)
    light = np.arange(200) % 2 == 0  # these are right as they are, the others at an amount of 1
    small = np.where(light[:, None, None, None], 0.6, 0.1) * rng.uniform(0.8, 1.2, (200, 4, 4, 3))
    made = np.stack([small * (1 + 0.1 * step) for step in range(5)], axis=1)
    truth = np.where(light[:, None, None, None], made[:, 0], made[:, 3])
    seen = np.asarray(evidence.evidence(jnp.float32(small), jnp.float32(0.02 * small)))
    factors = 1.0 + 0.3 * evidence.AMOUNTS
    tried = np.float32(small.mean((1, 2, 3))[:, None] * factors)
    given = fit_amount.Results(seen, tried, np.ones(200, np.float32), made, truth, light)
    head, losses = fit_amount.fit(jax.random.key(0), given, 300, 1.0)
    target = evidence.Target().apply(
        {"params": head}, *map(jnp.asarray, (seen, tried[:, evidence.OWN]))
    )
    amount = np.asarray(evidence.amount_of(target, jnp.asarray(tried), jnp.ones(200)))
    assert losses[-1] < 0.1 * losses[0]
    assert amount[light].max() < 0.1
    assert abs(amount[~light] - 1.0).max() < 0.1


def test_what_is_made_is_what_the_network_makes():
    """At an amount of 1, which a new head wants; 0 is the photograph itself."""
    given = head.fitted_to(plain(), evidence=True)
    seen, tried, there, made = jax.jit(fit_amount.tries(given))(LOW)
    np.testing.assert_array_equal(there, 1.0)
    assert (seen.shape, tried.shape, made.shape) == ((2, 92), (2, 9), (2, 5, 4, 5, 3))
    whole = im.pool(jnp.clip(restored(given), 0.0, 1.0), 8)
    np.testing.assert_allclose(made[:, 3], whole, atol=1e-4)
    np.testing.assert_allclose(made[:, 0], im.pool(LOW, 8), atol=1e-6)
    steps = np.abs(np.diff(made.mean((2, 3, 4)), axis=1))
    assert (steps > 1e-4).all()


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(CONFIG)
    argv = ["--weights", "tiny", "--config", str(tmp_path / "mine.py"), "--photographs", "8"]
    argv += ["--steps", "3", "--out", str(tmp_path / "fitted")]
    fit_amount.run(argv)
    assert "written to" in capsys.readouterr().out
    loaded = weights.load(tmp_path / "fitted")
    assert loaded.model["evidence"]
    assert np.isfinite(restored(loaded)).all()
    with pytest.raises(InputError, match="exists; name another"):
        fit_amount.run(argv)
    taken = [*argv[:-1], str(tmp_path / "taken"), "--head", str(tmp_path / "fitted")]
    fit_amount.run(taken)
    np.testing.assert_array_equal(restored(weights.load(tmp_path / "taken")), restored(loaded))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--about", "x.json"], "--about and --data go together"),
        (["--weights", "a.safetensors", "--about", "x.json", "--data", "a"], "of bundled weights"),
        (["--identities", "0"], "--identities: expected above 0, at most 1, got 0"),
        (["--steps", "0"], "--steps: expected a whole number above 0, got 0"),
    ],
)
def test_bad_input_is_one_line(more, said, tmp_path, capsys):
    argv = ["--config", "configs/amount.py", "--out", str(tmp_path / "new"), *more]
    if "--weights" not in more:
        argv += ["--weights", "tiny"]
    with pytest.raises((InputError, SystemExit)) as stop:
        fit_amount.run(argv)
    assert said in str(stop.value) + capsys.readouterr().err
