"""Balances between the positive and the negative direction of the loss.

A `Balance` is three pure functions around a state that lives in the train state. The weights
of a step are read from the state; the evidence of that step (loss values and the gradients
with respect to the restored image) then updates it. Evidence adds up, so micro-batches and
devices give what one large batch gives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pdn_jax.types import Scalar

TINY = 1e-20


class Weights(NamedTuple):
    """What each direction is multiplied by."""

    positive: Scalar
    negative: Scalar


class Evidence(NamedTuple):
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
    """init() -> state; weights(state) -> Weights; update(state, evidence) -> (state, logs).

    one_sided: the negative direction has no weight at all and need not be computed.
    """

    init: Callable[[], Any]
    weights: Callable[[Any], Weights]
    update: Callable[[Any, Evidence], tuple[Any, dict[str, Array]]]
    one_sided: bool = False


def evidence(positive: Scalar, negative: Scalar, ahead: Array, back: Array) -> Evidence:
    """One batch's evidence from its two losses and ∂L/∂x̂ of each; no gradient flows through it."""
    parts = (
        jnp.ones(()),
        positive,
        negative,
        (ahead**2).sum(),
        (back**2).sum(),
        (ahead * back).sum(),
    )
    return jax.lax.stop_gradient(Evidence(*parts))


def no_evidence(positive: Scalar) -> Evidence:
    """One batch's evidence where only the positive direction was computed."""
    zero = jnp.zeros(())
    return jax.lax.stop_gradient(Evidence(jnp.ones(()), positive, zero, zero, zero, zero))


@jax.custom_vjp
def with_slopes(value: Array, places: Any, slopes: Any) -> Array:
    """The value, with ∂value/∂places = slopes, a tree like `places`, which somebody knows already."""
    return value


def _keep_slopes(value, places, slopes):
    return value, slopes


def _hand_on_slopes(slopes, cotangent):
    return cotangent, jax.tree.map(lambda slope: cotangent * slope, slopes), None


with_slopes.defvjp(_keep_slopes, _hand_on_slopes)


def measures(weights: Weights, evidence: Evidence) -> dict[str, Array]:
    """What is logged of the balance: λ, the ratio of the weighted gradients, and their cosine."""
    ahead, back = jnp.sqrt(evidence.positive_square), jnp.sqrt(evidence.negative_square)
    return {
        "balance/weight": weights.negative / weights.positive,
        "balance/ratio": weights.negative * back / (weights.positive * ahead + TINY),
        "balance/cosine": evidence.product / (ahead * back + TINY),
    }


def gradient_ratio(
    target: float = 0.1, *, ramp_steps: int = 100, decay: float = 0.95, maximum: float = 10.0
) -> Balance:
    """Dynamic balance: λ = clip(EMA[ρ_t·‖∂L_pos/∂x̂‖ / (‖∂L_neg/∂x̂‖ + ε)], 0, maximum).

    ρ_t ramps from 0 to `target` over `ramp_steps`; the average is bias-corrected by starting
    at 0 with ρ. Where the hinge is shut everywhere (no negative gradient) the average holds.
    """

    def init():
        return BalanceState(jnp.zeros((), jnp.int32), jnp.zeros(()))

    def weights(state):
        return Weights(jnp.ones(()), jnp.clip(state.average, 0.0, maximum))

    def update(state, evidence):
        ahead, back = jnp.sqrt(evidence.positive_square), jnp.sqrt(evidence.negative_square)
        wanted = target * jnp.minimum(1.0, (state.steps + 1) / max(ramp_steps, 1))
        ratio = jnp.minimum(wanted * ahead / (back + TINY), maximum)
        average = decay * state.average + (1.0 - decay) * ratio
        average = jnp.where(back > 0.0, average, state.average)
        return BalanceState(state.steps + 1, average), measures(weights(state), evidence)

    return Balance(init, weights, update)


def fixed(weight: float = 0.1) -> Balance:
    """λ fixed, by default at 0.1, the dual regression's weight in Guo et al. 2020 (DRN), arXiv:2003.07018."""

    def weights(state):
        return Weights(jnp.ones(()), jnp.full((), weight))

    def update(state, evidence):
        return state._replace(steps=state.steps + 1), measures(weights(state), evidence)

    return Balance(_zero_state, weights, update)


def positive_only() -> Balance:
    """λ = 0: the negative direction is left out, not even computed."""

    def weights(state):
        return Weights(jnp.ones(()), jnp.zeros(()))

    def update(state, evidence):
        return state._replace(steps=state.steps + 1), {}

    return Balance(_zero_state, weights, update, one_sided=True)


def uncertainty(rate: float = 0.01, *, maximum: float = 10.0) -> Balance:
    """Weights e^−s learned with the loss Σ (e^−s_i·L_i + s_i), by gradient steps on s = ln variance.

    ∂/∂s = 1 − e^−s·L, so e^s follows L. A weight stays below `maximum`, since a hinge that is
    shut would send it to infinity. Source: Kendall et al. 2018, arXiv:1705.07115.
    """

    def init():
        return BalanceState(jnp.zeros((), jnp.int32), jnp.zeros((2,)))

    def weights(state):
        return Weights(jnp.exp(-state.average[0]), jnp.exp(-state.average[1]))

    def update(state, evidence):
        now = weights(state)
        losses = jnp.stack([evidence.positive, evidence.negative]) / evidence.count
        slope = 1.0 - jnp.exp(-state.average) * losses
        average = jnp.maximum(state.average - rate * slope, -jnp.log(maximum))
        return BalanceState(state.steps + 1, average), measures(now, evidence)

    return Balance(init, weights, update)


def _zero_state() -> BalanceState:
    return BalanceState(jnp.zeros((), jnp.int32), jnp.zeros(()))
