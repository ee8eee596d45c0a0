"""What somebody answers in the listener's name takes no more memory than the listener's own answers."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, cast

import pika
import pytest

from relay import config
from relay.amqp import ask
from relay.delivery import Asks, Event, Want
from relay.errors import NotFound, Unavailable
from relay.receiving import fill
from relay.receiving.asking import Asking
from relay.receiving.filling import Filling
from relay.receiving.wishes import Part, Wish

LONG = "\U0001f600" * 250_000
WISH = fill.Wish("erp", "public.t", "odoo", '{"id": 1}\n{"id": 2}')


def understood(**said: object) -> fill.Answer:
    return fill._understood(json.dumps({"rows": 1, **said}, ensure_ascii=False).encode(), WISH)


@pytest.mark.parametrize(("again", "kind"), [(True, Unavailable), (False, NotFound)])
def test_a_refusal_is_cut(again: bool, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        understood(error=LONG, again=again)
    assert len(str(raised.value)) < 2000


def test_what_it_waits_for_and_the_keys_without_a_row_are_cut() -> None:
    assert len(understood(waits=LONG).waits) <= fill.SAID_MAX
    assert understood(none=[str(n) for n in range(100_000)]).none == ("0", "1"), "no more than were asked for"
    assert len(understood(none=[LONG]).none[0]) <= fill.KEY_MAX


def test_a_key_to_go_on_after_that_is_too_long_is_none() -> None:
    assert understood(after='{"id": 7}').after == '{"id": 7}'
    with pytest.raises(Unavailable, match="makes no sense"):
        understood(after=LONG)


def test_a_refusal_that_is_not_signed_is_cut() -> None:
    body = json.dumps({"error": LONG}).encode()
    found = json.loads(ask.believed("q", b"key", pika.BasicProperties(correlation_id="n"), body))
    assert found == {"done": True, "error": LONG[: ask.ERROR_MAX]}


class Wanting:
    """A target that waits for a row, for ever."""

    asked = 0

    def wants(self) -> list[Want]:
        return [Want("public.t", '{"id": 1}')]

    def heard(self, _want: Want, *, is_there: bool) -> list[Event]:
        raise AssertionError(is_there)

    def unheard(self, wants: list[Want]) -> None:
        self.asked += len(wants)


def refusing() -> AbstractContextManager[Any]:
    """Each time for another reason."""
    refusing.count += 1  # type: ignore[attr-defined]
    raise Unavailable(f"for reason {refusing.count}")  # type: ignore[attr-defined]


refusing.count = 0  # type: ignore[attr-defined]
SETTINGS = config.load(config.Receive, None, {"RABBITMQ_URL": "amqp://localhost/", "QUEUE": "odoo", "SOURCE": "erp"})


def test_reasons_that_differ_each_time_are_told_so_often_only(caplog: pytest.LogCaptureFixture) -> None:
    asking = Asking(SETTINGS, cast(Any, Wanting()), refusing, lambda _events: None)

    async def ask_often() -> None:
        for _ in range(fill.TOLD_MAX + 50):
            await asking._ask(cast(Asks, Wanting()), "public.t", Wanting().wants())

    asyncio.run(ask_often())
    assert sum("can't be asked for" in one.getMessage() for one in caplog.records) == fill.TOLD_MAX


def test_a_table_that_is_refused_for_another_reason_each_time_is_told_so_often_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.receiving.filling.AGAIN_MIN", 0.0)
    monkeypatch.setattr("relay.receiving.filling.AGAIN_MAX", 0.0)
    reasons = iter(range(fill.TOLD_MAX + 50))

    async def wanted() -> Wish:
        return Wish(1, (Part("public.t"),))

    async def refused(*_: object) -> None:
        if (reason := next(reasons, None)) is None:
            raise asyncio.CancelledError
        raise Unavailable(f"for reason {reason}")

    async def load(_session: object) -> None:
        pass

    filling = Filling(SETTINGS, cast(Any, SimpleNamespace(load=load, wanted=wanted)), refusing)
    monkeypatch.setattr(filling, "_ask", refused)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(filling._fill(cast(Any, None)))
    assert sum("can't be filled yet" in one.getMessage() for one in caplog.records) == fill.TOLD_MAX
