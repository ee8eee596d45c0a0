"""What a receiver declares: the lease, its mark, its exchange, its queues and bindings.

Nothing that exists is ever changed, but for the mark.
"""

import secrets
from collections.abc import Callable

from pika.channel import Channel

from relay.config import Receive
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log
from relay.wire import ACCESS_REFUSED, Refused, Wire

# Quorum queues of RabbitMQ 4 lose a message after 20 returns unless told otherwise; -1 loses it at once on 3.10.
DELIVERY_LIMIT = 1_000_000
# Each pass through the waiting room, and so each closed channel, counts for every event that stays there (measured on
# 3.10). At two passes a second the limit above would drop a refused event after six days; this one after 16 years.
ROOM_DELIVERY_LIMIT = 1_000_000_000
NOT_FOUND, PRECONDITION_FAILED = 404, 406  # AMQP 0-9-1 reply codes

_log = Log("receiver")


def lease_name(queue: str) -> str:
    """The exclusive queue that makes its declarer the only active receiver of `queue`."""
    return f"{queue}.lease"


def parked_name(queue: str) -> str:
    """The waiting room."""
    return f"{queue}.parked"


def control_name(queue: str) -> str:
    """Where commands for the running receiver go."""
    return f"{queue}.control"


def holder_name(queue: str) -> str:
    """Which receiver was the last one at work."""
    return f"{queue}.holder"


def take(wire: Wire, queue: str) -> None:
    """Become the only active receiver, for as long as this connection lives.

    Raises:
        Standby: another one is.
        RelayError: anything else.
    """
    channel, lease = wire.open_channel(), lease_name(queue)
    try:
        wire.ask(lambda cb: channel.queue_declare(lease, exclusive=True, callback=cb), f"taking {lease}")
    except Refused as error:
        if error.code == 405:
            raise Standby(f"another receiver is at work on queue {queue}") from None
        raise _sorted(error, f"queue {lease}") from None


class Holder:
    """The mark of this process: was another receiver at work since we were? (Why it holds: docs/architecture.md.)

    A durable queue for nothing but the random number among its arguments. A message would not do: during an alarm none
    gets through.
    """

    def __init__(self) -> None:
        self._mark = 0  # that RabbitMQ has confirmed; 0 = none
        self._warned = False

    def claim(self, wire: Wire, queue: str) -> bool:
        """Put our mark there. Return whether our last one was still there, so that nobody was at work since.

        With the lease, before anything is read, whatever for. From the main flow.

        Raises:
            ConfigError: another's mark can't be taken away: it would believe that we have done nothing.
            RelayError: as `Wire.ask`.
        """
        name = holder_name(queue)
        there = _is_there(wire, name)
        if there and self._mark and not _declare_mark(wire, name, self._mark):
            return True
        if self._mark:
            _log.info("another receiver may have been at work since: what was delivered before is not taken for known")
        # None from here on, until RabbitMQ has said that the new one is there: whatever breaks, nothing is kept.
        self._mark = 0
        refused = there and wire.refusal(
            lambda channel, cb: channel.queue_delete(name, if_empty=True, callback=cb), f"deleting {name}"
        )
        if refused:
            raise _not_ours(refused, name)
        mark = secrets.randbelow(1 << 53) + 1
        refused = _declare_mark(wire, name, mark)
        if refused and _is_there(wire, name):  # a dead receiver's last step came in between
            raise Unavailable(f"queue {name}: {refused.what}")
        if refused:
            self._warn(refused, name)  # without a mark nobody keeps a memory: events can come twice, in order
        else:
            self._mark = mark
        return False

    def _warn(self, refused: Refused, name: str) -> None:
        if not self._warned:
            said = f"{refused.said} -> {refused.remedy}" if refused.remedy else refused.said
            _log.warning(f"without queue {name} a lost connection repeats events: {said}")
        self._warned = True


def _is_there(wire: Wire, name: str) -> bool:
    refused = wire.refusal(
        lambda channel, cb: channel.queue_declare(name, passive=True, callback=cb), f"looking at {name}"
    )
    return not refused or refused.code != NOT_FOUND


def _declare_mark(wire: Wire, name: str, mark: int) -> Refused | None:
    # Classic, since a new quorum queue does not outlive a broker that is killed within seconds. No message stays in it,
    # so that what does is not ours to delete.
    arguments = {"x-queue-type": "classic", "x-max-length": mark, "x-message-ttl": 0}

    def call(channel: Channel, callback: Callable[..., None]) -> None:
        channel.queue_declare(name, durable=True, arguments=arguments, callback=callback)

    return wire.refusal(call, f"declaring {name}")


def declare(wire: Wire, config: Receive) -> None:
    """Declare exchange, queue, bindings and waiting room.

    Raises:
        ConfigError: one of them exists with other arguments, or we have no permission.
    """
    _declare_exchange(wire, config)
    channel = wire.open_channel()
    queue, exchange = config.queue, config.exchange
    queues = {queue: config.queue_type}
    if config.order != "global":
        queues[parked_name(queue)] = "quorum"

    def step(what: str, call: Callable[[Callable[..., None]], object]) -> None:
        try:
            wire.ask(call, f"declaring {what}")
        except Refused as error:
            raise _sorted(error, what) from None

    def declare_queue(name: str, queue_type: str) -> None:
        arguments = queue_arguments(queue_type)
        if name == parked_name(queue):
            arguments["x-delivery-limit"] = ROOM_DELIVERY_LIMIT
        step(f"queue {name}", lambda cb: channel.queue_declare(name, durable=True, arguments=arguments, callback=cb))

    def bind(key: str) -> None:
        step(f"binding {queue} to {exchange}", lambda cb: channel.queue_bind(queue, exchange, key, callback=cb))

    for name, queue_type in queues.items():
        declare_queue(name, queue_type)
    for key in config.binding_keys:
        bind(key)
    wire.close_channel(channel)


def _declare_exchange(wire: Wire, config: Receive) -> None:
    """As topology.Setup.exchange: RabbitMQ compares the type only for who may configure the exchange."""
    name, kind = config.exchange, config.exchange_type
    refused = wire.refusal(
        lambda channel, cb: channel.exchange_declare(name, kind, durable=True, callback=cb), f"declaring {name}"
    )
    if refused and refused.code == ACCESS_REFUSED:
        missing = wire.refusal(
            lambda channel, cb: channel.exchange_declare(name, passive=True, callback=cb), f"looking for {name}"
        )
        refused = refused if missing else None
    if refused:
        raise _sorted(refused, f"exchange {name}")


def queue_arguments(kind: str) -> dict[str, object]:
    """The arguments of a queue of ours."""
    if kind == "classic":
        return {"x-queue-type": "classic"}
    return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}


def _not_ours(error: Refused, name: str) -> ConfigError | Unavailable:
    """What it means that another's mark stays."""
    if error.code == ACCESS_REFUSED:
        said = f"no permission to replace queue {name}, the last receiver's mark: {error.said}"
        return ConfigError((said, error.remedy))
    if error.code == PRECONDITION_FAILED:
        remedy = f"move its messages away, then rabbitmqctl delete_queue -p VHOST {name}"
        return ConfigError((f"queue {name} is not a receiver's mark: {error.said}", remedy))
    return Unavailable(f"queue {name}: {error.what}")


def _sorted(error: Refused, what: str) -> ConfigError | Unavailable:
    """What a refusal means for whoever runs us."""
    if error.code == 406:
        remedy = "set QUEUE_TYPE (or EXCHANGE_TYPE) as it exists, or empty and delete the old one, then start again"
        return ConfigError((f"{what} exists with other arguments: {error.said}", remedy))
    if error.code == ACCESS_REFUSED:
        return ConfigError((f"no permission for {what}: {error.said}", error.remedy))
    return Unavailable(f"{what}: {error.what}")
