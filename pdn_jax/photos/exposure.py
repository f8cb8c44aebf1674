"""How dark and how noisy a photograph is, from its pixels alone."""

import numpy as np

USUAL = 0.55
"""Brightness, as `brightness` has it, of half of all well-exposed photographs."""

DARK = 0.328
"""Brightness under which a photograph is dark; `python -m benchmarks.auto` says how well that parts."""

FLOOR = 1 / 255
"""The least brightness of a pixel, so that there is a geometric mean."""


def brightness(values: np.ndarray, there: np.ndarray | None = None) -> float:
    """How bright a photograph looks, little led astray by lamps in the night or a black coat.

        b = (q · g)^½,   q the upper quartile and g the geometric mean of the brightest channel

    Args:
        values: [h, w, 3] in sRGB, in [0, 1].
        there: bool [h, w], False for what does not count.
    """
    brightest = values.max(axis=-1)
    brightest = np.maximum(brightest if there is None else brightest[there], FLOOR)
    upper, geometric = np.quantile(brightest, 0.75), np.exp(np.log(brightest).mean())
    return float(np.sqrt(upper * geometric))


def stops(values: np.ndarray, there: np.ndarray | None = None) -> float:
    """Exposure relative to the usual one, about: 2.2·log2(b / USUAL). Below 0 is darker."""
    return 2.2 * float(np.log2(max(brightness(values, there), 1e-3) / USUAL))


def is_dark(values: np.ndarray, there: np.ndarray | None = None) -> bool:
    """Whether a photograph needs brightening: whether its `brightness` is below `DARK`.

    Args:
        values: sRGB in [0, 1], [h, w, 3].
        there: bool [h, w], False where no picture is; None for all.

    Returns:
        The answer.
    """
    return brightness(values, there) < DARK


def noise(values: np.ndarray) -> float:
    """Standard deviation of the noise in levels of 255: the median of 2×2 differences, which pictures
    hardly have (Donoho and Johnstone 1994)."""
    even = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2].mean(axis=-1)
    detail = even[::2, ::2] - even[::2, 1::2] - even[1::2, ::2] + even[1::2, 1::2]
    return 255 * float(np.median(abs(detail))) / 2 / 0.6745
