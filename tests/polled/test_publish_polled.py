"""relay.publish on MariaDB, as a procedure and from Python, and from Python on SQLite."""

import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from relay.publish import Message, publish, publish_many

ROWS = "select id, topic, tbl, op, `key`, body, headers from relay.outbox order by seq"


@pytest.fixture
def publisher(mariadb, admin, connect):
    """An application that may publish, and nothing else on the relay's database."""
    mariadb.execute("create user pub@'%' identified by 'pub'", "grant all on shop.* to pub@'%'",
                    "grant relay_publisher to pub@'%'", "set default role relay_publisher for pub@'%'")  # fmt: skip
    return connect("pub", "pub")


def test_publish_puts_the_payload_into_the_outbox_as_it_is(admin, publisher):
    payload = '{"b" : 1.10, "a":123456789012345678901234567890.50, "a": "é𝄞"}'
    event = publish(publisher.cursor, "shop.paid", payload, key="order 1", headers={"source": "shop"})
    publish(publisher.cursor, "plain", {"x": "ü"})
    assert admin.sql(ROWS)[0] == (event, "shop.paid", None, "message", "order 1", payload, '{"source": "shop"}')
    assert admin.sql(ROWS)[1][4:] == (None, '{"x": "ü"}', None)
    assert uuid.UUID(event).version == 4


def test_the_procedure_gives_the_id(admin, publisher):
    ((event,),) = publisher.sql("""call relay.publish('a', '{"n": 0.1000000000000000000001}', null, null)""")
    assert admin.sql("select id, body from relay.outbox") == [(event, '{"n": 0.1000000000000000000001}')]


def test_publish_follows_the_transaction(admin, publisher):
    publisher.sql("begin")
    publish(publisher.cursor, "a", 1)
    publisher.sql("rollback")
    publisher.sql("begin")
    ids = publish_many(publisher.cursor, [Message("a", 2), Message("b", 3, "k", {"h": 1})])
    publisher.sql("commit")
    assert admin.sql("select id, topic, body, `key` from relay.outbox order by seq") == [
        (ids[0], "a", "2", None), (ids[1], "b", "3", "k"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a", "{x}", None, None), "the payload is not JSON"),
        (("a", "", None, None), "the payload is not JSON"),
        (("a", None, None, None), "the payload is not JSON"),
        (("", "1", None, None), "1 to 255 bytes"),
        ((None, "1", None, None), "1 to 255 bytes"),
        (("é" * 128, "1", None, None), "1 to 255 bytes"),
        (("a", "1", None, "[1]"), "headers must be a JSON object"),
        (("a", "1", None, json.dumps({"h": "x" * (1 << 20)})), "larger than 256 KiB"),
    ],
)
def test_publish_refuses_what_could_not_be_delivered(admin, publisher, arguments, says):
    with pytest.raises(pymysql.err.MySQLError, match=says):
        publisher.sql("call relay.publish(%s, %s, %s, %s)", *arguments)
    assert admin.sql(ROWS) == []


def test_who_is_no_publisher_may_not(admin, app):
    with pytest.raises(pymysql.err.MySQLError, match="denied"):
        publish(app.cursor, "a", 1)
    assert admin.sql(ROWS) == []


class Wrapped:
    """As Django's CursorWrapper."""

    def __init__(self, cursor):
        self.cursor = cursor

    def execute(self, sql, parameters=None):
        return self.cursor.execute(sql, parameters)

    def fetchall(self):
        return self.cursor.fetchall()


def test_a_wrapped_cursor_is_known(admin, publisher):
    publish(Wrapped(publisher.cursor), "a", [1])
    assert admin.value("select body from relay.outbox") == "[1]"


def test_sqlite(tmp_path):
    install = Path(__file__).resolve().parents[2] / "sql/sqlite/install.sql"
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.executescript(install.read_text())
        event = publish(connection.cursor(), "a.b", {"x": 1.5}, key="k", headers={"h": "ü"})
        connection.commit()
        publish(connection.cursor(), "a.b", 2)
        connection.rollback()
        found = connection.execute("select id, topic, tbl, op, key, body, headers from relay_outbox").fetchall()
        assert found == [(event, "a.b", None, "message", "k", '{"x": 1.5}', '{"h": "\\u00fc"}')]
        for topic, payload in (("", 1), ("é" * 128, 1), ("a", "{x}"), ("a", float("nan")), ("a", "")):
            with pytest.raises(ValueError, match=r"topic|JSON|Expecting"):
                publish(connection.cursor(), topic, payload)
