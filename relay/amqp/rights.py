"""The least rights in RabbitMQ that suffice, as the command that gives them, with the real names: for remedies."""

import re
import shlex
from typing import cast

import psycopg2.extensions

from relay.config import FAILOVER, Common, Listen, Receive
from relay.database_url import PolledUrl

LANES = r"lanes(\.[0-9a-z.]+)?"
"""Behind QUEUE: all that its lanes have, of whatever generation."""
_OF_LANE = re.compile(r"\.lanes\.[0-9]+\.[0-9]+\Z")


def command(config: Common) -> str:
    """`rabbitmqctl set_permissions` for the user of RABBITMQ_URL: the patterns of README.md (Install)."""
    url = config.rabbitmq_url
    words = ["rabbitmqctl", "set_permissions", "-p", url.vhost, url.user, *patterns(config)]
    return f"{shlex.join(words)} # replaces the rights that the user has there"


def patterns(config: Common) -> tuple[str, str, str]:
    """What it may configure, write and read. RabbitMQ looks for a pattern anywhere in a name: each is anchored."""
    return _receiver(config) if isinstance(config, Receive) else _listener(cast("Listen", config))


def source(config: Listen) -> str:
    """What tells a listener's queues from those of other databases: SOURCE, or the name of DATABASE_URL's database."""
    url = config.database_url
    if isinstance(url, PolledUrl):
        return config.source or url.name
    return config.source or str(psycopg2.extensions.parse_dsn(url).get("dbname", "SOURCE"))


def lease(source: str) -> str:
    """The exclusive queue that makes its declarer the only active listener of `source`."""
    return f"relay.lease.{source}"


def control(source: str) -> str:
    """Where commands for the listener at work go."""
    return f"relay.control.{source}"


def _listener(config: Listen) -> tuple[str, str, str]:
    # amq.default is RabbitMQ's name for the default exchange: commands and their answers go through it.
    exchange, name = re.escape(config.exchange), re.escape(source(config))
    return (
        rf"^({exchange}|relay\.(lease|control)\.{name})$",
        rf"^(amq\.default|{exchange})$",
        rf"^relay\.control\.{name}$",
    )


def _receiver(config: Receive) -> tuple[str, str, str]:
    # Through amq.default go parking, probes and answers.
    name = _OF_LANE.sub("", config.queue) if config.lane else config.queue
    exchange, queue = re.escape(config.exchange), re.escape(name)
    fill = "|fill" if config.from_start else ""
    mark = r"|holder(\.[0-9])?" if config.queue_type == FAILOVER else "|holder"
    pulse = mark if config.queue_type == FAILOVER else ""
    lanes = rf"|{queue}\.{LANES}" if config.lane else ""
    return (
        rf"^({exchange}|{queue}|{queue}\.(lease|parked|control{mark}{fill}){lanes})$",
        rf"^(amq\.default|{queue}{lanes})$",
        rf"^({exchange}|{queue}|{queue}\.(parked|control{fill}{pulse}){lanes})$",
    )
