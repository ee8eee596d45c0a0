"""Answers out of bytes, however these are cut."""

import codecs
import gzip
import http.client
import itertools
import random
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.targets.answer import ANSWER_LIMIT, decoded
from relay.targets.answer_reader import HEAD_LIMIT, HEADERS_LIMIT, PIECE, AnswerReader, BadHeader

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LIMIT = 100


def read(data: bytes, cuts: list[int] | None = None, method: str = "POST") -> AnswerReader:
    """What is read of it, if it comes in pieces that end at `cuts`, and then the connection ends."""
    reader = AnswerReader()
    reader.begin(method, LIMIT)
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in itertools.pairwise(edges):
        if reader.answer is None:
            reader.feed(data[start:end])
    if reader.answer is None:
        reader.end(None)
    return reader


WHOLE = {
    "a length": (OK, 200, b"{}", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nX: y\r\n\r\n",
        200,
        b"{}",
        True,
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\n{}", 200, b"{}", False),
    "version 1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
    "kept by 1.0": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
    "to be closed": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
    "not modified": (b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", 304, b"", False),
    "a length twice": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\ncontent-length:2 \r\nContent-LENGTH: 2\r\n\r\n{}",
        200,
        b"{}",
        True,
    ),
    "a length twice, last, by LF": (
        b"HTTP/1.1 200 OK\nX: y\nContent-Length: 2\nContent-Length: 2\n\n{}",
        200,
        b"{}",
        True,
    ),
    "a list of one length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2,2\r\n\r\n{}", 200, b"{}", True),
    "lines of LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", 200, b"{}", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
    "odd bytes": (b"HTTP/1.1 200 OK\r\nX: \xff\r\nContent-Length: 2\r\n\r\n\xff\x00", 200, b"\xff\x00", True),
    "informational": (
        b"HTTP/1.1 103 Early\r\nContent-Length: 5\r\nConnection: close\r\n\r\n" * 2 + OK,
        200,
        b"{}",
        True,
    ),
    "empty lines": (
        b"\r\n\r\nHTTP/1.1 103 Early\r\n\r\n\n\r\nHTTP/1.1 100 X\r\n\r\n\r\n" + OK,
        200,
        b"{}",
        True,
    ),
    "another protocol": (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 101, b"", False),
    "a sure sign": (b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\n{}", 503, b"", False),
    "the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, 200, b"x" * 100, True),
    "above the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"x" * 300, 200, b"x" * 100, False),
}


@pytest.mark.parametrize("name", WHOLE)
@given(st.data())
def test_a_whole_answer_is_the_same_however_it_comes(name: str, data: st.DataObject) -> None:
    given_, status, body, reusable = WHOLE[name]
    reader = read(given_, data.draw(st.lists(st.integers(0, len(given_)), max_size=8)))
    assert reader.answer is not None
    assert (reader.answer.status, reader.answer.body, reader.reusable) == (status, body, reusable)


PAGE = b"<html>login</html>" * 3
CUT = random.Random(1).randbytes(99)
CODED = {  # Content-Encoding, body, as what it is read
    "gzip": (b"gzip", gzip.compress(PAGE), PAGE),
    "by another name": (b"X-GZIP", gzip.compress(PAGE), PAGE),
    "deflate": (b"deflate", zlib.compress(PAGE), PAGE),
    "deflate without its head": (b"deflate", zlib.compress(PAGE)[2:-4], PAGE),
    "cut short": (b"gzip", gzip.compress(CUT)[:-38], CUT[:69]),
    "none after all": (b"gzip", b"no gzip", b"no gzip"),
    "nothing": (b"gzip", b"", b""),
    "unknown": (b"br", PAGE, PAGE),
    "none": (b"identity", PAGE, PAGE),
    "several": (b"deflate, gzip", gzip.compress(zlib.compress(PAGE)), PAGE),
    "several, one unknown": (b"zstd,gzip", gzip.compress(PAGE), PAGE),
    "UTF-16": (b"", codecs.BOM_UTF16_BE + PAGE.decode().encode("utf-16-be"), PAGE),
    "UTF-16, packed": (b"gzip", gzip.compress(codecs.BOM_UTF16_LE + PAGE.decode().encode("utf-16-le")), PAGE),
    "UTF-8 that says so": (b"", codecs.BOM_UTF8 + PAGE, PAGE),
}
UNREAD = {"unknown": "br", "several, one unknown": "zstd"}


@pytest.mark.parametrize("name", CODED)
def test_a_body_is_read_without_a_coding_that_nobody_has_asked_for(name: str) -> None:
    coding, body, read_as = CODED[name]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    reader = AnswerReader()
    reader.begin("POST", ANSWER_LIMIT)
    reader.feed(head + body)
    assert reader.answer is not None
    assert (reader.answer.body, reader.answer.coding) == (read_as, UNREAD.get(name, ""))


def test_codings_without_end_take_no_time() -> None:
    """The loop stood still for 3 s with each answer."""
    body, levels = b"a" * 500_000, 6000
    for _ in range(levels):
        body = gzip.compress(body, 0)
    began = time.thread_time()
    assert decoded(body, ",".join(["gzip"] * levels)) == (body, "6000 codings")
    assert decoded(b"{}", "x" * 60_000) == (b"{}", "x" * 40)
    assert time.thread_time() - began < 0.1


def test_what_unfolds_to_more_than_the_limit_takes_no_more_memory() -> None:
    assert len(decoded(gzip.compress(b" " * 50_000_000), "gzip")[0]) == ANSWER_LIMIT


BROKEN: dict[str, tuple[bytes, type[Exception]]] = {
    "nothing": (b"", http.client.RemoteDisconnected),
    "a beginning": (b"HTTP/1.1 2", http.client.IncompleteRead),
    "half a body": (OK[:-1], http.client.IncompleteRead),
    "half a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", http.client.IncompleteRead),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", http.client.IncompleteRead),
    "no chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", http.client.IncompleteRead),
    "another language": (b"220 mail.example.lan ESMTP\r\n", http.client.BadStatusLine),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}", BadHeader),
    "a list of two": (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}}", BadHeader),
    "no header": (b"HTTP/1.1 200 OK\r\nwhat is this\r\n\r\n", BadHeader),
    "headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (HEADERS_LIMIT + 1) + b"\r\n", BadHeader),
    "informational only": (b"HTTP/1.1 103 Early\r\n\r\n", http.client.RemoteDisconnected),
}


@pytest.mark.parametrize("name", BROKEN)
@given(st.data())
def test_half_an_answer_or_none_is_an_error_of_the_same_kind(name: str, data: st.DataObject) -> None:
    given_, kind = BROKEN[name]
    with pytest.raises(kind) as caught:
        read(given_, data.draw(st.lists(st.integers(0, len(given_)), max_size=8)))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: %s\r\n\r\n",
        b"HTTP/1.1 200 %s\r\n\r\n",
        b"HTTP/1.1 103 %s\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;%s\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: %s\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1 << 20, 5000])
def test_no_line_is_longer_than_its_bound(head: bytes, step: int) -> None:
    """Whether it comes at once or bit by bit, and before it has ended."""
    long = head % (b"x" * (HEAD_LIMIT + 2 * PIECE))
    with pytest.raises(http.client.LineTooLong):
        read(long, list(range(0, len(long), step)))
    short = read(head % (b"x" * 50_000), list(range(0, 50_000, step)))
    assert short.answer is not None
    assert short.answer.status == 200


def test_a_body_has_no_bound_but_its_limit() -> None:
    """What is counted is what stands between two pieces of it."""
    reader = AnswerReader()
    reader.begin("POST", 1 << 20)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n")
    assert reader.answer is not None
    assert len(reader.answer.body) == 300_000
    assert reader.reusable


def test_a_body_takes_its_length_in_memory_however_small_its_pieces() -> None:
    """As a list of them it took 25 times as much: of eight connections with 8 MiB each, more than the unit may have."""
    reader = AnswerReader()
    reader.begin("POST", 1 << 20)
    head, pieces = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nxy\r\n" * 50_000
    tracemalloc.start()
    reader.feed(head)
    for _ in range(8):
        reader.feed(pieces)
    assert tracemalloc.get_traced_memory()[1] < 5 * 800_000
    tracemalloc.stop()


@pytest.mark.parametrize("more", [OK, b"HTTP/1.1 500 smuggled", b"garbage", OK[:1]])
def test_what_follows_an_answer_is_not_the_next_requests(more: bytes) -> None:
    reader = read(OK + more)
    assert reader.answer is not None
    assert (reader.answer.status, reader.reusable) == (200, False)


def test_one_reader_reads_one_answer_after_the_other() -> None:
    reader = AnswerReader()
    for n in range(3):
        reader.begin("POST", LIMIT)
        assert reader.answer is None
        reader.feed(
            b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 20%d X\r\nContent-Type: %d\r\nContent-Length: 0\r\n\r\n" % (n, n)
        )
        assert reader.answer is not None
        assert (reader.answer.status, reader.answer.content_type, reader.reusable) == (200 + n, str(n), True)


def test_the_answer_to_head_has_no_body() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", method="HEAD").answer
    assert answer is not None
    assert answer.status == 200


def test_the_first_header_of_a_name_counts_whatever_its_case() -> None:
    answer = read(
        b"HTTP/1.1 503 X\r\nRETRY-AFTER: 7\r\nretry-after: 9\r\ncontent-type: a/b\r\nContent-Length: 0\r\n\r\n"
    ).answer
    assert answer is not None
    assert (answer.retry_after, answer.content_type) == (7.0, "a/b")
