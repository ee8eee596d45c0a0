"""The connection for what others ask: code of users that runs there neither fills our memory nor outlives it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg2
import pytest

from connection import open_postgres
from dev.database import Database
from dev.process import wait_until
from relay.errors import RelayError
from relay.listening.beside import Beside
from relay.values import Dsn

BACKENDS = "select count(*) from pg_stat_activity where application_name = 'relay requests'"


def ask(database: Database, *statements: str, deadline: float = 20.0) -> list[object]:
    """What each of them is answered with, or the error; with a second for each."""

    async def answers() -> list[object]:
        url = Dsn(database.listener_dsn)
        beside = Beside(lambda: open_postgres(url, name="relay requests", timeout=10), deadline=deadline)
        found: list[object] = []
        for statement in statements:
            try:
                found.append((await beside.ask(statement))[0][0])
            except (RelayError, psycopg2.Error) as error:
                found.append(error)
        if len(statements) == 1:
            assert alone(database), "what it was doing has ended"
        beside.close()
        return found

    return asyncio.run(answers())


def peak() -> int:
    """MiB of this process at most."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10


def alone(database: Database) -> bool:
    """Whether there is no other connection than the one that has been opened since."""
    with database.admin().cursor() as cursor:

        def count() -> bool:
            cursor.execute(BACKENDS)
            return cursor.fetchone() == (1,)

        wait_until(count, 10, "the other one goes on")
        return count()


@pytest.mark.parametrize("kind", ["notice", "warning", "exception"])
@pytest.mark.parametrize("size", [100_000_000, 9000])
def test_what_a_user_s_code_says_is_not_read_without_end(database: Database, kind: str, size: int) -> None:
    with database.admin().cursor() as cursor:
        cursor.execute(f"""
            create function public.loud() returns int language plpgsql as $$begin
                for i in 1..{200_000_000 // size} loop raise {kind} '%', repeat('x', {size}); end loop; return 1; end$$
        """)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = peak()
    ask(database, "select public.loud() from (select set_config('client_min_messages', 'notice', true)) x")
    assert peak() < before + 200


def test_what_catches_its_cancellation_is_ended(database: Database) -> None:
    with database.admin().cursor() as cursor:
        cursor.execute("""
            create function public.stubborn() returns int language plpgsql as $$begin
                loop begin perform pg_sleep(60); exception when query_canceled then null; end; end loop; end$$
        """)
    (said,) = ask(database, "select public.stubborn()", deadline=1.0)
    assert "PostgreSQL has not answered a statement for 1 s" in str(said)


def test_the_next_question_is_answered(database: Database) -> None:
    assert ask(database, "select 1", "select pg_sleep(30)", "select 2", deadline=1.0)[::2] == [1, 2]


def test_an_answer_of_that_size_is_read(database: Database) -> None:
    assert ask(database, "select repeat('x', 25000000)") == ["x" * 25_000_000]
