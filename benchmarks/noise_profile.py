"""What it is worth to know the camera's noise: PSNR with the network's own estimate and with the truth.

    python -m benchmarks.noise_profile --variant small

Photographs are darkened to 4 % of their light with noise of known σs and σr, as a DNG's NoiseProfile
would state them. The denoising module is conditioned on the noise after brightening, once from what
the enhancement module estimates of σs and σr, once from the true ones; all else is the same.
"""

import argparse
import statistics

import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.films import PHOTOGRAPHS, dark, photograph
from pdn_jax import enhancement, layout, metrics
from pdn_jax.cli import Parser
from pdn_jax.enhancer import Enhancer
from pdn_jax.model import VARIANTS

SHOT, READ = 3e-4, 4e-6
"""σs and σr of `films.dark` for noise 1, linear light with white 1."""

NOISES = (0.1, 0.3, 1.0, 3.0)


def conditioned_on(enhancer: Enhancer, low: np.ndarray, shot: float, read: float) -> np.ndarray:
    """The restored photograph, the denoising module conditioned on these σs and σr."""
    estimate = enhancer.global_pass(low)
    small, _ = layout.observe(low, enhancer.texture)
    small = jnp.asarray(small)[None]
    noise = enhancement.amplified_noise(
        small,
        enhancement.remove_black(small, jnp.asarray(estimate.black)),
        jnp.asarray(estimate.increments).sum(axis=1),
        jnp.asarray([shot]),
        jnp.asarray([read]),
    )
    return enhancer.render(low, estimate._replace(noise=np.asarray(noise, np.float32)))


def main(argv: list[str] | None = None) -> None:
    """The command line: a row per strength of noise."""
    parser = Parser(
        prog="python -m benchmarks.noise_profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--variant", choices=VARIANTS, default="small")
    parser.add_argument("--side", type=int, default=256, help="pixels of a photograph")
    options = parser.parse_args(argv)
    enhancer, generator = Enhancer(options.variant), np.random.default_rng(0)
    table = Table("noise σs", "own estimate of σs", "dB, own", "dB, stated", "difference (each)")
    for noise in NOISES:
        own, stated, shots = [], [], []
        for name in PHOTOGRAPHS:
            truth = photograph(name, options.side, options.side)
            low = dark(truth, generator, noise).astype(np.float32)
            results = (enhancer(low), conditioned_on(enhancer, low, SHOT * noise, READ * noise))
            for scores, result in zip((own, stated), results, strict=True):
                # Brightness aside: the choice of it is the same in both.
                scaled = metrics.gt_mean(jnp.asarray(result)[None], jnp.asarray(truth)[None])
                scores.append(float(metrics.psnr(scaled, jnp.asarray(truth)[None])[0]))
            shots.append(float(enhancer.global_pass(low).shot_noise[0]))
        each = " ".join(f"{b - a:+.2f}" for a, b in zip(own, stated, strict=True))
        means = (statistics.fmean(values) for values in (own, stated))
        cells = [f"{SHOT * noise:.1e}", f"{statistics.fmean(shots):.1e}"]
        table.add_row(*cells, *(f"{mean:.2f}" for mean in means), each)
    Console().print(options.variant, table)


if __name__ == "__main__":
    main()
