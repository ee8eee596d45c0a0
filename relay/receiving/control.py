"""Commands for the running receiver, over `<queue>.control`.

The same handlers serve a command that found no receiver running and took the lease itself.
"""

import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from relay.amqp.answers import Answers
from relay.amqp.command_queue import CommandQueue, Job, Reply
from relay.amqp.pace import Share
from relay.amqp.session import Session
from relay.amqp.topology import sorted_out
from relay.config import Receive
from relay.delivery import Event
from relay.log import Log
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.lease import control_name
from relay.receiving.listings import LOOK_AT, chosen, every, pieces, shown, whole
from relay.receiving.parking.index import ROOM_MAX, Entry, ParkedIndex
from relay.receiving.parking.unpark import Unpark

NAMED_MAX = 10  # handles that a message names
PROGRESS_EVERY = 0.5  # seconds
UNDER_WAY_MAX = 100  # commands whose end somebody awaits
WATCHED_MAX = 2 * ROOM_MAX  # keys that all of these together are about
ABOUT_PARKED = ("parked", "show", "replay", "discard")
COMMANDS = (*ABOUT_PARKED, "who", "status")
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
        self._commands = CommandQueue(session, self._queue, config.command_key, answers, self._carry_out, _log)
        self._index = index
        self._unpark = unpark
        self._max_attempts = config.max_attempts
        self._dispatcher = dispatcher
        self._user, self._since = config.rabbitmq_url.user, int(time.time())
        self._watched: list[tuple[set[str], int, Reply]] = []  # strands on their way out, how many, whom to tell
        self._shows: dict[str, list[Reply]] = {}  # by event, whom to show it
        self._told = 0.0
        self._telling = Share()

    async def open(self) -> None:
        """Begin to listen. From the main flow. Raises RelayError."""
        if refused := await self._commands.open():
            raise sorted_out(refused, f"queue {self._queue}")

    def carry_out(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Begin a command; `reply` gets its answers, the last one with `done`."""
        self._commands.begin(command, reply)

    def _carry_out(self, command: Mapping[str, Any], reply: Reply) -> Job | None:
        what = command.get("command")
        if wrong := objection(command, len(self._watched) + sum(map(len, self._shows.values()))):
            reply({"done": True, "error": wrong})
        elif what in ABOUT_PARKED and not self._index.is_whole:
            reply({"done": True, "error": "the parking lot is being read", "again": True})
        elif what == "parked":
            return self._list(command, reply)
        elif what == "who":
            reply({"done": True, "who": self._who()})
        elif what == "status":
            reply({"done": True, "status": self._status()})
        elif what == "show":
            self._show(command.get("id") or "", reply)
        elif what == "replay":
            return self._replay(command, reply)
        elif what == "discard":
            return self._discard(command, reply)
        return None

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
        if now - self._told < PROGRESS_EVERY or self._telling.wait:
            return
        self._told = now
        with self._telling.turn():
            self._tell()

    def _tell(self) -> None:
        for watched in list(self._watched):
            strands, total, reply = watched
            left = {strand for strand in strands if self._is_on_its_way(strand)}
            if left:
                reply({"total": total, "left": len(left), **self._running(left)})
                continue
            self._watched.remove(watched)
            left_over = [entry for entry in self._index.strands() if entry.strand in strands]
            refused, _ = next(pieces(map(shown, left_over)))
            reply({"done": True, "total": total, "refused": refused, "more": len(left_over) - len(refused)})

    def _running(self, strands: Iterable[str]) -> dict[str, int]:
        """Of how many the server may still be at work on a request, which is awaited, and for how many seconds."""
        now = time.monotonic()
        left = [self._index.entries[strand].tries.running_until - now for strand in strands]
        found = [seconds for seconds in left if seconds > 0]
        return {"running": len(found), "running_s": math.ceil(max(found))} if found else {}

    def give_up(self, why: str) -> None:
        """Tell those who wait that nothing will come of it: they may ask again. Never raises."""
        asked = [reply for *_, reply in self._watched] + [reply for some in self._shows.values() for reply in some]
        waiting = [*asked, *self._commands.end()]
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

    def _list(self, command: Mapping[str, Any], reply: Reply) -> Job:
        keys = (shown(entry) if entry else None for entry in chosen(self._index, command))
        for found, is_last in pieces(keys):
            if found or is_last:
                reply({"parked": found} | ({"done": True} if is_last else {}))
            if not is_last:
                yield

    def _replay(self, command: Mapping[str, Any], reply: Reply) -> Job:
        entries = yield from every(chosen(self._index, command))
        if self._are_too_many(entries, reply):
            return
        now = time.monotonic()
        for number, entry in enumerate(entries):
            # One try each: a person asked for it, and will see what becomes of it.
            if self._index.holds(entry.strand):
                self._index.replay(entry.strand, now, self._max_attempts - 1)
            if number % LOOK_AT == 0:
                yield
        self._index.hurry({entry.table for entry in entries}, now)
        self._watch(entries, reply)

    def _discard(self, command: Mapping[str, Any], reply: Reply) -> Job:
        one = str(command.get("id") or "")
        entries = yield from every(chosen(self._index, {"id": one} if one else command))
        if one:
            entries = [entry for entry in entries if self._is_first(entry)]  # still
        if one and len(entries) != 1:
            reply({"done": True, "error": _not_one(one, entries)})
            return
        if one:
            self._unpark.wishes.to_discard.add((entries[0].strand, entries[0].first_handle))
            self._index.retry(entries[0].strand, time.monotonic())
        elif self._are_too_many(entries, reply):
            return
        else:
            for number, entry in enumerate(entries):
                if self._index.holds(entry.strand):
                    self._index.discard(entry.strand)
                if number % LOOK_AT == 0:
                    yield
        self._watch(entries, reply)

    def _is_first(self, entry: Entry) -> bool:
        """Is the event that an entry was about still the first one of its strand?"""
        now = self._index.entries.get(entry.strand)
        return now is not None and now.count > 0 and now.first_handle == entry.first_handle

    def _watch(self, entries: list[Entry], reply: Reply) -> None:
        self._unpark.expedite()
        self._watched.append(({entry.strand for entry in entries}, len(entries), reply))

    def _show(self, event_id: str, reply: Reply) -> None:
        def found(event: Event | None, entry: Entry | None) -> None:
            answer: dict[str, Any] = {"error": f"event {event_id} is not in the parking lot"}
            if event is not None and entry is not None:
                answer = {"event": whole(event), "parked": shown(entry)}
            for one in self._shows.pop(event_id, []):
                one({"done": True, **answer})

        if not self._index.events:
            reply({"done": True, "error": "the parking lot is empty"})
            return
        self._shows.setdefault(event_id, []).append(reply)
        self._unpark.wishes.shows[event_id] = found
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


def _not_one(name: str, found: list[Entry]) -> str:
    if not found:
        return f"event {name} is not the first of a parked key; receiver.py parked shows them"
    handles = ", ".join(entry.first_handle for entry in found[:NAMED_MAX])
    return f"{len(found)} parked events have the id {name}; name one as receiver.py parked does, e.g. {handles}"
