"""A balance of your own: the direction in which neither loss rises, by the shortest mean gradient.

    python -m colab.lab.pareto --config.train.steps=200

α = argmin ‖α·g₊ + (1 − α)·g₋‖ = clip(⟨g₋, g₋ − g₊⟩ / ‖g₋ − g₊‖², 0, 1), where g₊ and g₋ are the
gradients with respect to the restored image. A step along that mean lowers both; where it is 0 the
two cannot be better at once (Pareto). Source: Sener and Koltun 2018, arXiv:1810.04650 (MGDA-UB).
"""

import sys

import jax.numpy as jnp

from pdn_jax import balance
from pdn_jax.cli import explained


def shortest_mean(decay=0.9):
    """The state is α's moving average; it starts with the positive direction alone."""

    def weights(alpha):
        return balance.Weights(alpha, 1.0 - alpha)

    def update(alpha, statistics):
        positive, negative = statistics.positive_square, statistics.negative_square
        apart = positive + negative - 2.0 * statistics.product
        best = jnp.clip((negative - statistics.product) / (apart + balance.TINY), 0.0, 1.0)
        best = jnp.where(negative > 0.0, best, 1.0)  # nothing to learn behind a shut hinge
        moved = decay * alpha + (1.0 - decay) * best
        now = balance.Weights(jnp.maximum(alpha, 1e-6), 1.0 - alpha)
        return moved, balance.measures(now, statistics) | {"balance/alpha": alpha}

    return balance.Balance(lambda: jnp.ones(()), weights, update)


PARETO = shortest_mean()


def main(argv):
    """Train with it, and draw how the balance went."""
    from train import config, loop
    from train.tools import curves

    own = ["--config.run_dir=runs/pareto", "--config.loss.balance=colab.lab.pareto:PARETO"]
    folder = loop.train(config.parse(["--config", "configs/base.py", *own, *argv]))
    (folder / "balance.svg").write_bytes(curves.dynamic_balance(folder))


if __name__ == "__main__":
    sys.exit(explained(lambda: main(sys.argv[1:])))
