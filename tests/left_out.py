"""What make test leaves to make test-long, so that it stays below eight minutes: no promise, and no function of a test.

By hand (pytest with a path, or -k) all of it is run.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

LISTED = Path(__file__).parent / "left_out.txt"
"""Tests that take long, and hold no promise by themselves, as path below tests/, two colons, name."""
FAST = "tests/unit/"
_OF_EACH = {6: 3, 4: 2}  # from so many sets of parameters on, one of so many is run


def left_out(names: Sequence[str]) -> set[str]:
    """Of these tests, as pytest writes them: `tests/sql/test_x.py::test_y[z]`."""
    listed = {f"tests/{line}" for line in LISTED.read_text().splitlines()}
    sets = collections.defaultdict[str, list[str]](list)
    for name in names:
        sets[name.partition("[")[0]].append(name)
    found = set[str]()
    for test, of_it in sets.items():
        step = next((step for least, step in _OF_EACH.items() if len(of_it) >= least), 1)
        if test in listed:
            found.update(of_it)
        elif not test.startswith(FAST):
            found.update(set(of_it) - set(of_it[::step]))
    return found
