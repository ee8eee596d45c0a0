"""Settings: read here and nowhere else, from the process's environment and an env file. The environment wins.

A setting is a field of a dataclass; its key in the environment is the field's name in capitals. Every problem is
found before anything starts and all are reported together: key, value (secrets masked), what to write instead.
The settings of a target stand in its own module, as a class derived from `Receive` (relay/targets/__init__.py).
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from relay import envfile, files, urls, values
from relay.envfile import Problem
from relay.errors import ConfigError
from relay.log import FORMATS, LEVELS

DEFAULT_TARGET = "http"

Kind = TypeVar("Kind", bound="Common")


def setting(
    parse: Callable[[str], Any], default: str | None = None, *, secret: bool = False, private: bool = False
) -> Any:
    """A field read from the environment.

    Args:
        parse: one of relay/values.py; raises `values.Invalid`.
        default: text, parsed like any other value; None = it must be set.
        secret: never shown; KEY_FILE may name a file that holds it.
        private: names a file that nobody else should be able to read.
    """
    shown = not secret and parse is not urls.http_url  # in its query may stand a token
    metadata = {"parse": parse, "default": default, "secret": secret, "private": private}
    return dataclasses.field(metadata=metadata, repr=shown)


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
class Common:
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

    def contradictions(self) -> list[Problem]:
        """Values that are fine each, but not together."""
        found = []
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

    database_url: values.Dsn = setting(values.dsn, secret=True)
    source: str = setting(values.source_name, "")
    listen_channels: tuple[str, ...] = setting(values.names, "")
    required_queues: tuple[str, ...] = setting(values.names, "")
    notify: bool = setting(values.on_off, "on")
    poll_interval: float = setting(values.seconds(0.05, 3600), "5")
    window_events: int = setting(values.whole(1, 100_000), "4000")
    window_mb: int = setting(values.whole(1, 1024), "16")
    outbox_warn: int = setting(values.whole(0, 1_000_000_000), "100000")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Receive(Common):
    """What receiver.py reads, whatever the target."""

    queue: str = setting(values.amqp_name)
    queue_type: str = setting(values.one_of("quorum", "classic", "existing"), "quorum")
    binding_keys: tuple[str, ...] = setting(values.names, "#")
    target: str = setting(values.text, DEFAULT_TARGET)  # relay/targets/__init__.py knows which there are
    workers: int = setting(values.whole(1, 256), "4")
    order: str = setting(values.one_of("key", "global", "none"), "key")
    max_attempts: int = setting(values.whole(1, 1000), "8")
    parked_max: int = setting(values.whole(1, 1_000_000), "1000")
    max_rate: float = setting(values.number(0, 100_000), "0")
    prefetch: int = setting(values.whole(1, 10_000), "500")
    prefetch_mb: int = setting(values.whole(1, 1024), "16")
    retry_min: float = setting(values.seconds(0.01, 86_400), "1")
    retry_max: float = setting(values.seconds(0.01, 86_400), "60")
    shutdown_grace: float = setting(values.seconds(0, 3600), "30")

    def contradictions(self) -> list[Problem]:
        """See Common."""
        found = super().contradictions()
        if self.retry_min > self.retry_max:
            found.append(("RETRY_MIN is above RETRY_MAX", "lower RETRY_MIN"))
        patterns = [key for key in self.binding_keys if set(key) & set("#*")]
        if self.exchange_type == "direct" and patterns:
            what = f"EXCHANGE_TYPE=direct knows no patterns, and BINDING_KEYS has {patterns[0]}"
            found.append((what, "name each topic in BINDING_KEYS, as public.orders, or write EXCHANGE_TYPE=topic"))
        if self.exchange_type == "fanout" and self.binding_keys != ("#",):
            what = "EXCHANGE_TYPE=fanout gives every queue everything, and BINDING_KEYS is set"
            found.append((what, "remove BINDING_KEYS, or write EXCHANGE_TYPE=topic"))
        if self.order == "global" and self.sign_events:
            what = "SIGN_EVENTS parks what is not signed, and ORDER=global never parks"
            found.append((what, "write ORDER=key, or remove SIGN_EVENTS from the receiver's settings"))
        return found

    def endpoint(self) -> Endpoint | None:
        """Where events go; None = to no URL."""
        return None


def keys(*kinds: type[Common]) -> list[str]:
    """Every key that `kinds` read from an env file, `..._FILE` of the secrets included."""
    found = dict.fromkeys(field.name.upper() for kind in kinds for field in dataclasses.fields(kind))
    secret = [f.name.upper() for kind in kinds for f in dataclasses.fields(kind) if f.metadata["secret"]]
    return [*found, *(f"{key}_FILE" for key in dict.fromkeys(secret))]


@dataclasses.dataclass(frozen=True)
class Given:
    """What an env file and the environment say, as text by key; and what is wrong with the file itself."""

    texts: Mapping[str, str] = dataclasses.field(repr=False)
    problems: tuple[Problem, ...]


def load(
    kind: type[Kind], env_file: Path | None, environ: Mapping[str, str] | None = None, others: Collection[str] = ()
) -> Kind:
    """Read the settings of `kind`: `read` and `parse`. Raises ConfigError: everything that is wrong, at once."""
    return parse(kind, read(env_file, environ, [*keys(kind), *others]))


def read(env_file: Path | None, environ: Mapping[str, str] | None = None, others: Collection[str] = ()) -> Given:
    """Read what is set.

    Args:
        env_file: lines `KEY=value`; `$` is an ordinary character. None = the environment alone.
        environ: the process's environment; it wins over the file.
        others: keys that are no mistake in the file, beyond those of `Listen` and `Receive`: those of targets.
    """
    known, problems = dict.fromkeys([*keys(Listen, Receive), *others]), list[Problem]()
    of_file = envfile.read(env_file, known, problems) if env_file else {}
    return Given(_with_environment(of_file, environ, known), tuple(problems))


def parse(kind: type[Kind], given: Given) -> Kind:
    """Return the settings of `kind`.

    Raises:
        ConfigError: everything that is wrong, at once.
    """
    problems, parsed = list(given.problems), dict[str, Any]()
    for field in dataclasses.fields(kind):
        try:
            parsed[field.name] = _value(field, given.texts)
        except values.Invalid as error:
            problems.append((error.what, error.remedy))
    if not problems:
        settings = kind(**parsed)
        problems = settings.contradictions()
    if problems:
        raise ConfigError(*problems, log_file=parsed.get("log_file", ""))
    return settings


def env_file(given: Path | None, script: str) -> Path | None:
    """Return which file to read: the one that was asked for, else config.env beside the script, if it is there."""
    beside = Path(script).resolve().parent / "config.env"
    return given or (beside if os.path.lexists(beside) else None)


def read_by_others(kind: type[Common], env_file: Path | None, environ: Mapping[str, str] | None = None) -> list[Path]:
    """The files with secrets, of those that `load` reads, that every user of this host may read."""
    known, fields = keys(kind), dataclasses.fields(kind)
    own = envfile.read(env_file, known, []) if env_file else {}
    raw = _with_environment(own, environ, known)
    secret = [field.name.upper() for field in fields if field.metadata["secret"]]
    named = [f"{key}_FILE" for key in secret] + [field.name.upper() for field in fields if field.metadata["private"]]
    found = [env_file] if env_file and any(own.get(key) for key in secret) else []
    found += [Path(raw[key]) for key in named if raw.get(key)]
    return [path for path in found if files.read_by_others(path)]


def _with_environment(
    raw: Mapping[str, str], environ: Mapping[str, str] | None, known: Collection[str]
) -> dict[str, str]:
    given = {key: text for key, text in (os.environ if environ is None else environ).items() if key in known}
    return {key: text for key, text in raw.items() if _twin(key) not in given} | given


def _twin(key: str) -> str:
    """DATABASE_URL for DATABASE_URL_FILE, and the other way round."""
    return key.removesuffix("_FILE") if key.endswith("_FILE") else f"{key}_FILE"


def _value(field: "dataclasses.Field[Any]", raw: Mapping[str, str]) -> Any:
    """One setting: from its key, or for a secret from the file that `KEY_FILE` names, or its default."""
    key, secret, default = field.name.upper(), field.metadata["secret"], field.metadata["default"]
    text = raw.get(key, "")
    if secret and raw.get(f"{key}_FILE"):
        if text:
            raise values.Invalid(f"both {key} and {key}_FILE are set", "keep one of them")
        text = _secret_file(f"{key}_FILE", Path(raw[f"{key}_FILE"]))
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):  # the latter: bytes of the environment
        raise values.Invalid(f"{key} is no UTF-8 text, or holds a zero byte", "write text")
    if not text and default is None:
        raise values.Invalid(f"{key} is not set", f"set {key}; config.example.env shows how")
    try:
        return field.metadata["parse"](text or default)
    except values.Invalid as error:
        shown = values.masked(text) if secret or "@" in text else text  # a URL with a password, where none belongs
        raise values.Invalid(f"{key}={shown}: {error.what}", error.remedy) from None


def _secret_file(key: str, path: Path) -> str:
    try:
        return files.text(path).rstrip("\r\n")
    except files.Unreadable as error:
        raise values.Invalid(f"{key}={path}: {error}", files.WANTED) from None
