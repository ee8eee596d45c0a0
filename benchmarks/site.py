"""The ground: a private PostgreSQL and RabbitMQ, tables of one shape, and the listener between them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
from psycopg2.extensions import connection

from benchmarks import meters
from dev import site
from dev.database import Database, connect
from dev.postgres import Flavour, Postgres
from dev.process import Process, wait_until
from dev.site import Daemon

QUEUE = "out"
COLUMNS = "id bigint primary key, customer int, status text, total numeric(12,2), note text, changed timestamptz, n int"
# A message of it is about 360 bytes; random figures, so that it does not compress to nothing.
ROWS = """select i, (random() * 100000)::int, 'confirmed', (random() * 10000)::numeric(12,2),
    md5(i::text) || md5((i + 1)::text), now(), 0 from generate_series({first}, {last}) i"""
FILL_ROWS = 1000  # rows a transaction


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `scale` below 1 only to try the benchmark out."""

    scale: float = 1.0

    def events(self, count: int) -> int:
        return max(1000, int(count * self.scale))

    def seconds(self, count: float) -> int:
        return max(2, round(count * self.scale))


class Site(site.Site):
    """Servers of one run of the benchmark. Use as a context manager: nothing of it stays."""

    def __init__(self, flavour: Flavour, sizes: Sizes, directory: Path) -> None:
        super().__init__(directory, "bench", flavour)
        self.sizes = sizes
        self._logical: Database | None = None
        self._flavour = flavour
        self._names = itertools.count(1)

    def up(self) -> None:
        super().up()
        self.admin = self.database.admin()

    @property
    def logical(self) -> Database:
        """A database on a server of its own with wal_level=logical, which only peers need."""
        if self._logical is None:
            server = Postgres(self.directory / "logical", self._flavour)
            server.start()
            with contextlib.closing(connect(server.dsn())) as opened, opened.cursor() as cursor:
                cursor.execute("alter system set wal_level = logical")
            server.restart()
            self._logical = Database.create(server, self.name)
        return self._logical

    def servers(self) -> dict[str, Process]:
        """The processes of PostgreSQL and of the broker."""
        found = {"postgres": self.postgres.process, "broker": self.rabbitmq.process}
        if self._logical is not None:
            found["logical"] = self._logical.server.process
        return {name: process for name, process in found.items() if process}

    def settle(self) -> None:
        """Let the servers finish what earlier measures have left them to do."""
        self.sql("vacuum (analyze) relay.outbox")
        self.sql("checkpoint")
        meters.settle(lambda: list(self.servers().values()))

    def sql(self, statement: str) -> Any:
        """One statement as superuser; the first column of its first row, if it has rows."""
        with self.admin.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def new_name(self) -> str:
        """A name for a table, a queue, a slot."""
        return f"bench_{next(self._names)}"

    @contextlib.contextmanager
    def table(self, *, rows: int = 0, watch: str | None = "") -> Iterator[str]:
        """A table with `rows` rows, then watched with these further arguments of relay.watch (None: not watched)."""
        name = self.new_name()
        self.sql(f"create table {name} ({COLUMNS})")
        if rows:
            self.sql(f"insert into {name} {ROWS.format(first=1, last=rows)}")
        self.sql(f"vacuum (analyze) {name}")
        if watch is not None:
            self.sql(f"select relay.watch('public.{name}'{watch})")
        try:
            yield name
        finally:
            self.sql(f"drop table {name}")

    @contextlib.contextmanager
    def queue(self, exchange: str = "relay", kind: str = "topic", key: str = "#") -> Iterator[str]:
        """The quorum queue, empty, bound to everything; its URL."""
        channel = self.vhost.channel()
        channel.exchange_declare(exchange, kind, durable=True)
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(QUEUE, exchange, key)
        self.vhost.close()
        try:
            yield self.vhost.url
        finally:
            channel = pika.BlockingConnection(pika.URLParameters(self.vhost.url)).channel()
            channel.queue_delete(QUEUE)
            channel.connection.close()

    def listener(self, **settings: str) -> Daemon:
        """listen.py with default settings but these; not started."""
        settings = {"DATABASE_URL": self.database.listener_dsn, "RABBITMQ_URL": self.vhost.url, **settings}
        return Daemon("listen.py", settings, self.directory / self.new_name())

    @contextlib.contextmanager
    def at_work(self, daemon: Daemon) -> Iterator[Daemon]:
        """Start it; stopped in order at the end, and its directory deleted."""
        daemon.start()
        try:
            daemon.await_ready()
            yield daemon
            daemon.stop()
        finally:
            daemon.kill()
            shutil.rmtree(daemon.directory)

    def listening(self, **settings: str) -> contextlib.AbstractContextManager[Daemon]:
        """listen.py at work."""
        return self.at_work(self.listener(**settings))

    def receiver(self, **settings: object) -> Daemon:
        """receiver.py with default settings but these, QUEUE among them; not started."""
        return Daemon("receiver.py", {"RABBITMQ_URL": self.vhost.url, **settings}, self.directory / self.new_name())

    @contextlib.contextmanager
    def receiving(self, url: str) -> Iterator[Daemon]:
        """receiver.py with default settings between the queue, which it makes, and an endpoint."""
        with self.at_work(self.receiver(QUEUE=QUEUE, HTTP_URL=url)) as daemon:
            yield daemon
        self.drop_queues(QUEUE, f"{QUEUE}.parked")

    def drop_queues(self, *queues: str) -> None:
        """Bound to everything: left behind, each message of the next measures would go into them as well."""
        channel = self.vhost.channel()
        for queue in queues:
            channel.queue_delete(queue)
        self.vhost.close()

    def pending(self) -> int:
        return int(self.sql("select count(*) from relay.outbox"))

    def await_empty(self, timeout: float = 600) -> None:
        wait_until(lambda: not self.sql("select 1 from relay.outbox limit 1"), timeout, "the outbox to be empty")

    def forget_events(self) -> None:
        """Empty the outbox: the next measure starts on a small table."""
        self.sql("truncate relay.outbox")


def fill(opened: connection, table: str, first: int, count: int, chunk: int = FILL_ROWS) -> None:
    """Insert `count` rows with ids from `first`, `chunk` rows a transaction."""
    with opened.cursor() as cursor:
        for start in range(first, first + count, chunk):
            last = min(start + chunk, first + count) - 1
            cursor.execute(f"insert into {table} {ROWS.format(first=start, last=last)}")
