"""Ten pairs of one camera: fine-tune bundled weights to it.

    python -m colab.lab.ten_pairs my_pairs/ runs/mine --config.train.steps=500

`my_pairs/` has low/ and high/ with the same names. θ is fitted to every pair, clean photographs are
darkened like them, and half of the crops are of the pairs themselves, positive and negative direction.
"""

import sys
from pathlib import Path

from pdn_jax.cli import explained


def main(folder, run_dir, *more):
    """Prepare the pairs, calibrate their camera, train on; returns the run folder."""
    from train import config, loop
    from train.tools import calibrate_camera, prepare

    name = Path(folder).resolve().name.lower()
    camera = Path(run_dir).with_name(f"{Path(run_dir).name}-camera.json")
    prepare.run(["paired", "--source", str(folder), "--name", name])
    if not camera.exists():
        calibrate_camera.run(["--data", name, "--out", str(camera)])
    own = {
        "run_dir": run_dir,
        "model.weights": "small",
        "data.mixture": ((name, 0.5), ("packaged", 0.5)),
        "data.physics": camera,
        "data.wide": 0.2,  # a part of the clean ones as any camera would, lest others be forgotten
        "augment.probability": 0.5,
        "augment.scaled": 0.5,
        "train.steps": 500,
        "train.learning_rate": 2e-4,
        "eval.data": (name,),
    }
    own = [f"--config.{key}={value}" for key, value in own.items()]
    return loop.train(config.parse(["--config", "configs/base.py", *own, *more]))


if __name__ == "__main__":
    sys.exit(explained(lambda: print(main(*sys.argv[1:]))))
