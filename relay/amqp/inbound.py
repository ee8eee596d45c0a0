"""A connection to RabbitMQ that takes deliveries apart by itself (decode.py says why). pika does all the rest.

pika has no public place for that: `_on_data_available` gets the bytes, `_process_frame` a frame that is no part of a
delivery, and a channel keeps its consumers' callbacks in `_consumers`.
"""

import struct
from typing import Any

import pika.exceptions
import pika.frame
import pika.spec
from pika.spec import Basic

from relay.amqp.decode import Properties, read_deliver, read_properties

_FRAME = struct.Struct(">BHI").unpack_from  # type, channel, size
_METHOD = struct.Struct(">I").unpack_from
_SIZE = struct.Struct(">Q").unpack_from
_IS_METHOD, _IS_HEADER, _IS_BODY, _IS_HEARTBEAT = 1, 2, 3, 8
_BEFORE, _AROUND, _END = 7, 8, 0xCE  # bytes before a frame's payload, and around it; the byte that ends it
_DELIVER = 60 << 16 | 60
_SIZE_AT, _FLAGS_AT = 4, 12  # of a content header: after class and weight; and after the size of the body
_PROTOCOL = b"AMQP"  # of a broker that speaks another version: no frame
_BODY_MAX = 512 << 20  # bytes: RabbitMQ's highest max_message_size


class _Delivery:
    """One that is not whole yet."""

    __slots__ = ("left", "method", "pieces", "properties")

    def __init__(self, method: Basic.Deliver) -> None:
        self.method = method
        self.properties = Properties()
        self.left = 0
        self.pieces: list[bytes] = []


class Inbound:
    """Part of a connection: hands each delivery to its consumer's callback with `Properties`, whatever is in it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._deliveries: dict[int, _Delivery] = {}  # by channel
        self._frame_buffer = b""
        super().__init__(*arguments, **more)

    def _on_data_available(self, data_in: bytes) -> None:
        """pika's own does the same with every frame: called with what the socket had.

        A frame or a body larger than RabbitMQ sends ends the connection: it would be kept until it is whole.
        """
        data: bytes = self._frame_buffer + data_in if self._frame_buffer else data_in
        at, end = 0, len(data)
        try:
            while end - at >= _AROUND:
                kind, number, size = _FRAME(data, at)
                begin, after = at + _BEFORE, at + _AROUND + size
                if kind in (_IS_METHOD, _IS_HEADER, _IS_BODY) and after <= end and data[after - 1] == _END:
                    at = after
                    self._take(kind, number, data, begin, after - 1)
                    continue
                if size > pika.spec.FRAME_MAX_SIZE and data[at : at + len(_PROTOCOL)] != _PROTOCOL:
                    raise pika.exceptions.InvalidFrameError(f"a frame of {size} bytes")
                used, frame = pika.frame.decode_frame(data[at:])  # raises if this is no frame
                if not frame:
                    break
                at += used
                self._process_frame(frame)  # type: ignore[attr-defined]
        finally:
            self._frame_buffer = data[at:]
            self.bytes_received: int = getattr(self, "bytes_received", 0) + at

    def _take(self, kind: int, number: int, data: bytes, begin: int, end: int) -> None:
        delivery = self._deliveries.get(number)
        if kind == _IS_HEADER:
            (size,), properties = _SIZE(data, begin + _SIZE_AT), read_properties(data[begin + _FLAGS_AT : end])
            if size > _BODY_MAX:
                raise pika.exceptions.InvalidFrameError(f"a body of {size} bytes")
            if delivery is None:  # of a basic.get or a basic.return
                self._process_frame(pika.frame.Header(number, size, properties))  # type: ignore[attr-defined]
            else:
                delivery.properties, delivery.left = properties, size
                if not size:
                    self._hand_over(number, delivery)
        elif kind == _IS_BODY and delivery is not None:
            delivery.pieces.append(data[begin:end])
            delivery.left -= end - begin
            if delivery.left < 0:
                raise pika.exceptions.InvalidFrameError("more of a body than its header says")
            if not delivery.left:
                self._hand_over(number, delivery)
        elif kind == _IS_METHOD and _METHOD(data, begin)[0] == _DELIVER:
            self._deliveries[number] = _Delivery(read_deliver(data, begin + 4))
        else:
            self._deliveries.pop(number, None)
            self._process_frame(pika.frame.decode_frame(data[begin - _BEFORE : end + 1])[1])  # type: ignore[attr-defined]

    def _hand_over(self, number: int, delivery: _Delivery) -> None:
        del self._deliveries[number]
        channel = self._channels.get(number)  # type: ignore[attr-defined]
        consumer = channel and channel._consumers.get(delivery.method.consumer_tag)
        if consumer:  # none: we have closed the channel, and it comes again
            pieces = delivery.pieces
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            consumer(channel, delivery.method, delivery.properties, body)
