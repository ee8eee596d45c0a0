"""The Python functions of a run with --functions (TARGET=python): each event takes effect in a database, with an inbox,
and is shown to the endpoint before the commit.

Settings are a file beside the receiver's env file: the process's environment and the receiver's settings are the same
for all, and the endpoint must be told who sends.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg2

from relay.handlers import Refuse, handles, inbox

SETTINGS = "functions.json"
TABLES = ("create table applied (id text not null)",)
PATIENCE = 1.0  # seconds: chaos.site.READ_TIMEOUT
TIMEOUT = 4.0  # seconds: above those after which the endpoint surely has ended its work
AFTERWARDS = 0.03  # seconds
_REFUSED = 422


def _settings() -> dict[str, str]:
    beside = Path(sys.argv[sys.argv.index("--env-file") + 1]).parent
    found: dict[str, str] = json.loads((beside / SETTINGS).read_text())
    return found


@handles("#")
def apply(body: bytes, id: str, key: object) -> None:
    """Once in the database, whatever comes twice."""
    settings = _settings()
    connection = psycopg2.connect(settings["dsn"], connect_timeout=5)
    try:
        if inbox(connection).first(id):
            with connection.cursor() as cursor:
                cursor.execute("insert into applied (id) values (%s)", (id,))
            _show(settings, body, id, json.dumps(key))
        connection.commit()
        time.sleep(AFTERWARDS)  # so that whatever strikes meets it between its commit and the acknowledgement
    finally:
        connection.close()


def _show(settings: dict[str, str], body: bytes, event_id: str, key: str) -> None:
    headers = {"Relay-Event": event_id, "Relay-Key": key, "Chaos-Sender": settings["sender"]}
    request = urllib.request.Request(settings["url"], body, headers | {"Content-Type": "application/json"})  # noqa: S310
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError  # the endpoint answers so late what it has not done
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _REFUSED:
                raise Refuse("the endpoint refuses it") from None
            raise RuntimeError("the endpoint fails") from None
