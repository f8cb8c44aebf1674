"""What the notebooks show: pictures side by side, and maps as colours, small enough to be stored."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from IPython.display import Image, display
from PIL import Image as PILImage

from pdn_jax import sheet

QUALITY = 60
"""Of the JPEG files that a notebook keeps."""


def to_photo(image) -> np.ndarray:
    """Floats in [0, 1], clipped, as the uint8 that a file holds; uint8 as it is."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def heat(values, highest: float | None = None) -> np.ndarray:
    """A map [h, w] as colours, black for 0 and yellow for `highest`, the 99 % quantile by default."""
    values = np.asarray(values)
    highest = float(np.quantile(values, 0.99)) if highest is None else highest
    colours = matplotlib.colormaps["inferno"](np.clip(values / max(highest, 1e-12), 0.0, 1.0))
    return to_photo(colours[..., :3])


def show(columns: dict, names: Sequence[str] = ("",), height: int = 180) -> None:
    """Display {title: picture}, or {title: one picture for each name}, as one small JPEG."""
    cells = [list(c) if isinstance(c, (list, tuple)) else [c] for c in columns.values()]
    rows = [[to_photo(cell) for cell in row] for row in zip(*cells, strict=True)]
    page = PILImage.fromarray(sheet.contact_sheet(rows, list(columns), list(names), height))
    _display(page, ", ".join(columns))


def show_drawing(drawing, width: int = 560) -> None:
    """Display a figure of matplotlib, or the bytes of a PNG file, so many pixels wide at most."""
    if not isinstance(drawing, bytes):
        file = io.BytesIO()
        drawing.savefig(file, format="png", dpi=150)
        drawing = file.getvalue()
    page = PILImage.open(io.BytesIO(drawing)).convert("RGB")
    page.thumbnail((width, page.height))
    _display(page, "a drawing")


def _display(page: PILImage.Image, text: str) -> None:
    # Not SVG: a notebook that is not trusted does not show it.
    file = io.BytesIO()
    page.save(file, "JPEG", quality=QUALITY, optimize=True)
    display(Image(data=file.getvalue(), format="jpeg", alt=text))


def table(rows: dict[str, dict[str, str]]) -> None:
    """Print {row: {column: text}} with aligned columns."""
    heads = list(next(iter(rows.values())))
    first = max(map(len, rows))
    widths = [max(len(h), *(len(row[h]) for row in rows.values())) for h in heads]
    for name, row in {"": {h: h for h in heads}, **rows}.items():
        cells = (row[h].rjust(width) for h, width in zip(heads, widths, strict=True))
        print(name.ljust(first), *cells, sep="   ")
