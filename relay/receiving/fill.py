"""A table sent again to this queue alone, asked of the listener at work over its command queue."""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pika.exceptions
from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp import ask, rights
from relay.errors import ConfigError, NotFound, Unavailable, one_line

ANSWER_MAX = 1 << 20  # bytes; cut, a longer one is no JSON
SAID_MAX = 1000  # characters of a reason that are kept: it is logged, and shown by `status`
KEY_MAX = 100_000  # of a key to go on after, which is kept in a message; a longer one is none
TOLD_MAX = 100  # different reasons that are logged, once each
SILENCE = 10.0  # seconds without a word from the listener, which has one each second: it hangs, or has just died


class Wish(NamedTuple):
    """What is asked for.

    Args:
        source: the listener's SOURCE.
        table: its name, as events have it.
        queue: where to.
        key: of the row, as JSON, or of several, one a line; None = all of them.
        after: the key to go on after, as JSON; None = from the beginning.
    """

    source: str
    table: str
    queue: str
    key: str | None = None
    after: str | None = None


class Answer(NamedTuple):
    """One word of the listener."""

    rows: int
    after: str | None
    """From where it can be taken up again."""
    waits: str
    done: bool
    none: tuple[str, ...] = ()
    """Keys that were asked for, and of which there is no row."""


def hear(
    handle: BlockingConnection, wish: Wish, key: bytes, told: Callable[[Answer], object],
    stopped: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Ask, and hear how far it is, to the end.

    Args:
        key: `Common.command_key`.
        told: called with each word of the listener.
        stopped: asked now and then whether to leave.

    Raises:
        ConfigError: nobody listens there.
        NotFound: the listener refuses.
        Unavailable: it has said nothing for SILENCE, or something that makes no sense; or it was asked too much.
        pika.exceptions.AMQPError: the connection broke, or an alarm lets no request through.
    """
    command = {"command": "resend", "table": wish.table, "queue": wish.queue, "key": wish.key, "after": wish.after}
    answers = ask.request(handle, rights.control(wish.source), key, {k: v for k, v in command.items() if v})
    if answers is None:
        what = f"no listener of source {wish.source} takes requests ({rights.control(wish.source)})"
        raise ConfigError((what, "is it running, with CONTROL=on? SOURCE is its own, by default its database's name"))
    heard = time.monotonic()
    while time.monotonic() - heard < SILENCE:
        handle.process_data_events(time_limit=0.2)
        if stopped():
            return
        while answers:
            heard = time.monotonic()
            answer = _understood(answers.popleft(), wish)
            told(answer)
            if answer.done:
                return
    raise Unavailable(f"the listener of {wish.source} has said nothing for {SILENCE:g} s", "see its log")


def _understood(body: bytes, wish: Wish) -> Answer:
    """No more is kept of it than the listener would say: perhaps a stranger does. Raises as `hear`."""
    source, asked = wish.source, len(wish.key.splitlines()) if wish.key else 0
    try:
        said: dict[str, Any] = {"waits": "", "after": None, "done": False, "none": [], **json.loads(body[:ANSWER_MAX])}
        if said.get("error"):
            kind = Unavailable if said.get("again") else NotFound
            raise kind(f"the listener of {source}: {str(said['error'])[:SAID_MAX]}")
        after, none = said["after"], tuple(str(key)[:KEY_MAX] for key in said["none"][:asked])
        after = None if after is None else str(after)
        if after and len(after) > KEY_MAX:
            raise ValueError
        return Answer(int(said["rows"]), after, str(said["waits"])[:SAID_MAX], bool(said["done"]), none)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        raise Unavailable(f"the answer of the listener of {source} makes no sense", "is it of this version?") from None


class Told:
    """Reasons that were logged, so that each is once; beyond TOLD_MAX none is new any more."""

    def __init__(self) -> None:
        self._known = set[str]()

    def is_new(self, reason: object) -> bool:
        """Is it to be logged?"""
        text = str(reason)
        if text in self._known or len(self._known) >= TOLD_MAX:
            return False
        self._known.add(text)
        return True


def heard_in_thread(work: Callable[[], None]) -> None:
    """Raises RelayError only: for a thread."""
    try:
        work()
    except pika.exceptions.AMQPError as error:
        raise Unavailable(f"RabbitMQ: {one_line(error)}") from None
