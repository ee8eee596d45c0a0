"""The order of the tests, where several processes share them: the longest ones first, the shortest ones last.

xdist (worksteal) gives each process an equal number of tests, the first ones to the first, and one that has nothing
to do takes half of what another one has left, from its end. So each process begins with its share of the longest
tests, and ends with its share of the unit tests: what is left at the end can be shared down to the last second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

LONGEST = Path(__file__).parent / "longest.txt"
LAST = "tests/unit/"
T = TypeVar("T")


def longest() -> dict[str, int]:
    """The tests that take 5 s and more, as path below tests/, two colons, name, and their rank: 0 takes longest."""
    return {line: rank for rank, line in enumerate(LONGEST.read_text().splitlines())}


def shared(tests: Sequence[T], names: Sequence[str], processes: int) -> list[T]:
    """The tests in another order.

    Args:
        names: of each, as pytest writes them: `tests/unit/test_x.py::test_y[z]`.
        processes: which get shares of the same size, in the order that is returned.
    """
    ranks = longest()
    first, middle, last = list[tuple[int, T]](), list[T](), list[T]()
    for test, name in zip(tests, names, strict=True):
        rank = ranks.get(name.partition("[")[0].removeprefix("tests/"))
        if rank is not None:
            first.append((rank, test))
        else:
            (last if name.startswith(LAST) else middle).append(test)
    dealt = [test for _rank, test in sorted(first, key=lambda one: one[0])]
    ordered = list[T]()
    for number in range(processes):
        left = processes - number
        size = (len(tests) - len(ordered)) // left
        share = dealt[number::processes]
        share += _taken(middle, len(middle) // left)  # neighbours stay together: they share what is their file's
        share += _taken(last, size - len(share))
        ordered += share + _taken(middle, size - len(share))
    return ordered + middle + last


def _taken(some: list[T], count: int) -> list[T]:
    taken = some[: max(count, 0)]
    del some[: len(taken)]
    return taken
