"""The notebook is saved clean, redefines nothing, finds the project, and runs from top to bottom."""

import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "colab" / "quickstart.ipynb"
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
STEPS = 20


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def python(source):
    """A cell as Python, IPython's own lines turned into calls of `get_ipython()`."""
    return TransformerManager().transform_cell(source)


def replaced(pattern, text, source):
    source, found = re.subn(pattern, text, source, flags=re.MULTILINE)
    assert found == 1
    return source


# --- as saved --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_in_format_4_5_without_outputs(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_redefines_nothing_of_the_project(path):
    def defined(source):
        kinds = (ast.FunctionDef, ast.ClassDef)
        return {node.name for node in ast.parse(source).body if isinstance(node, kinds)}

    files = [file for folder in ("pdn_jax", "train") for file in (ROOT / folder).rglob("*.py")]
    theirs = set().union(*(defined(file.read_text()) for file in files))
    ours = set().union(*(defined(python(cell.source)) for cell in code_cells(path)))
    assert {"enhance", "train"} <= theirs
    assert not ours & theirs


# --- the set-up cell -------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A folder that looks like the project and is quick to import."""
    folder = tmp_path / "a project"
    (folder / "colab").mkdir(parents=True)
    (folder / "train").mkdir()
    (folder / "train" / "__init__.py").touch()
    (folder / "train" / "loop.py").touch()
    return folder


@pytest.fixture
def set_up(monkeypatch):
    """Run the set-up cell in a folder: (the root that it found, the magics that it called)."""

    def run(folder, repository=""):
        source = next(cell.source for cell in code_cells(QUICKSTART) if cell.id == "setup")
        source = replaced(r'^REPOSITORY = ""', f'REPOSITORY = "{repository}"', source)
        magics = []
        shell = SimpleNamespace(run_line_magic=lambda name, line: magics.append((name, line)))
        scope = {"get_ipython": lambda: shell}
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", [*sys.path])
        exec(python(source), scope)
        assert sys.path[0] == str(scope["root"])
        return scope["root"], magics

    return run


@pytest.mark.parametrize("place", [".", "colab"])
def test_the_project_is_found_from_inside(project, set_up, place):
    assert set_up(project / place) == (project, [])


def test_the_project_is_found_in_a_folder_that_is_named(project, set_up, tmp_path):
    assert set_up(tmp_path, repository=project) == (project, [])


@pytest.mark.slow
def test_the_project_is_cloned_from_a_url_once(project, set_up, tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", project]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    for _ in range(2):
        root, magics = set_up(tmp_path, repository=project.as_uri())
        assert (root, magics) == (tmp_path / "pdn_jax_checkout", [])


def test_without_a_project_the_remedy_is_named(set_up, tmp_path):
    with pytest.raises(FileNotFoundError, match="set REPOSITORY"):
        set_up(tmp_path)


def test_what_is_missing_is_installed(project, set_up):
    (project / "train" / "loop.py").write_text("import a_module_that_nobody_has")
    _, [(name, line)] = set_up(project)
    assert (name, line.split()[0]) == ("pip", "install")


# --- all of it -------------------------------------------------------------------------------


@pytest.fixture
def own_kernel(tmp_path, monkeypatch):
    """Kernel `python3` is the Python that runs the tests; all that it writes goes to tmp_path."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device, as most runtimes have
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the notebook finds the project by itself


@pytest.mark.slow
def test_quickstart_runs_from_top_to_bottom(own_kernel, tmp_path):
    notebook = nbformat.read(QUICKSTART, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["train"].source = replaced(r"^STEPS = \d+$", f"STEPS = {STEPS}", cells["train"].source)
    resources = {"metadata": {"path": str(QUICKSTART.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()

    (written,) = tmp_path.glob("*/run/config.json")
    assert json.loads(written.read_text())["train"]["steps"] == STEPS
    # The columns of the contact sheet: dark, enhanced, well exposed.
    dark, enhanced, _ = np.array_split(picture(cells["enhance"]), 3, axis=1)
    assert enhanced.mean() > dark.mean() + 0.1
    (result,) = cells["balance"].outputs
    assert -1.0 <= ast.literal_eval(result.data["text/plain"])["balance/cosine"] <= 1.0


def picture(cell):
    """The picture that a cell displayed, as floats [h, w, 3]."""
    (data,) = [o.data["image/png"] for o in cell.outputs if o.output_type == "display_data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) / 255.0
