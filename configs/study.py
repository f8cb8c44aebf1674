"""A short training to compare changes by: `python -m train.tools.ablation claims --config configs/study.py --out runs/claims`."""

from ml_collections import ConfigDict

from configs import real


def get_config() -> ConfigDict:
    """`real` with the tiny network and few steps, judged once, on all dev photographs."""
    config = real.get_config()
    config.run_dir = "runs/study"
    config.model.variant = "tiny"
    config.train.steps = 500
    config.train.ema_decay = 0.995
    config.eval.every = config.checkpoint.every = 500
    config.checkpoint.keep = 2
    config.log.images = False
    return config
