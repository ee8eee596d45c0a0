"""Without a crash nothing is published twice, whatever keeps it from being deleted; and the log stays short."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening

OWN = "from pg_stat_activity where application_name = 'relay listen' and datname = current_database()"
END = f"select pg_terminate_backend(pid) {OWN}"
KEEP = "create function public.keep() returns trigger language plpgsql as 'begin return null; end'"
KEEPING = "create trigger keep before delete on relay.outbox for each row execute function public.keep()"

TROUBLES: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str], str]] = {
    "no right": (
        ["revoke delete on relay.outbox from relay_listener"],
        [],
        ["grant delete on relay.outbox to relay_listener"],
        "permission denied",
    ),
    "a trigger that keeps them": (
        [KEEP, KEEPING],
        [],
        ["drop function public.keep cascade"],
        "has kept 20 events in the outbox that were to be deleted",
    ),
    "read-only": (
        [],
        ["alter database {db} set default_transaction_read_only = on", END],
        ["set default_transaction_read_only = off", "alter database {db} reset default_transaction_read_only"],
        "in a read-only transaction",
    ),
    # As create index does; it is granted when the DELETE under way has given up.
    "a locked table": ([], ["begin", "lock table relay.outbox in share mode"], ["rollback"], "lock timeout"),
    "locked rows": ([], ["begin", "select 1 from relay.outbox for update"], ["rollback"], "lock timeout"),
}
"""What keeps them, before and after they are published; what ends that; and what the log says."""


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    return made


def await_sessions(listening: Listening, count: int) -> None:
    """Until so many sessions of the listener, and the one that is there, have been seen."""
    seen: set[object] = set()

    def enough() -> bool:
        seen.update(listening.admin(f"select pid {OWN}"))
        return len(seen) > count

    wait_until(enough, 40, f"{count} sessions")


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_confirmed_and_can_not_be_deleted_is_not_sent_again(listening: Listening, trouble: str) -> None:
    before, after, end, said = TROUBLES[trouble]
    listening.table(count=20)
    listening.start()
    other, holder = listening.database.admin(), listening.database.admin()

    def execute(statements: Sequence[str]) -> None:
        with other.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.format(db=listening.database.name))

    with holder.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select 1 from relay.listener for update")  # a DELETE asks for it first
        execute(before)
        listening.execute("update t set n = 1")
        wait_until(lambda: listening.vhost.queue_depth("out") == 20, 20, "all to be published")
        execute(after)
        cursor.execute("rollback")
    listening.script.wait_for_log(said, timeout=30)
    await_sessions(listening, 2 if "lock" in trouble else 5)

    assert listening.vhost.queue_depth("out") == 20
    assert listening.pending() == 20
    log = listening.script.log()
    assert log.count(said) == 1, "the same again and again is said once"
    assert log.count("relaying") == 1
    execute(end)
    listening.await_empty(40)
    assert len(listening.messages(20)) == 20
    listening.script.wait_for_log("recovered")


def test_what_a_crash_of_postgresql_brings_back_is_followed_by_what_came_after_it(listening: Listening) -> None:
    """A DELETE does not wait for the disk: one that is forgotten brings its event back, and the row's next one must
    come again as well, or the target is left with the former state.
    """
    listening.table(count=1)
    other = listening.database.admin()
    listening.start()
    listening.execute("update t set n = 1")
    with other.cursor() as cursor:
        cursor.execute("create table kept (like relay.outbox)")
        cursor.execute("create function keep() returns trigger language plpgsql as "
                       "'begin insert into public.kept select old.*; return old; end'")  # fmt: skip
        cursor.execute("alter function keep security definer")
        cursor.execute(KEEPING)
        listening.await_empty()
        listening.execute("update t set n = 2")
        listening.await_empty()
        cursor.execute("drop trigger keep on relay.outbox; revoke delete on relay.outbox from relay_listener")
        listening.execute("update t set n = 3")
        listening.script.wait_for_log("permission denied")
        cursor.execute("insert into relay.outbox overriding system value select * from kept "
                       "where new_image ~ '\"n\":2}$'; grant delete on relay.outbox to relay_listener")  # fmt: skip
    listening.await_empty(40)
    assert [message.json["new"]["n"] for message in listening.messages(5)] == [1, 2, 3, 2, 3]


def test_without_the_right_to_the_exchange_the_log_says_so_once(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost)
    listening.bind()
    listening.table()
    user = f"publisher-{vhost.name}"
    vhost.broker.add_user(user, "secret", vhost.name)
    vhost.broker.grant(vhost.name, user, write="^$")
    listening.settings["RABBITMQ_URL"] = f"amqp://{user}:secret@{vhost.url.rpartition('@')[2]}"
    listening.script = listening.another()
    listening.start()
    listening.execute("insert into t select i from generate_series(1, 20) i")
    listening.script.wait_for_log("access to exchange 'relay'")
    await_sessions(listening, 6)
    log = listening.script.log()
    assert (log.count("access to exchange"), log.count("one at a time"), log.count("event refused")) == (1, 0, 0)
    assert log.count("relaying") <= 2
    assert "recovered" not in log
    vhost.broker.grant(vhost.name, user)
    assert len(listening.messages(20)) == 20
    listening.await_empty()
    listening.script.wait_for_log("recovered")


def test_what_a_database_gives_to_its_sessions_does_not_end_an_idle_one(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, LISTEN_CHANNELS="other")
    listening.bind()
    listening.table()
    given = {"idle_session_timeout": "150ms", "transaction_timeout": "150ms", "statement_timeout": "150ms",
             "default_transaction_isolation": "serializable"}  # fmt: skip
    for (name,) in listening.admin("select name from pg_settings where name = any(%s)", list(given)):
        listening.admin(f"alter database {database.name} set {name} = '{given[name]}'")
    listening.start()
    idle = "select 1 from pg_stat_activity where application_name like 'relay %' and now() - state_change > '1 s'"
    wait_until(lambda: len(listening.admin(idle)) == 2, 20, "both sessions to be idle for long")
    listening.execute("insert into t values (1)")
    listening.messages(1)
    listening.await_empty()
    assert listening.script.log().count("relaying") == 1, "one session"
