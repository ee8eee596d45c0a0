"""What must stand in RabbitMQ before work begins: the exchange, the lease, the required queues. Set-up steps only."""

from collections.abc import Callable
from typing import Any

import pika.exceptions
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel

from relay.amqp.replies import (
    ACCESS_REFUSED,
    CONNECTION_FORCED,
    NOT_ALLOWED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
)
from relay.amqp.session import Session
from relay.amqp.wire import of_limit
from relay.errors import ConfigError, RelayError, Standby, Unavailable, one_line

STEP_TIMEOUT = 15.0  # seconds for one answer of the broker

OTHER_EXCHANGE = "set EXCHANGE_TYPE to what it is, EXCHANGE to another name, or delete the old exchange"
NO_QUEUE = "start its receiver, or take it out of REQUIRED_QUEUES"

Judge = Callable[[int, str], RelayError | None]
"""What a close means, by its code (0 = the connection has just ended) and text; None = whoever is asked sees to it."""


class Setup:
    """Asks the broker for one thing after another; a refusal becomes the error that names the thing and the remedy.

    Args:
        connection: open.
        session: whose loop the answers come in on.
        rights: the command that gives the user what it must be allowed: the remedy where something is refused.
    """

    def __init__(self, connection: SelectConnection, session: Session, rights: str) -> None:
        self._connection = connection
        self._session = session
        self._rights = rights
        self._judge: Judge = unexpected  # of a closed channel
        self._judge_connection: Judge = unexpected

    def channel(self) -> Channel:
        """Open a channel. A close by the broker ends the session with what the step under way makes of it."""
        opened: list[Channel] = []

        def start(done: Callable[[], None]) -> None:
            def on_open(channel: Channel) -> None:
                opened.append(channel)
                done()

            self._connection.channel(on_open_callback=on_open)

        self._session.ask("open a channel", start, STEP_TIMEOUT)
        opened[0].add_on_close_callback(self._on_close)
        return opened[0]

    def hand_over(self, judge: Judge) -> None:
        """Set-up is over: from here on `judge` says what a closed channel or connection means."""
        self._judge = self._judge_connection = judge

    def exchange(self, channel: Channel, name: str, kind: str) -> Channel:
        """Declare the durable exchange. Return `channel`, or a new one if that was closed.

        RabbitMQ asks for the right to configure it before it looks whether it exists, and compares its type only then:
        without that right one that exists is taken as it is.

        Raises:
            ConfigError: it exists and is another kind of exchange; or it does not, and we may not make it.
        """
        code, text = self._refusal(
            f"declare exchange {name}",
            lambda done: channel.exchange_declare(name, kind, durable=True, callback=lambda _frame: done()),
        )
        if code == ACCESS_REFUSED:
            channel = self.channel()
            missing, _text = self._refusal(
                f"look for exchange {name}",
                lambda done: channel.exchange_declare(name, passive=True, callback=lambda _frame: done()),
            )
            code = code if missing else 0
        if code:
            remedy = OTHER_EXCHANGE if code == PRECONDITION_FAILED else self._rights
            raise ConfigError((f"exchange {name} can't be used: {text}", remedy))
        return channel

    def lease(self, channel: Channel, name: str) -> None:
        """Declare the exclusive queue that only one connection can hold; it falls with the connection.

        RabbitMQ refuses it elsewhere with 405, so the broker itself fences: nothing of a former holder can arrive
        after its connection is gone.

        Raises:
            Standby: another connection holds it.
        """
        self._judge = lambda code, text: (
            Standby(f"another process holds the lease {name}")
            if code == RESOURCE_LOCKED
            else ConfigError(
                (
                    f"the lease {name} can't be taken: {text}",
                    self._rights if code == ACCESS_REFUSED else of_limit(text) or f"delete the queue {name}",
                )
            )
        )
        self._ask(
            f"take the lease {name}",
            lambda done: channel.queue_declare(name, exclusive=True, auto_delete=True, callback=lambda _frame: done()),
        )

    def require_queue(self, channel: Channel, name: str) -> None:
        """Make sure that a queue exists.

        Raises:
            Unavailable: it does not, or can't be seen.
        """
        self._judge = lambda _code, text: Unavailable(f"required queue {name} is missing: {text}", NO_QUEUE)
        self._ask(
            f"look for queue {name}",
            lambda done: channel.queue_declare(name, passive=True, callback=lambda _frame: done()),
        )

    def confirms(self, channel: Channel, on_confirm: Callable[[Any], None]) -> None:
        """Switch publisher confirms on."""
        self._ask(
            "switch publisher confirms on",
            lambda done: channel.confirm_delivery(on_confirm, callback=lambda _frame: done()),
        )

    def _ask(self, what: str, start: Callable[[Callable[[], None]], None]) -> None:
        self._session.ask(what, start, STEP_TIMEOUT)
        self._judge = unexpected

    def _refusal(self, what: str, start: Callable[[Callable[[], None]], None]) -> tuple[int, str]:
        """Ask for what the broker may refuse, and return its (code, text); code 0 if it does not."""
        refusal = [(0, "")]

        def ask(done: Callable[[], None]) -> None:
            def judge(code: int, text: str) -> RelayError | None:
                refusal.append((code, text))
                done()
                return None

            self._judge = judge
            start(done)

        self._ask(what, ask)
        return refusal[-1]

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        code, text = _closing(reason)
        of_channel = isinstance(reason, pika.exceptions.ChannelClosedByBroker)
        error = (self._judge if of_channel else self._judge_connection)(code, text)
        if error:
            error.remedy = error.remedy or (self._rights if code == ACCESS_REFUSED else "")
            self._session.fail(error)


def _closing(reason: Exception) -> tuple[int, str]:
    """Return the broker's (code, text) for a closed channel or connection; code 0 when it has said nothing."""
    if isinstance(reason, pika.exceptions.ChannelClosedByBroker | pika.exceptions.ConnectionClosedByBroker):
        return reason.reply_code, " ".join(str(reason.reply_text).split())
    return 0, one_line(reason)


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
