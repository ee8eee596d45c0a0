"""The statements of the listener, on a database of their own."""

from __future__ import annotations

from dev.database import Database
from relay.listening import outbox


def test_what_has_the_number_of_a_confirmed_event_is_not_deleted_for_it(database: Database) -> None:
    """After a restore, or a crash of PostgreSQL, a number can be another event's than the one that was confirmed."""
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute(outbox.TAKE, (1,))
        ((turn, _channel),) = cursor.fetchall()
        cursor.execute("select relay.publish('t', '{}') from generate_series(1, 3)")
        cursor.execute("select seq, id::text from relay.outbox order by seq")
        (one, own), (other, _), (third, its) = cursor.fetchall()
        stranger = "00000000-0000-0000-0000-000000000000"
        seqs, ids = outbox.array([one, other, third]), outbox.array([own, stranger, its])
        cursor.execute(outbox.DELETE, (turn, seqs, ids))
        cursor.execute("select seq from relay.outbox")
        assert cursor.fetchall() == [(other,)]


def test_nothing_is_deleted_when_it_is_not_our_turn(database: Database) -> None:
    with database.admin() as admin, admin.cursor() as cursor:
        cursor.execute(outbox.TAKE, (1,))
        ((turn, _channel),) = cursor.fetchall()
        cursor.execute("select relay.publish('t', '{}')")
        cursor.execute("select seq, id::text from relay.outbox")
        ((seq, own),) = cursor.fetchall()
        for turns, left in ((turn - 1, 1), (turn, 0)):
            cursor.execute(outbox.DELETE, (turns, outbox.array([seq]), outbox.array([own])))
            cursor.execute("select count(*) from relay.outbox")
            assert cursor.fetchall() == [(left,)]
