"""Before a queue is read: is it ours alone, and is what RabbitMQ says of it true?

We hold the lease, so a consumer that is still there belongs to a dead receiver: its lease falls a moment before its
messages come back. Reading earlier, we would miss them, or get later ones before them.
"""

import asyncio
import collections
import enum
import time
from collections.abc import Awaitable, Callable

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay.amqp import single
from relay.amqp.decode import Properties
from relay.amqp.replies import ChannelRefused
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.daemon import in_thread
from relay.errors import Unavailable

PROBE = "relay.probe"  # type of a message that means nothing: whoever reads it acknowledges it
FREE_SECONDS, FREE_PAUSE = 20.0, 0.02  # until we give up that a queue becomes free, and between two looks
PROBES_MAX = 2  # of one process that wait in a queue, behind other messages: reconnecting must not fill it with them
PROBE_PAUSE = 1.0  # seconds between two probes, while the queue refuses them
STEADY_SECONDS = 5.0  # of "nobody consumes it", until a queue that can't be probed is believed
HINT = "stop it: order is kept only with one consumer"


class Probe(enum.Enum):
    """What became of a message that means nothing."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"  # the queue has no leader; or it is full, and a policy says reject-publish
    BLOCKED = "blocked"  # the broker has an alarm


class Decision(enum.Enum):
    """May the queue be read?"""

    WAIT = "wait"
    FREE = "free"


def seems_free(consumers: int, messages: int, probe: Probe | None) -> bool:
    """Does RabbitMQ say that nobody reads the queue, so that it can be true?"""
    # With the probe in it, or full, "no messages" is no answer.
    return not consumers and (messages > 0 or probe not in (Probe.CONFIRMED, Probe.REFUSED))


def decide(
    consumers: int, messages: int, probe: Probe | None, *, trusted: bool, certain: bool, free_for: float
) -> Decision:
    """May the queue be read, by what RabbitMQ has just said of it? Pure.

    Args:
        probe: what became of the last one; None = none was sent.
        trusted: it has confirmed a probe on this connection.
        certain: what died together with the broker counts, too.
        free_for: seconds for which it has seemed free.
    """
    if not seems_free(consumers, messages, probe):
        return Decision.WAIT
    return Decision.FREE if trusted or not certain or free_for > STEADY_SECONDS else Decision.WAIT


class Fence:
    """Asked before a queue is read, on one connection.

    Args:
        another: opens one more connection. Raises RelayError.
        probes: by queue, the probes of this process that may be in it; shared with the connections before and after.
        why: of a queue that is consumed: is it by a node that is down? None = not known to be. It blocks.
    """

    def __init__(
        self,
        session: Session,
        another: Callable[[], Awaitable[Connection]],
        probes: collections.Counter[str],
        why: Callable[[str], Unavailable | None] = lambda _queue: None,
    ) -> None:
        self._session = session
        self._another = another
        self._probes = probes
        self._why = why
        self._trusted: set[str] = set()  # queues whose counts are of now: see `probe`
        self._filled: set[str] = set()  # that held something when they were looked at last
        self._has_alarm = False  # by the last probe: nothing can be asked to confirm a message

    async def await_no_consumer(self, queue: str, *, certain: bool = True) -> int:
        """Wait until nobody consumes `queue`; return how many messages are in it. From the main flow.

        `certain`: the queue is going to be read, so that what died together with the broker counts, too: see `probe`.

        Raises:
            Unavailable: somebody else consumes it.
        """
        channel, until = await self._session.open_channel(), time.monotonic() + FREE_SECONDS
        probe: Probe | None = None
        probe_at = free_since = time.monotonic()
        consumers = messages = 0
        while (now := time.monotonic()) < until:
            if certain and now >= probe_at and probe is not Probe.BLOCKED and self._wants_probe(queue):
                probe, probe_at = await self.probe(queue), now + PROBE_PAUSE
                self._has_alarm = probe is Probe.BLOCKED
            consumers, messages = await self._look_at(channel, queue)
            if not (consumers or messages):
                self._probes[queue] = 0  # purged; or the queue does not work yet, and must be asked
                if not self._has_alarm:  # or its leader has no time: it takes back what somebody held
                    self._trusted -= self._filled & {queue}
                self._filled.discard(queue)
            if not seems_free(consumers, messages, probe):
                free_since = now
            trusted = queue in self._trusted
            decided = decide(consumers, messages, probe, trusted=trusted, certain=certain, free_for=now - free_since)
            if decided is Decision.FREE:
                if certain:
                    self._trusted.add(queue)
                if probe is Probe.CONFIRMED and messages == 1 and await self._take_probe(queue):
                    messages = 0
                await self._session.close_channel(channel)
                self._filled |= {queue} if messages else set()
                return messages
            await asyncio.sleep(FREE_PAUSE)
        raise await self._held(queue, consumers)

    async def _held(self, queue: str, consumers: int) -> Unavailable:
        if not consumers:
            return Unavailable(
                f"queue {queue} does not work", "rabbitmq-queues quorum_status shows if it has no leader"
            )
        return await in_thread(lambda: self._why(queue)) or Unavailable(
            f"another program consumes queue {queue}",
            f"rabbitmqctl list_consumers shows whose connection it is; {HINT}",
        )

    def distrust(self, queue: str) -> None:
        """Its counts are strange: let it confirm a message again before they are believed (a leader may be missing)."""
        self._trusted.discard(queue)

    def is_probe(self, queue: str, properties: Properties | BasicProperties, body: bytes) -> bool:
        """Does a message that was read from `queue` mean nothing?"""
        if properties.type != PROBE or body:
            return False
        self._probes[queue] = max(0, self._probes[queue] - 1)
        return True

    def probes_in(self, queue: str) -> int:
        """Messages of `queue` that mean nothing, as far as this process knows."""
        return self._probes[queue]

    def have_read_all(self, queue: str) -> None:
        """No probe is left in it."""
        self._probes[queue] = 0

    async def count(self, queue: str) -> tuple[int, int]:
        """Messages of a queue that are with nobody, and its consumers, as RabbitMQ knows them at this moment.

        From the main flow. Raises Unavailable: it is not there; or as `Session.call`.
        """
        frame, refused = await self._session.asked(f"counting {queue}", Channel.queue_declare, queue, passive=True)
        if refused:
            raise Unavailable(f"queue {queue}: {refused.what}")
        return int(frame.method.message_count), int(frame.method.consumer_count)

    async def probe(self, queue: str) -> Probe:
        """Let the queue confirm a message that means nothing; from then on its counts can be believed.

        To queue.declare RabbitMQ answers from what the queue's process knows at that moment (rabbit_quorum_queue:stat).
        After a crash it goes through its log again: measured on 3.10, it told of an earlier time, "300 messages, 0
        consumers", for 0.4 seconds, until it was the leader and knew of the dead receiver that held 100 of them. A
        leader that does not answer counts as "0 messages, 0 consumers". A confirm comes after all of the log.

        On a connection of its own: from one that publishes during an alarm the broker reads nothing any more, no
        acknowledgement, and not even its end, so that the lease would stay.

        The message is taken out again if it is the only one, or left for the queue's reader: at most `PROBES_MAX` of
        them, while the queue holds so many it is believed as during an alarm. Taking one of the others
        out, to see whether it works, would break the order: given back, it comes behind all those given back before.

        From the main flow. Raises as `Session.call`.
        """
        other = await self._another()
        self._session.attach(other)
        try:
            answer = await self._probe_over(other, queue)
        finally:
            if other.is_open:
                other.close()  # the answer is not awaited: with an alarm there is none
        if answer is Probe.CONFIRMED:
            self._trusted.add(queue)
            self._probes[queue] += 1
        return answer

    def _wants_probe(self, queue: str) -> bool:
        return queue not in self._trusted and self._probes[queue] < PROBES_MAX

    async def _look_at(self, channel: Channel, queue: str) -> tuple[int, int]:
        found = await self._session.call(f"looking at queue {queue}", channel.queue_declare, queue, passive=True)
        return int(found.method.consumer_count), int(found.method.message_count)

    async def _probe_over(self, other: Connection, queue: str) -> Probe:
        properties = BasicProperties(type=PROBE, delivery_mode=2)
        method = await single.put(self._session, queue, b"", properties, f"waiting for queue {queue}", other)
        if isinstance(method, Basic.Ack):
            return Probe.CONFIRMED
        return Probe.REFUSED if isinstance(method, Basic.Nack) else Probe.BLOCKED

    async def _take_probe(self, queue: str) -> bool:
        """Take the only message there, if it is one of ours. A single active consumer's queue gives none this way."""
        channel = await self._session.open_channel()
        try:
            found = await single.get(self._session, channel, queue)
        except ChannelRefused:
            return False
        taken = bool(found) and self.is_probe(queue, found[1], found[2])
        if taken:
            channel.basic_ack(found[0].delivery_tag)
        await self._session.close_channel(channel)
        return taken
