"""docs/promises.md names tests that exist, and the run that each belongs to, and figures that are measured.

That those tests can fail is what dev/mutations.toml is for: for each promise, ways to break it that its tests notice.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from benchmarks.__main__ import GROUPS
from dev.mutate import table
from tests.left_out import LISTED

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "promises.md"


@functools.cache
def runs(path: str) -> dict[str, set[str]]:
    """The tests of a file, and which of `make test` and `make test-long` run each, or some of its parameters."""
    found = {}
    for node in ast.parse((TESTS / path).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [ast.unparse(decorator) for decorator in node.decorator_list]
            is_listed = f"{path}::{node.name}" in LISTED.read_text().splitlines()
            always = set() if is_listed or "pytest.mark.long" in marks else {"test"}
            is_long = is_listed or any("pytest.mark.long" in mark for mark in marks)
            found[node.name] = always | ({"test-long"} if is_long else set())
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


def promises() -> dict[str, set[str]]:
    """The promises, as their lines begin, and the tests that hold each."""
    found: dict[str, set[str]] = {}
    name = ""
    for row in PAGE.read_text().partition("## Promises")[2].partition("\n## ")[0].splitlines():
        promise, holder = ([*row.split("|"), "", ""])[1:3]
        if match := re.match(r" \*\*([^*]+)\*\*", promise):
            name = re.sub(r"\[|\]\(.*?\)", "", match[1])
        if name and holder.strip().startswith("`"):
            found.setdefault(name, set()).add(holder.strip(" `"))
    return found


# PostgreSQL itself keeps these: no small change of ours brings back what was written into a table and rolled back.
UNBREAKABLE = {
    "integration/test_listen.py::test_a_rolled_back_change_is_never_published",
    "sql/test_watch.py::test_a_rolled_back_change_leaves_no_event",
}


def test_each_test_that_holds_a_promise_notices_a_way_to_break_it() -> None:
    """What `python -m dev.mutate` has seen to fail.

    But for those of test-long, and the random programs in e2e/, which notice most things, and each by chance.
    """
    noticing = {test for one in table() for test in one.tests}
    for promise, tests in promises().items():
        certain = {test for test in tests if is_right(test, "test") and not test.startswith("e2e/")}
        assert certain - UNBREAKABLE - noticing == set(), promise
        assert certain & noticing, promise


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
