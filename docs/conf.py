"""How the documentation is built: `sphinx-build -W --keep-going -b html docs build/site`.

Notebooks are shown as they were stored, with their pictures; `tests/test_colab.py` executes them.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

from sphinx.util import logging

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
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2, "navbar_persistent": []}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

default_role = "code"
autodoc_default_options = {"members": True, "ignore-module-all": True}
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
        section = re.fullmatch(r"[A-Z]\w+:", rows[0])
        if all(inside) and not re.match(r"\s+\*{0,2}\w+:", rows[0]):  # an equation or an example
            rows = ["::", "", *rows]
        elif any(inside) and not all(inside) and not section:  # name(…) -> …, each over some lines
            rows = [("  " if row[:1] == " " else "| ") + plain(row.strip()) for row in rows]
        elif not all(inside):
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


def skipped(app, what, name, obj, skip, options):
    """Fields of a named tuple stand in the docstring of their class."""
    return skip or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")


def complete(app, env):
    """A warning for each public function or class of the library that no page has."""
    domain = env.get_domain("py")
    there = {name for name, *_ in domain.get_objects()}
    for module in domain.modules:
        for name, value in vars(importlib.import_module(module)).items():
            own = (inspect.isclass(value) or inspect.isfunction(value)) and not name.startswith("_")
            if own and value.__module__ == module and f"{module}.{name}" not in there:
                logging.getLogger(__name__).warning("%s.%s is on no page", module, name)


def setup(app):
    """Docstrings are changed before napoleon reads them."""
    app.connect("autodoc-process-docstring", as_rest, priority=400)
    app.connect("autodoc-skip-member", skipped)
    app.connect("env-check-consistency", complete)
