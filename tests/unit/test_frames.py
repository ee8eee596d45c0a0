"""Our packed frames are, byte for byte, those that pika would write."""

from __future__ import annotations

import math

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from relay.listening.event import OutboxEvent
from relay.listening.frames import WRITE_BYTES, Frames, Unpublishable, headers
from relay.signature import Signer

CHANNEL, FRAME_MAX, EXCHANGE = 1, 4096, "relay"
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
HEADERS = st.dictionaries(
    SHORT, st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | SHORT | st.lists(SHORT), max_size=3
)
EVENTS = st.builds(
    OutboxEvent,
    seq=st.integers(1, 2**63 - 1),
    id=st.uuids().map(str),
    at=st.integers(0, 2**60),
    xid=st.just(1),
    topic=SHORT,
    table=st.none() | SHORT,
    op=st.sampled_from(["insert", "update", "delete", "truncate", "snapshot", "message", "notify"]),
    key=st.none() | SHORT,
    body=st.binary(max_size=3 * FRAME_MAX),
    headers=st.none() | HEADERS,
    flaw=st.just(""),
    queue=st.none() | SHORT,
)


def packed(frames: Frames, events: list[OutboxEvent]) -> list[bytes]:
    return list(frames.pack((frames.head(event), event.body) for event in events))


def by_pika(event: OutboxEvent, secret: bytes) -> list[bytes]:
    """The frames that Channel.basic_publish writes to the socket."""
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=event.id,
        timestamp=event.at // 1_000_000,
        type=event.op,
        headers=headers(event, Signer(secret) if secret else None),
    )
    exchange, routing_key = (EXCHANGE, event.topic) if event.queue is None else ("", event.queue)
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    size, most = len(event.body), FRAME_MAX - frame.spec.FRAME_HEADER_SIZE - frame.spec.FRAME_END_SIZE
    bodies = [event.body[i * most : (i + 1) * most] for i in range(math.ceil(size / most))]
    frames = [frame.Method(CHANNEL, method), frame.Header(CHANNEL, size, properties)]
    return [each.marshal() for each in [*frames, *(frame.Body(CHANNEL, body) for body in bodies)]]


@given(st.lists(EVENTS, max_size=4), st.sampled_from([b"", b"a secret of the two of them"]))
def test_frames_are_those_that_pika_would_write(events: list[OutboxEvent], secret: bytes) -> None:
    frames = Frames(CHANNEL, FRAME_MAX, EXCHANGE, secret)
    fit = []
    for event in events:
        if max(map(len, by_pika(event, secret))) <= FRAME_MAX:
            fit.append(event)
        else:
            with pytest.raises(Unpublishable, match="larger than a frame"):
                frames.head(event)

    assert b"".join(packed(frames, fit)) == b"".join(frame for event in fit for frame in by_pika(event, secret))


def test_a_header_frame_is_filled_to_its_last_byte_and_no_further() -> None:
    frames = Frames(CHANNEL, FRAME_MAX, EXCHANGE)

    most = FRAME_MAX - len(by_pika(OutboxEvent(1, "id", 1, 1, "t", None, "message", "", b""), b"")[1])
    frames.head(OutboxEvent(1, "id", 1, 1, "t", None, "message", "k" * most, b""))
    with pytest.raises(Unpublishable, match="frame_max 4096"):
        frames.head(OutboxEvent(1, "id", 1, 1, "t", None, "message", "k" * (most + 1), b""))


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (OutboxEvent(1, "id", 1, 1, "\xe9" * 128, None, "message", None, b""), "longer than 255 bytes"),
        (OutboxEvent(1, "id", 1, 1, "t", None, "o" * 256, None, b""), "longer than 255 bytes"),
        (OutboxEvent(1, "id", -1, 1, "t", None, "message", None, b""), "can't be encoded: error in frames.py"),
        (OutboxEvent(1, "i", 1, 1, "t", None, "message", None, b"", {"x": object()}), "can't be encoded: Unsupported"),
        (
            OutboxEvent(1, "i", 1, 1, "t", None, "message", None, b"", None, "its headers can't be read"),
            "can't be read",
        ),
    ],
)
def test_what_no_frame_can_hold_is_unfit_and_says_why(event: OutboxEvent, reason: str) -> None:
    with pytest.raises(Unpublishable, match=reason):
        Frames(CHANNEL, FRAME_MAX, EXCHANGE).head(event)


def test_headers_of_the_application_cannot_replace_ours() -> None:
    event = OutboxEvent(
        7, "id", 1, 1, "t", "public.t", "message", "k", b"{}", {"relay-seq": 1, "relay-key": "x", "own": "y"}
    )

    assert headers(event) == {
        "relay-seq": 7,
        "relay-key": "k",
        "relay-slot": "29",
        "relay-table": "public.t",
        "own": "y",
    }


@pytest.mark.parametrize(
    "name", ["relay-seq", "relay-key", "relay-slot", "relay-table", "relay-signature", "x-delivery-count"]
)
def test_nor_stand_where_there_is_none_of_ours(name: str) -> None:
    """An event of relay.publish has no table, and need not have a key."""
    event = OutboxEvent(7, "id", 1, 1, "t", None, "message", None, b"{}", {name: "public.t", "own": "y"})

    assert headers(event) == {"relay-seq": 7, "own": "y"}


def test_small_events_are_written_together_and_a_large_one_in_pieces() -> None:
    small = [OutboxEvent(n, "id", 1, 1, "t", None, "message", None, b"x" * 300) for n in range(100)]
    large = [OutboxEvent(1, "id", 1, 1, "t", None, "message", None, b"x" * 1_000_000)]
    frames = Frames(CHANNEL, 131072, EXCHANGE)

    assert len(packed(frames, small)) == 1
    assert max(map(len, packed(frames, large))) < WRITE_BYTES + 131072
