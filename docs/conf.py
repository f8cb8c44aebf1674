"""How the documentation is built: `sphinx-build -W --keep-going -b html docs build/site`.

Notebooks are shown as they were stored, with their pictures; `tests/test_colab.py` executes them.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pdn_jax

project = "pdn_jax"
release = version = pdn_jax.__version__
copyright = "the authors of pdn_jax, Apache-2.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["notebooks/runs", "notebooks/lab", "**/.ipynb_checkpoints"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # IPython's own lines in notebooks

html_theme = "sphinx_book_theme"
html_title = "pdn_jax"
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2}
html_show_sourcelink = False

default_role = "code"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes stand under Args and Returns
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False


def as_rest(app, what, name, obj, options, lines):
    """Docstrings are plain text: no |x| or *x* is markup, lists and equations stand as they are."""
    chunks = []
    for chunk in re.split(r"\n\s*\n", "\n".join(lines)):
        rows = chunk.strip("\n").split("\n")
        inside = [row.startswith(" ") for row in rows]
        if all(inside):  # an equation or an example
            if not re.match(r"\s+\*{0,2}\w+:", rows[0]):
                rows = ["::", "", *rows]
        elif any(inside) and not re.fullmatch(
            r"[A-Z]\w+:", rows[0]
        ):  # name(…) -> …, over more lines
            rows = [
                "  " + plain(row.strip()) if row[:1] == " " else "| " + plain(row) for row in rows
            ]
        else:
            rows = [plain(row) for row in rows]
        chunks.append("\n".join(rows))
    lines[:] = "\n\n".join(chunks).split("\n")


def plain(row):
    """A line without markup, but for `code` and the stars that begin the name of an argument."""
    parts = re.split(r"(`+[^`]*`+)", row)
    parts[::2] = [
        re.sub(r"\||(?<=[^\s*])\*|\*(?=\s)|(?<=\w)_(?!\w)", r"\\\g<0>", p) for p in parts[::2]
    ]
    return "".join(parts)


def setup(app):
    """Before napoleon reads a docstring."""
    app.connect("autodoc-process-docstring", as_rest, priority=400)
