"""Training with restraint: as `real`, with more photographs, of which many need little or nothing."""

from ml_collections import ConfigDict

from configs import real


def get_config() -> ConfigDict:
    """`real` with six prepared sets; identities, mild darkness and black bars; no negative direction."""
    config = real.get_config()
    config.run_dir = "runs/restrained"
    config.data.mixture = (
        ("eliei", 0.26),
        ("sice", 0.26),
        ("clean", 0.1),
        ("more", 0.28),
        ("more_pairs", 0.04),
        ("noise", 0.06),
    )
    config.augment.probability = 0.4
    config.augment.identity = 0.2
    config.augment.mild = 0.2
    config.augment.bars = 0.08
    config.loss.balance = "positive_only"
    config.train.learning_rate = 1.5e-3
    config.train.steps = 60000
    config.eval.data = ("eliei", "sice_pairs", "more_pairs")
    return config
