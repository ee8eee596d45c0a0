"""Reading a queue of which most goes back: the parking lot.

What is given back comes behind what was given back before and was not read since (measured on 3.10: a quorum queue
hands out returned messages first, in the order of their return). So whoever reads some of it must read all, or its
order is lost.
"""

from typing import Any

from pika.channel import Channel

from relay.amqp.session import OnMessage, Session
from relay.errors import Unavailable

READ_MAX = 65_535  # messages that one consumer can hold: the largest number that AMQP has for it

READ_MOST = 4 * READ_MAX  # messages of a queue that are read: others may publish into it as many as they like


def is_large(total: int) -> bool:
    """Does it take several consumers? Then nothing may be put in, nor acknowledged before all is there.

    Or they share what comes, and it goes back out of order (measured on 3.10).
    """
    return total > READ_MAX


async def read_some(session: Session, queue: str, channel: Channel, on_message: OnMessage, ahead: int) -> None:
    """Begin to read a queue whose order does not matter. From the main flow. Raises RelayError.

    Args:
        ahead: unacknowledged messages that we are handed, READ_MAX at most.
    """
    _listen(session, queue, channel)
    await session.call("asking for some of the queue", channel.basic_qos, prefetch_count=ahead)
    await session.consume(channel, queue, on_message)


async def read_all(session: Session, queue: str, channel: Channel, on_message: OnMessage, total: int) -> None:
    """Begin to read all that is in a queue. From the main flow. Raises RelayError.

    Args:
        total: messages that are there.
    """
    _listen(session, queue, channel)
    # Without a number a quorum queue stops at 2,000 unacknowledged messages.
    await session.call("asking for the whole queue", channel.basic_qos, prefetch_count=READ_MAX)
    if not is_large(total):
        await session.consume(channel, queue, on_message)
        return
    # RabbitMQ gives back what they hold in the order of their names. In one piece: were we killed after the first, what
    # that one holds would come behind the rest.
    read: Any = on_message  # pika's own decoder is not asked
    with session.corked():
        for number in range(-(-total // READ_MAX)):
            channel.basic_consume(queue, read, consumer_tag=f"relay.{number:04}")


def _listen(session: Session, queue: str, channel: Channel) -> None:
    channel.add_on_cancel_callback(
        lambda _frame: session.fail(Unavailable(f"RabbitMQ ended our reading: was queue {queue} deleted?"))
    )
