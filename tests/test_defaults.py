"""One source for every default: the library's are those of configs/base.py, the measured recipe."""

import inspect

import pytest

from configs import base
from pdn_jax import balance, calibration, degradation, losses, physics

DATA = {name: f"data.{name}" for name in ("brightness", "snr", "cast", "veil", "tone", "field")}
LOSS = {name: f"loss.{name}" for name in ("structure", "blind", "stages", "levels", "noise")}

OPTIONS = {
    physics.sample_physics: DATA,
    calibration.sample_like: {"field": "data.field"},
    degradation.camera: {"grain": "data.grain", "scene": "data.scene"},
    degradation.shot_read_noise: {"grain": "data.grain"},
    losses.positive: {"distance": "loss.distance", **LOSS, "sigma": "loss.blur"},
    losses.whitened: {
        **{"distance": "loss.distance", "levels": "loss.pyramid"},
        **{"finest": "loss.finest", "correlation": "loss.correlation"},
    },
    losses.likelihood: {"levels": "loss.pyramid"},
    losses.bidirectional: {
        "positive": None,
        "negative": "loss.negative",
        "balance": "loss.balance",
        "floor": "loss.floor",
    },
    balance.gradient_ratio: {
        "target": "loss.ratio",
        "ramp_steps": "loss.ramp",
        "decay": "loss.decay",
        "maximum": "loss.maximum",
    },
    balance.fixed: {"weight": "loss.weight"},
    balance.uncertainty: {"rate": "loss.rate", "maximum": "loss.maximum"},
}
"""Function -> its parameters that have a default, and the option that says the same."""

IN_OTHER_WORDS = {
    "data.brightness": lambda config: tuple(value / 255 for value in config.data.brightness),
    "loss.ramp": lambda config: round(config.loss.ramp * config.train.steps),
    "loss.distance": lambda config: {"charbonnier": None}[config.loss.distance],
    "loss.negative": lambda config: {"whitened": losses._NEGATIVE}[config.loss.negative],
    "loss.floor": lambda config: {"truth": None}[config.loss.floor],
    "loss.balance": lambda config: {"gradient_ratio": losses._BALANCE}[config.loss.balance],
}
"""Options that the library has in another unit, or as a function."""


def of_config(option):
    """What the base config has, as the library takes it."""
    config = base.get_config()
    if option in IN_OTHER_WORDS:
        return IN_OTHER_WORDS[option](config)
    section, name = option.split(".")
    return config[section][name]


def differences(function, options):
    """Defaults of a function that are not those of the config, by name."""
    given = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in given if p.default is not p.empty}
    assert defaults.keys() == options.keys(), "every default has its option here"
    pairs = {
        name: (defaults[name], of_config(option)) for name, option in options.items() if option
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("function", OPTIONS, ids=lambda f: f.__name__)
def test_defaults_are_those_of_the_config(function):
    assert differences(function, OPTIONS[function]) == {}


def test_a_difference_is_seen():
    def fixed(weight=0.2):
        """Another default."""

    assert differences(fixed, {"weight": "loss.weight"}) == {"weight": (0.2, 0.1)}


def test_the_loss_is_made_of_the_defaults():
    assert losses._POSITIVE.__qualname__ == losses.positive().__qualname__
    assert losses._BALANCE.update.__qualname__ == losses.gradient_ratio().update.__qualname__
    assert losses._NEGATIVE.__qualname__ == losses.whitened().__qualname__
