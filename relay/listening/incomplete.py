"""What relay.watched says is not as relay.watch left it, told in the log: once when it begins, once when it is over."""

from relay.listening.database import Rows
from relay.log import Log


class Incomplete:
    """Tables whose changes are not, or not all, captured.

    Args:
        log: gets an error for each.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._notes: dict[str, str] = {}
        self.found: list[dict[str, str]] = []
        """As `status` shows them: table, note, remedy."""

    def note(self, rows: Rows) -> None:
        """Take in the tables, notes and remedies that there are now."""
        now = {table: note for table, note, _ in rows}
        for table, note, remedy in rows:
            if self._notes.get(table) != note:
                self._log.error("capture is not complete", table=table, reason=note, remedy=remedy)
        for table in self._notes.keys() - now.keys():
            self._log.info("capture is complete again", table=table)
        self._notes = now
        self.found = [{"table": table, "note": note, "remedy": remedy or ""} for table, note, remedy in rows]
