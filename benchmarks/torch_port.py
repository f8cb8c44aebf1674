"""The same network in PyTorch, channels first, as one would write it there: a yardstick, no more.

Takes the parameters of the Flax network and makes the same restored photograph to rounding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdn_jax import enhancement as ours
from pdn_jax import image as im
from pdn_jax.denoising import cells
from pdn_jax.evidence import AMOUNTS, DARKEST, LEAST_STEP, LIT, OWN, RELATIVE, STOPS, TEXTURE, UNLIT

Leaf = dict[str, Any]
"""A layer's parameters in the Flax tree: `kernel` and `bias`."""


class Output(NamedTuple):
    """As `model.PDNOutput`, channels first; noise: (σ̂s, σ̂r) per image."""

    enhanced: tuple[Tensor, ...]
    denoised: tuple[Tensor, ...]
    restored: Tensor
    noise: tuple[Tensor, Tensor]


def convolution(leaf: Leaf, *, blocks_in: Sequence[int] = (), block_out: int = 0) -> nn.Conv2d:
    """A 3×3 convolution, or 1×1 for a dense layer's kernel, with these parameters.

    Flax lays blocks of pixels out as (y, x, colour), PyTorch as (colour, y, x): the images that come
    in, in blocks of these sides, and the one that goes out, are reordered in the kernel.
    """
    kernel, bias = np.asarray(leaf["kernel"]), np.asarray(leaf["bias"])
    kernel = kernel[None, None] if kernel.ndim == 2 else kernel
    if blocks_in:
        starts = np.cumsum([0, *(3 * block**2 for block in blocks_in)])
        order = [start + reordered(block) for start, block in zip(starts, blocks_in, strict=False)]
        kernel = kernel[:, :, np.concatenate(order)]
    if block_out:
        kernel, bias = kernel[..., reordered(block_out)], bias[reordered(block_out)]
    size = kernel.shape[0]
    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], size, padding=size // 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def reordered(block: int) -> np.ndarray:
    """Where in (y, x, colour) each of (colour, y, x) stands."""
    return np.arange(3 * block**2).reshape(-1, 3).T.ravel()


def layers(tree: dict[str, Leaf], **options: dict[str, Any]) -> nn.ModuleDict:
    """Every layer of a Flax module by its name; `options` are `convolution`'s by name."""
    return nn.ModuleDict(
        {name: convolution(leaf, **options.get(name, {})) for name, leaf in tree.items()}
    )


def encode(image: Tensor) -> Tensor:
    """As `image.encode`."""
    return (torch.log(image + 1.0 / 255.0) + 2.75) / 2.75


def summary(features: Tensor) -> Tensor:
    """As `enhancement.summary`."""
    axes = (2, 3)
    return torch.cat([features.mean(axes, keepdim=True), features.amax(axes, keepdim=True)], 1)


def apply_curve(image: Tensor, exponent: Tensor) -> Tensor:
    """As `image.apply_curve`, of an image that is above the floor."""
    return torch.exp(im.CURVE_B * (1.0 - exponent) + exponent * torch.log(image))


def enlarge(image: Tensor, factor: int) -> Tensor:
    """As `image.upsample`."""
    if factor == 1:
        return image
    return F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


def mirror(image: Tensor, multiple: int) -> Tensor:
    """As `image.pad_to_multiple`."""
    for axis in (2, 3):
        more = -image.shape[axis] % multiple
        if more:
            end = image.narrow(axis, image.shape[axis] - more, more)
            image = torch.cat([image, end.flip(axis)], axis)
    return image


def differences(low: Tensor, axis: int) -> Tensor:
    """Means of |difference| to the next pixel along an axis, as `enhancement.observe` has them."""
    apart = low.diff(dim=axis).abs()
    apart = F.pad(apart, (0, 1, 0, 0) if axis == 3 else (0, 0, 0, 1), mode="replicate")
    return F.avg_pool2d(apart, ours.REDUCTION)


def limited(amount: Tensor, totals: list[Tensor]) -> list[Tensor]:
    """Sums of increments -> those of increments times the amount, as `evidence.limited` has them."""
    return [(amount * total).clamp(max=im.MAX_BRIGHTENING) for total in totals]


def means(small: Tensor, black: Tensor, path: Tensor) -> Tensor:
    """As `evidence.means`: [n, 9, 1, 1]."""
    tried = []
    for amount in map(float, AMOUNTS):
        start = (small - amount * black).clamp(min=im.FLOOR)
        total = (amount * path).clamp(max=im.MAX_BRIGHTENING)
        bright = apply_curve(start, torch.exp(im.CURVE_A * total)).clamp(max=1.0)
        tried.append(bright.mean((1, 2, 3), keepdim=True))
    return torch.cat(tried, 1)


class Enhancement(nn.Module):
    """The grid of the enhancement module."""

    def __init__(self, tree: dict[str, Any], stages: int, texture: str):
        super().__init__()
        self.stages, self.texture = stages, texture
        parts = ("stage", "target")
        self.layers = layers({name: leaf for name, leaf in tree.items() if name not in parts})
        self.stage = layers(tree["stage"])
        self.target = layers(tree["target"]) if "target" in tree else None

    def forward(self, low: Tensor, small: Tensor):
        """(photograph, its mean on the grid) -> (x_0's black level, every ln k, memory, noise's std, σ)."""
        texture = differences(low, 3)
        if self.texture == "both":
            texture = 0.5 * (texture + differences(low, 2))
        observed = self.layers["first"](torch.cat([encode(small), encode(texture)], 1))
        memory = torch.tanh(observed)
        facts = F.relu(self.layers["facts"](summary(memory)))
        black = ours.MAX_BLACK * torch.sigmoid(self.layers["black"](facts))
        noise = self.layers["noise"](facts)
        shot = torch.exp((noise[:, :1] - 7.5).clamp(-14.0, -2.0))
        read = torch.exp((noise[:, 1:] - 14.0).clamp(-24.0, -4.0))

        start = (small - black).clamp(min=im.FLOOR)
        total, totals = torch.zeros_like(start), []
        for _ in range(self.stages):
            current = apply_curve(start, torch.exp(im.CURVE_A * total))
            increment, memory = self.step(observed, current, memory)
            total = total + torch.minimum(increment, im.MAX_BRIGHTENING - total)
            totals.append(total)
        if self.target is not None:
            amount = self.decided(small, texture, means(small, black, total))
            totals, black = limited(amount, totals), amount * black
            total, start = totals[-1], (small - black).clamp(min=im.FLOOR)
            memory = torch.cat([memory, amount.expand(-1, -1, *memory.shape[2:])], 1)
        with torch.no_grad():
            noise = self.noise(small, start, total, shot, read)
        return black, totals, memory, noise, (shot.flatten(), read.flatten())

    def decided(self, small: Tensor, texture: Tensor, tried: Tensor) -> Tensor:
        """As `evidence.evidence`, `Target` and `amount_of`: [n, 1, 1, 1]."""
        grain = texture.mean(1, keepdim=True)
        weights = small.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]
        counted = [
            (encode((weights * small).sum(1, keepdim=True)), STOPS),
            (encode(small.amax(1, keepdim=True)), STOPS),
            (encode(grain), TEXTURE),
            (grain / (small.mean(1, keepdim=True) + 1.0 / 255.0), RELATIVE),
        ]
        parts = []
        for values, bins in counted:
            inside = values.clamp(bins.least, bins.most)
            centres = inside.new_tensor(bins.centres)[:, None, None]
            share = F.relu(1.0 - (inside - centres).abs() / bins.step)
            parts.append(share.mean((2, 3), keepdim=True))
        own = torch.logit(tried[:, OWN : OWN + 1].clamp(DARKEST, 1.0 - DARKEST))
        a = torch.cat([*parts, own], 1)
        for name in ("first", "second"):
            a = F.relu(self.target[name](a))
        mean = torch.sigmoid(own + self.target["change"](a))
        lower, upper = tried[:, :-1], tried[:, 1:]
        shares = (mean - lower) / (upper - lower).clamp(min=LEAST_STEP)
        amount = float(AMOUNTS[1]) * shares.clamp(0.0, 1.0).sum(1, keepdim=True)
        largest = small.mean(1, keepdim=True).amax((2, 3), keepdim=True)
        return amount * ((largest - UNLIT) / (LIT - UNLIT)).clamp(0.0, 1.0)

    def step(self, observed: Tensor, current: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `enhancement.Stage`."""
        part = self.stage
        a = part["look"](memory) + part["current"](encode(current)) + part["whole"](summary(memory))
        a = F.relu(part["think"](F.relu(a + observed)))
        gate, new = torch.sigmoid(part["gate"](a)), torch.tanh(part["remember"](a))
        memory = memory + gate * (new - memory)
        return F.softplus(part["step"](memory)), memory

    def noise(self, small: Tensor, start: Tensor, total: Tensor, shot: Tensor, read: Tensor):
        """As `enhancement.amplified_noise`, of an image in [0, 1]."""
        base = (small.clamp(min=0.04045) + 0.055) / 1.055
        dark = small <= 0.04045
        light = torch.where(dark, small / 12.92, base**2.4)
        slope = torch.where(dark, torch.full_like(small, 1 / 12.92), (2.4 / 1.055) * base**1.4)
        variance = (shot * light + read) / slope**2 + ours.QUANTIZATION
        exponent = torch.exp(im.CURVE_A * total)
        return torch.sqrt(variance) * exponent * apply_curve(start, exponent) / start


class Network(nn.Module):
    """`ProgressiveDualNetwork`, for its restored photograph or for every stage."""

    def __init__(self, params: Any, model: dict[str, Any]):
        """Flax parameters and the keyword arguments of the network that they are for."""
        super().__init__()
        tree = params["params"]
        self.enhancement = Enhancement(
            tree["enhancement"], model["stages"], model.get("texture", "both")
        )
        self.depths, self.blocks, self.levels = model["depths"], model["blocks"], nn.ModuleList()
        for index, block in enumerate(self.blocks):
            level = len(self.depths) - 1 - index
            part = layers(
                {**tree["denoising"][f"level{level}"], "lift": tree["denoising"][f"lift{level}"]},
                look={"blocks_in": (block, block // 2) if index else (block,)},
                residual={"block_out": block},
            )
            self.levels.append(part)

    def forward(self, low: Tensor) -> Tensor:
        """[n, 3, h, w] -> the same, not clipped."""
        return self.stages(low, all_of_them=False).restored

    def stages(self, low: Tensor, *, all_of_them: bool = True) -> Output:
        """[n, 3, h, w] -> `Output`; the stages short of the last only if all are asked for."""
        height, width = low.shape[2:]
        low = mirror(low, ours.REDUCTION)
        small = F.avg_pool2d(low, ours.REDUCTION)
        black, totals, features, noise, sigmas = self.enhancement(low, small)
        start = (low - black).clamp(min=im.FLOOR)
        enhanced = [
            apply_curve(start, enlarge(torch.exp(im.CURVE_A * total), ours.REDUCTION))
            for total in (totals if all_of_them else totals[-1:])
        ]
        levels = self.denoise(enhanced[-1], features, noise)
        if not all_of_them:
            levels = levels[-1:]
        sizes = [2**level for level in reversed(range(len(levels)))]
        denoised = tuple(
            image[..., : -(-height // size), : -(-width // size)]
            for image, size in zip(levels, sizes, strict=True)
        )
        enhanced = tuple(image[..., :height, :width] for image in enhanced)
        return Output(enhanced, denoised, denoised[-1], sigmas)

    def denoise(self, image: Tensor, features: Tensor, noise: Tensor) -> list[Tensor]:
        """As `denoising.Denoising`."""
        sides, correction, denoised = cells(self.blocks), None, []
        amount = features[:, -1:, :1, :1] if self.enhancement.target is not None else 1.0
        for index, (part, depth) in enumerate(zip(self.levels, self.depths, strict=True)):
            factor, block = 2 ** (len(self.levels) - 1 - index), self.blocks[index]
            e = F.avg_pool2d(image, factor) if factor > 1 else image
            expected = enlarge(noise, features.shape[2] // noise.shape[2]) / factor
            condition = part["lift"](torch.cat([features, expected], 1))
            times = image.shape[2] // sides[index] // condition.shape[2]
            if times > 1:
                condition = F.interpolate(condition, scale_factor=times, mode="nearest")
            seen = F.pixel_unshuffle(e, block)
            if correction is not None:
                seen = torch.cat([seen, F.pixel_unshuffle(correction, block // 2)], 1)
            features = F.relu(part["look"](seen) + condition)
            for inner in range(depth):
                features = features + part[f"b{inner}"](F.relu(part[f"a{inner}"](features)))
            residual = F.pixel_shuffle(part["residual"](F.relu(features)), block)
            correction = residual if correction is None else enlarge(correction, 2) + residual
            denoised.append(e + amount * correction)
        return denoised
