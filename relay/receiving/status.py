"""What the receiver knows of itself: a document for programs, and a report for people made of it."""

import collections
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import relay
from relay import alerts
from relay.amqp import nodes
from relay.cli import duration, plural
from relay.config import Receive
from relay.daemon import AT_WORK
from relay.findings import Level
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.parking.index import ParkedIndex, Why
from relay.receiving.strand import State
from relay.receiving.strands import Strands
from relay.receiving.workers import Workers
from relay.status.history import Flow
from relay.status.rate import Rate
from relay.status.report import Fact, Report, Table

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SHOWN_MAX = 10  # keys, and reasons, of each kind that are shown singly
PARKED_EVERY, PARKED_FEW = 5.0, 500  # seconds between two counts of what is parked; events that are counted at once
OLD_SECONDS = 300.0  # an event that is here for longer is worth a mark


class Status:
    """Lives as long as the process.

    Args:
        dispatcher, strands, workers, index: what is told of.
        where: the endpoint, as it may be shown.
        filling: the tables that a new queue is still to be filled with.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: Receive,
        dispatcher: Dispatcher,
        strands: Strands,
        workers: Workers,
        index: ParkedIndex,
        where: str,
        filling: Callable[[], list[dict[str, Any]]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._dispatcher = dispatcher
        self._strands = strands
        self._workers = workers
        self._index = index
        self._where = where
        self._filling = filling
        self._clock = clock
        self._parked_at, self._parked_found = -PARKED_EVERY, dict[str, Any]()
        self._since = time.time()
        self._state: Callable[[], tuple[str, float]] = lambda: (AT_WORK, self._since)
        self._rate = Rate(clock(), 2)

    def follow(self, state: Callable[[], tuple[str, float]]) -> None:
        """Ask this for the daemon's state in words, and since when, in seconds of the epoch."""
        self._state = state

    def tick(self, now: float) -> None:
        """Often called while at work; `now` as time.monotonic()."""
        self._rate.tick(now, self._dispatcher.deliveries.delivered, self._dispatcher.deliveries.failed)

    def document(self) -> dict[str, Any]:
        """All of it, for `receiver.py status --json`. Numbers are seconds, or counts; times seconds of the epoch."""
        now, wall, dispatcher = self._clock(), time.time(), self._dispatcher
        delivered, failed = self._rate.a_minute(now, dispatcher.deliveries.delivered, dispatcher.deliveries.failed)
        firsts = [strand.items[0] for strand in self._strands if strand.items]
        oldest = min((item.event.timestamp for item in firsts if item.event.timestamp), default=0)
        state, state_since = self._state()
        done_at, stamp = dispatcher.deliveries.succeeded_at, dispatcher.deliveries.last_timestamp
        return {
            "version": relay.__version__,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": round(self._since, 3),
            "state": state,
            "state_since": round(state_since, 3),
            "rabbitmq": nodes.in_use(self._config.rabbitmq_url) or None,
            "queue": self._config.queue,
            "target": self._config.target,
            "endpoint": self._where,
            "breaker": self._breaker(now, wall),
            "delivered": dispatcher.deliveries.delivered,
            "failed": dispatcher.deliveries.failed,
            "filtered": dispatcher.deliveries.filtered,
            "delivered_a_minute": delivered,
            "failed_a_minute": failed,
            "last_success": round(wall - (now - done_at), 3) if done_at else None,
            "last_lag_seconds": round(max(0.0, wall - (now - done_at) - stamp), 1) if done_at and stamp else None,
            "in_flight": self._workers.busy,
            "here": self._strands.events,
            "oldest_here_seconds": round(max(0.0, wall - oldest), 1) if oldest else None,
            "waiting": self._waiting(now),
            "parked": self._parked(),
            "filling": self._filling(),
        }

    def troubles(self) -> dict[str, str]:
        """Of what a person is alerted, while at work: by cause the reason, or nothing (alerts.Alerts.look)."""
        found = self.document()
        breaker, parked, age = found["breaker"], found["parked"], found["oldest_here_seconds"] or 0.0
        limit = self._config.alert_age
        why = parked["reasons"][0]["reason"] if parked["reasons"] else ""
        return {
            alerts.ENDPOINT: f"{self._where} does not work: {breaker['reason']}" if breaker["open"] else "",
            alerts.AGE: f"the oldest event is {duration(age)} old" if limit and age > limit else "",
            alerts.PARKED: f"{plural(parked['refused_keys'], 'key')} refused: {why}" if parked["refused_keys"] else "",
        }

    def report(self) -> Report:
        """What a person sees, without what only RabbitMQ knows."""
        return report(self.document(), None, time.time())

    def flow(self) -> Flow:
        """For the charts: all that came in was delivered, is here, or is parked."""
        document = self.document()
        waiting = document["here"] + document["parked"]["events"]
        age = document["oldest_here_seconds"] or 0.0
        return Flow(document["delivered"] + waiting, document["delivered"], waiting, age)

    def metrics(self) -> "Iterator[Metric]":
        """For Prometheus."""
        from relay.status.metrics import build, counter, gauge, histogram  # here: without STATUS_ADDR nobody needs it

        found = self.document()
        parked, state = found["parked"], found["state"].partition(":")[0]
        yield build(found["version"], queue=found["queue"], target=found["target"])
        yield gauge("active", "1 while it is at work, 0 on standby or while a server is away.", state == AT_WORK)
        yield counter("deliveries", "Events that the endpoint has taken.", found["delivered"])
        yield counter("failures", "Deliveries that failed, whoever was to blame.", found["failed"])
        yield counter("filtered", "Events that ONLY does not ask for.", found["filtered"])
        yield gauge("in_flight_requests", "Requests under way.", found["in_flight"])
        yield gauge("held_events", "Events that the receiver holds.", found["here"])
        yield gauge("oldest_held_age_seconds", "Age of the oldest of them.", found["oldest_here_seconds"] or 0.0)
        yield gauge("waiting_keys", "Keys that wait for their next try.", found["waiting"]["keys"])
        yield gauge("parked_events", "Events in the parking lot.", parked["events"])
        yield gauge("refused_keys", "Keys that wait for a person.", parked["refused_keys"])
        yield gauge("breaker_open", "1 while the endpoint does not work.", found["breaker"]["open"])
        yield gauge("last_success_timestamp_seconds", "When an event was last delivered.", found["last_success"] or 0.0)
        yield self._dispatcher.deliveries.tries.metric("table_tries", "Tries of events, by table and how they ended.")
        latency = self._dispatcher.deliveries.latency
        yield histogram(
            "queue_to_success_seconds", "From RabbitMQ's handing an event out to its delivery.", latency.from_queue
        )
        yield histogram("commit_to_success_seconds", "From an event's commit to its delivery.", latency.from_commit)

    def _breaker(self, now: float, wall: float) -> dict[str, Any]:
        breaker = self._dispatcher.breaker
        probe = breaker.next_probe()
        return {
            "open": breaker.is_open,
            "since": None if breaker.opened_at is None else round(wall - (now - breaker.opened_at), 3),
            "reason": breaker.reason,
            "next_probe_seconds": None if probe is None else round(max(0.0, probe - now), 1),
        }

    def _waiting(self, now: float) -> dict[str, Any]:
        """Keys in back-off."""
        found = [strand.items[0] for strand in self._strands if strand.state is State.WAITING and strand.items]
        found.sort(key=lambda item: item.tries.not_before)
        shown = [
            {
                "key": item.event.key,
                "event": item.event.id,
                "reason": item.tries.reason,
                "attempts": item.tries.attempts,
                "seconds": round(max(0.0, item.tries.not_before - now), 1),
            }
            for item in found[:SHOWN_MAX]
        ]
        return {"keys": len(found), "first": shown}

    def _parked(self) -> dict[str, Any]:
        """Counted anew at most every few seconds: there may be tens of thousands."""
        now = self._clock()
        if now - self._parked_at >= PARKED_EVERY or self._index.events < PARKED_FEW:
            self._parked_at, self._parked_found = now, self._count_parked()
        return self._parked_found

    def _count_parked(self) -> dict[str, Any]:
        entries = self._index.strands()
        reasons = collections.Counter(entry.tries.reason for entry in entries if entry.why is Why.DEAD)
        return {
            "keys": len(entries),
            "events": self._index.events,
            "refused_keys": self._index.dead,
            "reasons": [{"reason": reason, "keys": keys} for reason, keys in reasons.most_common(SHOWN_MAX)],
        }


def report(found: dict[str, Any], counts: dict[str, int] | None, now: float) -> Report:
    """Make what a person sees of a document.

    Args:
        found: of `Status.document`.
        counts: what RabbitMQ says of the queue: `ready` messages, those with the receiver (`here`); None = nothing.
        now: seconds of the epoch.
    """
    breaker, parked, waiting = found["breaker"], found["parked"], found["waiting"]
    facts = [
        _state(found, now),
        _endpoint(found["endpoint"], breaker, now),
        Fact("delivered", f"{found['delivered_a_minute']:g} a minute, {found['delivered']} in all{_last(found, now)}"),
        Fact("failed", f"{found['failed_a_minute']:g} a minute, {found['failed']} in all"),
        *(
            [Fact("filtered", f"{found['filtered']} in all, acknowledged: ONLY does not ask for them")]
            if found.get("filtered")
            else []
        ),
        Fact("in flight", plural(found["in_flight"], "request")),
    ]
    if counts is not None:
        facts.append(Fact("in the queue", f"{counts['ready']} ready"))
    facts.append(_here(found))
    if waiting["keys"]:
        facts.append(Fact("waiting", f"{plural(waiting['keys'], 'key')} for their next try"))
    level = Level.WARNING if parked["refused_keys"] else Level.OK
    text = f"{plural(parked['refused_keys'], 'key')} refused; {plural(parked['events'], 'event')} in all"
    remedy = "receiver.py parked, then replay or discard" if parked["refused_keys"] else ""
    facts.append(Fact("parked", text, level, remedy))
    facts += map(_fill, found["filling"])
    rows = [(one["key"] or one["event"], f"{one['seconds']:g} s", str(one["attempts"]), one["reason"])
            for one in waiting["first"]]  # fmt: skip
    reasons = [(str(one["keys"]), one["reason"]) for one in parked["reasons"]]
    tables = (
        Table(
            "Keys that wait for their next try", ("key", "in", "attempts", "reason"), rows, waiting["keys"] - len(rows)
        ),
        Table("Refused, by reason", ("keys", "reason"), reasons, 0, "receiver.py parked --reason TEXT"),
    )
    state = found["state"].partition(":")[0]
    if breaker["open"] and state == AT_WORK:
        state = "waiting for the endpoint"
    return Report(f"receiver of {found['queue']}", state, facts, tables)


def idle(queue: str, counts: dict[str, int], why: str) -> Report:
    """What a person sees where no receiver answers.

    Args:
        counts: what RabbitMQ says: messages `ready` in the queue, and those `parked`.
        why: nobody answers.
    """
    facts = (
        Fact("at work", why, Level.WARNING),
        Fact("in the queue", f"{counts['ready']} ready"),
        Fact("parked", plural(counts["parked"], "event")),
    )
    return Report(f"receiver of {queue}", "not known", facts)


def _state(found: dict[str, Any], now: float) -> Fact:
    state, _, why = found["state"].partition(": ")
    where = f"on {found['host']}, process {found['process']}, for {duration(now - found['state_since'])}"
    where += f", RabbitMQ at {found['rabbitmq']}" if found.get("rabbitmq") else ""
    level = Level.FAILED if state == "waiting" else Level.OK
    return Fact(state, f"{where}: {why}" if why else where, level)


def _endpoint(where: str, breaker: dict[str, Any], now: float) -> Fact:
    if not breaker["open"]:
        return Fact("endpoint", f"{where} works")
    probe = breaker["next_probe_seconds"]
    text = f"{where} does not work, for {duration(now - breaker['since'])}: {breaker['reason']}"
    return Fact("endpoint", text + (f"; next probe in {probe:g} s" if probe is not None else ""), Level.FAILED)


def _last(found: dict[str, Any], now: float) -> str:
    if found["last_success"] is None:
        return ""
    lag = "" if found["last_lag_seconds"] is None else f", {duration(found['last_lag_seconds'])} after its commit"
    return f"; the last {duration(now - found['last_success'])} ago{lag}"


def _fill(one: dict[str, Any]) -> Fact:
    text = f"{one['table']} is still to be sent, {plural(one['rows'], 'row')} so far"
    return Fact("from the start", f"{text}: {one['waits']}" if one["waits"] else text)


def _here(found: dict[str, Any]) -> Fact:
    oldest = found["oldest_here_seconds"]
    if oldest is None:
        return Fact("here", plural(found["here"], "event"))
    level = Level.WARNING if oldest > OLD_SECONDS else Level.OK
    return Fact("here", f"{plural(found['here'], 'event')}, the oldest {duration(oldest)} old", level)
