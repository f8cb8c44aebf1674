"""The pure training step, written once, per device, with an axis name for the others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from pdn_jax import image as im
from pdn_jax.losses import Bidirectional
from pdn_jax.types import PerImage, PRNGKey
from train.data.synthesis import Crops, image_keys

EXPOSURE_EDGES = np.linspace(-im.MAX_BRIGHTENING, 0.0, 49)
"""ln κ̂ between the bins that estimated exposures are counted in: all that the network can say."""


@chex.dataclass(frozen=True)
class TrainState:
    """All that a run is, beside its config: restoring it restores the run."""

    step: Array
    params: Any
    average: Any
    optimizer: Any
    balance: Any


class Logs(NamedTuple):
    """What a step says, the same on every device.

    scalars: by name, means over the global batch, the balance's measures, the gradient's norm.
    exposures: how many of the global batch's images have κ̂ in each bin of `EXPOSURE_EDGES`.
    """

    scalars: dict[str, Array]
    exposures: Array


def init_state(params: Any, optimizer: optax.GradientTransformation, loss: Bidirectional):
    """The state before the first step; the averaged weights start as a copy."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        average=jax.tree.map(jnp.copy, params),
        optimizer=optimizer.init(params),
        balance=loss.init(),
    )


def exposure_counts(exposure: PerImage) -> Array:
    """Exposures -> how many are in each bin of `EXPOSURE_EDGES`, int32; the outer bins are open."""
    inner = jnp.asarray(EXPOSURE_EDGES[1:-1], jnp.float32)
    places = jnp.searchsorted(inner, jnp.log(exposure), side="right")
    return jnp.zeros(len(inner) + 1, jnp.int32).at[places].add(1)


def rematerialised(apply: Callable, crops: int) -> Callable:
    """The same network with gradient checkpointing; 0 crops for `apply` itself.

    It keeps nothing for the backward pass but its output: it runs for that many crops at a time, or
    the next fewer that divide the batch, and going backward runs for them once more. A loop, since
    XLA's CPU backend merges what is merely written twice.
    """
    if not crops:
        return apply

    def network(params, low):
        count = len(low)
        size = max(k for k in range(1, min(crops, count) + 1) if count % k == 0)
        recomputed = jax.checkpoint(lambda low: apply(params, low))
        output = jax.lax.map(recomputed, low.reshape(-1, size, *low.shape[1:]))
        return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), output)

    return network


def scoring(apply: Callable, loss: Bidirectional) -> Callable:
    """score(params, balance state, batch) -> (total, (terms, what adds up over batches)).

    What adds up: the balance's gradient statistics and the counts of estimated exposures.
    """

    def score(params, balance, batch):
        output = apply(params, batch.low)
        total, (terms, statistics) = loss.measure(output, batch, balance)
        return total, (terms, (statistics, exposure_counts(output.exposure)))

    return score


def make_train_step(
    key: PRNGKey,
    *,
    apply: Callable,
    loss: Bidirectional,
    optimizer: optax.GradientTransformation,
    synthesise: Callable,
    ema_decay: float,
    accumulate: int = 1,
    axis_name: str | None = None,
) -> Callable:
    """step(state, crops, indices) -> (state, `Logs`), pure, for one device of `axis_name`.

    crops: this device's uint8 crops, a dict of arrays [n, …]; indices: their places in the global
    batch. Every random draw is keyed by (key, step, index). Gradients are means, the balance's
    statistics and the counts of exposures are sums over the global batch, in `accumulate`
    micro-batches (n must divide by it). The averaged weights follow with
    min(ema_decay, (1 + t) / (10 + t)).
    """

    def everywhere(tree, reduce):
        return tree if axis_name is None else reduce(tree, axis_name)

    gradient = jax.value_and_grad(scoring(apply, loss), has_aux=True)

    def step(state: TrainState, crops: Crops, indices: Array):
        def micro(crops, indices):
            batch = synthesise(image_keys(key, state.step, indices), crops)
            (total, (terms, counted)), grads = gradient(state.params, state.balance, batch)
            return grads, terms | {"loss": total}, counted

        if accumulate == 1:
            grads, terms, counted = micro(crops, indices)
        else:
            parts = jax.tree.map(
                lambda x: x.reshape(accumulate, -1, *x.shape[1:]), (crops, indices)
            )
            sums = jax.tree.map(
                lambda shape: jnp.zeros(shape.shape, shape.dtype),
                jax.eval_shape(micro, *jax.tree.map(lambda x: x[0], parts)),
            )
            sums, _ = jax.lax.scan(
                lambda carry, part: (jax.tree.map(jnp.add, carry, micro(*part)), None), sums, parts
            )
            grads, terms, counted = sums
            grads, terms = jax.tree.map(lambda x: x / accumulate, (grads, terms))

        grads, terms = everywhere((grads, terms), jax.lax.pmean)
        statistics, exposures = everywhere(counted, jax.lax.psum)

        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
        average = optax.incremental_update(params, state.average, 1.0 - decay)
        balance, logs = loss.update(state.balance, statistics)
        logs = terms | logs | {"gradient_norm": optax.tree.norm(grads)}
        state = TrainState(
            step=state.step + 1,
            params=params,
            average=average,
            optimizer=optimizer_state,
            balance=balance,
        )
        return state, Logs(logs, exposures)

    return step
