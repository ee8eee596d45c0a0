"""Commands for the running receiver, over `<queue>.control`.

The same handlers serve a command that found no receiver running and took the lease itself.
"""

import base64
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relay.amqp.answers import Answers
from relay.amqp.command_queue import CommandQueue, Reply
from relay.amqp.session import Session
from relay.amqp.topology import sorted_out
from relay.config import Receive
from relay.delivery import Event, key_name
from relay.log import Log
from relay.receiving.codec import UNSIGNED, UNSIGNED_STRAND
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.lease import control_name
from relay.receiving.listings import Listings, piece
from relay.receiving.parking.codec import shown_aside
from relay.receiving.parking.index import ROOM_MAX, Entry, ParkedIndex
from relay.receiving.parking.unpark import Unpark

NAMED_MAX = 10  # handles that a message names
SHOWN_MAX = 1_000_000  # bytes of an event's body that `show` returns
PROGRESS_EVERY = 0.5  # seconds
UNDER_WAY_MAX = 100  # commands whose end somebody awaits
WATCHED_MAX = 2 * ROOM_MAX  # keys that all of these together are about
COMMANDS = ("parked", "who", "status", "show", "replay", "discard")
FILTERS = ("id", "key", "table", "reason", "unsigned")

_log = Log("receiver")


class Control:
    """Carries out commands.

    Args:
        config: QUEUE, CONTROL_SECRET, MAX_ATTEMPTS.
        dispatcher: knows how many were delivered.
        answers: takes them to who has asked.
        status: what the receiver says of itself.
    """

    def __init__(
        self,
        session: Session,
        config: Receive,
        index: ParkedIndex,
        unpark: Unpark,
        dispatcher: Dispatcher,
        answers: Answers,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._status = status
        self._queue = control_name(config.queue)
        self._commands = CommandQueue(session, self._queue, config.command_key, answers, self.carry_out, _log)
        self._index = index
        self._unpark = unpark
        self._max_attempts = config.max_attempts
        self._dispatcher = dispatcher
        self._user, self._since = config.rabbitmq_url.user, int(time.time())
        self._watched: list[tuple[set[str], int, Reply]] = []  # strands on their way out, how many, whom to tell
        self._shows: dict[str, Reply] = {}  # by event, whom to show it
        self._listings = Listings(lambda: answers.is_busy)
        self._told = 0.0

    async def open(self) -> None:
        """Begin to listen. From the main flow. Raises RelayError."""
        if refused := await self._commands.open():
            raise sorted_out(refused, f"queue {self._queue}")

    def carry_out(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Begin a command; `reply` gets its answers, the last one with `done`."""
        what = command.get("command")
        if wrong := objection(command, len(self._watched) + len(self._unpark.wishes.shows)):
            reply({"done": True, "error": wrong})
        elif what == "parked":
            self._listings.begin(map(_shown, chosen(self._index, command)), reply)
        elif what == "who":
            reply({"done": True, "who": self._who()})
        elif what == "status":
            reply({"done": True, "status": self._status()})
        elif what == "show":
            self._show(command.get("id") or "", reply)
        elif what == "replay":
            self._replay(list(chosen(self._index, command)), reply)
        elif what == "discard":
            self._discard(command, reply)

    def _who(self) -> dict[str, Any]:
        """For a standby (holder.py), and whoever reads its log."""
        return {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "user": self._user,
            "since": self._since,
            "delivered": self._dispatcher.deliveries.delivered,
        }

    def tick(self, now: float) -> None:
        """Tell those who wait how far it is."""
        self._listings.go_on()
        if now - self._told < PROGRESS_EVERY:
            return
        self._told = now
        for watched in list(self._watched):
            strands, total, reply = watched
            left = {strand for strand in strands if self._is_on_its_way(strand)}
            if left:
                reply({"total": total, "left": len(left)})
                continue
            self._watched.remove(watched)
            left_over = [entry for entry in self._index.strands() if entry.strand in strands]
            refused, _ = piece(map(_shown, left_over))
            reply({"done": True, "total": total, "refused": refused, "more": len(left_over) - len(refused)})

    def give_up(self, why: str) -> None:
        """Tell those who wait that nothing will come of it: they may ask again. Never raises."""
        waiting = [*(reply for *_, reply in self._watched), *self._shows.values(), *self._listings.end()]
        self._watched.clear()
        self._shows.clear()
        self._unpark.wishes.clear()
        for reply in waiting:
            reply({"done": True, "error": why, "again": True})

    def _is_on_its_way(self, strand: str) -> bool:
        entry = self._index.entries.get(strand)
        return entry is not None and (not entry.count or not self._index.waits_for_person(entry))

    def _are_too_many(self, entries: list[Entry], reply: Reply) -> bool:
        """Are so many keys on their way out already that these can't be watched as well?"""
        if sum(len(strands) for strands, *_ in self._watched) + len(entries) <= WATCHED_MAX:
            return False
        reply({"done": True, "error": "too many commands are under way; try again later"})
        return True

    def _replay(self, entries: list[Entry], reply: Reply) -> None:
        if self._are_too_many(entries, reply):
            return
        now = time.monotonic()
        for entry in entries:
            # One try each: a person asked for it, and will see what becomes of it.
            self._index.replay(entry.strand, now, self._max_attempts - 1)
        self._watch(entries, reply)

    def _discard(self, command: Mapping[str, Any], reply: Reply) -> None:
        if command.get("id"):
            found = list(chosen(self._index, {"id": command["id"]}))
            if len(found) != 1:
                reply({"done": True, "error": _not_one(str(command["id"]), found)})
                return
            self._unpark.wishes.to_discard.add((found[0].strand, found[0].first_handle))
            self._index.retry(found[0].strand, time.monotonic())
            self._watch(found, reply)
            return
        entries = list(chosen(self._index, command))
        if self._are_too_many(entries, reply):
            return
        for entry in entries:
            self._index.discard(entry.strand)
        self._watch(entries, reply)

    def _watch(self, entries: list[Entry], reply: Reply) -> None:
        self._unpark.expedite()
        self._watched.append(({entry.strand for entry in entries}, len(entries), reply))

    def _show(self, event_id: str, reply: Reply) -> None:
        def found(event: Event | None, entry: Entry | None) -> None:
            self._shows.pop(event_id, None)
            if event is None or entry is None:
                reply({"done": True, "error": f"event {event_id} is not in the parking lot"})
            else:
                reply({"done": True, "event": _event(event), "parked": _shown(entry)})

        if not self._index.events:
            reply({"done": True, "error": "the parking lot is empty"})
            return
        self._unpark.wishes.shows[event_id], self._shows[event_id] = found, reply
        self._unpark.expedite()


def objection(command: Mapping[str, Any], under_way: int) -> str:
    """Why a command is not carried out; empty = it is. `under_way`: commands whose end somebody awaits."""
    what = command.get("command")
    if under_way >= UNDER_WAY_MAX:
        return "too many commands are under way; try again later"
    if what not in COMMANDS:
        return f"no such command: {what!r:.50}"
    if what in ("replay", "discard") and not command.get("all") and not any(map(command.get, FILTERS)):
        return f'{what} needs "id", "key", "table", "reason", "unsigned" or "all": true'
    return ""


def chosen(index: ParkedIndex, command: Mapping[str, Any]) -> Iterator[Entry]:
    """The strands that a command's filters name; without one, all."""
    reason = (command.get("reason") or "").lower()
    for entry in index.strands():
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
        "attempts": entry.tries.attempts,
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
        "content_type": event.content_type,
        "size": len(event.body),
        **({"problem": event.problem} if event.problem else {}),
        **({"problem": UNSIGNED} if event.claimed_id is not None else {}),
        **shown_aside(event),
    }
    body = event.body[:SHOWN_MAX]
    try:
        shown["body"] = body.decode()
    except UnicodeDecodeError:
        shown["body_base64"] = base64.b64encode(body).decode()
    return shown
