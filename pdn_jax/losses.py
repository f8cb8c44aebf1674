"""The bidirectional constraint loss, composed of functions of arrays.

A distance is elementwise and never reduces over the batch by itself. A direction turns
(output, batch) into named terms per image. `bidirectional` joins the two directions with a
balance. The forward degradation model arrives as an argument; so do the stages of whatever
network made the output (`enhanced`, `denoised`, `restored`), and nothing here imports either.

    loss = bidirectional(degrade, negative=whitened(charbonnier()), balance=gradient_ratio())
    total, terms, state = loss(output, batch, loss.init())

Images are sRGB, NHWC (see `types`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax import balance as balances
from pdn_jax import image as im
from pdn_jax.balance import Balance, Evidence
from pdn_jax.balance import fixed as fixed
from pdn_jax.balance import gradient_ratio as gradient_ratio
from pdn_jax.balance import positive_only as positive_only
from pdn_jax.balance import uncertainty as uncertainty
from pdn_jax.metrics import ssim_map
from pdn_jax.types import Batch, Distance, Image, PerImage

Terms = dict[str, Array]

# --- distances: elementwise --------------------------------------------------------------------


def charbonnier(epsilon: float = 1e-3) -> Distance:
    """sqrt((a − b)² + ε²) − ε: quadratic near 0, absolute far away. Source: Charbonnier et al. 1994."""

    def distance(prediction, target):
        _same_shape(prediction, target)
        return jnp.sqrt((prediction - target) ** 2 + epsilon**2) - epsilon

    return distance


def l1() -> Distance:
    """|a − b|."""

    def distance(prediction, target):
        _same_shape(prediction, target)
        return jnp.abs(prediction - target)

    return distance


def gaussian_nll(residual: Array, variance: Array) -> Array:
    """½(r²/Σ + ln Σ), elementwise: the Gaussian negative log-likelihood less its constant."""
    _same_shape(residual, variance)
    return 0.5 * (residual**2 / variance + jnp.log(variance))


def ssim_loss() -> Distance:
    """1 − SSIM, a map smaller than the images by the window (see `metrics.ssim_map`)."""
    return lambda prediction, target: 1.0 - ssim_map(prediction, target)


def _same_shape(a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}; a loss never broadcasts")


def per_image(values: Array) -> PerImage:
    """Mean over everything but the leading axis."""
    return values.reshape(values.shape[0], -1).mean(axis=1)


# --- positive direction: from the result to the truth ------------------------------------------


@runtime_checkable
class Output(Protocol):
    """What a loss needs of a network's output: its stages, its levels, its final image."""

    enhanced: tuple[Array, ...]
    denoised: tuple[Array, ...]
    restored: Image


Direction = Callable[[Any, Image, Batch], dict[str, PerImage]]
"""(output, restored, batch) -> named terms per image. `restored` is the differentiated image."""


def positive(
    distance: Distance | None = None,
    *,
    structure: float = 0.5,
    stages: float = 0.2,
    levels: float = 0.2,
    noise: float = 0.02,
    sigma: float = 4.0,
) -> Direction:
    """L_pos = ρ(x̂, x) + structure·(1 − SSIM) + Σ_s w_s ρ(G∗x_s, G∗t_s) + Σ_l w_l ρ(d_l, x↓l).

    t_s = g(x, κ^(1−s/S)) with κ from the pair's brightness, or the real exposure nearest to it
    (`stage_targets`); G is a Gaussian blur of `sigma` pixels, since the enhancement module is not
    asked to denoise. `stages` and `levels` are
    shared equally among the stages and the levels short of the last. `noise` weighs the squared
    error of the estimated ln σs and ln σr where the output has a `noise`.
    """
    distance = distance or charbonnier()

    def direction(output, restored, batch):
        normal = batch.normal
        terms = {"restored": per_image(distance(restored, normal))}
        if structure:
            terms["structure"] = structure * per_image(ssim_loss()(restored, normal))
        if stages:
            targets = stage_targets(batch.low, normal, len(output.enhanced), batch.between)
            pairs = zip(output.enhanced, targets, strict=True)
            scores = [per_image(distance(low_pass(x, sigma), low_pass(t, sigma))) for x, t in pairs]
            terms["stages"] = stages * sum(scores) / len(scores)
        if levels and len(output.denoised) > 1:
            count = len(output.denoised)
            factors = [2 ** (count - 1 - index) for index in range(count - 1)]
            pairs = zip(output.denoised[:-1], factors, strict=True)
            scores = [per_image(distance(d, reduce_to(normal, f))) for d, f in pairs]
            terms["levels"] = levels * sum(scores) / len(scores)
        if noise and getattr(output, "noise", None) is not None:
            terms["noise"] = noise * noise_error(output.noise, batch.physics)
        return terms

    return direction


def stage_targets(
    low: Image, normal: Image, stages: int, between: Array | None = None
) -> list[Image]:
    """t_s = g(x, κ^(1−s/S)), s = 1..S: valid photographs of the scene, darkest first, t_S = x.

    With real exposures z_j `between` [n, b, h, w, c], at κ_j on the path, t_s = g(z, κ^(1−s/S)/κ_z)
    from whichever of them and x is nearest in ln κ: the camera's own, but for the last step.
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
    """G∗image, on a grid of a quarter the size: 4×4 means, then a Gaussian of `sigma` full-size pixels."""
    return im.blur(reduce_to(image, 4), sigma / 4.0)


def reduce_to(normal: Image, factor: int) -> Array:
    """x↓l: block means at ⌈h/f⌉×⌈w/f⌉, odd edges mirrored."""
    return im.pool(im.pad_to_multiple(normal, factor), factor)


def noise_error(estimate: Any, physics: Any) -> PerImage:
    """Squared error of ln σs and ln σr, for images whose θ has noise (others count 0)."""

    def error(found, true):
        known = true > 0.0
        return jnp.where(known, jnp.log(found) - jnp.log(jnp.where(known, true, 1.0)), 0.0) ** 2

    return 0.5 * (
        error(estimate.shot, physics.shot_noise) + error(estimate.read, physics.read_noise)
    )


# --- negative direction: degraded again, against what the camera saw ---------------------------

Residual = Callable[[Any, Image, Batch], PerImage]
"""(degrade, z, batch) -> r(z; θ) per image: how badly z explains the observation."""

EPSILON = 1.0 / 255.0
"""Floor of the whitening, one 8-bit step: errors below it are no evidence."""


def whitened(distance: Distance | None = None, *, levels: int = 4) -> Residual:
    """r(z) = mean_l mean ρ(P_l[D̄(z; θ) − y] / sqrt(P_l∘Σ + ε²)), P_l block means of 2^l.

    Whitening by the model's own noise keeps dark pixels from dominating; the variance of a
    block mean is the mean variance over 4^l. Levels that would leave less than 8 pixels a
    side are skipped.
    """
    distance = distance or charbonnier()

    def residual(degrade, image, batch):
        difference = degrade.mean(image, batch.physics) - batch.low
        variance = jax.lax.stop_gradient(degrade.variance(image, batch.physics))
        scores = []
        for level in pyramid_levels(image, levels):
            d, v = im.pool(difference, 2**level), im.pool(variance, 2**level) / 4.0**level
            white = d / jnp.sqrt(v + EPSILON**2)
            scores.append(per_image(distance(white, jnp.zeros_like(white))))
        return sum(scores) / len(scores)

    return residual


def likelihood(*, levels: int = 4) -> Residual:
    """As `whitened`, with the Gaussian negative log-likelihood, ½(r²/Σ + ln Σ), as the distance."""

    def residual(degrade, image, batch):
        difference = degrade.mean(image, batch.physics) - batch.low
        variance = degrade.variance(image, batch.physics)
        scores = []
        for level in pyramid_levels(image, levels):
            d, v = im.pool(difference, 2**level), im.pool(variance, 2**level) / 4.0**level
            scores.append(per_image(gaussian_nll(d, v + EPSILON**2)))
        return sum(scores) / len(scores)

    return residual


def pyramid_levels(image: Image, levels: int) -> list[int]:
    """The pyramid's levels 0 … levels − 1 that leave at least 8 pixels a side, never none."""
    side = min(image.shape[-3:-1])
    return [level for level in range(levels) if level == 0 or side >> level >= 8]


def hinged(residual: Residual, degrade: Any) -> Direction:
    """The negative direction, L_neg = relu(r(x̂) − r(x)), per image, gradient through x̂ alone.

    The hinge at the truth's own residual (a discrepancy principle) gives no reward for noise put
    back into x̂; θ is held, or the degradation and the network would collude. Images whose θ is
    not `known` count 0.
    """

    def direction(output, restored, batch):
        batch = batch.replace(physics=jax.lax.stop_gradient(batch.physics))
        floor = jax.lax.stop_gradient(residual(degrade, batch.normal, batch))
        negative = jax.nn.relu(residual(degrade, restored, batch) - floor)
        return {"negative": negative if batch.known is None else batch.known * negative}

    return direction


# --- both directions ---------------------------------------------------------------------------


class Bidirectional(NamedTuple):
    """L_pos + λ·L_neg with a balance that is state, not a parameter.

    init() -> balance state.
    measure(output, batch, state) -> (total, (terms, evidence)): differentiable, the balance held;
        terms are scalars, means over the batch; evidence adds up over micro-batches and devices.
    update(state, evidence) -> (state, logs): once per step.
    """

    init: Callable[[], Any]
    measure: Callable[..., tuple[Array, tuple[Terms, Evidence]]]
    update: Callable[[Any, Evidence], tuple[Any, Terms]]

    def __call__(self, output: Output, batch: Batch, state: Any) -> tuple[Array, Terms, Any]:
        """(output, batch, balance state) -> (total, named terms, new balance state)."""
        total, (terms, evidence) = self.measure(output, batch, state)
        state, logs = self.update(state, evidence)
        return total, terms | logs, state


_POSITIVE, _NEGATIVE, _BALANCE = positive(), whitened(), gradient_ratio()


def bidirectional(
    degrade: Any,
    *,
    positive: Direction = _POSITIVE,
    negative: Residual = _NEGATIVE,
    balance: Balance = _BALANCE,
) -> Bidirectional:
    """The loss that draws x̂ to the truth (positive) and, degraded again, to the observation.

    degrade: the forward model, with `mean` and `variance`. positive: a direction, by default
    `positive()`. negative: a residual r(z), by default `whitened()`. balance: weighs the two,
    by default `gradient_ratio()`. The weights of a step come from the steps before it, so the
    loss is a plain mean over the batch: micro-batches and devices add up exactly. It is there to be
    differentiated once, in reverse: with both directions, the slopes are found with the value.
    """
    backward = hinged(negative, degrade)

    def scores(direction, output, restored, batch):
        terms = {name: value.mean() for name, value in direction(output, restored, batch).items()}
        return sum(terms.values()), terms

    def measure(output, batch, state):
        _same_shape(output.restored, batch.normal)
        _same_shape(batch.low, batch.normal)
        weights = balance.weights(state)
        if balance.one_sided:
            ahead, terms = scores(positive, output, output.restored, batch)
            evidence = balances.no_evidence(ahead)
            return weights.positive * ahead, (terms | {"positive": ahead}, evidence)
        # Each direction is differentiated once, for the network and for the balance.
        held = jax.lax.stop_gradient(output)
        (ahead, terms), (to_stages, to_image) = jax.value_and_grad(
            scores, argnums=(1, 2), has_aux=True
        )(positive, held, held.restored, batch)
        (back, more), away = jax.value_and_grad(scores, argnums=2, has_aux=True)(
            backward, held, held.restored, batch
        )
        evidence = balances.evidence(ahead, back, to_image, away)
        total = weights.positive * ahead + weights.negative * back
        slopes = (
            jax.tree.map(lambda slope: weights.positive * slope, to_stages),
            weights.positive * to_image + weights.negative * away,
        )
        total = balances.with_slopes(total, (output, output.restored), slopes)
        return total, (terms | more | {"positive": ahead}, evidence)

    return Bidirectional(init=balance.init, measure=measure, update=balance.update)
