"""Commands for the daemon at work: an exclusive queue that exists only while it is.

A command is a JSON object with `command` and its arguments; the answer is one or more JSON objects to its reply-to, the
last one with `done`. (Who asks: ask.py.)
"""

import collections
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay import signature
from relay.amqp.acks import Acks
from relay.amqp.answers import Answers
from relay.amqp.ask import REPLY_TO
from relay.amqp.pace import Pace
from relay.amqp.session import ChannelRefused, Session
from relay.amqp.topology import exclusive
from relay.log import Log
from relay.signature import Guard

COMMAND_MAX = 65_536  # bytes; nobody's bytes are parsed before they are counted
QUEUED_MAX = 32 << 20  # bytes in RabbitMQ: of a flood the oldest go, whose askers have waited longest
WAITING_MAX = 64  # commands taken from the queue before their turn: the others wait in RabbitMQ
REFUSAL_EVERY = 10.0  # seconds between two lines of the log about commands that were refused

Reply = Callable[[dict[str, Any]], None]


class CommandQueue:
    """Receives commands.

    Args:
        session: the queue falls with its connection.
        queue: its name.
        key: `Common.command_key`; empty = commands need not be signed.
        answers: takes them to who has asked.
        carry_out: called with a command, and with what takes its answers.
        pace: how many are taken in a second; None = all that come.
    """

    def __init__(
        self,
        session: Session,
        queue: str,
        key: bytes,
        answers: Answers,
        carry_out: Callable[[Mapping[str, Any], Reply], None],
        log: Log,
        pace: Pace | None = None,
    ) -> None:
        self._session = session
        self._queue = queue
        self._key = key
        self._guard = Guard(key, queue) if key else None
        self._answers = answers
        self._carry_out = carry_out
        self._log = log
        self._refused_at = -REFUSAL_EVERY
        self._pace = pace
        self._waiting: collections.deque[tuple[int, BasicProperties, bytes]] = collections.deque()
        self._acks: Acks
        self._is_due = False

    async def open(self) -> ChannelRefused | None:
        """Begin to listen. Return what RabbitMQ refuses; None = nothing. From the main flow.

        Raises:
            ConfigError: a queue that is nobody's alone is in its place.
            Unavailable: as `Session.call`.
        """
        refused = await exclusive(self._session, self._queue, auto_delete=True, max_bytes=QUEUED_MAX)
        if refused:
            return refused
        channel = await self._session.open_channel()
        try:
            if self._pace is None:
                await self._session.consume(channel, self._queue, self._on_message, auto_ack=True)
            else:
                self._acks = Acks(channel)
                await self._session.call("setting the window", channel.basic_qos, prefetch_count=WAITING_MAX)
                await self._session.consume(channel, self._queue, self._on_message)
        except ChannelRefused as error:
            return error
        return None

    def _on_message(self, _channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if self._pace is None:
            self._take(properties, body)
            return
        self._waiting.append((method.delivery_tag or 0, properties, body))
        if not self._is_due:
            self._take_turns()

    def _take_turns(self) -> None:
        self._is_due = False
        while self._waiting and self._pace and self._pace.take():
            tag, properties, body = self._waiting.popleft()
            self._acks.give(tag)
            self._take(properties, body)
        if self._waiting and self._pace:
            self._is_due = True
            self._session.call_later(self._pace.wait, self._take_turns)

    def _take(self, properties: BasicProperties, body: bytes) -> None:
        reply_to = str(properties.reply_to)
        nonce = properties.correlation_id if isinstance(properties.correlation_id, str) else ""

        def reply(answer: dict[str, Any]) -> None:
            self._answers.send(reply_to, properties.correlation_id, json.dumps(answer).encode(), sign)

        def sign(body: bytes) -> str:
            return signature.sign_answer(self._key, self._queue, nonce, body) if self._key and nonce else ""

        if not reply_to.startswith(REPLY_TO):
            self._refuse(f"its reply-to is not {REPLY_TO}")
        elif why := self._objection(properties, body):
            self._refuse(why)
            reply({"done": True, "error": f"refused: {why}"})
        elif (command := parsed(body)) is None:
            reply({"done": True, "error": "a command is a JSON object of texts"})
        else:
            self._answers.prepare()
            self._carry_out(command, reply)

    def _objection(self, properties: BasicProperties, body: bytes) -> str:
        """Why a command will not even be read; empty = it will."""
        if len(body) > COMMAND_MAX:
            return f"it is longer than {COMMAND_MAX} bytes"
        if self._guard is None:
            return ""
        headers = properties.headers or {}
        return self._guard.objection(
            properties.correlation_id, headers.get(signature.EXPIRES), body, headers.get(signature.HEADER)
        )

    def _refuse(self, why: str) -> None:
        now = time.monotonic()
        if now - self._refused_at > REFUSAL_EVERY:
            self._refused_at = now
            remedy = "who writes to it? rabbitmqctl list_permissions; CONTROL_SECRET must be the same on both sides"
            self._log.warning("a command was refused", queue=self._queue, why=why, remedy=remedy)


def parsed(body: bytes) -> dict[str, Any] | None:
    """A command as it was meant; None = it is none. Nothing nested: not even its repr would be safe."""
    try:
        command = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(command, dict):
        return None
    fits = all(isinstance(value, bool if name == "all" else str | None) for name, value in command.items())
    return command if fits and all(map(_is_clean, command.values())) else None


def _is_clean(value: object) -> bool:
    """A text that PostgreSQL takes: psycopg2 raises for a zero byte, and for what is no Unicode."""
    if not isinstance(value, str):
        return True
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # half a character
        return False
