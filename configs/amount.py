"""What the decision of brightness is fitted to: whole photographs that need nothing, little or much."""

from ml_collections import ConfigDict

from configs import restrained


def get_config() -> ConfigDict:
    """`restrained` in large crops of most of a photograph, more of them mildly dark."""
    config = restrained.get_config()
    config.run_dir = "runs/amount"
    config.data.mixture = (
        ("eliei", 0.16),
        ("sice", 0.32),
        ("clean", 0.13),
        ("more", 0.33),
        ("more_pairs", 0.055),
    )
    config.data.crop_size = 256
    config.data.final_size = 0
    config.data.smallest_crop = 0.7
    config.data.jpeg = 0.0
    config.augment.scaled = 1.0
    config.augment.enlarged = 1.0
    config.augment.probability = 0.35
    config.augment.identity = 0.2
    config.augment.mild = 0.28
    config.augment.mild_stops = (0.2, 3.5)
    config.augment.bars = 0.045
    return config
