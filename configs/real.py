"""Training for real photographs: dark pairs, exposure brackets, and clean ones darkened like them."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """`base` with three prepared sets, a calibrated camera, and wide augmentation."""
    config = base.get_config()
    config.run_dir = "runs/real"
    config.data.mixture = (("eliei", 0.4), ("sice", 0.35), ("clean", 0.25))
    config.data.physics = "calibrated.json"
    config.data.wide = 0.5
    config.data.grain = 0.4
    config.data.final_size = 256
    config.data.jpeg = 0.2
    config.augment.probability = 0.5
    config.augment.scaled = 0.5
    config.train.steps = 9600
    config.train.ema_decay = 0.999
    config.eval.data = ("eliei", "sice_pairs")
    config.eval.every = 5000
    config.eval.max_pairs = 0
    config.checkpoint.every = 500
    return config
