"""TARGET=python: whose failure an exception is, and that nothing it was given is shown; an event as arguments."""

from __future__ import annotations

import json
import smtplib
import sqlite3
import urllib.error
from decimal import Decimal
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
import requests

from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from relay.handlers import ARGUMENTS, OPS, Refuse, Retry
from relay.targets.python import outcomes
from relay.targets.python.arguments import Unreadable, given

SECRET = "hunter2-secret"


def judged(error: BaseException) -> Outcome:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return outcomes.of_error(caught, __file__)


class OperationalError(Exception):
    """As a driver that we do not know may have it."""

    def __init__(self, *given: object, **more: object) -> None:
        super().__init__(*given)
        for name, value in more.items():
            setattr(self, name, value)


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


class OddSystem(OSError):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


SURE, LIKELY, UNCLEAR, LATER = "sure", "likely", "unclear", "later"


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (ConnectionRefusedError(111, SECRET), SURE),
        (TimeoutError(SECRET), SURE),
        (OSError(113, SECRET), SURE),
        (requests.ConnectionError(SECRET), SURE),
        (requests.ReadTimeout(SECRET), SURE),
        (urllib.error.URLError(ConnectionRefusedError(111, SECRET)), SURE),
        (smtplib.SMTPServerDisconnected(SECRET), SURE),
        (smtplib.SMTPAuthenticationError(535, SECRET.encode()), SURE),
        (smtplib.SMTPConnectError(421, SECRET), SURE),
        (OperationalError(f"can't connect with password={SECRET}"), SURE),
        (psycopg2.OperationalError(f"postgresql://a:{SECRET}@h/"), SURE),
        (psycopg2.InterfaceError("connection already closed"), SURE),
        (sqlite3.OperationalError(SECRET), SURE),
        (OperationalError(2006, SECRET), SURE),
        (OperationalError(SECRET, sqlstate="57P03"), SURE),
        (ExceptionGroup(SECRET, [OSError(113, SECRET), TimeoutError()]), SURE),
        (OSError(SECRET), LIKELY),
        (FileNotFoundError(2, SECRET, SECRET), LIKELY),
        (requests.HTTPError(SECRET), LIKELY),
        (OddSystem(SECRET), LIKELY),
        (OperationalError(1366, SECRET), LIKELY),
        (OperationalError(SECRET, sqlstate="54000"), LIKELY),
        (OperationalError(1213, SECRET), LATER),
        (psycopg2.errors.DeadlockDetected(SECRET), UNCLEAR),  # made by hand, it has no code; see below
        (OperationalError(SECRET, sqlstate="40001"), LATER),
        (smtplib.SMTPRecipientsRefused({SECRET: (450, b"greylisted")}), LATER),
        (smtplib.SMTPRecipientsRefused({SECRET: (550, b"no such user")}), UNCLEAR),
        (smtplib.SMTPDataError(554, SECRET), UNCLEAR),
        (KeyError(SECRET), UNCLEAR),
        (ValueError(SECRET), UNCLEAR),
        (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), UNCLEAR),
        (json.JSONDecodeError(SECRET, SECRET, 0), UNCLEAR),
        (psycopg2.IntegrityError(SECRET), UNCLEAR),
        (ExceptionGroup(SECRET, [OSError(113, SECRET), ValueError(SECRET)]), UNCLEAR),
        (SystemExit(SECRET), UNCLEAR),
        (KeyboardInterrupt(SECRET), UNCLEAR),
        (GeneratorExit(SECRET), UNCLEAR),
        (MemoryError(SECRET), UNCLEAR),
        (Odd(), UNCLEAR),
    ],
)
def test_whose_failure_it_is_and_that_nothing_is_shown(error: BaseException, whose: str) -> None:
    found = judged(error)
    if isinstance(error, psycopg2.errors.DeadlockDetected):
        whose = SURE
    assert (found.verdict, found.likely) == {
        SURE: (Verdict.ENDPOINT, False), LIKELY: (Verdict.ENDPOINT, True), UNCLEAR: (Verdict.UNCLEAR, False),
        LATER: (Verdict.CONFLICT, False),
    }[whose], found  # fmt: skip
    assert SECRET not in found.reason
    assert type(error).__name__ in found.reason
    assert "test_python_outcomes.py:" in found.reason
    assert not found.final


def test_a_login_that_fails_is_not_tried_again_and_again() -> None:
    assert judged(smtplib.SMTPAuthenticationError(535, b"no")).login


def test_what_a_function_says_itself() -> None:
    found = judged(Refuse("no address"))
    assert (found.verdict, found.final, found.reason) == (Verdict.MESSAGE, True, "no address")
    assert judged(Refuse("x" * 2000)).reason.endswith("...")
    assert judged(Refuse("a\nb")).reason == "a b"
    assert judged(Refuse(17)).reason, "whatever it is"  # type: ignore[arg-type]
    found = judged(Retry(after=90, reason="not yet"))
    assert (found.verdict, found.wait, found.reason, found.final) == (Verdict.CONFLICT, 90, "not yet", False)
    assert judged(Retry()).wait == 0


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), "5", True, None])
def test_a_retry_after_no_time(after: Any) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Retry(after=after)


def test_what_is_returned_is_success_unless_nothing_has_run() -> None:
    def generator() -> Any:
        yield

    async def asynchronous() -> Any:
        yield

    assert outcomes.of_return(None) is DONE
    assert outcomes.of_return(0) is DONE
    assert outcomes.of_return(iter([1])) is DONE
    assert outcomes.of_return(generator()).verdict is Verdict.MESSAGE
    assert outcomes.of_return(asynchronous()).verdict is Verdict.MESSAGE


ROW = b"""{"id": "a-b", "table": "public.orders", "op": "update", "key": {"id": 9007199254740993}, "old": null,
 "new": {"id": 9007199254740993, "total": 10.50, "much": 1e400, "odd": NaN, "b": 1, "a": 2}}"""


def test_numbers_keep_their_digits() -> None:
    event = Event(ROW, "public.orders", id="a-b", op="update", key='public.orders {"id":1}', table="public.orders")
    found = given(Delivery(event, 3), ARGUMENTS)
    assert set(found) == set(ARGUMENTS)
    assert found["new"]["id"] == 9007199254740993
    assert str(found["new"]["total"]) == "10.50"
    assert isinstance(found["new"]["total"], Decimal)
    assert found["new"]["much"] == Decimal("1e400")
    assert found["new"]["odd"].is_nan()
    assert list(found["new"])[-2:] == ["b", "a"]
    assert found["key"] == {"id": 9007199254740993}
    assert (found["old"], found["id"], found["attempt"], found["op"]) == (None, "a-b", 3, "update")
    assert (found["topic"], found["body"]) == ("public.orders", ROW)


@pytest.mark.parametrize(
    ("body", "event"),
    [(b'{"order": 42}', {"order": 42}), (b'"text"', "text"), (b"null", None), (b"[1.5]", [Decimal("1.5")]),
     (b"9" * 5000, Decimal("9" * 5000)), (b'"\\ud83d"', "\ud83d")],
)  # fmt: skip
def test_an_event_need_be_no_row(body: bytes, event: object) -> None:
    found = given(Delivery(Event(body, "shop.paid", key="order 42"), 1), ("event", "old", "new", "key"))
    assert found == {"event": event, "old": None, "new": None, "key": "order 42"}


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\xfd", b"{", b"[" * 100_000, b"1e" + b"9" * 30, b"\x1f\x8b"])
def test_what_is_no_json_is_given_as_bytes_alone(body: bytes) -> None:
    event = Event(body, "shop.paid")
    with pytest.raises(Unreadable):
        given(Delivery(event, 1), ("event",))
    assert given(Delivery(event, 1), ("body", "id")) == {"body": body, "id": ""}


def test_the_words_of_op_are_ours() -> None:
    assert "insert" in OPS
