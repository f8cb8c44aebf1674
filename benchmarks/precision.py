"""What bfloat16 costs: the same short training in both precisions, judged by the dev photographs.

    python -m benchmarks.precision --variant tiny --steps 300

Both take the same steps on the same batches from the same weights; only `config.model.dtype`
differs. The difference is that of the dev PSNR, photograph by photograph, with its 95 % interval.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.count import positive_integer
from configs import base
from pdn_jax import weights as weight_files
from pdn_jax.cli import Parser, explained
from pdn_jax.model import VARIANTS
from train import build, evaluate, loop, sources


def trained(dtype: str, options, run_dir: Path) -> evaluate.Scores:
    """The dev scores of a training in that precision."""
    config = base.get_config()
    config.run_dir = str(run_dir)
    config.model.variant, config.model.dtype = options.variant, dtype
    config.data.crop_size, config.train.batch_size = options.crop, options.batch
    config.train.steps = config.eval.every = config.checkpoint.every = options.steps
    config.log.images, config.eval.most = False, 0
    weights = weight_files.load(loop.train(config))
    splits, _ = sources.mixture(config)
    pairs = sources.pairs(config, sources.judged(config, splits), build.camera(config))
    return evaluate.score(evaluate.model_method(weights), pairs)


def table(found: dict[str, evaluate.Scores]) -> Table:
    """A row for each precision, and their difference."""
    shown = Table("precision", "dev photographs")
    for name in ("PSNR", "SSIM"):
        shown.add_column(name, justify="right")
    for dtype, scores in found.items():
        cells = f"{scores.mean('psnr'):.3f}", f"{scores.mean('ssim'):.4f}"
        shown.add_row(dtype, str(len(scores.names)), *cells)
    full, half = found.values()
    gain = evaluate.Scores(full.names, half.values - full.values, full.scenes)
    cells = [
        f"{gain.mean(column):+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
        for column, digits in (("psnr", 3), ("ssim", 4))
        for low, high in [gain.interval(column)]
    ]
    shown.add_row("difference", "", *cells)
    return shown


def run(argv: list[str]) -> None:
    """The command line."""
    parser = Parser(prog="python -m benchmarks.precision", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default="tiny", help="(default tiny)")
    parser.add_argument("--steps", type=positive_integer, default=300, help="(default 300)")
    parser.add_argument("--batch", type=positive_integer, default=8, help="crops (default 8)")
    parser.add_argument("--crop", type=positive_integer, default=64, help="pixels (default 64)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="precision-") as folder:
        found = {name: trained(name, options, Path(folder) / name) for name in build.DTYPES}
    Console().print(table(found))


if __name__ == "__main__":
    sys.exit(explained(lambda: run(sys.argv[1:])))
