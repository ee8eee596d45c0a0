"""Places at which a process can be killed: every line of the functions that do something step by step."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from dev.script import ROOT


def places(steps: Iterable[Callable[..., Any]], first: int, step: int, hits: int = 1) -> list[str]:
    """Some of the lines, those of functions within as well, as KILL_AT names them.

    Args:
        first: number of the line, of all, that comes first.
        step: then each so-many-th.
        hits: a line counts when it is reached for this time.
    """
    return [f"{name}:{line}:{hits}" for name, line in _lines(steps)[first::step]]


def _lines(steps: Iterable[Callable[..., Any]]) -> list[tuple[str, int]]:
    found = []
    for step in steps:
        assert isinstance(step, FunctionType)
        name = str(Path(step.__code__.co_filename).relative_to(ROOT))
        found += [(name, line) for line in _of(step.__code__) if line > step.__code__.co_firstlineno]
    return sorted(set(found))


def _of(code: CodeType) -> Iterator[int]:
    yield from (line for _, line in dis.findlinestarts(code) if line)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of(constant)
