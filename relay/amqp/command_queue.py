"""Commands for the daemon at work: an exclusive queue that exists only while it is.

A command is a JSON object with `command` and its arguments; the answer is one or more JSON objects to its reply-to, the
last one with `done`. (Who asks: ask.py.)

Whoever may publish to the default exchange can send as many as RabbitMQ takes: they are taken in turns, for a share of
the loop's time, and wait in RabbitMQ until then.
"""

import collections
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pika.channel import Channel
from pika.spec import Basic

from relay import signature
from relay.amqp.acks import Acks
from relay.amqp.answers import Answers
from relay.amqp.ask import REPLY_TO
from relay.amqp.decode import Properties
from relay.amqp.pace import Pace, Share
from relay.amqp.replies import ChannelRefused
from relay.amqp.session import Session
from relay.amqp.topology import exclusive
from relay.log import Log
from relay.signature import Guard

COMMAND_MAX = 65_536  # bytes; nobody's bytes are parsed before they are counted
QUEUED_BYTES = 32 << 20  # in RabbitMQ: of a flood the oldest go, whose askers have waited longest
QUEUED_MAX = 256  # commands in RabbitMQ, unless so many a second are taken that more make sense
WAITING_MAX = 64  # commands taken from the queue before their turn: the others wait in RabbitMQ
JOBS_MAX = 4  # commands that take several turns
PROPERTY_SECONDS, BODY_SECONDS = 2e-7, 2e-9  # that taking in a byte of a message takes, about, where it is all headers
BUSY_SECONDS = 0.05  # until another look whether the answers have left
REFUSAL_EVERY = 10.0  # seconds between two lines of the log about commands that were refused

Reply = Callable[[dict[str, Any]], None]
Job = Iterator[None]
"""What is left of a command: goes a little further with each step, of a millisecond or so."""


class _Asked(NamedTuple):
    """A command that waits for its turn: of what a stranger writes only what is needed, so that it takes no memory."""

    tag: int
    reply_to: str
    correlation_id: str | None
    expires: str | int | None
    signature: str | int | None
    body: bytes


class CommandQueue:
    """Receives commands.

    Args:
        session: the queue falls with its connection.
        queue: its name.
        key: `Common.command_key`; empty = commands need not be signed.
        answers: takes them to who has asked.
        carry_out: called with a command, and with what takes its answers. Returns what takes longer; None = it is done.
        pace: how many are taken in a second; None = as many as fit into their share of the loop's time.
        share: that; None = the usual one.
    """

    def __init__(
        self,
        session: Session,
        queue: str,
        key: bytes,
        answers: Answers,
        carry_out: Callable[[Mapping[str, Any], Reply], Job | None],
        log: Log,
        pace: Pace | None = None,
        share: Share | None = None,
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
        self._share = share or Share()
        self._waiting: collections.deque[_Asked] = collections.deque()
        self._jobs: collections.deque[tuple[Job, Reply]] = collections.deque()
        self._acks: Acks
        self._is_due = False

    async def open(self) -> ChannelRefused | None:
        """Begin to listen. Return what RabbitMQ refuses; None = nothing. From the main flow.

        Raises:
            ConfigError: a queue that is nobody's alone is in its place.
            Unavailable: as `Session.call`.
        """
        limits = {"x-max-length-bytes": QUEUED_BYTES} | ({} if self._pace else {"x-max-length": QUEUED_MAX})
        refused = await exclusive(self._session, self._queue, auto_delete=True, limits=limits)
        if refused:
            return refused
        channel = await self._session.open_channel()
        try:
            self._acks = Acks(channel)
            await self._session.call("setting the window", channel.basic_qos, prefetch_count=WAITING_MAX)
            await self._session.consume(channel, self._queue, self._on_message)
        except ChannelRefused as error:
            return error
        return None

    def begin(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Carry out a command; `reply` gets its answers."""
        if (job := self._carry_out(command, reply)) is None:
            return
        if len(self._jobs) >= JOBS_MAX:
            reply({"done": True, "error": "too many commands of this kind are under way", "again": True})
            return
        self._jobs.append((job, reply))
        self._go_on_soon()

    def end(self) -> list[Reply]:
        """Carry out nothing more of what was begun. Return whom to tell."""
        jobs = [reply for _job, reply in self._jobs]
        self._jobs.clear()
        return jobs

    def _on_message(self, _channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        headers, nonce = properties.headers or {}, properties.correlation_id
        asked = _Asked(
            method.delivery_tag or 0,
            str(properties.reply_to),
            nonce if isinstance(nonce, str) else None,
            _short(headers.get(signature.EXPIRES)),
            _short(headers.get(signature.HEADER)),
            body[: COMMAND_MAX + 1],
        )
        self._share.charge(len(properties.raw) * PROPERTY_SECONDS + len(body) * BODY_SECONDS)
        self._waiting.append(asked)
        self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._session.call_later(self._share.wait, self._go_on)

    def _go_on(self) -> None:
        """Take a turn."""
        with self._share.turn():
            while (self._take_one() | self._step()) and not self._share.is_over:
                pass
            self._answers.flush()
        self._is_due = bool(self._waiting or self._jobs)
        if self._is_due:
            pause = self._pace.wait if self._pace and self._waiting else 0.0
            self._session.call_later(max(pause, self._share.wait, BUSY_SECONDS * self._answers.is_busy), self._go_on)

    def _take_one(self) -> bool:
        """Take the next command, if there is one and it may be taken. Return whether it was."""
        if not self._waiting or (self._pace and not self._pace.take()):
            return False
        asked = self._waiting.popleft()
        self._acks.give(asked.tag)
        self._take(asked)
        return True

    def _step(self) -> bool:
        """Go on with the next of what takes longer, unless its answers could not leave. Was there any?"""
        if not self._jobs or self._answers.is_busy:
            return False
        job, reply = self._jobs.popleft()
        try:
            next(job)
        except StopIteration:
            pass
        else:
            self._jobs.append((job, reply))
        return True

    def _take(self, asked: _Asked) -> None:
        nonce = asked.correlation_id or ""

        def reply(answer: dict[str, Any]) -> None:
            self._answers.send(asked.reply_to, asked.correlation_id, json.dumps(answer).encode(), sign)

        def sign(body: bytes) -> str:
            return signature.sign_answer(self._key, self._queue, nonce, body) if self._key and nonce else ""

        if not asked.reply_to.startswith(REPLY_TO):
            self._refuse(f"its reply-to is not {REPLY_TO}")
        elif why := self._objection(asked):
            self._refuse(why)
            reply({"done": True, "error": f"refused: {why}"})
        elif (command := parsed(asked.body)) is None:
            reply({"done": True, "error": "a command is a JSON object of texts"})
        else:
            self._answers.prepare()
            self.begin(command, reply)

    def _objection(self, asked: _Asked) -> str:
        """Why a command will not even be read; empty = it will."""
        if len(asked.body) > COMMAND_MAX:
            return f"it is longer than {COMMAND_MAX} bytes"
        if self._guard is None:
            return ""
        return self._guard.objection(asked.correlation_id, asked.expires, asked.body, asked.signature)

    def _refuse(self, why: str) -> None:
        now = time.monotonic()
        if now - self._refused_at > REFUSAL_EVERY:
            self._refused_at = now
            remedy = "who writes to it? rabbitmqctl list_permissions; CONTROL_SECRET must be the same on both sides"
            self._log.warning("a command was refused", queue=self._queue, why=why, remedy=remedy)


def _short(value: object) -> str | int | None:
    return value if isinstance(value, str | int) else None


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
