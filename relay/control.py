"""Commands for the running receiver: `<queue>.control`, an exclusive queue that exists only while it is at work.

A command is a JSON object with `command` and its arguments; the answer is one or more JSON objects to its reply-to, the
last one with `done`. The same handlers serve a command that found no receiver running and took the lease itself.
"""

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay.delivery import Event
from relay.message import shown_aside
from relay.passes import Passes
from relay.room import Entry, Room, Why
from relay.wire import Wire

NAMED_MAX = 10  # handles that a message names
SHOWN_MAX = 1_000_000  # bytes of an event's body that `show` returns
PROGRESS_EVERY = 0.5  # seconds

Reply = Callable[[dict[str, Any]], None]


class Control:
    """Receives and carries out commands."""

    def __init__(self, wire: Wire, queue: str, room: Room, passes: Passes, max_attempts: int) -> None:
        self._wire = wire
        self._queue = queue
        self._room = room
        self._passes = passes
        self._max_attempts = max_attempts
        self._channel: Channel | None = None
        self._watched: list[tuple[set[str], int, Reply]] = []  # lanes on their way out, how many, whom to tell
        self._told = 0.0

    def open(self) -> None:
        """Begin to listen. From the main flow. Raises RelayError."""
        channel = self._channel = self._wire.open_channel()
        self._wire.ask(
            lambda cb: channel.queue_declare(self._queue, exclusive=True, auto_delete=True, callback=cb),
            f"declaring {self._queue}",
        )
        self._wire.ask(
            lambda cb: channel.basic_consume(self._queue, self._on_message, auto_ack=True, callback=cb),
            f"reading {self._queue}",
        )

    def _on_message(self, channel: Channel, _m: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        def reply(answer: dict[str, Any]) -> None:
            if properties.reply_to and channel.is_open:
                own = BasicProperties(correlation_id=properties.correlation_id, content_type="application/json")
                channel.basic_publish("", properties.reply_to, json.dumps(answer).encode(), own)

        try:
            command = json.loads(body)
            if not isinstance(command, dict):
                raise TypeError
        except (ValueError, TypeError):
            reply({"done": True, "error": "a command is a JSON object"})
            return
        self.carry_out(command, reply)

    def carry_out(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Begin a command; `reply` gets its answers, the last one with `done`."""
        what = command.get("command")
        if what == "parked":
            reply({"done": True, "parked": [_shown(entry) for entry in self._chosen(command)]})
        elif what == "show":
            self._show(str(command.get("id", "")), reply)
        elif what == "replay":
            self._replay(list(self._chosen(command)), reply)
        elif what == "discard":
            self._discard(command, reply)
        else:
            reply({"done": True, "error": f"no such command: {str(what)[:50]!r}"})

    def tick(self, now: float) -> None:
        """Tell those who wait how far it is."""
        if now - self._told < PROGRESS_EVERY:
            return
        self._told = now
        for watched in list(self._watched):
            lanes, total, reply = watched
            left = {lane for lane in lanes if self._is_on_its_way(lane)}
            if left:
                reply({"total": total, "left": len(left)})
                continue
            self._watched.remove(watched)
            refused = [_shown(entry) for entry in self._room.lanes() if entry.lane in lanes]
            reply({"done": True, "total": total, "refused": refused})

    def _is_on_its_way(self, lane: str) -> bool:
        entry = self._room.entries.get(lane)
        return entry is not None and (not entry.count or not self._room.waits_for_person(entry))

    def _chosen(self, command: Mapping[str, Any]) -> Iterable[Entry]:
        """The lanes that a command's filters name; without one, all."""
        reason = str(command.get("reason") or "").lower()
        for entry in self._room.lanes():
            if command.get("key") and command["key"] != entry.key:
                continue
            if command.get("table") and command["table"] != entry.table:
                continue
            if command.get("id") and command["id"] not in (entry.first_id, entry.first_handle):
                continue
            if reason in entry.tries.reason.lower():
                yield entry

    def _replay(self, entries: list[Entry], reply: Reply) -> None:
        now = time.monotonic()
        for entry in entries:
            if entry.why is Why.DEAD:
                # One try each: a person asked for it, and will see what becomes of it.
                self._room.mark(entry, Why.OVERFLOW)
                entry.tries.failures, entry.tries.wake = self._max_attempts - 1, 0.0
                entry.tries.asked, entry.tries.yields = True, False
            entry.due, entry.stuck = now, False
            for other in self._room.of_table(entry.table):
                if other.why is Why.BEHIND:
                    other.due, other.stuck = min(other.due, now), False
        self._watch(entries, reply)

    def _discard(self, command: Mapping[str, Any], reply: Reply) -> None:
        if command.get("id"):
            found = list(self._chosen({"id": command["id"]}))
            if len(found) != 1:
                reply({"done": True, "error": _not_one(str(command["id"]), found)})
                return
            self._passes.discard_handles.add(found[0].first_handle)
            self._room.mark(found[0], Why.OVERFLOW)
            found[0].due = time.monotonic()
            self._watch(found, reply)
            return
        entries = list(self._chosen(command))
        for entry in entries:
            entry.discard = entry.count  # what comes in behind them from now on is none of it
        self._watch(entries, reply)

    def _watch(self, entries: list[Entry], reply: Reply) -> None:
        self._passes.hurry()
        self._watched.append(({entry.lane for entry in entries}, len(entries), reply))

    def _show(self, event_id: str, reply: Reply) -> None:
        def found(event: Event | None, entry: Entry | None) -> None:
            if event is None or entry is None:
                reply({"done": True, "error": f"event {event_id} is not in the waiting room"})
            else:
                reply({"done": True, "event": _event(event), "parked": _shown(entry)})

        if not self._room.events:
            reply({"done": True, "error": "the waiting room is empty"})
            return
        self._passes.shows[event_id] = found
        self._passes.hurry()


def _not_one(name: str, found: list[Entry]) -> str:
    if not found:
        return f"event {name} is not the first of a parked key; receiver.py parked shows them"
    handles = ", ".join(entry.first_handle for entry in found[:NAMED_MAX])
    return f"{len(found)} parked events have the id {name}; name one as receiver.py parked does, e.g. {handles}"


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "handle": entry.first_handle,
        "id": entry.first_id,
        "key": entry.key,
        "table": entry.table,
        "why": entry.why.value,
        "reason": entry.tries.reason or ("waits behind a refused event of its table" if entry.stuck else ""),
        "attempts": entry.tries.failures,
        "since": entry.since,
        "events": entry.count,
    }


def _event(event: Event) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": event.id,
        "op": event.op,
        "topic": event.topic,
        "key": event.key,
        "table": event.table,
        "seq": event.seq,
        "handle": event.handle,
        **shown_aside(event),
    }
    body = event.body[:SHOWN_MAX]
    try:
        shown["body"] = body.decode()
    except UnicodeDecodeError:
        shown["body_base64"] = base64.b64encode(body).decode()
    return shown
