"""A queue that a firm has already (ID, STATUS, text columns) is relayed as it stands: in order, marked or deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.contract.sources import OfPostgres, Relayed, Source
from tests.listening import run

MARKED = {
    "OUTBOX_COLUMNS": "seq=ID key=PHONE topic='sms.out' at=CREATED",
    "OUTBOX_PENDING": "STATUS = 'NEW'",
    "OUTBOX_DONE": "STATUS = 'SENT', NOTE = concat(NOTE, ' 100%')",
}


class Queue:
    """The table on a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.is_sqlite = source.name == "sqlite"
        self.table = "HSM_FILA" if self.is_sqlite else "shop.HSM_FILA"
        if not self.is_sqlite:
            source.ask("create database shop")
            source.ask("grant select, update, delete on shop.* to relay_listener")
        number = "integer primary key autoincrement" if self.is_sqlite else "bigint auto_increment primary key"
        source.ask(
            f"create table {self.table} (ID {number}, STATUS varchar(10) not null default 'NEW', PHONE varchar(20), "
            "TEXT varchar(200), PRICE decimal(12,3), NOTE varchar(50) not null default '', CREATED varchar(30))"
        )

    def write(self, *rows: tuple[str, str]) -> None:
        with contextlib.closing(self.source.connect()) as connection:
            cursor = connection.cursor()
            for phone, text in rows:
                mark = self.source.mark
                cursor.execute(
                    f"insert into {self.table} (PHONE, TEXT, PRICE, CREATED) values ({mark}, {mark}, 12.5, "
                    "'2026-01-02 03:04:05.678')",
                    (phone, text),
                )
            connection.commit()

    def count(self, status: str) -> int:
        return int(self.source.ask(f"select count(*) from {self.table} where STATUS = '{status}'")[0][0])


@pytest.fixture
def queue(source: Source) -> Queue:
    if isinstance(source, OfPostgres):
        pytest.skip("PostgreSQL has triggers for it")
    return Queue(source)


def relaying(script: Callable[..., Script], queue: Queue, vhost: Vhost, **settings: str) -> Relayed:
    given = {**MARKED, "OUTBOX_TABLE": queue.table, **settings}
    if queue.is_sqlite:
        given["OUTBOX_DONE"] = given["OUTBOX_DONE"].replace("concat(NOTE, ' 100%')", "NOTE || ' 100%'")
    made = Relayed(script, queue.source, vhost, **given)
    made.bind()
    return made


def test_its_rows_are_published_in_order_and_marked(script: Callable[..., Script], queue: Queue, vhost: Vhost) -> None:
    queue.source.ask(f"create index waiting on {queue.table} (STATUS)")
    queue.write(*[(f"+55{number % 3}", f"text {number} 'ü'") for number in range(1500)])
    relayed = relaying(script, queue, vhost).start()
    found = relayed.messages(1500)
    first = found[0]
    assert (first.routing_key, first.properties.headers["relay-key"]) == ("sms.out", "+550")
    event = first.json
    assert list(event) == ["id", "at", "xid", "table", "op", "key", "old", "new"]
    assert (event["table"], event["op"], event["key"]) == (queue.table, "insert", {"PHONE": "+550"})
    assert event["at"] == "2026-01-02T03:04:05.678+00:00"
    assert event["new"]["TEXT"] == "text 0 'ü'"
    assert b'"PRICE":12.5' in first.body
    for phone in range(3):
        texts = [message.json["new"]["TEXT"] for message in found if message.json["key"] == {"PHONE": f"+55{phone}"}]
        assert texts == [f"text {number} 'ü'" for number in range(phone, 1500, 3)]
    wait_until(lambda: queue.count("SENT") == 1500, 10, "all to be marked")
    assert queue.source.ask(f"select distinct NOTE from {queue.table}") == [(" 100%",)]
    done = run(relayed, "check")
    assert "FAILED" not in done.stdout, done.stdout


def test_a_row_that_is_set_back_is_sent_again(script: Callable[..., Script], queue: Queue, vhost: Vhost) -> None:
    relayed = relaying(script, queue, vhost).start()
    queue.write(("1", "a"), ("1", "b"))
    relayed.messages(2)
    wait_until(lambda: queue.count("SENT") == 2, 10, "both to be marked")
    queue.source.ask(f"update {queue.table} set STATUS = 'NEW' where ID = 1")
    assert [message.json["new"]["TEXT"] for message in relayed.messages(1)] == ["a"]


def test_without_a_key_all_keep_their_order_and_are_deleted(
    script: Callable[..., Script], queue: Queue, vhost: Vhost
) -> None:
    queue.write(*[(str(number), str(number)) for number in range(300)])
    settings = {"OUTBOX_COLUMNS": "seq=ID", "OUTBOX_PENDING": "", "OUTBOX_DONE": "delete"}
    relayed = relaying(script, queue, vhost, **settings).start()
    found = relayed.messages(300)
    assert [message.json["new"]["ID"] for message in found] == list(range(1, 301))
    assert {message.properties.headers["relay-key"] for message in found} == {queue.table}
    assert found[0].routing_key == queue.table
    wait_until(lambda: queue.count("NEW") == 0, 10, "all to be deleted")


def test_check_misses_the_index_and_a_key(script: Callable[..., Script], queue: Queue, vhost: Vhost) -> None:
    relayed = relaying(script, queue, vhost, OUTBOX_COLUMNS="seq=ID")
    found = run(relayed, "check").stdout
    assert "create index relay_pending on" in found
    assert "no key in OUTBOX_COLUMNS" in found


@pytest.mark.parametrize(("settings", "said"), [
    ({"OUTBOX_COLUMNS": "key=PHONE"}, "names no column for seq"),
    ({"OUTBOX_COLUMNS": "seq=ID phone=PHONE"}, "OUTBOX_COLUMNS has phone=PHONE"),
    ({"OUTBOX_COLUMNS": "seq=ID; drop"}, "OUTBOX_COLUMNS"),
    ({"OUTBOX_PENDING": ""}, "does not say which ones wait"),
    ({"OUTBOX_TABLE": "a b"}, "is no table's name"),
    ({"LISTEN_CHANNELS": "x"}, "only PostgreSQL has notifications"),
    ({"OUTBOX_TABLE": ""}, "OUTBOX_TABLE is not"),
])  # fmt: skip
def test_a_mapping_that_will_not_do_is_told_with_what_to_write(
    script: Callable[..., Script], queue: Queue, vhost: Vhost, settings: dict[str, str], said: str
) -> None:
    relayed = relaying(script, queue, vhost, **settings)
    done = run(relayed, "status")
    assert done.returncode == 78, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
