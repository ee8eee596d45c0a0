"""What leaves this host in clear text, or goes to whoever answers: refused, or told at the start and by `check`."""

import ipaddress
import itertools
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg2.extensions

from relay.config import Common, Endpoint, Listen, Receive
from relay.database_url import MYSQL, PolledUrl
from relay.errors import ConfigError
from relay.findings import Finding, warning
from relay.log import Log
from relay.urls import Address
from relay.values import Dsn

VERIFY = "write sslmode=verify-full and sslrootcert=/path/to/ca.pem into it"
SSL_CA = "write ?ssl_ca=/path/to/ca.pem at its end"
# What libpq takes from its own environment variables where DATABASE_URL does not say it.
_OF_LIBPQ = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "service": "PGSERVICE", "sslmode": "PGSSLMODE",
             "channel_binding": "PGCHANNELBINDING", "require_auth": "PGREQUIREAUTH"}  # fmt: skip
_KNOWS_REQUIRE_AUTH = 160000
_PLAIN = ("disable", "allow", "prefer")  # sslmodes with which a server that refuses TLS gets the password, if it asks


def is_here(host: str) -> bool:
    """Is it this host for sure: a socket, or a loopback address? No name but localhost: names can be made to lie."""
    if host.startswith(("/", "@")) or host.lower() in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def postgres_defaults(url: Dsn) -> dict[str, str]:
    """The options for a DATABASE_URL to another host that does not say how TLS is used.

    libpq's own default, `prefer`, gives a server that refuses TLS the password itself if it asks for it. Nor does TLS
    alone help: without an authority to check it by, whoever answers can ask for the password. So it must also prove,
    bound to this very TLS connection, that it knows the password (SCRAM with channel binding).

    On this host it gives nobody the password itself either: while PostgreSQL is down, its port is anybody's. (libpq can
    say so from 16 on. A socket's directory is PostgreSQL's.)

    Raises:
        ConfigError: a service file may say it, and our default would win over that.
    """
    said = _said(url)
    if "sslmode" in said:
        return {}
    if not _elsewhere(said):
        is_known = "require_auth" in said or psycopg2.extensions.libpq_version() < _KNOWS_REQUIRE_AUTH
        return {} if is_known or not _is_port(said) else {"require_auth": "!password"}
    if said.get("service"):
        what = "DATABASE_URL names a service, and not how TLS is used"
        raise ConfigError((what, f"{VERIFY}; sslmode=disable, if it is on this host"))
    return {"sslmode": "require", "channel_binding": said.get("channel_binding", "require")}


def _said(url: Dsn) -> dict[str, str]:
    environ = {name: os.environ[variable] for name, variable in _OF_LIBPQ.items() if os.environ.get(variable)}
    return environ | psycopg2.extensions.parse_dsn(url)


def _is_port(said: dict[str, str]) -> bool:
    """Is one of the addresses, all on this host, no socket?"""
    hosts = f"{said.get('hostaddr', '')},{said.get('host', '')}".split(",")
    return any(host and host[0] not in "/@" for host in hosts)


def _elsewhere(said: dict[str, str]) -> bool:
    """Does one of the addresses that libpq would try lie on another host? Lists are separated by commas."""
    if said.get("service"):
        return True  # nobody but libpq knows what its file says, not even if a host is named: hostaddr goes before it
    pairs = itertools.zip_longest(said.get("hostaddr", "").split(","), said.get("host", "").split(","), fillvalue="")
    return not all(is_here(address or host) for address, host in pairs)


def management(config: Common) -> tuple[str, str]:
    """The URL of RabbitMQ's management API, and why it is not asked: one of the two is empty.

    It gets the password of RABBITMQ_URL: in clear text only on this host.
    """
    url, given = config.rabbitmq_url, config.rabbitmq_management_url
    if given == "off":
        return "", "RABBITMQ_MANAGEMENT_URL=off"
    host = f"[{url.host}]" if ":" in url.host else url.host
    default = f"https://{host}:15671" if url.tls else f"http://{host}:15672"
    parts = urlsplit(given or default)
    if parts.scheme == "https" or is_here(parts.hostname or ""):
        return given or default, ""
    return "", "the password would cross the network in clear text: RABBITMQ_MANAGEMENT_URL=https://host:15671"


def warnings(config: Common) -> Iterator[tuple[str, str, str]]:
    """What crosses the network in clear text, because the settings say so: the setting, what, and the remedy."""
    if isinstance(config, Listen):
        yield from _database(config.database_url)
    url = config.rabbitmq_url
    away = [node for node in url.nodes if not is_here(node.host)]
    if not url.tls and away:
        encrypted = f"amqps://{Address(away[0].host, 5671)}"
        yield "RABBITMQ_URL", "password and events cross the network in clear text", f"write {encrypted}"
    if isinstance(config, Receive) and (endpoint := config.endpoint()):
        yield from _http(endpoint)


def _database(url: Dsn | PolledUrl) -> Iterator[tuple[str, str, str]]:
    if isinstance(url, PolledUrl):
        if url.kind == MYSQL and not wants_tls(url) and _is_elsewhere(url):
            yield "DATABASE_URL", "password and rows cross the network in clear text (ssl=off)", SSL_CA
        return
    said = _said(url)
    if _elsewhere(said) and said.get("sslmode") in _PLAIN:
        what = f"password and rows may cross the network in clear text (sslmode={said['sslmode']})"
        yield "DATABASE_URL", what, VERIFY


def wants_tls(url: PolledUrl) -> bool:
    """Must the connection to MariaDB or MySQL speak TLS? To another host it must, unless DATABASE_URL says ssl=off."""
    if "ssl" in url.options or "ssl_ca" in url.options:
        return url.options.get("ssl") != "off"
    return _is_elsewhere(url)


def _is_elsewhere(url: PolledUrl) -> bool:
    return "unix_socket" not in url.options and not is_here(url.host)


def _http(endpoint: Endpoint) -> Iterator[tuple[str, str, str]]:
    parts, proxy = urlsplit(endpoint.url), urlsplit(endpoint.proxy).hostname or ""
    if endpoint.secrets and parts.scheme == "http" and not (is_here(parts.hostname or "") and is_here(proxy)):
        what = f"{' and '.join(endpoint.secrets)} and the events cross the network in clear text"
        yield endpoint.setting, what, "write https://"


def warn(config: Common, log: Log) -> None:
    """Once, at the start."""
    for key, what, remedy in warnings(config):
        log.warning(what, setting=key, remedy=remedy)


def findings(config: Common) -> Iterator[Finding]:
    """The same for `check`, and where nobody looks whether it is the right server that answers."""
    for key, what, remedy in warnings(config):
        yield warning(key, what, remedy)
    if isinstance(config, Listen):
        yield from _unproven(config.database_url)


def _unproven(url: Dsn | PolledUrl) -> Iterator[Finding]:
    if isinstance(url, PolledUrl):
        if url.kind == MYSQL and wants_tls(url) and "ssl_ca" not in url.options:
            what = "no ssl_ca: nobody looks whether the server that answers is the one that is meant"
            yield Finding("DATABASE_URL", detail=what, remedy=SSL_CA)
        return
    said = _said(url)
    mode = said.get("sslmode", "")
    what = "no sslmode: it must speak TLS, and prove by SCRAM with channel binding that it knows the password"
    if mode:
        what = f"sslmode={mode}: nobody looks whether the server that answers is the one that is meant"
    if _elsewhere(said) and mode not in ("verify-full", *_PLAIN):
        yield Finding("DATABASE_URL", detail=what, remedy=VERIFY)
