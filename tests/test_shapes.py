"""Shapes of parameters without tracing: those that Flax makes."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from pdn_jax import shapes, weights
from pdn_jax.errors import InputError
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork

SMALL = {"stages": 2, "width": 8, "widths": (8, 6), "depths": (1, 2), "blocks": (4, 2)}


@pytest.mark.parametrize(
    "model",
    [
        *VARIANTS.values(),
        SMALL | {"evidence": True},
        SMALL | {"widths": (5,), "depths": (0,), "blocks": (8,)},
    ],
)
def test_they_are_what_flax_makes(model):
    low = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    made = jax.eval_shape(ProgressiveDualNetwork(**model).init, jax.random.key(0), low)
    assert shapes.parameters(model) == {
        name: leaf.shape for name, leaf in weights.flatten(made).items()
    }


def test_keyword_arguments_are_the_networks_own():
    fields = {field.name for field in dataclasses.fields(ProgressiveDualNetwork)}
    assert fields - {"parent", "name"} == {*shapes.REQUIRED, *shapes.OPTIONAL}
    with pytest.raises(InputError, match="hats"):
        shapes.parameters(SMALL | {"hats": 3})
    with pytest.raises(InputError, match="width "):
        shapes.parameters({name: value for name, value in SMALL.items() if name != "width"})


def test_check_names_the_first_leaf_that_differs():
    loaded = weights.load("tiny")
    params = loaded.params
    shapes.check(loaded.model, params)
    with pytest.raises(InputError, match="params/denoising/level0/look/bias: shape"):
        shapes.check(loaded.model | {"widths": (24, 12, 16)}, params)
