"""Who is at work: the lease, and the mark of who was the last. (All else that a receiver declares: queues.py.)"""

import re
import secrets
import shlex

from pika.channel import Channel

from relay.amqp.replies import ACCESS_REFUSED, RESOURCE_LOCKED, ChannelRefused
from relay.amqp.session import Session
from relay.amqp.topology import exclusive, hold, is_there, sorted_out
from relay.config import PREFETCH_MAX
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log

MESSAGE_LIVES = 5000  # milliseconds in a mark that is a quorum queue: longer nobody believes it
NAMES = 8  # of a mark that is a quorum queue

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


def holder_names(queue: str, *, in_cluster: bool) -> list[str]:
    """What the mark may be called.

    In a cluster one after another: a node that was down comes back with the Raft log of the queue that it knew, and one
    that was made anew meanwhile under the same name has no working leader then (seen on 3.10.8).
    """
    plain = holder_name(queue)
    return [plain, *(f"{plain}.{number}" for number in range(1, NAMES))] if in_cluster else [plain]


def fill_name(queue: str) -> str:
    """What a new queue is still to be filled with."""
    return f"{queue}.fill"


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


async def begin(session: Session, queue: str) -> None:
    """Become the only active receiver until the session ends; from then on it fails if we are not. Raises as `take`."""
    await take(session, queue)
    session.start(hold(session, lease_name(queue), auto_delete=False))


async def declared(session: Session, name: str, arguments: dict[str, object]) -> ChannelRefused | None:
    """Declare a durable queue; None = it is there. Raises as `Session.refusal`."""
    return await session.refusal(f"declaring {name}", Channel.queue_declare, name, durable=True, arguments=arguments)


class Holder:
    """The mark of this process: was another receiver at work since we were? (Why it holds: docs/architecture.md.)

    A durable queue for nothing but the number among its arguments: random, and then how many messages its owner, or one
    before it, may have held and given back. A message would not do: during an alarm none gets through.

    Args:
        in_cluster: it is a quorum queue, for a classic one is not to be had while its node is down; pulse.py sends
            messages over it. Else a classic one: a new quorum queue does not outlive a broker that is killed within
            seconds.
    """

    def __init__(self, *, in_cluster: bool = False) -> None:
        self._in_cluster = in_cluster
        self.name = ""  # what it is called
        self._mark = 0  # that RabbitMQ has confirmed; 0 = none
        self._warned = False
        self.widest = PREFETCH_MAX
        """Messages that have come back into the queue, at most. (Of a receiver without a mark nothing is known.)"""

    async def claim(self, session: Session, queue: str, window: int) -> bool:
        """Put our mark there. Return whether our last one was still there, so that nobody was at work since.

        With the lease, before anything is read, whatever for. From the main flow.

        Args:
            window: messages that we hold at most.

        Raises:
            ConfigError: another's mark can't be taken away: it would believe that we have done nothing.
            RelayError: as `Session.call`.
        """
        names = holder_names(queue, in_cluster=self._in_cluster)
        there = [name for name in names if await is_there(session, name)]
        if self._mark and there == [self.name] and not await self._declare(session, self.name, self._mark):
            return True
        if self._mark:
            _log.info("another receiver may have been at work since: what was delivered before is not taken for known")
        # None from here on, until RabbitMQ has said that the new one is there: whatever breaks, nothing is kept.
        self._mark, self.widest = 0, window
        for name in there:
            other = _widest(await self._declare(session, name, 0))
            await _remove(session, name, is_mark=self._in_cluster and other > 0)
            self.widest = max(self.widest, other)
        self.name = _next(names, there)
        mark = (secrets.randbelow(1 << 39) + 1) * _WIDTHS + self.widest
        refused = await self._declare(session, self.name, mark)
        if refused and await is_there(session, self.name):  # a dead receiver's last step came in between
            raise Unavailable(f"queue {self.name}: {refused.what}")
        if refused and self._in_cluster:
            raise sorted_out(refused, f"queue {self.name}")
        if refused:
            self._warn(refused, self.name)  # without a mark nobody keeps a memory: events can come twice, in order
        else:
            self._mark = mark
        return False

    async def _declare(self, session: Session, name: str, mark: int) -> ChannelRefused | None:
        kind, lives = ("quorum", MESSAGE_LIVES) if self._in_cluster else ("classic", 0)
        arguments: dict[str, object] = {"x-queue-type": kind, "x-max-length": mark, "x-message-ttl": lives}
        return await declared(session, name, arguments)

    def _warn(self, refused: ChannelRefused, name: str) -> None:
        if not self._warned:
            detail = f"{refused.detail} -> {refused.remedy}" if refused.remedy else refused.detail
            _log.warning(f"without queue {name} a lost connection repeats events: {detail}")
        self._warned = True


def _next(names: list[str], there: list[str]) -> str:
    """The one after those that were there; without any, one of them: whose turn it is, nobody knows. Pure."""
    last = names.index(there[-1]) if there else secrets.randbelow(len(names))
    return names[(last + 1) % len(names)]


_WIDTHS = 1 << 14  # more than PREFETCH_MAX


def _widest(other: ChannelRefused | None) -> int:
    """What another's mark says of it, by RabbitMQ's refusal to take it for ours; 0 = there is none."""
    told = re.search(r" but current is (?:the value )?'(\d+)'", other.detail) if other else None
    return min(int(told[1]) % _WIDTHS, PREFETCH_MAX) if told else 0


async def _remove(session: Session, name: str, *, is_mark: bool) -> None:
    """Take another's mark away. What is not known to be one, and has messages, is not ours to delete.

    They are counted beforehand, for RabbitMQ closes the connection that has a quorum queue deleted `if_empty`.
    """
    found, _ = await session.asked(f"looking into {name}", Channel.queue_declare, name, passive=True)
    if found and not is_mark and (count := found.method.message_count):
        remedy = f"move its messages away, then rabbitmqctl delete_queue -p {session.vhost} {shlex.quote(name)}"
        raise ConfigError((f"queue {name} is not a receiver's mark: {count} messages are in it", remedy))
    refused = await session.refusal(f"deleting {name}", Channel.queue_delete, name)
    if refused and refused.code == ACCESS_REFUSED:
        detail = f"no permission to replace queue {name}, the last receiver's mark: {refused.detail}"
        raise ConfigError((detail, refused.remedy))
    if refused:
        raise sorted_out(refused, f"queue {name}")
