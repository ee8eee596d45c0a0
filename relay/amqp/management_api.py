"""RabbitMQ's management API: it tells what AMQP does not."""

import base64
import contextlib
import dataclasses
import email.utils
import http.client
import json
import shlex
import socket
import threading
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from relay import transport
from relay.amqp import nodes, tls
from relay.config import Common
from relay.errors import ConfigError, Unavailable, one_line

TIMEOUT = 5.0  # seconds for each word of it
ANSWER_SECONDS = 20.0  # for all of it: somebody else may be there, and say a word now and then
ANSWER_MAX = 4 << 20  # bytes of an answer


def ask(config: Common, path: str) -> Any:
    """Get something of RabbitMQ's management API as JSON, with the user of RABBITMQ_URL. Waits for the answer.

    Args:
        config: RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL, the TLS files.
        path: below /api, its names quoted.

    Raises:
        RelayError: it is not asked, does not answer, or not us.
    """
    return _ask(config, path)[0]


def clock(config: Common) -> tuple[float, float, float]:
    """What the host of the management API says of the time, and what this one said before and after, for
    `checks.of_clock`. Raises RelayError.
    """
    before = time.time()
    _found, date = _ask(config, "/whoami")
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        raise Unavailable("the management API says no date") from None
    return theirs, before - 1.0, time.time()  # a date is cut off to seconds


def _ask(config: Common, path: str) -> tuple[Any, str]:
    """The same, and the header Date. Of a cluster's hosts the first that answers."""
    if config.rabbitmq_management_url:
        return _ask_one(config, path)
    *others, last = (dataclasses.replace(config, rabbitmq_url=one) for one in nodes.singly(config.rabbitmq_url))
    for other in others:
        with contextlib.suppress(Unavailable):
            return _ask_one(other, path)
    return _ask_one(last, path)


def _ask_one(config: Common, path: str) -> tuple[Any, str]:
    base, why = transport.management(config)
    if why:
        raise Unavailable(why)
    parts, url = urlsplit(base), config.rabbitmq_url
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        handle: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT, context=tls.context(config)
        )
    else:
        handle = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    login = base64.b64encode(f"{url.user}:{url.password}".encode()).decode()
    where = f"the management API at {base}"
    end: threading.Timer | None = None
    try:
        handle.connect()
        end = threading.Timer(ANSWER_SECONDS, _end, [handle.sock])
        end.daemon = True
        end.start()
        handle.request("GET", f"{parts.path}/api{path}", headers={"Authorization": f"Basic {login}"})
        answer = handle.getresponse()
        body = answer.read(ANSWER_MAX)
        found = json.loads(body) if answer.status == HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Unavailable(f"{where} does not answer: {one_line(error)}") from None
    finally:
        if end is not None:
            end.cancel()
        handle.close()
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        remedy = f"rabbitmqctl set_user_tags {shlex.quote(url.user)} management"
        raise ConfigError((f"{where} wants the tag management of {url.user}", remedy))
    if found is None:
        raise Unavailable(f"{where} answers {answer.status}")
    return found, answer.getheader("Date", "")


def _end(handle: socket.socket) -> None:
    """Whoever reads from it, in another thread, finds it at its end."""
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)
