"""From a watched table to the queue: the same message on every source, and the messages give the table."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dev.process import wait_until
from tests.contract.sources import OfMariaDB, OfPostgres, Relayed, Source
from tests.listening import Message, first_seen

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def table(source: Source) -> str:
    """A watched table `orders` (id, n, name); its name in SQL."""
    columns = "(id int primary key, n int, name varchar(20))"
    if isinstance(source, OfPostgres):
        source.ask(f"create table orders {columns}")
        source.ask("select relay.watch('orders')")
        return "orders"
    url, name = source.url, "orders"
    if isinstance(source, OfMariaDB):
        source.server.execute("create database shop character set utf8mb4")
        url, name = source.admin_url("shop"), "shop.orders"
    if source.name == "sqlite":
        source.ask("pragma journal_mode = wal")
    source.ask(f"create table {name} {columns.replace('int primary', 'integer primary')}")
    settings = {"DATABASE_URL": url, "RABBITMQ_URL": "amqp://x:x@127.0.0.1:1/", "CONTROL": "off"}
    subprocess.run(
        [sys.executable, ROOT / "listen.py", "--env-file", os.devnull, "watch", name], check=True, cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings},
    )  # fmt: skip
    return name


def test_a_change_has_the_same_message_everywhere(relayed: Relayed, source: Source, table: str) -> None:
    relayed.start()
    for statement in (
        f"insert into {table} values (1, 1, 'ü')",
        f"update {table} set n = null",
        f"update {table} set id = 2",
        f"delete from {table}",
    ):
        source.ask(statement)
    messages = relayed.messages(5)
    told = [(m.properties.type, m.json["key"], m.json["old"], m.json["new"]) for m in messages]
    one, null = {"id": 1, "n": 1, "name": "ü"}, {"id": 1, "n": None, "name": "ü"}
    moved = {**null, "id": 2}
    assert sorted(told, key=lambda one: int(one[1]["id"])) == [  # there is an order per key only
        ("insert", {"id": 1}, None, one), ("update", {"id": 1}, one, null), ("delete", {"id": 1}, null, None),
        ("insert", {"id": 2}, None, moved), ("delete", {"id": 2}, moved, None),
    ]  # fmt: skip
    (label,) = {m.json["table"] for m in messages}
    assert label.endswith("orders")
    assert {m.routing_key for m in messages} == {label}
    assert {m.properties.headers["relay-table"] for m in messages} == {label}
    assert messages[0].properties.headers["relay-key"].startswith(f"{label} {{")
    relayed.await_empty()


def test_whatever_writers_do_while_the_listener_is_killed_the_messages_give_the_table(
    relayed: Relayed, source: Source, table: str
) -> None:
    stop, errors = threading.Event(), list[Exception]()
    writers = [threading.Thread(target=write, args=(source, table, n, stop, errors), daemon=True) for n in range(4)]
    relayed.start()
    for writer in writers:
        writer.start()
    messages = list[Message]()
    try:
        for _ in range(3):
            before = len(messages)

            def more(before: int = before) -> bool:
                messages.extend(relayed.all_messages())
                return len(messages) > before or bool(errors)

            wait_until(more, 30, "messages")
            relayed.script.kill()
            relayed.script.start()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert errors == []
    relayed.await_empty(60)
    rows: dict[str, Any] = {}
    messages += relayed.all_messages()
    for message in first_seen(messages):
        event = message.json
        key = json.dumps(event["key"])
        assert (key in rows) == (event["op"] != "insert"), event
        if event["op"] == "delete":
            del rows[key]
        else:
            rows[key] = event["new"]
    assert sorted((row["id"], row["n"]) for row in rows.values()) == sorted(source.ask(f"select id, n from {table}"))


def write(source: Source, table: str, number: int, stop: threading.Event, errors: list[Exception]) -> None:
    """Changes of twenty rows of its own, some rolled back."""
    chance = random.Random(number)
    try:
        with contextlib.closing(source.connect()) as connection:
            cursor = connection.cursor()
            while not stop.wait(0.02):
                if source.name == "sqlite":
                    cursor.execute("begin immediate")
                for _ in range(chance.randint(1, 4)):
                    row = number * 20 + chance.randint(0, 19)
                    what = chance.choice(["insert", "update", "update", "delete"])
                    if what == "insert":
                        select = f"select {row}, 0, 'x' where not exists (select 1 from {table} where id = {row})"
                        cursor.execute(f"insert into {table} {select}")
                    elif what == "update":
                        cursor.execute(f"update {table} set n = n + 1 where id = {row}")
                    else:
                        cursor.execute(f"delete from {table} where id = {row}")
                connection.rollback() if chance.random() < 0.2 else connection.commit()
    except Exception as error:  # noqa: BLE001 - the test tells
        errors.append(error)
