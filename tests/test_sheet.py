"""Contact sheets: every picture is where it belongs, small ones with their pixels showing."""

import numpy as np
import pytest

from pdn_jax.sheet import contact_sheet

RED, GREEN, BLUE = ((255, 0, 0), (0, 128, 0), (0, 0, 255))


def plain(colour, height=40, width=60):
    return np.full((height, width, 3), colour, np.uint8)


def box(sheet, colour):
    """Rows and columns (first, last) that hold a colour."""
    rows, columns = np.nonzero((sheet == colour).all(-1))
    return (rows.min(), rows.max()), (columns.min(), columns.max()), len(rows)


def test_cells_stand_in_rows_and_columns():
    checks = plain((0, 0, 0), 2, 3)
    sheet = contact_sheet(
        [[plain(RED), plain(GREEN, 80, 120)], [plain(BLUE), checks]],
        ["low", "restored"],
        ["one", "two"],
        40,
    )
    assert sheet.dtype == np.uint8
    found = [box(sheet, colour) for colour in (RED, GREEN, BLUE)]
    assert all(count == 40 * 60 for *_, count in found)
    red, green, blue = found
    assert red[0] == green[0]
    assert red[1] == blue[1]
    assert red[1][1] < green[1][0]
    assert red[0][1] < blue[0][0]


def test_small_images_are_enlarged_by_whole_pixels():
    colours = [[RED, GREEN, BLUE], [BLUE, RED, GREEN]]
    sheet = contact_sheet([[np.asarray(colours, np.uint8)]], [""], [""], 40)
    assert all(box(sheet, colour)[2] == 2 * 20 * 20 for colour in (RED, GREEN, BLUE))


def test_titles_and_names_are_written():
    def ink(titles, names):
        sheet = contact_sheet([[plain(RED), plain(RED)]], titles, names, 40)
        return (sheet.max(-1) < 128).sum()

    assert ink(["", ""], [""]) == 0
    assert 0 < ink(["low", ""], [""]) < ink(["low", ""], ["name"]) < ink(["low", "low"], ["name"])


def test_long_titles_widen_their_column():
    narrow = contact_sheet([[plain(RED)]], ["a"], [""], 40)
    wide = contact_sheet([[plain(RED)]], ["a title far longer than the picture"], [""], 40)
    assert wide.shape[0] == narrow.shape[0]
    assert wide.shape[1] > narrow.shape[1] + 100


@pytest.mark.parametrize(("titles", "names"), [(["a"], ["b", "c"]), (["a", "b"], ["c"])])
def test_labels_must_be_as_many_as_the_images(titles, names):
    with pytest.raises(ValueError, match="titles"):
        contact_sheet([[plain(RED)]], titles, names, 40)
