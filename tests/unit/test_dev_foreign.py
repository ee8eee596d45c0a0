"""Packages of another suite come from where the system's own come from, whichever way that is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import foreign
from dev.process import ServerError

DEB822 = """\
Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /keys/debian.gpg

Types: deb
# a comment
URIs: http://mirror.example/debian http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /keys/debian.gpg
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian bookworm main contrib
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    monkeypatch.setattr(foreign, "_SOURCES", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "text"), [("sources.list.d/debian.sources", DEB822), ("sources.list", ONE_LINE)])
def test_a_suite_is_looked_for_in_the_systems_archive(apt: Path, tmp_path: Path, name: str, text: str) -> None:
    (apt / name).write_text(text)
    work = tmp_path / "work"
    work.mkdir()
    settings = foreign.sources(work, "trixie")
    line = Path(settings["Dir::Etc::SourceList"]).read_text()
    assert line == "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian trixie main\n"


@pytest.mark.usefixtures("apt")
def test_a_system_without_a_debian_archive_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no Debian archive found"):
        foreign.sources(tmp_path, "trixie")
