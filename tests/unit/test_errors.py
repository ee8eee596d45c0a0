"""What is shown of an exception: enough to mend it, and never what it was given."""

from __future__ import annotations

import asyncio
import binascii
import builtins
import errno
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pika.exceptions
import pytest
import requests
from pika.adapters.utils import connection_workflow

from dev.script import ROOT
from relay.delivery import Delivery, Event, Outcome, always
from relay.errors import Unavailable, one_line
from relay.findings import Finding
from relay.receiving.strands import Item, Strand
from relay.receiving.workers import Finished, Workers
from relay.targets.answer import NoConnection, judge_error

SECRET = "s3cret-of-the-endpoint"


def kinds() -> Iterator[type[Exception]]:
    """Every exception of the libraries that a target uses, and all of Python's own."""
    for module in (builtins, http.client, json, socket, ssl, binascii, requests.exceptions, pika.exceptions):
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Exception):
                yield one


def made(kind: type[Exception]) -> Iterator[Exception]:
    """One of this kind with the secret in every argument that takes text, in each way that it can be made."""
    for given in (
        (SECRET,),
        (SECRET, SECRET),
        (errno.EIO, SECRET, SECRET),
        (404, SECRET),
        (SECRET, SECRET, 0),
        ("utf-8", SECRET, 0, 1, SECRET),
        ("utf-8", SECRET.encode(), 0, 1, SECRET),
        (SECRET, 0, 1, SECRET),
        (SECRET, [ValueError(SECRET)]),
    ):
        try:
            yield kind(*given)
        except (TypeError, AttributeError, ValueError):
            continue


# RabbitMQ's own words, which go to a log: it sees no secret of the endpoint.
BROKER = (pika.exceptions.AMQPConnectionError, pika.exceptions.ChannelClosed, pika.exceptions.ChannelWrongStateError)
ALL = {kind.__qualname__: kind for kind in kinds() if not issubclass(kind, BROKER)}


def test_the_kinds_are_those_that_the_targets_meet() -> None:
    wanted = {"UnicodeEncodeError", "JSONDecodeError", "ValueError", "KeyError", "RecursionError", "BadStatusLine"}
    wanted |= {"IncompleteRead", "LineTooLong", "SSLError", "SSLCertVerificationError", "gaierror", "InvalidURL"}
    assert wanted <= set(ALL)


class Raising:
    """A target whose requests raise one exception after another."""

    batch_size = 1

    def __init__(self, errors: Sequence[Exception]) -> None:
        self._deliveries, self._probes = iter(errors), iter(errors)

    def group(self, event: Event) -> str:
        return event.table

    async def check(self) -> AsyncIterator[Finding]:
        for one in ():
            yield one

    def open(self, _may_begin: Callable[[], bool] = always) -> Raising:
        return self

    async def deliver(self, _batch: Sequence[Delivery]) -> Sequence[Outcome]:
        raise next(self._deliveries)

    async def probe(self) -> Outcome:
        raise next(self._probes)

    def close(self) -> None:
        pass


async def tried(errors: Sequence[Exception]) -> list[Finished]:
    """Deliveries and probes that raise them."""
    workers = Workers(Raising(errors), 1)
    finished: list[Finished] = []
    workers.report_to(lambda: finished.extend(workers.collect()))
    for _ in errors:
        workers.start([Item(Event(b"{}", "t", id="e1"), None, Strand(""))])
        workers.start([])
    while len(finished) < 2 * len(errors):
        await asyncio.sleep(0)
    await workers.end()
    return finished


@pytest.mark.parametrize("name", ALL)
def test_nothing_that_an_exception_was_given_reaches_the_log_or_the_waiting_room(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    errors = list(made(ALL[name]))
    assert errors
    reasons = [outcome.reason for one in asyncio.run(tried(errors)) for outcome in one.outcomes]
    for error in errors:
        wrapped = NoConnection(tls=False)
        wrapped.__cause__ = error
        reasons += [one_line(error), judge_error(error, 0.0).reason, judge_error(wrapped, 0.0).reason]
    assert all(reasons)
    assert SECRET not in "\n".join(reasons) + caplog.text
    assert caplog.text.count("defect in a target") == len(errors)
    # A coroutine can't raise StopIteration: Python makes a RuntimeError of it, and says where it was made.
    assert 'at="test_errors.py:' in caplog.text or ALL[name] is StopIteration


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: os.stat("/nowhere"), "No such file or directory"),  # noqa: PTH116
        (lambda: socket.getaddrinfo("a.name", 80, flags=socket.AI_NUMERICHOST), "no host of this name is known"),
        (lambda: socket.create_connection(("127.0.0.1", 1), 1), "Connection refused"),
        (lambda: ssl.create_default_context(cafile=__file__), "no certificate or crl found"),
        (lambda: b"\xff".decode(), "not UTF-8"),
    ],
)
def test_an_exception_says_what_happened(make: Callable[[], object], said: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        make()
    assert said in one_line(caught.value)


def test_rabbitmqs_and_our_own_words_are_kept() -> None:
    closed = pika.exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - shutdown")
    assert "CONNECTION_FORCED" in one_line(closed)
    assert "handshake" in one_line(connection_workflow.AMQPConnectorStackTimeout("during AMQP handshake"))
    assert one_line(Unavailable("PostgreSQL\nis away", "wait")) == "PostgreSQL is away -> wait"


def test_a_defect_ends_with_a_traceback_without_the_exceptions_words() -> None:
    """Also in a thread."""
    program = f"""
import sys, threading
from relay import cli
def main():
    thread = threading.Thread(target=lambda: {{}}["{SECRET}"])
    thread.start()
    thread.join()
    raise ValueError(sys.argv[1])
sys.exit(cli.run(main))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, SECRET], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert SECRET not in done.stderr.replace(f'"{SECRET}"]', ""), "the line of the program itself is shown"
    assert done.stderr.count("Traceback") == 2
    assert "KeyError" in done.stderr
    assert "ValueError" in done.stderr
