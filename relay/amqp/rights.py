"""The least rights in RabbitMQ that suffice, as the command that gives them, with the real names: for remedies."""

import re
import shlex
from typing import cast

import psycopg2.extensions

from relay.config import Common, Listen, Receive


def command(config: Common) -> str:
    """`rabbitmqctl set_permissions` for the user of RABBITMQ_URL: the patterns of README.md (Install)."""
    url = config.rabbitmq_url
    words = ["rabbitmqctl", "set_permissions", "-p", url.vhost, url.user, *patterns(config)]
    return f"{shlex.join(words)} # replaces the rights that the user has there"


def patterns(config: Common) -> tuple[str, str, str]:
    """What it may configure, write and read. RabbitMQ looks for a pattern anywhere in a name: each is anchored."""
    return _receiver(config) if isinstance(config, Receive) else _listener(cast("Listen", config))


def lease(source: str) -> str:
    """The exclusive queue that makes its declarer the only active listener of `source`."""
    return f"relay.lease.{source}"


def _listener(config: Listen) -> tuple[str, str, str]:
    source = config.source or psycopg2.extensions.parse_dsn(config.database_url).get("dbname", "SOURCE")
    exchange = re.escape(config.exchange)
    return f"^({exchange}|{re.escape(lease(source))})$", f"^{exchange}$", "^$"


def _receiver(config: Receive) -> tuple[str, str, str]:
    # amq.default is RabbitMQ's name for the default exchange: parking, probes and answers go through it.
    exchange, queue = re.escape(config.exchange), re.escape(config.queue)
    return (
        rf"^({exchange}|{queue}|{queue}\.(lease|parked|control|holder))$",
        rf"^(amq\.default|{queue})$",
        rf"^({exchange}|{queue}|{queue}\.(parked|control))$",
    )
