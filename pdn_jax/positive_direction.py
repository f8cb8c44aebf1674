"""The positive direction of the loss: from the result to the truth.

A `Direction` is a function that names its terms; `combine` joins directions, so that a new term is
one new function. Images are sRGB, NHWC (see `types`).
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.distances import charbonnier, per_image, ssim_loss
from pdn_jax.types import Batch, Distance, Image, PerImage, Physics


@runtime_checkable
class Output(Protocol):
    """What a loss needs of a network's output: its stages, its levels, its final image."""

    enhanced: tuple[Array, ...]
    denoised: tuple[Array, ...]
    restored: Image


Direction = Callable[[Any, Image, Batch], dict[str, PerImage]]
"""(output, restored, batch) -> named terms per image. `restored` is the differentiated image."""


def combine(*directions: Direction) -> Direction:
    """One direction that has the terms of all: L = Σ_i L_i.

        positive = combine(losses.positive(), my_term)

    Args:
        *directions: (output, restored, batch) -> named terms per image.

    Returns:
        A direction; it raises ValueError when two of them name a term alike.
    """

    def direction(output, restored, batch):
        terms = {}
        for each in directions:
            more = each(output, restored, batch)
            if common := sorted(terms.keys() & more.keys()):
                raise ValueError(f"two directions have a term {common[0]!r}; name one of them anew")
            terms |= more
        return terms

    return direction


def where_true(direction: Direction) -> Direction:
    """The same direction, whose terms are 0 for images without a `truth`.

    Args:
        direction: any that holds a result against `batch.normal`.

    Returns:
        The direction.
    """

    def masked(output, restored, batch):
        terms = direction(output, restored, batch)
        if batch.truth is None:
            return terms
        return {name: batch.truth * value for name, value in terms.items()}

    return masked


def gain_blind(direction: Direction, share: float) -> Direction:
    """t_i = (1 − share)·t_i(x̂) + share·t_i(x̂·mean x / mean x̂), for every term t_i of a direction.

    How bright the truth is cannot be known from a dark photograph alone. Where a result is too dark
    everywhere, a distance points up everywhere and says nothing of the structure; after one gain for
    the whole image it does.

    Args:
        direction: any that holds a result against `batch.normal`.
        share: 0 for the direction as it is, 1 for one that a gain cannot change.

    Returns:
        The direction.
    """

    def mixed(output, restored, batch):
        wanted, mean = (x.mean((1, 2, 3)) for x in (batch.normal, restored))
        matched = restored * im.broadcast(wanted / jnp.maximum(mean, im.FLOOR), restored)
        plain, blind = (direction(output, x, batch) for x in (restored, matched))
        return {name: (1.0 - share) * plain[name] + share * blind[name] for name in plain}

    return mixed


def positive(
    distance: Distance | None = None,
    *,
    structure: float = 0.5,
    blind: float = 0.0,
    stages: float = 0.2,
    levels: float = 0.2,
    noise: float = 0.002,
    sigma: float = 4.0,
) -> Direction:
    """L_pos = ρ(x̂, x) + structure·(1 − SSIM) + Σ_s w_s ρ(G∗x_s, G∗t_s) + Σ_l w_l ρ(d_l, x↓l).

    The first two are `gain_blind` by a share; the last two are `stage_term` and `level_term`;
    `noise_term` follows where the output has a `noise`. A term whose weight is 0 is left out.

    Args:
        distance: ρ; None for `charbonnier()`.
        structure: weight of 1 − SSIM.
        blind: share of ρ and SSIM that one gain for the whole image cannot change.
        stages: weight shared equally among the enhancement stages.
        levels: weight shared equally among the denoising levels short of the last.
        noise: weight of the squared error of the estimated ln σs and ln σr.
        sigma: of the Gaussian G, pixels.

    Returns:
        The combined direction.
    """
    distance = distance or charbonnier()
    result = restored_term(distance)
    if structure:
        result = combine(result, structure_term(structure))
    if blind:
        result = gain_blind(result, blind)
    weighed = (
        (stages, stage_term(distance, stages, sigma)),
        (levels, level_term(distance, levels)),
        (noise, noise_term(noise)),
    )
    return combine(result, *(term for weight, term in weighed if weight))


def restored_term(distance: Distance) -> Direction:
    """ρ(x̂, x), as `restored`.

    Args:
        distance: ρ.

    Returns:
        The direction.
    """
    return lambda output, restored, batch: {"restored": per_image(distance(restored, batch.normal))}


def structure_term(weight: float) -> Direction:
    """weight·(1 − SSIM(x̂, x)), as `structure`.

    Args:
        weight: 0 or more.

    Returns:
        The direction.
    """
    return lambda output, restored, batch: {
        "structure": weight * per_image(ssim_loss()(restored, batch.normal))
    }


def stage_term(distance: Distance, weight: float, sigma: float) -> Direction:
    """weight·mean_s ρ(G∗x_s, G∗t_s) over the enhancement stages, as `stages`; t_s: `stage_targets`.

    Both are blurred, since the enhancement module is not asked to denoise.

    Args:
        distance: ρ.
        weight: 0 or more.
        sigma: of the Gaussian G, pixels.

    Returns:
        The direction.
    """

    def direction(output, restored, batch):
        targets = stage_targets(batch.low, batch.normal, len(output.enhanced), batch.between)
        pairs = zip(output.enhanced, targets, strict=True)
        scores = [per_image(distance(low_pass(x, sigma), low_pass(t, sigma))) for x, t in pairs]
        return {"stages": weight * sum(scores) / len(scores)}

    return direction


def level_term(distance: Distance, weight: float) -> Direction:
    """weight·mean_l ρ(d_l, x↓l) over the denoising levels short of the last, as `levels`.

    Args:
        distance: ρ.
        weight: 0 or more.

    Returns:
        The direction, without terms where there is one level only.
    """

    def direction(output, restored, batch):
        count = len(output.denoised)
        if count < 2:
            return {}
        factors = [2 ** (count - 1 - index) for index in range(count - 1)]
        pairs = zip(output.denoised[:-1], factors, strict=True)
        scores = [per_image(distance(d, reduce_to(batch.normal, f))) for d, f in pairs]
        return {"levels": weight * sum(scores) / len(scores)}

    return direction


def noise_term(weight: float) -> Direction:
    """weight·`noise_error` of the output's `noise`, as `noise`.

    Args:
        weight: 0 or more.

    Returns:
        The direction, without terms where the output has no `noise`.
    """

    def direction(output, restored, batch):
        estimate = getattr(output, "noise", None)
        if estimate is None:
            return {}
        return {"noise": weight * noise_error(estimate, batch.physics)}

    return direction


def stage_targets(
    low: Image, normal: Image, stages: int, between: Array | None = None
) -> list[Image]:
    """t_s = g(x, κ^(1−s/S)), s = 1..S: valid photographs of the scene; κ from the pair's brightness.

    With real exposures z_j, at κ_j on the path, t_s = g(z, κ^(1−s/S)/κ_z) from whichever of them
    and x is nearest in ln κ: the camera's own, but for the last step. g is `image.expose_curve`.

    Args:
        low: y, sRGB [n, h, w, c].
        normal: x, of that shape.
        stages: S, 1 or more.
        between: z_j, real photographs of the scene, [n, b, h, w, c], or None.

    Returns:
        S images of the shape of `normal`, darkest first; t_S = x.
    """
    log_exposure = im.match_exposure(low, normal)
    wanted = [log_exposure * (1.0 - (s + 1) / stages) for s in range(stages - 1)]
    if between is None:
        return [im.expose_curve(normal, im.broadcast(w, normal)) for w in wanted] + [normal]
    frames = jnp.concatenate([between, normal[:, None]], axis=1)
    # From block means: what is lost in exactness is a small part of a step.
    small = [im.pool(im.pad_to_multiple(x, 4), 4) for x in (between, normal)]
    places = im.match_exposure(small[0], jnp.broadcast_to(small[1][:, None], small[0].shape))
    places = jnp.concatenate([places, jnp.zeros_like(log_exposure)[:, None]], axis=1)

    def nearest(log_exposure):
        index = jnp.argmin(jnp.abs(places - log_exposure[:, None]), axis=1)
        frame = jnp.take_along_axis(frames, index[:, None, None, None, None], axis=1)[:, 0]
        rest = log_exposure - jnp.take_along_axis(places, index[:, None], axis=1)[:, 0]
        return im.expose_curve(frame, im.broadcast(rest, frame))

    return [nearest(w) for w in wanted] + [normal]


def low_pass(image: Image, sigma: float) -> Array:
    """G∗image on a grid of a quarter the size: 4×4 means, then a Gaussian.

    Args:
        image: [n, h, w, c].
        sigma: of the Gaussian, full-size pixels.

    Returns:
        [n, ⌈h/4⌉, ⌈w/4⌉, c].
    """
    return im.blur(reduce_to(image, 4), sigma / 4.0)


def reduce_to(normal: Image, factor: int) -> Array:
    """x↓l: block means, odd edges mirrored.

    Args:
        normal: [n, h, w, c].
        factor: pixels a side of a block.

    Returns:
        [n, ⌈h/f⌉, ⌈w/f⌉, c].
    """
    return im.pool(im.pad_to_multiple(normal, factor), factor)


def noise_error(estimate: Any, physics: Physics) -> PerImage:
    """½(Δ ln σs)² + ½(Δ ln σr)², for images whose θ has noise (others count 0).

    Args:
        estimate: has `shot` and `read`, above 0, [n].
        physics: the true θ, fields [n].

    Returns:
        [n].
    """

    def error(guess, true):
        known = true > 0.0
        return jnp.where(known, jnp.log(guess) - jnp.log(jnp.where(known, true, 1.0)), 0.0) ** 2

    return 0.5 * (
        error(estimate.shot, physics.shot_noise) + error(estimate.read, physics.read_noise)
    )
