"""sql/install.sql run again under a listener and writers that are at work."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dev.database import INSTALL_SQL, Database
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, by_row


def test_the_schema_is_installed_again_under_a_running_listener(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    """Nothing is lost, no writer fails, and neither the listener nor its sessions begin anew."""
    listening = Listening(script, database, vhost)
    listening.bind()
    listening.table()
    listening.start()
    stop, written, failed = threading.Event(), 0, []

    def write() -> None:
        nonlocal written
        try:
            with database.app().cursor() as cursor:
                while not stop.is_set():
                    written += 1
                    cursor.execute("insert into t values (%s, 1)", [written])
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to say it
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            database.server.psql(INSTALL_SQL, database.admin_dsn)
    finally:
        stop.set()
        writer.join()
    assert failed == []
    assert written > 0
    rows = by_row(listening.messages(written))
    assert sorted(rows) == list(range(1, written + 1))
    listening.await_empty()
    assert listening.script.alive()
    assert listening.script.log().count("relaying") == 1, "one session from the first event to the last"
