"""The sentences of the product, read from its syntax tree: what the log says, what ends a session, what `check` finds.

A sentence is a text whose variable parts are `...`. A name in its place stands for all that is assigned to it in its
function, or in its module.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [ROOT / name for name in ("listen.py", "receiver.py", "connection.py")]
LEVELS = ("info", "warning", "error")
LOGS = ("_log", "log")  # what loggers are called: self._log, log
FORWARDERS = {"_report": "warning", "_format_own": "warning"}  # methods that write their argument to the log
ERRORS = ("Unavailable", "Standby", "Ousted", "ConfigError")
FINDINGS = ("Finding", "failed", "warning", "measured", "of_error")
DETAIL = {"Finding": 2, "measured": 2}  # at which place; 1 else
DEPTH, MANY = 6, 40  # of expressions in each other; texts that one can be

Names = dict[str, list[ast.expr]]


class Call(NamedTuple):
    """A call of a function by its name, or of a method."""

    module: str
    whose: str  # of which object; empty = a function
    what: str
    first: list[str]  # what the first argument can be
    detail: list[str]  # what the argument `detail` can be


class Module:
    """A module of the product."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self._tree = ast.parse(path.read_text())
        self._constants = _assigned(self._tree.body)
        self._imported = {
            alias.asname or alias.name: node.module or ""
            for node in ast.walk(self._tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def calls(self) -> Iterator[Call]:
        for node, names in self._nodes(self._tree, {}):
            if isinstance(node, ast.Call) and node.args:
                for whose, what in self._called(node, names):
                    first = node.args[0]
                    if what == "ConfigError" and isinstance(first, ast.Tuple):
                        first = first.elts[0]
                    said = [plain(text) for text in self.texts(first, names)]
                    yield Call(self.name, whose, what, said, self._detail(node, what, names))
            elif (
                isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and self.name == "relay/transport.py"
            ):
                yield Call(self.name, "log", "warning", self.texts(node.value.elts[1], names), [])

    def fields(self) -> set[str]:
        """The names of what is said beside a sentence."""
        nodes = (node for node in ast.walk(self._tree) if isinstance(node, ast.Call))
        return {one.arg for node in nodes for one in node.keywords if one.arg}

    def literals(self) -> list[str]:
        """All texts, whatever they are for."""
        kinds = (node for node in ast.walk(self._tree) if isinstance(node, ast.Constant | ast.JoinedStr))
        return [plain(text) for node in kinds for text in self.texts(node, {})]

    def texts(self, node: ast.expr, names: Names, depth: int = 0) -> list[str]:
        """What an expression can be."""
        inner = functools.partial(self.texts, names=names, depth=depth + 1)
        if depth > DEPTH:
            return ["..."]
        if isinstance(node, ast.Constant):
            return [node.value if isinstance(node.value, str) else "..."]
        if isinstance(node, ast.IfExp):
            return inner(node.body) + inner(node.orelse)
        if isinstance(node, ast.BoolOp):
            return [text for one in node.values for text in inner(one)]
        parts: list[ast.expr] = []
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.FormattedValue) else one for one in node.values]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [node.left, node.right]
        if parts:
            found = itertools.islice(itertools.product(*map(inner, parts)), MANY)
            return ["".join(one) for one in found]
        return self._named(node, names, depth) if isinstance(node, ast.Name) else ["..."]

    def _named(self, node: ast.Name, names: Names, depth: int) -> list[str]:
        found = names.get(node.id) or self._constants.get(node.id, [])
        if found:
            return [text for one in found for text in self.texts(one, names | {node.id: []}, depth + 1)]
        where = self._imported.get(node.id, "")
        return modules()[where].texts(node, {}, depth + 1) if node.id.isupper() and where in modules() else ["..."]

    def _called(self, call: ast.Call, names: Names) -> list[tuple[str, str]]:
        """Of which object, and what; of `write = log.warning if loud else log.info` both."""
        if isinstance(call.func, ast.Attribute):
            return [(ast.unparse(call.func.value), call.func.attr)]
        what = call.func.id if isinstance(call.func, ast.Name) else ""
        nodes = [node for one in names.get(what, []) for node in ast.walk(one) if isinstance(node, ast.Attribute)]
        return [(ast.unparse(node.value), node.attr) for node in nodes if node.attr in LEVELS] or [("", what)]

    def _detail(self, call: ast.Call, what: str, names: Names) -> list[str]:
        place = DETAIL.get(what, 1)
        found = call.args[place] if len(call.args) > place else None
        found = next((one.value for one in call.keywords if one.arg == "detail"), found)
        return self.texts(found, names) if found else []

    def _nodes(self, node: ast.AST, names: Names) -> Iterator[tuple[ast.AST, Names]]:
        """All nodes, with what the names of the functions around them can be."""
        for child in ast.iter_child_nodes(node):
            known = names
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                known = {**names, **_assigned(ast.walk(child))}
            yield child, known
            yield from self._nodes(child, known)


def _assigned(nodes: Iterable[ast.AST]) -> Names:
    """Names, and what is assigned to them."""
    found: Names = {}
    for node in nodes:
        if isinstance(node, ast.For | ast.comprehension):  # whatever is gone through
            pairs = [(name, ast.Constant(None)) for name in ast.walk(node.target)]
        elif isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        else:
            continue
        for name, value in pairs:
            if isinstance(name, ast.Name):
                found.setdefault(name.id, []).append(value)
    return found


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.AST, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


@functools.cache
def modules() -> dict[str, Module]:
    """All of the product, by dotted name."""
    paths = [*SCRIPTS, *sorted((ROOT / "relay").rglob("*.py"))]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths]
    return {name.removesuffix(".__init__"): Module(path) for name, path in zip(names, paths, strict=True)}


@functools.cache
def calls() -> list[Call]:
    return [call for module in modules().values() for call in module.calls()]


def plain(text: str) -> str:
    """One line, and no two variable parts beside each other."""
    return re.sub(r"\.\.\.[\s'.]*\.\.\.", "...", " ".join(text.split()))


def logged(*levels: str) -> list[list[str]]:
    """What each call writes to the log, at these levels."""
    found = [call.first for call in calls() if call.whose.split(".")[-1] in LOGS and call.what in levels]
    return found + [call.first for call in calls() if FORWARDERS.get(call.what) in levels]


def errors() -> list[list[str]]:
    """What ends a session or the process, by call."""
    return [call.first for call in calls() if not call.whose and call.what in ERRORS]


def findings() -> list[list[str]]:
    """What each call of `check` finds: name and detail."""
    found = [call for call in calls() if not call.whose and call.what in FINDINGS]
    return [
        [plain(f"{name}: {text}" if text else name) for name in call.first for text in call.detail or [""]]
        for call in found
        if call.module != "relay/findings.py"
    ]
