"""What each term of a loss does to one restored batch: how much, how hard, where, with or against whom."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pdn_jax.balance import TINY
from pdn_jax.positive_direction import Output
from pdn_jax.types import Batch, Scalar


class Explanation(NamedTuple):
    """Every term by its name, L_i a mean over the batch, before the balance weighs the directions.

    values: L_i, with the weight that it has within its direction.
    norms: ‖∂L_i/∂x̂‖, 0 for a term that looks at stages or levels only.
    cosines: cosines[i][j] between ∂L_i/∂x̂ and ∂L_j/∂x̂: below 0 they pull against each other.
    heat: ‖∂L_i/∂x̂‖ of each pixel over its channels: where a term pulls.
    """

    values: dict[str, Scalar]
    norms: dict[str, Scalar]
    cosines: dict[str, dict[str, Scalar]]
    heat: dict[str, Float[Array, "n h w"]]


def explain(loss: Any, output: Output, batch: Batch) -> Explanation:
    """Take a loss apart on one batch, term by term; jit-able.

    Args:
        loss: of `losses.bidirectional`, or whatever has its `terms`.
        output: what the network made of `batch.low`.
        batch: what it is scored against.

    Returns:
        The explanation; a cosine with a term whose gradient is 0 is 0.
    """

    def scores(restored):
        return {name: term.mean() for name, term in loss.terms(output, restored, batch).items()}

    values, pull_back = jax.vjp(scores, output.restored)
    slopes = {}
    for name in values:
        of_one = {other: jnp.full_like(value, other == name) for other, value in values.items()}
        (slopes[name],) = pull_back(of_one)
    norms = {name: jnp.sqrt((slope**2).sum()) for name, slope in slopes.items()}
    cosines = {
        one: {
            other: (slopes[one] * slopes[other]).sum() / (norms[one] * norms[other] + TINY)
            for other in slopes
        }
        for one in slopes
    }
    heat = {name: jnp.sqrt((slope**2).sum(axis=-1)) for name, slope in slopes.items()}
    return Explanation(values, norms, cosines, heat)
