"""The options of a run: read from the command line, checked, compared with those of another run.

What they mean stands in configs/base.py; `build` turns them into functions.
"""

import difflib
import json
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from pdn_jax.types import InputError

USAGE = "python -m train.main --config configs/base.py [--config.key=value …]"

AT_LEAST = {
    "data.crop_size": 32,
    "data.threads": 1,
    "data.groups": 1,
    "data.workers": 0,
    "data.between": 0,
    "data.truths": -1,
    "loss.pyramid": 1,
    "loss.finest": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.remat": 0,
    "eval.every": 1,
    "eval.draws": 1,
    "eval.max_pairs": 0,
    "checkpoint.every": 1,
    "checkpoint.keep": 2,
    "checkpoint.keep_every": 0,
    "parallel.devices": 0,
    "parallel.processes": 0,
    "parallel.process": -1,
    "parallel.patience": 1,
    "parallel.heartbeat": 5,
    "log.every": 1,
}
"""Whole numbers and the least that they may be."""

NOT_NEGATIVE = (
    *("data.cast", "data.veil", "data.tone", "data.field", "data.cache", "data.grain"),
    *("data.misexposed",),
    *("eval.cast", "eval.veil", "eval.tone", "eval.field", "eval.grain"),
    *("augment.stops", "augment.cast", "augment.mild_cast", "checkpoint.grace"),
    *("loss.structure", "loss.stages", "loss.levels", "loss.noise", "loss.ratio", "loss.weight"),
    *("loss.rate", "train.learning_rate", "train.weight_decay"),
)
POSITIVE = (
    *("data.smallest_crop", "augment.enlarged"),
    *("loss.blur", "loss.maximum", "train.clip_norm"),
)
FRACTIONS = (
    *("data.smallest_crop", "data.final_fraction", "data.jpeg", "data.wide", "data.untold"),
    *("augment.probability", "augment.scaled", "augment.enlarged"),
    *("augment.identity", "augment.mild", "augment.bars"),
    *("loss.blind", "loss.ramp", "loss.decay", "train.warmup", "train.final_rate"),
)
"""Options between 0 and 1; `train.ema_decay` too, but below 1."""

SEEDS = 2**31


# --- the command line ----------------------------------------------------------------------------


def parse(argv: Sequence[str]):
    """The config that the command line asks for; raises InputError that says what was meant."""
    overrides = re.compile(r"--?(?:no)?config\.([\w.]+)")
    asked = [match[1] for word in argv if (match := overrides.match(word))]
    config, _ = _loaded([word for word in argv if not overrides.match(word)])
    check_names(asked, config.to_dict())
    config, rest = _loaded(argv)
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; usage: {USAGE}")
    return config


def _loaded(argv: Sequence[str]) -> tuple[Any, list[str]]:
    """(the config, words that are no options), as ml_collections reads them."""
    from absl import flags
    from ml_collections import config_flags

    values, argv = flags.FlagValues(), [USAGE, *argv]
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)[1:]
        if holder.value is not None:
            holder.value.to_dict()  # a file that could not be loaded raises only now
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise InputError(f"bad option: {reason}; usage: {USAGE}") from error
    if holder.value is None:
        raise InputError(f"no config was named; usage: {USAGE}")
    return holder.value, rest


def check_names(asked: Sequence[str], options: dict[str, Any]) -> None:
    """Raise InputError for the first dotted name that is no option, with the one that was meant."""
    declared = flattened(options)
    for name in asked:
        if name in declared:
            continue
        within = [option for option in declared if option.startswith(f"{name}.")]
        if within:
            raise InputError(
                f"--config.{name} is a section; set one of its options, as --config.{within[0]}=…"
            )
        meant = max(declared, key=lambda option: closeness(name, option))
        raise InputError(
            f"--config.{name} is not an option; did you mean --config.{meant}? "
            "All of them are in configs/base.py"
        )


def closeness(name: str, option: str) -> float:
    """How likely a person who wrote `name` meant `option`: their last parts count, or its initials."""

    def ratio(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one, other).ratio()

    (section, _, last), (there, _, other) = name.rpartition("."), option.rpartition(".")
    initials = "".join(part[0] for part in other.split("_"))
    return (1.0 if last == initials else ratio(last, other)) + 0.3 * ratio(section, there)


# --- checks --------------------------------------------------------------------------------------


def validate(config) -> None:
    """Raise InputError for the first number that makes no sense, with its key and what would."""

    def need(key, good, wanted):
        section, name = key.split(".")
        value = config[section][name]
        if not good(value):
            raise InputError(f"{key} is {value}; expected {wanted}")

    if not 0 <= config.seed < SEEDS:
        raise InputError(f"seed is {config.seed}; expected 0 to {SEEDS - 1}")
    need("eval.seed", lambda value: 0 <= value < SEEDS, f"0 to {SEEDS - 1}")
    for key, least in AT_LEAST.items():
        need(key, lambda value, least=least: value >= least, f"at least {least}")
    need("train.steps", lambda value: value < SEEDS, f"less than {SEEDS}")
    need("data.crop_size", lambda value: value % 8 == 0, "a multiple of 8")
    need(
        "data.final_size",
        lambda value: value == 0 or (value % 8 == 0 and value >= config.data.crop_size),
        f"0, or a multiple of 8 from data.crop_size={config.data.crop_size} on",
    )
    deepest = config.data.crop_size.bit_length()
    need("loss.pyramid", lambda value: value <= deepest, f"at most {deepest}, for data.crop_size")
    need("loss.finest", lambda v: v < config.loss.pyramid, "less than loss.pyramid")
    need("loss.correlation", lambda v: 0 <= v <= 0.7, "from 0 to 0.7")
    need(
        "data.shift",
        lambda v: _is_range(v, int) and v[0] >= 0 and v[1] < config.data.crop_size,
        "(least, most) in whole pixels, less than data.crop_size",
    )
    for key in NOT_NEGATIVE:
        need(key, lambda value: 0 <= value < math.inf, "a finite number, 0 or more")
    for key in POSITIVE:
        need(key, lambda value: 0 < value < math.inf, "a finite number above 0")
    for key in FRACTIONS:
        need(key, lambda value: 0 <= value <= 1, "a fraction, from 0 to 1")
    need("train.ema_decay", lambda value: 0 <= value < 1, "from 0 to below 1")
    for key in ("data.brightness", "eval.brightness"):
        need(
            key,
            lambda value: _is_range(value) and value[0] > 0 and value[1] < 255,
            "(darkest, brightest) mean, of 255",
        )
    both = config.augment.identity + config.augment.mild
    need("augment.mild", lambda _: both <= 1, "at most 1 together with augment.identity")
    need(
        "augment.mild_stops",
        lambda value: _is_range(value) and value[0] >= 0,
        "(least, most) in stops, 0 or more",
    )
    for key in ("data.snr", "eval.snr", "augment.snr", "augment.mild_snr"):
        need(key, _is_range, "(worst, best) in dB")
    need(
        "data.jpeg_quality",
        lambda value: _is_range(value, int) and value[0] >= 1 and value[1] <= 95,
        "(worst, best), whole numbers from 1 to 95",
    )
    options = config.parallel
    for name, unsaid in (("coordinator", ""), ("processes", 0), ("process", -1)):
        if options[name] != unsaid and not options.distributed:
            raise InputError(
                f"parallel.{name} is {options[name]}, but this is not one of several processes; "
                "add --config.parallel.distributed=true, or leave it out"
            )


def _is_range(value, *types: type) -> bool:
    numbers = len(value) == 2 and all(type(n) in (types or (int, float)) for n in value)
    return numbers and -math.inf < value[0] <= value[1] < math.inf


def choose(key: str, value: str, table: dict, others: str = ""):
    """table[value], or an InputError that names the key, what there is, and others."""
    if value not in table:
        raise InputError(f"{key} is {value!r}; expected one of {', '.join(table)}{others}")
    return table[value]


# --- two runs ------------------------------------------------------------------------------------


def flattened(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'steps': 7}} -> {'train.steps': 7}."""
    flat = {}
    for name, value in options.items():
        inside = isinstance(value, dict)
        flat |= flattened(value, f"{prefix}{name}.") if inside else {prefix + name: value}
    return flat


def differences(there: dict[str, Any], here: dict[str, Any], free: Collection[str]) -> list[str]:
    """'train.steps: 7 there, 8 here' for each that differs; free: options and sections that may.

    there, here: as `config.to_dict()` or its json give them.
    """
    # as json says them, which knows no tuples
    there, here = (flattened(json.loads(json.dumps(options))) for options in (there, here))

    return [
        f"{key}: {there.get(key)} there, {here.get(key)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and not {key, key.split(".")[0]} & {*free}
    ]
