"""The statements of the listener, on a database of their own."""

from __future__ import annotations

import itertools
import random

from psycopg2.extensions import cursor as Cursor

from dev.database import Database
from relay.listening import outbox, outbox_read, schema
from relay.listening.event import Row
from relay.listening.gaps import NOTHING

PARAMETERS = {
    "firsts": [], "lasts": [], "upto": 0, "near": NOTHING, "far": NOTHING, "high": 0, "most": 1000, "bytes": 1 << 30,
    "keys": [], "tables": [], "topics": [],
}  # fmt: skip


def rows(cursor: Cursor) -> dict[int, Row]:
    """All that is in the outbox, as READ finds it."""
    cursor.execute(outbox_read.READ, PARAMETERS)
    return {event.seq: event.row for event in outbox_read.read(cursor.fetchall(), 1000, 1 << 30).events}


def test_what_has_the_number_of_a_confirmed_event_is_not_deleted_for_it(database: Database) -> None:
    """After a restore, or a crash of PostgreSQL, a number can be another event's than the one that was confirmed."""
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute(outbox.PREPARE)
        cursor.execute(outbox.TAKE, (1, True))
        ((turn, _channel),) = cursor.fetchall()
        cursor.execute("select relay.publish('t', '{}') from generate_series(1, 600)")
        batch = rows(cursor)
        (first, own), (second, its), (third, _) = list(batch.items())[:3]
        strangers = {
            first: own._replace(xid=own.xid + 1),
            second: its._replace(at=its.at + 1),
            third: its,  # one that was confirmed, too, but under another number
        }
        here = len(batch)
        for confirmed, left in ((strangers, list(batch)), (batch | strangers, [first, second, third]), (batch, [])):
            cursor.execute(outbox.LEFT, outbox.rows(confirmed))
            assert cursor.fetchall() == [(here - len(left),)]
            here = len(left)
            cursor.execute(outbox.DELETE, (turn, *outbox.rows(confirmed)))
            cursor.execute("select seq from relay.outbox order by seq")
            assert cursor.fetchall() == [(seq,) for seq in left]


def test_nothing_is_deleted_when_it_is_not_our_turn(database: Database) -> None:
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute(outbox.PREPARE)
        cursor.execute(outbox.TAKE, (1, True))
        ((turn, _channel),) = cursor.fetchall()
        cursor.execute("select relay.publish('t', '{}')")
        batch = rows(cursor)
        for turns, left in ((turn - 1, 1), (turn, 0)):
            cursor.execute(outbox.DELETE, (turns, *outbox.rows(batch)))
            cursor.execute("select count(*) from relay.outbox")
            assert cursor.fetchall() == [(left,)]


def test_row_events_are_read_with_what_the_backlog_shows_and_deleted_by_it(database: Database) -> None:
    """As the listener's login, whatever is in a row; a row that is held comes without its body."""
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute("create table t (id int primary key, j json); select relay.watch('t')")
        cursor.execute('insert into t values (1, \'{"a": "\\u0000"}\'), (2, null), (3, null); truncate t')
        cursor.execute("set role relay_listener")
        cursor.execute(schema.SESSION)
        cursor.execute(outbox.PREPARE)
        cursor.execute("select seq, id::text, body from relay.backlog order by seq")
        shown = cursor.fetchall()
        cursor.execute(outbox_read.READ, PARAMETERS | {"keys": ['public.t {"id":2}']})
        found = outbox_read.read(cursor.fetchall(), 1000, 1 << 30)
        assert [(e.seq, e.id, e.body.decode()) for e in found.events] == [shown[0], *shown[2:]]
        assert [held.seq for held in found.held] == [shown[1][0]]
        cursor.execute(
            outbox_read.PROBE, {"low": shown[0][0], "group": "table public.t", "keys": ['public.t {"id":1}']}
        )
        event = outbox_read.event(cursor.fetchall()[0])
        assert (event.seq, event.id, event.body.decode()) == shown[1]
        cursor.execute(outbox.TAKE, (1, True))
        ((turn, _channel),) = cursor.fetchall()
        batch = {each.seq: each.row for each in [*found.events[1:], event]}
        cursor.execute(outbox.DELETE, (turn, *outbox.rows(batch)))
        cursor.execute("select seq from relay.outbox")
        assert cursor.fetchall() == [(shown[0][0],)]


def test_no_read_and_no_delete_looks_at_the_whole_outbox(database: Database) -> None:
    """Their plans are made once, without what is asked for; statistics may call the outbox empty."""
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute("analyze relay.outbox")
        cursor.execute(schema.SESSION)
        cursor.execute(outbox.PREPARE)
        cursor.execute("select relay.publish('t', '{}') from generate_series(1, 3000)")
        for statement, conditions in (
            (
                "relay_read ('{1}', '{9}', 0, '1:1:', '1:1:', 5, 100, 1000, '{}', '{}', '{}')",
                ["seq >= gap.first", "seq > $6"],
            ),
            ("relay_skip (5, 100, '{}', '{}', '{}')", ["seq > $1"]),
            ("relay_delete (1, '{1,2}', '{}', '{}')", ["seq = ANY ($2)"]),
            ("relay_left ('{1,2}', '{}', '{}')", ["seq = ANY ($1)"]),
        ):
            cursor.execute(f"explain execute {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert " on outbox" in plan
            assert "Seq Scan on outbox" not in plan
            for condition in conditions:
                assert any(condition in line for line in plan.splitlines() if "Index Cond" in line), plan


def test_what_is_passed_is_what_a_read_leaves_out(database: Database) -> None:
    """Up to the first row that does not wait, or is marked; by table and topic, the lowest number of each."""
    dice = random.Random(1)
    held: dict[str, list[str]] = {"keys": ["k1", 'k"2'], "tables": ["s.t"], "topics": ["a", "b"]}
    for names in held.values():
        names += [f"other {n}" for n in range(2000)]
    rows = [(table, topic, key) for table, topic in [(None, "a"), (None, "b"), ("s.t", "a"), ("s.u", "c"), (None, "c")]
            for key in (None, "k1", 'k"2', "k3", "k" * 3000)]  # fmt: skip
    waiting = [row for row in rows if row[1] != "c" or row[2] in held["keys"]]
    odd = [*rows, ("s.u" * 1000, "a", "k3"), (None, "a" * 2000, None), ("other", "a", None), ("s.u", "b", None)]
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute(outbox.PREPARE)
        full = 0
        for _ in range(60):
            cursor.execute("truncate relay.outbox")
            for n in range(1, 31):
                table, topic, key = dice.choice(odd if dice.random() < 0.1 else waiting)
                cursor.execute(
                    "insert into relay.outbox (seq, topic, tbl, op, key, body, error) overriding system value "
                    "values (%s, %s, %s, 'insert', %s, '{}', %s)",
                    (n, topic, table, key, "by hand" if dice.random() < 0.02 else None),
                )
            high = dice.randrange(5)
            cursor.execute(outbox_read.READ, PARAMETERS | held | {"high": high})
            read = outbox_read.read(cursor.fetchall(), 1000, 1 << 30)
            waits = {row.seq: row for row in read.held if row.error is None}
            expected = list(itertools.takewhile(waits.__contains__, read.seqs))
            cursor.execute(outbox_read.SKIP, held | {"high": high, "most": 20})
            skipped = outbox_read.skipped(cursor.fetchall(), 20)
            assert skipped.seqs == expected[:20]
            assert skipped.full == (len(expected) >= 20)
            lowest: dict[tuple[str, bool], int] = {}
            for seq in skipped.seqs:
                row = waits[seq]
                if row.table == "s.t" or (row.table is None and row.topic in "ab"):
                    lowest.setdefault((row.group, row.key in held["keys"]), seq)
            passed = {(one.group, one.is_behind): one.seq for one in skipped.passed if one.table or one.topic}
            assert passed == lowest
            full += skipped.full
        assert 10 < full < 50


def test_an_event_of_no_table_waits_with_its_topic_whatever_tables_wait(database: Database) -> None:
    """In PostgreSQL `null = any('{}')` is false, not null: with no table held, no topic was."""
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute(outbox.PREPARE)
        cursor.execute("select relay.publish('away', '{}'), relay.publish('t', '{}')")
        for tables in ([], ["s.t"]):
            cursor.execute(outbox_read.READ, PARAMETERS | {"tables": tables, "topics": ["away"]})
            found = outbox_read.read(cursor.fetchall(), 1000, 1 << 30)
            assert ([row.topic for row in found.held], [event.topic for event in found.events]) == (["away"], ["t"])
