"""What the outbox's thin rows are read as: identity and message, made when they are asked for."""

import hashlib
import json
import uuid

from tests.sql.conftest import SQL

ODD = "set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape'"
MICROSECOND = "(extract(epoch from at - '2000-01-01 00:00:00+00') * 1000000)::bigint"


def test_the_identity_is_made_of_number_transaction_time_and_installation(admin):
    admin.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1), (2)")
    install = admin.value("select install from relay.listener")
    for seq, xid, at, told in admin.sql(f"select seq, xid::text::bigint, {MICROSECOND}, id from relay.backlog"):
        made_of = uuid.UUID(install).bytes + seq.to_bytes(8) + xid.to_bytes(8) + at.to_bytes(8)
        first = bytearray(hashlib.sha256(made_of).digest()[:16])
        first[6] = first[8] = 0x88
        assert uuid.UUID(bytes=bytes(first)) == uuid.UUID(told)
        assert (uuid.UUID(told).version, uuid.UUID(told).variant) == (8, uuid.RFC_4122)


def test_a_thin_row_reads_the_same_whatever_the_session_is_set_to(admin, connect):
    admin.sql(
        "create table t (id text primary key, b bytea, i interval, at timestamptz); select relay.watch('t');"
        "insert into t values (E'\\u00e4 \"', '\\x00ff', '1 day 2 hours', '2024-05-01 10:00:00.5+05'); truncate t"
    )
    odd = connect()
    odd.sql(ODD)
    read = "select id, body from relay.backlog order by seq"
    assert admin.sql(read) == odd.sql(read)
    inserted, truncated = admin.events()
    assert inserted["key"] == {"id": 'ä "'}
    assert inserted["at"].endswith("+00:00")
    assert (truncated["key"], truncated["old"], truncated["new"]) == (None, None, None)


def test_installing_again_gives_no_event_another_identity(admin, database):
    admin.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1)")
    before = admin.sql("select id, body from relay.backlog")
    database.server.psql(SQL / "install.sql", database.server.dsn(database.name))
    assert admin.sql("select id, body from relay.backlog") == before


def test_an_event_with_an_identity_and_a_message_of_its_own_keeps_them(admin):
    told = admin.value("select relay.publish('a', ' {\"n\":1.0} ')::text")
    assert admin.sql("select id::text, body from relay.backlog") == [(told, ' {"n":1.0} ')]


def test_reading_parses_no_image(admin):
    """What PostgreSQL writes as JSON and cannot read again must not stop everybody's events."""
    admin.sql("create table t (id int primary key, j json); select relay.watch('t')")
    deep = "[" * 5000 + "]" * 5000
    admin.sql('insert into t values (1, \'{"a": "\\u0000"}\'), (2, %s)', deep)
    bodies = [body for (body,) in admin.sql("select body from relay.backlog order by seq")]
    assert json.loads(bodies[0])["new"]["j"] == {"a": "\0"}
    assert bodies[1].endswith(f'"key":{{"id":2}},"old":null,"new":{{"id":2,"j":{deep}}}}}')
