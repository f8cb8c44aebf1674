"""How dark and how noisy a photograph is, from its pixels alone."""

import numpy as np

USUAL = 0.46
"""Brightness, as `brightness` has it, of half of all well-exposed photographs."""

DARK = 0.28
"""Brightness under which a photograph is dark; `python -m benchmarks.auto` says how well that parts."""


def brightness(values: np.ndarray, there: np.ndarray | None = None) -> float:
    """Mean and median together, which alone are led astray by lamps and by night skies.

        b = mean(v)^0.65 · median(max over channels of v)^0.35

    Args:
        values: [h, w, 3] in sRGB, in [0, 1].
        there: bool [h, w], False for what does not count.
    """
    seen = values.reshape(-1, 3) if there is None else values[there]
    median = float(np.median(seen.max(axis=-1)))
    return float(seen.mean()) ** 0.65 * max(median, 1 / 255) ** 0.35


def stops(values: np.ndarray, there: np.ndarray | None = None) -> float:
    """Exposure relative to the usual one, about: 2.2·log2(b / USUAL). Below 0 is darker."""
    return 2.2 * float(np.log2(max(brightness(values, there), 1e-3) / USUAL))


def is_dark(values: np.ndarray, there: np.ndarray | None = None) -> bool:
    """Whether a photograph needs brightening."""
    return brightness(values, there) < DARK


def noise(values: np.ndarray) -> float:
    """Standard deviation of the noise in levels of 255: the median of 2×2 differences, which pictures
    hardly have (Donoho and Johnstone 1994)."""
    even = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2].mean(axis=-1)
    detail = even[::2, ::2] - even[::2, 1::2] - even[1::2, ::2] + even[1::2, 1::2]
    return 255 * float(np.median(abs(detail))) / 2 / 0.6745
