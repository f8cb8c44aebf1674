"""Contact sheets of folders and of built pairs, and what they refuse."""

import numpy as np
import pytest
from PIL import Image as PILImage

from pdn_jax import cli, photo
from train.tools import contact_sheet, prepare


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Three pairs of 48×64, built as `pairs`, with a folder of the dark ones."""
    root, rng = tmp_path_factory.mktemp("contact"), np.random.default_rng(0)
    for index in range(3):
        bright = rng.integers(60, 250, (48, 64, 3), dtype=np.uint8)
        for part, image in (("low", bright // 10), ("gt", bright)):
            path = root / "source/dev" / part / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(image).save(path)
    where = ["--source", str(root / "source"), "--data-dir", str(root / "built")]
    prepare.run(["paired", *where, "--name", "pairs"])
    return root


def run(pairs, out, *more):
    where = ["--data-dir", str(pairs / "built"), "--out", str(out)]
    where += [] if "--weights" in more else ["--weights", "tiny"]
    return cli.explained(lambda: contact_sheet.run([*where, *more]))


@pytest.mark.slow
def test_sheets_of_pairs_and_of_a_folder(pairs, tmp_path, capsys):
    folder = str(pairs / "source/dev/low")
    options = ["--data", "pairs/dev", "--photos", folder, "--rows", "2", "--height", "48"]
    assert run(pairs, tmp_path / "out", *options) == 0
    sheets = sorted((tmp_path / "out").iterdir())
    assert [p.name for p in sheets] == [
        f"{n}-{i}.jpg" for n in ("low", "pairs-dev") for i in (1, 2)
    ]
    sizes = [photo.read(path).shape[1::-1] for path in sheets]
    assert sizes[0][1] == sizes[2][1]  # both of two rows
    assert sizes[1][1] == sizes[3][1] == sizes[0][1] - 48 - 8  # both of one
    assert sizes[2][0] > sizes[0][0]  # a truth more
    assert capsys.readouterr().out.splitlines()[-4:] == [str(p) for p in (*sheets[2:], *sheets[:2])]
    assert run(pairs, tmp_path / "out", *options) == 2
    assert "exists" in capsys.readouterr().err


def test_a_sheet_holds_so_many_photographs(monkeypatch):
    """Three photographs, two on a sheet; the dial and no truth make three pictures of each."""
    dials = []

    def enhance(low, weights, exposure=1.0):
        dials.append(exposure)
        return np.rint(low * exposure).astype(np.uint8)

    monkeypatch.setattr(contact_sheet.inference, "enhance", enhance)
    shown = [(f"{place}", np.full((48, 64, 3), 90, np.uint8), None) for place in range(3)]
    first, second = contact_sheet.pages(shown, None, 2, 48)
    assert first.shape[0] - second.shape[0] == 48 + 8  # a row and its gap
    assert first.shape[1] == second.shape[1]
    assert dials == [0.5, 1.0] * 3
    with_truth = [(name, low, low) for name, low, _ in shown[:1]]
    (third,) = contact_sheet.pages(with_truth, None, 2, 48)
    assert third.shape[1] > second.shape[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name built sets with --data"),
        (["--data", "nothing/dev"], "no data set 'nothing'"),
        (["--photos", "nowhere"], "nowhere"),
        (["--data", "pairs/dev", "--rows", "0"], "--rows 0"),
        (["--data", "pairs/dev", "--weights", "huge"], "huge does not exist"),
        (["--photos", "a/x", "b/x"], "two of what is to be shown would be called x"),
        (["--photos", "x", "--height", "100000000"], "16 to 4096"),
    ],
)
def test_bad_options_are_one_line(pairs, tmp_path, capsys, options, said):
    assert run(pairs, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
