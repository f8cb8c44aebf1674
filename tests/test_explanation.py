"""A loss taken apart: values, gradients, cosines and heat maps of its terms, and the balance drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_losses import make

from pdn_jax import degradation, losses
from pdn_jax.types import Batch

CAMERA = degradation.chain(degradation.linearize(), degradation.expose(), degradation.render())


def brighter(output, restored, batch):
    """Pulls the upper half up: −mean of it."""
    return {"brighter": -restored[:, : restored.shape[1] // 2].mean(axis=(1, 2, 3))}


def darker(output, restored, batch):
    """Pulls everything down, twice as hard where both pull."""
    return {"darker": restored.mean(axis=(1, 2, 3))}


def case():
    normal = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=0.2, maxval=0.8)
    physics = degradation.neutral_physics(jnp.full(2, 0.1))
    batch = Batch(low=jax.jit(CAMERA.mean)(normal, physics), normal=normal, physics=physics)
    return make(0.8 * normal), batch


def test_values_norms_cosines_and_heat_by_hand():
    output, batch = case()
    loss = losses.bidirectional(CAMERA, positive=losses.combine(brighter, darker))
    found = jax.jit(lambda output: losses.explain(loss, output, batch))(output)
    assert set(found.values) == {"brighter", "darker", "negative"}
    np.testing.assert_allclose(found.values["darker"], output.restored.mean(), rtol=1e-5)
    pixels = 16 * 16 * 3
    # means over the batch of means over pixels: 1/(2·pixels) each, 1/pixels on the upper half
    np.testing.assert_allclose(found.norms["darker"], (2 * pixels) ** -0.5, rtol=1e-5)
    np.testing.assert_allclose(found.norms["brighter"], pixels**-0.5, rtol=1e-5)
    np.testing.assert_allclose(found.cosines["brighter"]["darker"], -(0.5**0.5), rtol=1e-5)
    np.testing.assert_allclose(found.cosines["darker"]["darker"], 1.0, rtol=1e-5)
    heat = found.heat["brighter"]
    assert heat.shape == (2, 16, 16)
    np.testing.assert_allclose(heat[:, :8], 3**0.5 / pixels, rtol=1e-5)
    assert not heat[:, 8:].any()
    # too dark a result: both the negative direction and `brighter` want more light
    assert found.cosines["negative"]["brighter"] > 0 > found.cosines["negative"]["darker"]


@pytest.mark.slow
def test_it_is_what_the_loss_itself_measures():
    output, batch = case()
    plain = losses.positive(structure=0.0, stages=0.0)
    loss = losses.bidirectional(CAMERA, positive=plain, balance=losses.fixed(1.0))
    found = jax.jit(lambda output: losses.explain(loss, output, batch))(output)
    _, (terms, _) = jax.jit(loss.measure)(output, batch, loss.init())
    for name, value in found.values.items():
        np.testing.assert_allclose(value, terms[name], rtol=1e-5)
    assert found.norms["levels"] == 0.0  # it looks at what is not the restored image
    assert found.cosines["levels"]["restored"] == 0.0
