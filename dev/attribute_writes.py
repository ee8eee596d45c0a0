"""python -m dev.attribute_writes: who writes to another object's attributes, and how often.

A write is an assignment to `x.y` where x is neither `self` nor `cls`, nor an object that the same function has made.
Each is a state that two places change, and a reader must know both. `make lint` runs this; it fails above the limit.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = 3.0  # writes in 1,000 lines: dramatiq has 0.9, procrastinate 1.1, gunicorn's arbiter 3.9

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def writes(source: str) -> list[tuple[int, str]]:
    """The line and the target of each write, in their order. Raises SyntaxError."""
    return sorted(_in_scope(ast.parse(source)))


def _in_scope(scope: ast.AST) -> Iterator[tuple[int, str]]:
    """Those of a module or function, and of the functions in it: these write to what the outer one has made."""
    nodes = list(_own_nodes(scope))
    made = {"self", "cls"} | {name for node in nodes for name in _made(node)}
    for node in nodes:
        for target in _targets(node):
            if isinstance(target, ast.Attribute) and not (
                isinstance(target.value, ast.Name) and target.value.id in made
            ):
                yield target.lineno, ast.unparse(target)
        if isinstance(node, _Function):
            yield from _in_scope(node)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """All that is in it, but nothing that is in a function in it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, _Function):
            yield from _own_nodes(child)


def _made(node: ast.AST) -> list[str]:
    """Names that are bound to a new object here: the result of a class, or of a copy."""
    bound: list[tuple[ast.expr | None, ast.expr | None]] = []
    if isinstance(node, ast.Assign):
        bound = [(target, node.value) for target in node.targets]
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        bound = [(node.target, node.value)]
    elif isinstance(node, ast.withitem):
        bound = [(node.optional_vars, node.context_expr)]
    return [name.id for name, value in bound if isinstance(name, ast.Name) and _makes(value)]


def _makes(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).rpartition(".")[2]
        return name.lstrip("_")[:1].isupper() or name in ("cls", "copy", "deepcopy", "replace", "__new__")
    return False


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign):
        found: list[ast.expr] = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        found = [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        found = [node.optional_vars]
    else:
        return
    while found:
        target = found.pop()
        if isinstance(target, ast.Tuple | ast.List):
            found += target.elts
        else:
            yield target.value if isinstance(target, ast.Starred) else target


def main(folder: Path = ROOT / "relay") -> int:
    """Return the process's exit status: 1 above the limit, with a line for each write."""
    lines, found = 0, list[str]()
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text()
        lines += source.count("\n")
        found += [f"{path.relative_to(folder.parent)}:{line}: {target}" for line, target in writes(source)]
    rate = 1000 * len(found) / max(lines, 1)
    if rate > LIMIT:
        print(*found, sep="\n")
        print(f"{len(found)} writes to another object's attributes in {lines} lines: {rate:.1f} in 1,000, not {LIMIT}")
        print("-> give the object a method that does it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
