"""Arrows between the scripts point down only; import-linter sees packages and not single modules like these."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "connection.py": {"listen", "receiver", "dev", "demo"},
    "listen.py": {"receiver", "dev", "demo"},
    "receiver.py": {"listen", "dev", "demo"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("script", FORBIDDEN)
def test_a_script_imports_only_what_lies_below_it(script: str) -> None:
    assert not imported(ROOT / script) & FORBIDDEN[script]


@pytest.mark.parametrize("path", sorted((ROOT / "relay").rglob("*.py")), ids=lambda path: path.name)
def test_no_part_imports_the_scripts_or_the_development_servers(path: Path) -> None:
    assert not imported(path) & {"connection", "listen", "receiver", "dev", "demo", "tests"}
