"""A session on RabbitMQ: what ends it, and that nothing of it is left then."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pika
import pytest
from pika.channel import Channel

import connection
from dev.database import Database
from dev.vhost import Vhost
from relay import config, daemon
from relay.amqp import stream
from relay.amqp.lifetime import Lifetime, Timer
from relay.amqp.replies import ChannelRefused
from relay.amqp.session import Session
from relay.daemon import Stop
from relay.errors import RelayError, Unavailable
from relay.listening import database as of_listener
from relay.listening.listener import Listener
from relay.listening.outbox_relay import OutboxRelay
from tests.wired import alive

pytestmark = pytest.mark.timeout(60)


def settings(url: str, **more: str) -> config.Receive:
    environ = {"RABBITMQ_URL": url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1:1/", **more}
    return config.load(config.Receive, None, environ)


@contextlib.asynccontextmanager
async def opened(vhost: Vhost, stop: Stop | None = None, patience: float = 20.0) -> AsyncIterator[Session]:
    async with Session(stop or Stop(), "rabbitmqctl set_permissions", patience) as session:
        session.attach(await connection.open_rabbitmq(settings(vhost.url), name="test"))
        yield session


async def enter(vhost: Vhost, work: Callable[[Session], Coroutine[Any, Any, None]], **more: Any) -> None:
    async with opened(vhost, **more) as session:
        await work(session)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As a daemon runs: what is raised in a callback ends it."""

    async def main() -> int:
        await work()
        return 0

    assert daemon.run(main) == 0


def test_a_refusal_ends_nothing_but_its_channel(vhost: Vhost) -> None:
    async def work() -> None:
        async with opened(vhost) as session:
            channel = await session.open_channel()
            with pytest.raises(ChannelRefused) as refused:
                await session.call("looking", channel.queue_declare, "none", passive=True)
            assert refused.value.code == 404
            found = await session.refusal("looking", Channel.queue_declare, "none", passive=True)
            assert found is not None
            assert found.code == 404
            assert await session.refusal("declaring", Channel.queue_declare, "q") is None

    run(work)


def test_a_channel_that_is_closed_while_nothing_is_asked_ends_the_session(vhost: Vhost) -> None:
    async def acknowledge(session: Session) -> None:
        (await session.open_channel()).basic_ack(7)
        await session.finished()

    with pytest.raises(ChannelRefused, match="unknown delivery tag"):
        run(lambda: enter(vhost, acknowledge))


def test_an_answer_that_comes_too_late_costs_nothing_more_than_the_session(vhost: Vhost) -> None:
    """It would be given to a future that nobody awaits any more; pika would take the raise for a broken connection."""
    links: list[stream.Connection] = []

    answers: list[Callable[[object], None]] = []

    async def ask(session: Session) -> None:
        links.append(session._connection)
        await session._asked("saying nothing", None, answers.append, patience=0.01)

    with pytest.raises(Unavailable, match="does not answer: saying nothing"):
        run(lambda: enter(vhost, ask))
    assert links[0].is_closed
    answers[0]("too late")


def test_what_is_awaited_fails_when_the_connection_goes(vhost: Vhost) -> None:
    async def wait(session: Session) -> None:
        session.call_later(0.1, session._connection.abort)
        await asyncio.sleep(20)

    began = time.monotonic()
    with pytest.raises(Unavailable, match="connection to RabbitMQ broke"):
        run(lambda: enter(vhost, wait))
    assert time.monotonic() - began < 10


def test_a_raise_in_a_callback_for_data_loses_the_connection_and_not_the_process(vhost: Vhost) -> None:
    channel = vhost.channel()
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"x")

    def odd(*_: object) -> None:
        raise KeyError("odd")

    async def consume(session: Session) -> None:
        await session.consume(await session.open_channel(), "q", odd)
        await session.finished()

    with pytest.raises(Unavailable, match="KeyError"):
        run(lambda: enter(vhost, consume))


def test_a_raise_in_a_timer_or_a_task_of_a_session_ends_the_process(vhost: Vhost) -> None:
    def odd() -> None:
        raise KeyError("odd")

    async def odd_task() -> None:
        odd()

    async def of_timer(session: Session) -> None:
        session.call_later(0.0, odd)
        await session.finished()

    async def of_task(session: Session) -> None:
        session.start(odd_task())
        await session.finished()

    for work in of_timer, of_task:
        with pytest.raises(daemon.Defect) as raised:
            run(functools.partial(enter, vhost, work))
        assert isinstance(raised.value.__cause__, KeyError)


def test_what_a_task_finds_out_ends_the_session(vhost: Vhost) -> None:
    async def gone() -> None:
        raise Unavailable("the other thing is gone")

    async def work(session: Session) -> None:
        session.start(gone())
        await session.finished()

    with pytest.raises(Unavailable, match="the other thing"):
        run(lambda: enter(vhost, work))


def test_a_stop_cuts_short_whatever_is_awaited(vhost: Vhost) -> None:
    async def work() -> None:
        stop = Stop()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        with pytest.raises(Unavailable, match="asked to stop"):
            async with opened(vhost, stop):
                await asyncio.sleep(20)

    began = time.monotonic()
    run(work)
    assert time.monotonic() - began < 10


def test_the_first_error_counts_and_a_later_one_hits_nobody_else(vhost: Vhost) -> None:
    """A cancellation that is on its way when the session ends by itself must not hit what its task does next."""

    async def twice(session: Session) -> None:
        session.fail(Unavailable("first"))
        session.fail(Unavailable("second"))

    async def itself(session: Session) -> None:
        session.fail(Unavailable("behind it"))
        raise RelayError("of itself")

    async def work() -> None:
        with pytest.raises(Unavailable, match="first"):
            await enter(vhost, twice)
        with pytest.raises(RelayError, match="of itself"):
            await enter(vhost, itself)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(work)


def test_what_one_of_the_last_callbacks_asks_for_is_never_called(vhost: Vhost) -> None:
    called: list[bool] = []

    async def work() -> None:
        async with opened(vhost) as session:
            session.call_later(0.0, lambda: called.append(True))
        session.call_later(0.0, lambda: called.append(True))
        await asyncio.sleep(0.05)

    run(work)
    assert called == []


def test_a_name_server_that_hangs_holds_up_neither_the_loop_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()

    def getaddrinfo(*_arguments: object, **_more: object) -> list[Any]:
        hangs.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = "postgresql://relay@nowhere.invalid/x"
    listener = config.load(config.Listen, None, {"DATABASE_URL": url, "RABBITMQ_URL": "amqp://u:p@nowhere.invalid/"})

    async def rabbitmq() -> None:
        await connection.open_rabbitmq(listener, name="test")

    async def postgres() -> None:
        await connection.open_postgres(listener.database_url, name="test", timeout=10)

    def work(open_: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
        async def tried() -> None:
            stop = Stop()
            asyncio.get_running_loop().call_later(0.1, stop.set)
            with pytest.raises(Unavailable, match="asked to stop"):
                async with Session(stop):
                    await open_()

        return tried

    began = time.monotonic()
    for each in rabbitmq, postgres:
        run(work(each))
    assert time.monotonic() - began < 5
    hangs.set()


def test_a_broker_that_says_nothing_is_given_up_and_is_no_broken_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"amqp://u:p@127.0.0.1:{server.getsockname()[1]}/v"

        async def work() -> None:
            with pytest.raises(Unavailable, match="not reachable: no answer within"):
                await connection.open_rabbitmq(settings(url, CONNECT_TIMEOUT="1"), name="test")

        began = time.monotonic()
        run(work)
        assert time.monotonic() - began < 10


def test_after_many_reconnects_there_is_one_sessions_worth_of_objects(
    database: Database, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = config.load(
        config.Listen,
        None,
        {
            "DATABASE_URL": database.listener_dsn,
            "RABBITMQ_URL": vhost.url,
            "RECONNECT_MIN": "0.1",
            "LISTEN_CHANNELS": "plain",
        },
    )
    links: list[stream.Connection] = []

    async def open_rabbitmq(name: str) -> stream.Connection:
        links.append(await connection.open_rabbitmq(listening, name=name))
        return links[-1]

    def open_postgres(name: str, *, raw: bool = False) -> Coroutine[Any, Any, Any]:
        return connection.open_postgres(listening.database_url, name=name, timeout=10, raw=raw)

    async def work() -> None:
        stop = Stop()
        tested = Listener(listening, stop, open_postgres, open_rabbitmq)
        running = asyncio.create_task(tested.run())
        loop, counts = asyncio.get_running_loop(), list[tuple[Any, ...]]()
        for _ in range(6):
            before = len(links)
            while not tested._daemon._has_begun:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            timers = [one for one in loop._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
            kinds = alive(Session, OutboxRelay, stream.Connection, of_listener.Database, Timer)
            counts.append((kinds, len(timers), len(asyncio.all_tasks()), len(loop._selector.get_map())))  # type: ignore[attr-defined]
            tested._daemon._has_begun = False
            links.pop().abort()
            while len(links) < before:
                await asyncio.sleep(0.01)
        stop.set()
        assert await running == 0
        assert counts[0][0] == {
            "Session": 1,
            "OutboxRelay": 1,
            "Connection": 1,
            "Database": 2,
            "Timer": counts[0][0]["Timer"],
        }
        assert all(count == counts[0] for count in counts), counts

    run(work)
    assert set(alive(Session, OutboxRelay, stream.Connection, of_listener.Database, Timer).values()) == {0}


def test_a_message_is_consumed(vhost: Vhost) -> None:
    found: list[bytes] = []

    async def work() -> None:
        async with opened(vhost) as session:
            channel = await session.open_channel()
            await session.call("declaring", channel.queue_declare, "q")
            channel.basic_publish("", "q", b"x" * 300_000, pika.BasicProperties())
            await session.consume(channel, "q", lambda _c, _m, _p, body: (found.append(body), session.finish())[0])
            await session.finished()

    run(work)
    assert found == [b"x" * 300_000]


def test_a_time_limit_holds_while_a_session_that_has_failed_closes() -> None:
    """Python before 3.11.3, Debian 12's, makes a TimeoutError of it only where no cancellation is open."""
    opened: list[int] = []

    class Closing(Lifetime):
        async def _close(self) -> None:
            opened.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()

    async def failing() -> None:
        async with Closing(Stop()) as session:
            session.fail(Unavailable("gone"))
            await session.finished()

    with pytest.raises(Unavailable, match="gone"):
        asyncio.run(failing())
    assert opened == [0]
