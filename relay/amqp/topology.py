"""What must stand in RabbitMQ before work begins: the exchange, the lease, the required queues."""

import asyncio
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from pika.channel import Channel

from relay.amqp.replies import (
    ACCESS_REFUSED,
    CONNECTION_FORCED,
    NOT_ALLOWED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelRefused,
)
from relay.amqp.session import Session
from relay.errors import ConfigError, Ousted, RelayError, Standby, Unavailable

OTHER_EXCHANGE = "set EXCHANGE_TYPE to what it is, EXCHANGE to another name, or delete the old exchange"
TWO_HOLDERS = "RabbitMQ had forgotten it, as when a node of its cluster goes down; or somebody has deleted the queue"
HOLD_EVERY = 1.0  # seconds between two looks at our lease
ALARM_LASTS = 1e9  # seconds: of a connection that publishes RabbitMQ reads nothing while there is an alarm
NO_QUEUE = "start its receiver, or take it out of REQUIRED_QUEUES"


async def take_lease(session: Session, channel: Channel, name: str) -> None:
    """Declare the exclusive queue that only one connection can hold; it falls with the connection.

    RabbitMQ refuses it elsewhere with 405, so the broker itself fences: nothing of a former holder can arrive
    after its connection is gone.

    Raises:
        Standby: another connection holds it.
        ConfigError: it can't be had at all.
        Unavailable: as `Session.call`.
    """
    try:
        await session.call(f"take the lease {name}", channel.queue_declare, name, exclusive=True, auto_delete=True)
    except ChannelRefused as refused:
        if refused.code == RESOURCE_LOCKED:
            raise Standby(f"another process holds the lease {name}") from None
        remedy = refused.remedy or f"delete the queue {name}"
        raise ConfigError((f"the lease {name} can't be taken: {refused.detail}", remedy)) from None


async def hold(session: Session, name: str, *, auto_delete: bool) -> None:
    """Have a lease that was taken until the session ends: declared again, and made again where RabbitMQ has lost it.

    It deletes by name. When a node of a cluster goes down, each other one deletes the exclusive queues that were there;
    one that is late deletes what somebody declared anew meanwhile, and that one's process goes on without an entry.
    Then there are two holders, and each of them takes the other one's lease away when its connection ends.

    Raises:
        Ousted: another connection has it.
        RelayError: as `take_lease`.
    """
    channel = await session.open_channel()
    while True:
        await asyncio.sleep(HOLD_EVERY)
        try:
            await session.call(
                f"hold the lease {name}", channel.queue_declare, name,
                exclusive=True, auto_delete=auto_delete, patience=ALARM_LASTS,
            )  # fmt: skip
        except ChannelRefused as refused:
            if refused.code == RESOURCE_LOCKED:
                raise Ousted(f"another process has got our lease {name}", TWO_HOLDERS) from None
            raise sorted_out(refused, f"the lease {name}") from None


DEFAULT_EXCHANGE = "'amq.default'"  # as RabbitMQ calls it where it refuses it


async def exclusive(
    session: Session, name: str, *, auto_delete: bool = False, limits: Mapping[str, int] | None = None
) -> ChannelRefused | None:
    """Declare a queue that falls with our connection. RESOURCE_LOCKED: another connection has it.

    Args:
        limits: what it may hold, as RabbitMQ calls it; then the oldest message goes.

    Raises:
        ConfigError: a queue that is nobody's alone is in its place, and would be for ever.
    """
    refused = await session.refusal(
        f"declaring {name}", Channel.queue_declare, name,
        exclusive=True, auto_delete=auto_delete, arguments=dict(limits or {}),
    )  # fmt: skip
    if refused and refused.code == RESOURCE_LOCKED and not await looked(session, name):
        remedy = f"look what is in it, then rabbitmqctl delete_queue -p {session.vhost} {shlex.quote(name)}"
        raise ConfigError((f"a queue {name} that is not exclusive is in the place of ours", remedy))
    return refused


async def looked(session: Session, name: str) -> ChannelRefused | None:
    """Look whether a queue is there; None = it is. Raises as `Session.refusal`."""
    return await session.refusal(f"looking at {name}", Channel.queue_declare, name, passive=True)


async def is_there(session: Session, name: str) -> bool:
    """Is there such a queue, whether we may use it or not? Raises as `Session.refusal`."""
    refused = await looked(session, name)
    return not refused or refused.code != NOT_FOUND


async def is_held(session: Session, name: str) -> bool:
    """Does another connection have this exclusive queue? Raises as `Session.refusal`."""
    refused = await looked(session, name)
    return refused is not None and refused.code == RESOURCE_LOCKED


async def declare_exchange(session: Session, name: str, kind: str) -> None:
    """Declare the durable exchange.

    RabbitMQ asks for the right to configure it before it looks whether it exists, and compares its type only then:
    without that right one that exists is taken as it is.

    Raises:
        ConfigError: it exists and is another kind of exchange; or it does not, and we may not make it.
        Unavailable: as `Session.call`.
    """
    refused = await session.refusal(f"declare exchange {name}", Channel.exchange_declare, name, kind, durable=True)
    if refused and refused.code == ACCESS_REFUSED:
        missing = await session.refusal(f"look for exchange {name}", Channel.exchange_declare, name, passive=True)
        refused = refused if missing else None
    if refused:
        remedy = OTHER_EXCHANGE if refused.code == PRECONDITION_FAILED else session.rights
        raise ConfigError((f"exchange {name} can't be used: {refused.detail}", remedy))


async def require_queue(session: Session, name: str) -> None:
    """Make sure that a queue exists.

    Raises:
        Unavailable: it does not, or can't be seen.
    """
    if refused := await looked(session, name):
        raise Unavailable(f"required queue {name} is missing: {refused.detail}", NO_QUEUE)


async def confirms(session: Session, channel: Channel, on_confirm: Callable[[Any], None]) -> None:
    """Switch publisher confirms on."""
    await session.call("switch publisher confirms on", channel.confirm_delivery, on_confirm)


def sorted_out(error: ChannelRefused, what: str, remedy: str = "") -> ConfigError | Unavailable:
    """What a refusal means for whoever runs us, in RabbitMQ's words.

    Args:
        what: the thing that can't be had.
        remedy: what to do if it exists with other arguments.
    """
    if error.code == PRECONDITION_FAILED and "inequivalent arg" in error.detail:
        return ConfigError((f"{what} exists with other arguments: {error.detail}", remedy))
    if error.code == PRECONDITION_FAILED:
        return ConfigError((f"{what} can't be declared: {error.detail}", error.remedy))
    if error.code == ACCESS_REFUSED:
        return ConfigError((f"no permission for {what}: {error.detail}", error.remedy))
    if error.code == RESOURCE_LOCKED:
        return Unavailable(f"{what} is another connection's alone while that lives: {error.detail}", error.remedy)
    return Unavailable(f"{what}: {error.what}")


def unexpected(code: int, text: str) -> RelayError:
    """The error for a channel or connection that closed without a reason of ours."""
    return Unavailable(f"RabbitMQ closed the channel or the connection: {f'{code} ' if code else ''}{text}")


def concerns_all(code: int, text: str) -> bool:
    """Is what closed the channel or the connection known to have nothing to do with one event more than with others?

    An administrator's or the node's end of connections; the exchange or the right to it is gone. (The right to a topic
    is another matter: RabbitMQ gives it by routing key.)
    """
    of_topic = code == ACCESS_REFUSED and "access to topic" in text
    return code in (CONNECTION_FORCED, NOT_FOUND, ACCESS_REFUSED, NOT_ALLOWED) and not of_topic
