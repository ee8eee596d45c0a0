"""docs/operations.md names all that the log says and `check` finds, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from relay import cli, daemon
from tests import sentences
from tests.sentences import plain

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
LEVELS = {"INFO": "info", "WARNING": "warning", "ERROR": "error"}


def rows(heading: str) -> list[list[str]]:
    """The rows of the tables of a section, without their heads."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert found, heading
    return [row for row in found if "`" in row[0] or row[0].isdigit()]


def said(heading: str) -> set[str]:
    return {plain(one) for row in rows(heading) for one in re.findall(r"`([^`]+)`", row[0])}


def words(text: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", text))


SECTIONS = [  # functions: to read all of the product takes seconds, which each collection of the tests would take
    ("The log", lambda: sentences.logged("info", "warning", "error"), 1),
    ("Why a daemon waits or ends, or a command fails", sentences.errors, 2),
    ("What `check` finds", sentences.findings, 1),
]


@pytest.mark.parametrize(("heading", "read", "least"), SECTIONS, ids=["log", "errors", "check"])
def test_what_the_code_says_stands_in_the_page_and_the_other_way_round(
    heading: str, read: Callable[[], list[list[str]]], least: int
) -> None:
    """Of a call that can say several things one is enough; what is all variable (least) stands where it is made."""
    shown, calls = said(heading), read()
    missing = [texts for texts in calls if not shown & set(texts) and all(words(text) >= least for text in texts)]
    never = {"asked to stop"}  # ends a session in silence
    assert [texts for texts in missing if not never & set(texts)] == []
    assert shown - {text for texts in calls for text in texts} == set()


def test_the_levels_of_the_log_are_the_codes() -> None:
    for row in rows("The log"):
        (sentence, *_) = re.findall(r"`([^`]+)`", row[0])
        known = {text for texts in sentences.logged(LEVELS[row[1]]) for text in texts}
        assert plain(sentence) in known, row


def test_what_is_seen_at_night_is_something_that_is_said() -> None:
    everything = [text for _heading, read, _least in SECTIONS for texts in read() for text in texts]
    everything += [text for module in sentences.modules().values() for text in module.literals()]
    fields = {name for module in sentences.modules().values() for name in module.fields()}
    of_servers = {"lock timeout", "permission denied", "read-only transaction"}  # PostgreSQL's own
    for row in rows("At 3 a.m."):
        for one in re.findall(r"`([^`]+)`", row[0]):
            is_field = re.fullmatch(r"(\w+)=\S*", one)
            ok = is_field and is_field[1] in fields
            assert ok or one in of_servers or any(plain(one) in text for text in everything), one


def test_each_exit_status_is_told() -> None:
    codes = {value for module in (cli, daemon) for name, value in vars(module).items() if name.startswith("EX_")}
    assert {int(row[0]) for row in rows("Exit statuses")} == codes | {2, 3}  # argparse's, and --nagios'
