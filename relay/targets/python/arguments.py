"""An event as a function's arguments. Pure."""

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from relay.delivery import Delivery, Event
from relay.targets import headers
from relay.targets.many_values import too_many
from relay.targets.template import coding

WHOLE_MAX = 4000  # digits that are made an int: Python refuses more than 4,300


class Unreadable(Exception):
    """Its body can't be given: surely its own failure. The text says why, and holds nothing of it."""


def given(delivery: Delivery, names: Iterable[str]) -> dict[str, Any]:
    """Those of relay.handlers.ARGUMENTS that are asked for. Raises Unreadable."""
    event, found, parsed = delivery.event, dict[str, Any](), None
    for name in names:
        if name in ("event", "old", "new") or (name == "key" and event.table):
            parsed = parse(event) if parsed is None else parsed
        found[name] = _argument(name, delivery, parsed)
    return found


def _argument(name: str, delivery: Delivery, parsed: Any) -> Any:
    event = delivery.event
    if name == "event":
        return parsed
    if name == "attempt":
        return delivery.attempt
    if name == "headers":
        return headers.given(event)
    value = parsed.get(name) if isinstance(parsed, dict) else None
    if name in ("old", "new"):
        return value
    if name == "key":
        return value if event.table and isinstance(value, dict) else event.key
    return getattr(event, name)  # id, topic, op, body


def parse(event: Event) -> Any:
    """Its body; numbers as int or Decimal, with every digit. Raises Unreadable."""
    if why := too_many(event):
        raise Unreadable(f"{why}; the argument body has it as bytes")
    try:
        return json.loads(event.body, parse_float=Decimal, parse_int=_whole, parse_constant=Decimal)
    except InvalidOperation:
        raise Unreadable("a number of the event is beyond what Decimal can hold") from None
    except (ValueError, RecursionError):
        encoded = f", but encoded: {coding(event)}" if coding(event) else ""
        raise Unreadable(f"the event is not JSON{encoded}; the argument body has it as bytes") from None


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) <= WHOLE_MAX else Decimal(text)
