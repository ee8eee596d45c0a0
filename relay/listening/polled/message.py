"""A row of a polled outbox as the event that is published: the message has the shape of PostgreSQL's. Pure."""

import datetime
import decimal
import functools
import json
import uuid
from collections.abc import Sequence
from typing import Any

from relay.errors import Unavailable
from relay.listening.event import TRUNCATE, OutboxEvent, plain
from relay.listening.outbox_read import TOO_LARGE, UNREADABLE
from relay.listening.polled.outbox_table import OWN, OutboxTable
from relay.listening.polled.statements import HEAVY, HELD
from relay.listening.source import Held

_SAID = len(OWN) + 1  # columns before those of a firm's queue
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_NAMESPACE = uuid.UUID("6f1d3a5e-3f0c-4a57-9c39-6f7a1c1f7f5b")  # of the identities of rows that have none
_quoted = functools.lru_cache(1000)(functools.partial(json.dumps, ensure_ascii=False))


class Text(bytes):
    """A text of SQLite's as its bytes: it need not be UTF-8. (A BLOB comes as bytes.)"""


class Unreadable(Exception):
    """A row that does not hold what it should. Its text says why, without a value of it."""


class Messages:
    """Makes events of rows.

    Args:
        table: what was read.
        source: its name, for the identities of rows without one.
        in_bytes: does the driver give texts as bytes?
    """

    def __init__(self, table: OutboxTable, source: str, *, in_bytes: bool) -> None:
        self._table = table
        self._source = source
        self._in_bytes = in_bytes

    def of(self, row: Sequence[Any], names: Sequence[str]) -> OutboxEvent | Held:
        """Make an event of a row as Statements.read finds it; of one that can't be published, one with a flaw.

        Args:
            names: of all columns, as the driver tells them.
        """
        if self._in_bytes or not self._table.is_own:  # a firm's columns are of any type, and can be null
            row = [number(row[0]), *row[1:3], *map(lenient, row[3:7]), *row[7:]]
        seq, id_, at, topic, table, op, key, old, new, body, headers, too_large, error, state = row[:_SAID]
        event_key = self._key(table, op, key)
        if error is not None or state == HELD:
            return Held(int(seq), table, event_key, topic or "", lenient(error))
        content, flaw, head, micros = b"", "", None, 0
        identity = id_ if isinstance(id_, str) else lenient(id_) or ""
        try:
            if topic is None or op is None:
                raise Unreadable("its topic or op is null")
            micros, moment = _moment(at)
            identity = identity or self._identity(seq, micros)
            if state == HEAVY:
                flaw = TOO_LARGE
            elif body is not None:
                content = _text(body).encode()
            else:
                if not self._table.has_images:
                    new = _image(names[_SAID:], row[_SAID:])
                said = _said(table, op)
                large = ',"too_large":true' if too_large else ""
                content = (
                    f'{{"id":"{identity}","at":"{moment}{said}{self._shown_key(key)},"old":{_text(old) or "null"},'
                    f'"new":{_text(new) or "null"}{large}}}'
                ).encode()
            if headers is not None and not flaw:
                head, flaw = plain(_text(headers))
        except Unreadable as reason:
            flaw = f"{UNREADABLE}: {reason}"
        except UnicodeEncodeError:
            flaw = f"{UNREADABLE}: it holds half of a character"
        return OutboxEvent(int(seq), identity, micros, 0, topic or "", table, op or "", event_key, content, head, flaw)

    def _key(self, table: str | None, op: str, key: str | None) -> str | None:
        """What keeps order. A firm's queue without a column for it has one strand."""
        if not self._table.is_own:
            return key if "key" in self._table.columns else table
        if table is None:
            return key
        if op == TRUNCATE:
            return table
        return None if key is None else f"{table} {key}"

    def _shown_key(self, key: str | None) -> str:
        """As the body has it: of a firm's queue an object like those of row events."""
        if key is None or self._table.is_own:
            return key or "null"
        return f"{{{_quoted(self._table.columns.get('key'))}:{_quoted(key)}}}"

    def _identity(self, seq: object, micros: int) -> str:
        when = f" {micros}" if "at" in self._table.columns else ""
        return str(uuid.uuid5(_NAMESPACE, f"{self._source} {self._table.shown} {seq}{when}"))


@functools.lru_cache(1000)
def _said(table: str | None, op: str) -> str:
    """The middle of a body, as PostgreSQL's relay.event_body has it; there is no transaction's number."""
    return f'","xid":null,"table":{_quoted(table)},"op":{_quoted(op)},"key":'


def _moment(at: object) -> tuple[int, str]:
    """When a row was written: microseconds of the epoch, and ISO 8601 in UTC."""
    text: Any = _text(at) if isinstance(at, bytes) else at
    if isinstance(text, str) and text[19:20] == "." and (digits := text[20:].removesuffix("Z")).isdecimal():
        # As our own outbox has it: most rows of a second ago share theirs.
        seconds = _seconds(text[:19])
        return seconds * 1_000_000 + int(digits[:6].ljust(6, "0")), f"{text[:10]}T{text[11:19]}.{digits}+00:00"
    try:
        found = datetime.datetime.now(datetime.UTC) if text is None else text
        if not isinstance(found, datetime.datetime):
            found = datetime.datetime.fromisoformat(found)
        found = found.astimezone(datetime.UTC) if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    except (ValueError, TypeError, OverflowError):
        raise Unreadable("its time is none") from None
    return (found - _EPOCH) // _MICROSECOND, found.isoformat()


@functools.lru_cache(1000)
def _seconds(text: str) -> int:
    try:
        return int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp())
    except ValueError:
        raise Unreadable("its time is none") from None


def _image(names: Sequence[str], values: Sequence[Any]) -> str:
    """A row as JSON: numbers with all of their digits, times as ISO 8601, bytes in hex."""
    return "{" + ",".join(f"{_quoted(name)}:{_json(value)}" for name, value in zip(names, values, strict=True)) + "}"


def _json(value: Any) -> str:
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else _quoted(str(value))
    if isinstance(value, datetime.datetime | datetime.date):
        return _quoted(value.isoformat())
    if isinstance(value, datetime.timedelta):
        return _quoted(str(value))
    if isinstance(value, Text):
        return json.dumps(_text(value), ensure_ascii=False)
    if isinstance(value, bytes | bytearray):
        return json.dumps(value.hex())
    if value is None or isinstance(value, int | float | str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(str(value), ensure_ascii=False)


def _text(value: Any) -> Any:
    """A text, also of a driver that gives bytes, as SQLite's is made to, and of a column of another type; or None."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Unreadable("it is no UTF-8") from None
    return value if value is None or isinstance(value, str) else str(value)


def number(value: Any) -> int:
    """The number of a row: SQLite takes a text for it, and finds it larger than all numbers."""
    try:
        return int(value)
    except (ValueError, TypeError, OverflowError):
        raise Unavailable("a row of the outbox has no whole number for seq", "correct the row, or delete it") from None


def lenient(value: Any) -> str | None:
    """A text, whatever its bytes: those that are no UTF-8 as \\xNN, so that equal ones stay equal."""
    if value is None or isinstance(value, str):
        return value
    return bytes(value).decode(errors="backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
