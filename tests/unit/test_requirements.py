"""What is installed is pinned, with hashes, whatever it is needed by."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = ["requirements", "requirements-dev", "requirements-mysql", "requirements-sqlite"]


def asked(name: str) -> dict[str, str]:
    """What we ask for ourselves: name and version."""
    lines = (ROOT / f"{name}.in").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith(("#", "-")))


def pinned(name: str) -> dict[str, str]:
    """What is installed: name and version. Each with a hash, and nothing else in the file."""
    found = {}
    text = (ROOT / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("#") or line == "-r requirements.txt":
            continue
        one = re.fullmatch(r"([a-z0-9-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)", line.rstrip())
        assert one, line
        found[one[1]] = one[2]
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_pins_hold_what_is_asked_for(name: str) -> None:
    assert asked(name).items() <= pinned(name).items()


@pytest.mark.parametrize("name", FILES)
def test_all_that_is_needed_is_pinned_as_it_is_installed(name: str) -> None:
    pins, todo, seen = pinned("requirements") | pinned(name), list(asked(name)), set()
    while todo:
        one = canonicalize_name(todo.pop())
        if one in seen:
            continue
        seen.add(one)
        assert pins.get(one) == importlib.metadata.version(one), one
        needs = [Requirement(text) for text in importlib.metadata.requires(one) or []]
        todo += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert seen <= set(pins)


@pytest.mark.parametrize("name", FILES[1:])
def test_the_files_agree(name: str) -> None:
    for other in FILES:
        here, there = pinned(name), pinned(other)
        assert {one: here[one] for one in here.keys() & there} == {one: there[one] for one in here.keys() & there}
