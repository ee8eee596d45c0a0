"""python -m chaos --source mariadb: faults against listen.py on MariaDB, or MySQL, and what its queue got.

Sixteen writers change rows that `listen.py watch` watches, commit late, roll back and run into deadlocks, while servers
and two listeners are killed, stopped and cut off. Judged by an audit table that the same transactions write.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pymysql

from dev import session
from dev.mariadb import MariaDB
from dev.mysql import MySQL
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import ROOT
from dev.site import Daemon
from dev.vhost import Vhost

SERVERS = {"mariadb": MariaDB, "mysql": MySQL}
WRITERS, ROWS = 16, 40
QUIET_SECONDS = 180.0
_EXPECTED = {0, 1205, 1213, 1927, 2003, 2006, 2013, 2014}  # lost connections, deadlocks, waits: an application goes on


class Site:
    """A database with a watched table, RabbitMQ with a queue for everything, and two listeners."""

    def __init__(self, source: str) -> None:
        self.directory = session.make(in_memory=True)
        self.server = SERVERS[source](self.directory / source)
        self.broker = RabbitMQ(self.directory / "rabbitmq")

    def up(self) -> None:
        """Start all of it."""
        self.server.start()
        self.server.renew()
        self.broker.start()
        self.vhost = Vhost.create(self.broker, "chaos")
        channel = self.vhost.channel()
        channel.exchange_declare("relay", "topic", durable=True)
        channel.queue_declare("out", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("out", "relay", "#")
        rows = ", ".join(f"({row}, 0)" for row in range(ROWS))
        self.server.add_listener("relay_listen", "listens")
        self.server.execute(
            "create database shop",
            "create table shop.t (id int primary key, n int not null)",
            f"insert into shop.t values {rows}",
            "create table shop.audit (id bigint auto_increment primary key, which int not null, n int not null)",
        )
        environment = {
            "PATH": os.environ["PATH"],
            "RABBITMQ_URL": self.vhost.url,
            "DATABASE_URL": self.server.url("shop"),
        }
        subprocess.run([sys.executable, str(ROOT / "listen.py"), "watch", "shop.t"], env=environment, check=True)
        settings = {
            "DATABASE_URL": self.server.url("shop", "relay_listen", "listens"), "RABBITMQ_URL": self.vhost.url,
            "RECONNECT_MIN": 0.1, "RECONNECT_MAX": 1,
        }  # fmt: skip
        self.listeners = [Daemon("listen.py", settings, self.directory / f"listener-{n}") for n in range(2)]
        for one in self.listeners:
            one.start()

    def remove(self) -> None:
        """End and delete all of it."""
        for one in getattr(self, "listeners", []):
            one.kill()
        self.server.remove()
        self.broker.remove()
        session.remove(self.directory)


class Writer(threading.Thread):
    """One connection of the application, until it is told to stop."""

    def __init__(self, server: MariaDB, seed: str) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._dice = random.Random(seed)
        self._halt = threading.Event()
        self.done: Counter[str] = Counter()

    def stop(self) -> None:
        self._halt.set()

    def run(self) -> None:
        while not self._halt.is_set():
            try:
                with contextlib.closing(self._server.connect("shop")) as connection:
                    connection.autocommit(value=False)
                    while not self._halt.wait(self._dice.uniform(0, 0.05)):
                        self._transaction(connection)
            except pymysql.Error as error:
                number = error.args[0] if error.args else 0
                self.done[f"error {number}"] += 1
                self._halt.wait(0.1)

    def _transaction(self, connection: Any) -> None:
        dice = self._dice
        with connection.cursor() as cursor:
            for row in dice.sample(range(ROWS), dice.choice((1, 1, 1, 2, 3))):  # in any order: deadlocks
                cursor.execute("update t set n = n + 1 where id = %s", (row,))
                cursor.execute("insert into audit (which, n) select id, n from t where id = %s", (row,))
            if dice.random() < 0.1:
                self._halt.wait(dice.uniform(0.1, 1.5))
            word = "rolled back" if dice.random() < 0.12 else "committed"
            connection.rollback() if word == "rolled back" else connection.commit()
            self.done[word] += 1


def strike(site: Site, dice: random.Random) -> str:
    """One fault, and its end; return its name."""
    listener = dice.choice(site.listeners)
    seconds = dice.uniform(0.1, 2.0)

    def killed(kill: Callable[[], None], start: Callable[[], None]) -> None:
        kill()
        time.sleep(seconds)
        start()

    def paused(victim: Any) -> None:
        victim.pause()
        time.sleep(seconds * 2)
        victim.resume()

    def cut_off() -> None:
        with contextlib.closing(site.server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("select id from information_schema.processlist where user = 'relay_listen'")
            for (thread,) in cursor.fetchall():
                with contextlib.suppress(pymysql.Error):
                    cursor.execute(f"kill {thread}")

    acts: dict[str, tuple[int, Callable[[], None]]] = {
        "listener.kill": (4, lambda: killed(listener.kill, listener.start)),
        "listener.pause": (3, lambda: paused(listener)),
        "server.kill": (3, lambda: killed(site.server.kill, site.server.start)),
        "server.pause": (2, lambda: paused(site.server)),
        "server.cut-off": (2, cut_off),
        "rabbitmq.close-connections": (2, lambda: site.broker.close_connections("chaos")),
        "rabbitmq.kill": (1, lambda: killed(site.broker.kill, site.broker.start)),
    }
    (name,) = dice.choices(list(acts), [weight for weight, _act in acts.values()])
    acts[name][1]()
    return name


def judge(site: Site, events: list[tuple[str, int, int]]) -> dict[str, Any]:
    """Compare the audit with what arrived: (id, row, n), in the order of arrival."""
    with contextlib.closing(site.server.connect("shop")) as connection, connection.cursor() as cursor:
        cursor.execute("select which, n from audit")
        committed = Counter(cursor.fetchall())
    first: dict[str, tuple[int, int]] = {}
    rows: dict[int, list[int]] = defaultdict(list)
    for event_id, row, n in events:
        if event_id not in first:
            first[event_id] = row, n
            rows[row].append(n)
    arrived = Counter(first.values())
    return {
        "committed": committed.total(),
        "again": len(events) - len(first),
        "lost": (committed - arrived).total(),
        "invented": (arrived - committed).total(),
        "reordered": sum(one > other for found in rows.values() for one, other in itertools.pairwise(found)),
    }


def arrived(site: Site) -> list[tuple[str, int, int]]:
    """Take everything out of the queue."""
    opened = pika.BlockingConnection(pika.URLParameters(site.vhost.url))
    found: list[tuple[str, int, int]] = []
    for _method, _properties, body in opened.channel().consume("out", auto_ack=True, inactivity_timeout=3):
        if body is None:
            break
        event = json.loads(body)
        found.append((event["id"], event["new"]["id"], event["new"]["n"]))
    opened.close()
    return found


def run(source: str, faults: int, seed: int) -> dict[str, Any]:
    """All of it; return what was found."""
    site, dice, struck = Site(source), random.Random(seed), Counter[str]()
    try:
        site.up()
        writers = [Writer(site.server, f"{seed} {number}") for number in range(WRITERS)]
        for one in writers:
            one.start()
        wait_until(lambda: any("relaying" in one.log() for one in site.listeners), 60, "a listener to be at work")
        for number in range(faults):
            time.sleep(dice.uniform(0, 1))
            struck[strike(site, dice)] += 1
            if number % 10 == 9:
                print(f"{number + 1} faults", flush=True)
        for one in writers:
            one.stop()
        for one in writers:
            one.join()
        site.server.start()
        count = "select count(*) from relay.outbox"

        def left() -> int:
            with contextlib.closing(site.server.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(count)
                return int(cursor.fetchall()[0][0])

        wait_until(lambda: left() == 0, QUIET_SECONDS, "the outbox to be empty")
        done = sum((one.done for one in writers), Counter[str]())
        odd = {name for name in done if name.startswith("error ") and int(name[6:]) not in _EXPECTED}
        found = judge(site, arrived(site))
        return {**found, "odd": sorted(odd), "transactions": dict(done), "faults": dict(struck), "seed": seed}
    finally:
        site.remove()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 no promise was broken, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m chaos.mariadb", description=__doc__)
    parser.add_argument("--source", choices=SERVERS, default="mariadb")
    parser.add_argument("--faults", type=int, default=300, metavar="N", help="default: %(default)s, about 15 minutes")
    parser.add_argument("--seed", type=int, metavar="S", help="default: a random one; it is printed")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.faults} faults", flush=True)
    found = run(options.source, options.faults, seed)
    print(json.dumps(found, indent=1))
    broken = [kind for kind in ("lost", "invented", "reordered", "odd") if found[kind]]
    print(f"chaos {'FAILED: ' + ', '.join(broken) if broken else 'ok'}: seed={seed} committed={found['committed']}")
    return 1 if broken or not found["committed"] else 0


if __name__ == "__main__":
    sys.exit(main())
