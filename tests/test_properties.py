"""What is to be left alone: measured on methods whose answer is known, from functions and folders."""

import numpy as np
import pytest

from pdn_jax import photo
from pdn_jax.types import InputError
from train import evaluate, properties

NOISE = np.random.default_rng(0).uniform(0.2, 0.6, (24, 32, 3)).astype(np.float32)
PAIRS = [("a/1", 0.25 * NOISE, NOISE), ("b", 0.5 * NOISE, NOISE)]


def mean(method, column):
    return properties.measure(lambda name, image: method(image), PAIRS).values[column].mean()


def test_what_changes_nothing_is_perfect():
    measured = properties.measure(lambda name, image: image, PAIRS)
    assert measured.names == ("a/1", "b")
    expected = {
        "restraint": 60,
        "ratio": 1,
        "twice": 60,
        "turned": 60,
        "letterboxed": 0,
        "black": 0,
    }
    for column, value in expected.items():
        np.testing.assert_allclose(measured.values[column], value, atol=1e-6, err_msg=column)
    assert len(measured.values["restraint"]) == 2


def test_each_property_sees_its_own_fault():
    assert mean(lambda x: x + 0.1, "restraint") == pytest.approx(20.0, abs=1e-3)
    assert mean(lambda x: 1.2 * x, "ratio") == pytest.approx(1.2, abs=1e-5)
    assert mean(lambda x: x + 0.1, "twice") == pytest.approx(20.0, abs=1e-3)
    assert mean(lambda x: x + 0.1 * (len(x) < x.shape[1]), "turned") == pytest.approx(
        20.0, abs=1e-3
    )
    # brightened where the mean is low, which bars make it: 1/4 more of 30 rows for 24
    dimmed = mean(lambda x: np.clip(x / max(x.mean(), 0.01) * 0.3, 0, 1), "letterboxed")
    assert dimmed == pytest.approx(0.25, abs=0.02)
    assert mean(lambda x: x + 0.1, "black") == pytest.approx(25.5, abs=1e-3)


def test_results_of_other_software_are_read_by_name(tmp_path):
    assert properties.write_inputs(tmp_path / "in", PAIRS) == 9
    black = photo.read(tmp_path / "in/black.png")
    assert black.shape == (400, 600, 3)
    assert not black.any()
    measured = properties.measure(properties.restored_in(tmp_path / "in"), PAIRS)
    assert np.isnan(measured.values["twice"]).all()
    assert measured.values["restraint"].min() > 55
    (tmp_path / "in/twice").mkdir()
    for name in ("a_1-low", "b-low"):
        photo.write(tmp_path / f"in/twice/{name}.png", photo.read(tmp_path / f"in/{name}.png"))
    measured = properties.measure(properties.restored_in(tmp_path / "in"), PAIRS)
    np.testing.assert_allclose(measured.values["twice"], 60.0)


def test_results_that_are_missing_or_of_another_size_are_refused(tmp_path):
    properties.write_inputs(tmp_path, PAIRS)
    photo.write(tmp_path / "b-low.png", np.zeros((24, 31, 3), np.uint8), overwrite=True)
    with pytest.raises(InputError, match=r"b-low\.png has 31×24 pixels; its input has 32×24"):
        properties.measure(properties.restored_in(tmp_path), PAIRS)
    (tmp_path / "a_1-turned.png").unlink()
    with pytest.raises(InputError, match=r"no photograph a_1-turned; --inputs"):
        properties.measure(properties.restored_in(tmp_path), PAIRS)


def test_the_table_has_every_photograph_and_the_means(tmp_path):
    measured = properties.measure(lambda name, image: image, PAIRS)
    properties.write_table(tmp_path / "p.csv", measured)
    rows = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == [
        "photograph",
        "a/1",
        "b",
        "mean",
        "interval low",
        "interval high",
    ]
    assert {len(row) for row in rows} == {7}
    assert float(rows[3][1]) == 60.0


@pytest.mark.parametrize(("count", "known"), [(1, False), (2, False), (3, True)])
def test_an_interval_is_shown_of_three_photographs_or_more(count, known):
    columns = {name: np.arange(1.0, count + 1.0) for name in properties.PROPERTIES}
    measured = properties.Properties(
        tuple("abc"[:count]), columns | {"black": np.zeros(1), "twice": np.full(count, np.nan)}
    )
    rows = zip(
        properties.PROPERTIES, properties.table(measured, "title").columns[2].cells, strict=True
    )
    for name, span in rows:
        if name in ("black", "twice"):
            assert span == ""
        else:
            assert (" to " in span, span == "–") == (known, not known)


@pytest.mark.slow
def test_the_command_writes_inputs_and_measures_a_folder(tmp_path, capsys):
    for folder, part in (("low", 0.3), ("normal", 1.0)):
        (tmp_path / folder).mkdir()
        image = np.rint(255 * part * NOISE).astype(np.uint8)
        photo.write(tmp_path / folder / "a.png", image)
    pairs = ["--low", str(tmp_path / "low"), "--normal", str(tmp_path / "normal")]
    evaluate.run([*pairs, "--properties", "--inputs", str(tmp_path / "in")])
    out = ["--out", str(tmp_path / "p.csv")]
    evaluate.run([*pairs, "--properties", "--restored", str(tmp_path / "in"), *out])
    assert "twice = once" in capsys.readouterr().out
    evaluate.run([*pairs, "--restored", str(tmp_path / "low"), "--out", str(tmp_path / "e.csv")])
    assert (tmp_path / "e.csv").read_text().splitlines()[1].startswith("low,a,0,")


def test_one_method_is_named(tmp_path):
    for words in ([], ["--weights", "small", "--restored", str(tmp_path)], ["--inputs", "x"]):
        with pytest.raises(InputError, match=r"--inputs"):
            evaluate.options_of(["--data", "lol", *words])
