"""Nothing of a test session that was killed stays for long, and nothing of one that runs is touched."""

from __future__ import annotations

import sys
from pathlib import Path

from dev import session
from dev.process import Process, start


def start_server(directory: Path) -> Process:
    directory.mkdir(parents=True)
    server = start([sys.executable, "-c", "import signal; signal.pause()"], directory / "log")
    server.save(directory / "process")
    return server


def test_a_sweep_ends_the_servers_of_a_dead_session_and_no_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    mine = session.make(run)
    my_server = start_server(mine / "postgres")
    dead = run / "test-1"
    dead_server = start_server(dead / "deep" / "rabbitmq")
    Process(1, 0).save(dead / "session")
    session.sweep(run)
    assert not dead_server.alive()
    assert not dead.exists()
    assert my_server.alive()
    session.remove(mine)
    assert not my_server.alive()
    assert not run.exists()
