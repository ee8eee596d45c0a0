"""The settings of both daemons: what they are called, what they may be, and what does not go together.

They are read from the process's environment and an env file; the environment wins (relay/setting.py). Those of a
target stand in its own module, as a class derived from `Receive` (relay/targets/__init__.py).
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from relay import consumers, urls, values
from relay.consumers import Consumer, Source
from relay.database_url import PolledUrl, source_url
from relay.envfile import Problem
from relay.log import FORMATS, LEVELS
from relay.setting import Given, Kind, Settings, keys, parse, setting, with_environment
from relay.signature import command_key

DEFAULT_TARGET = "http"
_LANE_NAMES = 35  # bytes that the names of a lane's queues have beside QUEUE


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a target sends events.

    Args:
        setting: the one that names it.
        url: its value. A path or a query may hold a token, or a template.
        secrets: settings that are set, and whose secrets are sent along.
        proxy: the URL of a proxy; empty = none.
    """

    setting: str
    url: str = dataclasses.field(repr=False)
    secrets: tuple[str, ...]
    proxy: str

    def shown(self) -> str:
        """The URL as far as it may be shown."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common(Settings):
    """What both daemons read. Units: seconds unless the name says otherwise."""

    rabbitmq_url: urls.AmqpUrl = setting(urls.amqp_url, secret=True)
    rabbitmq_ca_file: str = setting(values.existing_file, "")
    rabbitmq_cert_file: str = setting(values.existing_file, "")
    rabbitmq_key_file: str = setting(values.existing_file, "", private=True)
    rabbitmq_management_url: str = setting(urls.management_url, "")
    exchange: str = setting(values.amqp_name, "relay")
    exchange_type: str = setting(values.one_of("topic", "direct", "fanout"), "topic")
    heartbeat: int = setting(values.whole(5, 600), "10")
    connect_timeout: float = setting(values.seconds(1, 300), "10")
    reconnect_min: float = setting(values.seconds(0.05, 3600), "0.5")
    reconnect_max: float = setting(values.seconds(0.05, 3600), "15")
    sign_events: bytes = setting(values.shared_secret, "", secret=True)
    control: bool = setting(values.on_off, "on")
    control_secret: bytes = setting(values.shared_secret, "", secret=True)
    status_addr: urls.Address | None = setting(urls.address, "")
    status_token: str = setting(values.token, "", secret=True)
    log_level: str = setting(values.one_of(*LEVELS), "info")
    log_file: str = setting(values.text, "")
    log_format: str = setting(values.one_of(*FORMATS), "text")
    alert_command: tuple[str, ...] = setting(values.command, "", secret=True)
    alert_timeout: float = setting(values.seconds(1, 3600), "30")
    alert_after: float = setting(values.seconds(0, 86_400), "300")
    alert_age: float = setting(values.seconds(0, 8_640_000), "900")

    @property
    def command_key(self) -> bytes:
        """What signs commands, of CONTROL_SECRET; empty = they are not signed."""
        return command_key(self.control_secret, self.rabbitmq_url.vhost)

    @classmethod
    def beside(cls, _directory: Path) -> Mapping[str, str]:
        """Defaults that hang on the env file's directory, by key."""
        return {}

    def contradictions(self) -> list[Problem]:
        """See Settings."""
        found = super().contradictions()
        if self.reconnect_min > self.reconnect_max:
            found.append(("RECONNECT_MIN is above RECONNECT_MAX", "lower RECONNECT_MIN"))
        if bool(self.rabbitmq_cert_file) != bool(self.rabbitmq_key_file):
            found.append(("only one of RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE is set", "set both, or none"))
        files_of_tls = {"RABBITMQ_CA_FILE": self.rabbitmq_ca_file, "RABBITMQ_CERT_FILE": self.rabbitmq_cert_file}
        unused = [key for key, path in files_of_tls.items() if path]
        if unused and not self.rabbitmq_url.tls:
            found.append((f"{unused[0]} is set, but RABBITMQ_URL is amqp://", "write amqps:// or remove the file"))
        if self.status_addr and not self.status_addr.is_loopback and not self.status_token:
            what = f"STATUS_ADDR={self.status_addr} can be reached from other hosts, and STATUS_TOKEN is not set"
            found.append((what, "set STATUS_TOKEN (openssl rand -base64 32), or write 127.0.0.1 or [::1]"))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listen(Common):
    """What listen.py reads."""

    database_url: values.Dsn | PolledUrl = setting(source_url, secret=True)
    source: str = setting(values.source_name, "")
    listen_channels: tuple[str, ...] = setting(values.names, "")
    required_queues: tuple[str, ...] = setting(values.names, "")
    notify: bool = setting(values.on_off, "on")
    poll_interval: float = setting(values.seconds(0.05, 3600), "5")
    window_events: int = setting(values.whole(1, 100_000), "4000")
    window_mb: int = setting(values.whole(1, 1024), "16")
    requests: bool = setting(values.on_off, "off")
    outbox_table: str = setting(values.text, "")
    outbox_columns: str = setting(values.text, "")
    outbox_pending: str = setting(values.text, "")
    outbox_done: str = setting(values.text, "delete")
    outbox_warn: int = setting(values.whole(0, 1_000_000_000), "100000")

    def contradictions(self) -> list[Problem]:
        """See Settings."""
        found = super().contradictions()
        if self.requests and not self.control:
            found.append(("REQUESTS=on, and CONTROL=off: nobody can ask", "write CONTROL=on, or remove REQUESTS"))
        is_polled = isinstance(self.database_url, PolledUrl)
        more = {"OUTBOX_COLUMNS": self.outbox_columns, "OUTBOX_PENDING": self.outbox_pending}
        named = [key for key, text in more.items() if text] + (["OUTBOX_DONE"] if self.outbox_done != "delete" else [])
        if self.outbox_table and not is_polled:
            what = "OUTBOX_TABLE is set, and DATABASE_URL is PostgreSQL's"
            found.append((what, "remove it: for PostgreSQL write a trigger, or select relay.watch('schema.table')"))
        elif named and not self.outbox_table:
            found.append((f"{named[0]} is set, and OUTBOX_TABLE is not", f"set OUTBOX_TABLE, or remove {named[0]}"))
        if is_polled and self.listen_channels:
            what = "LISTEN_CHANNELS is set, and only PostgreSQL has notifications"
            found.append((what, "remove it"))
        if is_polled and self.requests:
            found.append(("REQUESTS=on, and only a PostgreSQL can be asked for rows", "remove it"))
        return found


PREFETCH_MAX = 10_000  # messages: as many are put in order when they have come back into the queue (given_back.py)
FAILOVER = "failover"  # QUEUE_TYPE of a quorum queue with a single active consumer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Receive(Common):
    """What receiver.py reads, whatever the target."""

    queue: str = setting(values.amqp_name)
    source: str = setting(values.source_name, "")
    lane: values.Lane | None = setting(values.lane, "")
    lanes_truncate: str = setting(values.one_of("park", "ignore"), "park")
    queue_type: str = setting(values.one_of("quorum", FAILOVER, "classic", "existing"), "quorum")
    binding_keys: tuple[str, ...] = setting(values.names, "#")
    from_start: tuple[str, ...] = setting(values.names, "")
    only: tuple[values.Condition, ...] = setting(values.conditions, "")
    target: str = setting(values.text, DEFAULT_TARGET)  # relay/targets/__init__.py knows which there are
    workers: int = setting(values.whole(1, 256), "4")
    order: str = setting(values.one_of("key", "global", "none"), "key")
    max_attempts: int = setting(values.whole(1, 1000), "8")
    parked_max: int = setting(values.whole(1, 1_000_000), "1000")
    max_rate: float = setting(values.number(0, 100_000), "0")
    prefetch: int = setting(values.whole(1, PREFETCH_MAX), "500")
    prefetch_mb: int = setting(values.whole(1, 1024), "16")
    retry_min: float = setting(values.seconds(0.01, 86_400), "1")
    retry_max: float = setting(values.seconds(0.01, 86_400), "60")
    shutdown_grace: float = setting(values.seconds(0, 3600), "30")

    @property
    def patterns(self) -> list[str]:
        """Those of BINDING_KEYS that a topic exchange matches with more than one routing key."""
        return [key for key in self.binding_keys if set(key) & set("#*")]

    def contradictions(self) -> list[Problem]:
        """See Settings."""
        found = super().contradictions()
        if self.retry_min > self.retry_max:
            found.append(("RETRY_MIN is above RETRY_MAX", "lower RETRY_MIN"))
        if self.exchange_type == "direct" and self.patterns:
            what = f"EXCHANGE_TYPE=direct knows no patterns, and BINDING_KEYS has {self.patterns[0]}"
            found.append((what, "name each topic in BINDING_KEYS, as public.orders, or write EXCHANGE_TYPE=topic"))
        if self.exchange_type == "fanout" and self.binding_keys != ("#",):
            what = "EXCHANGE_TYPE=fanout gives every queue everything, and BINDING_KEYS is set"
            found.append((what, "remove BINDING_KEYS, or write EXCHANGE_TYPE=topic"))
        if self.from_start and not self.source:
            what = "FROM_START is set, and SOURCE is not: whose tables?"
            found.append((what, "write SOURCE=erp: the SOURCE of their listener, by default its database's name"))
        if self.from_start and self.queue_type == "existing":
            what = "FROM_START is for a queue that receiver.py makes, and QUEUE_TYPE=existing makes none"
            found.append((what, f"remove FROM_START, and: receiver.py resend {self.from_start[0]}"))
        if self.order == "global" and self.sign_events:
            what = "SIGN_EVENTS parks what is not signed, and ORDER=global never parks"
            found.append((what, "write ORDER=key, or remove SIGN_EVENTS from the receiver's settings"))
        return found + (self._without_lanes() if self.lane else [])

    def _without_lanes(self) -> list[Problem]:
        """What does not go together with lanes."""
        found, lane = list[Problem](), f"LANE={self.lane}"
        if self.order == "global":
            found.append((f"ORDER=global is one order of all, and {lane} one of several", "write ORDER=key"))
        if self.queue_type != "quorum":
            what = f"QUEUE_TYPE={self.queue_type} is of one queue, and those of lanes are quorum queues"
            found.append((what, "remove QUEUE_TYPE"))
        if self.from_start:
            what = f"FROM_START fills one queue, and {lane} is one of several"
            found.append((what, "remove it: fill the queue first, then receiver.py lanes --to N"))
        if len(self.queue.encode()) > values.NAME_MAX - _LANE_NAMES:
            found.append(("QUEUE is too long for lanes", f"write {values.NAME_MAX - _LANE_NAMES} bytes at most"))
        return found

    def endpoint(self) -> Endpoint | None:
        """Where events go; None = to no URL."""
        return None


def load(
    kind: type[Kind], env_file: Source, environ: Mapping[str, str] | None = None, others: Collection[str] = ()
) -> Kind:
    """Read the settings of `kind`: `read` and `parse`. Raises ConfigError: everything that is wrong, at once."""
    return parse(kind, read(env_file, environ, [*keys(kind), *others]))


def read(env_file: Source, environ: Mapping[str, str] | None = None, others: Collection[str] = ()) -> Given:
    """Read what is set.

    Args:
        env_file: lines `KEY=value`; `$` is an ordinary character. Or a consumer. None = the environment alone.
        environ: the process's environment; it wins over the file.
        others: keys that are no mistake in the file, beyond those of `Listen` and `Receive`: those of targets.
    """
    known, problems = dict.fromkeys([*keys(Listen, Receive), *others]), list[Problem]()
    of_file = consumers.merged(env_file, known, problems)
    where = f"[{env_file.name}] " if isinstance(env_file, Consumer) else ""
    return Given(with_environment(of_file, environ, known), tuple(problems), where)
