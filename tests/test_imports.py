"""Functions that a config names by import path: taken into the loss and the physics, or one line."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_survive import NETWORK

from configs import debug
from pdn_jax import cli, degradation
from train import build, imports, loop, main

SOUND = """
import jax.numpy as jnp

from pdn_jax import balance, degradation, losses


def edges(output, restored, batch):
    slopes = [jnp.diff(x, axis=axis) for x in (restored, batch.normal) for axis in (1, 2)]
    return {"edges": sum(losses.per_image((slopes[n] - slopes[n + 2]) ** 2) for n in (0, 1))}


def squares(output, restored, batch, power=2):
    return {"squares": losses.per_image((restored - batch.normal) ** power)}


def nll(degrade, image, batch):
    variance = degrade.variance(image, batch.physics) + 1e-4
    return losses.per_image((degrade.mean(image, batch.physics) - batch.low) ** 2 / variance)


def cubes(prediction, target):
    return jnp.abs(prediction - target) ** 3


def haze(image, physics):
    return 0.9 * image + 0.05


fog = degradation.step(haze)
steady = balance.fixed(0.3)
"""

WRONG = """
import jax
import jax.numpy as jnp
from pdn_jax import balance, degradation
from pdn_jax.balance import Balance, Weights

number = 3


def few(output, restored):
    return {}


def turned(restored, output, batch):
    return {}


def more(output, restored, batch, strength):
    return {}


def keyword(output, restored, batch, *, strength):
    return {}


def nan(output, restored, batch):
    return {"nan": jnp.log(restored - 2.0).mean((1, 2, 3))}


def steep(output, restored, batch):
    return {"steep": jnp.sqrt(jnp.square(jnp.diff(restored, axis=1)).sum(-1)).mean((1, 2))}


def reduced(output, restored, batch):
    return {"reduced": jnp.abs(restored - batch.normal).mean()}


def spread(output, restored, batch):
    return {"spread": jnp.abs(restored - batch.normal).mean((1, 2, 3)) * 0 + restored.mean()}


def bare(output, restored, batch):
    return restored.mean((1, 2, 3))


def fails(output, restored, batch):
    return {"fails": undefined_name}


def concrete(output, restored, batch):
    return {"x": restored.mean((1, 2, 3))} if restored.mean() > 0 else {}


def structure(output, restored, batch):
    return {"structure": restored.mean((1, 2, 3))}


def reduced_residual(degrade, image, batch):
    return jnp.square(degrade.mean(image, batch.physics) - batch.low).mean()


def flat(prediction, target):
    return jnp.abs(prediction - target).mean()


def smaller(image, physics):
    return image[..., ::2, ::2, :]


def together(image, physics):
    return image - image.mean()


growing = Balance(lambda: jnp.zeros(2), lambda s: Weights(s[0], s[1]), lambda s, t: (s[:1], {}))
divided = Balance(
    lambda: jnp.zeros(()),
    lambda s: Weights(jnp.ones(()), s),
    lambda s, t: (t.positive / t.negative_square, {}),
)
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Modules of a person's own, my_lab.sound and my_lab.wrong, where the process starts."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab/sound.py").write_text(SOUND)
    (tmp_path / "my_lab/wrong.py").write_text(WRONG)
    (tmp_path / "my_lab/broken.py").write_text("x = 1\ny = z\n")
    (tmp_path / "my_lab/needs.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_lab"]:
        del sys.modules[name]


def config_of(**changes):
    config = debug.get_config()
    config.data.crop_size = 32
    config.update_from_flattened_dict(changes)
    return config


def measured(config, restored=0.8):
    """(total, terms) of the config's loss for a darkened truth."""
    batch = imports.tiny_batch(32)
    loss = build.loss(config, build.camera(config))
    output = imports.output_of(restored * batch.normal)
    total, terms, _ = jax.jit(loss.__call__)(output, batch, loss.init())
    return float(total), terms


def test_a_term_is_added_with_its_weight(lab):
    short = {"loss.balance": "positive_only", "loss.structure": 0.0, "loss.stages": 0.0}
    several = (("my_lab.sound:edges", 0.2), ("my_lab.sound:squares", 3))
    one = config_of(**short, **{"loss.extra": ("my_lab.sound:edges", 0.1)})
    two = config_of(**short, **{"loss.extra": several})
    plain, _ = measured(config_of(**short))
    total, terms = measured(one)
    more, others = measured(two)
    np.testing.assert_allclose(total - plain, terms["edges"], rtol=1e-3)
    np.testing.assert_allclose(2 * terms["edges"], others["edges"], rtol=1e-5)
    np.testing.assert_allclose(more - plain, others["edges"] + others["squares"], rtol=1e-3)


def test_distance_negative_and_balance_of_ones_own(lab):
    names = {"distance": "cubes", "negative": "nll", "balance": "steady"}
    config = config_of(**{f"loss.{key}": f"my_lab.sound:{name}" for key, name in names.items()})
    total, terms = measured(config)
    batch = imports.tiny_batch(32)
    error = imports.output_of(0.8 * batch.normal).restored - batch.normal
    np.testing.assert_allclose(terms["restored"], jnp.abs(error**3).mean(), rtol=1e-4)
    np.testing.assert_allclose(terms["balance/weight"], 0.3, rtol=1e-6)
    np.testing.assert_allclose(total, terms["positive"] + 0.3 * terms["negative"], rtol=1e-4)


@pytest.mark.parametrize("name", ["haze", "fog"])
def test_a_step_of_ones_own_lies_before_the_exposure(lab, name):
    config = config_of(**{"data.scene": (f"my_lab.sound:{name}",), "eval.scene": ()})
    image, physics = jnp.full((8, 8, 3), 0.5), degradation.neutral_physics(0.1)
    by_hand = degradation.chain(
        degradation.linearize(),
        degradation.step(lambda x, physics: 0.9 * x + 0.05),
        *degradation.camera().parts[1:],
    )
    np.testing.assert_array_equal(
        build.camera(config).mean(image, physics), by_hand.mean(image, physics)
    )
    plain = degradation.camera().mean(image, physics)
    np.testing.assert_array_equal(build.eval_camera(config).mean(image, physics), plain)


CASES = [
    ("loss.extra", ("no_lab.terms:edges", 1.0), "there is no module 'no_lab'; start from"),
    ("loss.extra", ("my_lab.term:edges", 1.0), "there is no module 'my_lab.term'"),
    ("loss.extra", ("my_lab.needs:edges", 1.0), "importing my_lab.needs failed: .*no_such_library"),
    ("loss.extra", ("my_lab.broken:x", 1.0), r"failed: .*broken.py, line 2: NameError: name 'z'"),
    ("loss.extra", ("my_lab.sound:edge", 1.0), "no 'edge'; did you mean my_lab.sound:edges"),
    ("loss.extra", ("my_lab.sound.edges", 1.0), "expected an import path"),
    ("loss.extra", ("my_lab.sound:edges",), r"expected \('my_lab.terms:edges', weight\)"),
    ("loss.extra", ("my_lab.sound:edges", "x"), r"expected \('my_lab.terms:edges', weight\)"),
    ("loss.extra", ("my_lab.wrong:number", 1.0), "number is a int, no function"),
    ("loss.extra", ("my_lab.wrong:few", 1.0), "few has no argument 'batch'"),
    ("loss.extra", ("my_lab.wrong:turned", 1.0), "argument 1 of .* is 'restored'; expected 'outp"),
    ("loss.extra", ("my_lab.wrong:more", 1.0), "argument 'strength' .* is never given"),
    ("loss.extra", ("my_lab.wrong:keyword", 1.0), "argument 'strength' .* is never given"),
    ("loss.extra", ("my_lab.wrong:nan", 1.0), "'nan' of my_lab.wrong:nan is not finite"),
    ("loss.extra", ("my_lab.wrong:steep", 1.0), "the gradient of .* is not finite"),
    ("loss.extra", ("my_lab.wrong:reduced", 1.0), r"shape \(\); expected \(2,\); it must not red"),
    ("loss.extra", ("my_lab.wrong:spread", 1.0), "depends on the other images of the batch"),
    ("loss.extra", ("my_lab.wrong:bare", 1.0), r"gave shape \(2,\); expected \{name: \[n\]\}"),
    ("loss.extra", ("my_lab.wrong:fails", 1.0), "wrong.py, line .*: NameError"),
    ("loss.extra", ("my_lab.wrong:concrete", 1.0), "wrong.py, line .*: TracerBoolConversionErr"),
    ("loss.extra", ("my_lab.wrong:structure", 1.0), "'structure' .* the loss itself; rename it"),
    ("loss.extra", (("my_lab.sound:edges", 1.0),) * 2, "'edges' .* rename it"),
    ("loss.negative", "my_lab.sound:edges", "has shape dict; expected"),
    ("loss.negative", "my_lab.wrong:reduced_residual", r"shape \(\); expected \(2,\)"),
    ("loss.distance", "my_lab.wrong:flat", "must not reduce over the batch"),
    ("loss.distance", "charbonier", "expected one of charbonnier, l1, or an import path"),
    ("loss.balance", "my_lab.sound:haze", r"is a function; expected a pdn_jax.balance.Balance"),
    ("loss.balance", "my_lab.wrong:growing", "both must be one"),
    ("loss.balance", "my_lab.wrong:divided", "weight 'negative' .* is not finite"),
    ("data.scene", ("my_lab.wrong:smaller",), r"mean .* has shape"),
    ("data.scene", ("my_lab.wrong:together",), "mean .* depends on the other images"),
    ("eval.scene", ("my_lab.sound:edges",), "argument 'batch' of .* is never given"),
]


@pytest.mark.parametrize(("key", "value", "said"), CASES)
def test_what_is_wrong_is_said_in_one_line(lab, capsys, key, value, said):
    config = config_of(**{key: value})

    def made():
        build.loss(config, build.camera(config))
        build.eval_camera(config)

    assert cli.explained(made) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pdn_jax: error: {key}"), line
    assert re.search(said, line), line


@pytest.mark.slow
def test_nothing_is_made_before_it_is_refused(lab, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop.mixture, "prepared", lambda *_: pytest.fail("data was prepared"))
    words = ["--config", "configs/debug.py", f"--config.run_dir={tmp_path}/run"]
    code = main.main([*words, "--config.loss.extra=('my_lab.wrong:nan',0.1)"])
    assert code == 2
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_records_it_and_goes_on(lab, tmp_path, capsys):
    changes = {
        "loss.extra": ("my_lab.sound:edges", 0.1),
        "loss.balance": "my_lab.sound:steady",
        "data.scene": ("my_lab.sound:haze",),
        **{"run_dir": str(tmp_path / "run"), "train.steps": 2, "checkpoint.every": 1},
        **{"eval.every": 2, "eval.max_pairs": 1, "log.every": 1, "log.images": False},
        **{"model.change": NETWORK, "parallel.strategy": "single", "parallel.devices": 1},
    }
    folder = loop.train(config_of(**changes))
    kept = json.loads((folder / "config.json").read_text())
    assert kept["loss"]["extra"] == ["my_lab.sound:edges", 0.1]
    assert kept["data"]["scene"] == ["my_lab.sound:haze"]
    assert "edges" in (folder / "metrics.csv").read_text().splitlines()[0]
    (folder / "evaluation.csv").unlink()
    loop.train(config_of(**changes, resume=True))
    assert (folder / "evaluation.csv").exists()
    other = config_of(**changes | {"loss.extra": ("my_lab.sound:edges", 0.2)}, resume=True)
    assert cli.explained(lambda: loop.train(other)) == 2
    assert "loss.extra: ['my_lab.sound:edges', 0.1] there" in capsys.readouterr().err
