"""What libpq is told about a connection: DATABASE_URL, what it does not say itself, and the addresses of its hosts."""

import socket

import psycopg2.extensions

from relay import transport
from relay.amqp import stream
from relay.errors import one_line
from relay.listening.unreachable import of_postgres
from relay.values import Dsn

# Seconds, milliseconds and the like as libpq wants them. What DATABASE_URL says itself wins.
_POSTGRES_DEFAULTS = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": str(stream.TCP_DEAD_AFTER * 1000),
}

# With this one PostgreSQL converts nothing, and psycopg2 gives each byte as the character of that number.
_RAW = "SQL_ASCII"
psycopg2.extensions.encodings.update(dict.fromkeys((_RAW, _RAW.replace("_", "")), "iso8859_1"))


def with_defaults(url: Dsn, name: str, *, raw: bool = False) -> str:
    """DATABASE_URL, with what it does not say itself. Arguments as of `connection.open_postgres`.

    Raises:
        ConfigError: as `transport.postgres_defaults`.
    """
    given = psycopg2.extensions.parse_dsn(url)
    return psycopg2.extensions.make_dsn(
        url,
        **{k: v for k, v in _POSTGRES_DEFAULTS.items() if k not in given},
        **transport.postgres_defaults(url),
        client_encoding=_RAW if raw else "UTF8",
        **({} if "application_name" in given else {"application_name": name}),
    )


async def resolved(url: Dsn, dsn: str, timeout: float) -> str:
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
