"""When to read, when to sleep: woken by NOTIFY without slowing the writer down.

Every transaction that executes NOTIFY takes one cluster-wide lock at commit, which halves the commit rate of 16
writers (measured). So the trigger notifies only while somebody sleeps: the listener holds an exclusive advisory lock
for that time, and the trigger asks for the same lock, shared, without waiting.

To fall asleep: take the lock; take a transaction id X; read until a read's xmin is above X, for by then every
transaction that had seen the listener awake has ended, and whatever it wrote has been read; then wait.

Asleep, a read that finds the one event it was woken for does not wake the listener up: whatever commits after it
notifies. That saves four statements an event, as long as events are so seldom that the lock of NOTIFY costs no writer.
"""

import collections
import time
from collections.abc import Callable
from enum import Enum

import psycopg2

from relay.amqp.session import Session
from relay.listening import outbox
from relay.listening.database import Database, Rows
from relay.listening.timed_rest import TimedRest
from relay.log import Log

GENTLE_MIN, GENTLE_MAX = 0.005, 0.25  # seconds between reads while an older transaction is open
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE at lock_timeout
SELDOM_EVENTS, SELDOM_SECONDS = 20, 0.1  # so many within this time are too many to stay asleep: 200 a second
RELOCK_AFTER = 30.0  # seconds of polling until the sleep lock is tried again


class State(Enum):
    """Where the listener stands in the protocol."""

    AWAKE = "awake"  # no lock held: nobody notifies
    LOCKED = "locked"  # lock held, X not taken yet
    ARMING = "arming"  # X taken; transactions older than X may still be open
    ASLEEP = "asleep"  # everything that commits from here on notifies
    WAKING = "waking"  # there is work; the lock is still held
    POLLING = "polling"  # the lock can't be had, or is not wanted


class Sleep(TimedRest):
    """The waking protocol on one connection.

    Args:
        session: holds the timers.
        database: runs the statements.
        key: the advisory lock, relay.sleep_key().
        poll_interval: seconds; the slow poll behind it all.
        notify: False = never take the lock, so that no transaction ever notifies (two-phase commit); poll only.
        log: gets the name of whoever holds the lock, if it can't be had.
        go_on: called when there is something to do: a statement has ended, or it is time to read.
    """

    def __init__(
        self, session: Session, database: Database, key: int, poll_interval: float, *, notify: bool, log: Log,
        go_on: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(session, go_on)
        self._db = database
        self._key = key
        self._poll_interval = poll_interval
        self._notify = notify
        self._log = log
        self.state = State.AWAKE if notify else State.POLLING
        self._xid = 0
        self._gentle = GENTLE_MIN
        self._relock_at = 0.0
        self._single = collections.deque([-SELDOM_SECONDS] * SELDOM_EVENTS, SELDOM_EVENTS)  # reads of one, when

    @property
    def told(self) -> str:
        """How it is woken, for `status`."""
        return self.state.value

    def have_read(self, *, found: int, whole: bool, xmin: int) -> None:
        """A read has been taken in; after one that found something there may be another."""
        if found == 1 and whole and self.state == State.ASLEEP and self._is_seldom():
            return
        self.must_read = self.must_read or bool(found) or not whole
        if found:
            self._gentle = GENTLE_MIN
            if self.state in (State.ARMING, State.ASLEEP):
                self.state = State.WAKING
        elif self.state == State.ARMING and xmin > self._xid:
            self.state = State.ASLEEP

    def _is_seldom(self) -> bool:
        now = time.monotonic()
        before = self._single[0]
        self._single.append(now)
        return now - before >= SELDOM_SECONDS

    def unlock(self) -> bool:
        """Give the lock back if there is work; return True if a statement was sent."""
        if self.state != State.WAKING:
            return False
        self.state = State.AWAKE
        self._db.run(outbox.UNLOCK, (self._key,), lambda _rows: self._go_on())
        return True

    def step(self) -> bool:
        """Nothing to read: take the next step towards sleep; return True if a statement was sent."""
        if self.must_read:
            return False  # no room for more just now
        if self.state == State.POLLING and self._notify and time.monotonic() > self._relock_at:
            self.state = State.AWAKE
        if self.state == State.AWAKE:
            self._db.run(outbox.LOCK, (self._key,), self._locked, self._not_locked)
            return True
        if self.state == State.LOCKED:
            self._db.run(outbox.XID, (), self._took_xid)
            return True
        self._wait()
        return False

    def _locked(self, _rows: Rows) -> None:
        self.state = State.LOCKED
        self._go_on()

    def _took_xid(self, rows: Rows) -> None:
        self._xid = rows[0][0]
        self.state = State.ARMING
        self.wake()
        self._go_on()

    def _not_locked(self, error: psycopg2.Error) -> None:
        if error.pgcode != LOCK_NOT_AVAILABLE:
            self._session.fail(self._db.refusal(error))
            return
        self.state = State.POLLING
        self._relock_at = time.monotonic() + RELOCK_AFTER
        self._db.run(outbox.HOLDER, (self._key,), self._name_holder)

    def _name_holder(self, rows: Rows) -> None:
        ((holders, remedy),) = rows
        self._log.warning(
            "the sleep lock can't be had: polling instead", held_by=holders or "nobody any more",
            remedy=remedy or "none", retry_s=RELOCK_AFTER,
        )  # fmt: skip
        self._go_on()

    def _wait(self) -> None:
        if self._timer is None:
            delay = self._poll_interval
            if self.state == State.ARMING or (self.state == State.POLLING and self._notify):
                delay = self._gentle
                self._gentle = min(GENTLE_MAX, self._gentle * 2)
            self._come_back(delay)
