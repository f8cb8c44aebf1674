"""From the config to functions: streams of keys, what is drawn to train with and to judge by."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from pdn_jax import degradation, weights
from train import build
from train.data import calibrated_camera, mixture


def test_streams_differ_and_follow_the_seed():
    config = base.get_config()
    streams = build.keys(config)
    data = {name: tuple(np.asarray(jax.random.key_data(key))) for name, key in streams.items()}
    assert set(data) == {"parameters", "batches"}
    config.seed = 1
    other = [tuple(np.asarray(jax.random.key_data(key))) for key in build.keys(config).values()]
    assert len({*data.values(), *other, (0, 0), (0, 1)}) == 6


@pytest.fixture(scope="module")
def camera_file(tmp_path_factory):
    """A calibration of two dark pairs whose red gain is always 2 / 3 of a neutral one."""
    path = tmp_path_factory.mktemp("camera") / "cam.json"
    theta = degradation.neutral_physics(jnp.asarray(0.05))
    gains = jnp.asarray([2.0, 3.0, 4.5]) / 3.0
    theta = theta.replace(gains=gains, shot_noise=jnp.asarray(1e-4), read_noise=jnp.asarray(1e-7))
    fits = [calibrated_camera.Fit(f"pairs/train/{i}", theta, {}) for i in range(2)]
    calibrated_camera.save(path, fits, data=["pairs"], split="train", window=0)
    return path


@pytest.mark.slow
def test_wide_is_independent_of_what_is_drawn(camera_file):
    """Over 4,000 keys: chosen as often as asked, and in what is drawn from the ranges red is as often
    weak as strong, ln of its gain 0 in the mean."""
    config = base.get_config()
    config.data.physics, config.data.wide = str(camera_file), 0.5
    config.data.brightness = (20.0, 40.0)
    sample = build.physics_sampler(config)
    keys = jax.random.split(jax.random.key(0), 4000)
    normal = jnp.full((8, 8, 3), 0.5)
    physics = jax.jit(jax.vmap(lambda key: sample(key, normal)))(keys)
    red = np.log(np.asarray(physics.gains)[:, 0])
    wide = ~np.isclose(red, np.log(2 / 3), atol=1e-4)
    assert abs(wide.mean() - 0.5) < 5 * 0.5 / 4000**0.5
    drawn = red[wide]
    assert abs((drawn < 0).mean() - 0.5) < 5 * 0.5 / len(drawn) ** 0.5
    assert abs(drawn.mean()) < 5 * drawn.std() / len(drawn) ** 0.5
    assert drawn.std() > 0.05


def test_wide_at_its_ends_is_one_of_the_two(camera_file):
    config = base.get_config()
    config.data.physics = str(camera_file)
    normal = jnp.full((8, 8, 3), 0.5)
    keys = jax.random.split(jax.random.key(0), 20)
    for wide, from_ranges in ((0.0, 0), (1.0, 20)):
        config.data.wide = wide
        sample = build.physics_sampler(config)
        draw = jax.jit(jax.vmap(lambda key, sample=sample: sample(key, normal)))
        gains = np.asarray(draw(keys).gains)
        assert (~np.isclose(gains[:, 0], 2 / 3, atol=1e-4)).sum() == from_ranges


def judged_by(**changes):
    config = base.get_config()
    config.eval.max_pairs, config.eval.draws = 1, 1
    config.update_from_flattened_dict(changes)
    splits, _ = mixture.mixture(config)
    return mixture.pairs(config, mixture.judged(config, splits))


@pytest.mark.slow
def test_what_is_judged_by_does_not_move_with_what_is_trained_on(camera_file):
    """Bit for bit, whatever the training draws; and it moves with options of its own."""
    mine = judged_by()
    assert len(mine) == 1
    changes = {
        **{"data.brightness": (50.0, 60.0), "data.snr": (20.0, 21.0), "data.grain": 0.5},
        **{"data.physics": str(camera_file), "data.wide": 0.5, "data.cast": 0.5, "data.veil": 0.5},
        **{"data.tone": 0.5, "data.field": 0.9, "data.jpeg": 1.0, "seed": 7},
    }
    chex.assert_trees_all_equal(judged_by(**changes), mine)
    ((_, low, _),), ((_, other, _),) = mine, judged_by(**{"eval.brightness": (50.0, 60.0)})
    assert low.mean() < 0.1 < other.mean()


@pytest.mark.slow
def test_each_range_to_judge_by_is_an_option_of_its_own():
    config = base.get_config()
    config.eval.update(brightness=(5.1, 51.0), snr=(7.0, 8.0), cast=0.2, veil=0.3, tone=0.4)
    config.eval.update(field=0.5, grain=0.6)
    assert build.eval_sampler(config).keywords == {
        **{"brightness": (5.1 / 255, 0.2), "snr": (7.0, 8.0), "cast": 0.2, "veil": 0.3},
        **{"tone": 0.4, "field": 0.5},
    }
    theta = degradation.neutral_physics(jnp.ones(1)).replace(shot_noise=jnp.full(1, 1e-3))
    image = jnp.full((1, 8, 8, 3), 0.5)
    ours, plain = (
        camera.sample(jax.random.key(0), image, theta)
        for camera in (build.eval_camera(config), build.camera(config))
    )
    np.testing.assert_array_equal(
        plain, degradation.camera(0.0).sample(jax.random.key(0), image, theta)
    )
    assert not np.allclose(ours, plain)


@pytest.mark.parametrize(
    ("change", "evidence"), [((), True), ((("evidence", False),), False), ((("stages", 4),), True)]
)
def test_bundled_weights_are_a_start_with_their_head_unless_it_is_left_out(change, evidence):
    config = base.get_config()
    config.model.variant = config.model.weights = "tiny"
    config.model.change = change
    params = build.initial_params(config, build.network(config))
    assert ("target" in params["params"]["enhancement"]) == evidence
    theirs = weights.load("tiny").params["params"]["denoising"]["lift2"]["kernel"]
    mine = params["params"]["denoising"]["lift2"]["kernel"]
    np.testing.assert_array_equal(mine[:16], np.float32(theirs[:16]))
    np.testing.assert_array_equal(mine[-3:], np.float32(theirs[-3:]))
    assert len(mine) == 19 + evidence
