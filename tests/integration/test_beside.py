"""The connection for what others ask: code of users that runs there neither fills our memory nor outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psycopg2
import pytest

from connection import open_postgres
from dev.database import Database
from dev.process import wait_until
from relay.errors import RelayError
from relay.listening.beside import Beside, StillAtWork
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


@pytest.mark.parametrize("again", [False, True], ids=["the same listener", "the next one"])
def test_of_an_owner_s_code_that_nothing_ends_one_session_is_left(database: Database, again: bool) -> None:
    """A loop in PL/Perl does not listen; here a backend is stopped. Each table kept a connection for ever."""
    with database.admin().cursor() as cursor:
        cursor.execute("""
            create function public.slow(int) returns bool language plpgsql as $$begin
                if current_user = 'relay_compute' then perform pg_sleep(60); end if; return true; end$$;
            grant usage on schema public to relay_compute;
            create table slow (id int primary key); select relay.watch('slow', "when" => 'public.slow(id)');
            create table slow_too (id int primary key); select relay.watch('slow_too');
            create table others (id int primary key); select relay.watch('others');
            alter table others owner to app_test;
            insert into slow values (1); insert into slow_too values (1); insert into others values (1);
        """)
        url = Dsn(database.listener_dsn)
        present = "select cardinality(nth) from relay.present_rows(relay.watched_table(%s), array['{\"id\":1}'], 1000)"

        def stopped() -> bool:
            cursor.execute(
                "select pid from pg_stat_activity where wait_event = 'PgSleep' and query like %s", ["%present%"]
            )
            for (pid,) in cursor.fetchall():
                os.kill(pid, signal.SIGSTOP)
                pids.append(pid)
            return bool(pids)

        async def run() -> None:
            beside = make()
            first = asyncio.ensure_future(beside.ask(present, "public.slow", table="public.slow"))
            await asyncio.to_thread(wait_until, stopped, 10, "it sleeps")
            with pytest.raises(RelayError, match="not answered"):
                await first
            if again:
                beside.close()
                beside = make()
            for table in ("public.slow", "public.slow_too"):
                with pytest.raises(StillAtWork, match=f"session {pids[0]} goes on"):
                    await beside.ask(present, table, table=table)
            assert await beside.ask(present, "public.others", table="public.others") == [(1,)]
            os.kill(pids.pop(), signal.SIGCONT)

            def gone() -> bool:
                cursor.execute(BACKENDS)
                return cursor.fetchone() == (1,)

            await asyncio.to_thread(wait_until, gone, 10, "it ends")
            assert await beside.ask(present, "public.slow_too", table="public.slow_too") == [(1,)]
            beside.close()

        def make() -> Beside:
            return Beside(lambda: open_postgres(url, name="relay requests", timeout=10), deadline=2.0)

        pids = list[int]()
        try:
            asyncio.run(run())
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_the_next_question_is_answered(database: Database) -> None:
    assert ask(database, "select 1", "select pg_sleep(30)", "select 2", deadline=1.0)[::2] == [1, 2]


def test_an_answer_of_that_size_is_read(database: Database) -> None:
    assert ask(database, "select repeat('x', 25000000)") == ["x" * 25_000_000]
