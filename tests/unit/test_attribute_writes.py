"""The measure of state that two places change: what it counts, what it does not, and what it says above the limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import attribute_writes
from dev.attribute_writes import main, writes

COUNTED = """
def other(x, xs):
    x.a = 1
    x.b += 1
    x.c: int = 1
    (x.d, [y, *x.e]) = xs
    for x.f in xs:
        pass
    with open("f") as x.g:
        pass
    xs[0].h = x.i.j = 1
    found = xs.get(1)
    found.k = 1
    self.l.m = 1
x.n = 1
"""
NOT_COUNTED = """
class A:
    b = 1
    def __init__(self):
        self.a = self.b = 1
    @classmethod
    def new(cls):
        cls.a = 1
        made = cls()
        made.b = 2
        other: A = _A()
        other.b = 1
        copied = copy.copy(other)
        copied.a = 1
        other["b"] = 1
"""
CLOSURE = """
def outer():
    made = A()
    def inner():
        made.a = 1
"""


def test_each_way_to_assign_to_another_objects_attribute_is_counted() -> None:
    assert sorted(name[-1] for _, name in writes(COUNTED)) == list("abcdefghjkmn")


def test_what_is_its_own_or_was_made_here_is_not() -> None:
    assert writes(NOT_COUNTED) == []


def test_what_an_outer_function_has_made_is_another_objects_for_an_inner_one() -> None:
    assert writes(CLOSURE) == [(5, "made.a")]


def test_above_the_limit_each_write_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "relay"
    folder.mkdir()
    (folder / "one.py").write_text("x.y = 1\n" + "\n" * 332)
    assert main(folder) == 1
    assert "relay/one.py:1: x.y\n1 writes" in capsys.readouterr().out
    (folder / "one.py").write_text("x.y = 1\n" + "\n" * 333)
    assert main(folder) == 0
    assert capsys.readouterr().out == ""


def test_the_relay_keeps_it() -> None:
    assert attribute_writes.LIMIT <= 3.0
    assert main() == 0
