"""What is looked at in a polled database beside the outbox's rows, and what the answers mean."""

import datetime
import re
from collections.abc import Sequence
from typing import Any

from relay.database_url import MYSQL, SQLITE, PolledUrl
from relay.errors import ConfigError
from relay.listening.polled.outbox_table import OutboxTable
from relay.listening.polled.unreachable import number
from relay.listening.source import Rows

SCHEMA_VERSION = 1
_LOST = {0, 1927, 2003, 2006, 2013, 2055, 4031}  # MariaDB's and MySQL's: the connection is gone
_INSTALL = {MYSQL: "sql/mariadb/install.sql", SQLITE: "sqlite3 FILE < sql/sqlite/install.sql"}
TOPICS = 10  # that a look tells of


def listener(url: PolledUrl) -> str:
    """The name of the table that the sessions of the listener share."""
    return "relay_listener" if url.kind == SQLITE else "relay.listener"


def turn(url: PolledUrl) -> str:
    """Ask for the turn of who took the outbox last."""
    return f"select turn from {listener(url)}"  # noqa: S608 - one of two names


def now(url: PolledUrl) -> str:
    """Ask for the server's time, UTC, as text."""
    if url.kind == SQLITE:
        return "select strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    if url.kind == MYSQL:
        return "select cast(utc_timestamp(6) as char)"
    return "select to_char(sys_extract_utc(systimestamp), 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6') from dual"


def judge(url: PolledUrl, version: int) -> None:
    """Say whether the relay's tables there are of this program's version. Raises ConfigError."""
    if version == SCHEMA_VERSION:
        return
    older = version < SCHEMA_VERSION
    what = f"{url.product} {url.shown()}: the relay's tables are version {version}, this program needs {SCHEMA_VERSION}"
    upgrade = f"upgrade them: {url.scripts(_INSTALL.get(url.kind, 'sql/oracle/'))}"
    raise ConfigError((what, upgrade if older else "install the newer version of the relay"))


def is_lost(error: BaseException) -> bool:
    """Is the connection gone, so that the session must end?"""
    return type(error).__name__ == "InterfaceError" or (
        type(error).__name__ == "OperationalError" and number(error) in _LOST and not _is_sqlite(error)
    )


def _is_sqlite(error: BaseException) -> bool:
    return type(error).__module__ == "sqlite3"


def moment(text: Any) -> float | None:
    """Seconds of the epoch, of a time as the tables hold it; None = none."""
    if text is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(text.decode() if isinstance(text, bytes) else str(text))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def measured(rows: Sequence[Sequence[Any]], clock: Rows) -> Rows:
    """As outbox.MEASURE: all of them first, then the topics with most.

    Args:
        rows: of Statements.measure.
        clock: of `now`.
    """
    here = moment(clock[0][0]) or 0.0
    oldest = [at for row in rows if (at := moment(row[2])) is not None]
    waiting = [at for row in rows if (at := moment(row[4])) is not None]
    age = max(0.0, here - min(waiting)) if waiting else None
    events, refused = sum(int(row[1]) for row in rows), sum(int(row[3]) for row in rows)
    total = (None, events, min(oldest, default=here if events else None), refused, age)
    return [total, *[(plain(row[0]), int(row[1]), moment(row[2]) or here, int(row[3]), None) for row in rows[:TOPICS]]]


def plain(text: Any) -> str:
    """A text, shortened, whatever the driver gives."""
    return (text.decode(errors="backslashreplace") if isinstance(text, bytes) else str(text))[:200]


def watched(url: PolledUrl, table: OutboxTable, driver: Any) -> Rows:
    """What is watched: table, topic, and what is not right about it with its remedy, or None."""
    if not table.is_own or url.kind not in (MYSQL, SQLITE):
        return []
    from relay.listening.polled import capture  # here: a firm's queue needs none of it

    return [(one.tbl, one.topic, one.note, one.remedy) for one in capture.watched(url, driver)]


def incomplete(url: PolledUrl, table: OutboxTable, driver: Any) -> Rows:
    """Which watched tables are not, or not all, captured: table, note, remedy."""
    return [(tbl, note, remedy) for tbl, _topic, note, remedy in watched(url, table, driver) if note]


def index(url: PolledUrl, table: OutboxTable, driver: Any) -> str:
    """Name an index that begins with a column of OUTBOX_PENDING; nothing = there is none."""
    if url.kind not in (MYSQL, SQLITE):
        return ""
    cursor = driver.cursor()
    if url.kind == SQLITE:
        sql = "select i.name, c.name from pragma_index_list(?) i, pragma_index_info(i.name) c where c.seqno = 0"
        cursor.execute(sql, (table.name,))
    else:
        sql = (
            "select index_name, column_name from information_schema.statistics where table_schema = %s "
            "and table_name = %s and seq_in_index = 1"
        )
        cursor.execute(sql, (table.schema, table.name))
    found = {plain(column).lower(): plain(name) for name, column in cursor.fetchall()}
    cursor.close()
    words = re.findall(r"[A-Za-z_][A-Za-z0-9_$#]*", table.pending.lower())
    return next((found[word] for word in words if word in found), "")
