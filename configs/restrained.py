"""Training with restraint: as `real`, with more photographs, of which many need little or nothing."""

from ml_collections import ConfigDict

from configs import real


def get_config() -> ConfigDict:
    """`real` with five prepared sets; identities, mild darkness and black bars; no negative direction.

    Starts from bundled weights, whose head says how much is wanted, and goes on with it.
    """
    config = real.get_config()
    config.run_dir = "runs/restrained"
    config.model.weights = "small"
    config.data.mixture = (
        ("eliei", 0.28),
        ("sice", 0.28),
        ("clean", 0.1),
        ("more", 0.3),
        ("more_pairs", 0.04),
    )
    config.data.final_fraction = 0.35
    config.augment.probability = 0.4
    config.augment.identity = 0.1
    config.augment.mild = 0.2
    config.augment.bars = 0.08
    config.loss.structure = 1.0
    config.loss.balance = "positive_only"
    config.train.learning_rate = 1e-3
    config.train.steps = 14000
    config.eval.data = ("eliei", "sice_pairs", "more_pairs")
    return config
