"""Our packed frames are, byte for byte, those that pika would write."""

from __future__ import annotations

import math

import pika
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from relay.event import Event
from relay.frames import WRITE_BYTES, Frames, headers
from relay.signature import Signer

CHANNEL, FRAME_MAX, EXCHANGE = 1, 4096, "relay"
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
HEADERS = st.dictionaries(
    SHORT, st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | SHORT | st.lists(SHORT), max_size=3
)
EVENTS = st.builds(
    Event,
    seq=st.integers(1, 2**63 - 1),
    id=st.uuids().map(str),
    at=st.integers(0, 2**40),
    topic=SHORT,
    table=st.none() | SHORT,
    op=st.sampled_from(["insert", "update", "delete", "truncate", "snapshot", "message", "notify"]),
    key=st.none() | SHORT,
    body=st.binary(max_size=3 * FRAME_MAX),
    headers=st.none() | HEADERS,
)


def by_pika(event: Event, secret: bytes) -> bytes:
    """What Channel.basic_publish writes to the socket."""
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=event.id,
        timestamp=event.at,
        type=event.op,
        headers=headers(event, Signer(secret) if secret else None),
    )
    method = spec.Basic.Publish(exchange=EXCHANGE, routing_key=event.topic, mandatory=True)
    size, most = len(event.body), FRAME_MAX - frame.spec.FRAME_HEADER_SIZE - frame.spec.FRAME_END_SIZE
    bodies = [event.body[i * most : (i + 1) * most] for i in range(math.ceil(size / most))]
    frames = [frame.Method(CHANNEL, method), frame.Header(CHANNEL, size, properties)]
    return b"".join(each.marshal() for each in [*frames, *(frame.Body(CHANNEL, body) for body in bodies)])


@given(st.lists(EVENTS, max_size=4), st.sampled_from([b"", b"a secret of the two of them"]))
def test_frames_are_those_that_pika_would_write(events: list[Event], secret: bytes) -> None:
    packed = Frames(CHANNEL, FRAME_MAX, EXCHANGE, secret).pack(events)

    assert b"".join(packed) == b"".join(by_pika(event, secret) for event in events)


def test_headers_of_the_application_cannot_replace_ours() -> None:
    event = Event(7, "id", 1, "t", "public.t", "message", "k", b"{}", {"relay-seq": 1, "relay-key": "x", "own": "y"})

    assert headers(event) == {"relay-seq": 7, "relay-key": "k", "relay-table": "public.t", "own": "y"}


def test_small_events_are_written_together_and_a_large_one_in_pieces() -> None:
    small = [Event(n, "id", 1, "t", None, "message", None, b"x" * 300) for n in range(100)]
    large = [Event(1, "id", 1, "t", None, "message", None, b"x" * 1_000_000)]
    frames = Frames(CHANNEL, 131072, EXCHANGE)

    assert len(list(frames.pack(small))) == 1
    assert max(map(len, frames.pack(large))) < WRITE_BYTES + 131072
