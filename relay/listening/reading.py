"""When the outbox is read, how much of it, and what becomes of the rows."""

import time
from collections.abc import Callable

from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.flapping import Flapping
from relay.listening import outbox
from relay.listening.database import Database, Rows
from relay.listening.follow import Follow
from relay.listening.gaps import Seen
from relay.listening.sleep import Sleep
from relay.listening.unread import Unread
from relay.listening.waiting import Waiting
from relay.listening.window import Window
from relay.log import Log

READ_ROWS = 1000  # most rows of one read; 200 to 5,000 make no difference to the rate, 2,000 took 3 MB more than 1,000
# Seconds between two reads while writers trickle, for each event that the last one found, and at most: a statement for
# 30 events costs hardly more than one for 3. Processor time an event, 16 writers: with 10 ms listener 95 -> 42 us and
# broker 125 -> 76 us, with 25 ms the listener another fifth less; at 100 events a second it changes nothing.
PACE_EACH, PACE_MOST = 0.005, 0.025
SWEEP_INTERVAL = 60.0  # seconds between two reads from the beginning, when idle


class Reading:
    """Reads what is new into the window.

    Args:
        session: its timers and its end.
        database: runs READ.
        window: takes what may be published.
        sleep: says whether there may be something to be read.
        log: for rows that can't be read, and tables that wait.
        follow: an event's way, for the log.
        flapping: tables that come and go.
        is_here: is the event of this seq confirmed or refused already, but still in the outbox?
        have_read: called when something was read.
        go_on: called when reading may go on, and when a probe is due or in the window.
    """

    def __init__(
        self,
        session: Session,
        database: Database,
        window: Window,
        sleep: Sleep,
        log: Log,
        follow: Follow,
        flapping: Flapping,
        is_here: Callable[[int], bool],
        have_read: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._session = session
        self._db = database
        self._window = window
        self._sleep = sleep
        self._follow = follow
        self._is_here = is_here
        self._have_read = have_read
        self._go_on = go_on
        self._unread = Unread(database, log, session.fail, self._again, READ_ROWS)
        self.seen = Seen()
        self.waiting = Waiting(session, database, window, self.seen, log, go_on, self._unread, flapping)
        self._swept_at = time.monotonic()
        self._pace = 0.0  # seconds; 0 = the last read found more than it could take, or at most one event
        self._read_at = 0.0
        self._pacing: Timer | None = None

    def step(self) -> bool:
        """Send READ, or what must come before it; False = there is nothing to be read, or no room, or not yet."""
        if not self._sleep.must_read or self.too_soon():
            return False
        maximum, max_bytes = self._window.room()
        if not maximum:
            return False
        if self.seen.wants_xid:
            self._db.run(outbox.XID, (), self._took_xid)
            return True
        maximum = min(maximum, self._unread.maximum)
        firsts, lasts = self.seen.ranges()
        holds = self.waiting.holds
        params = {
            "firsts": firsts, "lasts": lasts, "high": self.seen.high, "most": maximum, "bytes": max_bytes,
            "keys": holds.keys, "tables": holds.tables, "topics": holds.topics,
        }  # fmt: skip
        self._sleep.reading()
        self.waiting.reading()
        self._read_at = time.monotonic()
        self._db.run(
            outbox.READ, params, lambda rows: self._take_in(outbox.read(rows, maximum, max_bytes)),
            lambda error: self._unread.met(error, outbox.ALONE, params, maximum),
        )  # fmt: skip
        return True

    def sweep(self) -> None:
        """Read everything once more: the outbox is the truth, and a command or a restore may have changed it."""
        self._swept_at = time.monotonic()
        self.waiting.relearn()
        self.seen.rewind(1)
        self._sleep.wake()

    def too_soon(self) -> bool:
        """Wait for more, and come back then?"""
        wait = self._read_at + self._pace - time.monotonic()
        if not self._pace or wait <= 0:
            return False
        if self._pacing is None:
            self._pacing = self._session.call_later(wait, self._paced)
        return True

    def _paced(self) -> None:
        self._pacing = None
        self._go_on()

    def _again(self) -> None:
        self._read_at = 0.0
        self._sleep.wake()
        self._go_on()

    def _took_xid(self, rows: Rows) -> None:
        self.seen.took_xid(rows[0][0])
        self._go_on()

    def _take_in(self, read: outbox.Read) -> None:
        self._unread.succeeded()
        found = len(read.seqs)
        self._pace = min(PACE_EACH * found, PACE_MOST) if read.whole and found > 1 else 0.0
        self.seen.note(read.seqs, whole=read.whole, xmin=read.xmin)
        self.waiting.left_out(read.held)
        self.waiting.have_read(whole=read.whole)
        if self._follow.on:
            self._follow.read(read.events)
        for event in read.events:
            known = event.seq in self._window or self._is_here(event.seq)  # read once more by a sweep
            if not known and self.waiting.may_go(event):
                self._window.add(event)
        self._sleep.have_read(found=bool(read.seqs), whole=read.whole, xmin=read.xmin)
        if not read.seqs and time.monotonic() - self._swept_at > SWEEP_INTERVAL:
            self.sweep()
        self._have_read()
