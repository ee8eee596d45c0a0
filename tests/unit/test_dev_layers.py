"""Arrows between the scripts point down only; import-linter sees packages and not single modules like these."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
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


TOOLS = {  # what each may not import; the tests stand on top of all of them
    "dev": {"demo", "chaos", "benchmarks", "tests"},
    "demo": {"chaos", "benchmarks", "tests"},
    "chaos": {"demo", "benchmarks", "tests"},
    "benchmarks": {"demo", "chaos", "tests"},
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tools_stand_on_dev_and_know_neither_each_other_nor_the_tests(tool: str) -> None:
    arrows = {str(path.relative_to(ROOT)): imported(path) & TOOLS[tool] for path in (ROOT / tool).rglob("*.py")}
    assert {path: up for path, up in arrows.items() if up} == {}
    assert len(arrows) > 5


def test_the_contracts_notice_an_arrow_up_one_across_and_a_module_without_a_place(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "relay", tmp_path / "relay")
    for name in ("pyproject.toml", "connection.py", "listen.py", "receiver.py"):
        shutil.copy(ROOT / name, tmp_path)
    relay = tmp_path / "relay"
    for path, line in {
        "listening/check.py": "from relay.receiving.parking import unpark",
        "amqp/topology.py": "from relay.listening import outbox",
        "receiving/barriers.py": "from relay.receiving import dispatcher",
        "targets/odoo/call.py": "from relay.targets import http",
        "receiving/new.py": "",
    }.items():
        with (relay / path).open("a") as file:
            file.write(f"\n{line}\n")
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    for told in (
        "relay.listening is not allowed to import relay.receiving",
        "relay.amqp is not allowed to import relay.listening",
        "relay.receiving.barriers is not allowed to import relay.receiving.dispatcher",
        "relay.targets.odoo.call is not allowed to import relay.targets.http",
        "relay.receiving.new",
    ):
        assert told in said, told
