"""The operation that first gives NaN or infinity, and the line of this project that asked for it."""

import jax.numpy as jnp

from pdn_jax import distances
from pdn_jax import image as im
from train import nan_debug


def test_the_first_operation_is_named_with_the_line_of_ours_that_asked():
    message = nan_debug.first_bad_operation(
        im.match_exposure, jnp.full((8, 8, 3), jnp.nan), jnp.ones((8, 8, 3))
    )
    assert "nan" in message
    assert "at pdn_jax/image.py:" in message
    assert ", in " in message


def test_infinity_counts_and_other_places_are_said_to_be_elsewhere():
    message = nan_debug.first_bad_operation(jnp.log, jnp.zeros(3))
    assert message.startswith("invalid value (inf)")
    assert message.endswith("a place outside this project")


def test_what_is_finite_is_not_named():
    step = distances.charbonnier()
    assert nan_debug.first_bad_operation(step, jnp.ones(3), jnp.zeros(3)) == ""
