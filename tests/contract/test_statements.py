"""The statements of each kind of database, as SQLAlchemy's dialect writes them: also of those that nobody here runs."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import mysql, oracle, sqlite

from relay.database_url import MYSQL, ORACLE, SQLITE
from relay.listening.event import Row
from relay.listening.polled.expressions import Sizes
from relay.listening.polled.outbox_table import mapped, own
from relay.listening.polled.statements import Statements

DIALECTS = {MYSQL: mysql.dialect, ORACLE: oracle.dialect, SQLITE: sqlite.dialect}
ALL = Sizes(ranges=4, keys=2, tables=1, topics=1, has_heavy=True)


def of(kind: str) -> Statements:
    return Statements(kind, DIALECTS[kind](), own(kind))


@pytest.mark.parametrize("kind", [MYSQL, ORACLE, SQLITE])
def test_each_is_written_and_knows_its_values(kind: str) -> None:
    made = of(kind)
    given = {"high": 1, "most": 2, "bytes": 3, "upto": 4, "low": 5, "group": "g", "turn": 6, "reason": "r"}
    given |= {f"{name}{n}": n for name in ("first", "last", "key", "table", "topic", "seq", "id") for n in range(10)}
    for sizes in (Sizes(), Sizes(seqs=4), ALL):
        for statement in (made.upto(sizes), made.read(sizes), made.probe(sizes, of_table=True), made.left(10)):
            assert len(statement.values(given)) >= 2
            assert " ORDER BY " in statement.text or "count(" in statement.text
    for statement in (made.skip, made.late(4)):
        assert len(statement.values(given)) >= 2
        assert " ORDER BY " in statement.text
    for statement in (made.measure, made.first, made.refused, made.any, made.refuse):
        assert statement is not None
        statement.values(given)


def test_mysql_is_told_its_index_and_never_scans() -> None:
    made = of(MYSQL)
    text, values = made.deletion({7: Row("0b1c", 0, 0), 9: Row("0b1d", 0, 0)}, 1)
    assert values is None
    assert text == (
        "DELETE o FROM relay.outbox AS o FORCE INDEX (PRIMARY) WHERE o.seq IN (7,9) AND o.id IN ('0b1c','0b1d')"
    )
    assert "FORCE INDEX (PRIMARY)" in made.read(Sizes()).text


def test_an_identity_that_is_no_uuid_is_never_written_into_a_text() -> None:
    text, values = of(MYSQL).deletion({7: Row("x') or 1=1 -- ", 0, 0)}, 1)
    assert "1=1" not in text
    assert "x') or 1=1 -- " in values


def test_oracle_gets_lists_below_its_limit_by_name_and_no_limit_clause() -> None:
    made = of(ORACLE)
    text, values = made.deletion({number: Row(f"id {number}", 0, 0) for number in range(900)}, 1)
    assert text.startswith("DELETE FROM relay.outbox o WHERE o.seq IN (:seq0, :seq1")
    assert values["id899"] == "id 899"
    assert "FETCH FIRST :most ROWS ONLY" in made.read(Sizes()).text
    assert "LIMIT" not in made.upto(Sizes()).text


def test_sqlite_deletes_only_while_it_has_the_turn() -> None:
    text, values = of(SQLITE).deletion({7: Row("a", 0, 0)}, 42)
    assert text.endswith("AND (SELECT relay_listener.turn \nFROM relay_listener) = ?")
    assert values[-1] == 42


def test_a_firm_s_rows_are_marked_by_number() -> None:
    table = mapped("shop.FILA", "seq=ID key=PHONE", "STATUS = 'NEW'", "STATUS = 'SENT', at = date_format(now(), '%Y')")
    text, values = Statements(MYSQL, mysql.dialect(), table).deletion({7: Row("", 0, 0)}, 1)
    assert text.replace("%%", "%") == (
        "UPDATE shop.`FILA` AS o FORCE INDEX (PRIMARY) SET STATUS = 'SENT', at = date_format(now(), '%Y') "
        "WHERE o.`ID` IN (%s)"
    )
    assert values == (7,)
