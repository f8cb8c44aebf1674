"""Photographs through a trained network in one call; `Enhancer` holds it for many.

Photographs come and go as NumPy arrays, uint8, uint16 or float in [0, 1].
"""

from pathlib import Path

import numpy as np

from pdn_jax import weights as files
from pdn_jax.enhancer import Enhancer as Enhancer
from pdn_jax.enhancer import Stages as Stages
from pdn_jax.weights import Weights


def enhance(
    photo: np.ndarray,
    weights: Weights | str | Path = files.DEFAULT,
    *,
    exposure: float = 1.0,
    denoise: float = 1.0,
    tile: int | None = None,
) -> np.ndarray:
    """A dark photograph -> the restored one, of the same shape and dtype.

    What is compiled on the way serves all photographs of about that size, in this process and, from
    the cache on disk, in later ones.

    Args:
        photo: [h, w, 3] or [n, h, w, 3], sRGB, uint8, uint16 or float in [0, 1].
        weights: `Weights`, or what `weights.load` takes: "tiny", "small" or "base", a file or a run
            folder.
        exposure: relative to the network's own result, > 0; 2 is one stop brighter.
        denoise: from 0, the brightened image with its noise, to 1.
        tile: pixels that a side of a tile may have: a larger photograph is processed in tiles that
            overlap, to the same result in less memory.

    Returns:
        The restored photographs, clipped, integers rounded.

    Raises:
        ValueError: for another shape, dtype or range, or a tile that would be all overlap.
        InputError: for weights that cannot be used, and dials beyond their range.
    """
    return Enhancer(weights, tile=tile)(photo, exposure=exposure, denoise=denoise)


def stages(
    photo: np.ndarray, weights: Weights | str | Path = files.DEFAULT, *, reduce: int = 1
) -> Stages:
    """Every stage of the network for a photograph, for pictures.

    Args:
        photo: as `enhance` takes it.
        weights: as `enhance` takes them.
        reduce: by how much the stages are made smaller: see `Enhancer.stages`.

    Returns:
        `Stages`.

    Raises:
        ValueError: as `enhance` does, or for another `reduce`.
        InputError: as `enhance` does.
    """
    return Enhancer(weights).stages(photo, reduce=reduce)
