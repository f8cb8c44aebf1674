"""`train.tools.calibrate_camera`: what it fits, leaves out and writes; a run that draws from it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from pdn_jax import cli, degradation
from pdn_jax.types import Physics
from train.config import parse
from train.data import calibrated_camera, mixture
from train.tools import calibrate_camera, calibration_report, prepare

CAMERA = degradation.camera()
EXPOSURES = (0.03, 0.04, 0.05, 0.06, 0.045, 0.035)


def truth(exposure):
    return Physics(
        exposure=jnp.asarray(exposure),
        gains=jnp.asarray([1.1, 1.0, 1 / 1.1]),
        offset=jnp.full(3, 0.05 * exposure),
        gamma=jnp.ones(()),
        illumination=jnp.zeros(5),
        shot_noise=jnp.asarray(3e-4),
        read_noise=jnp.asarray(1e-6),
    )


def photograph(seed, side=96):
    """Smooth blobs over the whole range of light."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [0.5 + 0.45 * np.sin((5 + c) * y + (7 - c) * x + seed + c) for c in range(3)]
    return np.rint(255 * np.stack(waves, axis=-1)).astype(np.uint8)


def fits(**evidence):
    """A fit of every exposure, as `fit_pairs` makes them; what is given differs in the first."""
    plain = dict.fromkeys(calibrate_camera.EVIDENCE, 1.0) | {"black": 0.0}
    numbers = [plain | evidence, *[plain] * (len(EXPOSURES) - 1)]
    thetas = [jax.tree.map(np.asarray, truth(exposure)) for exposure in EXPOSURES]
    return [
        calibrated_camera.Fit(f"cam/train/{place}", theta, own)
        for place, (theta, own) in enumerate(zip(thetas, numbers, strict=True))
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Six pairs of one camera and one whose dark frame shows something else, calibrated."""
    root = tmp_path_factory.mktemp("calibrate")
    for folder in ("low", "high"):
        (root / "pairs" / "train" / folder).mkdir(parents=True)
    for index, exposure in enumerate((*EXPOSURES, 0.05)):
        normal = photograph(index)
        shown = photograph(index + 3)[::-1, ::-1] if index == len(EXPOSURES) else normal
        light = jnp.asarray(shown, jnp.float32) / 255
        low = jax.jit(CAMERA.sample)(jax.random.key(index), light, truth(exposure))
        low = np.rint(255 * np.asarray(low)).astype(np.uint8)
        for folder, image in (("low", low), ("high", normal)):
            PILImage.fromarray(image).save(root / "pairs" / "train" / folder / f"{index}.png")
    where = ["--data-dir", str(root / "built")]
    prepare.run(["paired", "--source", str(root / "pairs"), "--name", "cam", *where])
    calibrate_camera.run(
        ["--data", "cam", "--window", "96", "--out", str(root / "cam.json"), *where]
    )
    return root


@pytest.mark.slow
def test_the_physics_of_each_pair_is_recovered(written):
    _, known = calibrated_camera.load_calibration(written / "cam.json")
    assert len(known) == 7
    for index, exposure in enumerate(EXPOSURES):
        theta = known[f"cam/train/{index}"]
        assert float(theta.exposure) == pytest.approx(exposure, rel=0.03)
        np.testing.assert_allclose(theta.gains, truth(exposure).gains, rtol=0.03)
        assert float(theta.shot_noise) == pytest.approx(3e-4, rel=0.5)


@pytest.mark.slow
def test_a_pair_of_two_scenes_is_left_out(written):
    content = json.loads((written / "cam.json").read_text())
    reasons = {pair["name"]: pair["reason"] for pair in content["pairs"]}
    assert [name for name, reason in reasons.items() if reason] == ["cam/train/6"]
    camera, _ = calibrated_camera.load_calibration(written / "cam.json")
    assert camera.log_exposure.shape == (6,)


@pytest.mark.slow
def test_the_pictures_are_there(written):
    for name in ("cam.png", "cam-pairs.jpg"):
        with PILImage.open(written / name) as picture:
            assert np.asarray(picture).std() > 10


@pytest.mark.slow
def test_smeared_noise_is_counted_in_full():
    """White noise blurred over its neighbours: σs is raised until the spread is the same."""
    normal = np.full((96, 96, 3), 128, np.uint8)
    light = jnp.asarray(normal, jnp.float32) / 255
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(97, 97, 3))
    smeared = (noise[1:, 1:] + noise[:-1, 1:] + noise[1:, :-1] + noise[:-1, :-1]) / 2
    low = np.rint(20 + 3 * smeared).clip(0, 255).astype(np.uint8)
    (fit,) = calibrate_camera.fit_pairs([("a", low, normal)], window=0)
    assert fit.evidence["model_noise"] == pytest.approx(fit.evidence["noise"], rel=0.1)
    assert fit.evidence["correlation"] > 0.2
    plain = degradation.fit_physics(jnp.asarray(low, jnp.float32) / 255, light)
    assert float(fit.physics.shot_noise) > 1.3 * float(plain.shot_noise)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({}, ""),
        ({"residual": 2.9}, ""),
        ({"residual": 3.5}, "residual 3.50, the limit is 3.00"),
        ({"black": 0.25}, "black for 25% of it that is lit"),
    ],
)
def test_what_the_model_cannot_explain_is_left_out_with_its_reason(evidence, reason):
    """Three times the median residual of its data set, which is 1 here, and a tenth black."""
    judged = calibrate_camera.judge(fits(**evidence))
    assert [fit.reason for fit in judged] == [reason, *[""] * 5]


def test_the_tables_hold_the_fitted_numbers():
    """κ's median and range by hand; what was left out has a table of its own."""
    judged = calibrate_camera.judge(fits(black=0.25, noise=7.0))
    tables = calibration_report.tables(judged, calibrated_camera.distribution(judged))
    theta, remains, left = ({r[0]: r[1:] for r in rows(table)} for table in tables)
    middle, low, high = np.quantile(EXPOSURES[1:], [0.5, 0.05, 0.95])
    assert theta["κ"][:2] == (f"{middle:.3g}", f"{low:.3g} – {high:.3g}")
    assert remains["spread, of 255"][0] == "1"  # and not of the one that is left out
    assert left == {"cam/train/0": ("black for 25% of it that is lit",)}


def rows(table):
    return list(zip(*(column.cells for column in table.columns), strict=True))


def test_the_middle_of_a_photograph_is_fitted():
    image = np.arange(5 * 6 * 3).reshape(5, 6, 3)
    np.testing.assert_array_equal(calibrate_camera.central(image, 2), image[1:3, 2:4])
    np.testing.assert_array_equal(calibrate_camera.central(image, 9), image)
    np.testing.assert_array_equal(calibrate_camera.central(image, 0), image)


# --- training with it ----------------------------------------------------------------------------


@pytest.mark.slow
def test_training_draws_from_it_and_knows_its_pairs(written):
    config = parse(
        [
            *("--config", "configs/base.py", f"--config.data.directory={written / 'built'}"),
            f"--config.data.physics={written / 'cam.json'}",
            "--config.data.mixture=(('packaged',0.5),('cam',0.5))",
        ]
    )
    splits, _ = mixture.mixture(config)
    fitted = mixture.fitted(config, splits)
    np.testing.assert_array_equal(fitted.known, [0, 1, 1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(fitted.physics.exposure[1:7], EXPOSURES, rtol=0.03)
    sample = mixture.build.physics_sampler(config)
    drawn = [float(sample(jax.random.key(i), jnp.zeros((8, 8, 3))).exposure) for i in range(20)]
    assert 0.02 < min(drawn) < max(drawn) < 0.09


# --- bad input -----------------------------------------------------------------------------------


def explain(argv, capsys):
    code = cli.explained(lambda: calibrate_camera.run(argv))
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return code, error


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--out", "x.txt"], "cannot write x.txt: its extension must be one of .json"),
        (["--data", "nothing"], "no data set 'cam'"),
        (["--data", "cam"], "name each data set once"),
        (["--window", "8"], "--window is 8"),
        (["--split", "train", "--split", "dev"], "--split is given twice"),
    ],
)
def test_a_bad_command_is_one_line(capsys, monkeypatch, tmp_path, more, said):
    monkeypatch.chdir(tmp_path)
    if "twice" in said:
        with pytest.raises(SystemExit):
            calibrate_camera.options_of(["--data", "cam", *more])
        assert said in capsys.readouterr().err
        return
    code, error = explain(["--data", "cam", "--data-dir", str(tmp_path), *more], capsys)
    assert (code, said in error) == (2, True), error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "nothing"], "no data set 'nothing'"),
        (["--split", "dev"], "cam has no split 'dev'"),
        (["--data", "packaged"], "packaged holds photographs without a dark partner"),
    ],
)
def test_a_set_that_cannot_be_used_is_one_line(written, capsys, monkeypatch, tmp_path, more, said):
    monkeypatch.chdir(tmp_path)
    argv = ["--data", "cam", "--data-dir", str(written / "built"), *more]
    code, error = explain(argv, capsys)
    assert (code, said in error) == (2, True), error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_nothing_is_overwritten(written, capsys):
    before = (written / "cam.json").read_bytes()
    argv = ["--data", "cam", "--out", str(written / "cam.json")]
    code, error = explain([*argv, "--data-dir", str(written / "built")], capsys)
    assert (code, "exists" in error) == (2, True)
    assert (written / "cam.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: "{", "damaged or no json"),
        (lambda c: "[]", "no calibration"),
        (lambda c: json.dumps(c | {"version": 99}), "no calibration of version"),
        (lambda c: json.dumps(c | {"pairs": c["pairs"][:1]}), "fewer than 2 pairs"),
        (lambda c: json.dumps(c).replace('"exposure"', '"exposition"'), "no sound calibration"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, change, said):
    calibrated_camera.save(tmp_path / "cam.json", fits(), data=["cam"], split="train", window=96)
    content = json.loads((tmp_path / "cam.json").read_text())
    (tmp_path / "bad.json").write_text(change(content))
    with pytest.raises(calibrated_camera.InputError, match=said):
        calibrated_camera.load_calibration(tmp_path / "bad.json")
    with pytest.raises(calibrated_camera.InputError, match=r"nowhere\.json does not exist"):
        calibrated_camera.load_calibration(tmp_path / "nowhere.json")
