"""The shared module: the only place that opens databases and RabbitMQ, with what timeouts and TLS.

Each daemon lives on one event loop, so the handles opened here are non-blocking ones; commands that
run once and exit use the blocking pair below. Errors of the drivers leave this module only as `relay.errors`.
"""

import asyncio
import contextlib
import dataclasses
import functools
import select
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pika
import pika.exceptions
import psycopg2
import psycopg2.extensions
from pika.adapters.blocking_connection import BlockingConnection
from pika.adapters.select_connection import SelectConnection

from relay.amqp import nodes, rights, stream, tls
from relay.amqp.inbound import Inbound
from relay.amqp.replies import ACCESS_REFUSED, way_out
from relay.amqp.unreachable import is_hung_up, of_rabbitmq
from relay.config import Common
from relay.daemon import in_thread
from relay.database_url import PolledUrl
from relay.errors import ConfigError, RelayError, Unavailable, one_line
from relay.listening import dsn
from relay.listening.database import BACKEND
from relay.listening.polled.unreachable import of_driver
from relay.listening.texts import read_bytes_as_text
from relay.listening.unreachable import of_postgres
from relay.log import Log
from relay.values import Dsn

if TYPE_CHECKING:
    import sqlalchemy

_log = Log("connection")

LAST_WORD = 2.0  # seconds that a broker has to say why it hangs up; it waits for our first word for 10 s
ALARM_PATIENCE = 5.0  # seconds that a command waits for the end of an alarm


class _Reading(Inbound, SelectConnection):
    """Under a BlockingConnection: pika's own raises for some of what a stranger may write into an answer's headers."""


async def open_postgres(url: Dsn, *, name: str, timeout: float, raw: bool = False) -> psycopg2.extensions.connection:
    """Open a non-blocking (async) connection to PostgreSQL; autocommit, as psycopg2's async mode is.

    Args:
        url: DATABASE_URL.
        name: application_name, as pg_stat_activity shows it.
        timeout: seconds until giving up.
        raw: texts are not converted: each character is a byte of the database's encoding.

    Raises:
        ConfigError: the server answers, and refuses in a way that only a person can mend.
        Unavailable: anything else.
    """
    handle: psycopg2.extensions.connection | None = None
    try:
        async with asyncio.timeout(timeout):
            given = dsn.with_defaults(url, name, raw=raw)
            handle = psycopg2.connect(await dsn.resolved(url, given, timeout), async_=True)
            while (state := handle.poll()) != psycopg2.extensions.POLL_OK:
                await _ready(handle.fileno(), reading=state == psycopg2.extensions.POLL_READ)
    except BaseException as error:
        if handle is not None:
            handle.close()
        if isinstance(error, TimeoutError):
            problem = f"PostgreSQL {url.shown()} does not answer"
            raise Unavailable(problem, f"no answer within {timeout:g} s") from None
        if isinstance(error, psycopg2.Error):
            raise of_postgres(url, str(error)) from None
        raise
    read_bytes_as_text(handle)
    return handle


async def _ready(fd: int, *, reading: bool) -> None:
    """Await that a descriptor can be read, or written to."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    (loop.add_reader if reading else loop.add_writer)(fd, ready.set)
    try:
        await ready.wait()
    finally:
        (loop.remove_reader if reading else loop.remove_writer)(fd)


def postgres_now(
    url: Dsn, *, name: str, timeout: float, patience: float | None = None
) -> psycopg2.extensions.connection:
    """Open a blocking connection to PostgreSQL, for a command. Raises as `open_postgres`.

    Args:
        patience: seconds for each answer, after which the connection is given up; None = no limit.

    From then on Ctrl-C ends a statement under way: libpq alone would not heed it before the answer has come.
    """
    psycopg2.extensions.set_wait_callback(None)  # a former connection's: it would wait without regard to the time limit
    try:
        handle = psycopg2.connect(dsn.with_defaults(url, name), connect_timeout=max(2, int(timeout)))
    except psycopg2.Error as error:
        raise of_postgres(url, str(error)) from None
    finally:
        psycopg2.extensions.set_wait_callback(functools.partial(_wait_interruptibly, patience=patience))
    read_bytes_as_text(handle)
    return handle


def is_pooled(handle: psycopg2.extensions.connection) -> bool:
    """Say whether a pooler stands before PostgreSQL, so that others would inherit what is set on this connection."""
    return backend(handle) != handle.info.backend_pid


def backend(handle: psycopg2.extensions.connection) -> int:
    """Return the process that PostgreSQL has for a blocking connection now."""
    with handle.cursor() as cursor:
        cursor.execute(BACKEND)
        return int(cursor.fetchall()[0][0])


def _wait_interruptibly(handle: psycopg2.extensions.connection, patience: float | None) -> None:
    try:
        while (state := handle.poll()) != psycopg2.extensions.POLL_OK:
            fd = [handle.fileno()]
            ready = select.select(*((fd, [], []) if state == psycopg2.extensions.POLL_READ else ([], fd, [])), patience)
            if not any(ready):
                raise Unavailable(f"PostgreSQL has not answered for {patience:g} s")
    except KeyboardInterrupt:
        handle.cancel()
        raise


def open_polled(url: PolledUrl, *, name: str, timeout: float) -> "sqlalchemy.Connection":
    """Open a blocking connection to what is not PostgreSQL, READ COMMITTED; to be used by one thread at a time.

    Args:
        url: DATABASE_URL.
        name: of the program, where the server shows it.
        timeout: seconds until giving up.

    Raises:
        ConfigError: the server answers, and refuses in a way that only a person can mend; or the driver is missing.
        Unavailable: anything else.
    """
    from relay.listening.polled import engines  # here: with PostgreSQL nobody needs SQLAlchemy

    made = engines.engine(url, name=name, timeout=timeout)
    try:
        return made.connect()
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own, and no base that they share
        raise of_driver(url, getattr(error, "orig", None) or error) from None


async def open_rabbitmq(config: Common, *, name: str) -> stream.Connection:
    """Open a connection to RabbitMQ on the running loop.

    Args:
        config: RABBITMQ_URL, TLS files, HEARTBEAT, CONNECT_TIMEOUT.
        name: shown as the connection's name in RabbitMQ's management page.

    Raises:
        ConfigError: wrong user, password, vhost or certificate.
        Unavailable: anything else.
    """
    url, errors = config.rabbitmq_url, list[RelayError]()
    for one in nodes.order(url):
        try:
            handle = await _open_one(dataclasses.replace(config, rabbitmq_url=one), name)
        except RelayError as error:
            errors.append(error)
            continue
        try:
            nodes.joined(url, one, handle.server_properties)
        except ConfigError:
            handle.abort()
            raise
        if nodes.in_use(url):
            _log.info("connected to RabbitMQ", host=nodes.in_use(url), name=name)
        return handle
    raise nodes.of_all(url, errors)


async def _open_one(config: Common, name: str) -> stream.Connection:
    """RABBITMQ_URL names one host."""
    try:
        return await stream.connect(
            _parameters(config, name, None),  # an alarm is waited out, however long
            config.connect_timeout,
        )
    except (pika.exceptions.AMQPError, OSError) as error:
        refused = error
    last = await in_thread(lambda: _last_word(config, refused)) if config.rabbitmq_url.tls else refused
    raise of_rabbitmq(config, last) from None


@contextlib.contextmanager
def rabbitmq_now(config: Common, *, name: str) -> Iterator[BlockingConnection]:
    """A blocking connection to RabbitMQ, for a command; closed at the end. Raises as `open_rabbitmq`.

    From a connection that publishes during an alarm RabbitMQ reads nothing more, not even a goodbye (its documentation:
    Blocked Connection Notifications); so an alarm is waited for `ALARM_PATIENCE` only.
    """
    handle = _open_now(config, name)
    try:
        yield handle
    except pika.exceptions.ConnectionBlockedTimeout:
        detail = f"RabbitMQ {config.rabbitmq_url.shown()} has an alarm, of memory or disk, and carries out no command"
        remedy = "rabbitmq-diagnostics alarms names it; what was asked may still be done when it ends"
        raise Unavailable(detail, remedy) from None
    except pika.exceptions.ChannelClosedByBroker as error:
        remedy = rights.command(config) if error.reply_code == ACCESS_REFUSED else ""
        raise ConfigError((f"RabbitMQ {config.rabbitmq_url.shown()} refuses: {error.reply_text}", remedy)) from None
    except pika.exceptions.AMQPError as error:
        detail = f"RabbitMQ {config.rabbitmq_url.shown()} has gone away: {(why := one_line(error))}"
        raise Unavailable(detail, way_out(why) or "try again") from None
    finally:
        if handle.is_open:
            with contextlib.suppress(pika.exceptions.AMQPError):  # an alarm's, or the broker was quicker
                handle.close()


def _open_now(config: Common, name: str) -> BlockingConnection:
    url, errors = config.rabbitmq_url, list[RelayError]()
    for one in nodes.order(url):
        own = dataclasses.replace(config, rabbitmq_url=one)
        try:
            handle = BlockingConnection(_parameters(own, name, ALARM_PATIENCE), _Reading)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - pika's time-outs are no AMQPError, nor is what its decoder raises
            errors.append(of_rabbitmq(own, _last_word(own, error)))
            continue
        try:
            nodes.joined(url, one, handle._impl.server_properties)  # type: ignore[attr-defined]
        except ConfigError:
            handle.close()
            raise
        return handle
    raise nodes.of_all(url, errors) from None


def _parameters(config: Common, name: str, alarm_patience: float | None) -> pika.ConnectionParameters:
    url = config.rabbitmq_url
    return pika.ConnectionParameters(
        host=url.host,
        port=url.port,
        virtual_host=url.vhost,
        credentials=pika.PlainCredentials(url.user, url.password, erase_on_connect=True),
        heartbeat=config.heartbeat,
        connection_attempts=1,
        socket_timeout=config.connect_timeout,
        stack_timeout=config.connect_timeout,
        blocked_connection_timeout=alarm_patience,
        tcp_options={"TCP_USER_TIMEOUT": stream.TCP_DEAD_AFTER * 1000},
        client_properties={"connection_name": name},
        ssl_options=pika.SSLOptions(tls.context(config), url.host) if url.tls else None,
    )


def _last_word(config: Common, error: Exception) -> Exception:
    """Why a broker has hung up at our first word: over TLS it is asked again, and we are silent.

    That it does not trust our certificate comes after TLS 1.3's handshake (RFC 8446, 4.6.2): lost with the connection
    if it closes that with a word of ours unread. Returns the error given if nothing more is to be learnt.
    """
    url = config.rabbitmq_url
    if url.tls and (is_hung_up(error) or isinstance(error, ConnectionError)):
        try:
            with (
                socket.create_connection((url.host, url.port), config.connect_timeout) as plain,
                tls.context(config).wrap_socket(plain, server_hostname=url.host) as handle,
            ):
                handle.settimeout(LAST_WORD)
                handle.recv(1)
        except OSError as said:  # an SSLError is one
            if "ALERT" in (getattr(said, "reason", None) or ""):
                return said
    return error
