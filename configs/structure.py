"""On from bundled weights, with restraint and for structure: most of the loss is blind to one gain."""

from ml_collections import ConfigDict

from configs import restrained


def get_config() -> ConfigDict:
    """`restrained` with more mildly dark photographs; how bright results are to be is fitted afterwards."""
    config = restrained.get_config()
    config.run_dir = "runs/structure"
    config.data.mixture = (
        ("eliei", 0.26),
        ("sice", 0.34),
        ("clean", 0.1),
        ("more", 0.25),
        ("more_pairs", 0.05),
    )
    config.data.final_fraction = 0.4
    config.augment.identity = 0.05
    config.augment.mild_stops = (0.0, 3.0)
    config.augment.bars = 0.0
    config.loss.blind = 0.7
    config.train.steps = 8000
    return config
