"""Whoever may write into a polled database may write what no event can be made of: it is refused, the others flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.contract.sources import OfPostgres, OfSQLite, Relayed, Source

ODD = {
    "a name of half a character": {"headers": r'{"\ud800": 1}'},
    "a value of half a character": {"headers": r'{"a": "\udc00"}'},
    "a list of half a character": {"headers": r'{"a": ["\udc00"]}'},
    "a time before the first": {"at": "0001-01-01T00:00:00+23:59"},
    "a time behind the last": {"at": "9999-12-31T23:59:59-23:59"},
    "bytes for a time": {"at": b"\xff"},
    "bytes for a text": {"body": b"\xff"},
    "bytes for headers": {"headers": b"\xff"},
}


@pytest.mark.parametrize("odd", ODD)
def test_of_an_odd_row_only_that_one_is_refused(relayed: Relayed, source: Source, odd: str) -> None:
    if isinstance(source, OfPostgres) or (source.name != "sqlite" and "character" not in odd):
        pytest.skip("it refuses such a row itself")
    relayed.start()
    source.commit(("t", 1, "odd"), **ODD[odd])
    source.commit(("t", 2, "odd"), ("t", 3, "other"))
    assert [message.json["n"] for message in relayed.messages(1)] == [3]
    marked = f"select error from {source.outbox} where error is not null"
    wait_until(lambda: source.ask(marked), 10, "the mark")
    wait_until(lambda: source.pending() == 2, 10, "the other event to be deleted")
    assert "Traceback" not in relayed.script.log()


# Of a firm's queue any column may be of any type, and null.
COLUMNS = {
    "numbers": ("KEY_ bigint, TOPIC int, OP int, BODY int, HEADERS int", "5, 7, 8, 9, null"),
    "fractions": (
        "KEY_ decimal(5,2), TOPIC decimal(5,2), OP decimal(5,2), BODY decimal(5,2), HEADERS int",
        "5, 7.5, 8, 9, null",
    ),
    "nothing": ("KEY_ int, TOPIC varchar(9), OP varchar(9), BODY text, HEADERS text", "null, null, null, null, null"),
    "headers that are a number": ("KEY_ int, TOPIC text, OP text, BODY text, HEADERS int", "1, 'a', 'b', '{}', 5"),
    "times": (
        "KEY_ date, TOPIC date, OP date, BODY datetime, HEADERS text",
        "'2026-01-02', '2026-01-02', '2026-01-02', '2026-01-02', null",
    ),
    "bytes": ("KEY_ blob, TOPIC blob, OP blob, BODY blob, HEADERS blob", "x'ff', x'ff', x'ff', x'ff', x'ff'"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_firm_s_queue_with_odd_columns_ends_nothing(
    script: Callable[..., Script], source: Source, vhost: Vhost, kind: str
) -> None:
    if isinstance(source, OfPostgres):
        pytest.skip("PostgreSQL has triggers for it")
    is_sqlite = source.name == "sqlite"
    table = "FILA" if is_sqlite else "shop.FILA"
    if not is_sqlite:
        source.ask("create database shop")
        source.ask("grant select, update, delete on shop.* to relay_listener")
    columns, values = COLUMNS[kind]
    number = "integer primary key autoincrement" if is_sqlite else "bigint auto_increment primary key"
    source.ask(f"create table {table} (ID {number}, ERR text, {columns})")
    source.ask(f"insert into {table} (KEY_, TOPIC, OP, BODY, HEADERS) values ({values})")
    named = "seq=ID key=KEY_ topic=TOPIC op=OP body=BODY headers=HEADERS error=ERR"
    made = Relayed(script, source, vhost, OUTBOX_TABLE=table, OUTBOX_COLUMNS=named, OUTBOX_DONE="delete")
    made.bind()
    made.start()
    waits = f"select count(*) from {table} where ERR is null"
    wait_until(lambda: source.ask(waits) == [(0,)], 15, "the row to be published, or refused")
    assert len(made.all_messages()) + source.ask(f"select count(*) from {table}")[0][0] == 1
    assert "Traceback" not in made.script.log()


NOTES = {
    "blobs": "insert into relay_watched values (x'ff', 5, 'not json', x'00')",
    "nothing": "insert into relay_watched values (null, 't', '{}', '')",
    "a list": "insert into relay_watched values ('t', 't', '[1]', '')",
    "a number of columns": """insert into relay_watched values ('t', 't', '{"columns": 5}', '')""",
    "null for a key": """insert into relay_watched values ('t', 't', '{"key": [null], "when": 7}', '')""",
    "nested": f"insert into relay_watched values ('t', 't', '{'[' * 5000}{']' * 5000}', '')",
}


@pytest.fixture
def file(script: Callable[..., Script], vhost: Vhost, tmp_path: Path) -> Relayed:
    made = Relayed(script, OfSQLite(tmp_path), vhost)
    made.bind()
    return made


@pytest.mark.parametrize("odd", NOTES)
def test_an_odd_note_of_a_watch_is_named_and_the_others_are_looked_at(file: Relayed, odd: str) -> None:
    """Whoever may write to the file may write that, too."""
    file.source.ask(NOTES[odd])
    file.source.ask("create table shop (id integer primary key)")
    file.source.ask("insert into relay_watched values ('shop', 'shop', '{}', '')")
    file.start()
    file.script.wait_for_log("its trigger relay_replace_shop is missing")
    reason = "is not there" if odd == "nothing" else "what it was watched with can't be read"
    file.script.wait_for_log(reason)
    file.source.commit(("t", 1, "k"))
    assert [message.json["n"] for message in file.messages(1)] == [1]


@pytest.mark.parametrize(("column", "said"), [("version", "are version 0"), ("turn", "for turn -> set it to 0")])
def test_an_odd_row_of_the_listener_s_is_named(file: Relayed, column: str, said: str) -> None:
    value = "'x'" if column == "version" else "9223372036854775807"
    file.source.ask(f"update relay_listener set {column} = {value}")
    file.script.start()
    file.script.wait_for_log(said)
    assert "Traceback" not in file.script.log()
