"""What writes events into the outbox of a polled source: the triggers of watched tables, and rows sent once more.

Each database has a package of its own here; they share what `listen.py watch` can be told.
"""

from typing import Any

from relay.database_url import SQLITE, PolledUrl
from relay.listening.polled.capture.notes import Watched


def watched(url: PolledUrl, driver: Any) -> list[Watched]:
    """Every watched table of a source with what is not right about it.

    Args:
        url: of MariaDB, MySQL or SQLite.
        driver: a DB-API connection; autocommit.
    """
    if url.kind == SQLITE:
        from relay.listening.polled.capture.sqlite import drift as of_sqlite
        from relay.listening.polled.capture.sqlite.table import plain

        with plain(driver) as cursor:
            return of_sqlite.watched(cursor)
    from relay.listening.polled.capture.mariadb import drift

    cursor = driver.cursor()
    try:
        return drift.watched(cursor)
    finally:
        cursor.close()


def loose_keys(url: PolledUrl, driver: Any) -> list[str]:
    """Columns of keys that hold texts which their collation finds equal, and a reader of events does not."""
    if url.kind == SQLITE:
        return []
    from relay.listening.polled.capture.mariadb import drift

    cursor = driver.cursor()
    try:
        return drift.loose_keys(cursor)
    finally:
        cursor.close()
