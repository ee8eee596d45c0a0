"""docs/promises.md names tests that exist, and the run that each belongs to, and figures that are measured."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from benchmarks.__main__ import GROUPS

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "promises.md"


@functools.cache
def runs(path: str) -> dict[str, set[str]]:
    """The tests of a file, and which of `make test` and `make test-long` run each, or some of its parameters."""
    found = {}
    for node in ast.parse((TESTS / path).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [ast.unparse(decorator) for decorator in node.decorator_list]
            always = set() if "pytest.mark.long" in marks else {"test"}
            found[node.name] = always | ({"test-long"} if any("pytest.mark.long" in mark for mark in marks) else set())
    return found


def is_right(holder: str, run: str) -> bool:
    """Is this what `make run` runs?"""
    if run == "chaos":
        return holder == "the referee"
    name = holder.strip("`")
    if run == "bench":
        return any(key.name == name for group in GROUPS for key in group.KEYS)
    path, _, test = name.partition("::")
    return (TESTS / path).is_file() and run in runs(path).get(test, ())


def test_everything_that_holds_a_promise_exists_and_is_run_as_it_says() -> None:
    rows = [row.split("|")[2:4] for row in PAGE.read_text().splitlines() if row.startswith("| ")]
    named = [
        (holder.strip(), run.strip())
        for holder, said in rows
        for run in re.sub(r"\([^)]*\)", "", said).split(",")
        if holder.strip() != "held by"
    ]
    assert len(named) > 50
    assert [(holder, run) for holder, run in named if not is_right(holder, run)] == []
