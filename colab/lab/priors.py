"""What can be asked of a result without a truth, and θ from priors; `no_truth` trains with it.

A result is to look, degraded anew, as much like the photograph as a second one of it would (negative
direction), to be well exposed in every part, and grey in the mean. θ is not made from the result:
that would explain any.
"""

import jax
import jax.numpy as jnp

from pdn_jax import degradation, image, losses
from pdn_jax.types import Physics

CAMERA, RESIDUAL, LIGHT, GREY = degradation.camera(), losses.whitened(), 0.15, 0.45


def physics_of(low, noise):
    """θ of a scene that is grey in the mean and LIGHT bright, in linear light."""
    mean = image.linearize(low).mean(axis=(1, 2)) + 1e-5
    gains = mean / jnp.exp(jnp.log(mean).mean(axis=-1, keepdims=True))
    exposure = jnp.clip((mean / gains).mean(axis=-1) / LIGHT, 1e-3, 1.0)
    return Physics(exposure=exposure, gains=gains, shot_noise=noise.shot, read_noise=noise.read)


def cost(restored, key, batch):
    """The mean over the batch of everything that is asked."""
    keys = jax.random.split(key, len(restored))
    second = batch.replace(low=jax.vmap(CAMERA.sample)(keys, restored, batch.physics))
    floor = jax.lax.stop_gradient(RESIDUAL(CAMERA, restored, second))
    negative = jax.nn.relu(RESIDUAL(CAMERA, restored, batch) - floor)
    parts = image.pool(image.pad_to_multiple(restored, 16), 16)
    exposure, colours = (image.luminance(parts) - GREY) ** 2, restored.mean(axis=(1, 2))
    return 0.1 * negative.mean() + 0.5 * exposure.mean() + 5.0 * colours.var(axis=-1).mean()
