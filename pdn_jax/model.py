"""The progressive dual network: brighten in stages, then denoise in levels.

    output = ProgressiveDualNetwork(**VARIANTS["small"]).apply(params, low)

`apply` is pure and returns every stage, so that a loss can score them one by one.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import enhancement
from pdn_jax import image as im
from pdn_jax.denoising import Denoising
from pdn_jax.enhancement import Enhancement
from pdn_jax.layout import cells
from pdn_jax.types import Image, PerImage

VARIANTS: dict[str, dict[str, Any]] = {
    "tiny": {
        "stages": 4,
        "width": 16,
        "widths": (24, 12, 8),
        "depths": (1, 0, 0),
        "blocks": (2, 2, 2),
        "texture": "both",
    },
    "small": {
        "stages": 4,
        "width": 32,
        "widths": (96, 48, 16),
        "depths": (2, 2, 1),
        "blocks": (2, 2, 2),
        "texture": "both",
    },
    "base": {
        "stages": 4,
        "width": 48,
        "widths": (160, 80, 32),
        "depths": (3, 2, 1),
        "blocks": (2, 2, 2),
        "texture": "both",
    },
}
"""Name -> keyword arguments of `ProgressiveDualNetwork`."""


class Noise(NamedTuple):
    """The network's own estimate of the camera's noise per image: σs and σr in linear light."""

    shot: PerImage
    read: PerImage


class PDNOutput(NamedTuple):
    """Every stage of the network for images [n, h, w, 3], sRGB, not clipped.

    enhanced: S images, dark to light. denoised: L images, coarse to fine, at ⌈h/2^l⌉×⌈w/2^l⌉.
    restored: the final image, the last of `denoised`. path: ln of the whole brightening, per
    pixel and channel. exposure: κ̂ per image, exp(−mean path). noise: σ̂s and σ̂r.
    """

    enhanced: tuple[Array, ...]
    denoised: tuple[Array, ...]
    restored: Image
    path: Image
    exposure: PerImage
    noise: Noise


class ProgressiveDualNetwork(nn.Module):
    """Enhancement from dark to light, then denoising from coarse to fine.

    stages: S. width: of the enhancement module. widths, depths, blocks: per denoising level,
    coarsest first, so their length is L: channels, residual pairs of convolutions, and pixels a side
    of what they compute on as one. noise_map: whether the denoising module is conditioned on how much
    noise the brightening has made. texture: where the enhancement module looks for texture, "rows"
    or "both" rows and columns. evidence: whether histograms of the whole say how bright the result is to
    be (`pdn_jax.evidence`). dtype: of the layers (bfloat16 halves memory on
    accelerators); parameters, exposure, noise and the exposure curve stay float32.
    """

    stages: int
    width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[int, ...]
    noise_map: bool = True
    texture: str = "both"
    evidence: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, low: Image) -> PDNOutput:
        """Brighten and denoise images of one size.

        Args:
            low: sRGB in [0, 1], [n, h, w, 3], any h and w from 16.

        Returns:
            `PDNOutput`.

        Raises:
            ValueError: another rank, channel count or a smaller image; no stages; other than 1 to 3
                levels; blocks that do not nest within the 1/8 grid.
        """
        if low.ndim != 4 or low.shape[-1] != 3 or any(side < 16 for side in low.shape[1:3]):
            raise ValueError(f"low must be [n, h, w, 3] with h, w >= 16, got {low.shape}")
        height, width = low.shape[1:3]
        levels = len(self.widths)
        if self.stages < 1 or not 1 <= levels <= 3:
            raise ValueError(f"1 stage or more and 1 to 3 levels, not {self.stages} and {levels}")
        if enhancement.REDUCTION % cells(self.blocks)[0]:
            raise ValueError(
                f"blocks {self.blocks}: of {levels} levels are coarser than the 1/8 grid"
            )
        low = im.pad_to_multiple(low.astype(jnp.float32), enhancement.REDUCTION)

        enhancing = Enhancement(
            self.width, self.stages, self.texture, self.evidence, self.dtype, name="enhancement"
        )
        estimate = enhancing(low)
        enhanced, path, noise = enhancement.lift(low, estimate)
        levels_of = (self.widths, self.depths, self.blocks)
        denoising = Denoising(
            *levels_of, self.noise_map, self.evidence, self.dtype, name="denoising"
        )
        denoised = denoising(enhanced[-1], noise, estimate.context)

        sizes = [2 ** (levels - 1 - index) for index in range(levels)]
        enhanced = tuple(im.unpad(x, height, width) for x in enhanced)
        denoised = tuple(
            im.unpad(d, -(-height // f), -(-width // f))
            for d, f in zip(denoised, sizes, strict=True)
        )
        path = im.unpad(path, height, width)
        return PDNOutput(
            enhanced=enhanced,
            denoised=denoised,
            restored=denoised[-1],
            path=path,
            exposure=jnp.exp(-path.mean(axis=(1, 2, 3))),
            noise=Noise(estimate.shot_noise, estimate.read_noise),
        )
