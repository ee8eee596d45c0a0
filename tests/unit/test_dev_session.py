"""Nothing of a test session that was killed stays for long, and nothing of one that runs is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dev import session
from dev.process import Process, start


def start_server(directory: Path) -> Process:
    directory.mkdir(parents=True)
    server = start([sys.executable, "-c", "import signal; signal.pause()"], directory / "log")
    server.save(directory / "process")
    return server


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_sweep_ends_the_servers_of_a_dead_session_and_no_others(tmp_path: Path, in_memory: bool) -> None:
    run = tmp_path / "run"
    dead = session.make(run, in_memory=in_memory).rename(run / "test-1")
    dead_files = dead.resolve()
    dead_server = start_server(dead / "deep" / "rabbitmq")
    Process(1, 0).save(dead / "session")
    mine = session.make(run, in_memory=in_memory)
    files = mine.resolve()
    my_server = start_server(mine / "postgres")
    session.sweep(run)
    assert not dead_server.alive()
    assert not dead.exists()
    assert not dead_files.exists()
    assert my_server.alive()
    session.remove(mine)
    assert not my_server.alive()
    assert not files.exists()
    assert not run.exists()


def test_files_are_in_memory_only_where_there_is_plenty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PLENTY", 1 << 60)
    made = session.make(tmp_path / "run", in_memory=True)
    assert made == made.resolve()
    session.remove(made)
