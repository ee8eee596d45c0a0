"""HTTP_BATCH: events of different keys in one request of TARGET=http, as a JSON array or lines of JSON.

| what comes back | then |
| --- | --- |
| a success | all of them are done; with HTTP_BATCH_ANSWER=items, those that it says are |
| 400, 413, 422 and whatever else may be one event's | halves, until the bad one is alone |
| the endpoint's failure (429, 503, no connection) | all wait, no attempt is spent |
| none, or a time-out | all wait, and go in halves the next time |

Halves may tell an endpoint again what it has done of the whole: it remembers ids, or takes a request as a whole.
"""

import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from relay.envfile import Problem
from relay.targets.answer import BY_STATUS, Answer
from relay.targets.bisection import Limits, Refused, RowsRefused, go_on_at_once
from relay.targets.headers import readable
from relay.targets.many_values import too_many
from relay.targets.settings import PerOp
from relay.targets.template import Context, Missing, coding, has_fields, render_json

MOST = 200  # events of a request: their ids stand in one header, and nginx takes 8 kB of it
LARGEST = 8 << 20  # bytes of a request; an event that is larger goes alone
FORMATS = ("array", "ndjson")
ITEM_REASON = 120  # characters of what an item's own words may be in a reason


class Part(NamedTuple):
    """One event of a request."""

    delivery: Delivery
    text: bytes


def problems(
    order: str, url: str, headers: Sequence[tuple[str, str]], methods: PerOp, bodies: Sequence[str]
) -> list[Problem]:
    """What of the settings can't be together with HTTP_BATCH above 1."""
    found = []

    def no(setting: str, remedy: str) -> None:
        found.append((f"HTTP_BATCH puts several events into one request, and {setting}", f"{remedy}, or HTTP_BATCH=1"))

    if has_fields(url):
        no("HTTP_URL names fields of one event", "take them out")
    if named := [name for name, value in headers if has_fields(value)]:
        no(f"HTTP_HEADERS names fields of one event in {named[0]}", "take them out")
    if len(set(methods.values())) > 1:
        no("HTTP_METHOD differs by op", "write one method")
    elif methods[""] in ("GET", "DELETE"):
        no(f"HTTP_METHOD={methods['']} takes no body", "write POST")
    if order == "global":
        no("ORDER=global sends one after another", "write ORDER=key")
    if any(body and body.lstrip()[:1] not in ("{", "[") for body in bodies):
        no("HTTP_BODY is no JSON", "let it begin with { or [")
    return found


def part_of(delivery: Delivery, template: str) -> Part:
    """What is sent of an event. Raises Missing: nothing can be."""
    event = delivery.event
    if template:
        return Part(delivery, render_json(template, Context(event)).encode())
    if coding(event):
        raise Missing(f"it is encoded ({coding(event)}), and HTTP_BATCH sends JSON")
    return Part(delivery, _json(event))


def _json(event: Event) -> bytes:
    """The body, if it is JSON and nothing else: what is not would spoil its neighbours."""

    def constant(name: str) -> None:
        raise ValueError(name)

    if why := too_many(event):
        raise Missing(why)
    try:
        json.loads(event.body.decode(), parse_constant=constant, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        raise Missing("the event is not JSON, and HTTP_BATCH sends JSON") from None
    # Between tokens only: a text of JSON holds no line's end as it is.
    return event.body.translate(_ONE_LINE)


_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def body_of(parts: Sequence[Part], form: str) -> tuple[bytes, str]:
    """A request's body, and its type."""
    if form == "ndjson":  # lines of a template have ends of their own
        return b"".join(part.text.rstrip(b"\n") + b"\n" for part in parts), "application/x-ndjson"
    return b"[" + b",".join(part.text for part in parts) + b"]", "application/json"


def own_headers(parts: Sequence[Part]) -> dict[str, str]:
    """As of a single event."""
    ids = ",".join(readable(part.delivery.event.id).replace(",", "%2C") for part in parts)
    return {"Relay-Event": ids, "Relay-Attempt": str(max(part.delivery.attempt for part in parts))}


def name_of(ids: Sequence[str]) -> str:
    """What a request of these is called: the same whenever they are together."""
    return f"batch_{hashlib.sha256(chr(0).join(ids).encode('utf-8', 'replace')).hexdigest()[:32]}"


class Batches:
    """Sends them. Shared by all workers of a target: what is known of requests that got lost.

    Args:
        by_item: does the answer say what became of each event (HTTP_BATCH_ANSWER=items)?
        is_success: is the status one for an event of this op?
    """

    def __init__(self, *, by_item: bool, is_success: Callable[[str, int], bool]) -> None:
        self._limits = Limits()
        self._by_item = by_item
        self._is_success = is_success

    async def send(
        self, parts: Sequence[Part], request: Callable[[Sequence[Part]], Awaitable[tuple[Answer | None, Outcome]]]
    ) -> list[Outcome]:
        """Send all, in one request if it may be.

        Args:
            request: one request; returns the answer, None = there is none, and whose failure that is.
        """

        async def send(some: Sequence[Part]) -> None:
            answer, outcome = await request(some)
            if outcome is not DONE:
                raise _refused(answer, outcome)
            if self._by_item and answer is not None:
                self._judge_items(some, answer)

        names = [part.delivery.event.id or id(part.delivery.event) for part in parts]
        large = {at for at, part in enumerate(parts) if len(part.text) > LARGEST // len(parts)}
        outcomes = await self._limits.send(parts, names, send, alone=large)
        return go_on_at_once([part.delivery.event for part in parts], outcomes)

    def _judge_items(self, parts: Sequence[Part], answer: Answer) -> None:
        """Raises Refused: some are not done, or nothing says that they are: these go again, until alone."""
        found = items_of(answer.body, [part.delivery.event.id for part in parts])
        if found is None:
            reason = f"HTTP {answer.status}, but no items: {answer.quoted()}"
            raise Refused(Outcome(Verdict.UNCLEAR, reason))
        judged = [self._judge_item(part.delivery.event, item) for part, item in zip(parts, found, strict=True)]
        if all(one.verdict is Verdict.ENDPOINT for one in judged):
            raise Refused(judged[0])
        alone = len(parts) == 1
        settled = {at: one for at, one in enumerate(judged) if alone or one.verdict is not Verdict.UNCLEAR}
        if not settled:
            raise Refused(judged[0], splits=True)
        if any(one is not DONE for one in judged):
            raise RowsRefused(judged[0], {at: _waits(one) for at, one in settled.items()}, None)

    def _judge_item(self, event: Event, item: dict[str, Any] | None) -> Outcome:
        if item is None:
            return Outcome(Verdict.UNCLEAR, "the answer has no item for it")
        status = item.get("status")
        if not isinstance(status, int) or isinstance(status, bool):
            return Outcome(Verdict.UNCLEAR, "its item in the answer has no status")
        if self._is_success(event.op, status):
            return DONE
        said = json.dumps(item.get("error", ""))[:ITEM_REASON]
        return Outcome(BY_STATUS.get(status, Verdict.UNCLEAR), f"status {status} for it in the answer: {said}")


def _waits(outcome: Outcome) -> Outcome:
    """Of one among others: an endpoint that is too busy for it (429) took those, and no attempt is spent."""
    if outcome.verdict is Verdict.ENDPOINT:
        return dataclasses.replace(outcome, verdict=Verdict.CONFLICT)
    return outcome


def _refused(answer: Answer | None, outcome: Outcome) -> Refused:
    if outcome.likely or (outcome.verdict is Verdict.UNCLEAR and (answer is None or outcome.running)):
        return Refused(outcome, lost=True)  # one of them may have met it, or all: nobody knows, and no attempt is spent
    too_large = answer is not None and answer.status == 413
    return Refused(outcome, splits=outcome.verdict in (Verdict.MESSAGE, Verdict.UNCLEAR), too_large=too_large)


def items_of(body: bytes, ids: Sequence[str]) -> list[dict[str, Any] | None] | None:
    """What an answer says of each event; None = nothing that can be understood.

    Items by `id`, in any order: [{"id": ..., "status": 200}]; or as many as events, in their order, also as `_bulk` of
    Elasticsearch answers: {"items": [{"index": {"status": 201}}]}.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    listed = parsed.get("items") if isinstance(parsed, dict) else parsed
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return None
    flat = [one if "id" in one else _inner(one) for one in listed]
    if all("id" in one for one in listed):
        named = {str(one["id"]): one for one in flat}
        return [named.get(name) if name else None for name in ids]
    return list(flat) if len(flat) == len(ids) else None


def _inner(item: dict[str, Any]) -> dict[str, Any]:
    """{"status": ...} of {"index": {"status": ...}}."""
    if len(item) == 1:
        (only,) = item.values()
        if isinstance(only, dict):
            return only
    return item
