"""The end of a training, started from a run of `real`: large crops, more weight on structure."""

from ml_collections import ConfigDict

from configs import real


def get_config() -> ConfigDict:
    """`real` with two crops of 256×256 a step; name the run to start from with `model.weights`."""
    config = real.get_config()
    config.run_dir = "runs/refined"
    config.data.crop_size = 256
    config.data.final_size = 0
    config.loss.structure = 2.0
    config.train.batch_size = 2
    config.train.steps = 4500
    config.train.learning_rate = 8e-4
    config.train.warmup = 0.02
    config.train.ema_decay = 0.998
    return config
