"""The receiver as a whole, whatever happens: a model of RabbitMQ, of an endpoint and of operators tries to break it.

Its own parts are at work, from the session to the parking lot, on connections that are the model's (tests/rabbit.py).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import selectors
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pika.channel
import pika.exceptions
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pika.spec import BasicProperties

from relay import backoff, config
from relay.amqp import pace
from relay.amqp.headers import KEY, SEQ, TABLE
from relay.amqp.session import Session
from relay.config import Receive
from relay.daemon import Stop
from relay.delivery import DONE, NOT_TRIED, Delivery, Event, Outcome, Verdict, always
from relay.errors import ConfigError, RelayError
from relay.findings import Finding
from relay.log import Log
from relay.receiving import breaker, fence, parts, whole
from relay.receiving.parking import index, sweep
from relay.receiving.receiver import Receiver
from relay.receiving.topics import Strays
from tests import rabbit
from tests.rabbit import Broker, Channel, Link, Message, Queue

MAIN, PARKED = "q", "q.parked"
KEYS = [("s.t", "t 1"), ("s.t", "t 2"), ("s.t", "t 3"), ("s.u", "u 1"), ("", "k")]
TABLES = ["s.t", "s.u"]
MOODS = ["works", "works", "down", "breaks", "locked", "late"]
DOWN = Outcome(Verdict.ENDPOINT, "HTTP 503")
LOST = pika.exceptions.StreamLostError("lost")
LATE = 20.0  # seconds for which a request may still run


@dataclass(frozen=True)
class Sent:
    """An event."""

    number: int
    table: str
    key: str
    op: str
    size: int

    @property
    def id(self) -> str:
        return f"e{self.number}"

    @functools.cached_property
    def rows(self) -> frozenset[str]:
        """Keys of the rows that it is about."""
        truncated = {key for table, key in KEYS if table == self.table} if self.op == "truncate" else ()
        return frozenset({self.key, *truncated})

    def is_before(self, later: Sent) -> bool:
        """Must it be done before that one?"""
        return self.number < later.number and bool(self.rows & later.rows)

    def message(self) -> Message:
        headers = {KEY: self.key, SEQ: self.number + 1} | ({TABLE: self.table} if self.table else {})
        properties = BasicProperties(
            message_id=self.id, type=self.op, headers=headers, delivery_mode=2, content_type="application/json"
        )
        return Message(b"x" * self.size, properties, self.table or "a")


@dataclass(eq=False)
class Request:
    """One that the endpoint works on; of no event it is a probe."""

    process: Process
    events: list[Sent]
    answer: asyncio.Future[Sequence[Outcome]]
    decided: bool | None = None  # was it carried out? None = not yet


class Endpoint:
    """A target, of one process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self.batch_size = world.batch
        self._may_begin: Callable[[], bool] = always

    def group(self, event: Event) -> str:
        return event.table

    def describe(self, _event: Event) -> Sequence[str]:
        return []

    async def check(self) -> AsyncIterator[Finding]:
        return
        yield

    def open(self, may_begin: Callable[[], bool] = always) -> Endpoint:
        self._may_begin = may_begin
        return self

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        if not self._may_begin():
            return [NOT_TRIED] * len(batch)
        return await self._world.begin(self._process, [self._world.sent[int(one.event.id[1:])] for one in batch])

    async def probe(self) -> Outcome | None:
        if not self._world.has_probe:
            return None
        return (await self._world.begin(self._process, []))[0]

    def close(self) -> None:
        pass


class Process:
    """A receiver's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.link: Link | None = None
        self.receiver: Receiver | None = None
        self.is_ready = False
        self.errors: list[str] = []
        self.stop = Stop()
        self.parts: parts.Parts
        self.task = world.loop.create_task(self._live())

    async def _live(self) -> None:
        world = self.world
        nothing: Any = SimpleNamespace(begin=_nothing, look=_nothing, wishes=SimpleNamespace(current=None), learnt={})
        made = self.parts = parts.make(
            world.config, Endpoint(world, self), nothing, lambda _event: True, lambda: None,  # type: ignore[arg-type,return-value]
            Log("receiver"), Strays(world.config),
        )  # fmt: skip
        made.filling = SimpleNamespace(begin=lambda _session: None)
        daemon: Any = SimpleNamespace(
            up=lambda: None, calm=lambda: None, detail=lambda _text: None, feed_watchdog=lambda: None
        )
        while not self.stop.requested:
            try:
                async with Session(self.stop) as session:
                    self.link = Link(world.broker)
                    world.of[self.link] = self
                    session.attach(self.link)  # type: ignore[arg-type]
                    self.receiver = Receiver(world.config, session, self._another, made, daemon)
                    try:
                        await self.receiver.run(self._ready)
                    finally:
                        self.is_ready = False
            except RelayError as error:
                world.expect(not isinstance(error, ConfigError), f"{error}")
                self.errors.append(str(error))
            finally:
                self.receiver, self.link = None, None
            if not self.stop.requested:
                await asyncio.sleep(1.0)
        for task in self.parts.workers._tasks:
            task.cancel()
        world.decide(self)

    def _ready(self) -> None:
        self.is_ready = True

    async def _another(self) -> Any:
        made = Link(self.world.broker)
        self.world.of[made] = self
        return made


async def _nothing(*_: object) -> None:
    pass


class _Selector(selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> list[Any]:  # noqa: ARG002
        return []


class Loop(asyncio.SelectorEventLoop):
    """Its time is the test's."""

    now = 1000.0

    def __init__(self) -> None:
        super().__init__(_Selector())

    def time(self) -> float:
        return self.now

    def do(self, call: Callable[[], object]) -> None:
        self.call_soon(call)
        self.turn()

    def turn(self) -> None:
        self.call_soon(lambda: None)  # it waits for nothing
        asyncio._set_running_loop(self)
        self._run_once()  # type: ignore[attr-defined]
        asyncio._set_running_loop(None)

    @property
    def is_idle(self) -> bool:
        timers = self._scheduled  # type: ignore[attr-defined]
        return not self._ready and not (timers and timers[0]._when <= self.now)  # type: ignore[attr-defined]


@dataclass
class Asked:
    """A command, and its answers."""

    process: Process
    what: dict[str, Any]
    answers: list[dict[str, Any]] = field(default_factory=list)
    at: float = 0.0


class World:
    """All of it."""

    def __init__(self, patch: pytest.MonkeyPatch, **given: Any) -> None:
        self.rng = random.Random(1)
        self.loop = Loop()
        self.loop.set_exception_handler(self._defect)
        self.defects: list[str] = []
        self.broken = False
        self.batch, self.has_probe = given.pop("batch", 1), given.pop("has_probe", False)
        self._patch(patch, small=given.pop("small", True))
        given = {"prefetch_mb": 1, "retry_min": 1, "retry_max": 8} | given
        environ = {"RABBITMQ_URL": "amqp://r:r@localhost/", "QUEUE": MAIN, "CONTROL": "off"}
        self.config = config.load(Receive, None, environ | {name.upper(): f"{value}" for name, value in given.items()})
        self.broker = Broker()
        self.broker.queues |= {MAIN: Queue(None, {}), PARKED: Queue(None, {})}
        self.broker.on_ack, self.broker.on_store = self._on_ack, self._on_store
        self.broker.on_exclusive = self._on_exclusive
        self.of: dict[Link, Process] = {}
        self.processes: list[Process] = []
        self.sent: list[Sent] = []
        self.repeated: set[int] = set()  # that the listener has sent twice
        self.requests: list[Request] = []
        self.late: list[tuple[Process, Sent, float]] = []
        self.log: list[int] = []  # what was carried out
        # By row: where something of one is repeated, that row waits for what follows of it, and no other one does.
        self.done: dict[tuple[int, str], tuple[Process, int]] = {}
        self.done_ever: set[int] = set()
        self.gone: set[int] = set()  # discarded, or purged
        self.may_go: set[int] = set()
        self.turns = 0  # of receivers
        self.last: Process | None = None
        self.mood = "works"
        self.bad: set[str] = set()  # keys
        self.asked: list[Asked] = []

    def _patch(self, patch: pytest.MonkeyPatch, *, small: bool) -> None:
        clock: Any = SimpleNamespace(monotonic=lambda: self.loop.now, time=lambda: 1.7e9 + self.loop.now)
        for name, module in list(sys.modules.items()):
            if name.startswith("relay.receiving") and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clock)
            if name.startswith("relay.") and getattr(module, "Channel", None) is pika.channel.Channel:
                patch.setattr(module, "Channel", Channel)
        for module in (backoff, breaker):
            patch.setattr(module, "random", SimpleNamespace(Random=lambda: random.Random(1)))
        never: Any = (lambda: 1.0, lambda: self.loop.now, lambda: 0.0)
        patch.setattr(pace.Share.__init__, "__defaults__", never)  # what a command takes of the loop's time
        patch.setattr(fence, "in_thread", _nothing)
        patch.setattr(rabbit, "HELD_BACK", 2)
        if small:
            for module, name, value in [
                (whole, "READ_MAX", 6), (sweep, "READ_MAX", 6),
                (index, "READ_ANYWAY", 2), (sweep, "READ_ANYWAY", 2), (sweep, "AHEAD_MAX", 3), (index, "ROOM_MAX", 20),
            ]:  # fmt: skip
                patch.setattr(module, name, value)

    def _defect(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.defects.append(f"{context['message']}: {error!r}")
        self.broken = True
        if error is not None:
            self.first_defect = error

    def expect(self, truth: bool, otherwise: str) -> None:
        self.broken = self.broken or not truth
        if not truth:
            self.defects.append(otherwise)
            raise AssertionError(otherwise)

    # -- what is watched ---------------------------------------------------------------------------------------

    def event(self, message: Message) -> Sent | None:
        name = message.properties.message_id or ""
        return self.sent[int(name[1:])] if name else None

    def is_done(self, event: Sent, rows: frozenset[str]) -> bool:
        """Is it for these of its rows?"""
        return all((event.number, row) in self.done for row in rows)

    def is_settled(self, event: Sent, rows: frozenset[str]) -> bool:
        return event.number in self.gone or self.is_done(event, rows)

    async def begin(self, process: Process, events: list[Sent]) -> Sequence[Outcome]:
        running = [(one.process, event) for one in self.requests for event in one.events]
        running += [(of, event) for of, event, _ in self.late if event.number not in self.gone]
        for event in events:
            earlier = [one for one in self.sent if one.is_before(event)]
            before = [one for one in earlier if not self.is_settled(one, one.rows & event.rows)]
            self.expect(not before, f"{event} is sent before {before}")
            mine = [one for of, one in running if of is process]
            beside = [one for one in mine if one.is_before(event) or event.is_before(one) or one is event]
            self.expect(not beside, f"{event} is sent beside {beside}")
            if self.is_done(event, event.rows) and event.number not in self.repeated:
                self.expect(self.done[event.number, event.key] != (process, self.turns), f"{event} is sent twice")
            for number, row in [one for one in self.done if one[0] > event.number and one[1] in event.rows]:
                del self.done[number, row]
        request = Request(process, events, self.loop.create_future())
        self.requests.append(request)
        try:
            return await request.answer
        finally:
            if request in self.requests:
                self.requests.remove(request)

    def carry_out(self, events: Sequence[Sent]) -> None:
        self.log += [event.number for event in events]

    def decide(self, process: Process) -> None:
        """Another is at work, or nobody knows of it any more: what is under way is carried out now or never."""
        for request in self.requests:
            if request.process is process and request.decided is None:
                request.decided = self.rng.random() < 0.5
                if request.decided:
                    self.carry_out(request.events)
        for of, event, _ in self.late:
            if of is process and self.rng.random() < 0.5:
                self.carry_out([event])
        self.late = [one for one in self.late if one[0] is not process]

    def _on_exclusive(self, queue: str, link: Link) -> None:
        process = self.of.get(link)
        if process is None:
            return
        if queue == f"{MAIN}.lease" and self.last is not process:
            for other in self.processes:
                if other is not process:
                    self.decide(other)
            self.last, self.turns = process, self.turns + 1

    def _on_ack(self, channel: Channel, tag: int, multiple: bool) -> None:
        parked = {message.properties.message_id for message in self.broker.queues[PARKED].messages()}
        for queue, message in channel.held(tag, multiple):
            event = self.event(message)
            if event is None or self.is_settled(event, event.rows):
                continue
            was_done = event.number in self.done_ever  # and must be again: something before it was
            if queue == MAIN:
                is_stored = event.id in parked or event.id in self.broker.confirmed
                self.expect(was_done or is_stored, f"{event} is acknowledged")
            else:
                self.expect(was_done or event.number in self.may_go, f"{event} is taken out of the parking lot")
                self.gone |= {event.number} & self.may_go

    def _on_store(self, queue: str, message: Message) -> None:
        event = self.event(message)
        if queue == PARKED and event is not None and event.number not in self.repeated and not self.gone:
            there = [self.event(one) for one in self.broker.queues[PARKED].messages()]
            self.expect(event not in there, f"{event} is in the parking lot twice")

    # -- what happens ------------------------------------------------------------------------------------------

    def send(self, table: str, key: str, op: str, size: int) -> None:
        event = Sent(len(self.sent), table, key, op, size)
        self.sent.append(event)
        self.put(event)

    def put(self, event: Sent) -> None:
        self.broker.queues[MAIN].fresh.append(event.message())
        self.broker.serve()

    def start(self) -> None:
        self.processes.append(Process(self))

    def kill(self, process: Process) -> None:
        self.processes.remove(process)
        for link in [link for link, of in self.of.items() if of is process]:
            link.lose(0)
            link.is_open = False
        for one in [process.task, *(process.parts.workers._tasks if hasattr(process, "parts") else ())]:
            one.cancel()
        self.decide(process)
        self.requests = [one for one in self.requests if one.process is not process]
        self.asked = [one for one in self.asked if one.process is not process]
        for turn in range(200):
            if process.task.done():
                break
            if turn % 20 == 19:
                process.task.cancel()  # the end of a session may have met the first one
            self.loop.turn()
        else:
            raise AssertionError("it does not end")

    def answer(self, request: Request, how: str) -> None:
        """`how`: a mood."""
        if request.answer.done():
            return
        if request.decided is not None and how != "down":
            how = "works" if request.decided else "breaks"
        outcomes = [self._outcome(request, event, how) for event in request.events]
        self.requests.remove(request)
        request.answer.set_result(outcomes or [DONE if how in ("works", "locked") else DOWN])

    def _outcome(self, request: Request, event: Sent, how: str) -> Outcome:
        if how == "works":
            if event.key in self.bad and event.op != "delete" and not request.decided:
                return Outcome(Verdict.MESSAGE, "HTTP 422")
            self._carry_out_now(request, event)
            self.done |= dict.fromkeys([(event.number, row) for row in event.rows], (request.process, self.turns))
            self.done_ever.add(event.number)
            return DONE
        if how == "breaks":
            if self.rng.random() < 0.3:
                self._carry_out_now(request, event)
            return Outcome(Verdict.UNCLEAR, "HTTP 500")
        if how == "late":
            if (chance := self.rng.random()) < 0.3:
                self._carry_out_now(request, event)
            elif chance < 0.7:
                self.late.append((request.process, event, self.loop.now + LATE))
            return Outcome(Verdict.UNCLEAR, "no answer in time", running=LATE)
        return Outcome(Verdict.CONFLICT, "locked") if how == "locked" else DOWN

    def _carry_out_now(self, request: Request, event: Sent) -> None:
        if request.decided is None:
            self.carry_out([event])

    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        for link in self.broker.links:
            link.store_acks()
        for one in [one for one in self.late if one[2] <= self.loop.now or self.rng.random() < 0.1]:
            self.late.remove(one)
            if self.rng.random() < 0.6:
                self.carry_out([one[1]])

    def steps(self, *, answers: bool) -> list[Callable[[], object]]:
        """What may happen next."""
        found: list[Callable[[], object]] = [] if self.loop.is_idle else [self.loop.turn]
        for link in list(self.broker.links):
            found += self._steps_of(link) if not link.is_lost else self._steps_of_end(link)
            if link.down:
                found.append(lambda link=link: self.loop.do(link.down.popleft()))  # type: ignore[misc]
        for link in [link for link in self.of if link.is_lost]:
            if not link.is_open:
                del self.of[link]
            elif not link.down or link not in self.broker.links:  # what RabbitMQ says to nobody is heard by nobody
                found.append(functools.partial(self.loop.do, functools.partial(link.ended, LOST)))
        if answers:
            found += [functools.partial(self.answer, one, self.mood) for one in self.requests]
        return found

    def _steps_of_end(self, link: Link) -> list[Callable[[], object]]:
        return [functools.partial(self.broker.clean_up, link)] if link.channels or not link.up else []

    def _steps_of(self, link: Link) -> list[Callable[[], object]]:
        found: list[Callable[[], object]] = []
        if link.up:
            found.append(lambda: link.up.popleft()())
        for channel in link.channels:
            if channel.storing:
                found.append(channel.store)
            if channel.stored:
                multiple = self.rng.random() < 0.5
                found.append(functools.partial(channel.confirm, multiple=multiple))
            if len(channel.acked) > rabbit.HELD_BACK and self.rng.random() < 0.2:
                found.append(channel.acked.clear)
        return found

    def step(self, *, answers: bool = True) -> bool:
        """Let one thing happen; False = nothing can."""
        found = self.steps(answers=answers)
        if found:
            self.rng.choice(found)()
        self.check()
        return bool(found)

    def rest(self, *, answers: bool = True) -> None:
        """Let all happen that can."""
        for _ in range(5000):
            if not self.step(answers=answers):
                return
        raise AssertionError("it never rests")

    def wait(self, *, answers: bool = True) -> None:
        """Let some time go by."""
        self.pass_time(0.25)
        self.rest(answers=answers)

    def check(self) -> None:
        if self.defects:
            error = getattr(self, "first_defect", None)
            raise AssertionError(self.defects[0]) from error

    def ask(self, process: Process, **command: Any) -> None:
        asked = Asked(process, command, at=self.loop.now)

        def reply(answer: dict[str, Any]) -> None:
            self.expect(not any(one.get("done") for one in asked.answers), f"{command} is answered twice")
            asked.answers.append(answer)

        def carry_out() -> None:
            if process.is_ready and process.receiver is not None:
                self.asked.append(asked)
                process.receiver.control.carry_out(command, reply)

        self.loop.do(carry_out)

    @property
    def left(self) -> list[tuple[str, Sent | None]]:
        return [(name, self.event(one)) for name in (MAIN, PARKED) for one in self.broker.queues[name].messages()]

    def all_ends(self) -> None:
        """The endpoint works, RabbitMQ does, and the operator replays: all leaves."""
        self.mood, self.bad = "works", set()
        for queue in self.broker.queues.values():
            queue.is_full = False
        if not self.processes:
            self.start()
        began, replayed = self.loop.now, self.loop.now
        while self.loop.now < began + 1500:
            self.rest()
            if not any(event for _, event in self.left) and not self.requests:
                break
            self.pass_time(0.5)
            at_work = next((one for one in self.processes if one.is_ready), None)
            if self.loop.now > replayed + 20 and at_work is not None:
                replayed = self.loop.now
                self.ask(at_work, command="replay", all=True)
        else:
            raise AssertionError(f"{self.left} stay")
        for _ in range(100):
            self.pass_time(0.5)
            self.rest()
            if all(any(a.get("done") for a in one.answers) for one in self.asked):
                break
        unanswered = [one.what for one in self.asked if not any(a.get("done") for a in one.answers)]
        self.expect(not unanswered, f"{unanswered} are not answered")
        lost = [one for one in self.sent if not self.is_settled(one, one.rows)]
        self.expect(not lost, f"{lost} are lost, or were not repeated")
        tables_gone = {self.sent[one].table or self.sent[one].key for one in self.gone}
        made, wanted = self._state(self.log), self._state(range(len(self.sent)))
        for key in made.keys() | wanted.keys():
            table = next(table for table, name in KEYS if name == key) or key
            if table not in tables_gone:
                self.expect(made.get(key) == wanted.get(key), f"{key} ends with {made.get(key)}: {self.log}")

    def _state(self, numbers: Sequence[int]) -> dict[str, int]:
        rows: dict[str, int] = {}
        for event in [self.sent[number] for number in numbers]:
            if event.op == "truncate":
                for key in [key for key in rows if (event.table, key) in KEYS]:
                    del rows[key]
            else:
                rows[event.key] = event.number
        return rows

    def end(self) -> None:
        for process in list(self.processes):
            self.kill(process)
        self.loop.turn()
        self.loop.close()


class Whatever(RuleBasedStateMachine):
    """Publishers, an endpoint in its moods, connections and processes that end at any time, operators."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.world: World

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.world.broken:
                self.world.all_ends()
        finally:
            try:
                self.world.end()
            finally:
                self.patch.undo()
                logging.disable(logging.NOTSET)

    @initialize(
        workers=st.sampled_from([1, 3]),
        prefetch=st.sampled_from([1, 4, 8, 20]),
        max_attempts=st.sampled_from([1, 2, 3]),
        parked_max=st.sampled_from([1, 2, 1000]),
        batch=st.sampled_from([1, 1, 3]),
        small=st.booleans(),
        has_probe=st.booleans(),
        two=st.booleans(),
        forgets=st.booleans(),
        seed=st.integers(0, 2**16),
    )
    def begin(self, seed: int, *, two: bool, forgets: bool, **given: Any) -> None:
        logging.disable(logging.CRITICAL)
        self.world = World(self.patch, **given)
        self.world.rng = random.Random(seed)
        if forgets:
            self.world.broker.forgets = lambda most: self.world.rng.randrange(most + 1)
        for _ in range(1 + two):
            self.world.start()

    # -- events ------------------------------------------------------------------------------------------------

    @rule(kinds=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6), ops=st.randoms(use_true_random=False))
    def rows_change(self, kinds: list[tuple[str, str]], ops: random.Random) -> None:
        for table, key in kinds:
            op = "delete" if ops.random() < 0.15 else "update"
            self.world.send(table, key, op, 300_000 if ops.random() < 0.1 else 10)

    @precondition(lambda self: self.world.sent)
    @rule(count=st.integers(1, 6))
    def the_listener_repeats_a_tail(self, count: int) -> None:
        for event in self.world.sent[-count:]:
            self.world.repeated.add(event.number)
            self.world.put(event)

    @rule(table=st.sampled_from(TABLES))
    def a_table_is_truncated(self, table: str) -> None:
        self.world.send(table, table, "truncate", 10)

    # -- the endpoint ------------------------------------------------------------------------------------------

    @rule(mood=st.sampled_from(MOODS))
    def the_endpoint_changes(self, mood: str) -> None:
        self.world.mood = mood

    @rule(key=st.sampled_from([key for _, key in KEYS]))
    def a_key_is_refused_or_not(self, key: str) -> None:
        self.world.bad ^= {key}

    @precondition(lambda self: self.world.requests)
    @rule(data=st.data(), mood=st.sampled_from(MOODS))
    def it_answers(self, data: st.DataObject, mood: str) -> None:
        self.world.answer(data.draw(st.sampled_from(self.world.requests)), mood)

    # -- what breaks -------------------------------------------------------------------------------------------

    @precondition(lambda self: any(one.link and not one.link.is_lost for one in self.world.processes))
    @rule(data=st.data(), done=st.integers(0, 20), steps=st.integers(1, 300))
    def a_connection_is_lost(self, data: st.DataObject, done: int, steps: int) -> None:
        self._work(steps, answers=True)
        links = [one.link for one in self.world.processes if one.link and not one.link.is_lost]
        if links:
            data.draw(st.sampled_from(links)).lose(done)

    @precondition(lambda self: self.world.processes)
    @rule(data=st.data(), done=st.integers(0, 20), steps=st.integers(1, 300))
    def a_receiver_is_killed(self, data: st.DataObject, done: int, steps: int) -> None:
        self._work(steps, answers=True)
        process = data.draw(st.sampled_from(self.world.processes))
        if process.link:
            process.link.lose(done)
        self.world.kill(process)
        self.world.start()

    @precondition(lambda self: self.world.processes)
    @rule(data=st.data())
    def a_receiver_is_restarted(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.world.processes))
        self.world.loop.do(process.stop.set)
        for _ in range(400):
            for _ in range(2000):
                if process.task.done() or not self.world.step():
                    break
            if process.task.done():
                break
            self.world.pass_time(0.5)
        assert process.task.done(), "it does not stop"
        process.task.result()
        self.world.kill(process)
        self.world.start()

    @rule()
    def a_stranger_purges_the_parking_lot(self) -> None:
        queue = self.world.broker.queues[PARKED]
        events = [self.world.event(one) for one in queue.ready]
        queue.returned.clear()
        queue.fresh.clear()
        self.world.gone |= {event.number for event in events if event}

    @rule()
    def the_parking_lot_is_full_or_has_room(self) -> None:
        queue = self.world.broker.queues[PARKED]
        queue.is_full = not queue.is_full

    # -- operators ---------------------------------------------------------------------------------------------

    @precondition(lambda self: any(one.is_ready for one in self.world.processes))
    @rule(
        what=st.sampled_from(["replay", "replay", "discard", "parked", "show", "status"]),
        by=st.sampled_from(["all", "key", "id", "table", "reason"]),
        data=st.data(),
    )
    def somebody_asks(self, what: str, by: str, data: st.DataObject) -> None:
        world = self.world
        process = next(one for one in world.processes if one.is_ready)
        entries = process.parts.index.strands()
        if not entries:
            return
        entry = data.draw(st.sampled_from(entries))
        given: dict[str, Any] = {
            "all": {"all": True},
            "key": {"key": entry.key},
            "id": {"id": entry.first_handle},
            "table": {"table": entry.table},
            "reason": {"reason": entry.tries.reason[:5]},
        }[by]
        if not any(given.values()):
            return
        if what == "discard":
            chosen = {
                "all": world.sent,
                "key": [one for one in world.sent if one.key == entry.key],
                "id": [one for one in world.sent if one.id == entry.first_id],
                "table": [one for one in world.sent if one.table == entry.table],
                "reason": world.sent,
            }[by]
            world.may_go |= {one.number for one in chosen}
        if what == "show":
            given = {"id": entry.first_handle}
        world.ask(process, command=what, **given)

    # -- time --------------------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 300), seed=st.integers(0, 2**16), answers=st.booleans())
    def it_works(self, steps: int, seed: int, answers: bool) -> None:
        self.world.rng.seed(seed)
        self._work(steps, answers=answers)

    @rule(steps=st.integers(1, 300), seed=st.integers(0, 2**16))
    def it_goes_on(self, steps: int, seed: int) -> None:
        self.it_works(steps, seed, answers=True)

    def _work(self, steps: int, *, answers: bool) -> None:
        for _ in range(steps):
            if not self.world.step(answers=answers):
                self.world.pass_time(0.25)

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 20.0, 60.0]), seed=st.integers(0, 2**16))
    def time_goes_by(self, seconds: float, seed: int) -> None:
        self.world.rng.seed(seed)
        until = self.world.loop.now + seconds
        while self.world.loop.now < until:
            self.world.pass_time(min(0.5, seconds))
            for _ in range(200):
                if not self.world.step():
                    break

    @rule(seconds=st.sampled_from([3.0, 6.0, 30.0]))
    def the_process_stands_still(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "world"):
            self.world.check()


def whatever_happens(examples: int, *, always_the_same: bool) -> None:
    # What fails is not made smaller: that takes minutes.
    given = settings(
        max_examples=examples, stateful_step_count=30, phases=[Phase.generate], derandomize=always_the_same
    )
    run_state_machine_as_test(Whatever, settings=given)


def test_whatever_happens_to_the_receiver_all_is_delivered_in_order_or_parked() -> None:
    whatever_happens(60, always_the_same=True)  # a red run is never luck


@pytest.mark.long
@pytest.mark.timeout(900)
def test_whatever_else_happens_to_the_receiver() -> None:
    whatever_happens(2000, always_the_same=False)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch, workers=1, prefetch=1, max_attempts=1)
    made.rng = random.Random(1)
    made.start()
    while not made.processes[0].is_ready:
        made.wait()
    yield made
    made.end()


def test_what_was_delivered_out_of_the_parking_lot_as_the_connection_broke_is_not_delivered_again(world: World) -> None:
    world.bad = {"k"}
    world.send("", "k", "update", 10)
    world.send("", "k", "update", 10)
    world.rest()
    [process] = world.processes
    world.bad = set()
    world.ask(process, command="replay", all=True)
    while not world.requests:
        world.wait(answers=False)
    assert process.link is not None
    process.link.lose(0)
    world.answer(world.requests[0], "works")
    world.all_ends()  # asserts that nothing is sent twice, too
    assert world.log == [0, 1]


def test_what_was_delivered_while_it_went_into_the_parking_lot_is_not_delivered_again(world: World) -> None:
    """A request that takes long: its event makes room for others."""
    world.send("", "k", "update", 300_000)
    world.rest(answers=False)
    [process] = world.processes
    while not any(event for name, event in world.left if name == PARKED):
        world.wait(answers=False)
    assert process.link is not None
    process.link.lose(0)
    world.answer(world.requests[0], "works")
    world.all_ends()
    assert world.log == [0]


def test_who_asks_for_the_same_event_at_the_same_time_is_answered_too(world: World) -> None:
    world.bad = {"k"}
    world.send("", "k", "update", 10)
    world.rest()
    [process] = world.processes
    for _ in range(2):
        world.ask(process, command="show", id="e0")
    for _ in range(10):
        world.wait()
    assert [[answer["event"]["id"] for answer in one.answers] for one in world.asked] == [["e0"], ["e0"]]


def test_who_asks_for_an_event_again_while_it_is_looked_for_is_shown_it(world: World) -> None:
    """The pass that has shown it to the first one is past it."""
    world.bad = {"k"}
    for key in ("k", "t 1"):
        world.send("", key, "update", 10)
        world.rest()
    [process] = world.processes
    world.ask(process, command="show", id="e0")
    while not world.asked[0].answers:
        world.loop.now += 0.01
        world.step()
    world.ask(process, command="show", id="e0")
    for _ in range(10):
        world.wait()
    assert [[answer["event"]["id"] for answer in one.answers] for one in world.asked] == [["e0"], ["e0"]]


@pytest.mark.parametrize("times_out", ["in its queue", "parked", "while there is no connection", "afterwards"])
def test_what_may_still_run_waits_for_its_end_though_the_parking_lot_is_read_again(
    world: World, times_out: str
) -> None:
    """It is large: it makes room for others."""
    world.send("", "k", "update", 300_000)
    world.rest(answers=False)
    [process], [request] = world.processes, world.requests
    if times_out == "in its queue":
        world.answer(request, "late")
    while not any(event for name, event in world.left if name == PARKED):
        world.wait(answers=False)
    if times_out == "parked":
        world.answer(request, "late")
        world.wait(answers=False)
    _lose(world, process)
    if times_out == "while there is no connection":
        world.answer(request, "late")
    while not process.is_ready:
        world.wait(answers=False)
    if times_out == "afterwards":
        world.answer(request, "late")
    _waits_for_the_end(world)


@pytest.mark.parametrize("loses", [False, True])
def test_a_replay_waits_for_the_end_of_the_replay_before_that_has_timed_out(world: World, *, loses: bool) -> None:
    """`loses`: its connection, in between."""
    world.bad = {"k"}
    world.send("", "k", "update", 10)
    world.rest()
    [process] = world.processes
    world.ask(process, command="replay", all=True)
    while not world.requests:
        world.wait(answers=False)
    world.answer(world.requests[0], "late")
    world.wait(answers=False)
    if loses:
        _lose(world, process)
    while not process.is_ready:
        world.wait(answers=False)
    world.ask(process, command="replay", all=True)
    _waits_for_the_end(world)


def _lose(world: World, process: Process) -> None:
    assert process.link is not None
    process.link.lose(0)
    while process.is_ready:
        world.step(answers=False)


def _waits_for_the_end(world: World) -> None:
    until = world.loop.now + LATE - 3.0  # it takes a moment to connect again
    while not world.requests:
        world.wait(answers=False)
    assert world.loop.now > until
    world.bad = set()
    world.all_ends()
