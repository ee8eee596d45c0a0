"""Commands for the listener at work, over `relay.control.SOURCE`: what it knows of itself, and of watched tables.

Without the rights that this needs the listener works on, and says so once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from relay.amqp import rights
from relay.amqp.answers import Answers
from relay.amqp.command_queue import CommandQueue, Reply
from relay.amqp.pace import Pace, Share
from relay.amqp.replies import RESOURCE_LOCKED
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.config import Listen
from relay.errors import ConfigError, RelayError
from relay.listening.requests import BURST, TOGETHER, Requests
from relay.log import Log

PREDECESSOR_SECONDS, PREDECESSOR_PAUSE = 2.0, 0.1  # the last listener's queue falls with its lease, or a moment later


class Control:
    """Lives as long as the process.

    Args:
        config: CONTROL, CONTROL_SECRET, REQUESTS.
        status: what the listener says of itself.
        columns: called with the name of a table, and what takes the answer.
        requests: for rows.
        sweep: called when a command has changed marks in an outbox whose database can't tell.
        another: opens a connection for the answers.
    """

    def __init__(
        self,
        config: Listen,
        status: Callable[[], dict[str, Any]],
        columns: Callable[[str, Reply], None],
        requests: Requests,
        sweep: Callable[[], None],
        another: Callable[[], Awaitable[Connection]],
        log: Log,
    ) -> None:
        self._config = config
        self._status = status
        self._columns = columns
        self._requests = requests
        self._sweep = sweep
        self._another = another
        self._log = log
        self._warned = False

    async def open(self, session: Session, source: str) -> None:
        """Begin to listen, with the lease and before anything is published. Raises Unavailable as `Session.call`."""
        if not self._config.control:
            return
        queue = rights.control(source)
        answers = Answers(session, self._another, self._warn)
        pace, share = None, None
        if self._config.requests:
            pace, share = Pace(self._requests.rate, BURST, TOGETHER), Share(self._requests.share)
        key, log = self._config.command_key, self._log
        commands = CommandQueue(session, queue, key, answers, self._carry_out, log, pace, share)
        end = time.monotonic() + PREDECESSOR_SECONDS
        try:
            while (refused := await commands.open()) and refused.code == RESOURCE_LOCKED and time.monotonic() < end:
                await asyncio.sleep(PREDECESSOR_PAUSE)
        except ConfigError as error:
            self._warn(error)
        else:
            if refused:
                self._warn(refused)

    def _carry_out(self, command: Mapping[str, Any], reply: Reply) -> None:
        what = command.get("command")
        if what == "status":
            reply({"done": True, "status": self._status()})
        elif what == "columns":
            self._columns(str(command.get("table")), reply)
        elif what in ("get", "resend"):
            self._requests.ask(command, reply)
        elif what == "sweep":
            self._sweep()
            reply({"done": True})
        else:
            reply({"done": True, "error": f"no such command: {what!r:.50}"})

    def _warn(self, error: RelayError) -> None:
        """Once: the listener works without."""
        if not self._warned:
            self._log.warning(f"listen.py status can't ask this listener: {error}")
        self._warned = True
