"""The first act: airports travel to an HTTP endpoint, while everything between is killed and comes back."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

from demo import airports, referee
from demo.failed import Failed
from demo.ledger import OPS, Change, Ledger
from demo.monitor import Monitor
from demo.restart import Restart
from demo.show import Show
from demo.site import WORKERS, Site
from demo.writers import NUMBERS_A_WRITER, Writer
from dev import stack

WRITERS = 4
SHARED_ROWS = 10
MOMENT = 0.002  # seconds: how exactly the quiet phase keeps its pace
QUIET_WRITER = WRITERS + 1  # for the numbers of its changes; the load is writer 0


@dataclass(frozen=True)
class Size:
    """How much is done."""

    airports: int | None = None  # None: all
    transactions: int = 4000
    rate: float = 160.0  # transactions a second, of all writers together
    quiet_seconds: float = 8.0
    quiet_rate: float = 100.0  # events a second


@dataclass(frozen=True)
class Result:
    """What came out."""

    verdict: referee.Verdict
    latencies: list[float]  # ms
    rows: int
    rolled_back: int
    duplicates_before_crash: int


class Act:
    """One performance on a site that is up. Raises Failed where it cannot go on; judging is left to the end.

    Args:
        stop_daemons: end them before the verdict, and demand that they end in order.
    """

    def __init__(self, site: Site, show: Show, size: Size, *, stop_daemons: bool) -> None:
        self._site = site
        self._show = show
        self._size = size
        self._stop_daemons = stop_daemons
        self._ledger = Ledger()
        self._halt = threading.Event()
        self._rows = airports.read(size.airports)
        self._writers: list[Writer] = []
        self._crashed_at = 0  # monotonic ns

    def play(self) -> Result:
        """From the empty table to the verdict."""
        self._source = self._site.source
        with contextlib.ExitStack() as cleanup:
            self._admin = cleanup.enter_context(contextlib.closing(self._source.connect()))
            self._app = cleanup.enter_context(contextlib.closing(self._source.connect(stack.APP)))
            self._monitor = Monitor(self._site, self._show, self._ledger, self._admin)
            cleanup.callback(self._show.end_progress)
            cleanup.callback(self._end_writers)
            self._prepare()
            self._load()
            self._write_and_crash()
            self._deliver()
            self._quiet_phase()
            return self._judge()

    def _prepare(self) -> None:
        airports.create(self._app, self._source)
        said, answer = self._source.watch(self._site.listener.env_file)
        self._show.say("watch", said)
        self._show.say("", answer)
        self._start_daemons("started")

    def _start_daemons(self, how: str) -> None:
        self._site.start_daemons()
        self._monitor.daemons_run = True
        pids = ", ".join(f"{daemon.name} (pid {daemon.pid})" for daemon in self._site.daemons)
        self._show.say("daemons", f"{how}: {pids}, {WORKERS} workers")

    def _load(self) -> None:
        began = time.monotonic()
        for batch in airports.load(self._app, self._source, self._rows, first_change=1):
            self._ledger.commit(Change(key, "insert", 1, number) for key, number in batch)
            self._monitor.tick()
        count, seconds = len(self._rows), time.monotonic() - began
        self._show.say("load", f"{count:,} airports inserted in {seconds:.1f} s, {airports.LOAD_BATCH:,} a transaction")

    def _write_and_crash(self) -> None:
        """The writers run from beginning to end; the crash comes when half of their work is done."""
        self._start_writers()
        self._monitor.until(lambda: sum(writer.left for writer in self._writers) <= self._size.transactions // 2)
        self._crash()
        self._monitor.until(lambda: not any(writer.is_alive() for writer in self._writers))
        self._monitor.tick()
        made = sum((writer.made for writer in self._writers), Counter[str]())
        self._show.say("changes", f"writers done: {', '.join(f'{made[op]:,} {op}s' for op in OPS)},")
        self._show.say(
            "", f"{made['move']:,} rows given new keys; {self._ledger.rolled_back:,} transactions rolled back"
        )

    def _start_writers(self) -> None:
        size = self._size
        shared, own = self._rows[:SHARED_ROWS], self._rows[SHARED_ROWS:]
        each = size.transactions // WRITERS
        self._writers = [
            Writer(
                number,
                self._source,
                self._ledger,
                own[number - 1 :: WRITERS],
                [str(row[0]) for row in shared],
                transactions=each,
                pace=WRITERS / size.rate,
                stop=self._halt,
            )
            for number in range(1, WRITERS + 1)
        ]
        self._monitor.writers = self._writers
        for writer in self._writers:
            writer.start()
        self._show.say("changes", f"{WRITERS} writers begin while the load is still on its way; they never pause")

    def _end_writers(self) -> None:
        self._halt.set()
        for writer in self._writers:
            if writer.is_alive():
                writer.join()

    def _crash(self) -> None:
        """SIGKILL for both daemons; RabbitMQ is restarted; all is started again. The writers never notice."""
        self._monitor.look()
        self._monitor.daemons_run = False
        for daemon in self._site.daemons:
            daemon.kill()
        self._crashed_at = time.monotonic_ns()
        began, events = time.monotonic(), self._ledger.events
        pids = " and ".join(f"{daemon.name} (pid {daemon.pid})" for daemon in self._site.daemons)
        self._show.say("CRASH", f"kill -9 {pids}")
        waiting = f"{self._monitor.outbox:,} events wait in the outbox, {self._monitor.in_rabbitmq:,} in RabbitMQ"
        self._show.say("", f"{waiting}; RabbitMQ is being restarted")
        with Restart(self._site.rabbitmq) as restart:
            self._monitor.until(restart.done)
            restart.check()
        self._show.say("", "RabbitMQ is back")
        self._start_daemons("started again")
        seconds, meanwhile = time.monotonic() - began, self._ledger.events - events
        self._show.say("", f"down for {seconds:.1f} s; the writers committed {meanwhile:,} events meanwhile")

    def _deliver(self) -> None:
        began = time.monotonic()
        self._monitor.drain()
        again = self._monitor.arrived - self._monitor.distinct
        missing = self._ledger.events - self._monitor.distinct
        what = f"{missing:,} EVENTS ARE MISSING" if missing > 0 else "everything has arrived"
        self._show.say(
            "deliver", f"{what}, {time.monotonic() - began:.1f} s after the last change; {again:,} came twice"
        )

    def _quiet_phase(self) -> None:
        """Single changes at a gentle pace, each with the time at which its COMMIT returned."""
        size, rng = self._size, random.Random(QUIET_WRITER)
        keys = [key for writer in self._writers for key in writer.keys]
        count = round(size.quiet_seconds * size.quiet_rate)
        self._show.say("quiet", f"{count:,} single updates at {size.quiet_rate:g} a second, for the latency")
        due = time.monotonic()
        with self._app.cursor() as cursor:
            for number in range(QUIET_WRITER * NUMBERS_A_WRITER, QUIET_WRITER * NUMBERS_A_WRITER + count):
                due += rng.uniform(0.5, 1.5) / size.quiet_rate
                while time.monotonic() < due:
                    self._monitor.tick()
                    time.sleep(max(0.0, min(MOMENT, due - time.monotonic())))
                key = rng.choice(keys)
                cursor.execute("begin")
                version = self._source.change(cursor, "city = city", (number,), key)
                cursor.execute("commit")
                committed = time.monotonic_ns()
                self._ledger.commit([Change(key, "update", version, number)], committed)
        self._monitor.drain()

    def _judge(self) -> Result:
        if self._stop_daemons:
            self._monitor.daemons_run = False
            for daemon in self._site.daemons:
                daemon.stop()
            if left := self._site.vhost.queue_depth(self._site.queue):
                raise Failed(f"{left} messages are in RabbitMQ that were delivered and never acknowledged")
        table, endpoint = airports.fetch(self._admin, self._source), self._site.endpoint
        arrivals = referee.read_arrivals(endpoint.get("/arrivals"))
        verdict = referee.judge(self._ledger.expected(), arrivals)
        verdict.different = referee.compare(table, referee.read_picture(endpoint.get("/picture")))
        self._show.say("compare", f"{len(table):,} rows of {len(airports.COLUMNS)} fields, the table and the endpoint")
        return Result(
            verdict,
            referee.latencies(self._ledger.committed_at(), arrivals),
            len(table),
            self._ledger.rolled_back,
            referee.repeats_before(arrivals, self._crashed_at),
        )
