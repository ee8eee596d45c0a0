"""The listener's connection to PostgreSQL: what arrives together with an answer is heard as soon as that is."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios

import connection
from dev.database import Database
from dev.process import wait_until
from relay.listening.database import Database as Handle
from relay.values import Dsn


def waiting_bytes(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])


def test_a_notification_right_behind_an_answer_is_heard_with_it(database: Database) -> None:
    """libpq takes both out of the socket with one read, and no socket tells of what it has not looked at yet."""

    async def work() -> None:
        heard: list[str] = []
        opened = await connection.open_postgres(Dsn(database.listener_dsn), name="test", timeout=10)
        handle = Handle(opened, lambda _channel, payload: heard.append(payload), lambda _error: None)
        await handle.ask("listen behind")
        answered: list[int] = []
        handle.run("select pg_sleep(0.1)", (), lambda rows: answered.append(len(rows)))
        # The loop stands still, as on a busy machine, until both are there.
        wait_until(lambda: waiting_bytes(opened.fileno()) > 0, 10, "the answer")
        before = waiting_bytes(opened.fileno())
        with database.admin().cursor() as cursor:
            cursor.execute("notify behind, 'news'")
        wait_until(lambda: waiting_bytes(opened.fileno()) > before, 10, "the notification")
        async with asyncio.timeout(5):
            while not answered or not heard:
                await asyncio.sleep(0.01)
        assert heard == ["news"]
        handle.close()

    asyncio.run(work())


def test_a_parameter_that_is_no_text_of_postgresql_s_is_a_statement_refused(database: Database) -> None:
    """psycopg2 raises ValueError before anything is sent; that ended the session, and blamed RabbitMQ."""

    async def work() -> None:
        lost: list[object] = []
        opened = await connection.open_postgres(Dsn(database.listener_dsn), name="test", timeout=10)
        handle = Handle(opened, lambda _channel, _payload: None, lost.append)
        for bad in ("a\0b", "\ud800"):
            refused: list[Exception] = []
            handle.run("select %s", (bad,), lambda _rows: None, refused.append)
            assert len(refused) == 1
            assert "a parameter has" in str(refused[0])
            assert not handle.busy
        assert await handle.ask("select %s::text", handle.storable("a\0b\ud800")) == [("a\\0b\\ud800",)]
        assert lost == []
        handle.close()

    asyncio.run(work())
