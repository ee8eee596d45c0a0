"""The commands of listen.py on a polled source: what waits, what the broker refused, released or dropped."""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from relay import config
from relay.database_url import ORACLE, SQLITE, PolledUrl
from relay.errors import ConfigError, RelayError
from relay.listening.polled import look
from relay.listening.polled.outbox_table import OutboxTable
from relay.listening.polled.reads import Driver, fetch
from relay.listening.polled.source import execute, rows
from relay.listening.polled.start import OpenPolled, driver_of, table_of
from relay.listening.polled.statements import Statements
from relay.listening.polled.unreachable import of_driver


class Commands:
    """One connection, and what a person does with it.

    Args:
        url: DATABASE_URL.
        driver: open.
        statements: of the table.
        table: what is relayed.
    """

    def __init__(self, url: PolledUrl, driver: Driver, statements: Statements, table: OutboxTable) -> None:
        self.url, self.driver, self.statements, self.table = url, driver, statements, table

    def status(self) -> dict[str, Any]:
        """As operate.status: what waits, by topic, the refused events, and what is watched. Raises RelayError."""
        with self.translated():
            counted, _names = fetch(self.driver, self.statements.measure, {"most": 1_000_000})
            refused, _names = fetch(self.driver, self.statements.refused, {})
            pending = [
                {"topic": look.plain(topic), "events": int(events), "oldest": _moment(oldest), "errors": int(errors)}
                for topic, events, oldest, errors, _waiting in counted
            ]
            return {
                "version": self.version(),
                "pending": sorted(pending, key=lambda one: str(one["topic"])),
                "refused": [
                    {"id": look.plain(id_), "topic": look.plain(topic), "key": key and look.plain(key),
                     "at": _moment(at), "error": look.plain(error)}
                    for id_, topic, key, at, error, _table in refused
                ],
                "watched": [
                    {"tbl": tbl, "topic": topic, "note": note, "remedy": remedy}
                    for tbl, topic, note, remedy in look.watched(self.url, self.table, self.driver)
                ],
            }  # fmt: skip

    def version(self) -> int | None:
        """Of the relay's tables; None = there are none, for a firm's queue is relayed."""
        if not self.table.is_own:
            return None
        ((version,),) = rows(self.driver, f"select version from {look.listener(self.url)}")  # noqa: S608 - two names
        return int(version)

    def release(self, event_id: str | None) -> int:
        """Take the mark from a refused event (None = from all). Return how many.

        The listener reads all anew within a minute of having nothing to do, or at its next start.
        """
        return self._change(lambda where: f"update {self._name} set {self._error} = null where {where}", event_id)  # noqa: S608

    def drop(self, event_id: str) -> int:
        """Delete one refused event for good. Return how many."""
        return self._change(lambda where: f"delete from {self._name} where {where}", event_id)  # noqa: S608

    @property
    def _name(self) -> str:
        return self.table.shown

    @property
    def _error(self) -> str:
        if "error" not in self.table.columns or "id" not in self.table.columns:
            what = f"{self.table.shown} has no column for what is refused, or none for an event's id"
            raise ConfigError((what, "write error=COLUMN and id=COLUMN into OUTBOX_COLUMNS"))
        return self.table.columns["error"]

    def _change(self, text: Callable[[str], str], event_id: str | None) -> int:
        where = f"{self._error} is not null"
        mark = {SQLITE: "?", ORACLE: ":id"}.get(self.url.kind, "%s")
        values = None
        if event_id is not None:
            where += f" and {self.table.columns['id']} = {mark}"
            values = (event_id,)
        with self.translated():
            return execute(self.driver, text(where), values)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the driver as RelayError."""
        try:
            yield
        except RelayError:
            raise
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            raise of_driver(self.url, error) from None


def _moment(text: Any) -> datetime.datetime:
    seconds = look.moment(text)
    now = datetime.datetime.now(datetime.UTC)
    return now if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)


@contextlib.contextmanager
def opened(settings: config.Listen, url: PolledUrl, open_polled: OpenPolled, name: str) -> Iterator[Commands]:
    """A connection for a command. Raises RelayError."""
    table = table_of(settings, url)
    handle: sa.Connection = open_polled(name)
    try:
        made = Commands(url, driver_of(handle, url, table), Statements(url.kind, handle.dialect, table), table)
        yield made
    finally:
        handle.close()
