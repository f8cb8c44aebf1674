"""Physics of your own: haze in front of the darkness, and a camera that was not held still.

    python -m colab.lab.steps --config.train.steps=200

Both act in linear light before the exposure, where `data.scene` puts them. In Python they go into
any chain: `chain(linearize(), haze(), motion_blur(), expose(), …)`.
"""

import sys

import jax
import jax.numpy as jnp

from pdn_jax import degradation
from pdn_jax.cli import explained


def haze(density=0.8, air=0.5):
    """e·t + air·(1 − t), t = exp(−density·depth): far above, near below. Koschmieder's law."""

    def mean(light, physics):
        depth = jnp.linspace(1.0, 0.0, light.shape[-3])[:, None, None]
        through = jnp.exp(-density * jnp.broadcast_to(depth, light.shape))
        return through * light + (1.0 - through) * air

    return degradation.step(mean)


def motion_blur(length=5):
    """The mean of `length` places along a row, mirrored at the edges. Before the noise: what is
    blurred after it would have neighbours that correlate, which a variance per pixel cannot say."""

    def mean(light, physics):
        margins = [(0, 0)] * (light.ndim - 2) + [(length // 2, (length - 1) // 2), (0, 0)]
        wide, width = jnp.pad(light, margins, mode="symmetric"), light.shape[-2]
        shifted = [wide[..., start : start + width, :] for start in range(length)]
        return jax.tree.reduce(jnp.add, shifted) / length

    return degradation.step(mean)


MIST, SHAKE = haze(), motion_blur()


def main(argv):
    """Train with both."""
    from train import config, loop

    scene = "('colab.lab.steps:MIST','colab.lab.steps:SHAKE')"
    own = ["--config.run_dir=runs/steps", f"--config.data.scene={scene}"]
    own += [f"--config.eval.scene={scene}"]  # the same to be judged by
    loop.train(config.parse(["--config", "configs/base.py", *own, *argv]))


if __name__ == "__main__":
    sys.exit(explained(lambda: main(sys.argv[1:])))
