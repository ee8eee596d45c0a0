"""When the outbox is read, how much of it, and what becomes of the rows."""

import time
from collections.abc import Callable

from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.flapping import Flapping
from relay.listening.follow import Follow
from relay.listening.source import Read, Rest, Skipped, Source, Waits, Wanted
from relay.listening.sweeps import Sweeps
from relay.listening.waiting import Waiting
from relay.listening.window import Window
from relay.log import Log

# Seconds between two reads while writers trickle: so many times what the last one took, and at most. A statement for 30
# events costs hardly more than one for 3. On a quiet machine that is a few ms; where 16 writers keep the processors
# busy it is 25: an event costs the listener 95 us without, 42 with 10 ms, and with 25 ms another fifth less.
PACE_SHARE, PACE_MOST = 10.0, 0.025
FEW, MANY = 50, 1 << 20  # rows of a read behind such as were passed; doubling, up to no limit of its own


class Reading:
    """Reads what is new into the window.

    Args:
        session: its timers and its end.
        source: what is read.
        window: takes what may be published.
        sleep: says whether there may be something to be read.
        log: for tables that wait.
        follow: an event's way, for the log.
        flapping: tables that come and go.
        is_here: is the event of this seq confirmed or refused already, but still in the outbox?
        have_read: called when something was read.
        go_on: called when reading may go on, and when a probe is due or in the window.
    """

    def __init__(
        self,
        session: Session,
        source: Source,
        window: Window,
        sleep: Rest,
        log: Log,
        follow: Follow,
        flapping: Flapping,
        is_here: Callable[[int], bool],
        have_read: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._session = session
        self._source = source
        self._window = window
        self._sleep = sleep
        self._follow = follow
        self._is_here = is_here
        self._have_read = have_read
        self._go_on = go_on
        source.begin(self._again)
        self.seen = source.seen()
        self.waiting = Waiting(session, source, window, self.seen, log, go_on, flapping)
        self.sweeps = Sweeps(time.monotonic())
        self._skips = False  # the last statement found nothing but what waits, and not its end
        self._most = MANY
        self._pace = 0.0  # seconds; 0 = the last read found more than it could take, or at most one event
        self._read_at = 0.0
        self._pacing: Timer | None = None
        self._resting: Timer | None = None

    def step(self) -> bool:
        """Send a read, or what must come before it; False = there is nothing to be read, or no room, or not yet."""
        self._sweep_as_wanted()
        if not self._sleep.must_read or self.too_soon():
            return False
        maximum, max_bytes = self._window.room()
        if not maximum:
            return False
        if self._skip() or self._source.ask_ahead(self.seen, self._go_on):
            return True
        self.waiting.reading()
        holds = self.waiting.holds
        most = min(maximum, self._source.most, self._most)
        wanted = Wanted(most, max_bytes, holds.keys, holds.tables, holds.topics)
        self._sleep.reading()
        self.seen.reading()
        self._read_at = time.monotonic()
        self._source.read(self.seen, wanted, self._take_in)
        return True

    def _skip(self) -> bool:
        if not self._skips:
            return False
        self.waiting.reading()
        holds, self._skips = self.waiting.holds, False
        if not self._source.skip(
            self.seen.high, Waits(holds.keys, holds.all_tables(), holds.all_topics()), self._take_as_passed
        ):
            return False
        self._sleep.reading()
        self.seen.reading()
        self._read_at = time.monotonic()
        return True

    def _take_as_passed(self, skipped: Skipped) -> None:
        found = len(skipped.seqs)
        self.seen.passed(skipped.seqs)
        self.waiting.passed(skipped.passed)
        self._skips = skipped.full
        self._most = FEW if found >= FEW else min(MANY, self._most * 2)
        self._sleep.have_read(found=found, whole=False, xmin=0)
        self.sweeps.have_read(self._read_at, self.seen.high, time.monotonic(), whole=False)
        self._have_read()

    def sweep(self) -> None:
        """Read everything once more, soon: the outbox is the truth, and a command or a restore may have changed it."""
        self.sweeps.is_wanted = True
        self._sweep_as_wanted()

    def _sweep_as_wanted(self) -> None:
        rest = self.sweeps.rest(time.monotonic()) if self.sweeps.is_wanted else None
        if rest == 0:
            self._sweep()
        elif rest is not None and self._resting is None:
            self._resting = self._session.call_later(rest, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._go_on()

    def _sweep(self) -> None:
        self.sweeps.begin(time.monotonic(), self.seen.high)
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

    def _take_in(self, read: Read) -> None:
        found = len(read.seqs)
        took = time.monotonic() - self._read_at
        self._pace = min(PACE_SHARE * took, PACE_MOST) if read.whole and found > 1 else 0.0
        self.seen.note(read.seqs, whole=read.whole, xmin=read.xmin, snapshot=read.snapshot)
        self.waiting.left_out(read.held)
        self.waiting.have_read(whole=read.whole)
        if self._follow.on:
            self._follow.read(read.events)
        goes = False
        for event in read.events:
            known = event.seq in self._window or self._is_here(event.seq)  # read once more by a sweep
            if not known and self.waiting.may_go(event):
                self._window.add(event)
                goes = True
            goes = goes or known
        self._skips = not goes and not read.whole
        if not self._skips:
            self._most = min(MANY, self._most * 2)
        self._sleep.have_read(found=len(read.seqs), whole=read.whole, xmin=read.xmin)
        now = time.monotonic()
        if not read.seqs and self.sweeps.is_due(now):
            self._sweep()
        else:
            self.sweeps.have_read(self._read_at, self.seen.high, now, whole=read.whole)
        self._have_read()
