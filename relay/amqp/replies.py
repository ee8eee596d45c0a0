"""AMQP's reply codes, and how a command asks for what RabbitMQ may refuse. (The daemons: wire.py, topology.py.)"""

from collections.abc import Callable

import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

# AMQP 0-9-1, 1.1
ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406
CONNECTION_FORCED, NOT_ALLOWED = 320, 530


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
