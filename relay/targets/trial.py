"""`receiver.py try`: one event to its target, with all that is sent and answered shown to a person, and no secret."""

import base64
import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from relay import files
from relay.cli import EX_FAILED, print_line
from relay.config import Receive
from relay.daemon import EX_OK, EX_TEMPFAIL
from relay.delivery import NOT_TRIED, Delivery, Event, Outcome, Target, Verdict
from relay.errors import RelayError, one_line
from relay.targets.answer import Answer
from relay.targets.settings import SECRET_HEADER
from relay.targets.template import Digits, Missing, as_json, has_fields
from relay.targets.watching import watcher

SHOWN_MAX = 20_000  # characters of a body that are shown
SHORT_MAX = 200  # the same of what only asks
TOKEN_MIN = 16  # characters of a piece of a URL that may be a token, if there is a digit in it
HIDDEN = "***"

_WORDS = {
    Verdict.DONE: "delivered",
    Verdict.MESSAGE: "refused",
    Verdict.ENDPOINT: "the endpoint does not work",
    Verdict.UNCLEAR: "unclear",
    Verdict.CONFLICT: "it has to wait",
}


class NoEvent(RelayError):
    """It is no event; the text says why."""


def is_file(name: str) -> bool:
    """Does it name a file, or standard input? Else it is a parked event."""
    return name == "-" or name.endswith(".json") or "/" in name or os.path.lexists(name)


def read(name: str) -> Event:
    """Make an event of a file (- = standard input): its JSON as it is published, or what `receiver.py show` prints.

    Raises:
        NoEvent: it can't be read, or is neither.
    """
    if name == "-" and sys.stdin is None:
        raise NoEvent("standard input is closed")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig") if name == "-" else files.text(Path(name))
    except files.Unreadable as error:
        raise NoEvent(str(error), files.WANTED) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NoEvent(f"can't be read: {one_line(error)}") from None
    return parse(text)


def parse(text: str) -> Event:
    """See `read`."""
    try:
        found = _parsed(text)
    except (ValueError, RecursionError):
        raise NoEvent("that is no JSON", 'write an event: {"table": "public.orders", "op": "insert", ...}') from None
    if not isinstance(found, dict):
        return Event(text.encode(), "", content_type="application/json")
    if "handle" in found and ("body" in found or "body_base64" in found):
        return shown(found)
    table, key = _text(found, "table"), found.get("key")
    event = Event(
        text.encode(), table, id=_text(found, "id"), op=_text(found, "op"), table=table, content_type="application/json"
    )
    if not (table and isinstance(key, dict)):
        return event
    try:
        return dataclasses.replace(event, key=f"{table} {as_json(key)}")
    except Missing as error:
        raise NoEvent(str(error)) from None


def shown(found: Mapping[str, Any]) -> Event:
    """Make an event of what `receiver.py show` prints of a parked one.

    Raises:
        NoEvent: not all of its body is there.
    """
    try:
        body = base64.b64decode(_text(found, "body_base64")) or _text(found, "body").encode()
        size = int(found.get("size", len(body)))
    except (ValueError, TypeError):
        raise NoEvent("its body, or size, can't be read", "give what receiver.py show prints") from None
    if len(body) < size:
        raise NoEvent(f"its body of {size} bytes is too large to be shown, and so to be tried", "receiver.py replay")
    return Event(
        body,
        _text(found, "topic"),
        id=_text(found, "id"),
        op=_text(found, "op"),
        key=_text(found, "key"),
        table=_text(found, "table"),
        content_type=_text(found, "content_type"),
        content_encoding=_text(found, "content_encoding"),
        problem=_text(found, "problem"),
        handle=_text(found, "handle"),
    )


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) and not isinstance(value, Digits) else ""


async def run(config: Receive, target: Target, event: Event, *, sends: bool) -> int:
    """Try to deliver an event. Return the exit status.

    Args:
        sends: else nothing is sent that would change anything there.
    """
    print_line(f"event    {event.id or '(no id)'} {event.op or '(no op)'} {event.table or event.topic or '(no topic)'}")
    if event.problem:
        return _end(Outcome(Verdict.MESSAGE, event.problem), None)
    for line in target.describe(event):
        print_line(f"row      {line}")
    watch = Watch(config, sends=sends)
    token = watcher.set(watch)
    link = target.open()
    try:
        (outcome,) = await link.deliver([Delivery(event, 1)])
    finally:
        link.close()
        watcher.reset(token)
    if outcome is NOT_TRIED:
        print_line("verdict  not sent (--dry-run)")
        return EX_OK
    return _end(outcome, watch)


def _end(outcome: Outcome, watch: "Watch | None") -> int:
    reason = watch.masked(outcome.reason) if watch else outcome.reason
    said = f"{_WORDS[outcome.verdict]}: {reason}" if reason else _WORDS[outcome.verdict]
    print_line(f"verdict  {said}" + ("" if watch and watch.has_sent else "; nothing was sent for it"))
    if outcome.verdict is Verdict.DONE:
        return EX_OK
    return EX_FAILED if outcome.verdict is Verdict.MESSAGE else EX_TEMPFAIL


class Watch:
    """Prints requests and answers. A watching.Watcher.

    Args:
        config: whose secrets are hidden.
        sends: else a request that would change something is shown, and not sent.
    """

    def __init__(self, config: Receive, *, sends: bool) -> None:
        self._sends = sends
        endpoint = config.endpoint()
        self._url = urlsplit(endpoint.url if endpoint else "")
        secrets = sorted({text for one in _secrets(config, self._url.path) for text in _forms(one)}, key=len)
        self._secret = re.compile("|".join(map(re.escape, reversed(secrets))) or "(?!)")
        self.has_sent = False  # something that changes what is there, or would have
        self._reads = False  # the last request

    def masked(self, text: str) -> str:
        """Without secrets."""
        return self._secret.sub(HIDDEN, text)

    def begins(self, request: bytes, *, reads: bool) -> bool:
        """See Watcher."""
        head, _, body = request.partition(b"\r\n\r\n")
        line, *headers = head.decode("latin-1").split("\r\n")
        method, path, _version = line.split(" ")
        shown_path = self.masked(self._without_query(path))
        self._reads = reads
        if reads:
            print_line(f"asks     {method} {shown_path} {self._short(body)}".rstrip())
            return True
        print_line(f"request  {method} {shown_path}")
        for header in headers:
            name, _, value = header.partition(": ")
            print_line(f"         {name}: {HIDDEN if SECRET_HEADER.search(name) else self.masked(value)}")
        self._print_body(body)
        self.has_sent = True
        return self._sends

    def answered(self, answer: Answer) -> None:
        """See Watcher."""
        if self._reads:
            print_line(f"answer   {answer.status} {self._short(answer.body)}".rstrip())
            return
        print_line(f"answer   {answer.status} {self.masked(answer.content_type)}".rstrip())
        self._print_body(answer.body)

    def calls(self, what: str) -> bool:
        """See Watcher."""
        print_line(f"call     {what}")
        self.has_sent = True
        return self._sends

    def _without_query(self, path: str) -> str:
        """What the settings themselves say in a query may be a token; what comes of the event is shown."""
        bare, mark, query = path.partition("?")
        pieces, written = query.split("&"), self._url.query.split("&")
        if not mark or len(pieces) != len(written):
            return f"{bare}{mark}{HIDDEN if mark else ''}"
        return bare + mark + "&".join(map(_hide_constant, pieces, written))

    def _short(self, body: bytes) -> str:
        text = self.masked(" ".join(body.decode("utf-8", "replace").split()))
        return text if len(text) <= SHORT_MAX else f"{text[:SHORT_MAX]}..."

    def _print_body(self, body: bytes) -> None:
        if not body:
            return
        text = self.masked(body.decode("utf-8", "replace"))
        if len(text) <= SHOWN_MAX:
            with contextlib.suppress(ValueError, RecursionError, Missing):
                text = _indented(_parsed(text))
        for line in text[:SHOWN_MAX].rstrip().split("\n"):
            print_line(f"         {line}")
        if len(text) > SHOWN_MAX:
            print_line(f"         ... ({len(body)} bytes in all)")


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=Digits, parse_float=Digits, parse_constant=Digits)


def _indented(value: Any, margin: str = "") -> str:
    """JSON for people; numbers as they were. Raises Missing."""
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{as_json(name)}: {_indented(one, inner)}" for name, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        lines = [inner + _indented(one, inner) for one in value]
    else:
        return as_json(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, ",\n".join(lines), margin + closing])


def _hide_constant(piece: str, written: str) -> str:
    name, equals, _value = piece.partition("=")
    if has_fields(written):
        return piece
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _secrets(config: Receive, path: str) -> Iterator[str]:
    """What the settings hold that is sent, and no business of who reads a screen."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, files.Secret):
            yield value.now()
        elif field.metadata["secret"] and isinstance(value, str):
            yield value
        elif field.metadata["secret"] and isinstance(value, bytes):
            yield value.decode("latin-1")
            yield base64.b64encode(value).decode()
        elif field.metadata["secret"] and isinstance(value, tuple):
            yield from _of_headers(value)
    user, password = getattr(config, "http_user", ""), getattr(config, "http_password", "")
    if user:
        yield base64.b64encode(f"{user}:{password}".encode()).decode()  # as it is sent
    yield from (one for one in path.split("/") if len(one) >= TOKEN_MIN and re.search(r"\d", one))


def _of_headers(headers: tuple[object, ...]) -> Iterator[str]:
    for header in headers:
        if isinstance(header, tuple) and SECRET_HEADER.search(header[0]) and not has_fields(header[1]):
            yield header[1]


def _forms(secret: str) -> Iterable[str]:
    """A secret as it may stand in a URL, in JSON, in a header."""
    if not secret:
        return ()
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {secret, quote(secret), quote(secret, safe=""), *in_json}
