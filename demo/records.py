"""The second act: airports become records of Odoo, by a mapping file and without code in Odoo, with a crash on the way.

The Odoo is the one that ODOO_URL, ODOO_DB and ODOO_API_KEY name, or a stand-in at the pace of a real one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pika
import pika.exceptions

from demo.failed import Failed
from demo.show import Show
from demo.site import Site
from dev import stack
from dev.doubles.odoo import handle
from dev.script import ROOT

MAPPING = Path(__file__).with_name("airports.toml")
COUNTRIES = ("AT", "BE", "CH", "CZ", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "NL", "NO", "PL", "PT", "SE")
QUEUE = "records"
CHANGES = 60  # of each kind
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.5
PACE: dict[str, Any] = {
    "call": 0.02,
    "row": 0.003,
    "workers": 2,
}  # seconds a call and a row, as measured on a real Odoo 19
_IN_EUROPE = f"country in ({', '.join(repr(one) for one in COUNTRIES)})"
_ROWS = f"select icao, name, city, country, lat, lon from {{}} where {_IN_EUROPE}"  # noqa: S608 - constants


class Records:
    """The act, on a site whose first act is over. Raises Failed.

    Args:
        keep: the listener runs already, and goes on running.
    """

    def __init__(self, site: Site, show: Show, *, keep: bool) -> None:
        self._site = site
        self._show = show
        self._keep = keep

    def play(self) -> int:
        """From the empty Odoo to the comparison; return how many records were compared."""
        with contextlib.ExitStack() as cleanup:
            self._odoo = cleanup.enter_context(_odoo())
            self._app = cleanup.enter_context(contextlib.closing(self._site.source.connect(stack.APP)))
            self._admin = cleanup.enter_context(contextlib.closing(self._site.source.connect()))
            self._prefix = self._unused()
            self._start()
            cleanup.callback(self._forget_queue)
            self._load()
            self._change_and_crash()
            self._deliver()
            return self._compare()

    def _unused(self) -> str:
        """A beginning of external ids that no earlier demo has left in a real Odoo; else there is nothing to see."""
        beginnings = (f"airports{number}_" for number in itertools.chain([""], itertools.count(2)))
        return next(one for one in beginnings if not self._odoo.count("res.partner", one))

    def _mapping(self) -> Path:
        path = self._site.directory / MAPPING.name
        text = MAPPING.read_text().replace('"airports_{icao}"', f'"{self._prefix}{{icao}}"')
        path.write_text(text.replace('"public.airports"', f'"{self._site.source.table}"'))
        return path

    def _start(self) -> None:
        odoo, site = self._odoo, self._site
        real = "the server of ODOO_URL" if odoo.real else "the tests' stand-in, at the pace of a real one"
        self._show.say("records", f"airports become contacts of Odoo {odoo.version}: {real}")
        settings = {"QUEUE": QUEUE, "TARGET": "odoo-load", "ODOO_MAPPING": str(self._mapping()), "WORKERS": "2"}
        settings |= {"ODOO_URL": odoo.url, "ODOO_DATABASE": odoo.database, "ODOO_USER": odoo.login}
        self._receiver = site.records_receiver(settings | {"ODOO_API_KEY": odoo.api_key})
        said = self._run("receiver.py", self._receiver.env_file, "check").splitlines()
        self._show.say("", f"receiver.py check: {len(said)} findings, none of them bad")
        self._receiver.start()
        self._receiver.await_ready()
        if not self._keep:
            site.listener.start()
            site.listener.await_ready()

    def _load(self) -> None:
        """The rows that are there already; to read them the listener needs rights, which the table's owner gives."""
        source = self._site.source
        with self._app.cursor() as cursor:
            source.let_read(cursor)
        self._run("listen.py", self._site.listener.env_file, "resend", source.table, "--where", _IN_EUROPE)
        self._show.say("resend", f"listen.py resend {source.table} --where \"country in ('AT', 'BE', ...)\"")
        self._rows = self._expected()

    def _change_and_crash(self) -> None:
        """Changes while the rows are on their way; the receiver is killed when half of them are there."""
        keys = random.Random(2).sample(sorted(self._rows), min(4 * CHANGES, len(self._rows)))
        table = self._site.source.table
        kinds = {
            "updates": f"update {table} set name = name || ' II', lat = lat + 0.0625 where icao = %s",  # noqa: S608
            "new countries": f"update {table} set country = 'FR' where icao = %s",  # noqa: S608
            "new keys": f"update {table} set icao = 'Z' || icao || 'Z' where icao = %s",  # noqa: S608
            "deletes": f"delete from {table} where icao = %s",  # noqa: S608
        }
        share = len(keys) // len(kinds)
        half = len(self._rows) // 2
        self._await(lambda: self._count() >= half, "records in Odoo")
        self._receiver.kill()
        self._show.say("CRASH", f"kill -9 receiver.py (pid {self._receiver.pid}), in the middle of its requests")
        with self._app.cursor() as cursor:
            for number, statement in enumerate(kinds.values()):
                for key in keys[number * share : (number + 1) * share]:
                    cursor.execute(statement, (key.removeprefix(self._prefix),))
        self._show.say("changes", ", ".join(f"{share} {kind}" for kind in kinds))
        self._receiver.start()
        self._receiver.await_ready()

    def _deliver(self) -> None:
        """Until nothing is on its way: outbox and queue are empty, and a receiver finds nothing more to do."""
        depth = self._site.vhost.queue_depth
        self._await(lambda: not self._outbox() and not depth(QUEUE), "an empty queue")
        self._receiver.stop()
        if not self._keep:
            self._site.listener.stop()
        self._run("receiver.py", self._receiver.env_file, "--drain")

    def _compare(self) -> int:
        """Record by record and field by field."""
        rows, records = self._expected(), self._records()
        self._show.say("compare", f"{len(rows):,} rows, the table and Odoo's records")
        wrong = [f"{key} is missing" for key in rows if key not in records]
        for key, row in rows.items():
            shown = {name: _plain(value) for name, value in records.get(key, {}).items() if name in row}
            if key in records and shown != row:
                wrong.append(f"{key}: {shown} instead of {row}")
        gone = [key for key in records if key not in rows]
        wrong += [f"{key}: its row is gone, and it is not archived" for key in gone if records[key]["active"]]
        for text in wrong[:5]:
            self._show.plain(f"    {text}")
        if wrong:
            raise Failed(f"{len(wrong)} of Odoo's records are not as the table's rows")
        self._show.plain(
            f"\n  ok   Odoo's {len(rows):,} records equal the table's rows, each linked to Odoo's own country;"
        )
        self._show.plain(f"       those of {len(gone)} rows that were deleted or have another key are archived\n")
        return len(rows)

    def _expected(self) -> dict[str, dict[str, Any]]:
        """What Odoo must show of the table's rows, by external id."""
        with self._admin.cursor() as cursor:
            cursor.execute(_ROWS.format(self._site.source.table))
            return {
                f"{self._prefix}{icao}": {
                    "name": name,
                    "ref": icao,
                    "city": city or False,
                    "is_company": True,
                    "active": True,
                    "country_id": "base.uk" if country == "GB" else f"base.{country.lower()}",
                    "partner_latitude": _plain(lat),
                    "partner_longitude": _plain(lon),
                }
                for icao, name, city, country, lat, lon in cursor.fetchall()
            }

    def _records(self) -> Mapping[str, dict[str, Any]]:
        found: Mapping[str, dict[str, Any]] = self._odoo.records("res.partner", self._prefix)
        return found

    def _count(self) -> int:
        return int(self._odoo.count("res.partner", self._prefix))

    def _outbox(self) -> int:
        with self._admin.cursor() as cursor:
            cursor.execute("select count(*) from relay.outbox")
            ((found,),) = cursor.fetchall()
        return int(found)

    def _await(self, condition: Callable[[], object], what: str) -> None:
        """Failed after PATIENCE_SECONDS in which the number of records did not change."""
        count, changed = -1, time.monotonic()
        while not condition():
            now = self._count()
            if now != count:
                count, changed = now, time.monotonic()
            self._show.progress(min(now, len(self._rows)), len(self._rows), "records")
            if not self._receiver.alive():
                raise Failed(f"receiver.py ended by itself, with status {self._receiver.wait()}")
            if time.monotonic() - changed > PATIENCE_SECONDS:
                raise Failed(f"waited in vain for {what}: {now} of {len(self._rows)} records are there")
            time.sleep(LOOK_SECONDS)
        self._show.end_progress()

    def _run(self, script: str, env_file: Path, *arguments: str) -> str:
        """A command of one of the scripts; its output. Failed unless it ends well."""
        command = [sys.executable, str(ROOT / script), "--env-file", str(env_file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise Failed(f"{script} {arguments[0]} ended with status {done.returncode}: {' | '.join(said[-3:])}")
        return done.stdout

    def _forget_queue(self) -> None:
        """What nobody reads must not grow while the demo is kept."""
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection = pika.BlockingConnection(pika.URLParameters(self._site.vhost.url))
            channel = connection.channel()
            for name in (QUEUE, f"{QUEUE}.parked"):
                channel.queue_delete(name)
            connection.close()


@contextlib.contextmanager
def _odoo() -> Iterator[Any]:
    """The Odoo of this act."""
    if "ODOO_URL" in os.environ:
        yield handle.Real()
        return
    standin = handle.Standin("19", **PACE)
    try:
        yield standin
    finally:
        standin.end()


def _plain(value: Any) -> Any:
    """Coordinates as Odoo keeps them, with seven digits; all else as it is."""
    return round(value * 10**7) if isinstance(value, Decimal | float) else value
