"""What commands choose of the parking lot, and how it is told: in pieces.

Whoever may publish to the default exchange can ask for them, as often as it likes, and fill the parking lot.
"""

import base64
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from relay.delivery import Event, key_name
from relay.receiving.codec import UNSIGNED, UNSIGNED_STRAND
from relay.receiving.parking.codec import shown_aside
from relay.receiving.parking.index import Entry, ParkedIndex

PIECE_MAX = 256 << 10  # bytes of JSON in one answer
SHOWN_MAX = 1_000_000  # bytes of an event's body that `show` returns
LOOK_AT = 100  # keys at a time


def chosen(index: ParkedIndex, command: Mapping[str, Any]) -> Iterator[Entry | None]:
    """The strands that a command's filters name; without one, all. None = others may do something meanwhile."""
    reason = (command.get("reason") or "").lower()
    for number, entry in enumerate(index.strands()):
        if number % LOOK_AT == 0:
            yield None
        if (key := command.get("key")) and entry.key not in (key, key_name(key)):
            continue
        if command.get("table") and command["table"] != entry.table:
            continue
        if command.get("unsigned") and not entry.strand.startswith(UNSIGNED_STRAND):
            continue
        if command.get("id") and command["id"] not in (entry.first_id, entry.first_handle):
            continue
        if reason in entry.tries.reason.lower():
            yield entry


def every(entries: Iterator[Entry | None]) -> Generator[None, None, list[Entry]]:
    """All of what `chosen` gives; yields where it lets others do something."""
    found = []
    for entry in entries:
        if entry is None:
            yield
        else:
            found.append(entry)
    return found


def pieces(keys: Iterable[dict[str, Any] | None]) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Those that make one answer, and whether there are no more, again and again.

    Args:
        keys: None = others may do something meanwhile: then there are none, for now.
    """
    found, size = list[dict[str, Any]](), 0
    for one in keys:
        if one is None:
            yield [], False
            continue
        found.append(one)
        size += len(json.dumps(one))
        if size >= PIECE_MAX:
            yield found, False
            found, size = [], 0
    yield found, True


def shown(entry: Entry) -> dict[str, Any]:
    """A strand, as `parked` answers it."""
    return {
        "handle": entry.first_handle,
        "id": entry.first_id,
        "key": entry.key,
        "table": entry.table,
        "why": entry.why.value,
        "reason": entry.tries.reason or ("waits behind a refused event of its table" if entry.stuck else ""),
        "attempts": entry.tries.attempts,
        "since": entry.since,
        "events": entry.count,
    }


def whole(event: Event) -> dict[str, Any]:
    """An event, as `show` answers it."""
    told: dict[str, Any] = {
        "id": event.id,
        "op": event.op,
        "topic": event.topic,
        "key": event.key,
        "table": event.table,
        "seq": event.seq,
        "handle": event.handle,
        "content_type": event.content_type,
        "size": len(event.body),
        **({"problem": event.problem} if event.problem else {}),
        **({"problem": UNSIGNED} if event.claimed_id is not None else {}),
        **shown_aside(event),
    }
    body = event.body[:SHOWN_MAX]
    try:
        told["body"] = body.decode()
    except UnicodeDecodeError:
        told["body_base64"] = base64.b64encode(body).decode()
    return told
