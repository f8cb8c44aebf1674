"""Where truths are few, wrong or missing: `python -m train.tools.claim few --config configs/claim.py --out runs/claim`."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """A short training on one camera's pairs among clean photographs, from weights that know neither."""
    config = base.get_config()
    config.run_dir = "runs/claim"
    config.model.variant = "tiny"
    config.data.mixture = (("eliei", 0.6), ("clean", 0.4))
    config.data.physics = "calibrated.json"
    config.data.wide = 1.0  # what is darkened is darkened as any camera would
    config.data.crop_size = 96
    config.data.grain = 0.4
    config.train.steps = 150
    config.train.learning_rate = 1e-3
    config.train.ema_decay = 0.97
    config.eval.data = ("eliei",)
    config.eval.max_pairs = 0
    config.log.images = False
    return config
