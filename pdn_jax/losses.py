"""The bidirectional constraint loss, composed of functions of arrays.

A distance is elementwise and never reduces over the batch by itself. A direction turns
(output, batch) into named terms per image; `combine` joins directions, so that a new term is one
function. `bidirectional` joins the two directions with a balance. The forward degradation model
arrives as an argument; so do the stages of whatever network made the output (`enhanced`,
`denoised`, `restored`), and nothing here imports either.

    loss = bidirectional(degrade, negative=whitened(charbonnier()), balance=gradient_ratio())
    total, terms, state = loss(output, batch, loss.init())

Images are sRGB, NHWC (see `types`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from pdn_jax import balance as balances
from pdn_jax.balance import Balance, GradientStatistics
from pdn_jax.balance import fixed as fixed
from pdn_jax.balance import gradient_ratio as gradient_ratio
from pdn_jax.balance import positive_only as positive_only
from pdn_jax.balance import uncertainty as uncertainty
from pdn_jax.distances import charbonnier as charbonnier
from pdn_jax.distances import check_same_shape
from pdn_jax.distances import gaussian_nll as gaussian_nll
from pdn_jax.distances import l1 as l1
from pdn_jax.distances import per_image as per_image
from pdn_jax.distances import ssim_loss as ssim_loss
from pdn_jax.explanation import Explanation as Explanation
from pdn_jax.explanation import explain as explain
from pdn_jax.negative_direction import EPSILON as EPSILON
from pdn_jax.negative_direction import Residual
from pdn_jax.negative_direction import block_variance as block_variance
from pdn_jax.negative_direction import expected as expected
from pdn_jax.negative_direction import hinged as hinged
from pdn_jax.negative_direction import likelihood as likelihood
from pdn_jax.negative_direction import pyramid_levels as pyramid_levels
from pdn_jax.negative_direction import whitened as whitened
from pdn_jax.positive_direction import Direction, Output
from pdn_jax.positive_direction import combine as combine
from pdn_jax.positive_direction import gain_blind as gain_blind
from pdn_jax.positive_direction import noise_error as noise_error
from pdn_jax.positive_direction import positive as positive
from pdn_jax.positive_direction import restored_term as restored_term
from pdn_jax.positive_direction import stage_targets as stage_targets
from pdn_jax.positive_direction import where_true as where_true
from pdn_jax.types import Batch

Terms = dict[str, Array]
"""Name -> value of a term."""


class Bidirectional(NamedTuple):
    """L_pos + λ·L_neg with a balance that is state, not a parameter.

    init() -> balance state.
    measure(output, batch, state) -> (total, (terms, statistics)): differentiable, the balance
        held; terms are scalars, means over the batch; the gradient statistics add up over
        micro-batches and devices.
    update(state, statistics) -> (state, logs): once per step.
    terms(output, restored, batch) -> every term of both directions, per image.
    """

    init: Callable[[], Any]
    measure: Callable[..., tuple[Array, tuple[Terms, GradientStatistics]]]
    update: Callable[[Any, GradientStatistics], tuple[Any, Terms]]
    terms: Direction

    def __call__(self, output: Output, batch: Batch, state: Any) -> tuple[Array, Terms, Any]:
        """One whole step of the loss: measured, and the balance moved on.

        Args:
            output: what the network made of `batch.low`.
            batch: what it is scored against.
            state: of the balance.

        Returns:
            (total, named terms with the balance's logs, new state of the balance).
        """
        total, (terms, statistics) = self.measure(output, batch, state)
        state, logs = self.update(state, statistics)
        return total, terms | logs, state


_POSITIVE, _NEGATIVE, _BALANCE = positive(), whitened(), gradient_ratio()


def bidirectional(
    degrade: Any,
    *,
    positive: Direction = _POSITIVE,
    negative: Residual = _NEGATIVE,
    balance: Balance = _BALANCE,
    floor: Residual | None = None,
) -> Bidirectional:
    """The loss that draws x̂ to the truth (positive) and, degraded anew, to the observation.

    The weights of a step come from the steps before it, so the loss is a plain mean over the
    batch: micro-batches and devices add up exactly. It is there to be differentiated once, in
    reverse: with both directions, the gradients are computed along with the value.

    Args:
        degrade: the forward model, with `mean` and `variance`.
        positive: a direction; its terms are summed.
        negative: a residual r(z), to be `hinged`.
        balance: weighs the two.
        floor: of the hinge, where truths are missing or wrong; None for what the truth leaves.

    Returns:
        The loss.
    """
    backward = hinged(negative, degrade, floor)

    def scores(direction, output, restored, batch):
        terms = {name: value.mean() for name, value in direction(output, restored, batch).items()}
        return sum(terms.values()), terms

    def measure(output, batch, state):
        check_same_shape(output.restored, batch.normal)
        check_same_shape(batch.low, batch.normal)
        weights = balance.weights(state)
        if balance.one_sided:
            loss, terms = scores(positive, output, output.restored, batch)
            statistics = balances.positive_statistics(loss)
            return weights.positive * loss, (terms | {"positive": loss}, statistics)
        # Each direction is differentiated once, for the network and for the balance.
        held = jax.lax.stop_gradient(output)
        (positive_loss, terms), (stages_slope, positive_slope) = jax.value_and_grad(
            scores, argnums=(1, 2), has_aux=True
        )(positive, held, held.restored, batch)
        (negative_loss, more), negative_slope = jax.value_and_grad(scores, argnums=2, has_aux=True)(
            backward, held, held.restored, batch
        )
        statistics = balances.gradient_statistics(
            positive_loss, negative_loss, positive_slope, negative_slope
        )
        total = weights.positive * positive_loss + weights.negative * negative_loss
        slopes = (
            jax.tree.map(lambda slope: weights.positive * slope, stages_slope),
            weights.positive * positive_slope + weights.negative * negative_slope,
        )
        total = balances.with_slopes(total, (output, output.restored), slopes)
        return total, (terms | more | {"positive": positive_loss}, statistics)

    return Bidirectional(balance.init, measure, balance.update, combine(positive, backward))
