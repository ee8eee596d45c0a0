"""Real servers for every test: one PostgreSQL and one RabbitMQ a session, a database and a vhost a test.

Tests that kill, pause, restart or configure a server take `private_postgres` or `private_rabbitmq`: second servers,
which are put right before each of them.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import psycopg2.extensions
import pytest

from dev import forkserver, process, session
from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.doubles.odoo.handle import Odoo, Real, Standin
from dev.mariadb import MariaDB
from dev.mysql import MySQL
from dev.postgres import Flavour, Postgres
from dev.process import ServerError
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests import left_out, order, shown

# A busy machine is no finding.
hypothesis.settings.register_profile("relay", deadline=None)
hypothesis.settings.load_profile("relay")

_names = itertools.count(1)
_directory = pytest.StashKey[Path]()
_scripts = pytest.StashKey[list[Script]]()


def pytest_configure(config: pytest.Config) -> None:
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    forkserver.enable()
    session.sweep()
    config.stash[_directory] = session.make(in_memory="not long" in config.option.markexpr)
    if config.option.basetemp is None:
        config.option.basetemp = config.stash[_directory] / "tmp"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Whatever happened, no server and no file of this session stays."""
    if directory := config.stash.get(_directory, None):
        session.remove(directory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the scripts that a failed test ran: their files go with the session."""
    report = yield
    if report.failed:
        for one in item.stash.get(_scripts, []):
            report.sections.append((f"log of {one.name}", one.log()[-20_000:]))
    return report


@pytest.hookimpl(tryfirst=True)  # before what was collected is told to the one that shares it
def pytest_collection_finish(session: pytest.Session) -> None:
    """Where processes share the tests, these are in an order that has all of them busy to the end."""
    if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        session.items[:] = order.shared(session.items, [one.nodeid for one in session.items], processes)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ODOO_URL, what takes the fixture `odoo` is a test of that real server, for make test-odoo only."""
    without = left_out.left_out([item.nodeid for item in items if not item.get_closest_marker("long")])
    for item in items:
        if item.nodeid in without:
            item.add_marker("left_out")
        if "ODOO_URL" in os.environ and "odoo" in getattr(item, "fixturenames", ()):
            item.add_marker("odoo")


def flavour() -> Flavour:
    return os.environ.get("PG") or "embedded"


@pytest.fixture(autouse=True)
def no_wait_callback() -> Iterator[None]:
    """The product's, for a command that opens PostgreSQL; other tests want their connections without."""
    yield
    psycopg2.extensions.set_wait_callback(None)


@pytest.fixture(scope="session")
def run_directory(pytestconfig: pytest.Config) -> Path:
    """The directory of this session's servers; it is removed at the end, and what runs in it is killed."""
    return pytestconfig.stash[_directory].resolve()


S = TypeVar("S", Postgres, MariaDB)


def for_the_session(server: S) -> Iterator[S]:
    """Start it, and remove it at the end, to which it must have run."""
    server.start()
    yield server
    ended = "" if server.process else process.tail(server.log)
    server.remove()
    assert not ended, f"a server of the session ended before its tests did:\n{ended}"


@pytest.fixture(scope="session")
def postgres(run_directory: Path) -> Iterator[Postgres]:
    """The session's PostgreSQL. It does not flush to disk: no test of its can pull the plug of the host."""
    yield from for_the_session(Postgres(run_directory / "postgres", flavour(), fsync=False))


@pytest.fixture(scope="session")
def rabbitmq(run_directory: Path) -> Iterator[RabbitMQ]:
    """The session's RabbitMQ."""
    broker = RabbitMQ(run_directory / "rabbitmq")
    broker.start()
    yield broker
    broker.remove()


@pytest.fixture(scope="session")
def mariadb_server(run_directory: Path) -> Iterator[MariaDB]:
    """The session's MariaDB. It does not flush to disk: no test of its can pull the plug of the host."""
    yield from for_the_session(MariaDB(run_directory / "mariadb", durable=False))


@pytest.fixture
def mariadb(mariadb_server: MariaDB) -> MariaDB:
    """The session's MariaDB with the relay's database, and without whatever the test before has left."""
    mariadb_server.renew()
    return mariadb_server


@pytest.fixture(scope="session")
def mysql_server(run_directory: Path) -> Iterator[MySQL]:
    """The session's MySQL, of the Debian suite MYSQL_SUITE."""
    yield from for_the_session(MySQL(run_directory / "mysql", durable=False))


@pytest.fixture
def mysql(mysql_server: MySQL) -> MySQL:
    """The session's MySQL with the relay's database, and without whatever the test before has left."""
    mysql_server.renew()
    return mysql_server


@pytest.fixture(scope="session")
def breakable_mariadb(run_directory: Path) -> Iterator[MariaDB]:
    """The session's second MariaDB, for `private_mariadb`; it flushes to disk."""
    server = MariaDB(run_directory / "mariadb-private")
    yield server
    server.remove()


@pytest.fixture
def private_mariadb(breakable_mariadb: MariaDB) -> MariaDB:
    """A MariaDB to be killed, paused or restarted, with a new relay's database: whatever the test before did."""
    breakable_mariadb.resume()
    breakable_mariadb.start()
    breakable_mariadb.renew()
    return breakable_mariadb


@pytest.fixture(scope="session")
def breakable_postgres(run_directory: Path) -> Iterator[Postgres]:
    """The session's second PostgreSQL, for `private_postgres`; it flushes to disk."""
    server = Postgres(run_directory / "postgres-private", flavour())
    yield server
    server.remove()


@pytest.fixture(scope="session")
def breakable_rabbitmq(run_directory: Path) -> Iterator[RabbitMQ]:
    """The session's second RabbitMQ, for `private_rabbitmq`."""
    broker = RabbitMQ(run_directory / "rabbitmq-private")
    yield broker
    broker.remove()


@pytest.fixture
def private_postgres(breakable_postgres: Postgres) -> Postgres:
    """A PostgreSQL to be killed, paused or restarted: whatever state the test before left it in, it runs."""
    breakable_postgres.resume()
    breakable_postgres.start()
    return breakable_postgres


@pytest.fixture
def private_rabbitmq(breakable_rabbitmq: RabbitMQ) -> RabbitMQ:
    """A RabbitMQ to be killed, paused, restarted or configured: whatever the test before did, it is as when new."""
    try:
        breakable_rabbitmq.mend()
    except (ServerError, AssertionError):  # beyond repair
        breakable_rabbitmq.remove()
        breakable_rabbitmq.start()
    return breakable_rabbitmq


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A fresh database with the relay's schema on the session's server."""
    made = Database.create(postgres, f"test_{next(_names)}")
    yield made
    made.drop()


@pytest.fixture
def private_database(private_postgres: Postgres) -> Iterator[Database]:
    """A fresh database with the relay's schema on the server that may be broken."""
    made = Database.create(private_postgres, f"test_{next(_names)}")
    yield made
    made.close()


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> Iterator[Vhost]:
    """A fresh virtual host on the session's broker."""
    made = Vhost.create(rabbitmq, f"test-{next(_names)}")
    yield made
    made.delete()


@pytest.fixture
def private_vhost(private_rabbitmq: RabbitMQ) -> Iterator[Vhost]:
    """A fresh virtual host on the broker that may be broken."""
    made = Vhost.create(private_rabbitmq, f"test-{next(_names)}")
    yield made
    made.close()


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """Make a Script: script("listen.py", {"DATABASE_URL": ...}); several of one name get directories of their own."""
    made = request.node.stash[_scripts] = list[Script]()

    def make(
        name: str,
        settings: Mapping[str, object],
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Script:
        directory = tmp_path / f"{name}-{len(made)}"
        directory.mkdir()
        made.append(Script(name, settings, directory, arguments, environment, prefix=prefix))
        return made[-1]

    yield make
    for one in made:
        one.kill()
    known = {secret for one in made for settings in one.configured for secret in shown.secrets(settings)}
    assert shown.leaked(known, [*(one.log() for one in made), *shown.TEXTS]) == []


@pytest.fixture(autouse=True)
def same_log_level() -> Iterator[None]:
    """A test that leaves another one behind changes what those after it log, and how fast."""
    before = logging.root.level, logging.root.manager.disable
    yield
    assert (logging.root.level, logging.root.manager.disable) == before


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands say is kept for `script`, which looks whether a secret is in it."""
    shown.TEXTS.clear()
    run = forkserver.run

    def kept(*words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        done = run(*words, **more)
        shown.TEXTS.extend((done.stdout, done.stderr))
        return done

    monkeypatch.setattr(forkserver, "run", kept)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An HTTP endpoint that answers as its rule says, and keeps what it got."""
    with Endpoint() as made:
        yield made


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], float, str], None]:
    """wait_until(condition, timeout, message): poll every 20 ms; also `from dev.process import wait_until`."""
    return process.wait_until


@pytest.fixture(scope="session")
def standins() -> Iterator[dict[str, Standin]]:
    """The session's stand-ins for Odoo, by what they were started with."""
    made: dict[str, Standin] = {}
    yield made
    for standin in made.values():
        standin.end()


@pytest.fixture
def odoo(request: pytest.FixtureRequest, standins: dict[str, Standin]) -> Odoo:
    """An Odoo 19: the stand-in, or the real server that ODOO_URL names (then what would break it is skipped).

    @pytest.mark.parametrize("odoo", ["17", "19"], indirect=True) asks for versions, "17" standing for all before
    JSON-2 (but "14" beside it for 14 itself); instead of one may stand the arguments of Standin:
    {"version": "17", "close": True, "workers": 2}.
    """
    given = getattr(request, "param", "19")
    options = dict(given) if isinstance(given, Mapping) else {"version": given}
    if "ODOO_URL" not in os.environ:
        name = repr(options)
        standin = standins.get(name) or Standin(**options)
        standins[name] = standin
        standin.reset()
        return standin
    real = Real()
    if len(options) > 1:
        pytest.skip("a real server has the options that it has")
    asked = [one for mark in request.node.iter_markers("parametrize") if mark.args[0] == "odoo" for one in mark.args[1]]
    if asked and options["version"] != (real.version if real.version in asked else real.like):
        pytest.skip(f"the server is Odoo {real.version}")
    return real
