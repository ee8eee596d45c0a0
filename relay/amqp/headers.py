"""The headers of our messages, beside AMQP's own properties: what listen.py writes and receiver.py reads."""

import zlib

KEY = "relay-key"
SLOT = "relay-slot"  # of the key, 00 to 31: by it RabbitMQ chooses one of several receivers' queues
SEQ = "relay-seq"  # the event's number in its outbox: greater for a later change of the row
TABLE = "relay-table"
TOPIC = "relay-topic"  # of an event for one queue, whose name is its routing key
DELIVERY_COUNT = "x-delivery-count"  # RabbitMQ's: how often a quorum queue has given it out
OWN = {SEQ, KEY, SLOT, TABLE, TOPIC, DELIVERY_COUNT}

SLOTS = tuple(f"{number:02}" for number in range(32))
"""All that there are. (What decides must not change: keys would go to other queues than before.)"""


def slot(key: bytes) -> str:
    """Where a key belongs. `key`: in UTF-8."""
    return SLOTS[zlib.crc32(key) % len(SLOTS)]
