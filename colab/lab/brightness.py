"""A term that is blind to how bright the result is: its structure learns without chasing a mean that
the dark photograph may not tell. Beside the usual loss:

python -m train.main --config configs/base.py "--config.loss.extra=('colab.lab.brightness:gain_blind',1.0)"
"""

import jax.numpy as jnp

from pdn_jax import image, losses


def gain_blind(output, restored, batch):
    """ρ(g·x̂, x) with the one gain g = mean x / mean x̂ of each image: 0 for a result that is the
    truth times any factor."""
    ours, wanted = (each.mean((-3, -2, -1)) for each in (restored, batch.normal))
    gain = wanted / jnp.maximum(ours, 1e-2)
    scaled = image.broadcast(gain, restored) * restored
    return {"gain_blind": losses.per_image(losses.charbonnier()(scaled, batch.normal))}
