"""Ablation: the same short training with one change at a time, and its Δ from the baseline.

    python -m train.tools.ablation claims --config configs/study.py --out runs/claims

trains every arm of a study with every seed and compares it with the study's first arm, as
`train.tools.sweep` does with a grid: table, study.csv, study.png.
"""

import sys
from collections.abc import Sequence

from pdn_jax import cli
from train.tools import sweep

STUDIES: dict[str, sweep.Arms] = {
    "claims": {
        "dynamic balance": {},
        "no negative direction": {"loss.balance": "positive_only"},
        "fixed weight": {"loss.balance": "fixed"},
        "negative on synthetic only": {"data.fitted": False},
        "one stage": {"model.change": (("stages", 1),)},
        "one level": {"model.change": (("widths", (16,)), ("depths", (0,)), ("blocks", (2,)))},
        "no noise map": {"model.change": (("noise_map", False),)},
    },
    "recipe": {
        "as it is": {},
        "no augmentation": {
            **{"augment.probability": 0.0, "augment.scaled": 0.0},
            **{"data.grain": 0.0, "data.wide": 0.0},
        },
        "small crops to the end": {"data.final_size": 0},
        "rate 4e-3": {"train.learning_rate": 4e-3},
    },
    "brightness": {
        "as it is": {"loss.balance": "positive_only"},
        "histograms": {"loss.balance": "positive_only", "model.change": (("evidence", True),)},
        "a term blind to the gain": {
            "loss.balance": "positive_only",
            "loss.extra": ("colab.lab.brightness:gain_blind", 1.0),
        },
        "both": {
            "loss.balance": "positive_only",
            "loss.extra": ("colab.lab.brightness:gain_blind", 1.0),
            "model.change": (("evidence", True),),
        },
    },
    "precision": {
        "float32": {},
        "bfloat16": {"model.dtype": "bfloat16"},
        "float32 in two parts": {"train.accumulate": 2},
    },
}
"""Study -> arm -> options that differ from the config; the first arm is the baseline.

"one level" works at full size with as many products as `tiny` has on its three levels. "float32 in
two parts" is the same arithmetic in another order: what it differs by is rounding alone.
"""


def options_of(argv: Sequence[str]):
    """The parsed command line; what it does not know must be for `train.main`, and is checked."""
    parser = sweep.parser_of("python -m train.tools.ablation", __doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES, help="which arms")
    options, options.more = parser.parse_known_args(argv)
    options.given = parser.given
    sweep.check(options, STUDIES[options.study])
    return options


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    sweep.leave_accelerators()
    options = options_of(argv)
    sweep.carry_out(options, STUDIES[options.study], "study", options.study)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
