"""Weights for a network with or without the head of `pdn_jax.evidence`, whichever they have themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pdn_jax import weights as weight_files
from pdn_jax.model import ProgressiveDualNetwork

HEAD = "params/enhancement/target/"


@functools.cache
def is_there(weights: str) -> bool:
    """Whether weights have a head; they are read once, whatever becomes of their file."""
    return bool(weight_files.load(weights).model.get("evidence", False))


def fitted_to(weights: weight_files.Weights, evidence: bool) -> weight_files.Weights:
    """The same network, float32, with a head or without.

    One that comes to it wants all of the enhancement, so that nothing changes yet. One that is left
    out leaves what the network gives at an amount of 1, where the denoising module was not trained
    to look at the amount itself.
    """
    had = bool(weights.model.get("evidence", False))
    params = weight_files.single(weights.params)
    if had == evidence:
        return weights._replace(params=params)
    model = weights.model | {"evidence": evidence}
    low = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    wanted = jax.eval_shape(ProgressiveDualNetwork(**model).init, jax.random.key(0), low)
    given, filled, width = weight_files.flatten(params), {}, weights.model["width"]
    for name, leaf in weight_files.flatten(wanted).items():
        array = np.zeros(leaf.shape, np.float32) if name.startswith(HEAD) else given[name]
        if array.shape != leaf.shape:  # what sees the context: the amount is its last channel
            array = np.insert(array, width, 0.0, 0) if evidence else np.delete(array, width, 0)
        filled[name] = array
    return weights._replace(model=model, params=weight_files.unflatten(filled))
