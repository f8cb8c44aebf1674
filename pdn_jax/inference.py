"""Photographs through a trained network: apply → dial → clip; the network pads and unpads.

Photographs come and go as NumPy arrays, uint8 or float in [0, 1]. What the network
makes is clipped here and nowhere before. Large ones are developed in windows (see `tiling`),
which bounds the memory and changes nothing else.
"""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pdn_jax import image as im
from pdn_jax import tiling
from pdn_jax import weights as files
from pdn_jax.compiled import Compiled
from pdn_jax.model import PDNOutput, ProgressiveDualNetwork
from pdn_jax.photo import SMALLEST
from pdn_jax.types import Image, InputError, Params
from pdn_jax.weights import Weights

SOFTENING = 0.05
"""Added to the path before it is compared with its mean, so that the dial does not run wild where
the network brightened next to nothing."""

TILE = 1536
"""Pixels a side of what is developed in one piece: bounds the memory, costs little in overlap."""


class Stages(NamedTuple):
    """Everything the network makes of a photograph, clipped, of the photograph's dtype.

    enhanced: S images, dark to light. denoised: L images, coarse to fine, ⌈h/2^l⌉×⌈w/2^l⌉.
    restored: the result.
    """

    enhanced: list[np.ndarray]
    denoised: list[np.ndarray]
    restored: np.ndarray


class Network(NamedTuple):
    """The compiled functions of one network, and the shapes that its parameters must have."""

    expected: Params
    plain: Callable[[Params, jax.Array], Image]
    dialled: Callable[[Params, jax.Array, float, float], Image]
    stages: Callable[[Params, jax.Array], PDNOutput]
    margin: int
    survey: Callable[[Params, jax.Array, tuple[int, int]], tiling.Survey]
    plain_window: Callable[[Params, jax.Array, tiling.Survey], Image]
    dialled_window: Callable[[Params, jax.Array, tiling.Survey, float, float], Image]


def enhance(
    photo: np.ndarray | jax.Array,
    weights: Weights | str | Path = files.DEFAULT,
    *,
    exposure: float = 1.0,
    denoise: float = 1.0,
    tile: int = TILE,
) -> np.ndarray:
    """A dark photograph -> the restored one, of the same shape and dtype.

    photo: [h, w, 3] or [n, h, w, 3], sRGB, uint8 or float in [0, 1]. weights: `Weights`, or
    what `weights.load` takes: "tiny", "small" or "base", a file or a run folder. exposure: relative to the network's own result, > 0; 2 is
    one stop brighter. denoise: from 0, the brightened image with its noise, to 1. tile: a
    photograph of more than tile×tile pixels is developed in windows that overlap, to the same
    result in less memory.
    Raises ValueError for anything else, InputError for weights that cannot be used.
    """
    exposure, denoise = check_dials(exposure, denoise)
    if tile < SMALLEST:
        raise ValueError(f"tile must be {SMALLEST} pixels or more, got {tile}")
    params, network = prepare(weights)
    photos = _checked(photo)
    dials = () if exposure == 1.0 and denoise == 1.0 else (exposure, denoise)
    if math.prod(photos.shape[1:3]) > tile**2:
        restored = np.concatenate([_in_windows(params, network, p, tile, dials) for p in photos])
    else:
        apply = network.dialled if dials else network.plain
        restored = _quantized(apply(params, _floats(photos), *dials), photos.dtype)
    return restored.reshape(photo.shape)


def _in_windows(
    params: Params, network: Network, photo: np.ndarray, tile: int, dials: tuple[float, ...]
) -> np.ndarray:
    """One photograph [h, w, 3], surveyed whole and developed window by window, as [1, h, w, 3]."""
    height, width = photo.shape[:2]
    rows, columns = (-side % tiling.REDUCTION for side in (height, width))
    photo = np.pad(photo, ((0, rows), (0, columns), (0, 0)), mode="symmetric")[None]
    develop = network.dialled_window if dials else network.plain_window
    seen = jax.device_get(network.survey(params, _floats(photo), (height, width)))
    restored = np.empty_like(photo)
    for window in tiling.windows(*photo.shape[1:3], tile=tile, overlap=network.margin):
        low = _floats(photo[:, window.rows, window.columns])
        part = np.asarray(develop(params, low, seen.part(window.rows, window.columns), *dials))
        kept = part[:, window.inner_rows, window.inner_columns]
        restored[:, window.kept_rows, window.kept_columns] = _quantized(kept, photo.dtype)
    return restored[:, :height, :width]


def stages(photo: np.ndarray | jax.Array, weights: Weights | str | Path) -> Stages:
    """Every stage of the network for a photograph, for pictures; takes and raises as `enhance`."""
    params, network = prepare(weights)
    photos = _checked(photo)
    output = network.stages(params, _floats(photos))

    def finished(image):
        result = _quantized(image, photos.dtype)
        return result[0] if photo.ndim == 3 else result

    return Stages(
        [finished(image) for image in output.enhanced],
        [finished(image) for image in output.denoised],
        finished(output.restored),
    )


def dial(output: PDNOutput, exposure: float | jax.Array, denoise: float | jax.Array) -> Image:
    """Another exposure and strength of denoising from the same output; pure, not clipped.

        base = denoise·restored + (1 − denoise)·x_S
        x(κ) = g(base, κ^w),   w = (p̄ + m·(p − p̄) + ε) / (mean path + ε)

    with p the path of a pixel's channels and p̄ their mean; m goes from 1 where p̄ is at most a
    quarter of the mean path to 0 from a half of it on.
    exposure is κ relative to the restored photograph: 1 leaves it alone, `output.exposure` is
    as dark as the camera saw it, 2 one stop brighter. κ^w walks the network's own path, so a
    lamp that was not brightened is not darkened. All channels walk it together, or the camera's
    colour cast would come back with its darkness; only what was bright already goes back to the
    camera's colours, as a sky does that came out white. Both are scalars.
    """
    mean = jnp.mean(output.path, axis=(-3, -2, -1), keepdims=True)
    stages = (output.restored, output.enhanced[-1], output.path)
    return _dial(*stages, mean, exposure, denoise)


def _dial(restored: Image, brightened: Image, path: Image, mean, exposure, denoise) -> Image:
    base = denoise * restored + (1.0 - denoise) * brightened
    together = path.mean(axis=-1, keepdims=True)
    apart = jnp.clip(2.0 - 4.0 * (together + SOFTENING) / (mean + SOFTENING), 0.0, 1.0)
    share = (together + apart * (path - together) + SOFTENING) / (mean + SOFTENING)
    # The curve raises what is below its floor, so at exposure 1 it is passed by.
    return jnp.where(exposure == 1.0, base, im.expose_curve(base, jnp.log(exposure) * share))


def prepare(weights: Weights | str | Path) -> tuple[Params, Network]:
    """Load the weights if need be, build their network, and see that one fits the other.

    Raises InputError where that fails; done beforehand, it costs nothing again.
    """
    if not isinstance(weights, Weights):
        weights = files.load(weights)
    network = _network(json.dumps(weights.model, sort_keys=True))
    files.check(weights.params, network.expected)
    return files.single(weights.params), network


def check_dials(exposure: float, denoise: float) -> tuple[float, float]:
    """Both, exposure held within twenty stops of 1, past which all is black or white.

    Raises InputError unless 0 < exposure < ∞ and 0 <= denoise <= 1.
    """
    if not (math.isfinite(exposure) and exposure > 0):
        raise InputError(f"exposure must be a finite number above 0, got {exposure}")
    if not 0 <= denoise <= 1:
        raise InputError(f"denoise must lie in 0 to 1, got {denoise}")
    return min(max(float(exposure), 2.0**-20), 2.0**20), float(denoise)


@functools.lru_cache(maxsize=8)
def _network(model: str) -> Network:
    """Keyword arguments as JSON (to be hashable) -> the network, compiled as it is called."""
    keywords = files.parse_model(model)
    try:
        module = ProgressiveDualNetwork(**keywords)
    except TypeError as error:
        raise InputError(f"weights are for another network: {error}") from error
    low = jax.ShapeDtypeStruct((1, SMALLEST, SMALLEST, 3), jnp.float32)
    develop = functools.partial(tiling.develop, module)
    return Network(
        jax.eval_shape(module.init, jax.random.key(0), low),
        Compiled(lambda params, low: module.apply(params, low).restored),
        Compiled(lambda params, low, *dials: dial(module.apply(params, low), *dials)),
        Compiled(module.apply),
        tiling.margin(module.depths, module.blocks),
        Compiled(functools.partial(tiling.survey, module), static_argnums=2),
        Compiled(lambda params, low, seen: develop(params, low, seen)[0]),
        Compiled(
            lambda params, low, seen, *dials: _dial(
                *develop(params, low, seen), seen.mean_path, *dials
            )
        ),
    )


def _checked(photo: np.ndarray | jax.Array) -> np.ndarray:
    """A valid photograph as a batch [n, h, w, 3] of its own dtype."""
    photo = np.asarray(photo)
    shape = list(photo.shape)
    if photo.ndim not in (3, 4) or shape[-1] != 3 or 0 in shape or min(shape[-3:-1]) < SMALLEST:
        raise ValueError(
            f"a photo is [h, w, 3] or [n, h, w, 3] with h, w >= {SMALLEST}, got {shape}"
        )
    if np.issubdtype(photo.dtype, np.floating):
        lowest, highest = np.float32(photo.min()), np.float32(photo.max())
        if not (lowest >= 0 and highest <= 1):
            raise ValueError(f"a float photo lies in 0 to 1, got {lowest} to {highest}, {shape}")
    elif photo.dtype != np.uint8:
        raise ValueError(f"a photo is uint8, or float in 0 to 1, got {photo.dtype} {shape}")
    return photo[None] if photo.ndim == 3 else photo


def _floats(photos: np.ndarray) -> jax.Array:
    """What `_checked` returns, as float32 in [0, 1]."""
    images = photos.astype(np.float32)
    if photos.dtype == np.uint8:
        images /= 255
    return jnp.asarray(images)


def _quantized(image: jax.Array | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clipped, and of the photograph's dtype."""
    result = np.asarray(image).clip(0.0, 1.0)
    if dtype == np.uint8:
        result *= 255
        np.rint(result, out=result)
    return result.astype(dtype)
