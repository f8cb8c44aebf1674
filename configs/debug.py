"""A run of seconds: `python -m train.main --config configs/debug.py`. Its numbers mean nothing."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """`base` with the tiny network, few steps and small crops."""
    config = base.get_config()
    config.run_dir = "runs/debug"
    config.model.variant = "tiny"
    config.data.crop_size = 64
    config.train.steps = 8
    config.train.batch_size = 4
    config.eval.every = 4
    config.eval.draws = 1
    config.checkpoint.every = 4
    config.log.every = 2
    return config
