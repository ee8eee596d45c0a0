"""Databases that are not UTF-8: bytes that are no character, from whoever may write them, end nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from dev.database import Database, drop, execute, install, join_listener_group
from dev.postgres import Postgres
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, run

# Of each encoding: a byte, or two, without a character; one that has one, and that character.
ODD = {
    "SQL_ASCII": ("ff", "c3a9", "é"),
    "WIN1252": ("81", "e9", "é"),
    "WIN1253": ("aa", "e2", "\u03b2"),
    "EUC_JP": ("a9fe", "b0a1", "\u4e9c"),
}


def odd(encoding: str) -> str:
    """An SQL expression of that byte."""
    return f"convert_from('\\x{ODD[encoding][0]}', '{encoding}')"


def even(encoding: str) -> str:
    """An SQL expression of that character."""
    return f"convert_from('\\x{ODD[encoding][1]}', '{encoding}')"


@pytest.fixture
def encoding(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "WIN1252"))


@pytest.fixture
def encoded(postgres: Postgres, database: Database, encoding: str) -> Iterator[Database]:
    """A database of that encoding, with the relay's schema."""
    made = Database(postgres, f"{database.name}_encoded")
    execute(postgres.dsn(), f"create database {made.name} template template0 encoding '{encoding}' locale 'C'")
    install(postgres, made.name, Database.APP)
    join_listener_group(postgres, Database.LISTENER)
    yield made
    made.close()
    drop(postgres, made.name)


@pytest.fixture
def listening(encoded: Database, encoding: str, script: Callable[..., Script], vhost: Vhost) -> Listening:
    made = Listening(script, encoded, vhost, LISTEN_CHANNELS="chan")
    made.bind()
    made.table()
    for session in (made.admin, made.execute):
        session(f"set client_encoding = '{encoding}'")
    return made


@pytest.mark.parametrize("encoding", ODD, indirect=True)
def test_a_notification_of_any_byte_is_an_event_and_ends_nothing(listening: Listening, encoding: str) -> None:
    """PostgreSQL ended the connection that was to hear it, since it can't be converted, and we the session with it."""
    raw, _, character = ODD[encoding]
    listening.start()
    for n in range(5):
        listening.execute(
            f"select pg_notify('chan', 'odd {n} ' || {odd(encoding)})",
            f"select pg_notify('chan', 'even {n} ' || {even(encoding)})",
            f"insert into t values ({n})",
        )
    got = listening.messages(15)
    escaped = "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(raw))
    notified = [message.json["payload"] for message in got if message.routing_key == "chan"]
    assert notified == [line for n in range(5) for line in (f"odd {n} {escaped}", f"even {n} {character}")]
    listening.await_empty()
    assert listening.script.log().count("relaying") == 1
    assert "WARNING" not in listening.script.log()


@pytest.mark.parametrize("encoding", ["EUC_JP"], indirect=True)
def test_of_a_burst_only_what_has_no_characters_is_escaped(listening: Listening) -> None:
    """Half of it at a time, until that stands alone. What Python reads otherwise (a1c1) is PostgreSQL's to convert."""
    listening.start()
    one = f"case n when 7 then {odd('EUC_JP')} else convert_from('\\xa1c1', 'EUC_JP') end"
    listening.execute(f"select pg_notify('chan', n || {one}) from generate_series(1, 20) n")
    got = [message.json["payload"] for message in listening.messages(20)]
    assert got == [f"{n}\uff5e" if n != 7 else "7\\xa9\\xfe" for n in range(1, 21)]
    assert listening.script.log().count("relaying") == 1


def test_the_end_of_the_notifications_connection_is_not_the_outbox_s(listening: Listening) -> None:
    listening.start()
    ended = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'relay notifications'"
    for n in range(1, 3):
        listening.admin(ended)
        listening.execute(f"insert into t values ({n})")
        listening.messages(1)
        listening.script.wait_for_log("LISTEN_CHANNELS are heard again", count=n)
        listening.execute("select pg_notify('chan', '1')")
        assert [message.body for message in listening.messages(1)] == [b"1"]
    log = listening.script.log()
    assert log.count("LISTEN_CHANNELS are not heard: their connection is lost") == 2
    assert log.count("relaying") == 1


def test_a_channel_of_any_name_is_heard(listening: Listening) -> None:
    listening.settings["LISTEN_CHANNELS"] = 'é"Ä'
    listening.script = listening.another()
    listening.start()
    listening.execute(f"select pg_notify({even('WIN1252')} || '\"' || convert_from('\\xc4', 'WIN1252'), '1')")
    assert [message.routing_key for message in listening.messages(1)] == ['é"Ä']


@pytest.mark.parametrize("encoding", ODD, indirect=True)
def test_a_table_s_name_of_any_byte_hides_no_other_table(listening: Listening, encoding: str) -> None:
    """Its own lost trigger was read with all others', and failed that: of none anything was said, by anybody."""
    raw, _, character = ODD[encoding]
    for name in (odd(encoding), even(encoding)):
        listening.admin(f"""
            do $$
            declare made text := format('public.%I', 'a' || {name});
            begin
                execute format('create table %s (id int primary key, %I int)', made, {name});
                perform relay.watch(made::regclass, 'odd');
                execute format('drop trigger "!relay_insert" on %s', made);
            end $$
        """)
    listening.admin("drop trigger \"!relay_insert\" on t; select relay.publish('x', '{}', key => 'k')")
    listening.admin(f"update relay.outbox set error = 'no', key = {even(encoding)}")
    escaped = "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(raw))
    names = {f"a{escaped}", f"a{character}", "t"}
    listening.start()
    listening.script.wait_for_log("capture is not complete", count=3)
    assert run(listening, "check").stdout.count("triggers are gone: !relay_insert") == 3
    shown = json.loads(run(listening, "status", "--json").stdout)
    assert {one["tbl"].removeprefix("public.").strip('"') for one in shown["watched"] if one["note"]} == names
    assert {one["table"].removeprefix("public.").strip('"') for one in shown["listener"]["incomplete"]} == names
    assert [(one["key"], one["error"]) for one in shown["refused"]] == [(character, "no")]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "WIN1252"], indirect=True)
def test_who_holds_what_is_told_whatever_the_name_is(listening: Listening, encoding: str) -> None:
    """Of the sleep lock, of the outbox, of a transaction that is open for long, of one that is prepared."""
    listening.settings["POLL_INTERVAL"] = 0.2
    listening.script = listening.another()
    role = f"'r' || {odd(encoding)}"
    listening.admin(f"do $$ begin execute format('create role %I login', {role}); end $$")
    try:
        listening.admin(f"do $$ begin execute format('set session authorization %I', {role}); end $$")
        listening.admin("select pg_advisory_lock(491327873401)")
        listening.start()
        listening.script.wait_for_log("the sleep lock can't be had")
        listening.execute("insert into t values (1)")
        listening.messages(1)
        assert "PostgreSQL" not in listening.script.log()
    finally:
        listening.admin("reset session authorization; select pg_advisory_unlock_all()")
        listening.admin(f"do $$ begin execute format('drop role %I', {role}); end $$")


@pytest.mark.parametrize(
    "words",
    [
        ["release", "\udcff"], ["drop", "\udcff", "--yes"], ["resend", "\udcff"], ["resend", "t", "--where", "\udcff"],
        ["resend", "t", "--after", "\udcff"], ["resend", "\u03a9"], ["release", "\u03a9"],
    ],
)  # fmt: skip
def test_what_is_no_text_of_the_database_s_is_one_line(listening: Listening, words: list[str]) -> None:
    """Of a terminal in another encoding: psycopg2 refuses it before PostgreSQL can."""
    told = run(listening, *words)
    assert told.returncode in (1, 75)
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    assert len(told.stderr.splitlines()) <= 2
