"""The receiver's commands: whom they ask, and what they print."""

import argparse
import collections
import json
import sys
import time
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection

from relay import values
from relay.amqp import ask
from relay.amqp.replies import NOT_FOUND, refusal
from relay.cli import EX_FAILED, agreed, moment, plural, print_line
from relay.config import Receive
from relay.daemon import EX_OK, EX_TEMPFAIL
from relay.errors import ConfigError
from relay.log import complain
from relay.receiving.control import FILTERS
from relay.receiving.lease import control_name
from relay.receiving.receiver import Receiver

SILENCE = 30.0  # seconds without a word from the running receiver: it hangs, or has just died
EX_USAGE = 2


def ask_running(
    handle: BlockingConnection, config: Receive, options: argparse.Namespace, printer: "Printer"
) -> int | None:
    """Ask the running receiver. Return the exit status; None = none is running."""
    command = _command(options)
    if command is None:
        return EX_USAGE
    queue = control_name(config.queue)
    answers = ask.request(handle, queue, config.command_key, command) if config.control else None
    if answers is None:
        if waiting(handle, config.queue) is None:
            # Doing it ourselves would make the queue, bound to everything, and nobody would ever empty it.
            remedy = "correct QUEUE; receiver.py makes the queue when it runs"
            raise ConfigError((f"queue {config.queue} does not exist", remedy))
        return None
    try:
        return _hear(handle, answers, printer)
    except KeyboardInterrupt:
        if options.command in ("replay", "discard"):
            complain(f"the running receiver goes on with the {options.command}; receiver.py parked shows what is left")
        raise


def answer(handle: BlockingConnection, config: Receive, command: dict[str, Any]) -> dict[str, Any] | None:
    """Return the running receiver's one answer to a command; see `ask.answer`."""
    return ask.answer(handle, control_name(config.queue), config.command_key, command)


def at_work(answered: dict[str, Any] | None) -> tuple[str, int] | None:
    """Where the receiver is that has so answered of its status, and how many keys wait for a person; None = unknown."""
    try:
        found = (answered or {})["status"]
        where = f"on {found['host']}, process {found['process']}, since {moment(found['since'])}"
        return where, int(found["parked"]["refused_keys"])
    except (TypeError, LookupError, ValueError, OverflowError):
        return None


def _hear(handle: BlockingConnection, answers: collections.deque[bytes], printer: "Printer") -> int:
    heard = time.monotonic()
    while time.monotonic() - heard < SILENCE:
        handle.process_data_events(time_limit=0.2)
        while answers:
            heard = time.monotonic()
            try:
                if printer.take(json.loads(answers.popleft())):
                    return printer.status
            except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
                complain("receiver.py: what answers in the receiver's name makes no sense; is it of this version?")
                return EX_FAILED
    complain(f"receiver.py: the running receiver has said nothing for {SILENCE:g} s; see its log")
    return EX_TEMPFAIL


def unbind(handle: BlockingConnection, config: Receive, key: str, lanes: str = "") -> int:
    """Let the queue get nothing any more by this binding key. Return the exit status.

    It works beside a running receiver, which binds what its BINDING_KEYS names and nothing else.

    Args:
        lanes: the exchange of the queue's lanes; empty = it has none.

    Raises:
        ConfigError: there is no such queue or exchange.
        pika.exceptions.AMQPError: RabbitMQ refuses.
    """
    queue, exchange = config.queue, config.exchange
    objection = _no_key(key)
    if key in config.binding_keys:
        objection = f"{key} is in BINDING_KEYS, and receiver.py would bind it again; take it out there first"
    if objection:
        complain(f"receiver.py unbind: {objection}")
        return EX_USAGE
    if not lanes and look_at(handle, queue) is None:
        raise ConfigError((f"queue {queue} does not exist", "correct QUEUE"))
    if refusal(handle, lambda channel: channel.exchange_declare(exchange, passive=True), NOT_FOUND)[0]:
        raise ConfigError((f"exchange {exchange} does not exist", "correct EXCHANGE"))
    # Of a binding that is not there RabbitMQ says the same.
    if lanes:
        handle.channel().exchange_unbind(lanes, exchange, key)
    else:
        handle.channel().queue_unbind(queue, exchange, key)
    print_line(f"queue {queue} is not bound to exchange {exchange} by {key or 'an empty key'} (any more)")
    return EX_OK


def _no_key(key: str) -> str:
    try:
        return "" if len(key.encode()) <= values.NAME_MAX else f"a binding key has at most {values.NAME_MAX} bytes"
    except UnicodeEncodeError:
        return "the key is no UTF-8"


def waiting(handle: BlockingConnection, queue: str) -> int | None:
    """Return how many messages are ready in a queue; None = there is no such queue."""
    there = look_at(handle, queue)
    return None if there is None else int(there.message_count)


def look_at(handle: BlockingConnection, queue: str) -> Any:
    """Return RabbitMQ's count of a queue's messages and consumers; None = there is no such queue."""
    found: list[Any] = []
    refusal(handle, lambda channel: found.append(channel.queue_declare(queue, passive=True).method), NOT_FOUND)
    return found[0] if found else None


def _command(options: argparse.Namespace) -> dict[str, Any] | None:
    """The command as it travels; None = the command line will not do, and why was said."""
    words = {"command": options.command}
    words |= {name: given for name in (*FILTERS, "all") if (given := getattr(options, name, None))}
    if options.command in ("replay", "discard") and len(words) == 1:
        complain(f"receiver.py {options.command}: name --key, --id, --table, --reason, --unsigned or --all")
        return None
    if options.command == "discard" and not options.yes and not _sure():
        complain("receiver.py discard: nothing was discarded; answer yes, or give --yes")
        return None
    return words


def _sure() -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    return agreed("These events will never be delivered. Write yes to throw them away: ", ("yes",))


async def carry_out(receiver: Receiver, options: argparse.Namespace, printer: "Printer") -> int:
    """No receiver is running: take the lease and do it. Return the exit status.

    Raises:
        Standby: one is, but does not listen yet: ask it again.
        RelayError: as a session does.
    """
    options.yes = True  # it was asked before
    command, begun = _command(options), False

    def begin() -> None:
        nonlocal begun
        if not begun and command is not None:
            begun = True
            receiver.control.carry_out(command, reply)

    def reply(answer: dict[str, Any]) -> None:
        if printer.take(answer):
            receiver.stop()

    await receiver.run(begin)
    if not printer.ended:
        complain(f"receiver.py {options.command}: stopped; what is not done still waits")
    return printer.status


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


class Printer:
    """Prints answers for people, or as JSON."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.status = EX_TEMPFAIL  # until there was a last answer
        self.ended = False
        self.again = False
        self._parked: list[dict[str, Any]] = []  # they come in pieces

    def take(self, answer: dict[str, Any]) -> bool:
        """Print an answer. True = it was the last one."""
        if "error" in answer:
            self.again = bool(answer.get("again"))
            again = "; try again" if self.again else ""
            self._complain(f"receiver.py {self._options.command}: {answer['error']}{again}")
            self.status = EX_TEMPFAIL if self.again else EX_FAILED
        elif "parked" in answer and "event" in answer:
            self._show(answer["event"], answer["parked"])
            self.status = EX_OK
        elif "parked" in answer:
            self._parked += [one for one in answer["parked"] if one["why"]]  # LookupError: that is no entry
            if answer.get("done"):
                self._list(self._parked)
                self.status = EX_OK
        elif "left" in answer:
            done = answer["total"] - answer["left"]
            complain(f"{self._options.command}: {done} of {answer['total']} keys done{_running(answer)}")
        else:
            self._end(answer)
        self.ended = bool(answer.get("done"))
        return self.ended

    def _complain(self, what: str) -> None:
        complain(what)

    def _show(self, event: dict[str, Any], parked: dict[str, Any]) -> None:
        print_json({**event, "parked": parked})

    def _list(self, parked: list[dict[str, Any]]) -> None:
        if self._options.json:
            print_json(parked)
            return
        for one in parked:
            since = moment(one["since"])
            name = one["key"] or "(no key)"
            print_line(f"{one['handle']:12}  {one['why']:8}  {since}  {one['events']:>6} events  {name}")
            print_line(f"{'':12}  event {one['id'] or '(no id)'}")
            if one["reason"]:
                print_line(f"{'':12}  {one['attempts']} attempts, {one['reason']}")
        nothing = "nothing that matches is waiting" if self._filtered() else "nothing is waiting"
        print_line(f"{plural(len(parked), 'key')} waiting" if parked else nothing)

    def _filtered(self) -> bool:
        return any(getattr(self._options, name, None) for name in FILTERS)

    def _end(self, answer: dict[str, Any]) -> None:
        if not answer["total"] and self._filtered():
            self._complain(f"receiver.py {self._options.command}: no parked key matches; receiver.py parked lists them")
            self.status = EX_FAILED
            return
        refused, replay = answer.get("refused", []), self._options.command == "replay"
        for one in refused:
            said = "refused again" if replay else "discarded, and the key's next event refused"
            print_line(f"{said}: {one['id'] or one['key'] or one['handle']}: {one['reason']}")
        more = answer.get("more", 0)
        if more:
            print_line(f"and {more} more: receiver.py parked lists them")
        done = answer["total"] - len(refused) - more if replay else answer["total"]
        print_line(f"{self._options.command}: {done} of {answer['total']} keys done")
        self.status = EX_OK if done == answer["total"] else EX_FAILED


def _running(answer: dict[str, Any]) -> str:
    """Why keys wait whose last request has timed out; empty = none does."""
    if not answer.get("running"):
        return ""
    until = moment(int(time.time()) + int(answer["running_s"]))
    return f"; {answer['running']} must wait: a request may still run on the server until {until} (HTTP_TIME_LIMIT)"


class Keeper(Printer):
    """Keeps the event that `show` finds, for `try`."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.event: dict[str, Any] = {}

    def _show(self, event: dict[str, Any], _parked: dict[str, Any]) -> None:
        self.event = event
