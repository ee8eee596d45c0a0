"""A new queue is filled: each table of the wish is asked of the listener, until all of it is sent (FROM_START)."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp.session import Session
from relay.backoff import Backoff
from relay.config import Receive
from relay.daemon import in_thread
from relay.errors import RelayError
from relay.log import Log
from relay.receiving import fill
from relay.receiving.wishes import Part, Wish, Wishes

KEPT_EVERY = 5.0  # seconds between two notes of how far a table is: so much comes twice after a crash
AGAIN_MIN, AGAIN_MAX = 1.0, 60.0  # seconds until a listener that refuses, or does not answer, is asked again

_log = Log("receiver")


class Filling:
    """Asks for one table after another.

    Args:
        config: QUEUE, SOURCE, CONTROL_SECRET.
        wishes: what is to be done, and where it is noted how far it is.
        open_now: opens a blocking connection to RabbitMQ, for a thread. Raises RelayError.
    """

    def __init__(
        self, config: Receive, wishes: Wishes, open_now: Callable[[], AbstractContextManager[BlockingConnection]]
    ) -> None:
        self._config = config
        self._wishes = wishes
        self._open_now = open_now
        self._rows: dict[str, int] = {}
        self._waits: dict[str, str] = {}

    def begin(self, session: Session) -> None:
        """A session is at work: the queue is there, and bound."""
        session.start(self._fill(session))

    def told(self) -> list[dict[str, Any]]:
        """For `status`: the tables that are not done; those of this process with the rows sent."""
        wish = self._wishes.current
        left = [part for part in wish.parts if not part.done] if wish else []
        return [
            {"table": part.table, "rows": self._rows.get(part.table, 0), "after": part.after,
             "waits": self._waits.get(part.table, "")}
            for part in left
        ]  # fmt: skip

    async def _fill(self, session: Session) -> None:
        await self._wishes.load(session)
        backoff, told = Backoff(AGAIN_MIN, AGAIN_MAX), fill.Told()
        while True:
            wish = await self._wishes.wanted()
            part = next(part for part in wish.parts if not part.done)
            try:
                await self._ask(session, wish, part)
            except RelayError as error:
                self._waits[part.table] = str(error)
                if told.is_new(error):
                    _log.warning(
                        "the new queue can't be filled yet", queue=self._config.queue, table=part.table, why=error
                    )
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def _ask(self, session: Session, wish: Wish, part: Part) -> None:
        """Have one table sent, and note how far it is. Raises RelayError: it can't be had now, or the session fails."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        came = part
        asked = fill.Wish(self._config.source, part.table, self._config.queue, None, part.after)
        _log.info("the new queue is being filled", queue=self._config.queue, table=part.table, after=part.after)

        def told(answer: fill.Answer) -> None:
            nonlocal came
            came = Part(part.table, answer.after if answer.after is not None else came.after, answer.done)
            self._rows[part.table], self._waits[part.table] = answer.rows, answer.waits

        def work() -> None:
            with self._open_now() as handle:
                fill.hear(handle, asked, self._config.command_key,
                          lambda answer: loop.call_soon_threadsafe(told, answer), stop.is_set)  # fmt: skip

        thread = asyncio.ensure_future(in_thread(lambda: fill.heard_in_thread(work)))
        try:
            kept = came
            while not thread.done():
                await asyncio.wait({thread}, timeout=KEPT_EVERY)
                if came != kept:
                    kept = came
                    await self._wishes.came(session, wish.number, kept)
            await thread
        finally:
            stop.set()
            thread.cancel()
            with contextlib.suppress(BaseException):
                thread.exception()
        if came.done:
            _log.info("the new queue has it all", table=part.table, rows=self._rows.get(part.table))
