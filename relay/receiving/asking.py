"""What a target waits for is asked of the listener, to this queue only: rows that others link to (ASK_AFTER)."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp.session import Session
from relay.config import Receive
from relay.daemon import in_thread
from relay.delivery import Asks, Event, Target, Want
from relay.errors import RelayError
from relay.log import Log
from relay.receiving import fill

LOOK = 1.0  # seconds between two looks at what is wanted
KEYS_MAX = 50  # of one request

_log = Log("receiver")


class Asking:
    """Lives as long as the process; asks while a session is at work.

    Args:
        config: QUEUE, SOURCE, CONTROL_SECRET.
        open_now: opens a blocking connection to RabbitMQ, for a thread. Raises RelayError.
        go_on: called with events that wait for nothing any more.
    """

    def __init__(
        self,
        config: Receive,
        target: Target,
        open_now: Callable[[], AbstractContextManager[BlockingConnection]],
        go_on: Callable[[Sequence[Event]], None],
    ) -> None:
        self._config = config
        self._target = target if isinstance(target, Asks) and config.source else None
        self._open_now = open_now
        self._go_on = go_on
        self._told = fill.Told()

    def begin(self, session: Session, changed: Callable[[], None]) -> None:
        """A session is at work. `changed`: called when something may be started."""
        if self._target is not None:
            session.start(self._ask_always(self._target, changed))

    async def _ask_always(self, target: Asks, changed: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for table, wants in itertools.groupby(sorted(target.wants()), lambda want: want.table):
                left = list(wants)
                while left:
                    part, left = left[:KEYS_MAX], left[KEYS_MAX:]
                    if events := await self._ask(target, table, part):
                        self._go_on(events)
                        changed()

    async def _ask(self, target: Asks, table: str, wants: Sequence[Want]) -> list[Event]:
        """Ask for rows of a table; return the events that go on since theirs does not exist."""
        keys = "\n".join(want.key for want in wants)
        wish, stop, last = fill.Wish(self._config.source, table, self._config.queue, keys), threading.Event(), None

        def told(answer: fill.Answer) -> None:
            nonlocal last
            last = answer

        def work() -> None:
            with self._open_now() as handle:
                fill.hear(handle, wish, self._config.command_key, told, stop.is_set)

        try:
            await in_thread(lambda: fill.heard_in_thread(work))
        except RelayError as error:
            if self._told.is_new(error):
                _log.warning("rows that others wait for can't be asked for", table=table, why=error)
        finally:
            stop.set()
        if last is None or not last.done:
            target.unheard(wants)
            return []
        none = set(last.none)
        _log.info("asked for rows that others wait for", table=table, rows=len(wants), none=len(none) or None)
        return [event for want in wants for event in target.heard(want, is_there=want.key not in none)]
