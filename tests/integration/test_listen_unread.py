"""Rows of the outbox that can be written, but not read: they wait and are named, all others leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from dev.database import Database, drop, execute, install, join_listener_group
from dev.postgres import Postgres
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, run

BAD = "convert_from('\\xe9', 'SQL_ASCII')"  # Latin-1's é


@pytest.fixture
def ascii_database(postgres: Postgres, database: Database) -> Iterator[Database]:
    """A database whose texts are bytes: SQL_ASCII, as PostgreSQL makes it in the C locale."""
    made = Database(postgres, f"{database.name}_ascii")
    execute(postgres.dsn(), f"create database {made.name} template template0 encoding 'SQL_ASCII' locale 'C'")
    install(postgres, made.name, Database.APP)
    join_listener_group(postgres, Database.LISTENER)
    yield made
    made.close()
    drop(postgres, made.name)


def listening_in(made: Database, script: Callable[..., Script], vhost: Vhost) -> Listening:
    listening = Listening(script, made, vhost)
    listening.bind()
    listening.admin("set client_encoding = 'SQL_ASCII'")
    return listening


def test_what_can_not_be_read_waits_is_named_and_all_else_leaves(
    ascii_database: Database, script: Callable[..., Script], vhost: Vhost
) -> None:
    listening = listening_in(ascii_database, script, vhost)
    digits = "9" * 5000
    listening.admin(f"""
        create table t (id int primary key, n text); create table k (id text primary key, n text);
        select relay.watch('t'), relay.watch('k');
        insert into t select i, 'ok' from generate_series(1, 1500) i;
        insert into t values (2000, {BAD}); update t set n = 'later' where id = 2000;
        insert into k values ({BAD}, 'x'), ('good', 'x'); update k set n = 'later' where id = {BAD};
        select relay.publish('numbers', '{{}}', key => 'n', headers => '{{"n": {digits}}}');
        select relay.publish('fine', '{{}}', key => 'n');
        insert into t select i, 'ok' from generate_series(3001, 3500) i;
    """)
    listening.start()
    got = listening.messages(2001, timeout=40)
    assert {m.json["key"]["id"] for m in got} == {*range(1, 1501), *range(3001, 3501), "good"}
    # Of t the insert, its update waits for it; of k both for their key; headers for a number of 5,000 digits.
    wait_until(lambda: listening.admin("select count(error) from relay.outbox") == [(4,)], 20, "four to be refused")
    shown = json.loads(run(listening, "status", "--json").stdout)
    refused = {each["id"]: each for each in shown["refused"]}
    assert all("can't be read" in each["error"] for each in refused.values())
    assert sorted(each["key"] for each in refused.values()) == [
        "n", 'public.k {"id":"\\xe9"}', 'public.k {"id":"\\xe9"}', 'public.t {"id":2000}',
    ]  # fmt: skip
    assert "Traceback" not in listening.script.log()
    checked = run(listening, "check").stdout
    assert "4 events refused" in checked
    assert listening.all_messages() == [], "the fine event of the key waits"

    (odd,) = [each["id"] for each in refused.values() if each["key"] == "n"]
    assert run(listening, "release", odd).returncode == 0
    listening.script.wait_for_log(odd, count=2)
    assert run(listening, "drop", odd, "--yes").returncode == 0
    (fine,) = listening.messages(1)
    assert fine.routing_key == "fine"
    for each in refused.keys() - {odd}:
        assert run(listening, "drop", each, "--yes").returncode == 0
    # The update that waited has the byte in its image before.
    wait_until(lambda: listening.admin("select count(*), count(error) from relay.outbox") == [(1, 1)], 20, "its turn")
