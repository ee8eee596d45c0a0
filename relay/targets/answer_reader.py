"""Answers of HTTP/1.1 out of the bytes of one connection. Pure: no socket, no clock.

httptools (llhttp, the parser of Node.js) takes them apart, at a ninth of what the standard library's reader costs.
Around it stands what it does not do: bounds, informational answers, a body that ends with the connection. It is told
only what Debian 12's version 0.1 knows, too.
"""

import http.client
import re
from http import HTTPStatus

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from relay.targets.answer import BY_STATUS, Answer, decoded, retry_after, shown

HEAD_LIMIT = 65_536  # bytes of a head, or between two pieces of a body: sizes of chunks, what follows the last one
HEADERS_LIMIT = 100
PIECE = 4096  # bytes that are parsed at once, so that HEAD_LIMIT is kept to that

_STATUS_LINE = len(b"HTTP/1.1 200")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length[ \t]*:([^\r\n]*)\r?(?=\n)", re.IGNORECASE)
# What servers get wrong and what does no harm: a connection carries nobody's answers but ours, one at a time.
_LENIENT = dict.fromkeys(
    (
        "lenient_headers",
        "lenient_chunked_length",
        "lenient_data_after_close",
        "lenient_optional_lf_after_cr",
        "lenient_optional_cr_before_lf",
        "lenient_spaces_after_chunk_size",
    ),
    True,
)


class BadHeader(http.client.HTTPException):
    """A header that can't be read, or too many of them."""


def _with_one_length(data: bytes, end: int) -> bytes:
    """The same with one Content-Length where its head, up to `end`, has the same one several times (RFC 9112, 6.3)."""
    head = data[:end]
    _, found, behind = head.lower().partition(b"\ncontent-length")
    if not found or (b"," not in behind.partition(b"\n")[0] and found not in behind):
        return data
    values = {value.strip() for length in _LENGTH.findall(head) for value in length.split(b",")}
    if len(values) != 1:
        return data
    status, line, rest = _LENGTH.sub(b"", head).partition(b"\n")
    return status + b"\nContent-Length: " + b"".join(values) + b"\r" + line + rest + data[end:]


class AnswerReader:
    """One answer after the other. After `begin`, `feed` what arrives until `answer` is there, or `end`.

    Attributes:
        answer: the answer that `begin` has asked for, once it has been read.
        reusable: with `answer`: the connection can be used again, as far as its bytes tell.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        if hasattr(self._parser, "set_dangerous_leniencies"):
            self._parser.set_dangerous_leniencies(**_LENIENT)
        self.answer: Answer | None = None
        self.reusable = False
        self.begin("", 0)

    def begin(self, method: str, limit: int) -> None:
        """A request is sent. `limit`: bytes of its answer's body that are read; what follows is dropped."""
        self.answer, self.reusable = None, False
        self._method = method
        self._limit = limit
        self._held = b""  # the beginning of a head
        self._is_final = False  # the head that is being read is the final answer's
        self._unread = 0  # bytes since the head began, or since the last piece of the body
        self._status = 0  # known when the head is whole
        self._headers: dict[bytes, bytes] = {}  # by name in lower case; of several of a name the first
        self._lines = 0  # headers, all of them
        self._body = bytearray()  # not a list: whoever answers decides how small the pieces are

    def feed(self, data: bytes) -> None:
        """Read on. Raises http.client.HTTPException: no answer can be made of it."""
        try:
            if not self._is_final:
                data = self._without_informational(self._held + data)
            for at in range(0, len(data), PIECE):
                self._parse(data[at : at + PIECE])
                if self.answer is not None and not self.reusable:
                    return
        except http.client.HTTPException as error:
            self.end(error)

    def end(self, error: Exception | None) -> None:
        """Nothing more comes: the connection has ended, by `error` or in order, or it is too late.

        Afterwards `answer` is there, or this raises what was wrong: `error`, http.client.HTTPException.
        """
        if self.answer is not None:
            self.reusable = False
        elif self._status and error is None and not self._has_length():
            self._complete(bytes(self._body))  # the end of the connection is its end
        elif self._status in BY_STATUS:
            self._complete(b"")  # a sure sign without its body
        elif error is not None:
            raise error
        elif self._is_final or self._held:
            raise http.client.IncompleteRead(b"")
        else:
            raise http.client.RemoteDisconnected("")

    def _without_informational(self, data: bytes) -> bytes:
        """What there is of the final answer; informational ones come before it (any 1xx but 101; RFC 9110, 15.2).

        Empty lines before any of them count for nothing, as the parser sees it.
        """
        self._held = b""
        data = self._without_lines(data)
        while len(data) >= _STATUS_LINE:
            is_http = data.startswith(b"HTTP/1.")
            end = _END_OF_HEAD.search(data) if is_http else None
            if is_http and end is None:
                break
            if end is None or data[8:10] != b" 1" or data[9:12] == b"101":
                self._is_final = True
                return data if end is None else _with_one_length(data, end.end())
            self._unread += end.end()
            self._check_unread(0)
            data = self._without_lines(data[end.end() :])
        self._held = data
        self._check_unread(len(data))
        return b""

    def _without_lines(self, data: bytes) -> bytes:
        left = data.lstrip(b"\r\n")
        self._unread += len(data) - len(left)
        return left

    def _parse(self, piece: bytes) -> None:
        self._unread += len(piece)
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            self._complete(b"")  # another protocol begins here, that nobody has asked for
        except HttpParserError:
            self.reusable = False
            if self.answer is None:
                raise self._broken() from None
        if self.answer is None:
            self._check_unread(0)

    def _check_unread(self, held: int) -> None:
        if self._unread + held > HEAD_LIMIT:
            raise http.client.LineTooLong("head")

    def _broken(self) -> http.client.HTTPException:
        if self._status:
            return http.client.IncompleteRead(b"")
        return BadHeader() if self._parser.get_status_code() else http.client.BadStatusLine("")

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.answer is not None:
            self.reusable = False  # an answer to what nobody has asked

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > HEADERS_LIMIT:
            raise BadHeader
        self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        if self.answer is None:
            self._status, self._unread = self._parser.get_status_code(), 0
            if self._method == "HEAD" or self._status == HTTPStatus.NOT_MODIFIED:  # no body, whatever its length says
                self._complete(b"")

    def on_body(self, piece: bytes) -> None:
        self._unread = 0
        if self.answer is None:
            self._body += piece
            if len(self._body) > self._limit:
                self._complete(bytes(self._body[: self._limit]))

    def on_message_complete(self) -> None:
        if self.answer is None:
            self._complete(bytes(self._body))
            self.reusable = self._parser.should_keep_alive() and self._status != HTTPStatus.SWITCHING_PROTOCOLS

    def _complete(self, body: bytes) -> None:
        said, date = self._header(b"retry-after"), self._header(b"date")
        wait = retry_after(said, date) if said else 0.0
        body, coding = decoded(body, self._header(b"content-encoding"))
        leads_to = shown(self._header(b"location")) if 300 <= self._status < 400 else ""
        self.answer = Answer(
            self._status, self._header(b"content-type"), body, wait, date=date, coding=coding, leads_to=leads_to
        )

    def _header(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1")

    def _has_length(self) -> bool:
        """Does the body end before the connection does? (RFC 9112, 6.3)"""
        coding = self._headers.get(b"transfer-encoding")
        return b"content-length" in self._headers if coding is None else b"chunked" in coding.lower()
