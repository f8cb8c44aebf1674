"""The notebooks are saved with their pictures, redefine nothing, find the project, and run."""

import ast
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

from benchmarks import scaling

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "colab").glob("*.ipynb"))}
LARGEST = 200_000
"""Bytes of a notebook with its pictures."""


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def python(source):
    """A cell as Python, IPython's own lines turned into calls of `get_ipython()`."""
    return TransformerManager().transform_cell(source)


def replaced(pattern, text, source):
    source, found = re.subn(pattern, text, source, flags=re.MULTILINE)
    assert found == 1
    return source


@pytest.fixture(params=NOTEBOOKS.values(), ids=NOTEBOOKS)
def path(request):
    return request.param


# --- as saved --------------------------------------------------------------------------------


def test_there_are_four():
    assert set(NOTEBOOKS) == {"enhance", "train_tpu", "loss_lab", "physics"}


def test_saved_as_executed(path):
    """In format 4.5, from top to bottom, without an error and without a place of this machine.

    What only lives while a notebook runs is not kept.
    """
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not {"error"} & {output.output_type for output in outputs}
    assert [o for o in outputs if o.get("name") == "stderr"] == []
    assert not re.search(r"/(tmp|home|root|usr|content)/", json.dumps(outputs))
    assert [cell.id for cell in cells if "live" in tags(cell) and cell.outputs] == []


def test_pictures_are_there_and_small(path):
    kinds = {kind for cell in code_cells(path) for o in cell.outputs for kind in o.get("data", {})}
    assert "image/jpeg" in kinds
    assert "image/svg+xml" not in kinds  # which JupyterLab does not show before it is trusted
    assert path.stat().st_size <= LARGEST


def test_begins_with_a_badge_an_installation_and_one_cell_of_settings(path):
    notebook = nbformat.read(path, as_version=4)
    first, setup, *_ = notebook.cells
    assert "[![Open in Colab](https://colab.research.google.com/" in first.source
    assert (setup.id, setup.source) == ("setup", code_cells(NOTEBOOKS["enhance"])[0].source)
    (settings,) = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    assert settings is code_cells(path)[1] or settings.source == code_cells(path)[1].source
    for node in ast.parse(settings.source).body:
        assert isinstance(node, ast.Assign)


def tags(cell):
    return cell.metadata.get("tags", [])


def test_redefines_nothing_of_the_project(path):
    def defined(source):
        kinds = (ast.FunctionDef, ast.ClassDef)
        return {node.name for node in ast.parse(source).body if isinstance(node, kinds)}

    files = [file for folder in ("pdn_jax", "train") for file in (ROOT / folder).rglob("*.py")]
    files.append(ROOT / "colab" / "pictures.py")
    theirs = set().union(*(defined(file.read_text()) for file in files))
    ours = set().union(*(defined(python(cell.source)) for cell in code_cells(path)))
    assert {"enhance", "train", "show"} <= theirs
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
        source = code_cells(NOTEBOOKS["enhance"])[0].source
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


def test_what_is_missing_is_installed_in_colab(project, set_up, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    (project / "train" / "loop.py").write_text("import a_module_that_nobody_has")
    _, [(name, line)] = set_up(project)
    assert (name, line.split()[0]) == ("pip", "install")


def test_elsewhere_nothing_is_installed_and_the_line_that_does_is_named(project, set_up):
    (project / "train" / "loop.py").write_text("import a_module_that_nobody_has")
    with pytest.raises(ImportError, match="a_module_that_nobody_has") as caught:
        set_up(project)
    assert str(caught.value).endswith(f'" -m pip install -e "{project}[train]"')


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
    monkeypatch.setenv("XLA_FLAGS", scaling.pretending(1)["XLA_FLAGS"])  # as most runtimes have
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the notebook finds the project by itself


SMALL = {
    "enhance": {"WEIGHTS": "tiny", "EXPOSURE": 2.0},
    "physics": {"SIZE": 128, "BURST": 16, "WEIGHTS": "tiny"},
    "loss_lab": {"STEPS": 4, "CROP": 32},
    "train_tpu": {"STEPS": 12, "SAVE_EVERY": 4, "CROP": 32, "PER_CORE": 2, "FOLDER": "runs"},
}
"""Notebook -> settings with which it is run here."""


@pytest.fixture
def run(own_kernel, tmp_path):
    """Run a notebook with its small settings in a folder of its own: id -> cell."""

    def execute(name, **more):
        notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
        cells = {cell.id: cell for cell in notebook.cells}
        cells["setup"].source = replaced(
            r'^REPOSITORY = ""', f'REPOSITORY = "{ROOT}"', cells["setup"].source
        )
        for setting, value in (SMALL[name] | more).items():
            assert re.search(rf"^{setting}\b", cells["parameters"].source, re.M), setting
            cells["parameters"].source += f"\n{setting} = {value!r}"
        resources = {"metadata": {"path": str(tmp_path)}}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
        begun = []
        client.on_cell_start = lambda cell, cell_index: begun.append(cell.id)
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            pytest.fail(f"{name}.ipynb, cell {begun[-1]!r}: {error}")
        return cells

    return execute


def said(cell):
    """All that a cell printed, or displayed as text, without colours."""
    texts = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return re.sub(r"\x1b\[[\d;]*m", "", "".join(texts))


@pytest.mark.slow
def test_a_cell_that_fails_is_named(run, monkeypatch):
    monkeypatch.setitem(SMALL, "enhance", {"PHOTO": "no_such_photograph.jpg"})
    with pytest.raises(pytest.fail.Exception, match=r"enhance\.ipynb, cell 'photo'"):
        run("enhance")


@pytest.mark.slow
def test_enhance_runs_from_top_to_bottom(run, tmp_path):
    photo = np.full((64, 96, 3), 9, np.uint8) + np.arange(96, dtype=np.uint8)[:, None] // 8
    Image.fromarray(photo).save(tmp_path / "dark.png")
    cells = run("enhance", PHOTO="dark.png", RESULT="results/bright.png")
    with Image.open(tmp_path / "results" / "bright.png") as result:
        assert np.asarray(result).mean() > photo.mean() + 25
    assert len(pictures(cells["stages"])) == 2
    assert "bright.png: 96×64" in said(cells["download"])


@pytest.mark.slow
def test_physics_runs_from_top_to_bottom(run):
    cells = run("physics")
    rows = dict(re.findall(r"^(\S+) +(-?[\d.e-]+) ", said(cells["fit"]), re.M))
    assert abs(float(rows["exposure"]) + 4.0) < 0.1
    kappa = re.findall(r"pair \d +([\d.]+) +([\d.]+)", said(cells["several"]))
    assert len(kappa) == 3
    np.testing.assert_allclose(*np.array(kappa, float).T, rtol=0.1)
    assert len(pictures(cells["noise_map"])) == 1


@pytest.mark.slow
def test_loss_lab_runs_from_top_to_bottom(run, tmp_path):
    cells = run("loss_lab")
    assert re.search(r"^the truth +-?0\.0000 +-?0\.0000 +-?0\.0000$", said(cells["wrong"]), re.M)
    assert re.search(r"^edges .*\+1\.00", said(cells["join"]), re.M)
    for name, extra in (("usual", []), ("edges", ["my_lab:edges", 1.0])):
        config = json.loads(
            (tmp_path / f"runs/loss_lab/notebook_{name}" / "config.json").read_text()
        )
        assert config["loss"]["extra"] == extra
    assert re.search(r"^with edges +\d", said(cells["compare"]), re.M)


@pytest.mark.slow
def test_train_tpu_runs_on_two_devices_is_cut_off_and_goes_on(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", scaling.pretending(2)["XLA_FLAGS"])
    try:
        cells = run("train_tpu")
    finally:
        end_tensorboards(tmp_path)
    assert "2 cpu device(s), 4 crops a step" in said(cells["cores"])
    assert "tensorboard" in json.dumps(cells["tensorboard"].outputs).lower()
    assert re.search(r"cut off: stopped after step \d+ of 12", said(cells["train"]))
    assert re.search(r"resumed at step \d+", said(cells["resume"]).replace("\n", " "))
    run_dir = tmp_path / "runs" / "from_notebook"
    assert json.loads((run_dir / "config.json").read_text())["parallel"]["strategy"] == "pmap"
    assert (run_dir / "weights.safetensors").is_file()
    assert len(pictures(cells["curves"])) == 1


def end_tensorboards(folder):
    """End the servers that a notebook has started; each has left a file with its process."""
    for file in folder.glob(".tensorboard-info/pid-*.info"):
        os.kill(json.loads(file.read_text())["pid"], signal.SIGTERM)


def pictures(cell):
    """The pictures that a cell displayed, as floats [h, w, 3]."""
    files = [o.data["image/jpeg"] for o in cell.outputs if "image/jpeg" in o.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(f)))) / 255.0 for f in files]
