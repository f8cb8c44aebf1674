"""Functions of a user's own, unregistered, in `chain` and `bidirectional`: jit, vmap and grad."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_losses import make

from pdn_jax import balance, degradation, losses
from pdn_jax.image import broadcast
from pdn_jax.types import Batch, Physics

# --- what a user would write -------------------------------------------------------------------


def haze(light, physics):
    """The darker, the hazier: it reads θ."""
    clear = broadcast(0.6 + 0.4 * physics.exposure, light)
    return clear * light + (1.0 - clear) * 0.3


def speckle(key, light, physics):
    return light * (1.0 + 0.05 * jax.random.normal(key, light.shape))


HAZE = degradation.step(haze)
SPECKLE = degradation.step(
    lambda light, physics: light,
    sample=speckle,
    variance=lambda light, physics: (0.05 * light) ** 2,
)
DEGRADE = degradation.chain(
    degradation.linearize(), HAZE, degradation.expose(), SPECKLE, degradation.render()
)


def cubes(prediction, target):
    return jnp.abs(prediction - target) ** 3


def edges(output, restored, batch):
    across = [jnp.diff(image, axis=2) for image in (restored, batch.normal)]
    return {"edges": losses.per_image(jnp.abs(across[0] - across[1]))}


def squares(degrade, image, batch):
    gap = degrade.mean(image, batch.physics) - batch.low
    return losses.per_image(gap**2 / (degrade.variance(image, batch.physics) + 1e-3))


def update(state, statistics):
    """λ goes up while the two agree, down while they do not."""
    grown = state * jnp.exp(0.1 * jnp.sign(statistics.product))
    return grown, {"balance/weight": grown}


AGREEMENT = balance.Balance(
    init=lambda: jnp.asarray(0.5),
    weights=lambda state: balance.Weights(jnp.ones(()), state),
    update=update,
)

PLAIN = losses.positive(structure=0.0, stages=0.0)

OWN = {
    "distance": {"positive": losses.positive(cubes, structure=0.0, stages=0.0)},
    "term": {"positive": losses.combine(PLAIN, edges)},
    "negative": {"negative": squares},
    "balance": {"balance": AGREEMENT},
}


def network(params, low):
    """The smallest: gain and offset of each channel."""
    return make(params["gain"] * low + params["offset"])


def init(key):
    gain, offset = jax.random.split(key)
    return {
        "gain": 4.0 + jax.random.normal(gain, (1, 1, 1, 3)),
        "offset": 0.1 * jax.random.normal(offset, (1, 1, 1, 3)),
    }


@pytest.fixture(scope="module")
def batch():
    """Two images, each with its own physics."""
    normal = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=0.1, maxval=0.9)
    physics = Physics(exposure=jnp.asarray([0.05, 0.2]))
    keys = jax.random.split(jax.random.key(1), 2)
    low = jax.vmap(DEGRADE.sample)(keys, normal, physics)
    return Batch(low=low, normal=normal, physics=physics)


# --- steps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["mean", "variance", "slope"])
def test_a_step_is_the_same_compiled_and_image_by_image(batch, reading):
    read = getattr(DEGRADE, reading)
    whole = jax.jit(read)(batch.normal, batch.physics)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(read))(batch.normal, batch.physics), whole, rtol=1e-5
    )
    alone = read(batch.normal[1], jax.tree.map(lambda x: x[1], batch.physics))
    np.testing.assert_allclose(alone, whole[1], rtol=1e-5)
    assert not np.allclose(
        whole[1], read(batch.normal[1], jax.tree.map(lambda x: x[0], batch.physics))
    )


@pytest.mark.parametrize("reading", ["mean", "sample"])
def test_the_physics_of_a_step_has_a_gradient(batch, reading):
    """∂/∂κ through a user's step that reads it, against differences."""
    read = functools.partial(DEGRADE.sample, jax.random.key(2))
    read = read if reading == "sample" else DEGRADE.mean

    def total(exposure):
        return read(batch.normal, batch.physics.replace(exposure=exposure)).sum()

    slope = jax.jit(jax.grad(total))(batch.physics.exposure)
    for index in range(2):
        move = 2e-3 * jax.nn.one_hot(index, 2) * batch.physics.exposure
        rise = total(batch.physics.exposure + move) - total(batch.physics.exposure - move)
        np.testing.assert_allclose(slope[index], rise / (2 * move[index]), rtol=0.02)


def test_physics_is_fitted_by_descent_through_ones_own_step(batch):
    """κ of each image from its truth, by the gradient of a residual of one's own."""

    def mismatch(log_exposure):
        guess = batch.physics.replace(exposure=jnp.exp(log_exposure))
        return losses.whitened(losses.l1(), levels=1)(
            DEGRADE, batch.normal, batch.replace(physics=guess)
        ).sum()

    log_exposure = jnp.log(jnp.asarray([0.1, 0.1]))
    descend = jax.jit(lambda x, rate: x - rate * jnp.sign(jax.grad(mismatch)(x)))
    for step in range(80):
        log_exposure = descend(log_exposure, 0.05 * 0.95**step)
    np.testing.assert_allclose(jnp.exp(log_exposure), batch.physics.exposure, rtol=0.05)


# --- losses ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_what_is_ones_own_trains(batch, own):
    """Compiled, with its gradient, its state moved on: the loss falls."""
    loss = losses.bidirectional(DEGRADE, **{"positive": PLAIN} | own)

    @jax.jit
    def step(params, state):
        def total(params):
            total, terms, moved = loss(network(params, batch.low), batch, state)
            return total, (terms, moved)

        (_, (terms, moved)), slopes = jax.value_and_grad(total, has_aux=True)(params)
        return (
            jax.tree.map(lambda p, slope: p - 0.02 * jnp.sign(slope), params, slopes),
            moved,
            terms,
        )

    params, state, history = init(jax.random.key(3)), loss.init(), []
    for _ in range(10):
        params, state, terms = step(params, state)
        history.append(float(terms["positive"] + terms["negative"]))
    assert np.isfinite(history).all()
    assert history[-1] < history[0]


@pytest.mark.slow
@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_an_ensemble_over_seeds_is_one_vmap(batch, own):
    """Totals, gradients and balance states of three networks at once, as of each by itself."""
    loss = losses.bidirectional(DEGRADE, **{"positive": PLAIN} | own)

    def total(params, state):
        total, _, moved = loss(network(params, batch.low), batch, state)
        return total, moved

    one = jax.value_and_grad(total, has_aux=True)
    members = jax.vmap(init)(jax.random.split(jax.random.key(4), 3))
    states = jax.tree.map(lambda x: jnp.stack([x] * 3), loss.init())
    together = jax.jit(jax.vmap(one))(members, states)
    alone = jax.jit(one)(*jax.tree.map(lambda x: x[1], (members, states)))
    for whole, part in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(whole[1], part, rtol=2e-4, atol=1e-6)
    assert len(np.unique(together[0][0])) == 3
