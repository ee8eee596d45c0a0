"""An event's headers by its publisher, beside ours and RabbitMQ's. Whatever they hold, nothing raises."""

import json
import re
from collections.abc import Mapping
from typing import Any

from relay.amqp.decode import read_properties
from relay.delivery import Event
from relay.targets.template import in_url

SENT_MAX = 4096  # bytes of all that are sent on by HTTP: many servers take no more than 8 KiB of a request's
PREFIX = "Relay-Header-"

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # a token of HTTP (RFC 9110, 5.6.2)
_OTHERS = ("relay-", "x-")  # ours; those that RabbitMQ adds (x-death, x-delivery-count)


def given(event: Event) -> dict[str, Any]:
    """By name; values as AMQP has them, text where they are bytes."""
    if not event.aside or event.problem:
        return {}
    found: Mapping[Any, Any] = read_properties(event.aside).headers or {}
    return {
        name: _value(value)
        for name, value in found.items()
        if isinstance(name, str) and not name.lower().startswith(_OTHERS)
    }


def sent(event: Event) -> dict[str, str]:
    """As headers of HTTP, `Relay-Header-NAME`: text as it is, true, numbers and lists as JSON, NULL not at all.

    What is no printable ASCII is percent-encoded as UTF-8. Left out are names that HTTP can't carry, and what comes
    after SENT_MAX bytes.
    """
    found, size = dict[str, str](), 0
    for name, value in given(event).items():
        if value is None or not _NAME.fullmatch(name):
            continue
        text = readable(value if isinstance(value, str) else _json(value))
        size += len(PREFIX) + len(name) + len(text) + 4
        if size <= SENT_MAX:
            found[PREFIX + name] = text
    return found


def readable(text: str) -> str:
    """A header's value: printable ASCII as it is, `%` and all else percent-encoded as UTF-8."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text.strip()
    return "".join(c if " " <= c <= "~" and c != "%" else in_url(c) for c in text).strip()


def _value(value: Any) -> Any:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=lambda one: _value(one) if isinstance(one, bytes) else str(one))
    except (ValueError, TypeError, RecursionError):  # names that are no text
        return str(type(value).__name__)
