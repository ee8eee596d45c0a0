"""A row of a watched table as it is now, asked of the listener over RabbitMQ: for applications without the database.

    from relay.ask import Client

    client = Client("amqps://app:secret@rabbitmq.example.lan/relay", source="erp")
    order = client.get("public.orders", {"id": 42})          # a dict, or None
    orders = client.get_many("public.orders", [{"id": 1}, {"id": 2}])

The listener of `source` (its SOURCE, by default the name of its database) must have REQUESTS=on, and the user of the
URL must be allowed to write to the default exchange. It needs pika.
"""

from __future__ import annotations

import decimal
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pika
import pika.exceptions
from pika.channel import Channel

from relay import signature
from relay.amqp import blocking
from relay.amqp.ask import REPLY_TO, believed, signed
from relay.errors import one_line

KEYS_EACH = 50  # of one request
UNDER_WAY = 20  # requests at a time: more would only wait in RabbitMQ
BREAK = 2  # times that a connection is opened for one call
WHOLE_MAX = 4000  # digits that are made an int: Python refuses more than 4,300

Row = dict[str, Any]


class AskError(Exception):
    """There is no answer: why, in one line."""


class NoListener(AskError):
    """Nobody answers requests for this source."""


class NotAnswered(AskError):
    """No answer in time, or RabbitMQ is away."""


class Refused(AskError):
    """The listener refuses: a table that is not watched, no key of it, and the like."""


class Client:
    """Asks over one connection, which it opens when it first needs it. For one thread at a time.

    Args:
        url: amqp:// or amqps://, with the virtual host. `?source=` may name the source.
        source: the listener's SOURCE.
        secret: CONTROL_SECRET of the listener, if it has one.
        timeout: seconds for the answer.
        parameters: pika's, instead of those of the URL (a private authority for TLS, for example).
    """

    def __init__(
        self, url: str, source: str = "", *, secret: bytes | str = b"", timeout: float = 5.0,
        parameters: pika.ConnectionParameters | None = None,
    ) -> None:  # fmt: skip
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        self._source = source or query.pop("source", "")
        if not self._source:
            raise ValueError("whose rows? Client(url, source=...): the listener's SOURCE, or its database's name")
        plain = urlunsplit(parts._replace(query=urlencode({"blocked_connection_timeout": timeout, **query})))
        self._parameters = parameters or pika.URLParameters(plain)
        given = secret.encode() if isinstance(secret, str) else secret
        self._key = signature.command_key(given, self._parameters.virtual_host)
        self._timeout = timeout
        self._line: _Line | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; another call opens one again."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def get(self, table: str, key: Mapping[str, object] | str) -> Row | None:
        """Return the row with this key; None = there is none, or the watch's condition leaves it out.

        Args:
            table: schema.table, as events have it.
            key: its columns; or their JSON, as in `key` of an event (every digit kept).

        Returns:
            The columns of the watch, as in `new` of an event; numbers with a fraction, or very long, as Decimal.

        Raises:
            AskError: NoListener, NotAnswered, Refused.
        """
        return self.get_many(table, [key])[0]

    def get_many(self, table: str, keys: Iterable[Mapping[str, object] | str]) -> list[Row | None]:
        """Return the rows with these keys, in their order: as `get`, with few requests."""
        texts = [key if isinstance(key, str) else _KEY(key) for key in keys]
        return [None if row is None else _row(row) for row in self._rows(table, texts)]

    def _rows(self, table: str, texts: list[str]) -> list[str | None]:
        for attempt in range(1, BREAK + 1):
            try:
                return self._opened().rows(table, texts, self._timeout)
            except (pika.exceptions.AMQPError, OSError) as error:
                self.close()
                if attempt == BREAK:
                    raise NotAnswered(f"RabbitMQ: {one_line(error)}") from None
        raise AssertionError  # the loop ends before

    def _opened(self) -> _Line:
        if self._line is None or not self._line.is_open:
            opened = blocking.connect(self._parameters)
            self._line = _Line(*opened, f"relay.control.{self._source}", self._key)
        return self._line


class _Line:
    """A connection, and where its answers come in. Who was not answered in time leaves nothing behind here."""

    def __init__(self, connection: blocking.Connection, channel: Channel, queue: str, key: bytes) -> None:
        self._connection = connection
        self._channel = channel
        self._queue = queue
        self._key = key
        self._found: dict[int, str | None] = {}
        self._under_way: dict[str, tuple[int, int]] = {}  # by correlation_id: the first key's place, how many
        self._error: AskError | None = None
        channel.basic_consume(REPLY_TO, self._answered, auto_ack=True)  # before the first request, on its channel
        channel.add_on_return_callback(self._returned)

    @property
    def is_open(self) -> bool:
        return bool(self._connection.is_open and self._channel.is_open)

    def close(self) -> None:
        self._connection.goodbye()

    def rows(self, table: str, texts: list[str], timeout: float) -> list[str | None]:
        self._found, self._under_way, self._error = {}, {}, None
        starts = iter(range(0, len(texts), KEYS_EACH))
        end = time.monotonic() + timeout
        while len(self._found) < len(texts):
            while len(self._under_way) < UNDER_WAY and (start := next(starts, None)) is not None:
                self._send(table, start, texts[start : start + KEYS_EACH], timeout)
            before = len(self._found)
            self._connection.wait(end - time.monotonic())
            if self._error is not None:
                raise self._error
            if len(self._found) > before:
                end = time.monotonic() + timeout
            elif time.monotonic() >= end:
                raise NotAnswered(f"the listener has not answered within {timeout:g} s")
        return [self._found[place] for place in range(len(texts))]

    def _send(self, table: str, start: int, keys: list[str], timeout: float) -> None:
        marker = str(uuid.uuid4())
        self._under_way[marker] = start, len(keys)
        command = {"command": "get", "table": table, "keys": "\n".join(keys)}
        properties, body = signed(self._queue, self._key, marker, command)
        properties.expiration = str(int(timeout * 1000))  # who waits no longer needs no answer
        self._channel.basic_publish("", self._queue, body, properties, mandatory=True)

    def _answered(self, _channel: object, _method: object, properties: pika.BasicProperties, body: bytes) -> None:
        asked = self._under_way.pop(str(properties.correlation_id), None)
        if asked is None:
            return  # of an earlier call
        start, count = asked
        try:
            answer = json.loads(believed(self._queue, self._key, properties, body))
            rows, errors = answer.get("rows"), answer.get("errors") or {}
            if "error" in answer or errors:
                self._error = Refused(str(answer.get("error") or next(iter(errors.values()))))
            elif len(rows) == count:
                self._found.update(enumerate(rows, start))
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._error = Refused("the answer makes no sense: is the listener of this version?")

    def _returned(self, _channel: object, _method: object, properties: pika.BasicProperties, _body: bytes) -> None:
        if self._under_way.pop(str(properties.correlation_id), None) is not None:
            source = self._queue.removeprefix("relay.control.")
            self._error = NoListener(f"no listener of source {source} takes requests: does it run, with CONTROL=on?")


def _number(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    return str(value)  # a date, a uuid


def _row(text: str) -> Row:
    """Raises Refused: it can't be read."""
    try:
        found = _ROW(text)
    except (ValueError, TypeError, RecursionError, ArithmeticError):
        raise Refused("a row's JSON can't be read: is it nested too deep?") from None
    if not isinstance(found, dict):
        raise Refused("the answer makes no sense: is the listener of this version?")
    return found


def _whole(text: str) -> int | decimal.Decimal:
    return int(text) if len(text) <= WHOLE_MAX else decimal.Decimal(text)


# json.dumps and json.loads make one for each call that has arguments.
_KEY = json.JSONEncoder(default=_number).encode
_ROW = json.JSONDecoder(parse_float=decimal.Decimal, parse_int=_whole).decode
