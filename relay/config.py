"""Settings: read here and nowhere else, from the process's environment and an env file. The environment wins.

A setting is a field of a dataclass; its key in the environment is the field's name in capitals. Every problem is
found before anything starts and all are reported together: key, value (secrets masked), what to write instead.
"""

# ruff: noqa: RUF009 - _setting() makes a dataclasses.field

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from relay import envfile, files, values
from relay.errors import ConfigError
from relay.log import FORMATS, LEVELS

T = TypeVar("T")


def _setting(parse: Callable[[str], Any], default: str | None = None, *, secret: bool = False) -> Any:
    """A field read from the environment. `default` is text, parsed like any other value; None = must be set."""
    shown = not secret and parse is not values.http_url  # in its query may stand a token
    return dataclasses.field(metadata={"parse": parse, "default": default, "secret": secret}, repr=shown)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What both daemons read. Units: seconds unless the name says otherwise."""

    rabbitmq_url: values.AmqpUrl = _setting(values.amqp_url, secret=True)
    rabbitmq_ca_file: str = _setting(values.existing_file, "")
    rabbitmq_cert_file: str = _setting(values.existing_file, "")
    rabbitmq_key_file: str = _setting(values.existing_file, "")
    rabbitmq_management_url: str = _setting(values.management_url, "")
    exchange: str = _setting(values.amqp_name, "relay")
    exchange_type: str = _setting(values.one_of("topic", "direct", "fanout"), "topic")
    heartbeat: int = _setting(values.whole(5, 600), "10")
    connect_timeout: float = _setting(values.seconds(1, 300), "10")
    reconnect_min: float = _setting(values.seconds(0.05, 3600), "0.5")
    reconnect_max: float = _setting(values.seconds(0.05, 3600), "15")
    sign_events: bytes = _setting(values.shared_secret, "", secret=True)
    log_level: str = _setting(values.one_of(*LEVELS), "info")
    log_file: str = _setting(values.text, "")
    log_format: str = _setting(values.one_of(*FORMATS), "text")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listen(Common):
    """What listen.py reads."""

    database_url: values.Dsn = _setting(values.dsn, secret=True)
    source: str = _setting(values.source_name, "")
    listen_channels: tuple[str, ...] = _setting(values.names, "")
    required_queues: tuple[str, ...] = _setting(values.names, "")
    notify: bool = _setting(values.on_off, "on")
    poll_interval: float = _setting(values.seconds(0.05, 3600), "5")
    window_events: int = _setting(values.whole(1, 100_000), "4000")
    window_mb: int = _setting(values.whole(1, 1024), "16")
    outbox_warn: int = _setting(values.whole(0, 1_000_000_000), "100000")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Receive(Common):
    """What receiver.py reads."""

    queue: str = _setting(values.amqp_name)
    queue_type: str = _setting(values.one_of("quorum", "classic", "existing"), "quorum")
    binding_keys: tuple[str, ...] = _setting(values.names, "#")
    target: str = _setting(values.one_of("http", "odoo-load", "odoo-call", "odoo-webhook"), "http")
    workers: int = _setting(values.whole(1, 256), "4")
    order: str = _setting(values.one_of("key", "global", "none"), "key")
    max_attempts: int = _setting(values.whole(1, 1000), "8")
    control: bool = _setting(values.on_off, "on")
    control_secret: bytes = _setting(values.shared_secret, "", secret=True)
    parked_max: int = _setting(values.whole(1, 1_000_000), "1000")
    max_rate: float = _setting(values.number(0, 100_000), "0")
    success_status: values.Success = _setting(values.success_status, "200")
    success_body: values.SuccessBody = _setting(values.success_body, "")
    prefetch: int = _setting(values.whole(1, 10_000), "500")
    prefetch_mb: int = _setting(values.whole(1, 1024), "16")
    retry_min: float = _setting(values.seconds(0.01, 86_400), "1")
    retry_max: float = _setting(values.seconds(0.01, 86_400), "60")
    shutdown_grace: float = _setting(values.seconds(0, 3600), "30")
    http_url: str = _setting(values.http_url, "")
    http_method: values.PerOp = _setting(values.http_method, "POST")
    http_body: str = _setting(values.text, "")
    http_headers: tuple[tuple[str, str], ...] = _setting(values.http_headers, "", secret=True)
    http_token: str = _setting(values.header_text, "", secret=True)
    http_user: str = _setting(values.text, "")
    http_password: str = _setting(values.text, "", secret=True)
    http_ca_file: str = _setting(values.existing_file, "")
    http_cert_file: str = _setting(values.existing_file, "")
    http_key_file: str = _setting(values.existing_file, "")
    http_proxy_url: str = _setting(values.proxy_url, "")
    http_time_limit: float = _setting(values.seconds(0, 86_400), "120")
    webhook_secret: bytes = _setting(values.webhook_secret, "", secret=True)
    http_connect_timeout: float = _setting(values.seconds(0.1, 300), "5")
    http_read_timeout: float = _setting(values.seconds(0.1, 3600), "130")
    batch_size: int = _setting(values.whole(1, 1000), "100")
    odoo_url: str = _setting(values.http_url, "")
    odoo_database: str = _setting(values.text, "")
    odoo_host: str = _setting(values.host_name, "")
    odoo_api: str = _setting(values.one_of("auto", "json2", "jsonrpc"), "auto")
    odoo_api_key: str = _setting(values.header_text, "", secret=True)
    odoo_user: str = _setting(values.text, "")
    odoo_password: str = _setting(values.text, "", secret=True)
    odoo_mapping: str = _setting(values.existing_file, "")
    odoo_link_wait: float = _setting(values.seconds(0, 8_640_000), "3600")
    odoo_model: str = _setting(values.odoo_model, "")
    odoo_method: str = _setting(values.odoo_method, "")
    odoo_webhook: str = _setting(values.odoo_webhook, "", secret=True)
    odoo_webhook_idempotent: bool = _setting(values.on_off, "off")

    def endpoint(self) -> str:
        """Where events go, as far as it may be shown: a path or a query may hold a token, or a template."""
        urls = {"http": self.http_url, "odoo-webhook": self.odoo_webhook}
        parts = urlsplit(urls.get(self.target, self.odoo_url))
        return f"{parts.scheme}://{parts.netloc}"


def keys(*kinds: type[Common]) -> list[str]:
    """Every key that `kinds` read from an env file, `..._FILE` of the secrets included."""
    found = dict.fromkeys(field.name.upper() for kind in kinds for field in dataclasses.fields(kind))
    secret = [f.name.upper() for kind in kinds for f in dataclasses.fields(kind) if f.metadata["secret"]]
    return [*found, *(f"{key}_FILE" for key in dict.fromkeys(secret))]


def load(kind: type[T], env_file: Path | None, environ: Mapping[str, str] | None = None) -> T:
    """Read the settings of `kind`.

    Args:
        kind: `Listen` or `Receive`.
        env_file: lines `KEY=value`; `$` is an ordinary character. None = the environment alone.
        environ: the process's environment; it wins over the file.

    Raises:
        ConfigError: everything that is wrong, at once.
    """
    problems: list[tuple[str, str]] = []
    raw = _with_environment(envfile.read(env_file, _known(), problems) if env_file else {}, environ)
    parsed: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        try:
            parsed[field.name] = _value(field, raw)
        except values.Invalid as error:
            problems.append((error.what, error.remedy))
    if not problems:
        problems = _contradictions(parsed)
    if problems:
        raise ConfigError(*problems, log_file=parsed.get("log_file", ""))
    if parsed.get("target") == "odoo-load":
        # Full batches for all workers, and the next ones behind them.
        parsed["prefetch"] = max(parsed["prefetch"], 2 * parsed["workers"] * parsed["batch_size"])
    return kind(**parsed)


def env_file(given: Path | None, script: str) -> Path | None:
    """Return which file to read: the one that was asked for, else config.env beside the script, if it is there."""
    beside = Path(script).resolve().parent / "config.env"
    return given or (beside if os.path.lexists(beside) else None)


def read_by_others(kind: type[Common], env_file: Path | None, environ: Mapping[str, str] | None = None) -> list[Path]:
    """The files with secrets, of those that `load` reads, that every user of this host may read."""
    own = envfile.read(env_file, _known(), []) if env_file else {}
    raw = _with_environment(own, environ)
    secret = [field.name.upper() for field in dataclasses.fields(kind) if field.metadata["secret"]]
    named = [f"{key}_FILE" for key in secret] + ["RABBITMQ_KEY_FILE", "HTTP_KEY_FILE"]
    found = [env_file] if env_file and any(own.get(key) for key in secret) else []
    found += [Path(raw[key]) for key in named if raw.get(key)]
    return [path for path in found if files.read_by_others(path)]


def _with_environment(raw: Mapping[str, str], environ: Mapping[str, str] | None) -> dict[str, str]:
    given = {key: text for key, text in (os.environ if environ is None else environ).items() if key in _known()}
    return {key: text for key, text in raw.items() if _twin(key) not in given} | given


def _known() -> list[str]:
    return keys(Listen, Receive)


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


def _contradictions(parsed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values that are fine each, but not together."""
    found = []
    for low, high in (("reconnect_min", "reconnect_max"), ("retry_min", "retry_max")):
        if low in parsed and parsed[low] > parsed[high]:
            found.append((f"{low.upper()} is above {high.upper()}", f"lower {low.upper()}"))
    if bool(parsed["rabbitmq_cert_file"]) != bool(parsed["rabbitmq_key_file"]):
        found.append(("only one of RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE is set", "set both, or none"))
    unused = [key for key in ("RABBITMQ_CA_FILE", "RABBITMQ_CERT_FILE") if parsed[key.lower()]]
    if unused and not parsed["rabbitmq_url"].tls:
        found.append((f"{unused[0]} is set, but RABBITMQ_URL is amqp://", "write amqps:// or remove the file"))
    kind, patterns = parsed["exchange_type"], [key for key in parsed.get("binding_keys", ()) if set(key) & set("#*")]
    if kind == "direct" and patterns:
        what = f"EXCHANGE_TYPE=direct knows no patterns, and BINDING_KEYS has {patterns[0]}"
        found.append((what, "name each topic in BINDING_KEYS, as public.orders, or write EXCHANGE_TYPE=topic"))
    if kind == "fanout" and parsed.get("binding_keys", ("#",)) != ("#",):
        what = "EXCHANGE_TYPE=fanout gives every queue everything, and BINDING_KEYS is set"
        found.append((what, "remove BINDING_KEYS, or write EXCHANGE_TYPE=topic"))
    if parsed.get("target") == "http" and not parsed["http_url"]:
        found.append(("TARGET=http needs HTTP_URL", "set HTTP_URL=http://host:port/path"))
    if parsed.get("order") == "global" and parsed["sign_events"]:
        what = "SIGN_EVENTS parks what is not signed, and ORDER=global never parks"
        found.append((what, "write ORDER=key, or remove SIGN_EVENTS from the receiver's settings"))
    return found + (_odoo(parsed) if parsed.get("target", "").startswith("odoo-") else [])


def _odoo(parsed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the Odoo targets need of each other's settings."""
    target = parsed["target"]
    if target == "odoo-webhook":
        return _odoo_webhook(parsed)
    needed = {"odoo-load": ("ODOO_URL", "ODOO_MAPPING"), "odoo-call": ("ODOO_URL", "ODOO_MODEL", "ODOO_METHOD")}
    missing = [key for key in needed[target] if not parsed[key.lower()]]
    found = [(f"TARGET={target} needs {key}", f"set {key}; config.example.env shows how") for key in missing]
    key, password, api = parsed["odoo_api_key"], parsed["odoo_password"], parsed["odoo_api"]
    if not key and not password:
        what = f"TARGET={target} needs ODOO_API_KEY or ODOO_PASSWORD"
        found.append((what, "make a key in Odoo: Preferences, Account Security"))
    if key and password:
        found.append(("both ODOO_API_KEY and ODOO_PASSWORD are set", "keep the key"))
    if api == "json2" and not key:
        found.append(("ODOO_API=json2 needs ODOO_API_KEY", "make a key in Odoo, or write ODOO_API=jsonrpc"))
    by_rpc = "ODOO_API=jsonrpc" if api == "jsonrpc" else "ODOO_PASSWORD" if password else ""
    unset = [name for name in ("ODOO_DATABASE", "ODOO_USER") if by_rpc and not parsed[name.lower()]]
    return found + [(f"{by_rpc} needs {name}", f"set {name}") for name in unset]


def _odoo_webhook(parsed: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    if not parsed["odoo_webhook"]:
        found.append(("TARGET=odoo-webhook needs ODOO_WEBHOOK", "copy the URL of the automation rule from Odoo"))
    if parsed["order"] == "global" and not parsed["odoo_webhook_idempotent"]:
        what = "TARGET=odoo-webhook parks an event after a 500 at once, and ORDER=global never parks"
        found.append((what, "write ORDER=key, or ODOO_WEBHOOK_IDEMPOTENT=on if the action may run twice"))
    return found
