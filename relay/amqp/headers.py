"""The headers of our messages, beside AMQP's own properties: what listen.py writes and receiver.py reads."""

KEY = "relay-key"
SEQ = "relay-seq"  # the event's number in its outbox: greater for a later change of the row
TABLE = "relay-table"
DELIVERY_COUNT = "x-delivery-count"  # RabbitMQ's: how often a quorum queue has given it out
OWN = {SEQ, KEY, TABLE, DELIVERY_COUNT}
