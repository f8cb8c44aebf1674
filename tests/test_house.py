"""The habits of CONTRIBUTING.md that can be read off the source: arrows, sizes, names, options."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from key_use import key_offences
from ml_collections import ConfigDict

import pdn_jax
from configs import base

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

TEST_COMMAND = 'pip install -e ".[test]" && pytest'
TRAIN_COMMAND = 'pip install -e ".[train]" && python -m train.main --config configs/base.py'

ARROWS = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "types": {"errors"},
    "user_cache": set(),
    "places": {"errors", "user_cache"},
    "copies": {"errors", "places", "user_cache"},
    "files": {"errors", "places"},
    "cache": {"files", "user_cache"},
    "executable": set(),
    "resampling": {"types"},
    "image": {"types", "resampling"},
    "fitting": {"types", "image"},
    "physics": {"types", "image", "fitting"},
    "calibration": {"types"},
    "composition": {"types"},
    "degradation": {"types", "image", "physics", "composition"},
    "metrics": {"types", "image"},
    "convolution": {"types"},
    "compiled": set(),
    "layout": set(),
    "evidence": {"types", "image"},
    "enhancement": {"types", "image", "convolution", "evidence", "layout"},
    "denoising": {"types", "image", "convolution", "layout"},
    "model": {"types", "image", "enhancement", "denoising", "layout"},
    "tiling": {"types", "image", "enhancement", "denoising", "model", "layout"},
    "dial": {"types", "image", "model"},
    "checks": {"errors"},
    "bars": {"checks"},
    "program_inputs": {"layout"},
    "temporal": {"types", "image", "enhancement", "layout"},
    "ycbcr": {"types"},
    "film_names": set(),
    "video_input": {"errors", "film_names", "ycbcr"},
    "video_output": {"errors", "files", "ycbcr", "video_input"},
    "video": {
        *(
            "checks",
            "errors",
            "image",
            "layout",
            "weights",
            "compiled",
            "enhancer",
            "files",
            "temporal",
        ),
        *("ycbcr", "video_input", "video_output"),
    },
    "balance": {"types"},
    "distances": {"types", "metrics"},
    "positive_direction": {"types", "image", "distances"},
    "negative_direction": {"types", "image", "distances", "positive_direction"},
    "explanation": {"types", "balance", "positive_direction"},
    "losses": {
        *("types", "balance", "distances", "positive_direction", "negative_direction"),
        "explanation",
    },
    "weights": {"copies", "errors", "files", "places"},
    "shapes": {"errors", "weights"},
    "program_kinds": {"checks", "dial", "model", "shapes", "tiling", "weights"},
    "traced_programs": {"weights"},
    "programs": {
        *("cache", "executable", "program_kinds", "shapes", "traced_programs", "weights"),
    },
    "host_memory": set(),
    "together": set(),
    "enhancer": {
        *("bars", "host_memory", "together"),
        *("cache", "checks", "executable", "layout", "program_inputs", "programs", "shapes"),
        "weights",
    },
    "inference": {"enhancer", "weights"},
    "photos": {"bars", "errors", "files", "film_names", "host_memory", "places"},
    "photo": {"errors", "files", "photos", "places"},
    "sheet": set(),
    "pipeline": {"errors"},
    "report": {"errors", "photo", "places"},
    "enhance_films": {
        *("copies", "checks", "errors", "files", "enhancer", "weights", "photos", "report"),
        *("video", "film_names", "places"),
    },
    "enhance_photos": {
        *("__init__", "errors", "enhancer", "photo", "photos", "sheet", "pipeline", "report"),
        *("enhance_films", "places"),
    },
    "pair_physics": {"places", "errors", "calibration", "files", "fitting", "photo", "physics"},
    "photo_info": {"places", "photo", "photos"},
    "export": {
        *("__init__", "checks", "errors", "image", "layout", "enhancement", "model", "dial"),
        *("enhancer", "evidence", "shapes", "weights"),
        *("files", "program_kinds", "traced_programs"),
    },
    "export_command": {"places", "errors", "export", "files", "weights"},
    "page": {"__init__", "errors", "export", "files", "layout", "user_cache", "weights"},
    "page_command": {"places", "page"},
    "serve": {
        *("__init__", "errors", "enhancer", "files", "page", "photo", "photos", "user_cache"),
        "weights",
    },
    "serve_command": {"errors", "serve", "weights"},
    "archive": {
        *(
            "__init__",
            "errors",
            "enhance_photos",
            "enhancer",
            "files",
            "photo",
            "photos",
            "pipeline",
        ),
        *("places", "weights"),
    },
    "archive_command": {"archive", "checks", "enhance_photos", "errors", "places", "weights"},
    "cli": {
        *("places", "__init__", "archive_command", "errors", "enhance_photos"),
        *("export_command", "pair_physics", "page_command", "photos", "photo_info"),
        *("serve_command", "weights"),
    },
}
"""Module of pdn_jax -> the modules of pdn_jax that it may import."""

IMPORTED_AS = {
    "absl-py": "absl",
    "ml-collections": "ml_collections",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "pillow-jxl-plugin": "pillow_jxl",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "tensorflow-datasets": "tensorflow_datasets",
}
"""Distribution -> what its import is called, where the two differ."""


def sources(*folders):
    """Path -> syntax tree of every Python file in these folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths}


LIBRARY, PROGRAM = sources("pdn_jax"), sources("train")
CODE = LIBRARY | PROGRAM | sources("benchmarks")
SHIPPED = CODE | sources("configs")
ALL = SHIPPED | sources("tests")


def offences(check, files):
    """Whatever a check objects to in these files, as 'path: what'; a test wants it empty."""
    return [f"{path}: {what}" for path, tree in files.items() for what in check(tree)]


# --- imports ---------------------------------------------------------------------------------


def imported(tree):
    """Dotted names of all that a module imports, at its head or inside of functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def roots(tree):
    """Top-level packages that a module imports, those of Python aside; '' for a relative import."""
    return {name.split(".")[0] for name in imported(tree)} - sys.stdlib_module_names


def neighbours(tree):
    """Modules of pdn_jax that a module imports; `from pdn_jax import __version__` is `__init__`."""
    parts = [name.split(".") for name in imported(tree) if name.split(".")[0] == "pdn_jax"]
    return {part[1] if part[1:] and part[1] in ARROWS else "__init__" for part in parts}


def declared(*requirements):
    """What the distributions of these lists of requirements are imported as."""
    lists = [re.match(r"[\w-]+", line).group() for lines in requirements for line in lines]
    return {IMPORTED_AS.get(name, name) for name in lists}


def room(path):
    """The module or package of pdn_jax that a file of it belongs to."""
    return Path(path.parts[1]).stem


def test_arrows_point_one_way():
    TopologicalSorter(ARROWS).prepare()  # raises where they run in a circle
    assert sorted(ARROWS) == sorted({room(path) for path in LIBRARY})
    wrong = {path: neighbours(tree) - ARROWS[room(path)] for path, tree in LIBRARY.items()}
    assert {
        path: extra - {room(path)} for path, extra in wrong.items() if extra - {room(path)}
    } == {}


def test_library_imports_only_what_it_declares():
    allowed = declared(PROJECT["project"]["dependencies"]) | {"pdn_jax"}
    assert allowed.isdisjoint({"train", "configs", "benchmarks", "absl", "ml_collections"})
    # What listens is an extra, imported where it is at work and nowhere else.
    extra = declared(PROJECT["project"]["optional-dependencies"]["serve"])
    rooms = {"serve": extra, "serve_command": {"uvicorn"}}
    assert [
        f"{path}: {more}"
        for path, tree in LIBRARY.items()
        if (more := roots(tree) - allowed - rooms.get(room(path), set()))
    ] == []


def test_program_imports_only_what_it_declares():
    extras = PROJECT["project"]["optional-dependencies"]
    needed = (PROJECT["project"]["dependencies"], extras["train"], extras["wandb"])
    allowed = declared(*needed) | {"pdn_jax", "train"}
    assert offences(lambda tree: roots(tree) - allowed, PROGRAM) == []


def test_benchmarks_import_only_what_is_declared():
    extras = PROJECT["project"]["optional-dependencies"]
    needed = (
        PROJECT["project"]["dependencies"],
        *(extras[k] for k in ("train", "compare", "photos", "export")),
    )
    allowed = declared(*needed) | {"pdn_jax", "train", "configs", "benchmarks"}
    allowed |= {"playwright"}  # of the tests, which benchmarks.page asks for
    assert offences(lambda tree: roots(tree) - allowed, sources("benchmarks")) == []


def test_configs_know_only_ml_collections_and_each_other():
    def foreign(tree):
        return {
            name
            for name in imported(tree)
            if not re.match(r"ml_collections|configs\.(base|real|restrained)", name)
        }

    assert offences(foreign, sources("configs")) == []


def test_every_library_module_loads_when_first_used():
    for module in ARROWS.keys() - {"__init__", "__main__"}:
        assert module in pdn_jax._MODULES
        assert getattr(pdn_jax, module).__name__ == f"pdn_jax.{module}"


@pytest.mark.parametrize(
    "argument", ["import pdn_jax", "from pdn_jax.cli import main; main(['-h'])"]
)
def test_jax_is_not_imported_before_it_is_needed(argument):
    code = f"import atexit, sys; atexit.register(lambda: print('jax' in sys.modules)); {argument}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout.split()[-1]) == (0, "False"), result.stderr


# --- size, names, docstrings -----------------------------------------------------------------

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


LONGEST, LOOP = 70, 120
"""Lines of a function at most, and of the one that reads from top to bottom: the training loop."""


def long_functions(tree, most=LONGEST):
    """Functions of more lines than that, decorators not counted."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    return [node.name for node in nodes if node.end_lineno - node.lineno >= most]


def public(tree):
    """Public functions and classes of a module, and what is public in those."""
    bodies = [tree.body]
    for body in bodies:
        for node in body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and is_public(node.name):
                yield node
                bodies += [node.body] if isinstance(node, ast.ClassDef) else []


def undocumented(tree):
    """Public functions, classes and methods without a docstring, and the module itself."""
    missing = [] if ast.get_docstring(tree) else ["the module"]
    return missing + [node.name for node in public(tree) if not ast.get_docstring(node)]


SECTION = re.compile(r"^(Args|Returns|Yields|Raises):\n((?:[ ]+.*\n|\n)*)", re.M)


def half_documented(tree):
    """What the docstrings of public functions lack of `Args:`, `Returns:` (or `Yields:`), `Raises:`.

    Functions without arguments may say it all in a line.
    """
    lacking = []
    for node in public(tree):
        if isinstance(node, ast.ClassDef) or not (wanted := arguments(node)):
            continue
        said = dict(SECTION.findall((ast.get_docstring(node) or "") + "\n"))
        named = re.findall(r"^    (\*{0,2}\w+):", said.get("Args", ""), re.M)
        if named != wanted:
            lacking.append(f"{node.name}: Args of {', '.join(wanted)}")
        if returns_something(node) and not {"Returns", "Yields"} & said.keys():
            lacking.append(f"{node.name}: Returns")
        if (
            any(isinstance(n, ast.Raise) and n.exc for n in own_nodes(node))
            and "Raises" not in said
        ):
            lacking.append(f"{node.name}: Raises")
    return lacking


def arguments(function):
    """Names of all parameters as a docstring lists them, `*args` and `**kwargs` starred."""
    given, stars = function.args, []
    stars += [f"*{given.vararg.arg}"] if given.vararg else []
    plain = [a.arg for a in (*given.posonlyargs, *given.args)]
    last = [f"**{given.kwarg.arg}"] if given.kwarg else []
    names = [*plain, *stars, *(a.arg for a in given.kwonlyargs), *last]
    return [name for name in names if name not in ("self", "cls")]


def own_nodes(function):
    """Nodes of a function, those of functions inside it left out."""
    nodes = list(function.body)
    for node in nodes:
        if not isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            nodes += ast.iter_child_nodes(node)
    return nodes


def returns_something(function):
    """Whether a function returns or yields anything but None."""
    results = [n for n in own_nodes(function) if isinstance(n, (ast.Return, ast.Yield))]
    return any(n.value and getattr(n.value, "value", n.value) is not None for n in results)


def is_public(name):
    """Names without an underscore ahead, and `__call__`, which is how Linen modules are used."""
    return name == "__call__" or not name.startswith("_")


def parameters(function):
    """Names of all parameters in order, `self` and `cls` left out."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def late_keys(tree):
    """Functions that take a `key` which is not their first argument."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, (*FUNCTIONS, ast.Lambda))]
    late = [node for node in nodes if "key" in parameters(node)[1:]]
    return [f"{getattr(node, 'name', 'lambda')}, line {node.lineno}" for node in late]


def bound(tree):
    """Every name that a module gives to something: parameters, variables, attributes, imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def hidden_failures(tree):
    """Bare `except:` and `nan_to_num`, which make a fault look like a result."""
    nodes = list(ast.walk(tree))
    bare = [f"bare except, line {n.lineno}" for n in nodes if is_bare_except(n)]
    named = [n for n in nodes if isinstance(n, (ast.Name, ast.Attribute, ast.alias))]
    names = {getattr(n, field, None) for n in named for field in ("id", "attr", "name")}
    return bare + sorted({"nan_to_num"} & names)


def is_bare_except(node):
    return isinstance(node, ast.ExceptHandler) and node.type is None


def test_files_are_short():
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in SHIPPED}
    most = {path: 320 if path.startswith("train/") else 330 for path in lengths}
    assert {path: lines for path, lines in lengths.items() if lines > most[path]} == {}


def test_functions_are_short():
    loop = Path("train/loop.py")
    others = {path: tree for path, tree in CODE.items() if path != loop}
    assert offences(long_functions, others) == []  # a config is one long list
    assert long_functions(CODE[loop]) == ["train"]
    assert long_functions(CODE[loop], LOOP) == []


def test_everything_public_has_a_docstring():
    assert offences(undocumented, LIBRARY | PROGRAM) == []


def test_public_functions_say_what_they_take_return_and_raise():
    # `photos` is the inside of `photo`: of its functions those count that `photo` offers.
    offered = {
        f"{node.module.replace('.', '/')}.py: {alias.name}:"
        for node in CODE[Path("pdn_jax/photo.py")].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lacking = offences(half_documented, LIBRARY)
    inside = [each for each in lacking if each.startswith("pdn_jax/photos/")]
    assert [each for each in lacking if each not in inside] == []
    assert [each for each in inside if each.startswith(tuple(offered))] == []


def test_key_is_the_first_argument():
    assert offences(late_keys, LIBRARY | PROGRAM) == []


def test_a_key_is_split_or_folded_and_used_once():
    assert offences(key_offences, SHIPPED) == []


def test_names():
    assert offences(lambda tree: bound(tree) & {"img", "gt", "utils"}, ALL) == []
    assert offences(lambda tree: bound(tree) & {"rng"}, LIBRARY) == []
    assert not {"img", "gt", "utils"} & {path.stem for path in ALL}


VAGUE = {"found", "told", "ahead", "again"}
"""Names that say nothing of what they hold: an estimate, a result, what is conditioned on."""


def test_names_say_what_they_hold():
    assert offences(lambda tree: bound(tree) & VAGUE, LIBRARY | PROGRAM) == []


def test_no_failure_is_hidden():
    assert offences(hidden_failures, SHIPPED) == []


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (long_functions, "def f():\n" + 70 * "    x = 1\n"),
        (undocumented, "'''Module.'''\ndef f(): pass"),
        (undocumented, "'''Module.'''\nclass C:\n    '''Class.'''\n    def f(self): pass"),
        (undocumented, "x = 1"),
        (late_keys, "def f(x, key): pass"),
        (late_keys, "def f(x, *, key): pass"),
        (late_keys, "f = lambda x, key: x"),
        (half_documented, "def f(x):\n    'Does.'"),
        (half_documented, "def f(x):\n    'Does.\\n\\nArgs:\\n    y: it.'"),
        (half_documented, "def f(x):\n    'Does.\\n\\nArgs:\\n    x: it.'\n    return x"),
        (half_documented, "def f(x):\n    'Does.\\n\\nArgs:\\n    x: it.'\n    raise x"),
        (half_documented, "class C:\n    def __call__(self, x):\n        'Does.'"),
        (key_offences, "def f(key):\n    a, b = random.split(key)\n    return random.normal(key)"),
        (key_offences, "def f(key):\n    return random.split(key), random.fold_in(key, n)"),
        (key_offences, "def f(key):\n    return random.normal(random.fold_in(key, 3))"),
        (key_offences, "def f(key, x):\n    return jnp.where(g(x), draw(key, x), other(key, x))"),
        (key_offences, "def f(key):\n    for x in y:\n        g(key, x)"),
        (key_offences, "def f(key):\n    return [jax.random.normal(key) for _ in range(3)]"),
        (key_offences, "def f(key):\n    if x:\n        g(key)\n    return g(key)"),
        (key_offences, "def f(key):\n    g = lambda x: draw(key, x)\n    return draw(key, 1)"),
        (
            key_offences,
            "def f(key):\n    a = random.fold_in(key, i)\n    for x in y:\n        g(key)",
        ),
        (key_offences, "def f(keys):\n    return g(keys['a']), g(keys['a'])"),
        (key_offences, "f = lambda key: jax.random.fold_in(key, i) + jax.random.fold_in(key, j)"),
        (key_offences, "def f(self):\n    return random.normal(self.key), random.normal(self.key)"),
        (key_offences, "from jax.random import normal"),
        (key_offences, "import jax.random as draws"),
        (key_offences, "from jax import random as draws"),
        (hidden_failures, "try:\n    f()\nexcept:\n    pass"),
        (hidden_failures, "jnp.nan_to_num(x)"),
        (hidden_failures, "from jax.numpy import nan_to_num as f"),
        (lambda tree: bound(tree) & VAGUE, "found = 1"),
        (lambda tree: bound(tree) & {"img"}, "def f(img): pass"),
        (lambda tree: bound(tree) & {"gt"}, "for gt in x: pass"),
        (lambda tree: bound(tree) & {"utils"}, "from x import y as utils"),
        (lambda tree: neighbours(tree) & {"losses"}, "def f():\n    from pdn_jax import losses"),
        (lambda tree: neighbours(tree) & {"cli"}, "import pdn_jax.cli"),
        (lambda tree: roots(tree) & {"absl"}, "from absl import flags"),
        (lambda tree: roots(tree) & {""}, "from . import types"),
    ],
)
def test_checks_see_what_they_are_for(check, source):
    assert check(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "def f(key):\n    a, b = random.split(key)\n    return random.normal(a), random.normal(b)",
        "def f(key):\n    if x:\n        return g(key)\n    return g(key)",
        "def f(key):\n    return g(key) if x else h(key)",
        "def f(key):\n    for x in y:\n        key, own = random.split(key)\n        g(own, x)",
        "def f(root, step):\n    return [g(random.fold_in(root, i)) for i in range(step)]",
        "def f(key):\n    keys = dict(zip(NAMES, random.split(key, 2)))\n    g(keys['a'], keys['b'])",
        "def f(keys):\n    return len(keys), jax.vmap(g)(keys)",
        "def f(root):\n    for x in y:\n        g(random.fold_in(root, x))",
        "def f(key: str):\n    return self.put(key, self.get(key))",
        "def f(key):\n    def g(key):\n        return random.normal(key)\n    return g(key)",
    ],
)
def test_sound_uses_of_keys_are_let_be(source):
    assert key_offences(ast.parse(source)) == []


# --- options ---------------------------------------------------------------------------------


def options(config, prefix=""):
    """Dotted names of all options of a config, sections left out."""
    names = set()
    for name, value in config.items():
        inside = isinstance(value, ConfigDict)
        names |= options(value, f"{prefix}{name}.") if inside else {prefix + name}
    return names


def assigned(node):
    """(target, value) of an assignment; of `a, b = x, y` both."""
    (target, *_), value = node.targets, node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return zip(target.elts, value.elts, strict=True)
    return [(target, value)]


def options_read(tree):
    """Options read as `config.section.name`, also through a local `section = config.section`."""
    read = set()
    for function in [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]:
        nodes = list(ast.walk(function))
        local = {
            name.id: ast.unparse(value)
            for node in nodes
            if isinstance(node, ast.Assign)
            for name, value in assigned(node)
            if isinstance(name, ast.Name) and name.id != "config"
        }
        for text in [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)]:
            head, _, rest = text.partition(".")
            start, _, option = f"{local.get(head, head)}.{rest}".partition(".")
            if start == "config" and option.split(".")[-1] not in dir(ConfigDict):
                read.add(".".join(option.split(".")[:2]))  # not what an option's value has
    return read


def test_every_option_is_read_and_every_one_read_is_declared():
    config = base.get_config()
    read = set().union(*(options_read(tree) for tree in PROGRAM.values()))
    sections = {name for name, value in config.items() if isinstance(value, ConfigDict)}
    assert options(config) - read == set()
    assert read - sections - options(config) == set()


def test_reading_an_option_is_seen():
    source = (
        "def f(config):\n    part, x = config.loss, 1\n    return part.ramp + config.train.steps"
    )
    assert options_read(ast.parse(source)) == {"loss", "loss.ramp", "train", "train.steps"}


def test_every_option_says_what_it_is():
    lines = (ROOT / "configs" / "base.py").read_text().splitlines()
    given = [line for line in lines if re.match(r"\s+config\.[\w.]+ = (?!ConfigDict)", line)]
    assert len(given) == len(options(base.get_config()))
    assert [line for line in given if not re.search(r"  # \w", line)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_configs_are_locked_and_change_declared_options_only(path):
    config = importlib.import_module(f"configs.{path.stem}").get_config()
    assert config.is_locked
    assert options(config) == options(base.get_config())
    with pytest.raises(AttributeError, match="learning_rate"):
        config.train.learning_rat = 1.0


# --- the project around it -------------------------------------------------------------------


def test_ci_and_readme_have_the_same_commands():
    script, readme = ROOT / ".ci" / "run", (ROOT / "README.md").read_text().splitlines()
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == TEST_COMMAND
    assert TEST_COMMAND in [line.strip() for line in readme]
    assert TRAIN_COMMAND in [line.strip() for line in readme]


def test_contributing_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60


def test_the_wheel_ships_the_library_only():
    setuptools = PROJECT["tool"]["setuptools"]
    patterns = setuptools["packages"]["find"]["include"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {"pdn_jax", "train", "configs"} <= packages
    assert {p for p in packages if any(fnmatch(p, wanted) for wanted in patterns)} == {"pdn_jax"}
    assert (ROOT / "pdn_jax" / "py.typed").is_file()
    assert "py.typed" in setuptools["package-data"]["pdn_jax"]


def test_version_and_licence():
    assert PROJECT["project"]["version"] == pdn_jax.__version__
    (licence,) = PROJECT["project"]["license-files"]
    assert "Apache License" in (ROOT / licence).read_text()
