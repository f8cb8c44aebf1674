"""Terms and a distance of your own: edges, multi-scale SSIM, and a distance between frequencies.

python -m colab.lab.terms --config.train.steps=200
"""

import sys

import jax.numpy as jnp

from pdn_jax import image, losses, metrics
from pdn_jax.cli import explained


def frequencies(prediction, target):
    """|F(a − b)| of the orthonormal Fourier transform: an error counts by its frequencies, not
    its places. Of two of one energy that of fewer frequencies costs less: a cast less than noise."""
    losses.check_same_shape(prediction, target)
    change = jnp.fft.rfft2(prediction - target, axes=(-3, -2), norm="ortho")
    return jnp.sqrt(change.real**2 + change.imag**2 + 1e-6) - 1e-3  # |·| has no slope at 0


def edges(output, restored, batch):
    """ρ of the differences of neighbours, in both directions, against those of the truth."""
    rho = losses.charbonnier()
    both = [
        rho(jnp.diff(restored, axis=axis), jnp.diff(batch.normal, axis=axis)) for axis in (-3, -2)
    ]
    return {"edges": sum(losses.per_image(each) for each in both)}


def multi_scale_ssim(output, restored, batch, weights=(0.2, 0.3, 0.5)):
    """1 − Σ_l w_l·SSIM at 1, 1/2 and 1/4 of the size: a sum where Wang et al. 2003 have a product,
    whose slope is infinite where a factor is 0. A scale with less than 11 pixels is left out."""
    total = 0.0
    for level, weight in enumerate(weights):
        small = [image.pool(each, 2**level) for each in (restored, batch.normal)]
        if min(small[0].shape[-3:-1]) >= len(metrics.WINDOW):
            total += weight * (1.0 - metrics.ssim(*small))
    return {"multi_scale_ssim": total}


def main(argv):
    """Train with all three, in place of the usual distance and SSIM."""
    from train import config, loop

    extra = "(('colab.lab.terms:edges',0.1),('colab.lab.terms:multi_scale_ssim',0.5))"
    own = ["--config.run_dir=runs/terms", f"--config.loss.extra={extra}"]
    own += ["--config.loss.distance=colab.lab.terms:frequencies", "--config.loss.structure=0.0"]
    loop.train(config.parse(["--config", "configs/base.py", *own, *argv]))


if __name__ == "__main__":
    sys.exit(explained(lambda: main(sys.argv[1:])))
