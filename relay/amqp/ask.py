"""A question to the daemon at work, over its command queue, and the answers. (The daemon's side: command_queue.py.)"""

import collections
import json
import time
import uuid
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingConnection

from relay import signature

ERROR_MAX = 1000  # characters of a refusal that anybody may have sent
ANSWER_SECONDS = 2.0  # that it has for one answer: a standby's takeover must stay within 5 s of its death
UNSIGNED = "the answer is not signed with CONTROL_SECRET: is it the same there, and the other side as new as this one?"
REPLY_TO = "amq.rabbitmq.reply-to"  # RabbitMQ's direct reply-to: to any other name it would publish for a stranger


def request(
    handle: BlockingConnection, queue: str, key: bytes, command: dict[str, Any]
) -> collections.deque[bytes] | None:
    """Send a command. Return where its answers will come in; None = nobody listens.

    Args:
        queue: of the daemon.
        key: `Common.command_key`; empty = commands are not signed.

    Raises:
        pika.exceptions.AMQPError: the connection broke, or an alarm lets nothing through.
    """
    channel = handle.channel()
    channel.confirm_delivery()
    marker = str(uuid.uuid4())
    properties, body = signed(queue, key, marker, command)
    answers: collections.deque[bytes] = collections.deque()

    def answered(_channel: object, _method: object, properties: pika.BasicProperties, body: bytes) -> None:
        if properties.correlation_id == marker:
            answers.append(believed(queue, key, properties, body))

    # RabbitMQ's direct reply-to: consumed before, and on the same channel as, the request.
    channel.basic_consume(REPLY_TO, answered, auto_ack=True)
    try:
        channel.basic_publish("", queue, body, properties, mandatory=True)
    except pika.exceptions.UnroutableError:
        return None
    return answers


def signed(queue: str, key: bytes, marker: str, command: dict[str, Any]) -> tuple[pika.BasicProperties, bytes]:
    """Return the message that a command is. `marker`: its correlation_id; the rest as of `request`."""
    body = json.dumps(command).encode()
    properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=marker)
    if key:
        expires = int(time.time()) + signature.COMMAND_SECONDS
        right = signature.sign_command(key, queue, marker, expires, body)
        properties.headers = {signature.EXPIRES: expires, signature.HEADER: right}
    return properties, body


def believed(queue: str, key: bytes, properties: pika.BasicProperties, body: bytes) -> bytes:
    """An answer; if it is not signed as it must be, the refusal that it is or is taken for.

    Whoever declared the daemon's queue before it did answers in its place. Arguments as of `request`.
    """
    given = (properties.headers or {}).get(signature.HEADER)
    if not key or signature.is_answer(key, queue, str(properties.correlation_id), body, given):
        return body
    try:
        said = json.loads(body)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        said = UNSIGNED
    return json.dumps({"done": True, "error": str(said)[:ERROR_MAX]}).encode()


def answer(handle: BlockingConnection, queue: str, key: bytes, command: dict[str, Any]) -> dict[str, Any] | None:
    """Return the one answer to a command; empty = none in time, or one that makes no sense; None = nobody listens.

    Args and Raises: as `request`.
    """
    answers, end = request(handle, queue, key, command), time.monotonic() + ANSWER_SECONDS
    if answers is None:
        return None
    while not answers and time.monotonic() < end:
        handle.process_data_events(time_limit=0.1)
    try:
        found = json.loads(answers.popleft()) if answers else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
