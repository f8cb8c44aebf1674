"""A run becomes weights that come with the package: half the bytes, a card, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from configs import debug
from pdn_jax import cli, files, weights
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from train.tools import export_weights, prepare


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
    config.data.final_size, config.data.final_fraction = 128, 0.5
    (root / "run").mkdir()
    (root / "run/config.json").write_text(json.dumps(config.to_dict()))
    model = ProgressiveDualNetwork(**VARIANTS["tiny"])
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes)
    weights.save(root / "run", weights.Weights("tiny", dict(VARIANTS["tiny"]), params, {}))
    said = {"what": "squares", "source": "us", "licence": "free"}
    about = {"data": {"pairs": said}, "failures": [{"what": "everything"}]}
    (root / "about.json").write_text(json.dumps(about))
    return root


def run(root, out, **changes):
    options = {"run": root / "run", "config": "configs/debug.py", "about": root / "about.json"}
    options |= {"data": "pairs/dev", "data-dir": root / "built", "name": "tiny", "out": out}
    argv = [part for k, v in (options | changes).items() for part in (f"--{k}", *str(v).split())]
    return cli.explained(lambda: export_weights.run(argv))


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_command_on_the_card_trains_what_was_trained(root, tmp_path):
    import shlex

    from train.config import parse

    assert run(root, tmp_path) == 0
    (training,) = json.loads((tmp_path / "tiny/card.json").read_text())["training"]
    argv = shlex.split(training["command"])
    assert argv[:3] == ["python", "-m", "train.main"]
    config = parse(argv[3:]).to_dict()
    wanted = json.loads((root / "run/config.json").read_text())
    assert config["run_dir"] == "runs/run"
    config["run_dir"] = wanted["run_dir"]
    for section in ("log", "eval", "checkpoint"):  # which change no weights
        config[section] = wanted[section]
    assert json.loads(json.dumps(config)) == wanted


@pytest.mark.slow
def test_a_run_that_started_from_another_names_both(root, tmp_path, capsys):
    config = json.loads((root / "run/config.json").read_text())
    config["model"]["weights"], config["seed"] = str(root / "run"), 7
    second = tmp_path / "second"
    second.mkdir()
    (second / "config.json").write_text(json.dumps(config))
    weights.save(second, weights.load(root / "run"))
    assert run(root, tmp_path / "no", run=second) == 2
    assert "needs one config for each of" in capsys.readouterr().err
    both = "configs/debug.py configs/debug.py"
    assert run(root, tmp_path / "out", run=second, config=both) == 0
    first, then = json.loads((tmp_path / "out/tiny/card.json").read_text())["training"]
    assert (first["seed"], then["seed"]) == (0, 7)
    assert "--config.run_dir=runs/run" in first["command"]
    assert "--config.model.weights=runs/run " in then["command"]
    assert "--config.run_dir=runs/second" in then["command"]
    assert str(root) not in json.dumps([first, then])


def test_a_run_that_started_from_bundled_weights_goes_on_with_their_card(
    root, tmp_path, monkeypatch
):
    options = json.loads((root / "run/config.json").read_text())
    options["model"] |= {"weights": "tiny"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(json.dumps(options))
    monkeypatch.setattr(export_weights, "scores_of", lambda *_: {})
    argv = ["--run", tmp_path / "run", "--config", "configs/debug.py", "--data", "pairs/dev"]
    argv += ["--about", root / "about.json", "--data-dir", root / "built", "--name", "tiny"]
    asked = export_weights.options_of([str(each) for each in argv])
    card, before = export_weights.card_of(asked, weights.load(root / "run")), weights.card("tiny")
    *first, last = card["training"]
    assert first == before["training"]
    assert "--config.model.weights=tiny" in last["command"]
    assert card["data"][:-1] == before["data"]
    assert card["data"][-1]["name"] == "pairs"


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


@pytest.mark.parametrize("text", ['{"data": [], "failures": []}', '{"data": {"pairs": "x"}}'])
def test_what_is_said_has_a_form(root, tmp_path, capsys, text):
    about = tmp_path / "about.json"
    about.write_text(text)
    assert run(root, tmp_path / "out", about=about) == 2
    assert '"data" must be an object of objects' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_refused_before_any_work(root, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(root, tmp_path / "file") == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_card_that_cannot_be_written_leaves_the_old_weights(root, tmp_path, capsys, monkeypatch):
    assert run(root, tmp_path) == 0
    old = (tmp_path / "tiny/weights.safetensors").read_bytes()
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "taken")
    (tmp_path / f"tiny/{files.DRAFT}taken.tmp").mkdir()
    (tmp_path / "tiny/weights.safetensors").write_bytes(old + b"other")
    assert run(root, tmp_path) == 2
    assert "cannot be written to" in capsys.readouterr().err
    assert (tmp_path / "tiny/weights.safetensors").read_bytes() == old + b"other"


def test_the_camera_that_was_calibrated_is_named(root, tmp_path):
    facts = {"data": ["pairs"], "split": "train", "pairs": [{}, {}]}
    (tmp_path / "camera.json").write_text(json.dumps(facts))
    found = export_weights.calibrated_on({"data": {"physics": str(tmp_path / "camera.json")}})
    assert found == {"data": ["pairs"], "split": "train", "pairs": 2}


def test_sets_that_were_named_as_sources_are_on_the_card(root):
    run = {"data": {"mixture": [], "sources": [["paired", "pairs", "source/"]]}}
    (found,) = export_weights.trained_on(run, {"data": {"pairs": {}}}, str(root / "built"))
    assert found == {"name": "pairs", "weight": 1.0, "dark photographs": 2}


def test_a_set_that_nothing_is_said_of_is_refused(root, tmp_path, capsys):
    about = tmp_path / "about.json"
    about.write_text('{"data": {"other": {}}, "failures": []}')
    assert run(root, tmp_path / "out", about=about) == 2
    assert "says nothing of data set 'pairs', only of other" in capsys.readouterr().err
