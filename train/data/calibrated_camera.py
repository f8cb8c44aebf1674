"""What `calibrated.json` holds: θ fitted to every pair of a data set, with what speaks for it.

`train.tools.calibrate_camera` writes it; training reads it, to draw θ like that camera's
(`pdn_jax.calibration`) and to have θ of each real pair.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pdn_jax import files, places
from pdn_jax.calibration import Calibration, calibrate
from pdn_jax.types import InputError, Physics

VERSION = 1

SHAPES = {
    "exposure": (),
    "gains": (3,),
    "offset": (3,),
    "gamma": (),
    "illumination": (5,),
    "shot_noise": (),
    "read_noise": (),
}
"""Field of `Physics` -> its shape for one pair."""

POSITIVE = ("exposure", "gains", "gamma")


class Fit(NamedTuple):
    """One pair: 'DATA/pair', its θ (no leading axes), and what speaks for and against it.

    evidence: see `train.tools.calibrate_camera.EVIDENCE`. reason: why it is left out of the distribution, ''
    where it is not.
    """

    name: str
    physics: Physics
    evidence: dict[str, float]
    reason: str = ""


def distribution(fits: Sequence[Fit]) -> Calibration:
    """The distribution of the θ that are not left out; at least two must be there."""
    thetas = [fit.physics for fit in fits if not fit.reason]
    return calibrate(jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *thetas))


def save(path: Path, fits: Sequence[Fit], *, data: Sequence[str], split: str, window: int) -> None:
    """Write the file, whole or not at all; raises InputError where the disk refuses."""
    content = {
        "version": VERSION,
        "data": list(data),
        "split": split,
        "window": window,
        "fields": list(SHAPES),
        "pairs": [
            {
                "name": fit.name,
                "physics": {name: np.asarray(fit.physics[name]).tolist() for name in SHAPES},
                "evidence": fit.evidence,
                "reason": fit.reason,
            }
            for fit in fits
        ],
    }
    try:
        files.write_text(path, json.dumps(content, indent=1))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def load_calibration(path: str | Path) -> tuple[Calibration, dict[str, Physics]]:
    """(the distribution to draw from, 'DATA/pair' -> its θ), from a file of `save`.

    Pairs left out of the distribution have their θ in the second all the same. Raises InputError
    for a missing or damaged file, or one that holds something else.
    """
    path = places.place(path)
    remedy = "write it anew with python -m train.tools.calibrate_camera"
    try:
        content = json.loads(places.read(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; {remedy}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged or no json; {remedy}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InputError(f"{path} is no calibration of version {VERSION}; {remedy}")
    try:
        fits = [_fit(pair) for pair in content["pairs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no sound calibration ({error}); {remedy}") from error
    if sum(not fit.reason for fit in fits) < 2:
        raise InputError(f"{path} has fewer than 2 pairs to draw from; {remedy}")
    return distribution(fits), {fit.name: fit.physics for fit in fits}


def _fit(pair: dict) -> Fit:
    """One entry of the file, checked; raises KeyError, TypeError or ValueError that say what is wrong."""
    name, reason = pair["name"], pair["reason"]
    if not isinstance(name, str) or not isinstance(reason, str):
        raise TypeError("name and reason must be text")
    values = {}
    for field, shape in SHAPES.items():
        value = np.asarray(pair["physics"][field], np.float32)
        if value.shape != shape or not np.isfinite(value).all():
            raise ValueError(f"{field} of {name} is not {math.prod(shape)} finite numbers")
        if (value <= 0).any() if field in POSITIVE else (value < 0).any() and "noise" in field:
            raise ValueError(f"{field} of {name} is too small")
        values[field] = value
    physics = Physics(**{field: jnp.asarray(value) for field, value in values.items()})
    return Fit(name, physics, dict(pair["evidence"]), reason)
