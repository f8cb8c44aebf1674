"""A large photograph in parts, the same to rounding as in one piece: the grid once, then windows.

The enhancement module sees the whole photograph, at 1/8 of its size; what it finds there, brightness
first of all, is global. All that is full-size, the brightening and the denoising, looks no further
than `margin` pixels, so windows that overlap by that much give what the whole would.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import enhancement
from pdn_jax import image as im
from pdn_jax.denoising import Denoising, cells
from pdn_jax.enhancement import REDUCTION, Enhancement
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.types import Image, Params, PerChannel


class Survey(NamedTuple):
    """What the whole photograph is needed for.

    black: black level per image and channel. log_exposure: ln k of the whole path, noise: its
    standard deviation, context: what is remembered; all three on the 1/8 grid [n, h/8, w/8, c].
    mean_path: mean of ln k over the photograph's own pixels and channels [n, 1, 1, 1].
    """

    black: PerChannel
    log_exposure: Array
    noise: Array
    context: Array
    mean_path: Array

    def part(self, rows: slice, columns: slice) -> "Survey":
        """The grids' part under a window that is given in pixels."""
        over = (
            slice(None),
            *(slice(s.start // REDUCTION, s.stop // REDUCTION) for s in (rows, columns)),
        )
        return self._replace(
            log_exposure=self.log_exposure[over],
            noise=self.noise[over],
            context=self.context[over],
        )


class Window(NamedTuple):
    """Where to compute, and which part of that to keep: slices of rows and columns in pixels."""

    rows: slice
    columns: slice
    kept_rows: slice
    kept_columns: slice

    @property
    def inner_rows(self) -> slice:
        """The kept rows as counted within the window."""
        return _within(self.kept_rows, self.rows)

    @property
    def inner_columns(self) -> slice:
        """The kept columns as counted within the window."""
        return _within(self.kept_columns, self.columns)


def _within(kept: slice, whole: slice) -> slice:
    return slice(kept.start - whole.start, kept.stop - whole.start)


def survey(
    network: ProgressiveDualNetwork, params: Params, low: Image, size: tuple[int, int]
) -> Survey:
    """One look at the whole: low [n, h, w, 3] with sides divisible by 8, `size` without padding."""
    module = Enhancement(network.width, network.stages, network.dtype)
    found = module.apply({"params": params["params"]["enhancement"]}, low)
    total = sum(found.increments)
    small = im.pool(low, REDUCTION)
    start = enhancement.remove_black(small, found.black)
    noise = enhancement.amplified_noise(small, start, total, found.shot_noise, found.read_noise)
    exponent = im.upsample(im.curve_exponent(total), REDUCTION)
    path = im.unpad(jnp.log(exponent), *size) / im.CURVE_A
    mean = path.mean(axis=(1, 2, 3), keepdims=True)
    return Survey(found.black, total, noise, found.context, mean)


def develop(
    network: ProgressiveDualNetwork, params: Params, low: Image, seen: Survey
) -> tuple[Image, Image, Image]:
    """A window of the photograph with its part of the survey -> (restored, brightened, path)."""
    start = enhancement.remove_black(low, seen.black)
    brightened, exponent = enhancement.brighten(start, seen.log_exposure)
    levels = (network.widths, network.depths, network.blocks)
    module = Denoising(*levels, network.noise_map, network.dtype)
    denoised = module.apply(
        {"params": params["params"]["denoising"]}, brightened, seen.noise, seen.context
    )
    return denoised[-1], brightened, jnp.log(exponent) / im.CURVE_A


def margin(depths: Sequence[int], blocks: Sequence[int]) -> int:
    """Pixels at a window's cut edge that are not those of the whole; a multiple of `REDUCTION`.

    The lifted exponent is off by half a cell of the grid. Level l, coarsest first, sees blocks,
    through 2 + 2·depth convolutions that each look one block further, and its enlargement one pixel
    of 2^l.
    """
    off = REDUCTION // 2
    for depth, block, side in zip(depths, blocks, cells(blocks), strict=True):
        off = math.ceil(off / side) * side + (2 + 2 * depth) * side + side // block
    return math.ceil(off / REDUCTION) * REDUCTION


def windows(height: int, width: int, *, tile: int, overlap: int) -> Iterator[Window]:
    """Windows of one size whose kept parts cover the photograph, as few as keep `tile` a side.

    height, width and overlap, the network's `margin`, divide by `REDUCTION`. Neighbouring kept parts
    may overlap too.
    """
    axes = [_along(length, tile, overlap) for length in (height, width)]
    for (rows, kept_rows), (columns, kept_columns) in itertools.product(*axes):
        yield Window(rows, columns, kept_rows, kept_columns)


def _along(length: int, tile: int, overlap: int) -> list[tuple[slice, slice]]:
    """(window, kept part) along one axis, all of one size."""
    parts = math.ceil(length / tile)
    kept = math.ceil(length / parts / REDUCTION) * REDUCTION
    size = min(length, kept + overlap * min(parts - 1, 2))
    found = []
    for index in range(parts):
        start = min(index * kept, length - kept)
        begin = min(max(start - overlap, 0), length - size)
        found.append((slice(begin, begin + size), slice(start, start + kept)))
    return found
