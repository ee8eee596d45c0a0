"""One round: writers and faults together, then quiet, then the referee."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pika.exceptions
import psycopg2

from chaos import referee
from chaos.faults import Striker, healthy
from chaos.plan import Round
from chaos.referee import Arrival, Change, Fault, Verdict
from chaos.site import QUEUE, TIME_LIMIT, Site, now
from chaos.writers import Writer, finish_prepared
from dev.database import connect
from dev.doubles.endpoint import Request
from dev.process import wait_until
from dev.script import ROOT

WRITERS = 5  # one of them commits late
WARM_UP = 0.5  # seconds of writing before and after the faults
QUIET_SECONDS = 150.0  # until everything that was committed must have arrived
_AUDIT = "select extract(epoch from at)::float8, xid, tbl, op, old::text, new::text from audit.log order by aid"


@dataclass
class Outcome:
    """What a round has shown."""

    verdict: Verdict
    struck: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)  # what was judged, if there is a finding
    parked: int = 0  # keys that waited for a person when the faults were over
    seconds_to_quiet: float = 0.0
    seconds: float = 0.0


class Match:
    """Plays rounds on a site."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._seed = seed
        self._notify = True
        self._defects = 0
        # The endpoint's clock is monotonic; PostgreSQL's tells the time.
        self._epoch = now() - time.monotonic()

    def play(self, plan: Round) -> Outcome:
        """Write, strike, mend, wait, judge, forget."""
        began = time.monotonic()
        self._set_notify(plan)
        self._site.endpoint.rule = healthy
        writers = self._writers(plan)
        striker = Striker(self._site, plan.strikes)
        for writer in writers:
            writer.start()
        time.sleep(WARM_UP)
        striker.start()
        striker.join()
        time.sleep(WARM_UP)
        self._end(writers)
        parked, stuck, quiet = self._await_quiet()
        verdict, history = self._judge(striker)
        verdict.stuck += stuck + striker.failures + self._new_defects()
        verdict.stuck += [f"{writer.name}: {writer.failure!r}" for writer in writers if writer.failure]
        if not verdict.committed:
            verdict.stuck.append("the writers have committed nothing")
        outcome = Outcome(verdict, history=history, parked=parked, seconds_to_quiet=quiet)
        outcome.struck.update(fault.name for fault in striker.faults)
        for writer in writers:
            outcome.written.update(writer.done)
        self._forget()
        outcome.seconds = time.monotonic() - began
        return outcome

    def _set_notify(self, plan: Round) -> None:
        if plan.notify == self._notify:
            return
        self._notify = plan.notify
        for daemon in self._site.listeners.both:
            daemon.change(NOTIFY="on" if plan.notify else "off", POLL_INTERVAL=1 if plan.notify else 0.2)
            daemon.stop()
            daemon.start()

    def _writers(self, plan: Round) -> list[Writer]:
        dsn = self._site.database.app_dsn
        return [
            Writer(dsn, f"{self._seed} {plan.number} {n}", n, late=n == 0, two_phase=not plan.notify)
            for n in range(WRITERS)
        ]

    def _end(self, writers: list[Writer]) -> None:
        for writer in writers:
            writer.stop()
        for writer in writers:
            writer.join()
        dsn = self._site.database.admin_dsn
        wait_until(lambda: finish_prepared(dsn), QUIET_SECONDS, "PostgreSQL to have recovered")
        self._site.endpoint.rule = healthy
        for daemon in (*self._site.receivers.both, *self._site.listeners.both):
            daemon.start()

    def _await_quiet(self) -> tuple[int, list[str], float]:
        """Until outbox, queue and parking lot are empty; keys parked, what is stuck, seconds it took."""
        began, parked, why = time.monotonic(), -1, "nothing"
        while (passed := time.monotonic() - began) < QUIET_SECONDS:
            try:
                why = self._unfinished()
                if not why:
                    return max(0, parked), [], passed
                if why.startswith("parked"):
                    parked = self._count_parked() if parked < 0 else parked
                    self._receiver("replay", "--all")
            except (psycopg2.Error, pika.exceptions.AMQPError, OSError, subprocess.SubprocessError) as error:
                why = repr(error)
            time.sleep(0.3)
        return max(0, parked), [f"not quiet after {QUIET_SECONDS:g} s: {why}"], passed

    def _unfinished(self) -> str:
        if left := self._query("select count(*) from relay.outbox")[0][0]:
            return f"{left} events in the outbox"
        for queue, word in ((QUEUE, "in the queue"), (f"{QUEUE}.parked", "")):
            if depth := self._site.vhost.queue_depth(queue):
                return f"{depth} events {word}" if word else f"parked: {depth} events"
        if any(request.done is None and self._is_recent(request) for request in list(self._site.endpoint.requests)):
            return "a request is under way"
        # With what is delivered and not acknowledged; asked last, because it takes a second.
        listed = json.loads(
            self._site.rabbitmq.ctl("list_queues", "-p", "chaos", "name", "messages", "--formatter=json")
        )
        held = {one["name"]: one["messages"] for one in listed if one["name"].startswith(QUEUE) and one["messages"]}
        return f"not acknowledged: {held}" if held else ""

    @staticmethod
    def _is_recent(request: Request) -> bool:
        return time.monotonic() - request.started < TIME_LIMIT

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(connect(self._site.database.admin_dsn)) as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def _receiver(self, *command: str) -> str:
        """Run a command of receiver.py as a person would."""
        env_file = self._site.receivers.active().env_file
        line = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(env_file), *command]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=QUIET_SECONDS)
        return done.stdout

    def _count_parked(self) -> int:
        with contextlib.suppress(ValueError):
            return sum(one["why"] == "dead" for one in json.loads(self._receiver("parked", "--json")))
        return 0

    def _judge(self, striker: Striker) -> tuple[Verdict, list[str]]:
        rows = [
            (at, xid, table, op, old and referee.parse(old), new and referee.parse(new))
            for at, xid, table, op, old, new in self._query(_AUDIT)
        ]
        arrivals, foreign = [], []
        for request in self._site.endpoint.completed:
            try:
                arrivals.append(self._arrival(request))
            except (KeyError, TypeError, ValueError):
                foreign.append(f"event {request.event_id} tells of nothing of ours: {request.body[:200]!r}")
        changes = referee.committed(rows)
        verdict = referee.judge(changes, arrivals, striker.faults + striker.cuts)
        verdict.invented += foreign
        if self._site.by_functions:
            self._judge_applied(verdict, {arrival.id for arrival in arrivals})
        return verdict, _history(changes, arrivals, striker.faults) if verdict.problems else []

    def _judge_applied(self, verdict: Verdict, shown: set[str]) -> None:
        """Each event must have taken effect in the functions' database, and once."""
        applied = Counter(name for (name,) in self._query("select id from applied"))
        verdict.lost += [f"event {name} was shown, and has taken no effect" for name in sorted(shown - applied.keys())]
        twice = [f"event {name} has taken effect {times} times" for name, times in applied.items() if times > 1]
        verdict.unexplained += twice

    def _arrival(self, request: Request) -> Arrival:
        event = referee.parse(request.body)
        assert request.done is not None
        sender = request.headers.get("Chaos-Sender", "")
        began, done = self._epoch + request.started, self._epoch + request.done
        return Arrival(request.event_id, referee.told(event), sender, began, done)

    def _new_defects(self) -> list[str]:
        daemons = (*self._site.listeners.both, *self._site.receivers.both)
        found = [f"{daemon.label}: {line}" for daemon in daemons for line in daemon.defects()]
        new, self._defects = found[self._defects :], len(found)
        return new

    def _forget(self) -> None:
        """What was judged is not kept: a run may last for hours."""
        endpoint = self._site.endpoint
        endpoint.requests.clear()
        endpoint.completed.clear()
        with contextlib.closing(connect(self._site.database.admin_dsn)) as opened, opened.cursor() as cursor:
            cursor.execute("truncate audit.log")
            if self._site.by_functions:
                cursor.execute("truncate applied")


def _history(changes: list[Change], arrivals: list[Arrival], faults: list[Fault]) -> list[str]:
    """All that was judged, by time."""
    lines = [(change.at, f"committed {change}") for change in changes]
    lines += [(a.at, f"completed {a.change} by {a.sender} event={a.id} began={a.began:.3f}") for a in arrivals]
    lines += [(fault.begin, f"FAULT     {fault.name}") for fault in faults]
    lines += [(fault.end, f"MENDED    {fault.name}") for fault in faults]
    return [f"{time.strftime('%H:%M:%S', time.gmtime(at))}.{at % 1 * 1000:03.0f} {text}" for at, text in sorted(lines)]
