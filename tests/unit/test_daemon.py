"""The loop around a session: what it does after each kind of error, and how fast it stops."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay import cli, daemon, flapping
from relay.backoff import Backoff
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log


def made(stop: daemon.Stop) -> daemon.Daemon:
    return daemon.Daemon(stop, Log("test"), Backoff(0.01, 0.02))


def test_a_configuration_error_before_the_first_session_ends_with_78(capsys: pytest.CaptureFixture[str]) -> None:
    async def session() -> None:
        raise ConfigError(("wrong password", "correct it"))

    assert asyncio.run(made(daemon.Stop()).run(session)) == 78
    assert capsys.readouterr().err.count("wrong password -> correct it") == 1


def test_the_same_error_after_a_successful_session_is_waited_out() -> None:
    stop = daemon.Stop()
    calls: list[int] = []
    subject = made(stop)

    async def session() -> None:
        calls.append(1)
        if len(calls) == 1:
            subject.up()
        if len(calls) == 4:
            stop.set()
        raise ConfigError(("wrong password", "correct it"))

    assert asyncio.run(subject.run(session)) == 0
    assert len(calls) == 4


def test_an_outage_is_logged_once_and_its_end_with_its_length(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stop = daemon.Stop()
    calls: list[int] = []
    subject = made(stop)

    async def session() -> None:
        calls.append(1)
        if len(calls) < 5:
            raise Unavailable("RabbitMQ is away")
        subject.up()
        stop.set()

    assert asyncio.run(subject.run(session)) == 0
    assert [r.message for r in caplog.records if "away" in r.message] == ["RabbitMQ is away state=waiting"]
    assert any(r.message.startswith("recovered after_s=") for r in caplog.records)


class Outages:
    """Sessions that begin, and end with these errors one after another; `then` is called in each."""

    def __init__(self, errors: list[str], then: Callable[[daemon.Daemon], None]) -> None:
        self.backoff = Backoff(0.001, 0.1)
        self.subject = daemon.Daemon(daemon.Stop(), Log("test"), self.backoff)
        self.lines = 0

        async def session() -> None:
            self.lines += self.subject.ready()
            then(self.subject)
            if not errors:
                self.subject.stop.set()
                return
            raise Unavailable(errors.pop(0))

        assert asyncio.run(self.subject.run(session)) == 0


def test_without_progress_an_outage_is_told_once_however_often_a_session_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outages = Outages(["locked", "locked", "read-only", "locked", "read-only"], lambda _subject: None)
    assert [record.message.partition(" state")[0] for record in caplog.records] == ["locked", "read-only", "stopped"]
    assert outages.lines == 3, "at the start, and once after each new line"


def test_a_long_outage_is_told_of_again_and_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "REMINDER_INTERVAL", 0.02)
    monkeypatch.setattr(flapping, "WINDOW", 0.02)
    caplog.set_level("INFO")
    stop = daemon.Stop()

    async def session() -> None:
        if caplog.text.count("RabbitMQ is away") >= 8:
            stop.set()
        raise Unavailable("RabbitMQ is away")

    assert asyncio.run(made(stop).run(session)) == 0
    assert "comes and goes" not in caplog.text


def test_an_outage_that_comes_and_goes_is_told_a_few_times_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    outages = Outages(["gone"] * 20, lambda subject: subject.progress())
    said = [record.message.partition(" after_s")[0].partition(" state")[0] for record in caplog.records]
    assert said == ["gone", "recovered"] * 3 + ["stopped"]
    monkeypatch.setattr(flapping, "WINDOW", 0.0)
    outages.subject.calm()
    assert caplog.messages[-1].startswith("an outage comes and goes times=20 in_s=")
    assert caplog.messages[-1].endswith(" what=gone")


def test_each_change_of_state_is_told_while_no_session_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    errors = ["works", "works", "hangs", "works"]
    stop = daemon.Stop()

    async def session() -> None:
        if not errors:
            stop.set()
            return
        raise Unavailable(errors.pop(0))

    assert asyncio.run(made(stop).run(session)) == 0
    said = [record.message.partition(" state")[0] for record in caplog.records]
    assert said == ["works", "hangs", "works", "stopped"]


def test_an_idle_session_ends_the_outage_that_was_told_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Outages(["gone", "gone", "gone"], lambda subject: subject.calm())
    said = [record.message.partition(" after_s")[0].partition(" state")[0] for record in caplog.records]
    assert said == ["gone", "recovered", "stopped"]


def test_only_progress_resets_the_back_off_and_lets_a_thing_be_said_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outages = Outages(["gone", "gone"], lambda subject: subject.progress())
    said = [record.message.partition(" after_s")[0].partition(" state")[0] for record in caplog.records]
    assert said == ["gone", "recovered", "gone", "recovered", "stopped"]
    assert outages.backoff.next() <= 0.001, "the first delay"
    outages = Outages(["gone", "gone"], lambda subject: subject.calm())
    assert outages.backoff.next() >= 0.002, "the third one"


def test_a_wait_ends_at_once_when_asked_to_stop() -> None:
    async def waiting() -> bool:
        stop = daemon.Stop()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        return await stop.wait(30)

    began = time.monotonic()
    assert asyncio.run(waiting())
    assert time.monotonic() - began < 5


def test_sigterm_wakes_a_waiting_process_and_sighup_does_what_it_is_for() -> None:
    heard: list[str] = []

    async def waiting() -> bool:
        stop, loop = daemon.Stop(), asyncio.get_running_loop()
        stop.install(on_hangup=lambda: heard.append("hangup"))
        loop.call_later(0.1, os.kill, os.getpid(), signal.SIGHUP)
        loop.call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)
        return await stop.wait(30)

    assert asyncio.run(waiting())
    assert heard == ["hangup"]


def raising() -> None:
    raise KeyError("of ours")


@pytest.mark.parametrize("where", ["timer", "descriptor", "task"])
def test_what_is_raised_in_a_callback_ends_the_program_with_70(
    where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio by itself reports it and runs on: a tick would never be armed again, and nobody would know."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    ours, theirs = socket.socketpair()

    async def working() -> int:
        loop = asyncio.get_running_loop()
        if where == "timer":
            loop.call_later(0.01, raising)
        elif where == "descriptor":
            loop.add_reader(ours.fileno(), raising)
            theirs.send(b"x")
        else:
            loop.create_task(asyncio.to_thread(raising)).add_done_callback(lambda task: task.result())
        await asyncio.sleep(30)
        return 0

    with ours, theirs:
        assert cli.run(lambda: daemon.run(working)) == 70
    assert "KeyError" in capsys.readouterr().err


def test_a_standby_tries_again_at_even_short_intervals_and_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stop = daemon.Stop()
    subject = made(stop)

    async def session() -> None:
        asyncio.get_running_loop().call_later(0.1, stop.set)
        raise Standby("another process holds the lease")

    assert asyncio.run(subject.run(session)) == 0
    assert any("state=standby" in r.message for r in caplog.records)
    assert not any("recovered" in r.message for r in caplog.records)


def test_systemd_hears_ready_status_and_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        address = str(tmp_path / "n")
        server.bind(address)
        server.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        stop = daemon.Stop()
        subject = made(stop)

        async def session() -> None:
            subject.up()
            subject.feed_watchdog()
            stop.set()

        assert asyncio.run(subject.run(session)) == 0
        heard = [server.recv(4096).decode() for _ in range(3)]
    assert heard == ["READY=1\nSTATUS=at work", "WATCHDOG=1", "STOPPING=1"]
    assert subject.systemd.watchdog_interval == 5
