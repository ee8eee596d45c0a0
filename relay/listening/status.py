"""What the listener knows of itself: a document for programs, and a report for people made of it."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import relay
from relay.alerts import CAPTURE
from relay.amqp import nodes, rights
from relay.cli import duration, plural
from relay.config import Listen
from relay.daemon import AT_WORK, STANDBY, Daemon
from relay.findings import Level
from relay.listening.backlog import Measured
from relay.listening.carried import Carried
from relay.listening.operate import whose
from relay.listening.tally import KEY_MAX
from relay.status.history import Flow
from relay.status.rate import Rate
from relay.status.report import Fact, Report, Table

if TYPE_CHECKING:
    from prometheus_client.core import Metric

OLD_SECONDS = 300.0  # an event that waits for longer is worth a mark
SHOWN_MAX, WATCHED_MAX = 10, 30  # topics, refused events, notes; watched tables: those that are shown singly
_WAKE_UPS = {
    "asleep": "asleep: a commit wakes it",
    "polling": "polling: commits do not wake it",
}
_RELEASE = "listen.py release ID (or --all) tries again, listen.py drop ID gives one up"

Told = Callable[[], dict[str, Any]]
"""What a session says of itself: `OutboxRelay.told`."""


class Status:
    """Lives as long as the process.

    Args:
        carried: counts that outlive a session.
        daemon: its state and its last error.
    """

    def __init__(self, config: Listen, carried: Carried, daemon: Daemon) -> None:
        self._config = config
        self._tally, self._backlog = carried.tally, carried.backlog
        self._daemon = daemon
        self._session: Told | None = None
        self._since = time.time()
        self._rate = Rate(time.monotonic(), 1)

    def follow(self, session: Told | None) -> None:
        """Ask this session from now on; None = there is none."""
        self._session = session

    def tick(self, now: float) -> None:
        """Often called while at work; `now` as time.monotonic()."""
        self._rate.tick(now, self._tally.published)

    def troubles(self) -> dict[str, str]:
        """Of which a person is alerted, as `alerts.Alerts.look` takes them."""
        found = self._backlog.troubles(self._config.alert_age)
        if self._session:
            notes = [f"table {one['table']}: {one['note']}" for one in self._session()["incomplete"]]
            more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
            found[CAPTURE] = notes[0] + more if notes else ""
        return found

    def document(self) -> dict[str, Any]:
        """All of it, for `listen.py status --json`. Numbers are seconds, or counts; times seconds of the epoch."""
        now, wall, tally = time.monotonic(), time.time(), self._tally
        session = self._session() if self._session else {}
        (rate,) = self._rate.a_minute(now, tally.published)
        alarm, error = session.get("alarm"), self._daemon.last_error
        return {
            "version": relay.__version__,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": round(self._since, 3),
            "state": self._daemon.state,
            "state_since": round(self._daemon.state_since, 3),
            "source": rights.source(self._config),
            "rabbitmq": nodes.in_use(self._config.rabbitmq_url) or None,
            "exchange": self._config.exchange,
            "published": tally.published,
            "published_a_minute": rate,
            "last_published": round(tally.last_at, 3) if tally.last_at else None,
            "last_lag_seconds": round(tally.last_lag, 3) if tally.last_at else None,
            "refused": tally.refused,
            "last_refused": [one._asdict() for one in tally.refusals],
            "unconfirmed": session.get("unconfirmed", 0),
            "alarm": {"reason": alarm[0], "since": round(wall - (now - alarm[1]), 3)} if alarm else None,
            "wake_up": session.get("wake_up"),
            "held": {
                "groups": session.get("held_groups", 0),
                "keys": session.get("held_keys", 0),
                "first": [
                    {
                        "what": group,
                        "reason": hold.reason,
                        "since": round(wall - (now - hold.since), 3),
                        "next_try_seconds": round(max(0.0, hold.probe_at - now), 1),
                    }
                    for group, hold in session.get("held", ())
                ],
            },
            "outbox": _measured(self._outbox()),
            "incomplete": session.get("incomplete", []),
            "last_error": {"what": error[0], "at": round(error[1], 3)} if error else None,
        }

    def _outbox(self) -> Measured | None:
        """As last looked at; a standby has not looked since it was at work itself."""
        return None if self._daemon.state.startswith(STANDBY) else self._backlog.measured

    def report(self) -> Report:
        """What a person sees, without what only the database knows."""
        return report(rights.source(self._config), self.document(), None, time.time())

    def flow(self) -> Flow:
        """For the charts: what came into the outbox was published, or is there."""
        found, now = self._outbox(), time.time()
        if found is None or found.is_more:
            return Flow(float("nan"), self._tally.published, found.events if found else float("nan"), _age(found, now))
        return Flow(found.come, self._tally.published, found.events, _age(found, now))

    def metrics(self) -> "Iterator[Metric]":
        """For Prometheus."""
        from relay.status.metrics import build, counter, gauge, histogram  # here: without STATUS_ADDR nobody needs it

        found, outbox = self.document(), self._outbox()
        state = found["state"].partition(":")[0]
        yield build(found["version"], source=found["source"], exchange=found["exchange"])
        yield gauge("active", "1 while it is at work, 0 on standby or while a server is away.", state == AT_WORK)
        yield gauge("standby", "1 while another one is at work.", state == STANDBY)
        yield counter("published", "Events that RabbitMQ has safe.", found["published"])
        yield self._tally.by_table.metric("table_published", "Events that RabbitMQ has safe, by table.")
        yield counter("refused", "Events that RabbitMQ refused for good.", found["refused"])
        yield gauge("unconfirmed_events", "Events that RabbitMQ has not confirmed yet.", found["unconfirmed"])
        if outbox is not None:
            yield gauge("outbox_events", "Events in the outbox, counted up to a limit.", outbox.events)
            yield gauge("outbox_oldest_age_seconds", "Age of the oldest of them.", _age(outbox, time.time()))
            yield gauge("outbox_refused_events", "Those of them that RabbitMQ has refused.", outbox.refused)
        held = found["held"]
        yield gauge("held_tables", "Tables, and topics of applications, that no queue takes.", held["groups"])
        yield gauge("held_keys", "Keys that wait behind a refused event.", held["keys"])
        yield gauge("broker_alarm", "1 while RabbitMQ takes nothing for an alarm.", found["alarm"] is not None)
        yield gauge("asleep", "1 while a commit must wake it.", found["wake_up"] == "asleep")
        yield gauge("incomplete_tables", "Watched tables whose changes are not all captured.", len(found["incomplete"]))
        yield gauge(
            "last_publish_timestamp_seconds", "When an event was last confirmed.", found["last_published"] or 0.0
        )
        yield histogram("commit_to_queue_seconds", "From an event's commit to RabbitMQ's confirm.", self._tally.lag)


def _measured(found: Measured | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return found._asdict() | {"topics": [topic._asdict() for topic in found.topics]}


def _age(found: Measured | None, now: float) -> float:
    return 0.0 if found is None or found.oldest is None else max(0.0, now - found.oldest)


def report(source: str, found: dict[str, Any] | None, database: dict[str, Any] | None, now: float) -> Report:
    """Make what a person sees.

    Args:
        source: of whom.
        found: of `Status.document`; None = no listener answers.
        database: of `operate.status`; None = what the listener has last seen of the outbox is taken.
        now: seconds of the epoch.
    """
    facts = list(_of_listener(found, now)) if found else []
    tables = [_held(found["held"], now)] if found else []
    if database is not None:
        facts += _of_database(database, now)
        tables += _tables_of_database(database, now)
    elif found:
        facts += _of_outbox(found, now)
        tables += _tables_of_outbox(found, now)
    state = found["state"].partition(":")[0] if found else "not known"
    if state == AT_WORK and found and found["alarm"]:
        state = "waiting for RabbitMQ"
    return Report(f"listener of {source}", state, facts, tables)


def _of_listener(found: dict[str, Any], now: float) -> Iterator[Fact]:
    state, _, why = found["state"].partition(": ")
    where = f"on {found['host']}, process {found['process']}, for {duration(now - found['state_since'])}"
    where += f", RabbitMQ at {found['rabbitmq']}" if found.get("rabbitmq") else ""
    yield Fact(state, f"{where}: {why}" if why else where, Level.FAILED if state == "waiting" else Level.OK)
    last = ""
    if found["last_published"] is not None:
        lag = f"{found['last_lag_seconds']:.3g} s after it was written"
        last = f"; the last {duration(now - found['last_published'])} ago, {lag}"
    yield Fact("published", f"{found['published_a_minute']:g} a minute, {found['published']} in all{last}")
    if alarm := found["alarm"]:
        text = f"takes nothing, for {duration(now - alarm['since'])}: {alarm['reason']}"
        yield Fact(
            "RabbitMQ", text, Level.FAILED, "free memory or disk on its host; rabbitmq-diagnostics alarms names it"
        )
    else:
        yield Fact("RabbitMQ", f"no alarm; {plural(found['unconfirmed'], 'event')} not confirmed yet")
    if found["wake_up"]:
        yield Fact("wake-up", _WAKE_UPS.get(found["wake_up"], f"awake ({found['wake_up']})"))
    if count := found["held"]["groups"]:
        yield Fact("held", f"tables and topics that wait: {count}", Level.WARNING)
    if count := found["held"]["keys"]:
        yield Fact("held keys", f"{plural(count, 'key')} behind a refused event", Level.WARNING)
    if error := found["last_error"]:
        yield Fact("last error", f"{duration(now - error['at'])} ago: {error['what']}")


def _of_outbox(found: dict[str, Any], now: float) -> Iterator[Fact]:
    """As the listener has last measured it."""
    outbox = found["outbox"]
    if outbox is not None:
        more = "more than " if outbox["is_more"] else ""
        yield _outbox(more, outbox["events"] - outbox["is_more"], outbox["oldest"], now)
        if outbox["refused"]:
            yield _refused(outbox["refused"])
    yield from _incomplete(found["incomplete"])


def _of_database(found: dict[str, Any], now: float) -> Iterator[Fact]:
    pending = found["pending"]
    oldest = min((one["oldest"].timestamp() for one in pending), default=None)
    yield _outbox("", sum(one["events"] for one in pending), oldest, now)
    if refused := sum(one["errors"] for one in pending):
        yield _refused(refused)
    yield Fact("watched", f"{plural(len(found['watched']), 'table')}, schema relay version {found['version']}")
    notes = [{"table": one["tbl"], **one} for one in found["watched"] if one["note"]]
    yield from _incomplete(notes)


def _outbox(more: str, events: int, oldest: float | None, now: float) -> Fact:
    text = f"{more}{plural(events, 'event')} in the outbox"
    if oldest is None:
        return Fact("outbox", text)
    age = max(0.0, now - oldest)
    return Fact("outbox", f"{text}, the oldest for {duration(age)}", Level.WARNING if age > OLD_SECONDS else Level.OK)


def _refused(count: int) -> Fact:
    return Fact("refused", f"{count} refused by the broker; their keys wait", Level.WARNING, _RELEASE)


def _incomplete(notes: list[dict[str, Any]]) -> Iterator[Fact]:
    for one in notes[:SHOWN_MAX]:
        yield Fact(str(one["table"]), f"NOT COMPLETE: {one['note']}", Level.FAILED, one["remedy"] or "")
    if more := len(notes[SHOWN_MAX:]):
        yield Fact("more", f"{plural(more, 'table')} NOT COMPLETE", Level.FAILED, "select * from relay.watched;")


def _held(held: dict[str, Any], now: float) -> Table:
    rows = [
        (one["what"], one["reason"], duration(now - one["since"]), f"{one['next_try_seconds']:g} s")
        for one in held["first"]
    ]
    remedy = "bind a queue for them (start its receiver)"
    return Table(
        "Held tables and topics", ("what", "reason", "for", "next try in"), rows, held["groups"] - len(rows), remedy
    )


_PENDING = ("topic", "events", "the oldest for", "refused")


def _tables_of_outbox(found: dict[str, Any], now: float) -> Iterator[Table]:
    outbox = found["outbox"] or {"topics": []}
    rows = [
        (one["topic"], str(one["events"]), duration(now - one["oldest"]), str(one["refused"]))
        for one in outbox["topics"][:SHOWN_MAX]
    ]
    yield Table("In the outbox, by topic", _PENDING, rows)
    refused = [
        (one["id"], one["key"] or "", one["reason"], f"{duration(now - one['at'])} ago")
        for one in found["last_refused"]
    ]
    yield Table("Refused by the broker, since the start", ("event", "key", "reason", "when"), refused, 0, _RELEASE)


def _tables_of_database(found: dict[str, Any], now: float) -> Iterator[Table]:
    rows = [
        (whose(one), str(one["events"]), duration(now - one["oldest"].timestamp()), str(one["errors"]))
        for one in sorted(found["pending"], key=lambda one: -one["events"])[:SHOWN_MAX]
    ]
    yield Table("In the outbox, by topic", _PENDING, rows, len(found["pending"]) - len(rows))
    refused = found["refused"]
    shown = [(one["id"], str(one["key"] or "")[:KEY_MAX], one["error"]) for one in refused[:SHOWN_MAX]]
    yield Table("Refused by the broker", ("event", "key", "reason"), shown, len(refused) - len(shown), _RELEASE)
    watched = [(one["tbl"], one["topic"] or "") for one in found["watched"][:WATCHED_MAX]]
    yield Table("Watched", ("table", "topic"), watched, len(found["watched"]) - len(watched))
