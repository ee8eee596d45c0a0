"""A session of the receiver: the lease, the queue, a window of messages, acknowledgements, and the way out.

RabbitMQ's rules that shape this file (FACTS.md; each was found by breaking it): nothing is ever nacked or cancelled
with messages unacknowledged, because both change their order. To give messages back: stop dispatching, await what
is in flight, acknowledge it, close the channel, await close-ok.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay.config import Receive
from relay.courier import Courier
from relay.daemon import Daemon, Stop
from relay.delivery import Event
from relay.dispatch import Dispatch
from relay.errors import ConfigError, Standby, Unavailable
from relay.log import Log
from relay.wire import Refused, Wire
from relay.workers import Workers

# Quorum queues of RabbitMQ 4 lose a message after 20 returns unless told otherwise; -1 loses it at once on 3.10.
DELIVERY_LIMIT = 1_000_000

_log = Log("receiver")


def lease_name(queue: str) -> str:
    """The exclusive queue that makes its declarer the only active receiver of `queue`."""
    return f"{queue}.lease"


def to_event(method: Basic.Deliver, properties: BasicProperties, body: bytes) -> Event:
    """Translate a message at the edge. Whatever another publisher left out or got wrong becomes empty."""
    headers: Mapping[str, Any] = properties.headers or {}
    seq = headers.get("relay-seq")
    return Event(
        body=body,
        topic=method.routing_key or "",
        id=properties.message_id or "",
        op=properties.type or "",
        key=_text(headers.get("relay-key")),
        table=_text(headers.get("relay-table")),
        seq=seq if isinstance(seq, int) else 0,
        content_type=properties.content_type or "",
        timestamp=properties.timestamp if isinstance(properties.timestamp, int) else 0,
        headers=headers,
        redelivered=bool(method.redelivered),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class Session:
    """One connection's life.

    Args:
        config: QUEUE, BINDING_KEYS, window, SHUTDOWN_GRACE.
        connection: open, on `loop`.
        dispatch, courier, workers: outlive the session.
        daemon: told when we are at work; its watchdog is fed from this loop.
    """

    def __init__(
        self,
        config: Receive,
        connection: SelectConnection,
        loop: IOLoop,
        dispatch: Dispatch,
        courier: Courier,
        workers: Workers,
        daemon: Daemon,
    ) -> None:
        self._config = config
        self._wire = Wire(connection, loop)
        self._loop = loop
        self._dispatch = dispatch
        self._courier = courier
        self._workers = workers
        self._daemon = daemon
        self._stop: Stop = daemon.stop
        self._timer: Any = None
        self._stopping = False

    def run(self) -> None:
        """Work until a stop is asked for (then return) or something breaks (then raise a RelayError)."""
        self._loop.add_handler(self._stop.fileno(), self._on_stop, self._loop.READ)
        self._workers.wake_with(lambda: self._loop.add_callback_threadsafe(self._on_finished))
        self._courier.paused = False
        try:
            self._take_lease()
            self._declare()
            channel = self._open_window()
            self._feed_watchdog()
            _log.info("connected", queue=self._config.queue, window=self._config.window_events)
            self._daemon.up()
            self._wire.run()
            self._wire.close_channel(channel)
        finally:
            self._courier.paused = True
            self._workers.wake_with(None)
            self._dispatch.release()
            self._wire.close()

    def _take_lease(self) -> None:
        lease = lease_name(self._config.queue)
        channel = self._wire.open_channel()
        try:
            # It falls with our connection, so whoever holds it is the only one that consumes.
            self._wire.ask(lambda cb: channel.queue_declare(lease, exclusive=True, callback=cb), f"taking {lease}")
        except Refused as error:
            if error.code == 405:
                raise Standby(f"another receiver is at work on queue {self._config.queue}") from None
            raise _sorted(error, lease) from None

    def _declare(self) -> None:
        """Exchange, queue and bindings. Nothing that exists is changed or deleted."""
        config, channel = self._config, self._wire.open_channel()
        steps: list[tuple[str, Callable[[Callable[..., None]], object]]] = [
            (
                f"exchange {config.exchange}",
                lambda cb: channel.exchange_declare(config.exchange, "topic", durable=True, callback=cb),
            ),
            (
                f"queue {config.queue}",
                lambda cb: channel.queue_declare(
                    config.queue, durable=True, arguments=queue_arguments(config.queue_type), callback=cb
                ),
            ),
            *(
                (
                    f"binding {config.queue} to {config.exchange} with {key}",
                    lambda cb, key=key: channel.queue_bind(config.queue, config.exchange, key, callback=cb),
                )
                for key in config.binding_keys
            ),
        ]
        for what, call in steps:
            try:
                self._wire.ask(call, f"declaring {what}")
            except Refused as error:
                raise _sorted(error, what) from None
        self._wire.close_channel(channel)

    def _open_window(self) -> Channel:
        channel = self._wire.open_channel()
        self._wire.ask(
            lambda cb: channel.basic_qos(prefetch_count=self._config.window_events, callback=cb), "setting the window"
        )
        channel.add_on_cancel_callback(self._on_cancelled)
        self._wire.ask(
            lambda cb: channel.basic_consume(self._config.queue, self._on_message, callback=cb), "starting to consume"
        )
        return channel

    def _on_cancelled(self, _frame: object) -> None:
        self._wire.fail(Unavailable(f"RabbitMQ ended our consumer: was queue {self._config.queue} deleted?"))

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        receipt = functools.partial(_acknowledge, channel, method.delivery_tag or 0)
        if self._dispatch.add(to_event(method, properties, body), receipt, time.monotonic()) is None:
            receipt()
        self._go_on()

    def _on_finished(self) -> None:
        for receipt in self._courier.collect():
            receipt()
        self._go_on()

    def _on_wake(self) -> None:
        self._timer = None
        self._go_on()

    def _go_on(self) -> None:
        """Start what is ready; come back when the next waiting key is."""
        if self._stopping:
            if not self._workers.busy:
                self._wire.interrupt()
            return
        self._courier.start_ready()
        wake = self._courier.next_wake()
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
            self._timer = None
        if wake is not None:
            self._timer = self._loop.call_later(wake, self._on_wake)

    def _on_stop(self, fd: int, _events: int) -> None:
        self._loop.remove_handler(fd)  # it stays readable
        self._stopping = True
        self._courier.paused = True
        _log.info("stopping", in_flight=self._workers.busy)
        self._loop.call_later(self._config.shutdown_grace, self._wire.interrupt)
        self._go_on()

    def _feed_watchdog(self) -> None:
        self._daemon.feed_watchdog()
        if self._daemon.systemd.watchdog_interval:
            self._loop.call_later(self._daemon.systemd.watchdog_interval, self._feed_watchdog)


def _acknowledge(channel: Channel, tag: int) -> None:
    if channel.is_open:  # else it comes again, and is recognised by its id
        channel.basic_ack(tag)


def queue_arguments(kind: str) -> dict[str, object]:
    """The arguments of a queue of ours."""
    if kind == "classic":
        return {"x-queue-type": "classic"}
    return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}


def _sorted(error: Refused, what: str) -> ConfigError | Unavailable:
    """What a refusal means for whoever runs us."""
    if error.code == 406:
        remedy = "set QUEUE_TYPE (or EXCHANGE) as it exists, or empty and delete the old one, then start again"
        return ConfigError((f"{what} exists with other arguments: {error.said}", remedy))
    if error.code == 403:
        remedy = "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*', or with narrower patterns"
        return ConfigError((f"no permission for {what}: {error.said}", remedy))
    return Unavailable(f"{what}: {error.what}")
