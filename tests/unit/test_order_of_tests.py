"""The order of the tests where several processes share them, and which of them are left to make test-long."""

from __future__ import annotations

import pytest

from tests import order
from tests.left_out import LISTED, left_out
from tests.unit.test_promises import runs

LONG = [f"tests/{name}" for name in order.longest()]
MIDDLE = [f"tests/sql/test_x.py::test_{number}" for number in range(50)]
SHORT = [f"tests/unit/test_x.py::test_{number}[a]" for number in range(100)]


def test_each_of_the_longest_is_a_test_and_stands_there_once() -> None:
    lines = order.LONGEST.read_text().splitlines()
    for line in lines:
        path, _, test = line.partition("::")
        assert test in runs(path), f"{line} is no test any more: remove it from tests/longest.txt"
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("tests", [
    MIDDLE + LONG + SHORT, MIDDLE + SHORT, MIDDLE, LONG, SHORT[:1], [], LONG[:5] + MIDDLE[:1], MIDDLE[:2] + SHORT[:3],
])  # fmt: skip
def test_all_are_run_and_each_once(tests: list[str], processes: int) -> None:
    assert sorted(order.shared(tests, tests, processes)) == sorted(tests)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_each_process_begins_with_its_share_of_the_longest_and_ends_with_unit_tests(processes: int) -> None:
    tests = MIDDLE + SHORT + LONG
    ordered = order.shared(tests, tests, processes)
    for number in range(processes):
        size = len(ordered) // (processes - number)
        share, ordered = ordered[:size], ordered[size:]
        kinds = [0 if one in LONG else 1 if one in MIDDLE else 2 for one in share]
        assert kinds == sorted(kinds)
        assert kinds.count(0) >= len(LONG) // processes
        assert kinds.count(2) >= len(SHORT) // processes - 1
        assert share[0] == LONG[number]


def test_each_that_is_left_out_is_a_test_and_stands_there_once() -> None:
    lines = LISTED.read_text().splitlines()
    for line in lines:
        path, _, test = line.partition("::")
        assert test in runs(path), f"{line} is no test any more: remove it from tests/left_out.txt"
    assert lines == sorted(set(lines))


def test_of_each_other_test_something_is_run() -> None:
    listed = [f"tests/{LISTED.read_text().splitlines()[0]}[{each}]" for each in "abc"]
    few, some, many = ([f"tests/sql/test_x.py::{name}[{each}]" for each in "abcdefg"[:count]]
                       for name, count in (("few", 3), ("some", 5), ("many", 7)))  # fmt: skip
    assert left_out([*listed, *few, *some, *many, *MIDDLE, *SHORT]) == {
        *listed, some[1], some[3], many[1], many[2], many[4], many[5],
    }  # fmt: skip
