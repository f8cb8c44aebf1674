"""Random keys, read off the source: each is split or folded or used, once on any path.

A key is whatever is handed to a function of `jax.random`, or first to any other function under a
name like `key`, `image_key` or `keys["gains"]`.
"""

import ast
import re
from collections import Counter
from typing import NamedTuple

KEY = re.compile(r"(\w+\.)*(\w+_)?keys?(\[.+\])?")
"""Names by which keys are handed on, attributes such as `self.key` among them."""

MAKERS = {"key", "PRNGKey", "wrap_key_data", "key_data", "key_impl"}
"""Functions of `jax.random` that make a key or look at one, and draw nothing from it."""

HARMLESS = {
    "len",
    "zip",
    "enumerate",
    "str",
    "repr",
    "print",
    "isinstance",
    "sorted",
    "list",
    "set",
}
"""Functions that may be given whatever is called `key`."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def key_offences(tree):
    """Keys of a module that are used twice, or both folded and used, or folded with a literal."""
    offences = [
        f"{ast.unparse(node)}, line {node.lineno}: fold_in counts; name a stream by a split"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _random(node) == "fold_in" and _literal(node)
    ]
    offences += [
        f"{ast.unparse(node)}, line {node.lineno}: write jax.random.… or random.…, to be seen here"
        for node in ast.walk(tree)
        if _renamed(node)
    ]
    for function in [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]:
        body = function.body if isinstance(function.body, list) else [ast.Expr(function.body)]
        path = _Path(_others(function))
        path.block(body)
        place = f"{getattr(function, 'name', 'lambda')}, line {function.lineno}"
        offences += [f"{place}: {what} folded twice, or used as well" for what in sorted(path.both)]
        for what, count in path.most.items():
            if isinstance(what, str) and (
                count > 1 or ("[" in what and path.most[what.split("[")[0]])
            ):
                offences.append(f"{place}: {what} used more than once")
    return offences


def _others(function):
    """Parameters that are something else by their annotation, such as the key of a dictionary."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    said = {a.arg: ast.unparse(a.annotation) for a in given if a.annotation}
    return frozenset(name for name, text in said.items() if not re.search("Key|Array", text))


class Fold(NamedTuple):
    """A place where a key is folded."""

    key: str
    line: int
    column: int


class _Path:
    """Counts along the paths through a block.

    most: of each key, over all paths. both: keys that a path folds in two places, or also uses.
    """

    def __init__(self, others):
        self.others, self.most, self.now, self.both = others, Counter(), Counter(), set()

    def block(self, statements):
        """Count these; True where no path goes on after them."""
        return any(self.statement(node) for node in statements)

    def statement(self, node):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            # a closure uses the keys around it as often as it is called: once, as far as is seen
            self.expression(node)
            return False
        if isinstance(node, ast.If):
            self.expression(node.test)
            return self.branches([node.body, node.orelse])
        if isinstance(node, ast.Match):
            self.expression(node.subject)
            return self.branches([*(case.body for case in node.cases), []])
        if isinstance(node, LOOPS):
            for part in (getattr(node, "iter", None), getattr(node, "test", None)):
                if part is not None:
                    self.expression(part)
            for _ in range(2):  # what is used in each turn is used twice
                self.forget(getattr(node, "target", None))
                self.branches([node.body, []])
            return self.block(node.orelse)
        if isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                self.expression(item.context_expr)
            return self.block(node.body)
        if isinstance(node, ast.Try):
            self.branches([node.body + node.orelse, *(each.body for each in node.handlers)])
            return self.block(node.finalbody)
        self.expression(node)
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                self.forget(target)
        return isinstance(node, ENDS)

    def branches(self, blocks):
        """Each from here; what goes on has the most of those that do."""
        before, after = self.now, []
        for block in blocks:
            self.now = Counter(before)
            if not self.block(block):
                after.append(self.now)
        self.now = Counter(before)
        for counts in after:
            self.now |= counts
        return not after

    def forget(self, target):
        """A name that is bound anew is another key."""
        if target is None:
            return
        stored = [n for n in ast.walk(target) if isinstance(n, (ast.Name, ast.Attribute))]
        names = {ast.unparse(n) for n in stored if isinstance(n.ctx, ast.Store)}
        for what in list(self.now):
            text = what.key if isinstance(what, Fold) else what
            if text.split("[")[0] in names:
                del self.now[what]

    def expression(self, node, bound=frozenset(), times=1):
        """Count the keys that an expression uses, those of closures included."""
        if isinstance(node, FUNCTIONS):
            given = node.args
            bound = bound | {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
            stores = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            bound |= {n.id for n in stores if isinstance(n.ctx, ast.Store)}
        if isinstance(node, ast.IfExp):
            self.expression(node.test, bound, times)
            before, sides = self.now, []
            for side in (node.body, node.orelse):
                self.now = Counter(before)
                self.expression(side, bound, times)
                sides.append(self.now)
            self.now = sides[0] | sides[1]
            return
        if isinstance(node, COMPREHENSIONS):
            self.expression(node.generators[0].iter, bound, times)
            for part in node.generators:
                bound |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
                times = 2
            inner = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            for part in inner:
                self.expression(part, bound, times)
            return
        if isinstance(node, ast.Call):
            self.call(node, bound, times)
        for child in ast.iter_child_nodes(node):
            self.expression(child, bound, times)

    def call(self, node, bound, times):
        given = next((k.value for k in node.keywords if k.arg == "key"), None)
        given = node.args[0] if node.args and given is None else given
        if not isinstance(given, (ast.Name, ast.Subscript, ast.Attribute)):
            return
        text, function = ast.unparse(given), _random(node)
        if re.split(r"[.\[]", text)[0] in bound | self.others or function in MAKERS:
            return
        if function is None:
            plain = node.func.id if isinstance(node.func, ast.Name) else None
            if plain in HARMLESS or not KEY.fullmatch(text):
                return
        if function == "fold_in":
            self.now[Fold(text, node.lineno, node.col_offset)] = 1  # in each turn of a loop another
        else:
            self.now[text] += times
        self.most |= self.now
        for other in [what for what in self.now if isinstance(what, Fold)]:
            folds = [what for what in self.now if isinstance(what, Fold) and what.key == other.key]
            if len(folds) > 1 or self.now[other.key]:
                self.both.add(other.key)


def _random(node):
    """'split' of `jax.random.split(…)`; None of a call of anything else."""
    match = re.fullmatch(r"(?:jax\.|jr\.)?random\.(\w+)", ast.unparse(node.func))
    return match and match.group(1)


def _renamed(node):
    """Whether an import gives `jax.random` or a function of it another name."""
    if isinstance(node, ast.ImportFrom):
        other = any(a.name == "random" and a.asname not in (None, "random") for a in node.names)
        return node.module == "jax.random" or (node.module == "jax" and other)
    return isinstance(node, ast.Import) and any(
        a.name == "jax.random" and a.asname not in (None, "random") for a in node.names
    )


def _literal(node):
    return len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
