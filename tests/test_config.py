"""Options: read from a command line, refused in one line, compared between two trainings."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_survive import NETWORK, SMALLEST

from configs import base, debug
from pdn_jax.types import InputError
from train import build
from train.config import check_names, differences, flattened, parse, validate
from train.distributed import OWN
from train.main import main
from train.run_dir import FREE
from train.step import init_state

ROOT = Path(__file__).parents[1]


def test_options_by_their_dotted_names():
    assert flattened({"a": 1, "b": {"c": (), "d": {"e": 2}}}) == {"a": 1, "b.c": (), "b.d.e": 2}


def test_what_differs_is_named_and_what_may_is_not():
    there = {"seed": 0, "log": {"every": 1}, "data": {"mixture": [["a", 1]], "cache": 2.0}}
    here = {"seed": 1, "log": {"every": 2}, "data": {"mixture": (("a", 1),), "cache": 1.0}}
    assert differences(there, here, ()) == [
        "data.cache: 2.0 there, 1.0 here",
        "log.every: 1 there, 2 here",
        "seed: 0 there, 1 here",
    ]
    assert differences(there, here, ("log", "data.cache")) == ["seed: 0 there, 1 here"]
    assert differences(here, here | {"more": 3}, ()) == ["more: None there, 3 here"]


def test_a_config_is_what_its_file_says():
    options = debug.get_config().to_dict()
    assert differences(json.loads(json.dumps(options)), options, ()) == []


def test_what_may_differ_is_an_option_or_a_section():
    options = debug.get_config().to_dict()
    assert set(FREE + OWN) <= options.keys() | flattened(options).keys()


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("train.lr", "train.learning_rate"),
        ("train.wd", "train.weight_decay"),
        ("trian.steps", "train.steps"),
        ("steps", "train.steps"),
        ("train.batch", "train.batch_size"),
        ("model.varient", "model.variant"),
        ("run", "run_dir"),
        ("data.cropsize", "data.crop_size"),
    ],
)
def test_what_was_meant_is_said(asked, meant):
    with pytest.raises(
        InputError, match=f"{asked} is not an option; did you mean --config.{meant}"
    ):
        check_names([asked], base.get_config().to_dict())


def test_every_option_is_a_name_and_the_defaults_make_sense():
    options = base.get_config()
    check_names(list(flattened(options.to_dict())), options.to_dict())
    validate(options)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.warmup": 1.0},
        {"train.warmup": 0.0, "train.final_rate": 0.0},
        {"train.warmup": 1.0, "train.final_rate": 1.0, "train.steps": 1},
        {"train.warmup": 0.9, "train.steps": 2},
        {"train.learning_rate": 0.0, "train.weight_decay": 0.0},
    ],
)
def test_the_rate_of_every_step_is_finite(changes):
    config = base.get_config()
    config.update_from_flattened_dict(changes)
    validate(config)
    rates = [float(build.rate(config)(step)) for step in range(min(config.train.steps, 20))]
    assert np.isfinite(rates).all()
    assert max(rates) <= config.train.learning_rate * 1.000001


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {
            **{"loss.ramp": 0.0, "loss.decay": 0.0, "loss.pyramid": 6, "loss.blur": 100.0},
            **{"train.ema_decay": 0.0, "train.remat": 100, "seed": 2**31 - 1},
        },
        {
            **{"loss.ramp": 1.0, "loss.decay": 1.0},
            **{"augment.probability": 1.0, "augment.stops": 0.0, "augment.snr": (0, 0)},
            **{"data.brightness": (254.0, 254.0), "data.snr": (-100.0, -100.0)},
        },
        {
            **{"loss.balance": "uncertainty", "loss.rate": 0.0, "loss.maximum": 1e-3},
            **{"loss.pyramid": 6, "loss.negative": "likelihood"},
            **{"data.grain": 1000.0, "data.veil": 1.0, "data.tone": 1.0, "data.field": 1.0},
        },
        {
            **{"loss.balance": "fixed", "loss.weight": 0.0},
            **dict.fromkeys(["loss.structure", "loss.stages", "loss.levels", "loss.noise"], 0.0),
            **{"train.learning_rate": 0.0, "train.weight_decay": 0.0},
        },
    ],
)
def test_what_is_let_through_can_be_trained(changes):
    """Options at their bounds: nothing further in raises."""
    config = base.get_config()
    config.data.crop_size = 32
    config.model.change = NETWORK
    config.update_from_flattened_dict(changes)
    validate(config)
    model, degrade = build.network(config), build.camera(config)
    loss, optimizer = build.loss(config, degrade), build.optimizer(config)
    make_step = build.step_maker(
        config, model=model, degrade=degrade, loss=loss, optimizer=optimizer
    )
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
    crops = {"normal": image, "low": image, "record": jax.ShapeDtypeStruct((2,), jnp.int32)}
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    state = jax.eval_shape(lambda params: init_state(params, optimizer, loss), params)
    after, logs = jax.eval_shape(make_step(None), state, crops, jnp.arange(2))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert "loss" in logs.scalars


# --- the command line --------------------------------------------------------------------------

BASE = ["--config", str(ROOT / "configs" / "base.py")]
SMALL = ["--config", str(ROOT / "configs" / "debug.py"), *SMALLEST]
"""Where as much as a network is made before it is noticed."""


def test_overrides_work_from_the_command_line():
    config = parse(
        [
            *(*BASE, "--config.train.steps=7", "--config.eval.data=('lol/test',)"),
            "--config.data.mixture=(('lol',0.7),('photos',0.3))",
        ]
    )
    assert config.train.steps == 7
    assert config.eval.data == ("lol/test",)
    assert config.data.mixture == (("lol", 0.7), ("photos", 0.3))


def test_help_says_where_the_options_stand(capsys):
    assert main(["--help"]) == 0
    assert "configs/base.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([*BASE, "--config.train.stepz=7"], "not an option; did you mean --config.train.steps?"),
        ([*BASE, "--config.trian.steps=7"], "not an option; did you mean --config.train.steps?"),
        ([*BASE, "--config.train.lr=1"], "--config.train.lr is not an option; did you mean "),
        ([*BASE, "--config.train.lr=1"], "--config.train.learning_rate?"),
        ([*BASE, "--config.train=1"], "--config.train is a section; set one of its options"),
        (
            [*BASE, "--config.train.steps=many"],
            "--config.train.steps=many: invalid literal for int",
        ),
        ([*BASE, "--config.train.steps=2.5"], "--config.train.steps=2.5: invalid literal for int"),
        ([*BASE, "--config.train.learning_rate=x"], "could not convert string to float: 'x'"),
        ([*BASE, "--config.log.images=maybe"], "--config.log.images=maybe"),
        ([*BASE, "--config.data.snr=(1,2"], "--config.data.snr=(1,2: Error while parsing"),
        ([*BASE, "--config.data.snr=a"], "data.snr is ('a',); expected (worst, best)"),
        ([*BASE, "--config.eval.snr=('a','b')"], "eval.snr is ('a', 'b'); expected (worst, best)"),
        ([*BASE, "--config.eval.snr=(5.0,inf)"], "eval.snr"),
        ([*BASE, "extra"], "'extra' is not an option"),
        ([*BASE, "--steps=3"], "Unknown command line flag 'steps'"),
        (["--config", "nowhere.py"], "nowhere.py"),
        ([], "no config was named"),
        ([*BASE, "--config.model.variant=huge"], "model.variant is 'huge'; expected one of tiny"),
        ([*BASE, "--config.loss.balance=x"], "loss.balance is 'x'; expected one of gradient_ratio"),
        ([*BASE, "--config.data.sources=(('photos','x','nowhere'),)"], "nowhere is not a folder"),
        (
            [*BASE, "--config.data.sources=(('film','x','.'),)"],
            "data.sources has ('film', 'x', '.')",
        ),
        ([*BASE, "--config.data.mixture=(('lol',1.0),)"], "no data set 'lol'"),
        (
            [*BASE, "--config.data.mixture=('lol',)"],
            "data.mixture has 'lol'; expected (name, weight",
        ),
        ([*BASE, "--config.data.mixture=(('packaged',-1.0),)"], "packaged the weight -1.0"),
        ([*BASE, "--config.data.mixture=(('packaged/test',1.0),)"], "packaged has no split 'test'"),
        ([*BASE, "--config.data.sources=(5,)"], "data.sources has 5; expected"),
        ([*BASE, "--config.eval.data=(5,)"], "eval.data has 5; expected"),
        ([*BASE, "--config.eval.data=('packaged/test',)"], "packaged has no split 'test'"),
        ([*SMALL, "--config.data.physics=nowhere.json"], "nowhere.json does not exist"),
        ([*BASE, "--config.data.jpeg=2.0"], "data.jpeg is 2.0; expected a fraction"),
        ([*BASE, "--config.data.jpeg_quality=(0,50)"], "data.jpeg_quality is (0, 50); expected"),
        ([*BASE, "--config.data.jpeg_quality=(40.5,95)"], "data.jpeg_quality is (40.5, 95); expec"),
        ([*BASE, "--config.data.mixture=(('packaged',True),)"], "packaged the weight True"),
        ([*BASE, "--config.log.wandb=dark"], "not installed: pip install wandb"),
        ([*BASE, "--config.data.workers=-1"], "data.workers is -1; expected at least 0"),
        ([*BASE, "--config.train.batch_size=3", "--config.train.accumulate=2"], "batch_size=3"),
        (
            [*BASE, "--config.data.final_size=256", "--config.train.batch_size=8"],
            "train.batch_size=8 makes 2 crop(s) of 256 pixels in the last part (data.final_size), "
            "which do not divide into 4 devices times train.accumulate=1; use train.batch_size=16",
        ),
        ([*SMALL, "--config.run_dir=/proc/no/run"], "/proc/no/run"),
        ([*BASE, "--config.eval.every=0"], "eval.every is 0; expected at least 1"),
        ([*BASE, "--config.data.crop_size=100"], "data.crop_size is 100; expected a multiple of 8"),
        (
            [*BASE, "--config.data.final_size=64"],
            "data.final_size is 64; expected 0, or a multiple",
        ),
        ([*BASE, "--config.data.final_fraction=2.0"], "data.final_fraction is 2.0; expected a"),
        ([*BASE, "--config.augment.probability=-1.0"], "augment.probability is -1.0; exp"),
        ([*BASE, "--config.augment.snr=(9.0,5.0)"], "augment.snr is (9.0, 5.0); expected"),
        (
            [*BASE, "--config.model.change=(('depth',1),)"],
            "model.change has ('depth', 1); expected",
        ),
        ([*BASE, "--config.train.learning_rate=nan"], "learning_rate is nan; expected a finite"),
        ([*BASE, "--config.train.ema_decay=1.0"], "train.ema_decay is 1.0; expected"),
        ([*BASE, "--config.data.snr=(20.0,5.0)"], "data.snr is (20.0, 5.0); expected"),
        ([*BASE, "--config.data.brightness=(0.0,5.0)"], "data.brightness is (0.0, 5.0); expected"),
    ],
)
def test_bad_options_are_one_line_and_code_2(argv, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(argv) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())
