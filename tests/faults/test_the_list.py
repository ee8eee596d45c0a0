"""faults.toml names tests that are there; what has no test says why."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAULTS = tomllib.loads((HERE / "faults.toml").read_text())["faults"]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_tests_or_a_reason(fault: str) -> None:
    given = FAULTS[fault]
    assert given.keys() <= {"log", "check", "status", "why"}
    for one in (*given["log"], *given["check"], *given.get("status", [])):
        path, _, name = one.partition("::")
        assert re.search(rf"^def {name}\(", (HERE.parent / path).read_text(), re.MULTILINE), one
    assert given.get("why") or (given["log"] and given["check"] and given.get("status"))
