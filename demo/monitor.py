"""Watches a run while it goes on: the progress line, daemons that die unasked, writers in trouble, a standstill."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from demo.failed import Failed
from demo.ledger import Ledger
from demo.show import Show
from demo.site import Site
from demo.sources import Connection
from demo.writers import Writer

TICK_SECONDS = 0.1
LOOK_SECONDS = 0.3  # between two looks at endpoint and outbox
DRY_SECONDS = 10.0  # without an arrival, outbox and queue empty: nothing more will come
PATIENCE_SECONDS = 90.0  # without an arrival, whatever waits: a standstill


class Monitor:
    """Waits for the acts, and keeps looking meanwhile.

    Args:
        admin: autocommit; sees the outbox.
    """

    def __init__(self, site: Site, show: Show, ledger: Ledger, admin: Connection) -> None:
        self._site = site
        self._show = show
        self._ledger = ledger
        self._admin = admin
        self.writers: Sequence[Writer] = ()
        self.daemons_run = False  # and must go on running
        self.arrived = 0
        self.distinct = 0
        self.outbox = 0
        self._looked = 0.0
        self._changed = time.monotonic()

    @property
    def in_rabbitmq(self) -> int:
        """Events between outbox and endpoint. They are not counted there: it is what is left."""
        return max(0, self._ledger.events - self.distinct - self.outbox)

    def tick(self) -> None:
        """Look, show, and fail if something is wrong that cannot mend itself. Cheap when called too often."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self.look()
        waits = f" | outbox {self.outbox:,}, RabbitMQ {self.in_rabbitmq:,}"
        self._show.progress(self.distinct, self._ledger.events, "arrived", waits)
        for writer in self.writers:
            if writer.error:
                raise Failed(f"{writer.name}: {' '.join(str(writer.error).split())}") from writer.error
        for daemon in self._site.daemons if self.daemons_run else ():
            if not daemon.alive():
                raise Failed(f"{daemon.name} ended by itself, with status {daemon.wait()}")

    def look(self) -> None:
        """Ask endpoint and outbox."""
        arrived, distinct = self._site.endpoint.counts()
        if arrived != self.arrived or not self.daemons_run:
            self._changed = time.monotonic()
        self.arrived, self.distinct = arrived, distinct
        with self._admin.cursor() as cursor:
            cursor.execute("select count(*) from relay.outbox")
            ((self.outbox,),) = cursor.fetchall()
        self._looked = time.monotonic()

    def until(self, condition: Callable[[], object]) -> None:
        """Until it is true; Failed after PATIENCE_SECONDS without an arrival, unless the daemons are off."""
        while not condition():
            self.tick()
            silent = time.monotonic() - self._changed
            if silent > PATIENCE_SECONDS:
                missing = self._ledger.events - self.distinct
                where = f"{self.outbox} are in the outbox, {self.in_rabbitmq} in RabbitMQ or lost"
                raise Failed(f"nothing arrived for {silent:.0f} s; {missing} events are missing: {where}")
            time.sleep(TICK_SECONDS)

    def drain(self) -> None:
        """Until all has arrived and nothing is on its way, or what is missing cannot come any more."""
        self.until(self._drained)

    def _drained(self) -> bool:
        complete = self.distinct >= self._ledger.events
        if not complete and time.monotonic() - self._changed < DRY_SECONDS:
            return False
        if self.outbox or self._site.vhost.queue_depth(self._site.queue):
            return False
        # Read again: what was on its way during the first look has arrived by now, or stands in outbox or queue.
        self.look()
        return not self.outbox
