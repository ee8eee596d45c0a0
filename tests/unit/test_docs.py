"""The documentation names every command, and every link in it leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from relay.targets.odoo import failures

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(script: str) -> list[str]:
    """The commands that `script --help` lists."""
    shown = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^    ([a-z]+)  ", shown, re.MULTILINE)
    assert found, shown
    return found


@pytest.mark.parametrize("script", ["listen.py", "receiver.py"])
def test_every_command_is_documented(script: str) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in commands(script) if f"{script} {name}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    here = [link for link in links if link and not link.startswith("http")]
    assert [link for link in here if not (page.parent / link).exists()] == []


def test_every_sql_function_for_people_is_documented() -> None:
    text = (ROOT / "docs" / "sql.md").read_text() + (ROOT / "README.md").read_text()
    for name in ("watch", "unwatch", "publish", "publish_many", "watched", "pending"):
        assert f"relay.{name}" in text, name


def test_every_rule_about_odoos_failures_is_documented() -> None:
    text = (ROOT / "docs" / "odoo.md").read_text()
    assert [name for name, _ in failures.BY_NAME if name not in text] == []


PARTS = ("relay", "sql", "dev", "packaging", "demo", "chaos", "benchmarks", "docs", "tests")


def test_code_names_only_files_that_are_here() -> None:
    """A comment that cites what is not in the repository explains nothing."""
    files = [*ROOT.glob("*.*"), *(path for part in PARTS for path in (ROOT / part).rglob("*.*"))]
    code = [path for path in files if path.suffix in (".py", ".sql") and "tests" not in path.parts]
    named = {(path.name, name) for path in code for name in re.findall(r"[\w-]+\.(?:md|py)\b", path.read_text())}
    assert len(named) > 20
    assert sorted(one for one in named if one[1] not in {path.name for path in files}) == []
