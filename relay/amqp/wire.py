"""Talking with RabbitMQ in sequence, on an event loop: `ask` and await the answer, while deliveries go on arriving.

The main flow of a session is a plain function: each `ask` or `run` turns the loop until it has what it waits for. The
loop is never started from within one of its own callbacks. pika's errors leave as `relay.errors`.
"""

import collections
import enum
import shlex
import time
from collections.abc import Callable
from typing import Any

import pika.exceptions
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay.amqp.decode import Properties
from relay.amqp.replies import ACCESS_REFUSED, of_limit, version
from relay.errors import RelayError, Unavailable, one_line

PROBE = "relay.probe"  # type of a message that means nothing: whoever reads it acknowledges it
CLOSE_SECONDS = 5.0
FREE_SECONDS, FREE_PAUSE = 20.0, 0.02  # until we give up that a queue becomes free, and between two looks
PROBES_MAX = 2  # of one process that wait in a queue, behind other messages: reconnecting must not fill it with them
PROBE_PAUSE = 1.0  # seconds between two probes, while the queue refuses them
STEADY_SECONDS = 5.0  # of "nobody consumes it", until a queue that can't be probed is believed
HINT = "stop it: order is kept only with one consumer"
ASK_SECONDS = 60.0  # a broker that answers nothing for so long is as good as away; heartbeats notice it before


OnMessage = Callable[[Channel, Basic.Deliver, Properties, bytes], None]


class Probe(enum.Enum):
    """What became of a message that means nothing."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"  # the queue has no leader; or it is full, and a policy says reject-publish
    BLOCKED = "blocked"  # the broker has an alarm


class Refused(RelayError):
    """The broker closed the channel because of what we asked. `code` as in AMQP: 403, 404, 405, 406, 530, 540."""

    def __init__(self, code: int, said: str, remedy: str = "") -> None:
        super().__init__(f"RabbitMQ refuses: {said} ({code})", remedy)
        self.code = code
        self.said = said


class Wire:
    """One connection on its loop.

    Args:
        connection: open; closed by `close`.
        loop: not running; closed by `close`.
        another: opens one more connection on the loop. Raises RelayError.
        rights: the command that gives the user what it must be allowed: the remedy where something is refused.
        probes: by queue, the probes of this process that may be in it; shared with the connections before and after.
    """

    def __init__(
        self,
        connection: SelectConnection,
        loop: IOLoop,
        another: Callable[[], SelectConnection],
        rights: str,
        probes: collections.Counter[str] | None = None,
    ) -> None:
        self.loop = loop
        self._probes = collections.Counter[str]() if probes is None else probes
        self._another = another
        self._rights = rights
        self._connection = connection
        self._failure: RelayError | None = None
        self._interrupted = False
        self._channels: list[Channel] = []
        self._closing: set[Channel] = set()
        self._trusted: set[str] = set()  # queues whose counts are of now: see `probe`
        connection.add_on_close_callback(self._on_connection_closed)

    @property
    def received(self) -> int:
        """Bytes that have come from the broker."""
        return int(self._connection.bytes_received)  # type: ignore[attr-defined]

    @property
    def frame_max(self) -> int:
        """Bytes that a frame may have."""
        return int(self._connection.params.frame_max)

    @property
    def vhost(self) -> str:
        """The virtual host, as a shell takes its name."""
        return shlex.quote(str(self._connection.params.virtual_host))

    @property
    def version(self) -> int:
        """RabbitMQ's major version; 0 = unknown."""
        return version(self._connection.server_properties)

    def consume(self, channel: Channel, queue: str, on_message: OnMessage) -> None:
        """Begin to read a queue. From the main flow. Raises as `ask`."""
        self.ask(
            lambda cb: channel.basic_consume(queue, on_message, callback=cb),  # type: ignore[arg-type]
            f"reading {queue}",
        )

    def open_channel(self) -> Channel:
        """Open a channel. Raises Unavailable."""
        channel: Channel = self.ask(
            lambda callback: self._connection.channel(on_open_callback=callback), "opening a channel"
        )
        channel.add_on_close_callback(self._on_channel_closed)
        self._channels.append(channel)
        return channel

    def ask(self, call: Callable[[Callable[..., None]], object], what: str) -> Any:
        """Call `call(callback)` and turn the loop until the callback is called. Return what it is called with.

        Raises:
            Refused: the broker closed the channel instead of answering.
            Unavailable: the connection broke, or there was no answer.
        """
        answers: list[object] = []

        def answered(*arguments: object) -> None:
            answers.append(arguments[0] if arguments else None)
            self.loop.stop()

        try:
            call(answered)
        except pika.exceptions.AMQPError as error:
            raise Unavailable(f"the connection to RabbitMQ broke while {what}: {one_line(error)}") from None
        timer = self.loop.call_later(ASK_SECONDS, lambda: self.fail(Unavailable(f"RabbitMQ does not answer: {what}")))
        try:
            while not answers:
                self._turn()
        finally:
            self.loop.remove_timeout(timer)
        return answers[0]

    def refusal(self, call: Callable[[Channel, Callable[..., None]], object], what: str) -> Refused | None:
        """Ask, on a channel of its own, for what the broker may refuse: that ends nothing but the channel.

        Raises:
            Unavailable: as `ask`.
        """
        channel = self.open_channel()
        self._closing.add(channel)

        def start(callback: Callable[..., None]) -> None:
            channel.add_on_close_callback(lambda _channel, reason: callback(reason))
            call(channel, callback)

        answer = self.ask(start, what)
        self._closing.discard(channel)
        self.close_channel(channel)
        return self._refused(answer) if isinstance(answer, pika.exceptions.ChannelClosedByBroker) else None

    def run(self) -> None:
        """Turn the loop until `interrupt`. Raises as `ask`."""
        while not self._interrupted:
            self._turn()
        self._interrupted = False

    def await_no_consumer(self, queue: str, *, certain: bool = True) -> int:
        """Wait until nobody consumes `queue`; return how many messages are in it. From the main flow.

        We hold the lease, so a consumer that is still there belongs to a dead receiver: its lease falls a moment
        before its messages come back. Reading earlier, we would miss them, or get later ones before them.

        `certain`: the queue is going to be read, so that what died together with the broker counts, too: see `probe`.

        Raises:
            Unavailable: somebody else consumes it.
        """
        channel, until = self.open_channel(), time.monotonic() + FREE_SECONDS
        probe: Probe | None = None
        probe_at = free_since = time.monotonic()
        while (now := time.monotonic()) < until:
            if certain and now >= probe_at and probe is not Probe.BLOCKED and self._wants_probe(queue):
                probe, probe_at = self.probe(queue), now + PROBE_PAUSE
            there = self._look_at(channel, queue)
            if not (there.consumer_count or there.message_count):
                self._probes[queue] = 0  # purged; or the queue does not work yet, and must be asked
            if there.consumer_count or (probe in (Probe.CONFIRMED, Probe.REFUSED) and not there.message_count):
                free_since = now  # with the probe in it, or full, "none" is no answer
            elif queue in self._trusted or not certain or now - free_since > STEADY_SECONDS:
                if certain:
                    self._trusted.add(queue)
                empty = probe is Probe.CONFIRMED and there.message_count == 1 and self._take_probe(queue)
                self.close_channel(channel)
                return 0 if empty else int(there.message_count)
            self.pause(FREE_PAUSE)
        if not there.consumer_count:
            raise Unavailable(f"queue {queue} does not work", "rabbitmq-queues quorum_status shows if it has no leader")
        raise Unavailable(
            f"another program consumes queue {queue}",
            f"rabbitmqctl list_consumers shows whose connection it is; {HINT}",
        )

    def distrust(self, queue: str) -> None:
        """Its counts are strange: let it confirm a message again before they are believed (a leader may be missing)."""
        self._trusted.discard(queue)

    def _wants_probe(self, queue: str) -> bool:
        return queue not in self._trusted and self._probes[queue] < PROBES_MAX

    def is_probe(self, queue: str, properties: Properties, body: bytes) -> bool:
        """Does a message that was read from `queue` mean nothing?"""
        if properties.type != PROBE or body:
            return False
        self._probes[queue] = max(0, self._probes[queue] - 1)
        return True

    def _look_at(self, channel: Channel, queue: str) -> Any:
        return self.ask(
            lambda cb: channel.queue_declare(queue, passive=True, callback=cb), f"looking at queue {queue}"
        ).method

    def probe(self, queue: str) -> Probe:
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

        From the main flow. Raises as `ask`.
        """
        other = self._another()
        try:
            answer = self._probe_over(other, queue)
        finally:
            if other.is_open:
                other.close()  # the answer is not awaited: with an alarm there is none
        if answer is Probe.CONFIRMED:
            self._trusted.add(queue)
            self._probes[queue] += 1
        return answer

    def _probe_over(self, other: SelectConnection, queue: str) -> Probe:
        answered: list[Callable[..., None]] = []
        other.add_on_close_callback(self._on_other_closed)
        other.add_on_connection_blocked_callback(lambda _other, frame: answered[0](frame))
        channel: Channel = self.ask(lambda cb: other.channel(on_open_callback=cb), "opening a channel")
        channel.add_on_close_callback(self._on_channel_closed)
        self.ask(
            lambda cb: channel.confirm_delivery(ack_nack_callback=lambda frame: answered[0](frame), callback=cb),
            "asking for confirms",
        )

        def publish(callback: Callable[..., None]) -> None:
            answered.append(callback)
            channel.basic_publish("", queue, b"", BasicProperties(type=PROBE, delivery_mode=2))

        method = self.ask(publish, f"waiting for queue {queue}").method
        if isinstance(method, Basic.Ack):
            return Probe.CONFIRMED
        return Probe.REFUSED if isinstance(method, Basic.Nack) else Probe.BLOCKED

    def _take_probe(self, queue: str) -> bool:
        """Take the only message there, if it is one of ours. A single active consumer's queue gives none this way."""
        taken = False

        def get(channel: Channel, callback: Callable[..., None]) -> None:
            def got(_channel: Channel, method: Basic.GetOk, properties: BasicProperties, body: bytes) -> None:
                nonlocal taken
                taken = self.is_probe(queue, properties, body)  # type: ignore[arg-type]
                if taken:
                    channel.basic_ack(method.delivery_tag or 0)
                callback()

            channel.add_callback(callback, [Basic.GetEmpty])
            channel.basic_get(queue, got)

        self.refusal(get, f"looking into queue {queue}")
        return taken

    def count(self, queue: str) -> tuple[int, int]:
        """Messages of a queue that are with nobody, and its consumers, as RabbitMQ knows them at this moment.

        From the main flow. Raises Unavailable: it is not there; or as `ask`.
        """
        found = (0, 0)

        def look(channel: Channel, callback: Callable[..., None]) -> None:
            def counted(frame: Any) -> None:
                nonlocal found
                found = (int(frame.method.message_count), int(frame.method.consumer_count))
                callback()

            channel.queue_declare(queue, passive=True, callback=counted)

        refused = self.refusal(look, f"counting {queue}")
        if refused:
            raise Unavailable(f"queue {queue}: {refused.what}")
        return found

    def pause(self, seconds: float) -> None:
        """Turn the loop for so long. Raises as `ask`."""
        self.ask(lambda callback: self.loop.call_later(seconds, callback), "pausing")

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until `condition` holds, looked at after each `interrupt`. Raises as `ask`."""
        while not condition():
            self.run()

    def interrupt(self) -> None:
        """Let `run` return. From a callback of the loop."""
        self._interrupted = True
        self.loop.stop()

    def fail(self, error: RelayError) -> None:
        """End the session with `error`. From a callback of the loop; the first one counts."""
        self._failure = self._failure or error
        self.loop.stop()

    def close_channel(self, channel: Channel) -> None:
        """Close a channel and await close-ok: what it had not acknowledged goes back into its queue, in order."""
        if not channel.is_open:
            return
        self._channels.remove(channel)
        self._closing.add(channel)
        _forget_consumers(channel)

        def close(callback: Callable[..., None]) -> None:
            channel.add_on_close_callback(lambda *_: callback())
            channel.close()

        self.ask(close, "closing a channel")

    def close(self) -> None:
        """Close connection and loop. Never raises for a broker that is gone."""
        if self._connection.is_open:
            self._closing.update(self._channels)
            for channel in self._channels:
                _forget_consumers(channel)
            self._connection.close()
            end = time.monotonic() + CLOSE_SECONDS
            self.loop.call_later(CLOSE_SECONDS, self.loop.stop)
            while not self._connection.is_closed and time.monotonic() < end:
                self.loop.start()
        self.loop.close()

    def _turn(self) -> None:
        if self._failure is None:
            self.loop.start()
        if self._failure is not None:
            raise self._failure

    def _on_connection_closed(self, _connection: object, reason: BaseException) -> None:
        self.fail(Unavailable(f"the connection to RabbitMQ broke: {one_line(reason)}"))

    def _on_other_closed(self, other: object, reason: BaseException) -> None:
        if not isinstance(reason, pika.exceptions.ConnectionClosedByClient):
            self._on_connection_closed(other, reason)

    def _on_channel_closed(self, channel: Channel, reason: BaseException) -> None:
        if channel in self._closing:
            self._closing.discard(channel)
        elif isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            self.fail(self._refused(reason))

    def _refused(self, reason: pika.exceptions.ChannelClosedByBroker) -> Refused:
        said = " ".join(reason.reply_text.split())
        return Refused(reason.reply_code, said, self._rights if reason.reply_code == ACCESS_REFUSED else of_limit(said))


def _forget_consumers(channel: Channel) -> None:
    # pika's close() sends basic.cancel for each consumer first, and after a cancel RabbitMQ puts unacknowledged
    # messages back in another order. Without a consumer to cancel it sends channel.close alone.
    channel._consumers.clear()  # type: ignore[attr-defined]
