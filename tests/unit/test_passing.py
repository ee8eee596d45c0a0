"""What waits is passed by many rows at a time: a model of servers, writers and operators tries to break it.

The relay's own parts at work (reading, waiting, gaps, window), on a source that is the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.listening import gaps, holds, inspection, outbox, outbox_read, reading, waiting
from relay.listening.carried import Carried
from relay.listening.event import TRUNCATE, OutboxEvent, group
from relay.listening.gaps import Seen
from relay.listening.outbox_relay import OutboxRelay
from relay.listening.polled.seen import PolledSeen
from relay.listening.publisher import UNROUTABLE
from relay.listening.source import Deleted, Held, Read, Skipped, Waits, Wanted
from relay.log import Log
from tests import snapshots

READ_ROWS, SKIP_ROWS = 2, 6
TABLE = "s.t"
KINDS = [("a", None, "ka"), ("a", None, None), ("b", None, "kb"), ("b", None, "ka"), (TABLE, TABLE, "t 1"),
         (TABLE, TABLE, "t 2"), (TABLE, TABLE, TABLE)]  # fmt: skip
QUEUE = "queue q"
GROUPS = {QUEUE, *(group(table, topic) for topic, table, _ in KINDS)}


@dataclass
class Stored:
    """A row of the outbox."""

    seq: int
    xid: int
    topic: str
    table: str | None
    key: str | None
    unfit: bool
    error: str | None = None
    queue: str | None = None

    @property
    def op(self) -> str:
        return TRUNCATE if self.key is not None and self.key == self.table else "insert"

    @property
    def group(self) -> str:
        return group(self.table, self.topic)

    def event(self) -> OutboxEvent:
        names = self.topic, self.table, self.op, self.key
        return OutboxEvent(self.seq, f"{self.seq}", 0, self.xid, *names, b"{}", queue=self.queue)

    def comes_before(self, later: Stored | OutboxEvent) -> bool:
        """Must this one be confirmed before that one?"""
        same = self.key is not None and self.key == later.key
        return self.seq < later.seq and (
            same or (self.table is not None and self.table == later.table and TRUNCATE in (self.op, later.op))
        )


class Model:
    """See source.Source and source.Rest: PostgreSQL, which works on a statement when the test says so.

    Args:
        seen: what the relay has read; PolledSeen: a polled database, which shows no snapshot.
    """

    server, told, most = "the model", "", READ_ROWS

    def __init__(self, seen: Seen) -> None:
        self.next_xid, self.next_seq = 10, 1
        self.running: dict[int, list[Stored]] = {}
        self.rows: dict[int, Stored] = {}
        self.pending: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.answered: list[Any] = []
        self.statements: list[str] = []
        self.must_read = True
        self.seen_by_it = seen

    # -- what the relay asks for -------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return bool(self.pending)

    def _send(self, name: str, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        assert not self.pending
        self.statements.append(name)
        self.pending.append((work, done))

    def begin(self, again: Callable[[], None]) -> None:
        pass

    def seen(self) -> Seen:
        return self.seen_by_it

    def rest(self, _go_on: Callable[[], None]) -> Model:
        return self

    def wake(self) -> None:
        self.must_read = True

    def reading(self) -> None:
        self.must_read = False

    def have_read(self, *, found: int, whole: bool, xmin: int) -> None:  # noqa: ARG002 - as Rest
        self.must_read = self.must_read or bool(found) or not whole

    def unlock(self) -> bool:
        return False

    def step(self) -> bool:
        return False

    def ask_ahead(self, seen: Seen, done: Callable[[], None]) -> bool:
        if not seen.wants_xid:
            return False

        def took(xid: int) -> None:
            seen.took_xid(xid)
            done()

        self._send("xid", self.take_xid, took)
        return True

    def read(self, seen: Seen, wanted: Wanted, done: Callable[[Read], None]) -> None:
        unseen = self.unseen(seen)

        def read() -> Read:
            found = sorted(row.seq for row in self.rows.values() if unseen(row))
            whole = len(found) < wanted.most
            found = found[: wanted.most]
            held = [self.rows[seq] for seq in found if _waits(self.rows[seq], Waits(*wanted[2:]))]
            events = [self.rows[seq].event() for seq in found if self.rows[seq] not in held]
            left = [Held(row.seq, row.table, row.key, row.topic, row.error) for row in held]
            return Read(self.xmin, found, events, left, whole, self.snapshot)

        self._send("read", read, done)

    def unseen(self, seen: Seen) -> Callable[[Stored], bool]:
        """What READ finds, as things are now."""
        ranges, high, upto, near, far = (
            list(zip(*seen.ranges(), strict=True)),
            seen.high,
            seen.upto,
            seen.near,
            seen.far,
        )

        def unseen(row: Stored) -> bool:
            if row.seq > high:
                return True
            shown = snapshots.shows(near if row.seq <= upto else far, row.xid)
            return not shown and any(first <= row.seq <= last for first, last in ranges)

        return unseen

    def skip(self, high: int, waits: Waits, done: Callable[[Skipped], None]) -> bool:
        def skip() -> Skipped:
            found: dict[tuple[Any, ...], list[int]] = {}
            for row in sorted((row for row in self.rows.values() if row.seq > high), key=lambda row: row.seq)[
                :SKIP_ROWS
            ]:
                behind = row.error is None and row.key in waits.keys
                table = row.table if row.error is None and row.table in waits.tables else None
                topic = row.topic if row.error is None and not row.table and row.topic in waits.topics else None
                found.setdefault((table, topic, behind), []).append(row.seq)
            return outbox_read.skipped(
                [(min(seqs), seqs if any(names) else None, *names) for names, seqs in found.items()], SKIP_ROWS
            )

        self._send("skip", skip, done)
        return True

    def probe(self, waiting: str, low: int, keys: list[str], done: Callable[[OutboxEvent | None], None]) -> None:
        def probe() -> OutboxEvent | None:
            found = [
                row for row in self.rows.values()
                if row.group == waiting and row.seq >= low and row.error is None and row.key not in keys
            ]  # fmt: skip
            return min(found, key=lambda row: row.seq).event() if found else None

        self._send("probe", probe, done)

    def delete(self, _turn: int, batch: Any, done: Callable[[Deleted], None]) -> None:
        def delete() -> Deleted:
            gone = [self.rows.pop(seq, None) for seq in batch]
            return Deleted(self.take_xid(), mine=True, gone=sum(row is not None for row in gone))

        if isinstance(self.seen_by_it, PolledSeen):
            self.seen_by_it.forget(batch)
        self._send("delete", delete, done)

    def left(self, batch: Any, done: Callable[[int], None]) -> None:
        self._send("left", lambda: sum(seq in self.rows for seq in batch), done)

    def refuse(self, seq: int, _event_id: str, reason: str, done: Callable[[], None]) -> None:
        def refuse() -> None:
            if seq in self.rows:
                self.rows[seq].error = reason

        self._send("refuse", refuse, lambda _nothing: done())

    def incomplete(self, done: Callable[[Any], None], _failed: object) -> None:
        self._send("incomplete", list, done)

    # -- what happens there ------------------------------------------------------------------------------------

    def take_xid(self) -> int:
        self.next_xid += 1
        return self.next_xid

    @property
    def xmin(self) -> int:
        return snapshots.xmin(self.running, self.next_xid)

    @property
    def snapshot(self) -> str:
        return snapshots.snapshot(self.running, self.next_xid)

    def work(self) -> None:
        """Do what was asked for; the answer is on its way."""
        if self.pending and not self.answered:
            self.answered.append(self.pending[0][0]())

    def answer(self) -> None:
        self.work()
        _, done = self.pending.pop()
        done(self.answered.pop())


def _waits(row: Stored, waits: Waits) -> bool:
    named = row.topic in waits.topics if row.table is None else row.table in waits.tables
    return row.error is not None or row.key in waits.keys or named


async def no_other() -> Any:
    raise AssertionError("nothing was nacked")


class Working:
    """A relay at work on a model."""

    def __init__(self, patch: pytest.MonkeyPatch, seen: Seen | None = None) -> None:
        self.now = 1000.0
        for module in (reading, waiting, inspection):
            patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(reading, "PACE_SHARE", 0.0)
        self.broken = False
        self.model = Model(seen or Seen())
        self.on_way: list[OutboxEvent] = []
        self.confirmed: list[int] = []
        self.again: set[int] = set()  # these may be published once more
        self.carried = Carried(0, Log("test"), lambda _callback: None, is_shown=False)
        self.begin()

    def begin(self) -> None:
        """A session."""
        session = SimpleNamespace(
            call_later=lambda *_: SimpleNamespace(cancel=lambda: None),
            ended=False,
            fail=self._fail,
            finish=lambda: None,
        )
        given = SimpleNamespace(window_events=100, window_mb=1, outbox_warn=0, alert_command=(), alert_age=0.0)
        daemon = SimpleNamespace(calm=lambda: None, progress=lambda: None)
        arguments: Any = (session, self.model, given, Log("test"), daemon, self.carried)
        self.relay = OutboxRelay(*arguments)
        self.reading = self.relay._reading
        self.window = self.relay._window
        publisher: Any = SimpleNamespace(publish=self._publish, silence=lambda: 0.0, be_patient=lambda: None)
        inlet: Any = SimpleNamespace(waiting=False)
        self.relay.start(publisher, no_other, inlet, lambda: None)

    def end(self, *, process: bool, worked: bool) -> None:
        """The connections are lost, and what was on its way has arrived or not; with `process` all that was known."""
        model = self.model
        if worked:
            model.work()
        model.pending.clear()
        model.answered.clear()
        self.again.update(event.seq for event in self.on_way)
        if process:
            self.again.update(self.confirmed)  # what of them is not deleted
            self.carried = Carried(0, Log("test"), lambda _callback: None, is_shown=False)
        self.on_way.clear()
        model.seen_by_it, model.must_read = type(model.seen_by_it)(), True
        self.begin()

    def _fail(self, error: Exception) -> None:
        raise error

    def _publish(self, events: Iterable[OutboxEvent]) -> list[tuple[OutboxEvent, str]]:
        events = list(events)
        rows = self.model.rows
        for event in events:
            before = [
                row.seq for row in rows.values()
                # What is of the same key and another topic waits for that behind what was refused only.
                if row.comes_before(event) and row.seq not in self.confirmed and (row.error or row.group == event.group)
            ]  # fmt: skip
            self.expect(not before, f"{event.seq} is published before {before}")
            known = event.seq in self.confirmed or event in self.on_way
            self.expect(not known or event.seq in self.again, f"{event.seq} is published twice")
            self.again.discard(event.seq)
        unfit = [event for event in events if rows[event.seq].unfit]
        self.on_way += [event for event in events if event not in unfit]
        return [(event, "unfit") for event in unfit]

    def expect(self, truth: bool, otherwise: str) -> None:
        self.broken = self.broken or not truth
        assert truth, otherwise

    def settle(self, event: OutboxEvent, *, bound: bool) -> None:
        """RabbitMQ says what became of it."""
        self.on_way.remove(event)
        if bound or event.queue:  # what is for one queue, which is not there, is let go
            self.confirmed.append(event.seq)
        if bound:
            self.relay.confirmed(event)
        else:
            self.again.add(event.seq)
            self.relay.declined(event, UNROUTABLE)

    @staticmethod
    def place(event: OutboxEvent) -> str:
        """Where it is to go."""
        return event.queue or event.group

    def turn(self, bound: set[str]) -> bool:
        """Let one thing happen that is due; False = none is."""
        if self.model.busy:
            self.model.answer()
        elif self.on_way:
            self.settle(self.on_way[0], bound=self.place(self.on_way[0]) in bound)
        else:
            self.relay.step()
            return self.model.busy or bool(self.on_way)
        return True

    def rest(self, bound: set[str]) -> None:
        """Let all happen that is due; it asserts the order, too."""
        while self.turn(bound):
            pass

    def await_its_probe(self) -> None:
        """Until the oldest event of a topic that waits is on its way."""
        self.now += 1.0
        self.relay.step()
        while not self.on_way:
            self.model.answer()

    def let_go_during_a_read(self) -> None:
        """Its topic flows again after PostgreSQL has worked on a read, and before the answer has come."""
        model = self.model
        self.relay.woken("", "")
        while model.statements[-1] != "read" or not model.busy:
            model.answer()
        model.work()
        self.settle(self.on_way[0], bound=True)
        self.rest(GROUPS)

    def missed(self) -> list[Stored]:
        """Rows that were seen and are nowhere: no read finds them again, and nobody remembers them."""
        seen = self.model.seen_by_it
        unseen, holds = self.model.unseen(seen), self.reading.waiting.holds
        refusals = self.relay._refusals
        missed = []
        for row in self.model.rows.values():
            known = row.seq in self.window or row.seq in self.confirmed or row.seq in refusals or row.error is not None
            if known or unseen(row):
                continue
            behind = holds.is_behind_refused(row.key, row.table) or (
                row.op == TRUNCATE and holds.refused_before(row.event())
            )
            hold = holds.groups.get(row.group)
            waits = hold and hold.low <= row.seq and hold.probe_from <= row.seq
            if not (waits or behind):  # behind what is refused: who mends that has all read once more
                missed.append(row)
        return missed


class Passing(RuleBasedStateMachine):
    """Writers, queues that come and go, operators, and statements that take their time."""

    seen: type[Seen] = Seen

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(gaps, "MOST_RANGES", 2)
        self.patch.setattr(reading, "FEW", 2)
        self.working = Working(self.patch, self.seen())
        self.model = self.working.model
        self.bound = GROUPS - {"topic a"}
        self.unheard = 0

    def teardown(self) -> None:
        try:
            if not self.working.broken:
                self.all_leaves()
        finally:
            self.patch.undo()

    # -- writers -----------------------------------------------------------------------------------------------

    @initialize(
        marked=st.sets(st.integers(1, 30)),
        late=st.sets(st.integers(1, 30)),
        order=st.permutations(KINDS),
        named=st.sampled_from([0, 1, 1000]),
    )
    def much_waits_already(
        self, marked: set[int], late: set[int], order: list[tuple[str, str | None, str | None]], named: int
    ) -> None:
        """Mostly of a topic that nobody takes; some of it is marked, some is not committed yet. A sweep begins."""
        self.patch.setattr(holds, "NAMED_MOST", named)
        xids = [self.model.take_xid(), self.model.take_xid()]
        self.model.running[xids[1]] = []
        for seq in range(1, 31):
            kind = order[seq // 5] if seq % 5 == 0 else KINDS[1]
            if seq not in late:
                error = "by hand" if seq in marked else None
                self.model.rows[seq] = Stored(seq, xids[0], *kind, unfit=False, error=error)
            else:
                late_kind = ("ab"[seq % 2], None, None)
                self.model.running[xids[1]].append(Stored(seq, xids[1], *late_kind, unfit=False))
        self.model.next_seq = 31
        self._wake()
        while self.working.turn(self.bound):
            pass
        self.a_sweep()

    @rule()
    def somebody_begins(self) -> None:
        self.model.running[self.model.take_xid()] = []

    @precondition(lambda self: self.model.running)
    @rule(
        data=st.data(),
        kind=st.sampled_from(KINDS),
        count=st.integers(1, 8),
        unfit=st.integers(0, 9),
        queue=st.sampled_from([None, None, None, QUEUE]),
    )
    def somebody_writes(
        self,
        data: st.DataObject,
        kind: tuple[str, str | None, str | None],
        count: int,
        unfit: int,
        queue: str | None,
    ) -> None:
        xid = data.draw(st.sampled_from(list(self.model.running)))
        for _ in range(count):
            row = Stored(self.model.next_seq, xid, *kind, unfit=unfit == 0, queue=queue)
            others = [one for of, rows in self.model.running.items() if of != xid for one in rows]
            if any(one.comes_before(row) for one in others):
                return  # it waits for the other's lock
            self.model.next_seq += 1
            self.model.running[xid].append(row)

    @rule(kinds=st.lists(st.sampled_from([KINDS[0], KINDS[1], *KINDS]), min_size=1, max_size=12), holes=st.booleans())
    def rows_come(self, kinds: list[tuple[str, str | None, str | None]], holes: bool) -> None:
        xid = self.model.take_xid()
        for kind in kinds:
            row = Stored(self.model.next_seq, xid, *kind, unfit=False)
            if not any(one.comes_before(row) for rows in self.model.running.values() for one in rows):
                self.model.rows[row.seq] = row
            self.model.next_seq += 1 + holes
        self._wake()

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), commits=st.booleans())
    def somebody_ends(self, data: st.DataObject, commits: bool) -> None:
        rows = self.model.running.pop(data.draw(st.sampled_from(list(self.model.running))))
        if commits:
            self.model.rows |= {row.seq: row for row in rows}
            self._wake()

    def _wake(self) -> None:
        self.working.relay.woken("", "")

    # -- RabbitMQ, operators -----------------------------------------------------------------------------------

    @rule(group=st.sampled_from(sorted(GROUPS)))
    def a_queue_comes_or_goes(self, group: str) -> None:
        self.bound ^= {group}

    @precondition(lambda self: self.working.on_way)
    @rule(data=st.data())
    def rabbitmq_answers(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.working.on_way))
        self.working.settle(event, bound=self.working.place(event) in self.bound)

    @precondition(lambda self: any(row.error for row in self.model.rows.values()))
    @rule(data=st.data(), drop=st.booleans())
    def an_operator_mends(self, data: st.DataObject, drop: bool) -> None:
        row = data.draw(st.sampled_from([row for row in self.model.rows.values() if row.error]))
        if drop:
            del self.model.rows[row.seq]
        else:
            row.error, row.unfit = None, False
        self.unheard += 1

    @precondition(lambda self: self.unheard)
    @rule()
    def the_operator_is_heard(self) -> None:
        """Statements may have been answered meanwhile, or be under way."""
        self.unheard -= 1
        self.a_sweep()

    @rule()
    def a_sweep(self) -> None:
        self.working.relay.woken("", outbox.SWEEP)

    @rule(process=st.booleans(), worked=st.booleans())
    def a_server_or_the_listener_dies(self, process: bool, worked: bool) -> None:
        self.working.end(process=process, worked=worked)

    @rule(is_on=st.booleans())
    def rabbitmq_raises_an_alarm_or_ends_it(self, is_on: bool) -> None:
        if is_on != bool(self.working.relay.told()["alarm"]):
            if is_on:
                self.working.relay.blocked("low on memory")
            else:
                self.working.relay.unblocked()

    # -- time --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.busy)
    @rule()
    def postgresql_works(self) -> None:
        self.model.work()

    @precondition(lambda self: self.model.busy)
    @rule()
    def postgresql_answers(self) -> None:
        self.model.answer()

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.working.now += seconds
        self.working.relay.step()

    @rule(turns=st.integers(1, 8))
    def it_works(self, turns: int) -> None:
        for _ in range(turns):
            if not self.working.turn(self.bound):
                return

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if not self.model.busy and not self.unheard and not self.working.reading.sweeps.is_wanted:
            missed = self.working.missed()
            self.working.expect(not missed, f"{missed} are forgotten")

    def all_leaves(self) -> None:
        self.model.rows |= {row.seq: row for rows in self.model.running.values() for row in rows}
        self.model.running.clear()
        self.bound = set(GROUPS)
        self._wake()
        self.rabbitmq_raises_an_alarm_or_ends_it(is_on=False)
        if self.unheard:
            self.a_sweep()
        for _ in range(50):
            if not self.model.rows and not self.model.busy:
                return
            for _ in range(1000):
                if not self.working.turn(self.bound):
                    break
            else:
                raise AssertionError("it reads for ever")
            self.working.now += 30.0
            if errors := [row for row in self.model.rows.values() if row.error]:
                for row in errors:
                    row.error, row.unfit = None, False
                self.working.relay.woken("", outbox.SWEEP)
        raise AssertionError(f"{self.model.rows} stay")


class PolledPassing(Passing):
    """The same, of a polled database."""

    seen = PolledSeen


@pytest.mark.parametrize("machine", [Passing, PolledPassing])
def test_whatever_waits_and_is_let_go_each_row_is_published_once_and_in_its_order(machine: type[Passing]) -> None:
    given = settings(max_examples=100, stateful_step_count=40, derandomize=True)  # a red run is never luck
    run_state_machine_as_test(machine, settings=given)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("machine", [Passing, PolledPassing])
def test_whatever_else_waits(machine: type[Passing]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=3000, stateful_step_count=40))


def test_a_sweep_that_takes_long_is_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interval begins when it has ended, or it would follow itself, and nothing else be read in its time."""
    working, swept = Working(monkeypatch), list[float]()
    relearn = waiting.Waiting.relearn

    def sweeps(self: waiting.Waiting) -> None:
        swept.append(working.now)
        relearn(self)

    monkeypatch.setattr(waiting.Waiting, "relearn", sweeps)

    def rest() -> None:
        working.rest(set())

    rest()
    working.relay.woken("", outbox.SWEEP)
    working.now += 20.0  # the read is under way
    rest()
    began, ended = swept[0], working.now
    while working.now < ended + 450.0:
        working.now += 1.0
        working.relay.woken("", "")
        rest()
    assert [at - ended for at in swept[1:]] == [201.0, 262.0, 323.0, 384.0, 445.0]
    assert began == ended - 20.0


def test_what_is_passed_is_remembered_from_its_first_row_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here rows that were released stand before those of their topic that wait."""
    working = Working(monkeypatch)
    model = working.model
    for seq in range(1, 21):
        error = "by hand" if seq in (3, 4) else None
        model.rows[seq] = Stored(seq, 5, "b" if seq < 3 else "a", None, None, unfit=False, error=error)
    working.rest(set())
    hold = working.reading.waiting.holds.groups["topic a"]
    assert (hold.low, hold.probe_from) == (5, 5)
    model.rows[3].error = model.rows[4].error = None
    model.statements.clear()
    working.relay.woken("", outbox.SWEEP)
    working.rest(set())
    assert (hold.low, hold.probe_from) == (3, 3)
    assert model.statements.count("skip") > 2 >= model.statements.count("read")


@pytest.mark.parametrize("statement", ["read", "probe"])
@pytest.mark.parametrize("later", [(TABLE, TABLE, TABLE), (TABLE, TABLE, "t 1")])
def test_nothing_passes_what_was_refused_though_a_sweep_is_heard_before_the_answer(
    monkeypatch: pytest.MonkeyPatch, later: tuple[str, str, str], statement: str
) -> None:
    """Somebody released another event: the listener is notified while it waits for a statement."""
    monkeypatch.setattr(holds, "NAMED_MOST", 0)  # PostgreSQL is not told that this key waits, either
    working = Working(monkeypatch)
    model = working.model
    model.rows[1] = Stored(1, 5, TABLE, TABLE, "t 1", unfit=False, error="by hand")
    working.rest(GROUPS)
    if statement == "probe":
        model.rows[2] = Stored(2, 5, TABLE, TABLE, "t 2", unfit=False)
        working.relay.woken("", "")
        working.rest(set())
        model.rows[2].key = later[2]
    else:
        model.rows[2] = Stored(2, 5, *later, unfit=False)
    model.statements.clear()
    working.now += 1.0
    working.relay.woken("", "")
    assert model.statements[-1] == statement
    assert model.busy
    model.work()
    working.relay.woken("", outbox.SWEEP)
    working.rest(GROUPS)
    assert list(model.rows) == [1, 2]
    assert working.confirmed == []
    working.relay.woken("", outbox.SWEEP)
    model.rows[1].error = None
    working.rest(GROUPS)
    working.now += 30.0
    working.rest(GROUPS)
    assert model.rows == {}
    assert working.confirmed == [1, 2]


def test_what_commits_below_all_that_waited_as_its_topic_is_let_go_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reading is set back to the first that waited, and no further."""
    monkeypatch.setattr(holds, "NAMED_MOST", 0)
    working = Working(monkeypatch)
    model = working.model
    model.running[5] = [Stored(1, 5, *KINDS[1], unfit=False)]
    model.rows[2] = Stored(2, 6, *KINDS[0], unfit=False)
    working.rest(set())
    working.await_its_probe()
    model.rows |= {row.seq: row for row in model.running.pop(5)}
    working.let_go_during_a_read()
    assert sorted(working.confirmed) == [1, 2]


def test_what_is_read_while_its_topic_is_let_go_does_not_pass_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is told of the first thousand tables and topics that wait; of the others a read has all of them."""
    monkeypatch.setattr(holds, "NAMED_MOST", 0)
    working = Working(monkeypatch)
    model = working.model
    for seq in (1, 2):
        model.rows[seq] = Stored(seq, 5, *KINDS[0], unfit=False)
    working.rest(set())
    working.await_its_probe()
    model.rows[3] = Stored(3, 6, *KINDS[0], unfit=False)
    working.let_go_during_a_read()
    assert working.confirmed == [1, 2, 3]


@pytest.mark.parametrize("other", ["confirmed", "refused"])
def test_a_probe_that_waits_for_another_topic_s_event_of_its_key_is_one_event(
    monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    working = Working(monkeypatch)
    model = working.model
    model.rows[1] = Stored(1, 5, *KINDS[0], unfit=False)
    working.rest(GROUPS - {"topic a"})
    model.rows[2] = Stored(2, 6, *KINDS[3], unfit=False)
    working.relay.woken("", "")
    while not working.on_way:
        model.answer()
    while len(working.window) < 2 or model.statements.count("probe") < 3:  # RabbitMQ takes its time
        if model.busy:
            model.answer()
        else:
            working.now += 10.0
            working.relay.step()
    (event,) = working.on_way
    if other == "refused":
        working.on_way.remove(event)
        working.relay._refusals.add(event, "unfit")
        working.reading.waiting.refuse(event)
        working.window.done(event)
        while working.turn(GROUPS):  # nothing of the topic is left but what waits for that key: it is let go
            working.now += 1.0
        assert working.confirmed == []
        model.rows[2].error = None
        working.relay.woken("", outbox.SWEEP)
    while model.rows:
        if not working.turn(GROUPS):
            working.now += 10.0
            working.relay.step()
    assert sorted(working.confirmed) == [1, 2]


def test_whoever_asks_for_sweeps_again_and_again_has_all_else_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A polled database can't tell of marks: anyone who may publish to the default exchange asks the listener."""
    working = Working(monkeypatch, PolledSeen())
    model = working.model
    for seq in range(1, 101):
        model.rows[2 * seq] = Stored(2 * seq, 5, *KINDS[1], unfit=False)
    working.rest(set())
    for turn in range(200):
        if turn == 10:
            model.rows[300] = Stored(300, 5, *KINDS[2], unfit=False)
        working.now += 0.1
        working.relay.woken("", outbox.SWEEP)
        working.turn({"topic b"})
    assert 300 in [event.seq for event in working.on_way]


def test_a_sweep_that_is_asked_for_too_soon_begins_when_the_last_one_has_rested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    working = Working(monkeypatch)
    model = working.model
    model.rows[1] = Stored(1, 5, *KINDS[0], unfit=False, error="by hand")

    def rest() -> None:
        working.rest(GROUPS)

    rest()
    working.relay.woken("", outbox.SWEEP)
    working.now += 2.0  # it takes so long
    working.relay.woken("", outbox.SWEEP)
    rest()
    model.rows[1].error = None
    working.now += 19.0
    rest()
    assert model.rows
    working.now += 2.0
    rest()
    assert working.confirmed == [1]
