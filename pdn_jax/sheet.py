"""Contact sheets: many pictures on one, labelled, to be looked at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK = (255, 255, 255), (32, 32, 32)
GAP = 8
"""Pixels between cells."""
TEXT = 16
"""Pixels between cells, and the height of letters."""


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    names: Sequence[str],
    cell_height: int,
) -> np.ndarray:
    """Rows of images on one sheet, with column titles and row names.

    Every image is brought to one height, its proportions kept: smaller ones are enlarged with
    nearest neighbours, so that their pixels show.

    Args:
        rows: of uint8 sRGB images [h, w, 3], as many in each.
        titles: of the columns.
        names: of the rows; '' for none.
        cell_height: pixels.

    Returns:
        The sheet, uint8 [height, width, 3].

    Raises:
        ValueError: titles or names are not as many as columns or rows.
    """
    if len(names) != len(rows) or any(len(row) != len(titles) for row in rows):
        raise ValueError(
            f"{len(titles)} titles and {len(names)} names for rows of "
            f"{[len(row) for row in rows]} images"
        )
    font = ImageFont.load_default(size=TEXT)
    cells = [[_fit(image, cell_height) for image in row] for row in rows]
    widths = [
        max([_length(font, title), *(row[column].width for row in cells)])
        for column, title in enumerate(titles)
    ]
    margin = max((_length(font, name) for name in names), default=0)
    left = GAP + (margin + GAP if margin else 0)
    top = TEXT + 2 * GAP
    size = (left + sum(widths) + GAP * len(widths), top + len(rows) * (cell_height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        y = top + row * (cell_height + GAP)
        draw.text((GAP, y + cell_height // 2), name, INK, font, anchor="lm")
    x = left
    for column, (title, width) in enumerate(zip(titles, widths, strict=True)):
        draw.text((x + width // 2, top // 2), title, INK, font, anchor="mm")
        for row, images in enumerate(cells):
            image = images[column]
            y = top + row * (cell_height + GAP)
            sheet.paste(image, (x + (width - image.width) // 2, y))
        x += width + GAP
    return np.array(sheet)


def _fit(image: np.ndarray, height: int) -> Image.Image:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    enlarge = height > image.shape[0]
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    return Image.fromarray(image).resize((width, height), method)


def _length(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return int(np.ceil(font.getlength(text)))
