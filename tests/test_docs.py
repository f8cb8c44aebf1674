"""Every command in the documents is parsed by its own parser, every Python snippet runs.

Nothing is trained or measured here: a command goes as far as its options.
"""

import argparse
import ast
import functools
import importlib.util
import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PILImage

from configs import base
from pdn_jax import cli, weights
from pdn_jax.model import VARIANTS, ProgressiveDualNetwork
from pdn_jax.types import InputError
from train.config import parse as parse_options

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "reference").glob("*.md")),
]
MODULES = [
    path
    for folder in ("pdn_jax", "train", "configs", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
COMMAND = re.compile(r"python3? -m ((?:pdn_jax|train|benchmarks|colab)\b[\w.]*)([^\n`]*)")
ENDS = set("&|;<>()")
LONGEST, LINES = 90, 200
"""Words of a paragraph in the README, and lines of it at most."""


@functools.cache
def texts():
    """Name -> text of every document, docstring of a module, notebook and card."""
    found = {path.name: path.read_text() for path in DOCUMENTS}
    for path in MODULES:
        found[str(path.relative_to(ROOT))] = ast.get_docstring(ast.parse(path.read_text())) or ""
    for path in sorted((ROOT / "colab").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        found[path.name] = "\n".join("".join(cell["source"]) for cell in cells)
    for path in sorted((ROOT / "pdn_jax/weights").glob("*/card.json")):
        stages = json.loads(path.read_text())["training"]
        found[str(path.relative_to(ROOT))] = "\n".join(stage["command"] for stage in stages)
    return found


def words_of(rest):
    """The options of a command as a shell gives them; '[--optional x]' is taken in, '…' is not."""
    rest = re.sub(r"\[([^]]*)\]", lambda part: "" if "…" in part[1] else part[1], rest)
    rest = re.sub(r"\$\w+", "0", rest)
    for quote in "\"'":  # the end of a command that stands in quotes itself
        rest = rest if rest.count(quote) % 2 == 0 else rest.rpartition(quote)[0]
    lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= ENDS:
            break
        words.append(word)
    return words


def commands():
    """(where it stands, module, options) of every command that a reader is shown."""
    for name, text in texts().items():
        for module, rest in COMMAND.findall(text.replace("\\\n", " ")):
            yield name, module.rstrip("."), words_of(rest)


COMMANDS = list(commands())


class Parsed(Exception):
    """The options were taken; what would be done with them is not."""


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """Parse a command as the module itself does; SystemExit or InputError where it would refuse."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    genuine, depth = cli.Parser.parse_known_args, []

    def outermost(parser, args=None, namespace=None):
        depth.append(parser)
        try:
            options, rest = genuine(parser, args, namespace)
        finally:
            depth.pop()
        if depth:  # a subcommand's parser
            return options, rest
        unknown = [word for word in rest if not word.startswith("--config.")]
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        parse_options(["--config", "configs/base.py", *rest])
        raise Parsed

    def run(name, argv):
        if name == "train.main":
            return parse_options(argv)
        if name.startswith("colab.lab."):  # plain arguments of its function
            return inspect.signature(importlib.import_module(name).main).bind(*argv)
        module = importlib.import_module("pdn_jax.cli" if name == "pdn_jax" else name)
        if hasattr(module, "options_of"):
            return module.options_of(argv)
        monkeypatch.setattr(cli.Parser, "parse_known_args", outermost)
        with pytest.raises(Parsed):
            (getattr(module, "main", None) or module.run)(argv)
        return None

    return run


@pytest.mark.parametrize(
    ("name", "module", "argv"), COMMANDS, ids=[f"{name}: {module}" for name, module, _ in COMMANDS]
)
def test_the_command_is_one_that_its_program_takes(parse, name, module, argv):
    """A program that is named without options must be there, no more."""
    if argv:
        parse(module, argv)
    else:
        assert importlib.util.find_spec(module)


def test_the_documents_are_searched():
    """A command is found where it is known to stand: in a block, over two lines, in a docstring."""
    found = {(name, module) for name, module, _ in COMMANDS}
    assert {("README.md", "pdn_jax"), ("README.md", "train.tools.ablation")} <= found
    assert {("training.md", "train.tools.calibrate_camera"), ("hosts.md", "train.main")} <= found
    assert {("train/evaluate.py", "train.evaluate"), ("pdn_jax/cli.py", "pdn_jax")} <= found
    assert len(COMMANDS) > 50
    assert words_of(' --data a "b c" [--out x] [--more y …] > log  # why') == [
        *("--data", "a", "b c", "--out", "x")
    ]


@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("train.main", ["--config", "configs/base.py", "--config.train.stepz=1"]),
        ("train.evaluate", ["--weights", "tiny", "--data", "a", "b"]),
        ("benchmarks.count", ["--sizes", "4x4"]),
        ("pdn_jax", ["enhance", "a.jpg"]),
    ],
)
def test_a_wrong_command_is_noticed(parse, module, argv):
    with pytest.raises((SystemExit, InputError)):
        parse(module, argv)


def test_every_option_that_is_named_exists():
    """Also those named alone, as `--config.log.every`; what follows a '*' or '…' is a family."""
    options = base.get_config()
    for name, text in texts().items():
        for key in re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", text):
            node = options
            for part in key.split("."):
                assert key == "key" or part in node, f"{name}: --config.{key}"
                node = node[part] if key != "key" else node


def test_every_extra_that_is_named_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = re.findall(r'"?\.\[([a-z,]+)\]"', "\n".join(texts().values()))
    assert {"test", "train"} <= set(named)
    assert {extra for several in named for extra in several.split(",")} <= set(extras)


# --- lists -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", ["--data a b --n 1", "--data a --n 1 --data b", "--data=a --data=b"]
)
def test_a_list_is_several_words_or_the_option_again(argv):
    parser = cli.Parser(prog="x")
    parser.add_argument("--data", nargs="+", default=["z"])
    parser.add_argument("--n", type=int)
    assert parser.parse_args(argv.split()).data == ["a", "b"]
    assert parser.parse_args([]).data == ["z"]


def test_anything_else_is_given_once(capsys):
    parser = cli.Parser(prog="x")
    parser.add_argument("--data")
    with pytest.raises(SystemExit):
        parser.parse_args(["--data", "a", "--data", "b"])
    assert "--data is given twice" in capsys.readouterr().err
    assert parser.parse_args(["--data", "a"]).data == "a"


def test_no_command_has_lists_of_its_own():
    """All parsers are `cli.Parser`, and nothing appends or splits at commas."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            assert ast.unparse(node.func) != "argparse.ArgumentParser", path
            actions = [k.value for k in node.keywords if k.arg == "action"]
            assert not {getattr(a, "value", None) for a in actions} & {"append", "extend"}, path
    assert issubclass(cli.Parser, argparse.ArgumentParser)


@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("calibrate_camera", ["--out", "x.json"]),
        ("contact_sheet", ["--out", "x"]),
        (
            "export_weights",
            ["--run", "r", "--config", "c", "--about", "a", "--name", "tiny"],
        ),
    ],
)
def test_data_sets_are_named_one_way(parse, module, argv):
    for data in (["--data", "a", "b"], ["--data", "a", "--data", "b"]):
        assert parse(f"train.tools.{module}", [*data, *argv]).data == ["a", "b"]


# --- snippets and prose ----------------------------------------------------------------------


def snippets(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def smallest(monkeypatch):
    """A network of one stage and one level for `small` and its weights."""
    model = {"stages": 1, "width": 8, "widths": (8,), "depths": (1,), "blocks": (2,)}
    network = ProgressiveDualNetwork(**model)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01), shapes)
    small = weights.Weights("small", model, params, {})
    monkeypatch.setitem(VARIANTS, "small", model)
    monkeypatch.setattr(weights, "load", lambda name, **_: small)


COMPILING = ("README.md", "laboratory.md")
"""Whose snippets differentiate a whole loss."""


@pytest.mark.usefixtures("smallest")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow) if path.name in COMPILING else path
        for path in DOCUMENTS
        if snippets(path)
    ],
    ids=lambda path: path.name,
)
def test_the_snippets_run_in_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("dark.jpg", "normal.jpg"):
        PILImage.fromarray(rng.integers(0, 99, (32, 48, 3), dtype=np.uint8)).save(name)
    scope = {}
    for number, snippet in enumerate(snippets(path), 1):
        exec(compile(snippet, f"{path.name}, snippet {number}", "exec"), scope)
    if path.name == "README.md":
        assert scope["bright"].shape == (32, 48, 3)
        assert float(scope["total"]) > 0.0


def paragraphs(text):
    """Prose between blank lines, points of a list by themselves; blocks, tables and titles aside."""
    text = re.sub(r"^```.*?^```$", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(\||#).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(- |\d+\. )", r"\n\1", text, flags=re.MULTILINE)
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def test_the_map_names_every_module_of_the_library():
    """And every command, and nothing that is not there."""
    text = (DOCS / "reference" / "where.md").read_text()
    (block,) = re.findall(r"^```\n(pdn_jax/.*?)^```", text, re.MULTILINE | re.DOTALL)
    library, program = block.split("\ntrain/")
    modules = {path.stem for path in (ROOT / "pdn_jax").glob("[!_]*.py")}
    tools = {path.stem for path in (ROOT / "train/tools").glob("[!_]*.py")}
    assert modules <= set(re.findall(r"\w+", library))
    assert tools - {"calibration_report", "curves"} <= set(re.findall(r"\w+", program))
    assert set(re.findall(r"(\w+)\.py", library)) <= modules


def test_no_paragraph_of_the_readme_is_long():
    long = {p[:60]: len(p.split()) for p in paragraphs((ROOT / "README.md").read_text())}
    assert {start: count for start, count in long.items() if count > LONGEST} == {}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= LINES


# --- the site --------------------------------------------------------------------------------


def test_every_page_and_notebook_is_in_the_contents_once():
    listed = re.findall(r"^```{toctree}\n(.*?)^```", (DOCS / "index.md").read_text(), re.M | re.S)
    names = [line for block in listed for line in block.splitlines() if line and line[0] != ":"]
    pages = [path for path in DOCUMENTS if path.is_relative_to(DOCS)]
    pages += sorted((DOCS / "notebooks").glob("*.ipynb"))
    there = {str(path.relative_to(DOCS).with_suffix("")) for path in pages} - {"index"}
    assert sorted(names) == sorted(there)


def test_the_reference_has_every_module():
    """Each once; Sphinx then lists whatever has a docstring, as all that is public must."""
    pages = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    listed = re.findall(r"^\.\. automodule:: ([\w.]+)$", pages, re.M)
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "pdn_jax").rglob("*.py")]
    modules = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    assert sorted(listed) == sorted(modules - {"pdn_jax.__main__"})


def test_links_lead_somewhere():
    """Those of README, CONTRIBUTING and every page that are to files, with or without a heading."""
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_paragraphs_are_told_apart():
    text = "# a b\n\none two\nthree\n- four\n- five six\n\n| x | y |\n\n```\nseven\n```\neight"
    assert paragraphs(text) == ["one two\nthree", "- four", "- five six", "eight"]
