"""What a lane takes for the sign of a lost binding, and what for a stranger's."""

from __future__ import annotations

import pytest
from pika.spec import Basic

from relay import config
from relay.amqp.decode import Properties
from relay.amqp.headers import SLOTS, slot
from relay.receiving.codec import Reader
from relay.receiving.lanes.declared import ELSEWHERE, LaneStrays
from relay.receiving.lanes.names import Generation
from relay.receiving.lanes.place import Place
from relay.signature import HEADER, Signer

SECRET = b"0123456789abcdefghijklmnop"
SETTINGS = config.load(config.Receive, None, {"RABBITMQ_URL": "amqp://localhost/", "QUEUE": "odoo", "LANE": "0/2"})
OTHERS = next(key for key in "abcdef" if int(slot(key.encode())) % 2)
MINE = next(key for key in "abcdef" if not int(slot(key.encode())) % 2)
FORGED = next(one for one in SLOTS if int(one) % 2 and one not in (slot(OTHERS.encode()), slot(MINE.encode())))


def looked_at(
    headers: dict[str, object], *, exchange: str = "relay", secret: bytes = b"", ends: bool = False, lane: int = 0
) -> str:
    """What a lane of 2 has against it; "lost" = it takes it for the sign of a lost binding."""
    lost, strays = list[str](), LaneStrays(SETTINGS, Place(Generation("odoo", 1, 2), lane, ends=ends))
    strays.on_lost = lambda: lost.append("lost")
    method, properties = Basic.Deliver("c", 1, exchange=exchange, routing_key="t"), Properties(headers=headers)
    objection = strays.look(method, properties, Reader(secret).to_event(method, properties, b"{}"))
    return "".join(lost) + objection


def of_key(key: str, **more: object) -> dict[str, object]:
    return {"relay-key": key, "relay-slot": slot(key.encode()), **more}


def signature(key: str) -> str:
    return Signer(SECRET).sign(("t", "", "", "", key, ""), b"{}")


def test_an_event_of_another_lane_s_key_proves_a_lost_binding() -> None:
    assert looked_at(of_key(OTHERS)) == "lost"
    assert looked_at(of_key(OTHERS, **{HEADER: signature(OTHERS)}), secret=SECRET) == "lost"


@pytest.mark.parametrize(
    "headers",
    [
        {"relay-slot": FORGED},
        {"relay-slot": FORGED, "relay-key": MINE},
        {"relay-slot": FORGED, "relay-key": OTHERS},
        {"relay-slot": FORGED, "relay-key": b"\xff"},
        {"relay-slot": FORGED, "relay-key": 5},
    ],
)
def test_a_slot_that_is_not_the_key_s_is_a_stranger_s(headers: dict[str, object]) -> None:
    assert looked_at(headers) == ELSEWHERE


def test_no_key_has_no_slot() -> None:
    """Though that of the empty text would be 00."""
    assert looked_at({"relay-slot": slot(b"")}, lane=1) == ELSEWHERE


def test_what_is_put_into_the_queue_itself_is_a_stranger_s() -> None:
    assert looked_at(of_key(OTHERS), exchange="") == ELSEWHERE


def test_what_is_not_signed_as_it_must_be_proves_nothing() -> None:
    assert looked_at(of_key(OTHERS), secret=SECRET) == ELSEWHERE
    assert looked_at(of_key(OTHERS, **{HEADER: signature(MINE)}), secret=SECRET) == ELSEWHERE


@pytest.mark.parametrize("found", [None, 1, b"01", True, "1", "32", "x", "001"])
def test_what_is_no_slot_is_as_none(found: object) -> None:
    assert looked_at({"relay-key": OTHERS, "relay-slot": found}) == ""


def test_what_is_of_this_lane_or_emptied_for_another_number_is_let_through() -> None:
    assert looked_at(of_key(MINE)) == ""
    assert looked_at(of_key(OTHERS), ends=True) == ""
