"""AMQP's reply codes, and how a command asks for what RabbitMQ may refuse. (The daemons: session.py.)"""

import re
import shlex
from collections.abc import Callable
from typing import Any

import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from relay.errors import RelayError, one_line

# AMQP 0-9-1, 1.1
ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406
CONNECTION_FORCED, NOT_ALLOWED = 320, 530

_LIMITS = (
    (r"queue limit in vhost '(.*)' \(\d+\) is reached", "max-queues"),
    (r"access to vhost '(.*)' refused for user '.*': connection limit \(\d+\) is reached", "max-connections"),
)
_USER_LIMITS = (
    (r"refused for user '(.*)': user connection limit \(\d+\) is reached", "max-connections"),
    (r"channels opened for user '(.*)' has reached the maximum allowed user limit", "max-channels"),
)


class ChannelRefused(RelayError):
    """The broker closed the channel because of what we asked. `code` as in AMQP: 403, 404, 405, 406, 530, 540."""

    def __init__(self, code: int, detail: str, remedy: str = "") -> None:
        super().__init__(f"RabbitMQ refuses: {detail} ({code})", remedy)
        self.code = code
        self.detail = detail


def refusal(handle: BlockingConnection, call: Callable[[BlockingChannel], object], *expected: int) -> tuple[int, str]:
    """Ask on a channel of its own: a refusal ends nothing but that.

    Args:
        call: what is asked for.
        expected: the codes that are an answer.

    Returns:
        RabbitMQ's code and text; code 0 = it does not refuse.

    Raises:
        pika.exceptions.AMQPError: anything else.
    """
    channel = handle.channel()
    try:
        call(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code not in expected:
            raise
        return int(error.reply_code), str(error.reply_text)
    channel.close()
    return 0, ""


def closing(reason: BaseException) -> tuple[int, str]:
    """Return the broker's (code, text) for a closed channel or connection; code 0 when it has said nothing."""
    if isinstance(reason, pika.exceptions.ChannelClosedByBroker | pika.exceptions.ConnectionClosedByBroker):
        return int(reason.reply_code), " ".join(str(reason.reply_text).split())
    return 0, one_line(reason)


def version(properties: dict[str, Any] | None) -> int:
    """RabbitMQ's major version, by what it says of itself when a connection begins; 0 = unknown."""
    detail = (properties or {}).get("version")
    match = re.match(r"\d+", detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail))
    return int(match[0]) if match else 0


def way_out(detail: str) -> str:
    """What to do about what RabbitMQ says: a limit is reached, a queue is another's alone; empty = neither."""
    if match := re.search(r"exclusive access to locked queue '(.*)' in vhost '(.*)'\.", detail):
        return holder_of(match[2], match[1])
    for pattern, limit in _LIMITS:
        if match := re.search(pattern, detail):
            return raise_limit(match[1], limit)
    for pattern, limit in _USER_LIMITS:
        if match := re.search(pattern, detail):
            again = f"rabbitmqctl set_user_limits {shlex.quote(match[1])} '{{\"{limit}\": NUMBER}}'"
            return f"raise it: {again} # -1 = none"
    if "limit" in detail and "reached" in detail:
        return "raise it: rabbitmqctl list_user_limits and rabbitmq.conf show what is limited"
    return ""


def holder_of(vhost: str, queue: str) -> str:
    """The commands that name the connection which has an exclusive queue, and end it."""
    return (
        f"who holds it: rabbitmqctl list_queues -p {shlex.quote(vhost)} name owner_pid, the line {queue}; who that is: "
        "rabbitmqctl list_connections pid user peer_host client_properties; to end it: rabbitmqctl close_connection "
        "PID squatted"
    )


def raise_limit(vhost: str, limit: str) -> str:
    """The command that raises a limit of a virtual host."""
    again = f"rabbitmqctl set_vhost_limits -p {shlex.quote(vhost)} '{{\"{limit}\": NUMBER}}'"
    return f"raise it: {again} # replaces all limits that the vhost has"
