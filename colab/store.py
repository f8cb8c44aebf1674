"""Run notebooks from top to bottom and store them with what they show.

    python -m colab.store enhance physics

Cells tagged `live` are run, but keep no output: what they show ends with the notebook.
"""

import os
import signal
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tensorboard import manager

from pdn_jax import cli

FOLDER = Path(__file__).parent


def options_of(argv):
    """The command's options."""
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser = cli.Parser(prog="python -m colab.store", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=names, help="notebooks")
    return parser.parse_args(argv)


def store(name):
    """Run one notebook and write it back; the TensorBoard that it has started is ended."""
    before = {info.pid for info in manager.get_all()}
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(FOLDER)}}
    options = {"timeout": None, "kernel_name": "python3", "record_timing": False}
    NotebookClient(notebook, resources=resources, **options).execute()
    for info in manager.get_all():
        if info.pid not in before:
            os.kill(info.pid, signal.SIGTERM)
    for cell in notebook.cells:
        if "live" in cell.metadata.get("tags", []):
            cell.outputs = []
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    cli.silence_compiler()
    for each in options_of(sys.argv[1:]).names:
        store(each)
