"""The queues of a generation behind their exchange: each has its share of the slots.

A headers exchange gives each event to the queue to which its key's slot is bound. Not x-consistent-hash: when RabbitMQ
starts, it makes that one's bindings again from several processes at once, so in another order, and keys go elsewhere
(measured on 3.10 and 4.0: of twelve queues eleven had other keys after a restart). What has no slot goes to the first.

A binding that was lost is not made again alone: the events of its keys were in the first lane meanwhile, and would be
overtaken.
"""

from collections.abc import AsyncIterator

from pika.channel import Channel

from relay.amqp.headers import SLOT, SLOTS
from relay.amqp.replies import NOT_FOUND
from relay.amqp.session import Session
from relay.amqp.topology import is_there, sorted_out
from relay.config import Receive
from relay.errors import ConfigError
from relay.receiving.lanes.names import Generation
from relay.receiving.lease import declared, fill_name, holder_name, parked_name
from relay.receiving.queues import ROOM_DELIVERY_LIMIT, queue_arguments


async def make(session: Session, config: Receive, generation: Generation) -> None:
    """Make what is missing of a generation, all of it in the order of the names. From the main flow.

    Nothing goes there before `bind`.

    Raises:
        ConfigError: RabbitMQ has no such exchange; something is there with other arguments; there is no right to it.
        RelayError: as `Session.call`.
    """
    room = queue_arguments("quorum") | {"x-delivery-limit": ROOM_DELIVERY_LIMIT}
    kind = queue_arguments(config.queue_type) if not generation.number else queue_arguments("quorum")
    for queue in generation.queues:
        await _queue(session, queue, kind)
        await _queue(session, parked_name(queue), room)
    if not generation.number:
        return
    await _exchange(session, generation.rest, "fanout", {})
    await _bind(session, generation.queues[0], generation.rest, {})
    await _exchange(session, generation.exchange, "headers", {"alternate-exchange": generation.rest})
    for slot in SLOTS:
        queue = generation.queues[generation.lane_of(slot)]
        await _bind(session, queue, generation.exchange, {"x-match": "all", SLOT: slot})


async def _queue(session: Session, name: str, arguments: dict[str, object]) -> None:
    if refused := await declared(session, name, arguments):
        remedy = f"look what is in it, then rabbitmqctl delete_queue -p {session.vhost} {name}"
        raise sorted_out(refused, f"queue {name}", remedy)


async def _exchange(session: Session, name: str, kind: str, arguments: dict[str, object]) -> None:
    refused = await session.refusal(
        f"declaring {name}", Channel.exchange_declare, name, kind, durable=True, arguments=arguments
    )
    if refused:
        raise sorted_out(refused, f"exchange {name}", f"delete the exchange {name}")


async def _bind(session: Session, queue: str, exchange: str, arguments: dict[str, object]) -> None:
    what = f"binding {queue} to {exchange}"
    refused = await session.refusal(what, Channel.queue_bind, queue, exchange, "", arguments=arguments)
    if refused:
        raise sorted_out(refused, what)


async def bind(session: Session, config: Receive, generation: Generation) -> None:
    """Let events go there, by BINDING_KEYS; once more does nothing. From the main flow. Raises RelayError."""
    for key in config.binding_keys:
        source, what = config.exchange, f"binding {generation} to {config.exchange} by {key}"
        if generation.number:
            refused = await session.refusal(what, Channel.exchange_bind, generation.exchange, source, key)
        else:
            refused = await session.refusal(what, Channel.queue_bind, generation.base, source, key)
        if refused:
            raise sorted_out(refused, what)


async def unbind(session: Session, config: Receive, generation: Generation) -> None:
    """Let no events go there any more; once more does nothing. From the main flow. Raises RelayError."""
    if generation.number:
        # With the exchange go all its bindings, at once, whatever keys they have.
        await _no_exchange(session, generation.exchange)
        return
    for key in config.binding_keys:
        what = f"unbinding {generation.base} from {config.exchange}"
        refused = await session.refusal(what, Channel.queue_unbind, generation.base, config.exchange, key)
        if refused and refused.code != NOT_FOUND:
            raise sorted_out(refused, what)


async def remove(session: Session, generation: Generation) -> None:
    """Delete all of a generation, with whatever is in it. From the main flow. Raises RelayError."""
    if generation.number:
        for exchange in (generation.exchange, generation.rest):
            await _no_exchange(session, exchange)
    for queue in generation.queues:
        for name in (queue, parked_name(queue), holder_name(queue), fill_name(queue)):
            await no_queue(session, name)
    if generation.number:
        await no_queue(session, generation.mark)


async def no_queue(session: Session, name: str) -> None:
    """Delete a queue, if it is there. From the main flow. Raises RelayError."""
    if not await is_there(session, name):
        return  # also without the right to delete it
    refused = await session.refusal(f"deleting {name}", Channel.queue_delete, name)
    if refused and refused.code != NOT_FOUND:
        raise sorted_out(refused, f"queue {name}")


async def _no_exchange(session: Session, name: str) -> None:
    refused = await session.refusal(f"deleting {name}", Channel.exchange_delete, name)
    if refused and refused.code != NOT_FOUND:
        raise sorted_out(refused, f"exchange {name}")


async def missing(session: Session, generation: Generation) -> AsyncIterator[str]:
    """What of a generation is not there. From the main flow. Raises Unavailable as `Session.refusal`."""
    if generation.number:
        for name in (generation.exchange, generation.rest):
            refused = await session.refusal(f"looking at {name}", Channel.exchange_declare, name, passive=True)
            if refused and refused.code == NOT_FOUND:
                yield f"exchange {name}"
    for queue in generation.queues:
        if not await is_there(session, queue):
            yield f"queue {queue}"
    if generation.number and await is_there(session, generation.mark):
        yield f"a binding of exchange {generation.exchange} ({generation.mark} says so)"


async def mark(session: Session, generation: Generation) -> None:
    """A key went to another lane than before: let all lanes know. From the main flow. Raises RelayError."""
    await _queue(session, generation.mark, {"x-queue-type": "classic"})


def broken(generation: Generation, lost: str) -> ConfigError:
    """A lane is not what it was: which keys have gone elsewhere, nobody can tell."""
    remedy = f"receiver.py lanes --to {generation.lanes} makes new lanes, and has these emptied first"
    return ConfigError((f"{lost} is missing: the lanes of {generation.base} keep no order any more", remedy))
