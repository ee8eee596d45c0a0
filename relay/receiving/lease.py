"""Who is at work: the lease, and the mark of who was the last. (All else that a receiver declares: queues.py.)"""

import secrets
import shlex

from pika.channel import Channel

from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED
from relay.amqp.session import ChannelRefused, Session
from relay.amqp.topology import exclusive, looked, sorted_out
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log

_log = Log("receiver")


def lease_name(queue: str) -> str:
    """The exclusive queue that makes its declarer the only active receiver of `queue`."""
    return f"{queue}.lease"


def parked_name(queue: str) -> str:
    """The parking lot."""
    return f"{queue}.parked"


def control_name(queue: str) -> str:
    """Where commands for the running receiver go."""
    return f"{queue}.control"


def holder_name(queue: str) -> str:
    """Which receiver was the last one at work."""
    return f"{queue}.holder"


async def take(session: Session, queue: str) -> None:
    """Become the only active receiver, for as long as this connection lives; or make sure that we still are.

    Raises:
        Standby: another one is.
        RelayError: anything else.
    """
    lease = lease_name(queue)
    refused = await exclusive(session, lease)
    if refused and refused.code == RESOURCE_LOCKED:
        raise Standby(f"another receiver is at work on queue {queue}")
    if refused:
        raise sorted_out(refused, f"queue {lease}")


async def declared(session: Session, name: str, arguments: dict[str, object]) -> ChannelRefused | None:
    """Declare a durable queue; None = it is there. Raises as `Session.refusal`."""
    return await session.refusal(f"declaring {name}", Channel.queue_declare, name, durable=True, arguments=arguments)


class Holder:
    """The mark of this process: was another receiver at work since we were? (Why it holds: docs/architecture.md.)

    A durable queue for nothing but the random number among its arguments. A message would not do: during an alarm none
    gets through.
    """

    def __init__(self) -> None:
        self._mark = 0  # that RabbitMQ has confirmed; 0 = none
        self._warned = False

    async def claim(self, session: Session, queue: str) -> bool:
        """Put our mark there. Return whether our last one was still there, so that nobody was at work since.

        With the lease, before anything is read, whatever for. From the main flow.

        Raises:
            ConfigError: another's mark can't be taken away: it would believe that we have done nothing.
            RelayError: as `Session.call`.
        """
        name = holder_name(queue)
        there = await _is_there(session, name)
        if there and self._mark and not await _declare_mark(session, name, self._mark):
            return True
        if self._mark:
            _log.info("another receiver may have been at work since: what was delivered before is not taken for known")
        # None from here on, until RabbitMQ has said that the new one is there: whatever breaks, nothing is kept.
        self._mark = 0
        if there:
            refused = await session.refusal(f"deleting {name}", Channel.queue_delete, name, if_empty=True)
            if refused:
                raise _not_ours(refused, name, session.vhost)
        mark = secrets.randbelow(1 << 53) + 1
        refused = await _declare_mark(session, name, mark)
        if refused and await _is_there(session, name):  # a dead receiver's last step came in between
            raise Unavailable(f"queue {name}: {refused.what}")
        if refused:
            self._warn(refused, name)  # without a mark nobody keeps a memory: events can come twice, in order
        else:
            self._mark = mark
        return False

    def _warn(self, refused: ChannelRefused, name: str) -> None:
        if not self._warned:
            detail = f"{refused.detail} -> {refused.remedy}" if refused.remedy else refused.detail
            _log.warning(f"without queue {name} a lost connection repeats events: {detail}")
        self._warned = True


async def _is_there(session: Session, name: str) -> bool:
    refused = await looked(session, name)
    return not refused or refused.code != NOT_FOUND


async def _declare_mark(session: Session, name: str, mark: int) -> ChannelRefused | None:
    # Classic, since a new quorum queue does not outlive a broker that is killed within seconds. No message stays in it,
    # so that what does is not ours to delete.
    arguments: dict[str, object] = {"x-queue-type": "classic", "x-max-length": mark, "x-message-ttl": 0}
    return await declared(session, name, arguments)


def _not_ours(error: ChannelRefused, name: str, vhost: str) -> ConfigError | Unavailable:
    """What it means that another's mark stays."""
    if error.code == ACCESS_REFUSED:
        detail = f"no permission to replace queue {name}, the last receiver's mark: {error.detail}"
        return ConfigError((detail, error.remedy))
    if error.code == PRECONDITION_FAILED:
        remedy = f"move its messages away, then rabbitmqctl delete_queue -p {vhost} {shlex.quote(name)}"
        return ConfigError((f"queue {name} is not a receiver's mark: {error.detail}", remedy))
    return Unavailable(f"queue {name}: {error.what}")
