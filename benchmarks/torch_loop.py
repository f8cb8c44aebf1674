"""The training step of the same network in PyTorch, with the same positive loss: a yardstick.

Written as one would write it there: channels last, separable windows as depthwise convolutions,
the fused form of AdamW, one call for all averaged weights. Imports PyTorch.
"""

import time
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import workers
from benchmarks.torch_port import Network, Output, apply_curve, mirror
from pdn_jax import image as im
from pdn_jax.metrics import WINDOW


class Job(NamedTuple):
    """What a loop is given: NumPy arrays, and plain numbers from the config.

    low, normal: crops [n, h, w, 3]. noise: (σs, σr) per image. loss: the weights and the sigma of
    `losses.positive`. optimizer: rate, decay, clip, ema.
    """

    params: Any
    model: dict[str, Any]
    low: np.ndarray
    normal: np.ndarray
    noise: tuple[np.ndarray, np.ndarray]
    loss: dict[str, float]
    optimizer: dict[str, float]
    device: str = "cpu"
    dtype: str = "float32"


def charbonnier(a: Tensor, b: Tensor) -> Tensor:
    """As `losses.charbonnier`, and its mean."""
    return torch.sqrt((a - b) ** 2 + 1e-6).mean() - 1e-3


def windowed(image: Tensor, taps: np.ndarray) -> Tensor:
    """Rows and columns filtered where the taps fit, by a depthwise convolution each: faster here than
    products with banded matrices, 28 against 47 ms for SSIM and its gradient on 8×128×128×3.
    """
    channels, size = image.shape[1], len(taps)
    taps = torch.as_tensor(taps, dtype=image.dtype, device=image.device)
    image = F.conv2d(image, taps.view(1, 1, size, 1).expand(channels, 1, size, 1), groups=channels)
    return F.conv2d(image, taps.view(1, 1, 1, size).expand(channels, 1, 1, size), groups=channels)


def blur(image: Tensor, sigma: float) -> Tensor:
    """As `image.blur`, which renormalises at the edges: two products with banded matrices."""
    taps = tuple(float(tap) for tap in im.gaussian_kernel(sigma, max(1, round(3 * sigma))))
    rows, columns = (
        torch.from_numpy(im.banded(taps, size, "renormalised")).to(image.device)
        for size in image.shape[-2:]
    )
    return rows @ (image @ columns.T)


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Mean of `metrics.ssim_map`."""
    centre = 0.5 * (image + truth).detach().mean((2, 3), keepdim=True)
    x, y = image - centre, truth - centre
    moments = windowed(torch.cat([x, y, x * x + y * y, x * y], 1), WINDOW)
    mean_x, mean_y, square, product = moments.chunk(4, 1)
    spread = square - mean_x**2 - mean_y**2
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + centre, mean_y + centre
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (likeness * (2.0 * covariance + c2) / (spread + c2)).mean()


def expose(image: Tensor, log_exposure: Tensor) -> Tensor:
    """As `image.expose_curve`, for a value per image."""
    exponent = torch.exp(im.CURVE_A * log_exposure).view(-1, 1, 1, 1)
    return apply_curve(image.clamp(min=im.FLOOR), exponent)


def match_exposure(low: Tensor, normal: Tensor) -> Tensor:
    """As `image.match_exposure`, with the logarithm taken once."""
    target, log = low.mean((1, 2, 3)), torch.log(normal.clamp(min=im.FLOOR))
    lower = torch.full_like(target, float(np.log(1e-3)))
    upper = torch.zeros_like(target)
    for _ in range(16):
        middle = 0.5 * (lower + upper)
        exponent = torch.exp(im.CURVE_A * middle).view(-1, 1, 1, 1)
        exposed = torch.exp(im.CURVE_B * (1.0 - exponent) + exponent * log)
        bright = exposed.mean((1, 2, 3)) > target
        lower, upper = torch.where(bright, lower, middle), torch.where(bright, middle, upper)
    return 0.5 * (lower + upper)


def positive(output: Output, low: Tensor, normal: Tensor, noise: Any, weights: dict) -> Tensor:
    """As `losses.positive` with the Charbonnier distance, all terms together."""
    total = charbonnier(output.restored, normal)
    total = total + weights["structure"] * (1.0 - ssim(output.restored, normal))

    sigma, count = weights["sigma"] / 4.0, len(output.enhanced)

    def low_pass(image):
        return blur(F.avg_pool2d(mirror(image, 4), 4), sigma)

    with torch.no_grad():
        matched = match_exposure(low, normal)
        targets = [expose(normal, matched * (1.0 - (s + 1) / count)) for s in range(count - 1)]
        targets = [low_pass(target) for target in (*targets, normal)]
    scores = [charbonnier(low_pass(x), t) for x, t in zip(output.enhanced, targets, strict=True)]
    total = total + weights["stages"] * sum(scores) / count

    coarse = output.denoised[:-1]
    factors = [2 ** (len(coarse) - index) for index in range(len(coarse))]
    scores = [
        charbonnier(image, F.avg_pool2d(mirror(normal, factor), factor))
        for image, factor in zip(coarse, factors, strict=True)
    ]
    if scores:
        total = total + weights["levels"] * sum(scores) / len(scores)
    errors = [
        torch.where(true > 0, estimate.log() - torch.where(true > 0, true, 1.0).log(), 0.0) ** 2
        for estimate, true in zip(output.noise, noise, strict=True)
    ]
    return total + weights["noise"] * 0.5 * sum(errors).mean()


def loop(job: Job) -> Generator:
    """A worker: (loss, norm of its gradient), then the seconds of as many steps as it is asked for."""
    torch.set_num_threads(workers.threads())
    device = torch.device(job.device)

    def tensor(array):
        return torch.tensor(np.asarray(array), device=device)

    network = Network(job.params, job.model).to(device, memory_format=torch.channels_last)
    low, normal = (tensor(x).permute(0, 3, 1, 2) for x in (job.low, job.normal))
    noise = [tensor(x) for x in job.noise]
    params = list(network.parameters())
    average = [param.detach().clone() for param in params]
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": job.optimizer["decay"]},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=job.optimizer["rate"], betas=(0.9, 0.99), fused=True)

    def gradient() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=job.dtype == "bfloat16"):
            output = network.stages(low)
        output = torch.utils._pytree.tree_map(lambda x: x.float(), output)
        loss = positive(output, low, normal, noise, job.loss)
        loss.backward()
        return loss

    def step() -> None:
        loss = gradient()
        torch.nn.utils.clip_grad_norm_(params, job.optimizer["clip"])
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, params, 1.0 - job.optimizer["ema"])
        loss.item()

    loss = gradient().item()
    norm = torch.sqrt(sum((param.grad**2).sum() for param in params)).item()
    count = yield loss, norm
    while True:
        seconds = []
        for timed in range(-1, count):
            start = time.perf_counter()
            step()
            if timed >= 0:
                seconds.append(time.perf_counter() - start)
        count = yield tuple(seconds)
