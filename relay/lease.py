"""What a receiver declares: the lease, its exchange, its queues and bindings. Nothing that exists is ever changed."""

from collections.abc import Callable

from relay.config import Receive
from relay.errors import ConfigError, Standby, Unavailable
from relay.wire import ACCESS_REFUSED, Refused, Wire

# Quorum queues of RabbitMQ 4 lose a message after 20 returns unless told otherwise; -1 loses it at once on 3.10.
DELIVERY_LIMIT = 1_000_000
# Each pass through the waiting room, and so each closed channel, counts for every event that stays there (measured on
# 3.10). At two passes a second the limit above would drop a refused event after six days; this one after 16 years.
ROOM_DELIVERY_LIMIT = 1_000_000_000


def lease_name(queue: str) -> str:
    """The exclusive queue that makes its declarer the only active receiver of `queue`."""
    return f"{queue}.lease"


def parked_name(queue: str) -> str:
    """The waiting room."""
    return f"{queue}.parked"


def control_name(queue: str) -> str:
    """Where commands for the running receiver go."""
    return f"{queue}.control"


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


def _sorted(error: Refused, what: str) -> ConfigError | Unavailable:
    """What a refusal means for whoever runs us."""
    if error.code == 406:
        remedy = "set QUEUE_TYPE (or EXCHANGE_TYPE) as it exists, or empty and delete the old one, then start again"
        return ConfigError((f"{what} exists with other arguments: {error.said}", remedy))
    if error.code == ACCESS_REFUSED:
        return ConfigError((f"no permission for {what}: {error.said}", error.remedy))
    return Unavailable(f"{what}: {error.what}")
