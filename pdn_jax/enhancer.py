"""Photographs through a trained network that is loaded once and compiled for few shapes.

Photographs come and go as NumPy arrays, uint8, uint16 or float in [0, 1]. What the network makes is clipped
here and nowhere before. Each goes through the global pass whole, on its 1/8 grid, and is then
rendered in tiles of a few fixed shapes (see `layout`), which bounds the memory, lets photographs of
ever new sizes share programs, and changes the result by rounding alone. Black bars around a picture
stay as they are and are not shown to the network (see `bars`).
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pdn_jax import bars, host_memory, layout, program_inputs, shapes
from pdn_jax import cache as disk
from pdn_jax import weights as files
from pdn_jax.checks import SMALLEST, check_dials, checked, converted, white
from pdn_jax.executable import on_cpu
from pdn_jax.layout import GlobalPass, Tile
from pdn_jax.programs import Programs, request
from pdn_jax.together import Together, at_once
from pdn_jax.weights import Weights

TILE = 1536
"""Pixels that a side of a tile may have on a CPU: bounds the memory, costs little in overlap."""
TILE_OF_ACCELERATOR, BATCH_OF_ACCELERATOR = 2048, 8
"""Pixels a side of a tile on a GPU or TPU, and how many are computed at once, see `together`."""


class Stages(NamedTuple):
    """Everything the network makes of a photograph, clipped, of the photograph's dtype.

    enhanced: S images, dark to light. denoised: L images, coarse to fine, ⌈h/2^l⌉×⌈w/2^l⌉.
    restored: the result.
    """

    enhanced: list[np.ndarray]
    denoised: list[np.ndarray]
    restored: np.ndarray


class Enhancer:
    """A network with its weights, ready for photographs of any size; safe to call from threads.

        enhancer = pdn_jax.Enhancer("small")
        for photo in photos:
            bright = enhancer(photo)

    Attributes:
        weights: what it was made with.
        programs: what it has compiled.
    """

    def __init__(
        self,
        weights: Weights | str | Path = files.DEFAULT,
        *,
        tile: int | None = None,
        dtype: str = "float32",
        cache: disk.Cache | None = None,
    ):
        """Load the weights; nothing is compiled yet.

        Args:
            weights: `Weights`, or what `weights.load` takes: "tiny", "small" or "base", a file or a
                run folder.
            tile: pixels that a side of a tile may have, its overlap included; by default 1536 on a
                CPU and 2048 elsewhere.
            dtype: what the layers compute in; "bfloat16" is for accelerators.
            cache: where compiled programs are kept; by default `cache.default()`.

        Raises:
            InputError: for weights that cannot be used.
            ValueError: for tiles so small that they would be all overlap.
        """
        self.weights = weights if isinstance(weights, Weights) else files.load(weights)
        model = dict(self.weights.model)
        if dtype != "float32":
            model["dtype"] = dtype
        cache = disk.default() if cache is None else cache
        self.programs = Programs(model, files.single(self.weights.params), cache)
        self.overlap = layout.margin(model["depths"], model["blocks"])
        cpu = on_cpu()
        self.tile = (TILE if cpu else TILE_OF_ACCELERATOR) if tile is None else tile
        self.together = Together(1 if cpu else BATCH_OF_ACCELERATOR)
        self.texture = model.get("texture", "both")
        layout.tiles(SMALLEST, SMALLEST, overlap=self.overlap, largest=self.tile)

    def __call__(
        self,
        photo: np.ndarray,
        *,
        exposure: float = 1.0,
        denoise: float = 1.0,
        there: np.ndarray | None = None,
    ) -> np.ndarray:
        """Enhance photographs; see `inference.enhance`.

        Args:
            photo: [h, w, 3] or [n, h, w, 3], sRGB, uint8, uint16 or float in [0, 1].
            exposure: relative to the network's own result, > 0.
            denoise: from 0 to 1.
            there: bool [h, w], False for pixels that count for nothing in the exposure, such as
                transparent ones; None for all but black bars.

        Returns:
            The restored photographs, of the same shape and dtype; pixels that are not there are as any.
        """
        exposure, denoise = check_dials(exposure, denoise)
        dials = () if exposure == 1.0 and denoise == 1.0 else (exposure, denoise)
        photos = checked(photo)
        restored = bars.kept(photos, there, lambda part: self._enhanced(part, there, dials))
        host_memory.give_back(photos.size)
        return restored.astype(photo.dtype, copy=False).reshape(photo.shape)

    # --- in two parts ------------------------------------------------------------------------

    def global_pass(self, photo: np.ndarray) -> GlobalPass:
        """What the network estimates from the whole of a photograph.

        Args:
            photo: [h, w, 3], sRGB, uint8, uint16 or float in [0, 1].

        Returns:
            Arrays of one image, on the 1/8 grid; `render` takes them, or others like them.

        Raises:
            ValueError: for anything else.
        """
        (one,) = checked(photo)
        return self._global_pass(one)

    def render(
        self,
        photo: np.ndarray,
        estimate: GlobalPass,
        *,
        exposure: float = 1.0,
        denoise: float = 1.0,
    ) -> np.ndarray:
        """Enhance one photograph whose global pass is known.

        Args:
            photo: [h, w, 3], sRGB, uint8, uint16 or float in [0, 1].
            estimate: of `global_pass`, or one like it.
            exposure: relative to the network's own result, > 0.
            denoise: from 0 to 1.

        Returns:
            The restored photograph, of the same shape and dtype.
        """
        exposure, denoise = check_dials(exposure, denoise)
        dials = () if exposure == 1.0 and denoise == 1.0 else (exposure, denoise)
        rendered = self._rendered(checked(photo), [estimate], dials)
        return rendered.astype(photo.dtype).reshape(photo.shape)

    def mean_path(self, estimate: GlobalPass, height: int, width: int) -> float:
        """Mean over pixels and channels of ln k, how much the network brightens a photograph.

        Args:
            estimate: its global pass.
            height: of the photograph, in pixels.
            width: likewise.

        Returns:
            −ln κ̂, the logarithm of its exposure relative to the restored photograph.
        """
        shape, tiles = self._tiles(height, width)
        log_exposure, total = estimate.increments[0].sum(axis=0), 0.0
        for tile in tiles:
            arrays = program_inputs.path_arrays(log_exposure, tile, shape, (height, width))
            total += float(self.programs("path_sum", *arrays)[0][0])
        return total / (3 * height * width)

    def prepare(
        self, height: int, width: int, *, dtype: Any = np.uint8, dialled: bool = False
    ) -> None:
        """Load or compile, at once, what photographs of a size need; `enhance` would, in turn.

        Args:
            height: of the photographs, in pixels.
            width: likewise.
            dtype: of the photographs.
            dialled: whether with an exposure or a strength of denoising other than 1.
        """
        shape, tiles = self._tiles(height, width)
        grid = (layout.up(height) // layout.REDUCTION, layout.up(width) // layout.REDUCTION)
        photo = np.broadcast_to(converted(np.zeros((), dtype)), (height, width, 3))
        channels = shapes.context_channels(self.weights.model)
        flat = np.broadcast_to(np.float32(0), (1, *grid, channels))
        three = flat[..., :3]
        estimate = GlobalPass(three[:, 0, 0], three[:, None], three, flat, None, None)
        inputs = program_inputs.tile_arrays(
            photo, estimate, tiles[0], shape
        ) + program_inputs.numbers((1.0,) * 3 * dialled)
        count = at_once(min(self.batch, len(tiles)), self.batch)
        wanted = [
            request("dialled" if dialled else "render", [np.stack([a] * count) for a in inputs]),
            request("global", program_inputs.grids(three[0], three[0])),
        ]
        if dialled:
            path = program_inputs.path_arrays(three[0], tiles[0], shape, grid)
            wanted.append(request("path_sum", path))
        self.programs.prepare(wanted)

    @property
    def batch(self) -> int:
        """How many tiles are computed at once: of one photograph, or of several in as many threads."""
        return self.together.most

    # --- arrays ------------------------------------------------------------------------------

    def _tiles(self, height: int, width: int) -> tuple[tuple[int, int], list[Tile]]:
        sizes = (layout.up(height), layout.up(width))
        return layout.tiles(*sizes, overlap=self.overlap, largest=self.tile)

    def _global_pass(self, photo: np.ndarray, there: np.ndarray | None = None) -> GlobalPass:
        """The global pass of one photograph, without what the grid has beside it."""
        small, texture = layout.observe(photo, self.texture)
        mask = None if there is None else layout.cells_there(there)
        estimate = GlobalPass(*self.programs("global", *program_inputs.grids(small, texture, mask)))
        rows, columns = (slice(0, length) for length in small.shape[:2])
        return estimate._replace(
            increments=estimate.increments[:, :, rows, columns],
            noise=estimate.noise[:, rows, columns],
            context=estimate.context[:, rows, columns],
        )

    def _enhanced(self, photos: np.ndarray, there: np.ndarray | None, dials) -> np.ndarray:
        estimates = [self._global_pass(one, there) for one in photos]
        host_memory.give_back(photos.size)
        return self._rendered(photos, estimates, dials)

    def _rendered(
        self,
        photos: Sequence[np.ndarray] | np.ndarray,
        estimates: Sequence[GlobalPass],
        dials: tuple[float, ...] = (),
    ) -> np.ndarray:
        """Photographs [n, h, w, 3] of one size, tile by tile."""
        height, width = photos[0].shape[:2]
        extra: list[tuple[float, ...]] = [()] * len(photos)
        if dials:
            extra = [(self.mean_path(e, height, width), *dials) for e in estimates]
        sums = [e._replace(increments=e.increments.sum(axis=1, keepdims=True)) for e in estimates]
        restored = np.empty((len(photos), height, width, 3), photos[0].dtype)
        kind = "dialled" if dials else "render"
        for index, tile, (image,) in self._each_tile(kind, photos, sums, extra):
            part = restored[index, tile.kept_rows, tile.kept_columns]
            part[...] = image[tile.inner][: part.shape[0], : part.shape[1]]
        return restored

    def _each_tile(self, kind, photos, estimates, extra):
        """(which photograph, tile, the program's images of it) of all tiles of all photographs."""
        shape, tiles = self._tiles(*photos[0].shape[:2])
        jobs = [(index, tile) for index in range(len(photos)) for tile in tiles]
        for begin in range(0, len(jobs), self.batch):
            chunk = jobs[begin : begin + self.batch]
            given = [
                program_inputs.tile_arrays(photos[i], estimates[i], tile, shape)
                + program_inputs.numbers(extra[i])
                for i, tile in chunk
            ]
            made = self.together(kind, functools.partial(self.programs, kind), given)
            for (index, tile), results in zip(chunk, made, strict=True):
                yield index, tile, results

    def stages(
        self, photo: np.ndarray, *, reduce: int = 1, there: np.ndarray | None = None
    ) -> Stages:
        """Every stage of the network for a photograph, for pictures.

        Args:
            photo: as `enhance` takes it, one or a batch.
            reduce: 1, 2, 4 or 8: by how much stages are made smaller, by means of pixels, to fit in
                memory; a level that is smaller by itself by as much less.
            there: as for a call.

        Returns:
            `Stages`; the sides of what is reduced are rounded down.

        Raises:
            ValueError: for anything else.
        """
        if reduce not in (1, 2, 4, 8):
            raise ValueError(f"reduce must be 1, 2, 4 or 8, got {reduce}")
        photos = checked(photo)
        height, width = photos.shape[1:3]
        levels = len(self.weights.model["depths"])
        factors = [1] * self.weights.model["stages"] + [2**level for level in range(levels)][::-1]
        finals = [max(factor, reduce) for factor in factors]
        images = [
            np.zeros((len(photos), _over(height, f, n), _over(width, f, n), 3), photos.dtype)
            for f, n in zip(factors, finals, strict=True)
        ]
        estimates = [self._global_pass(one, there) for one in photos]
        none = [()] * len(photos)
        for index, tile, results in self._each_tile("stages", photos, estimates, none):
            for image, result, factor, final in zip(images, results, factors, finals, strict=True):
                kept = result[tuple(_divided(span, factor) for span in tile.inner)]
                kept = _reduced(kept, final // factor)
                part = image[
                    index, _divided(tile.kept_rows, final), _divided(tile.kept_columns, final)
                ]
                part[...] = kept[: part.shape[0], : part.shape[1]]
        images = [i.astype(photo.dtype).reshape(i.shape[-photo.ndim :]) for i in images]
        return Stages(images[:-levels], images[-levels:], images[-1])


def _divided(span: slice, factor: int) -> slice:
    return slice(span.start // factor, span.stop // factor)


def _over(length: int, factor: int, final: int) -> int:
    """Pixels of a side at a level that is smaller by `factor` and reduced to 1/final."""
    return math.ceil(length / factor) if final == factor else length // final


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor×factor pixels, of the same dtype."""
    if factor == 1:
        return image
    height, width, channels = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    means = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means if white(image.dtype) == 1 else np.rint(means).astype(image.dtype)
