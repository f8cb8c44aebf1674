"""Balances between the positive and the negative direction of the loss.

A `Balance` is three pure functions around a state that lives in the train state. The weights
of a step are read from the state; the gradient statistics of that step (loss values, norms and
inner product of the gradients with respect to the restored image) then update it. Statistics add
up, so micro-batches and devices give what one large batch gives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax.types import Scalar

TINY = 1e-20
"""Keeps a quotient of norms finite."""


class Weights(NamedTuple):
    """What each direction is multiplied by."""

    positive: Scalar
    negative: Scalar


class GradientStatistics(NamedTuple):
    """Sums over batches: how many, the two losses, and the inner products of the two gradients."""

    count: Scalar
    positive: Scalar
    negative: Scalar
    positive_square: Scalar
    negative_square: Scalar
    product: Scalar


class BalanceState(NamedTuple):
    """steps done; average: the moving average behind λ (or the log-variances of `uncertainty`)."""

    steps: Array
    average: Array


class Balance(NamedTuple):
    """init() -> state; weights(state) -> Weights; update(state, statistics) -> (state, logs).

    one_sided: the negative direction has no weight at all and need not be computed.
    """

    init: Callable[[], Any]
    weights: Callable[[Any], Weights]
    update: Callable[[Any, GradientStatistics], tuple[Any, dict[str, Array]]]
    one_sided: bool = False


def gradient_statistics(
    positive: Scalar, negative: Scalar, positive_slope: Array, negative_slope: Array
) -> GradientStatistics:
    """One batch's statistics; no gradient flows through them.

    Args:
        positive: L_pos, mean over the batch.
        negative: L_neg, likewise.
        positive_slope: ∂L_pos/∂x̂, [n, h, w, c].
        negative_slope: ∂L_neg/∂x̂, of that shape.

    Returns:
        Scalars, with a count of 1.
    """
    parts = (
        jnp.ones(()),
        positive,
        negative,
        (positive_slope**2).sum(),
        (negative_slope**2).sum(),
        (positive_slope * negative_slope).sum(),
    )
    return jax.lax.stop_gradient(GradientStatistics(*parts))


def positive_statistics(positive: Scalar) -> GradientStatistics:
    """One batch's statistics where only the positive direction was computed.

    Args:
        positive: L_pos, mean over the batch.

    Returns:
        Scalars, with a count of 1; all that is not known is 0.
    """
    zero = jnp.zeros(())
    return jax.lax.stop_gradient(GradientStatistics(jnp.ones(()), positive, zero, zero, zero, zero))


@jax.custom_vjp
def with_slopes(value: Array, places: Any, slopes: Any) -> Array:
    """A value whose gradient is known already: ∂value/∂places = slopes.

    Args:
        value: a scalar.
        places: a tree of arrays to differentiate with respect to.
        slopes: a tree like `places`.

    Returns:
        The value.
    """
    return value


def _keep_slopes(value, places, slopes):
    return value, slopes


def _apply_slopes(slopes, cotangent):
    return cotangent, jax.tree.map(lambda slope: cotangent * slope, slopes), None


with_slopes.defvjp(_keep_slopes, _apply_slopes)


def measures(weights: Weights, statistics: GradientStatistics) -> dict[str, Array]:
    """What is logged of the balance.

    Args:
        weights: of the step.
        statistics: of the step, summed over micro-batches and devices.

    Returns:
        λ as balance/weight, λ·‖∂L_neg/∂x̂‖ / ‖∂L_pos/∂x̂‖ as balance/ratio, and the cosine of the two
        gradients as balance/cosine.
    """
    positive, negative = _norms(statistics)
    return {
        "balance/weight": weights.negative / weights.positive,
        "balance/ratio": weights.negative * negative / (weights.positive * positive + TINY),
        "balance/cosine": statistics.product / (positive * negative + TINY),
    }


def gradient_ratio(
    target: float = 0.1, *, ramp_steps: int = 70, decay: float = 0.95, maximum: float = 10.0
) -> Balance:
    """Dynamic balance: λ = clip(EMA[ρ_t·‖∂L_pos/∂x̂‖ / (‖∂L_neg/∂x̂‖ + ε)], 0, maximum).

    The average is bias-corrected by starting at 0 with ρ. Where the hinge is shut everywhere (no
    negative gradient) the average holds.

    Args:
        target: ρ at the end of its ramp: the negative gradient's share of the positive one.
        ramp_steps: over which ρ_t rises from 0; about a tenth of the training.
        decay: of the moving average, per step, in [0, 1).
        maximum: largest λ.

    Returns:
        The balance.
    """

    def init():
        return BalanceState(jnp.zeros((), jnp.int32), jnp.zeros(()))

    def weights(state):
        return Weights(jnp.ones(()), jnp.clip(state.average, 0.0, maximum))

    def update(state, statistics):
        positive, negative = _norms(statistics)
        wanted = target * jnp.minimum(1.0, (state.steps + 1) / max(ramp_steps, 1))
        ratio = jnp.minimum(wanted * positive / (negative + TINY), maximum)
        average = decay * state.average + (1.0 - decay) * ratio
        average = jnp.where(negative > 0.0, average, state.average)
        return BalanceState(state.steps + 1, average), measures(weights(state), statistics)

    return Balance(init, weights, update)


def fixed(weight: float = 0.1) -> Balance:
    """λ fixed; 0.1 is the dual regression's in Guo et al. 2020 (DRN), arXiv:2003.07018.

    Args:
        weight: λ, 0 or more.

    Returns:
        The balance.
    """

    def weights(state):
        return Weights(jnp.ones(()), jnp.full((), weight))

    def update(state, statistics):
        return state._replace(steps=state.steps + 1), measures(weights(state), statistics)

    return Balance(_zero_state, weights, update)


def positive_only() -> Balance:
    """λ = 0: the negative direction is left out, not even computed."""

    def weights(state):
        return Weights(jnp.ones(()), jnp.zeros(()))

    def update(state, statistics):
        return state._replace(steps=state.steps + 1), {}

    return Balance(_zero_state, weights, update, one_sided=True)


def uncertainty(rate: float = 0.01, *, maximum: float = 10.0) -> Balance:
    """Weights e^−s learned with the loss Σ (e^−s_i·L_i + s_i), by gradient steps on s = ln variance.

    ∂/∂s = 1 − e^−s·L, so e^s follows L. Source: Kendall et al. 2018, arXiv:1705.07115.

    Args:
        rate: step size of s.
        maximum: largest weight, since a hinge that is shut would send it to infinity.

    Returns:
        The balance.
    """

    def init():
        return BalanceState(jnp.zeros((), jnp.int32), jnp.zeros((2,)))

    def weights(state):
        return Weights(jnp.exp(-state.average[0]), jnp.exp(-state.average[1]))

    def update(state, statistics):
        now = weights(state)
        losses = jnp.stack([statistics.positive, statistics.negative]) / statistics.count
        slope = 1.0 - jnp.exp(-state.average) * losses
        average = jnp.maximum(state.average - rate * slope, -jnp.log(maximum))
        return BalanceState(state.steps + 1, average), measures(now, statistics)

    return Balance(init, weights, update)


def _norms(statistics: GradientStatistics) -> tuple[Array, Array]:
    """‖∂L_pos/∂x̂‖ and ‖∂L_neg/∂x̂‖."""
    return jnp.sqrt(statistics.positive_square), jnp.sqrt(statistics.negative_square)


def _zero_state() -> BalanceState:
    return BalanceState(jnp.zeros((), jnp.int32), jnp.zeros(()))
