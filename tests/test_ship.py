"""A run becomes weights that come with the package: half the bytes, a card, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from configs import debug
from pdn_jax import cli, weights
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from train import prepare, ship


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Built pairs, a run folder of the tiny network, and what is said about the data."""
    root, rng = tmp_path_factory.mktemp("ship"), np.random.default_rng(0)
    for index, split in enumerate(("train", "train", "dev", "dev", "dev")):
        bright = rng.integers(60, 250, (40, 48, 3), dtype=np.uint8)
        for part, image in (("low", bright // 10), ("gt", bright)):
            path = root / "source" / split / part / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(image).save(path)
    where = ["--source", str(root / "source"), "--data-dir", str(root / "built")]
    prepare.run(["paired", *where, "--name", "pairs"])

    config = debug.get_config()
    config.run_dir, config.data.mixture, config.train.steps = "runs/x", (("pairs", 0.5),), 30
    config.data.final_size, config.data.final = 128, 0.5
    (root / "run").mkdir()
    (root / "run/config.json").write_text(json.dumps(config.to_dict()))
    model = ProgressiveDualNetwork(**VARIANTS["tiny"])
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    weights.save(root / "run", weights.Weights("tiny", dict(VARIANTS["tiny"]), params, {}))
    said = {"what": "squares", "source": "us", "licence": "free"}
    about = {"data": {"pairs": said}, "failures": [{"what": "everything"}]}
    (root / "about.json").write_text(json.dumps(about))
    return root


def run(root, out, **changes):
    options = {"run": root / "run", "config": "configs/debug.py", "about": root / "about.json"}
    options |= {"data": "pairs/dev", "data-dir": root / "built", "name": "tiny", "out": out}
    argv = [str(part) for k, v in (options | changes).items() for part in (f"--{k}", v)]
    return cli.explained(lambda: ship.run(argv))


def test_a_run_becomes_weights_with_a_card(root, tmp_path, capsys):
    assert run(root, tmp_path) == 0
    stored, trained = weights.load(tmp_path / "tiny"), weights.load(root / "run")
    pairs = zip(jax.tree.leaves(stored.params), jax.tree.leaves(trained.params), strict=True)
    for mine, theirs in pairs:
        assert mine.dtype == np.float16
        np.testing.assert_allclose(mine, theirs, rtol=5e-4, atol=1e-7)
    card = json.loads((tmp_path / "tiny/card.json").read_text())
    assert card["parameters"] == 28804
    (training,) = card["training"]
    assert training["crops"] == 15 * 4 + 15 * 1
    assert (training["steps"], training["seed"]) == (30, 0)
    assert card["data"] == [
        {"name": "pairs", "weight": 0.5, "dark photographs": 2}
        | {"what": "squares", "source": "us", "licence": "free"}
    ]
    assert card["failures"] == [{"what": "everything"}]
    scores = card["scores"]["pairs/dev"]
    assert scores["photographs"] == 3
    assert scores["psnr"]["low"] <= scores["psnr"]["mean"] <= scores["psnr"]["high"]
    assert f"{scores['psnr']['mean']:.3f}" in capsys.readouterr().out


def test_the_command_on_the_card_trains_what_was_trained(root, tmp_path):
    import shlex

    from train.main import parse

    assert run(root, tmp_path) == 0
    (training,) = json.loads((tmp_path / "tiny/card.json").read_text())["training"]
    argv = shlex.split(training["command"])
    assert argv[:3] == ["python", "-m", "train.main"]
    config = parse(argv[3:]).to_dict()
    wanted = json.loads((root / "run/config.json").read_text())
    config["run_dir"] = wanted["run_dir"]
    config["log"]["images"] = wanted["log"]["images"]
    assert json.loads(json.dumps(config)) == wanted


def test_a_run_that_started_from_another_names_both(root, tmp_path):
    config = json.loads((root / "run/config.json").read_text())
    config["model"]["weights"], config["seed"] = str(root / "run"), 7
    second = tmp_path / "second"
    second.mkdir()
    (second / "config.json").write_text(json.dumps(config))
    weights.save(second, weights.load(root / "run"))
    assert run(root, tmp_path / "out", run=second) == 0
    first, then = json.loads((tmp_path / "out/tiny/card.json").read_text())["training"]
    assert (first["seed"], then["seed"]) == (0, 7)
    assert '--config.model.weights="run"' in then["command"]
    assert str(root) not in json.dumps([first, then])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "nowhere"}, "nowhere"),
        ({"name": "small"}, "holds variant 'tiny', expected 'small'"),
        ({"about": "nowhere.json"}, "nowhere.json cannot be read"),
        ({"data": "nothing/dev"}, "no data set 'nothing'"),
    ],
)
def test_bad_options_are_one_line(root, tmp_path, capsys, changes, said):
    assert run(root, tmp_path, **changes) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_set_that_nothing_is_said_of_is_refused(root, tmp_path, capsys):
    about = tmp_path / "about.json"
    about.write_text('{"data": {"other": {}}, "failures": []}')
    assert run(root, tmp_path / "out", about=about) == 2
    assert "says nothing of data set 'pairs', only of other" in capsys.readouterr().err
