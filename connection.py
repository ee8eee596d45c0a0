"""The shared module: the only place that opens PostgreSQL and RabbitMQ, with what timeouts and TLS.

Each daemon lives on one event loop, so the handles opened here are non-blocking ones; commands that
run once and exit use the blocking pair below. Errors of the drivers leave this module only as `relay.errors`.
"""

import asyncio
import contextlib
import functools
import select
import socket
from collections.abc import Iterator

import pika
import pika.exceptions
import psycopg2
import psycopg2.extensions
from pika.adapters.blocking_connection import BlockingConnection

from relay import transport
from relay.amqp import rights, stream, tls
from relay.amqp.replies import ACCESS_REFUSED
from relay.amqp.unreachable import is_hung_up, of_rabbitmq
from relay.config import Common
from relay.daemon import in_thread
from relay.errors import ConfigError, Unavailable, one_line
from relay.listening.database import BACKEND
from relay.listening.unreachable import of_postgres
from relay.values import Dsn

TCP_DEAD_AFTER = 30  # seconds without an answer from a host until the kernel gives a connection up
LAST_WORD = 2.0  # seconds that a broker has to say why it hangs up; it waits for our first word for 10 s
ALARM_PATIENCE = 5.0  # seconds that a command waits for the end of an alarm

# Seconds, milliseconds and the like as libpq wants them. What DATABASE_URL says itself wins.
_POSTGRES_DEFAULTS = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": str(TCP_DEAD_AFTER * 1000),
    "client_encoding": "UTF8",
}


async def open_postgres(url: Dsn, *, name: str, timeout: float) -> psycopg2.extensions.connection:
    """Open a non-blocking (async) connection to PostgreSQL; autocommit, as psycopg2's async mode is.

    Args:
        url: DATABASE_URL.
        name: application_name, as pg_stat_activity shows it.
        timeout: seconds until giving up.

    Raises:
        ConfigError: the server answers, and refuses in a way that only a person can mend.
        Unavailable: anything else.
    """
    handle: psycopg2.extensions.connection | None = None
    try:
        async with asyncio.timeout(timeout):
            handle = psycopg2.connect(await _resolved(url, _with_defaults(url, name), timeout), async_=True)
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


async def _resolved(url: Dsn, dsn: str, timeout: float) -> str:
    """The same with `hostaddr`: libpq would await the name server itself, and hold up everything else.

    Raises:
        Unavailable: there is no such host, or no answer within `timeout` seconds.
    """
    given = psycopg2.extensions.parse_dsn(dsn)
    hosts = given.get("host", "").split(",")
    ports = given.get("port", "").split(",")
    if given.get("hostaddr") or len(ports) not in (1, len(hosts)):
        return dsn  # nothing to resolve; or libpq says what is wrong
    ports = ports * len(hosts) if len(ports) == 1 else ports
    found: list[tuple[str, str, str]] = []  # host, its address, port
    for host, port in zip(hosts, ports, strict=True):
        if not host or host[0] in "/@":  # a socket's directory
            found.append((host, "", port))
            continue
        try:
            addresses = await stream.resolve(host, None, timeout)
        except socket.gaierror as error:
            detail = f'could not translate host name "{host}" to address: {one_line(error)}'
            raise of_postgres(url, detail) from None
        found += [(host, str(where[0]), port) for _family, _kind, _protocol, where in addresses]
    if not any(address for _host, address, _port in found):
        return dsn
    names, numeric, numbers = (",".join(each) for each in zip(*found, strict=True))
    return psycopg2.extensions.make_dsn(
        dsn, host=names, hostaddr=numeric, **({"port": numbers} if "port" in given else {})
    )


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
        handle = psycopg2.connect(_with_defaults(url, name), connect_timeout=max(2, int(timeout)))
    except psycopg2.Error as error:
        raise of_postgres(url, str(error)) from None
    finally:
        psycopg2.extensions.set_wait_callback(functools.partial(_wait_interruptibly, patience=patience))
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


def _with_defaults(url: Dsn, name: str) -> str:
    given = psycopg2.extensions.parse_dsn(url)
    return psycopg2.extensions.make_dsn(
        url,
        **{k: v for k, v in _POSTGRES_DEFAULTS.items() if k not in given},
        **transport.postgres_defaults(url),
        **({} if "application_name" in given else {"application_name": name}),
    )


async def open_rabbitmq(config: Common, *, name: str) -> stream.Connection:
    """Open a connection to RabbitMQ on the running loop.

    Args:
        config: RABBITMQ_URL, TLS files, HEARTBEAT, CONNECT_TIMEOUT.
        name: shown as the connection's name in RabbitMQ's management page.

    Raises:
        ConfigError: wrong user, password, vhost or certificate.
        Unavailable: anything else.
    """
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
    parameters = _parameters(config, name, ALARM_PATIENCE)
    try:
        handle = BlockingConnection(parameters)
    except Exception as error:  # noqa: BLE001 - pika's time-outs are no AMQPError, nor is what its decoder raises
        raise of_rabbitmq(config, _last_word(config, error)) from None
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
        detail = f"RabbitMQ {config.rabbitmq_url.shown()} has gone away: {one_line(error)}"
        raise Unavailable(detail, "try again") from None
    finally:
        if handle.is_open:
            with contextlib.suppress(pika.exceptions.AMQPError):  # an alarm's, or the broker was quicker
                handle.close()


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
        tcp_options={"TCP_USER_TIMEOUT": TCP_DEAD_AFTER * 1000},
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
