"""What the decision of brightness is fitted to: whole photographs that need nothing, little or much."""

from ml_collections import ConfigDict

from configs import restrained


def get_config() -> ConfigDict:
    """`restrained` in large crops of most of a photograph, more of them mildly dark."""
    config = restrained.get_config()
    config.run_dir = "runs/amount"
    config.data.mixture = (
        ("eliei", 0.18),
        ("sice", 0.38),
        ("clean", 0.1),
        ("more", 0.28),
        ("more_pairs", 0.06),
    )
    config.data.crop_size = 256
    config.data.final_size = 0
    config.data.smallest_crop = 0.7
    config.data.jpeg = 0.0
    config.augment.scaled = 1.0
    config.augment.enlarged = 1.0
    config.augment.probability = 0.35
    config.augment.identity = 0.2
    config.augment.mild = 0.25
    config.augment.mild_stops = (0.0, 3.0)
    config.augment.bars = 0.045
    return config
