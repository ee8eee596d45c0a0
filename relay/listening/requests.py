"""Requests of others, over the command queue: the present row, or a table sent again to one queue (REQUESTS).

The relay of the outbox goes first: what is asked runs on a connection of its own, a few statements at a time, and how
many commands are taken in a second depends on how much the relay has to do (`rate`).
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg2.extensions

from relay.amqp.pace import SHARE
from relay.amqp.session import Session
from relay.errors import RelayError
from relay.listening.addressees import Addressees
from relay.listening.beside import Beside
from relay.listening.fills import Fills
from relay.listening.gets import KEYS_MAX, Gets
from relay.log import Log

QUIET_RATE, BUSY_RATE = 2000.0, 100.0  # commands a second
QUIET_SHARE = 0.5  # of the loop's time
BURST, TOGETHER = 64, 10  # commands at once after a pause, and in a turn: 5 ms of the one rate, 0.1 s of the other
# So many events in the window: the relay has something to do, and for so many seconds longer. Between two reads of a
# backlog the window is empty for a moment.
BUSY_EVENTS, BUSY_SECONDS = 200, 1.0
# Seconds in which keys come together before a statement, if the last one was less than RECENTLY ago: a statement takes
# PostgreSQL 1.5 to 3 ms, mostly for what it may not do, and 0.02 ms for each key: of 7 keys each costs it 0.46 ms
# (1,000 gets a second and 4 ms), of 14 0.21 (10 ms).
GATHER_QUIET, GATHER_MANY, GATHER_BUSY, RECENTLY = 0.004, 0.01, 0.25, 0.25
MANY = 4  # keys of the last statement
ENOUGH = 12  # keys for which a statement waits no longer: those who were answered together ask again together
IDLE = 60.0  # seconds without a request until the connection is given back
TELL = 0.5  # seconds between two looks whether somebody is to be told how far it is
PAUSE = 1.0  # seconds until PostgreSQL is asked again after it was away
REFUSALS_TOLD = 100  # different ones that are logged, once each
OFF = "it answers no requests: REQUESTS=on in its settings lets it"

Reply = Callable[[dict[str, Any]], None]


class Gathering:
    """How long keys come together before a statement."""

    def __init__(self) -> None:
        self._answered, self._at = 0, 0.0  # keys of the last statement, and when it was
        self._enough = ENOUGH
        self._have_come = asyncio.Event()

    def more(self, waiting: int) -> None:
        """So many keys wait now."""
        if waiting >= self._enough:
            self._have_come.set()

    async def wait(self, waiting: int, *, is_busy: bool) -> None:
        """Return when the statement should be sent."""
        self._enough = KEYS_MAX if is_busy else ENOUGH
        if waiting >= self._enough or time.monotonic() - self._at >= RECENTLY:
            return
        self._have_come.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_BUSY if is_busy else self._seconds()):
                await self._have_come.wait()

    def _seconds(self) -> float:
        return GATHER_MANY if self._answered >= MANY else GATHER_QUIET

    def end(self, answered: int) -> None:
        """The statement has answered so many."""
        self._answered, self._at = answered, time.monotonic()


class Requests:
    """Lives as long as the process; one session after another answers.

    Args:
        is_on: REQUESTS.
        another: opens a connection to PostgreSQL. Raises RelayError.
        addressees: says which queues are gone.
        log: gets a line for each kind of refusal.
    """

    def __init__(
        self,
        another: Callable[[], Awaitable[psycopg2.extensions.connection]],
        addressees: Addressees,
        log: Log,
        *,
        is_on: bool,
    ) -> None:
        self._is_on = is_on
        self._another = another
        self._log = log
        self._told: set[str] = set()
        self._gets, self._fills = Gets(self._refused), Fills(self._refused)
        self._session: Session | None = None
        self._waiting: Callable[[], int] = lambda: 0
        self._awake = asyncio.Event()
        self._serving = False
        self._is_away = False
        self._gathering = Gathering()
        self._busy_until = 0.0
        self._is_fills_turn = False  # else who asks without a pause keeps tables from being sent
        addressees.on_lost = self._fills.lost

    def begin(self, session: Session, waiting: Callable[[], int]) -> None:
        """A session begins. Who asked the last one waits no longer.

        Args:
            waiting: how many events the relay has before it.
        """
        self._session, self._waiting, self._serving = session, waiting, False
        self._busy_until = time.monotonic() + BUSY_SECONDS  # what waits is not known yet
        self._gets.clear()
        self._fills.clear()

    def rate(self) -> float:
        """Commands that may be taken in a second now."""
        return BUSY_RATE if self._is_busy() else QUIET_RATE

    def share(self) -> float:
        """Of the loop's time that taking them may take now."""
        return SHARE if self._is_busy() else QUIET_SHARE

    def _is_busy(self) -> bool:
        now = time.monotonic()
        if self._waiting() > BUSY_EVENTS:
            self._busy_until = now + BUSY_SECONDS
        return now < self._busy_until

    def ask(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Take in what is asked; `reply` gets its answers, the last one with `done`."""
        if not self._is_on or self._session is None:
            reply({"done": True, "error": OFF})
            return
        (self._gets if command.get("command") == "get" else self._fills).add(command, reply)
        self._gathering.more(len(self._gets))
        self._awake.set()
        if not self._serving and (self._gets or self._fills):
            self._serving = True
            self._session.start(self._serve())

    async def _serve(self) -> None:
        beside = Beside(self._another)
        heard = time.monotonic()
        self._tell()
        try:
            while self._gets or self._fills or time.monotonic() - heard < IDLE:
                if self._gets or self._fills:
                    heard = time.monotonic()
                try:
                    await self._next(beside)
                except RelayError as error:
                    self._warn(error)
                    await asyncio.sleep(PAUSE)
                else:
                    self._is_away = False
        finally:
            beside.close()
            self._serving = False

    def _tell(self) -> None:
        """Who has asked hears of us, however long a statement takes."""
        if self._serving and self._session is not None:
            self._fills.tell()
            self._session.call_later(TELL, self._tell)

    async def _next(self, beside: Beside) -> None:
        due = self._fills.next_due()
        is_due = due is not None and due <= time.monotonic()
        if self._gets and not (is_due and self._is_fills_turn):
            self._is_fills_turn = True
            await self._answer(beside)
        elif is_due:
            self._is_fills_turn = False
            await self._fills.step(beside)
        else:
            self._awake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE if due is None else due - time.monotonic()):
                    await self._awake.wait()

    async def _answer(self, beside: Beside) -> None:
        await self._gathering.wait(len(self._gets), is_busy=self._is_busy())
        answered = 0
        try:
            answered = await self._gets.answer_some(beside)
        finally:
            self._gathering.end(answered)

    def _warn(self, error: RelayError) -> None:
        if not self._is_away:
            self._log.warning(f"requests wait: {error}")
        self._is_away = True

    def _refused(self, table: str, why: str) -> None:
        if why not in self._told and len(self._told) < REFUSALS_TOLD:
            self._told.add(why)
            self._log.warning("a request was refused", table=table[:200], why=why)
