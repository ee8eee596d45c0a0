"""`listen.py status`: what the listener at work says of itself, and what the database says."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp import ask, rights
from relay.amqp.replies import NOT_FOUND, RESOURCE_LOCKED, refusal
from relay.cli import print_line
from relay.config import Listen
from relay.errors import RelayError
from relay.findings import Level
from relay.listening.status import report
from relay.status.report import Fact, Report, lines


def ask_listener(handle: BlockingConnection, config: Listen) -> tuple[dict[str, Any] | None, str]:
    """Ask the listener at work. Return what it says of itself, or None and why there is no answer.

    Raises:
        pika.exceptions.AMQPError: the connection broke, or an alarm lets no question through.
    """
    source = rights.source(config)
    said = ask.answer(handle, rights.control(source), config.command_key, {"command": "status"})
    if said is None:
        return None, _nobody(handle, rights.lease(source))
    found = said.get("status")
    if isinstance(found, dict):
        return found, ""
    return None, str(said.get("error") or "a listener is at work, and does not answer: see its log")


def sweep(handle: BlockingConnection, config: Listen) -> None:
    """Tell the listener at work that marks in the outbox have changed, where the database can't; if there is one.

    Raises:
        pika.exceptions.AMQPError: the connection broke, or an alarm lets nothing through.
    """
    ask.answer(handle, rights.control(rights.source(config)), config.command_key, {"command": "sweep"})


def _nobody(handle: BlockingConnection, lease: str) -> str:
    """Is one at work that takes no commands?"""
    code, _said = refusal(
        handle, lambda channel: channel.queue_declare(lease, passive=True), NOT_FOUND, RESOURCE_LOCKED
    )
    if code == RESOURCE_LOCKED:
        return f"a listener is at work ({lease} is held), and takes no commands: CONTROL=off, or rights (see its log)"
    return "no listener is at work: none runs, or it waits for a server (its log says so)"


def show(
    config: Listen,
    found: dict[str, Any] | None,
    why: str,
    database: dict[str, Any] | None,
    problem: RelayError | None,
    *,
    as_json: bool,
) -> None:
    """Print it.

    Args:
        found: what the listener says.
        why: it says nothing.
        database: of `operate.status`.
        problem: why there is nothing of the database.
    """
    if as_json:
        known = database or {"version": None, "pending": None, "refused": None, "watched": None}
        told = {"listener": found, "problem": why, "database_problem": str(problem) if problem else ""}
        sys.stdout.write(json.dumps(known | told, default=str, indent=2) + "\n")
        return
    try:
        said = list(_lines(config, found, why, database, problem))
    except (TypeError, LookupError, ValueError, AttributeError, OverflowError):
        why = "what answers in the listener's name makes no sense; is it of this version?"
        said = list(_lines(config, None, why, database, problem))
    for line in said:
        print_line(line)


def _lines(
    config: Listen, found: dict[str, Any] | None, why: str, database: dict[str, Any] | None, problem: RelayError | None
) -> Iterator[str]:
    made = report(rights.source(config), found, database, time.time())
    first = [Fact("listener", why, Level.WARNING)] if why else []
    if problem:
        first.append(Fact("database", problem.what, Level.FAILED, problem.remedy))
    return lines(Report(made.title, made.state, [*first, *made.facts], made.tables))
