"""Processes are found again, ended with their children, and never mistaken for others."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from dev.process import PORTS, Process, free_port, start, tail, wait_until

PARENT = """
import signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; print('child', flush=True); signal.pause()"])
print("parent", flush=True)
signal.pause()
"""


def start_family(log: Path) -> Process:
    parent = start([sys.executable, "-c", PARENT], log)
    wait_until(lambda: set(log.read_text().split()) == {"parent", "child"}, 10, "parent and child")
    return parent


def test_kill_ends_a_process_with_its_children(tmp_path: Path) -> None:
    family = start_family(tmp_path / "log").tree()
    assert len(family) == 2
    family[0].kill()
    assert not any(process.alive() for process in family)
    assert family[0].wait_status(1) == -signal.SIGKILL


def test_a_paused_family_stands_still_and_can_be_killed(tmp_path: Path) -> None:
    parent = start_family(tmp_path / "log")
    parent.pause()
    for process in parent.tree():
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0]
        assert state == "T"
    parent.resume()
    parent.pause()
    parent.kill()
    assert not parent.alive()


def test_a_process_is_found_again_by_its_file_only_while_it_lives(tmp_path: Path) -> None:
    parent = start_family(tmp_path / "log")
    parent.save(tmp_path / "pid")
    assert Process.load(tmp_path / "pid") == parent
    parent.kill()
    assert Process.load(tmp_path / "pid") is None
    assert Process.load(tmp_path / "absent") is None


def test_a_pid_that_was_given_to_another_process_is_not_signalled_nor_its_children(tmp_path: Path) -> None:
    me, child = Process.of(os.getpid()), start_family(tmp_path / "log")
    assert me
    stranger = Process(me.pid, me.started - 1)
    assert not stranger.alive()
    stranger.signal(signal.SIGKILL)
    stranger.kill()
    assert child.alive()
    child.kill()


def test_wait_until_names_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.05 s in vain for the moon"):
        wait_until(lambda: False, 0.05, "the moon")


def test_free_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(port in PORTS for port in ports)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))


def test_the_tail_of_a_log_that_is_missing_says_so(tmp_path: Path) -> None:
    assert "no such file" in tail(tmp_path / "absent.log")
