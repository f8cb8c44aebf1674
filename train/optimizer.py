"""The optimiser: one optax chain."""

import jax
import optax


def schedule(*, learning_rate: float, warmup: float, final_rate: float, steps: int):
    """Linear warm-up over a part of the steps, then a cosine down to final_rate·learning_rate."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=learning_rate,
        warmup_steps=max(1, round(warmup * steps)),
        decay_steps=max(2, steps),
        end_value=final_rate * learning_rate,
    )


def decayed(params) -> dict:
    """True for what weight decay acts on: kernels, not biases or norms."""
    return jax.tree.map_with_path(lambda path, leaf: path[-1].key == "kernel", params)


def make_optimizer(rate, *, weight_decay: float, clip_norm: float) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW with masked decay under the given schedule."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(rate, b2=0.99, weight_decay=weight_decay, mask=decayed),
    )
