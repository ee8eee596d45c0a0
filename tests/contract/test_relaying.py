"""What is promised of every source: none lost, none invented, order per key, no copies without a fault."""

from __future__ import annotations

import contextlib
import json

import pytest

from dev.process import wait_until
from tests.contract.sources import Relayed, Source


def test_a_committed_event_is_published_and_leaves_the_outbox(relayed: Relayed, source: Source) -> None:
    relayed.start()
    source.commit(("shop.paid", 7, "order 1"), headers='{"x": 1}')
    (message,) = relayed.messages(1)
    properties = message.properties
    assert (message.routing_key, message.json) == ("shop.paid", {"n": 7})
    assert (properties.delivery_mode, properties.content_type, properties.type) == (2, "application/json", "message")
    assert (properties.headers["relay-key"], properties.headers["x"]) == ("order 1", 1)
    assert "relay-table" not in properties.headers
    relayed.await_empty()


def test_a_row_s_event_has_the_same_shape_everywhere(relayed: Relayed, source: Source) -> None:
    relayed.start()
    source.commit(("shop.orders", 7, 42), tbl="shop.orders")
    (message,) = relayed.messages(1)
    event = message.json
    assert list(event) == ["id", "at", "xid", "table", "op", "key", "old", "new"]
    assert event["id"] == message.properties.message_id
    assert event["at"].endswith("+00:00")
    assert (event["table"], event["op"], event["key"]) == ("shop.orders", "insert", {"id": 42})
    assert (event["old"], event["new"]) == (None, {"id": 42, "n": 7})
    assert message.properties.headers["relay-key"] == 'shop.orders {"id":42}'
    assert message.properties.headers["relay-table"] == "shop.orders"


def test_what_was_rolled_back_is_never_published(relayed: Relayed, source: Source) -> None:
    relayed.start()
    with contextlib.closing(source.connect()) as connection:
        cursor = connection.cursor()
        source.put(cursor, "t", 1)
        connection.rollback()
        source.put(cursor, "t", 2)
        connection.commit()
    assert [message.json["n"] for message in relayed.messages(1)] == [2]
    relayed.await_empty()


def test_a_backlog_leaves_in_the_order_of_each_key_and_once(relayed: Relayed, source: Source) -> None:
    source.commit(*[("t", number, f"k{number % 7}") for number in range(3000)])
    relayed.start()
    found: dict[str, list[int]] = {}
    for message in relayed.messages(3000):
        found.setdefault(message.properties.headers["relay-key"], []).append(message.json["n"])
    assert found == {f"k{key}": list(range(key, 3000, 7)) for key in range(7)}
    relayed.await_empty()


def test_what_nobody_takes_waits_and_the_others_flow(relayed: Relayed, source: Source) -> None:
    channel = relayed.vhost.channel()
    channel.queue_unbind("out", "relay", "#")
    channel.queue_bind("out", "relay", "flows")
    source.commit(*[("waits", number, "w") for number in range(200)])
    relayed.start()
    source.commit(*[(("waits", "flows")[number % 2], number, f"k{number}") for number in range(200)])
    assert [message.json["n"] for message in relayed.messages(100)] == list(range(1, 200, 2))
    channel.queue_bind("out", "relay", "waits")
    found = relayed.messages(300)
    assert [message.json["n"] for message in found[:200] if message.properties.headers["relay-key"] == "w"]
    assert [m.json["n"] for m in found if m.properties.headers["relay-key"] == "w"] == list(range(200))
    relayed.await_empty()


def test_what_the_broker_refuses_is_marked_and_its_key_waits(relayed: Relayed, source: Source) -> None:
    relayed.start()
    source.commit(("t", 1, "bad"), headers='{"CC": ["elsewhere"]}')
    source.commit(("t", 2, "bad"), ("t", 3, "good"))
    assert [message.json["n"] for message in relayed.messages(1)] == [3]
    marked = f"select error from {source.outbox} where error is not null"
    wait_until(lambda: source.ask(marked), 10, "the mark")
    ((error,),) = source.ask(marked)
    assert "CC" in error
    relayed.script.terminate()
    assert relayed.script.wait() == 0
    relayed.script.start()
    source.commit(("t", 4, "bad"), ("t", 5, "good"))
    assert [message.json["n"] for message in relayed.messages(1)] == [5]
    wait_until(lambda: source.pending() == 3, 10, "the good ones to leave the outbox")


def test_after_a_kill_everything_comes_at_least_once_and_in_order(relayed: Relayed, source: Source) -> None:
    source.commit(*[("t", number, f"k{number % 5}") for number in range(2000)])
    relayed.start()
    relayed.script.kill()
    relayed.script.start()
    relayed.await_empty()
    last: dict[str, list[int]] = {}
    seen = set()
    for message in relayed.all_messages():
        if message.properties.message_id not in seen:
            seen.add(message.properties.message_id)
            last.setdefault(message.properties.headers["relay-key"], []).append(message.json["n"])
    assert last == {f"k{key}": list(range(key, 2000, 5)) for key in range(5)}


def test_odd_text_comes_through_as_it_is(relayed: Relayed, source: Source) -> None:
    texts = ["a\nb", "💶 ünïcode", "quote \" ' \\ %s %% {}", "\x7f", "x" * 100_000]
    relayed.start()
    for text in texts:
        source.commit(("t", 0, text[:200]), body=json.dumps({"text": text}, ensure_ascii=False))
    found = relayed.messages(len(texts))
    assert [message.json["text"] for message in found] == texts
    assert [message.properties.headers["relay-key"] for message in found] == [text[:200] for text in texts]


def test_a_key_that_is_too_large_is_refused_and_the_others_flow(relayed: Relayed, source: Source) -> None:
    relayed.start()
    source.commit(("t", 1, "k" * ((1 << 20) + 1)), ("t", 2, "other"))
    assert [message.json["n"] for message in relayed.messages(1)] == [2]
    marked = f"select error from {source.outbox} where error is not null"
    wait_until(lambda: source.ask(marked), 10, "the mark")
    assert "larger than 96 MiB, or its topic, key, headers than 1 MiB" in source.ask(marked)[0][0]
    wait_until(lambda: source.pending() == 1, 10, "the other event to be deleted")


def test_a_row_that_can_t_be_read_is_refused_and_the_others_flow(relayed: Relayed, source: Source) -> None:
    """Text that is no UTF-8: only SQLite takes it."""
    if source.name != "sqlite":
        pytest.skip("it refuses such a text itself")
    relayed.start()
    values = "'t', 't', 'insert', '{\"id\":1}', cast(x'7b22ff227d' as text)"
    source.ask(f"insert into {source.outbox} (topic, tbl, op, key, new_image) values ({values})")
    source.commit(("t", 2, 2), tbl="t")
    assert [message.json["new"]["id"] for message in relayed.messages(1)] == [2]
    marked = f"select error from {source.outbox} where error is not null"
    wait_until(lambda: source.ask(marked), 10, "the mark")
    assert source.ask(marked) == [("it can't be read: it is no UTF-8",)]
