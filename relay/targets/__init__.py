"""Where events go to. Each target is a module of its own; they know `relay.delivery`, and never each other.

Only the one that TARGET names is imported: what the others need costs memory and time to start, and listen.py needs
none of them.
"""

import dataclasses
import importlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from relay import config, consumers, values
from relay.config import DEFAULT_TARGET, Receive
from relay.consumers import Source
from relay.delivery import Target
from relay.errors import ConfigError
from relay.setting import parse, setting


class TargetModule(NamedTuple):
    """What is known of a target without importing it.

    Args:
        module: where it is. Its class `Settings`, derived from config.Receive, is what it reads.
        name: the class that is called with these settings; a delivery.Target.
        keys: those of its settings that config.Receive has not, with the KEY_FILE of secrets, separated by spaces: an
            env file may hold those of others, and what is nobody's is an error.
    """

    module: str
    name: str
    keys: str


_HTTP = (
    "HTTP_CA_FILE HTTP_CERT_FILE HTTP_KEY_FILE HTTP_PROXY_URL HTTP_TIME_LIMIT HTTP_CONNECT_TIMEOUT HTTP_READ_TIMEOUT"
)
_ODOO = f"{_HTTP} ODOO_DATABASE ODOO_HOST"
_ODOO_LOGIN = f"{_ODOO} ODOO_URL ODOO_API ODOO_API_KEY ODOO_API_KEY_FILE ODOO_USER ODOO_PASSWORD ODOO_PASSWORD_FILE"

TARGETS = {
    "http": TargetModule(
        "relay.targets.http", "HttpTarget",
        f"{_HTTP} SUCCESS_STATUS SUCCESS_BODY HTTP_URL HTTP_CHECK_URL HTTP_METHOD HTTP_BODY"
        " HTTP_BODY_DELETE HTTP_BATCH HTTP_BATCH_FORMAT HTTP_BATCH_ANSWER HTTP_HEADERS HTTP_HEADERS_FILE"
        " HTTP_TOKEN HTTP_TOKEN_FILE HTTP_USER HTTP_PASSWORD"
        " HTTP_PASSWORD_FILE WEBHOOK_SECRET WEBHOOK_SECRET_FILE",
    ),
    "python": TargetModule(
        "relay.targets.python.target", "PythonTarget",
        "PYTHON_HANDLERS HANDLER_PATH HANDLER_TIME_LIMIT UNHANDLED HANDLER_LOG",
    ),
    "odoo-load": TargetModule(
        "relay.targets.odoo.load", "OdooLoadTarget", f"{_ODOO_LOGIN} ODOO_MAPPING BATCH_SIZE ODOO_LINK_WAIT ASK_AFTER"
    ),
    "odoo-call": TargetModule("relay.targets.odoo.call", "OdooCallTarget", f"{_ODOO_LOGIN} ODOO_MODEL ODOO_METHOD"),
    "odoo-webhook": TargetModule(
        "relay.targets.odoo.webhook", "OdooWebhookTarget",
        f"{_ODOO} ODOO_WEBHOOK ODOO_WEBHOOK_FILE ODOO_WEBHOOK_IDEMPOTENT",
    ),
}  # fmt: skip

MAPPERS = {"odoo-load": "relay.targets.odoo.first_mapping"}
"""By target, the module that writes a first mapping: its `write` does, with what its class `Settings` reads."""

Write = Callable[[Receive, str, str, str], Coroutine[Any, Any, int]]
"""Write a first mapping of a table to a model, with its columns. Return the exit status; raise RelayError."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _NoTarget(Receive):
    """For a TARGET that is none: told together with whatever else is wrong."""

    target: str = setting(values.one_of(*TARGETS), DEFAULT_TARGET)


def setting_names() -> list[str]:
    """The keys of all targets' settings."""
    return list(dict.fromkeys(key for entry in TARGETS.values() for key in entry.keys.split()))


def load(env_file: Source, environ: Mapping[str, str] | None = None) -> Receive:
    """Read the settings of receiver.py, those of the target that TARGET names among them. Arguments as of config.read.

    Raises:
        ConfigError: everything that is wrong, at once.
    """
    given = config.read(env_file, environ, setting_names())
    name = given.texts.get("TARGET") or DEFAULT_TARGET
    kind: type[Receive] = _module(name).Settings if name in TARGETS else _NoTarget
    directory = consumers.directory(env_file)
    defaults = kind.beside(directory) if directory else {}
    return parse(kind, dataclasses.replace(given, texts={**defaults, **given.texts}))


def mapper(env_file: Source, environ: Mapping[str, str] | None = None) -> tuple[Receive, Write]:
    """Read the settings that a first mapping needs: those of the target without its mapping file, which may be missing.

    Raises:
        ConfigError: everything that is wrong with them; the target has no mapping.
    """
    given = config.read(env_file, environ, setting_names())
    name = given.texts.get("TARGET") or DEFAULT_TARGET
    if name not in MAPPERS:
        raise ConfigError((f"receiver.py mapping is for TARGET={', '.join(MAPPERS)}, not for {name}", "set TARGET"))
    module = importlib.import_module(MAPPERS[name])
    write: Write = module.write
    return parse(module.Settings, given), write


def make(settings: Receive) -> Target:
    """The target that the settings, read by `load`, are of. Raises ConfigError: it needs a file, and that is wrong."""
    name = settings.target
    target: Callable[[Receive], Target] = getattr(_module(name), TARGETS[name].name)
    return target(settings)


def _module(name: str) -> Any:
    return importlib.import_module(TARGETS[name].module)
