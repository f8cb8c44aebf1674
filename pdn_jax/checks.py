"""What a photograph and the dials must be."""

import math
from typing import Any

import numpy as np

from pdn_jax.errors import InputError

SMALLEST = 16
"""Pixels that the shorter side of a photograph must have."""


def check_dials(exposure: float, denoise: float) -> tuple[float, float]:
    """Hold the dials against their ranges.

    Args:
        exposure: 0 < exposure < ∞.
        denoise: 0 <= denoise <= 1.

    Returns:
        Both, exposure held within twenty stops of 1, past which all is black or white.

    Raises:
        InputError: for what is out of range.
    """
    if not (math.isfinite(exposure) and exposure > 0):
        raise InputError(f"exposure must be a finite number above 0, got {exposure}")
    if not 0 <= denoise <= 1:
        raise InputError(f"denoise must lie in 0 to 1, got {denoise}")
    return min(max(float(exposure), 2.0**-20), 2.0**20), float(denoise)


INTEGERS = (np.dtype(np.uint8), np.dtype(np.uint16))
"""What photographs may be of beside floats."""


def white(dtype: Any) -> int:
    """The number that stands for 1.

    Args:
        dtype: of a photograph.

    Returns:
        255 or 65535 for integers, 1 for floats.
    """
    return int(np.iinfo(dtype).max) if dtype in INTEGERS else 1


def converted(photo: np.ndarray) -> np.ndarray:
    """The dtype that programs take.

    Args:
        photo: of any dtype.

    Returns:
        The same if it is of uint8 or uint16, else of float32.
    """
    return photo if photo.dtype in INTEGERS else photo.astype(np.float32, copy=False)


def checked(photo: np.ndarray) -> np.ndarray:
    """Photographs as a batch.

    Args:
        photo: one or a batch.

    Returns:
        [n, h, w, 3], uint8, uint16 or float32.

    Raises:
        ValueError: for another shape, dtype or range.
    """
    photo = np.asarray(photo)
    shape = list(photo.shape)
    if photo.ndim not in (3, 4) or photo.shape[-1] != 3 or min(photo.shape[:-1]) < 1:
        raise ValueError(f"a photo is [h, w, 3] or [n, h, w, 3], got {shape}")
    if min(photo.shape[-3:-1]) < SMALLEST:
        raise ValueError(f"a photo [h, w, 3] has h, w >= {SMALLEST}, got {shape}")
    if np.issubdtype(photo.dtype, np.floating):
        lowest, highest = photo.min(), photo.max()
        if not (lowest >= 0 and highest <= 1):
            raise ValueError(f"a float photo lies in 0 to 1, got {lowest} to {highest}, {shape}")
        photo = converted(photo)
    elif photo.dtype not in INTEGERS:
        got = f"{photo.dtype} {shape}"
        raise ValueError(f"a photo is uint8, uint16, or float in 0 to 1, got {got}")
    return photo[None] if photo.ndim == 3 else photo
