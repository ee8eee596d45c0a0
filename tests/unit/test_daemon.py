"""The loop around a session: what it does after each kind of error, and how fast it stops."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay import daemon
from relay.backoff import Backoff
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log


def made(stop: daemon.Stop) -> daemon.Daemon:
    return daemon.Daemon(stop, Log("test"), Backoff(0.01, 0.02))


def test_a_configuration_error_before_the_first_session_ends_with_78(capsys: pytest.CaptureFixture[str]) -> None:
    def session() -> None:
        raise ConfigError(("wrong password", "correct it"))

    assert made(daemon.Stop()).run(session) == 78
    assert capsys.readouterr().err.count("wrong password -> correct it") == 1


def test_the_same_error_after_a_successful_session_is_waited_out() -> None:
    stop = daemon.Stop()
    calls: list[int] = []
    subject = made(stop)

    def session() -> None:
        calls.append(1)
        if len(calls) == 1:
            subject.up()
        if len(calls) == 4:
            stop.set()
        raise ConfigError(("wrong password", "correct it"))

    assert subject.run(session) == 0
    assert len(calls) == 4


def test_an_outage_is_logged_once_and_its_end_with_its_length(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stop = daemon.Stop()
    calls: list[int] = []
    subject = made(stop)

    def session() -> None:
        calls.append(1)
        if len(calls) < 5:
            raise Unavailable("RabbitMQ is away")
        subject.up()
        stop.set()

    assert subject.run(session) == 0
    assert [r.message for r in caplog.records if "away" in r.message] == ["RabbitMQ is away state=waiting"]
    assert any(r.message.startswith("back at work after_s=") for r in caplog.records)


class Outages:
    """Sessions that begin, and end with these errors one after another; `then` is called in each."""

    def __init__(self, errors: list[str], then: Callable[[daemon.Daemon], None]) -> None:
        self.backoff = Backoff(0.001, 0.1)
        self.subject = daemon.Daemon(daemon.Stop(), Log("test"), self.backoff)
        self.lines = 0

        def session() -> None:
            self.lines += self.subject.ready()
            then(self.subject)
            if not errors:
                self.subject.stop.set()
                return
            raise Unavailable(errors.pop(0))

        assert self.subject.run(session) == 0


def test_without_progress_an_outage_is_told_once_however_often_a_session_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outages = Outages(["locked", "locked", "read-only", "locked", "read-only"], lambda _subject: None)
    assert [record.message.partition(" state")[0] for record in caplog.records] == ["locked", "read-only", "stopped"]
    assert outages.lines == 3, "at the start, and once after each new line"


def test_each_change_of_state_is_told_while_no_session_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    errors = ["works", "works", "hangs", "works"]
    stop = daemon.Stop()

    def session() -> None:
        if not errors:
            stop.set()
            return
        raise Unavailable(errors.pop(0))

    assert made(stop).run(session) == 0
    said = [record.message.partition(" state")[0] for record in caplog.records]
    assert said == ["works", "hangs", "works", "stopped"]


def test_an_idle_session_ends_the_outage_that_was_told_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Outages(["gone", "gone", "gone"], lambda subject: subject.calm())
    said = [record.message.partition(" after_s")[0].partition(" state")[0] for record in caplog.records]
    assert said == ["gone", "back at work", "stopped"]


def test_only_progress_resets_the_back_off_and_lets_a_thing_be_said_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outages = Outages(["gone", "gone"], lambda subject: subject.progress())
    said = [record.message.partition(" after_s")[0].partition(" state")[0] for record in caplog.records]
    assert said == ["gone", "back at work", "gone", "back at work", "stopped"]
    assert outages.backoff.next() <= 0.001, "the first delay"
    outages = Outages(["gone", "gone"], lambda subject: subject.calm())
    assert outages.backoff.next() >= 0.002, "the third one"


def test_a_wait_ends_at_once_when_asked_to_stop() -> None:
    stop = daemon.Stop()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert stop.wait(30)
    assert time.monotonic() - began < 5


def test_sigterm_wakes_a_waiting_process() -> None:
    stop = daemon.Stop()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        stop.install()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stop.wait(30)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_a_standby_tries_again_at_even_short_intervals_and_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stop = daemon.Stop()
    subject = made(stop)

    def session() -> None:
        threading.Timer(0.1, stop.set).start()
        raise Standby("another process holds the lease")

    assert subject.run(session) == 0
    assert any("state=standby" in r.message for r in caplog.records)
    assert not any("back at work" in r.message for r in caplog.records)


def test_systemd_hears_ready_status_and_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        address = str(tmp_path / "n")
        server.bind(address)
        server.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        stop = daemon.Stop()
        subject = made(stop)

        def session() -> None:
            subject.up()
            subject.feed_watchdog()
            stop.set()

        assert subject.run(session) == 0
        heard = [server.recv(4096).decode() for _ in range(3)]
    assert heard == ["READY=1\nSTATUS=at work", "WATCHDOG=1", "STOPPING=1"]
    assert subject.systemd.watchdog_interval == 5
