"""Settings that say where: URLs and addresses. As values.py: text in, a checked value out, or `Invalid`."""

import dataclasses
import ipaddress
import re
from urllib.parse import unquote, urlsplit

from relay.values import NAME_MAX, Invalid


@dataclasses.dataclass(frozen=True)
class Address:
    """A host, and a port of it."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Can nobody reach it from another host?"""
        return self.host == "localhost" or (self.host != "" and ipaddress.ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class AmqpUrl:
    """amqp[s]://user:password@host:port,host:port/vhost, taken apart: the RabbitMQ URI specification, and a list."""

    tls: bool
    nodes: tuple[Address, ...]
    user: str
    password: str = dataclasses.field(repr=False)
    vhost: str = "/"

    @property
    def host(self) -> str:
        """The first one's."""
        return self.nodes[0].host

    @property
    def port(self) -> int:
        """The first one's."""
        return self.nodes[0].port

    def shown(self) -> str:
        """Where it points to, without the password."""
        hosts = ",".join(map(str, self.nodes))
        return f"{self.user}@{hosts}/{self.vhost if self.vhost != '/' else '%2F'}"


def is_host(name: str) -> bool:
    """Can it be looked up? What IDNA refuses is no OSError there, but a defect."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return not re.search(r"[\s\0*]|^\.", name)


def unquoted(text: str | None) -> str:
    """What %XX stand for. Raises Invalid: no text."""
    try:
        return unquote(text or "", errors="strict")
    except UnicodeDecodeError:
        raise Invalid("is no UTF-8 text where it is written as %XX", "write %C3%A9 for é: its bytes in UTF-8") from None


def http_url(value: str) -> str:
    """An http or https URL; empty = none. Credentials in it are refused: they would reach logs."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and is_host(parts.hostname or ".") and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(c.isspace() for c in value):
        raise Invalid("not an HTTP URL", "write http://host:port/path or https://...")
    if not value.isascii():
        _prepare(value)
    if parts.username or parts.password:
        raise Invalid("holds a user or password", "take them out of the URL")
    if "{" in parts.netloc:
        raise Invalid(
            "has a template for a host", "only path and query can hold fields; for another host run another receiver"
        )
    return value


def _prepare(value: str) -> None:
    """Raises Invalid: a host that requests can't write in ASCII; its IDNA is a newer one than Python's."""
    from requests import Request  # a receiver has it anyway, and the listener none of these

    try:
        Request("GET", value).prepare()
    except ValueError:  # its InvalidURL is one
        raise Invalid("names a host that can't be written in ASCII", "write the host as xn--...") from None


def management_url(value: str) -> str:
    """The URL of RabbitMQ's management; empty = where it is by default, off = never asked."""
    if value != "off" and urlsplit(http_url(value)).query:
        raise Invalid("has options after ?", "write https://host:15671, or off")
    return value.rstrip("/")


def amqp_url(value: str) -> AmqpUrl:
    """amqp:// or amqps:// as in the RabbitMQ URI specification: an empty path is the vhost `/`. Several hosts of one
    cluster with commas between them, each with its port or without.
    """
    wanted = "write amqp://user:password@host:5672/vhost (the vhost / is written %2F; amqps:// for TLS)"
    several = "of a cluster: amqp://user:password@host1:5672,host2:5672/vhost"
    try:
        parts = urlsplit(value)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        named = [urlsplit(f"//{host}") for host in hosts]
        ports = [one.port for one in named]
        if 0 in ports:
            raise ValueError
    except ValueError:
        raise Invalid("not a URL, or a port is no number", f"{wanted}; {several}") from None
    usable = parts.scheme in ("amqp", "amqps") and all(is_host(one.hostname or ".") for one in named)
    if not usable or set(value) & set("\t\r\n"):  # urlsplit leaves them out
        raise Invalid("not an AMQP URL" + (", or names no host between two commas" if len(hosts) > 1 else ""), wanted)
    if parts.query or parts.fragment:
        raise Invalid("has options after ? or #", "set HEARTBEAT, RABBITMQ_CA_FILE and the like instead")
    if "@" in parts.path:
        raise Invalid("has a / in its password", "write %2F for / there, and %40 for an @ of the vhost's name")
    if "/" in parts.path[1:]:
        raise Invalid("has more than one / after the host", f"{wanted}; {several}")
    tls = parts.scheme == "amqps"
    nodes = tuple(
        Address(one.hostname or "", port or (5671 if tls else 5672)) for one, port in zip(named, ports, strict=True)
    )
    if len(set(nodes)) < len(nodes):
        raise Invalid("names a host twice", "write each once")
    vhost = unquoted(parts.path[1:]) or "/"
    if len(vhost.encode()) > NAME_MAX:
        raise Invalid(f"its vhost has more than {NAME_MAX} bytes", wanted)
    return AmqpUrl(
        tls=tls,
        nodes=nodes,
        user=unquoted(parts.username or "guest"),
        password=unquoted(parts.password or "guest"),
        vhost=vhost,
    )


def address(value: str) -> Address | None:
    """address:port, [address]:port; nothing = nowhere."""
    if not value:
        return None
    wanted = "write address:port, 127.0.0.1:9464 for example, or [::1]:9464"
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
        raise Invalid("has no port", wanted)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if bare != "localhost" and (":" in bare) is not host.startswith("["):
            raise ValueError
        if bare != "localhost":
            ipaddress.ip_address(bare)
    except ValueError:
        raise Invalid("is no address of this host", wanted) from None
    return Address(bare, int(port))
