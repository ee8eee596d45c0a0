"""Numbers of others that are none, or far too large: an answer all the same, and no defect of ours."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.errors import Unavailable
from relay.receiving import management
from relay.targets.odoo.actions import _counts
from relay.targets.odoo.marks import Mark, Marks
from relay.targets.template import Missing
from tests.unit.test_transport import receive

HUGE = 10**400


@pytest.mark.parametrize("number", [HUGE, float("inf"), float("nan"), "x", None, [], {}, -1])
@pytest.mark.parametrize("name", ["rate", "message_bytes", "messages"])
def test_whatever_the_management_api_counts_a_queue_s_flow_is_words_or_nothing(name: str, number: Any) -> None:
    rates = {"rate": number if name == "rate" else 1.0}
    found = {"message_stats": {"publish_details": rates, "ack_details": rates}, "message_bytes": 1, "messages": 1}

    def ask(path: str) -> Any:
        if not path.startswith("/queues/"):
            raise Unavailable("no")
        return found | {name: number}

    assert management.flow(ask, receive(HTTP_URL="http://localhost/")).isprintable()


COUNTS = ["\N{SUPERSCRIPT TWO}", "9" * 5000, "-1", "", "1.0", None, 1, True]


@pytest.mark.parametrize("count", COUNTS)
def test_a_mark_that_says_no_number_of_rows_is_none_of_ours(count: Any) -> None:
    class Api:
        async def call(self, *_: object, **__: object) -> Any:
            return [{"id": 1, "name": f"m~{count}~x", "res_id": 5}, {"id": 2, "name": "m~3~x", "res_id": 5}]

    found = Marks(cast(Any, Api()))
    found._call = Api().call  # type: ignore[method-assign]
    expected = [Mark(1, "m", (1,))] if str(count) == "1" else []
    assert asyncio.run(found.find("model", [5]))[5] == [*expected, Mark(2, "m", (3,))]


@pytest.mark.parametrize("count", COUNTS)
def test_a_number_of_rows_that_is_none_is_the_event_s_own_failure(count: Any) -> None:
    action, planned = SimpleNamespace(method="m", after={"lines": "n"}), SimpleNamespace(row={"n": count})
    with pytest.raises(Missing, match="n is no number of rows"):
        _counts(cast(Any, action), cast(Any, planned))
