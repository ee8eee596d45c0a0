"""The shared module: the only place that opens PostgreSQL and RabbitMQ, with what timeouts and TLS.

Each daemon lives on one event loop, so the handles opened here are non-blocking ones; commands that
run once and exit use the blocking pair below. Errors of the drivers leave this module only as `relay.errors`.
"""

import asyncio
import base64
import contextlib
import functools
import http.client
import json
import re
import select
import shlex
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pika
import pika.exceptions
import psycopg2
import psycopg2.extensions
from pika.adapters.blocking_connection import BlockingConnection

from relay import transport
from relay.amqp import rights, stream
from relay.amqp.replies import ACCESS_REFUSED, NOT_ALLOWED, of_limit
from relay.config import Common
from relay.errors import ConfigError, RelayError, Unavailable, one_line
from relay.listening.database import BACKEND
from relay.values import Dsn

TCP_DEAD_AFTER = 30  # seconds without an answer from a host until the kernel gives a connection up
ALARM_PATIENCE = 5.0  # seconds that a command waits for the end of an alarm
MANAGEMENT_TIMEOUT = 5.0  # seconds for each word of it
MANAGEMENT_MAX = 4 << 20  # bytes of an answer

# Seconds, milliseconds and the like as libpq wants them. What DATABASE_URL says itself wins.
_POSTGRES_DEFAULTS = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": str(TCP_DEAD_AFTER * 1000),
    "client_encoding": "UTF8",
}

# Messages of libpq about TLS, and FATAL messages of a server that answers, but will not let us in until a person
# changes something. libpq gives no SQLSTATE before a connection stands, and these texts come before lc_messages is
# read, mostly in English.
_POSTGRES_REFUSALS = (
    ("channel binding", "say in DATABASE_URL how TLS is used: sslmode=verify-full and sslrootcert=/path/to/ca.pem"),
    ("does not match host name", "write the host's name as its certificate has it into DATABASE_URL"),
    ("root certificate file", "write sslrootcert=/path/to/ca.pem into DATABASE_URL"),
    ("requires a valid client certificate", "write sslcert=/path/to/cert.pem and sslkey=/path/to/key.pem into it"),
    ("password authentication failed", "correct the user or password in DATABASE_URL"),
    ("no password supplied", "put the password into DATABASE_URL (or use DATABASE_URL_FILE)"),
    ("no pg_hba.conf entry", "add a line for this host, user and database to pg_hba.conf, then reload"),
    ("authentication failed", "compare pg_hba.conf with the user in DATABASE_URL"),
    ("permission denied for database", "grant connect on the database to the user in DATABASE_URL"),
    ("does not exist", "create it, or correct DATABASE_URL"),
    ("server does not support SSL", "switch TLS on there; in clear text only with sslmode=disable in DATABASE_URL"),
    ("certificate verify failed", "correct sslrootcert in DATABASE_URL, or renew the certificate if it has expired"),
    ("is not permitted to log in", "alter role ... login"),
    ("invalid ", "correct that option of DATABASE_URL"),
)


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
            raise _postgres_refusal(url, str(error)) from None
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
            raise _postgres_refusal(url, detail) from None
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
        raise _postgres_refusal(url, str(error)) from None
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


def _postgres_refusal(url: Dsn, message: str) -> RelayError:
    """Sort libpq's message at connecting. It never quotes the password."""
    detail = " ".join(message.split())
    for text, remedy in _POSTGRES_REFUSALS:
        if text in detail and "Is the server running" not in detail:
            return ConfigError((f"PostgreSQL {url.shown()} refuses: {detail}", remedy))
    return Unavailable(f"PostgreSQL {url.shown()} is not reachable: {detail}", "is it running, and DATABASE_URL right?")


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
        raise _rabbitmq_refusal(config, error) from None


@contextlib.contextmanager
def rabbitmq_now(config: Common, *, name: str) -> Iterator[BlockingConnection]:
    """A blocking connection to RabbitMQ, for a command; closed at the end. Raises as `open_rabbitmq`.

    From a connection that publishes during an alarm RabbitMQ reads nothing more, not even a goodbye (its documentation:
    Blocked Connection Notifications); so an alarm is waited for `ALARM_PATIENCE` only.
    """
    try:
        handle = BlockingConnection(_parameters(config, name, ALARM_PATIENCE))
    except (pika.exceptions.AMQPError, OSError, ValueError) as error:  # OSError: a name, TLS; ValueError: as above
        raise _rabbitmq_refusal(config, error) from None
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


def ask_management(config: Common, path: str) -> Any:
    """Get something of RabbitMQ's management API as JSON, with the user of RABBITMQ_URL. Waits for the answer.

    Args:
        config: RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL, the TLS files.
        path: below /api, its names quoted.

    Raises:
        RelayError: it is not asked, does not answer, or not us.
    """
    base, why = transport.management(config)
    if why:
        raise Unavailable(why)
    parts, url = urlsplit(base), config.rabbitmq_url
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        handle: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=MANAGEMENT_TIMEOUT, context=_tls(config)
        )
    else:
        handle = http.client.HTTPConnection(host, port, timeout=MANAGEMENT_TIMEOUT)
    login = base64.b64encode(f"{url.user}:{url.password}".encode()).decode()
    where = f"the management API at {base}"
    try:
        handle.request("GET", f"{parts.path}/api{path}", headers={"Authorization": f"Basic {login}"})
        answer = handle.getresponse()
        body = answer.read(MANAGEMENT_MAX)
        found = json.loads(body) if answer.status == HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Unavailable(f"{where} does not answer: {one_line(error)}") from None
    finally:
        handle.close()
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        remedy = f"rabbitmqctl set_user_tags {shlex.quote(url.user)} management"
        raise ConfigError((f"{where} wants the tag management of {url.user}", remedy))
    if found is None:
        raise Unavailable(f"{where} answers {answer.status}")
    return found


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
        ssl_options=pika.SSLOptions(_tls(config), url.host) if url.tls else None,
    )


def _tls(config: Common) -> ssl.SSLContext:
    """Certificate and host name are always checked; RABBITMQ_CA_FILE replaces the system's authorities."""
    try:
        context = ssl.create_default_context(cafile=config.rabbitmq_ca_file or None)
        if config.rabbitmq_cert_file:
            context.load_cert_chain(config.rabbitmq_cert_file, config.rabbitmq_key_file)
    except (OSError, ssl.SSLError) as error:
        problem = f"RABBITMQ_CA_FILE, _CERT_FILE or _KEY_FILE can't be used: {one_line(error)}"
        raise ConfigError((problem, "PEM files that this user may read; the key without a passphrase")) from None
    return context


def _rabbitmq_refusal(config: Common, error: BaseException) -> RelayError:
    where = f"RabbitMQ {config.rabbitmq_url.shown()}"
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = f"{where}: certificate not accepted: {cause.verify_message}"
            return ConfigError((problem, "set RABBITMQ_CA_FILE; the host name must be in the certificate"))
        if refusal := _tls_refusal(str(cause)):
            return ConfigError((f"{where}{refusal[0]}", refusal[1]))
        if isinstance(cause, pika.exceptions.ProbableAuthenticationError | pika.exceptions.AuthenticationError):
            return ConfigError((f"{where} refuses the user or password", "correct RABBITMQ_URL"))
        if isinstance(cause, pika.exceptions.ProbableAccessDeniedError) or (
            isinstance(cause, pika.exceptions.ConnectionClosedByBroker)
            and cause.reply_code in (ACCESS_REFUSED, NOT_ALLOWED)
        ):
            if remedy := of_limit(detail := one_line(cause)):  # it may be another program that takes the place
                return Unavailable(f"{where} refuses: {detail}", remedy)
            remedy = f"rabbitmqctl add_vhost {shlex.quote(config.rabbitmq_url.vhost)}; {rights.command(config)}"
            return ConfigError((f"{where}: the vhost does not exist, or the user has no right to it", remedy))
    detail, remedy = one_line(causes[-1]), "is it running, and RABBITMQ_URL right?"
    if any(isinstance(cause, pika.exceptions.IncompatibleProtocolError) for cause in causes):
        # It hung up at our first word: that of a broker who refuses our certificate may be lost on the way.
        certificate = "a certificate that it trusts in RABBITMQ_CERT_FILE"
        remedy += f" (it may want {certificate if config.rabbitmq_url.tls else 'amqps:// at this port'})"
    return Unavailable(f"{where} is not reachable: {detail}", remedy)


def _tls_refusal(detail: str) -> tuple[str, str] | None:
    """What a handshake that failed means, by OpenSSL's name of the reason; None = nothing that a person must mend.

    A broker that refuses our certificate says so after TLS 1.3's handshake: pika has the reason as text only.
    """
    reason = match[1] if (match := re.search(r"\[SSL: (\w+)\]", detail)) else ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return " speaks no TLS at this port", "write its port for amqps into RABBITMQ_URL, mostly 5671"
    if "ALERT" in reason:
        detail = reason.replace("_", " ").lower()
        remedy = "RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE must be of an authority that it trusts, and not have expired"
        return f" does not accept our certificate: {detail}", remedy
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """pika wraps the cause of a failed connection in its workflow's errors, several deep."""
    yield error
    wrapped = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    inner = [each for each in wrapped if isinstance(each, BaseException)]
    if inner:
        yield from _causes(inner[-1])
