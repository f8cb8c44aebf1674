"""No truth at all: adapt a network to a folder of dark photographs.

    python -m colab.lab.no_truth dark_photos/ adapted.safetensors
    python -m pdn_jax enhance dark_photos/ -o bright/ --weights adapted.safetensors

What is asked stands in `priors`; θ of a photograph holds the noise that the network saw before.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from colab.lab.priors import cost, physics_of
from pdn_jax import cli, model, photo, weights
from pdn_jax.types import Batch, InputError


def cut(random, whole, size):
    """A random square of a photograph, as much of it as there is, mirrored where it is small."""
    top, left = (random.integers(max(side - size, 0) + 1) for side in whole.shape[:2])
    part = whole[top : top + size, left : left + size].astype(np.float32) / 255.0
    return np.pad(part, [*((0, size - side) for side in part.shape[:2]), (0, 0)], "symmetric")


def main(folder, target, start="small", steps=300, size=96, crops=4):
    """Adapt, and write the weights for `enhance`; returns the costs, step by step."""
    if Path(target).exists():
        raise InputError(f"{target} exists; name another file")
    photos, known = [photo.read(path) for path in photo.images_in(folder)], weights.load(start)
    random, optimizer, costs = np.random.default_rng(0), optax.adam(1e-4), []
    apply = model.ProgressiveDualNetwork(**known.model).apply
    first = params = jax.tree.map(jnp.asarray, weights.single(known.params))

    @jax.jit
    def step(params, state, key, low):
        batch = Batch(low=low, normal=low, physics=physics_of(low, apply(first, low).noise))
        asked = jax.value_and_grad(lambda params: cost(apply(params, low).restored, key, batch))
        value, slope = asked(params)
        changes, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, changes), state, value

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(0), steps):
        whole = [photos[place] for place in random.integers(len(photos), size=crops)]
        low = np.stack([cut(random, each, size) for each in whole])
        params, state, value = step(params, state, key, low)
        costs.append(float(value))
    weights.save(target, known._replace(params=jax.tree.map(np.asarray, params)))
    return costs


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: print(main(*sys.argv[1:3])[-1])))
