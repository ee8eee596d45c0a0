"""What servers and proxies answer to TARGET=http, byte by byte: over real sockets, many of them generated."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.doubles.endpoint import Endpoint
from relay import targets
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from relay.targets.answer import Answer
from relay.targets.odoo.failures import fault_of, refusal
from relay.targets.template import coding
from tests.links import Link

EVENT = Event(b'{"n":1}', "t", id="e-1", op="insert", key="t 1", content_type="application/json")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Talk = Callable[[socket.socket], None]


def open_link(port: int, **more: object) -> Link:
    given = {"RABBITMQ_URL": "amqp://127.0.0.1", "QUEUE": "q", "HTTP_URL": f"http://127.0.0.1:{port}/", **more}
    return Link(targets.make(targets.load(None, {key: str(value) for key, value in given.items()})))


def deliver(port: int, event: Event = EVENT, **more: object) -> Outcome:
    with contextlib.closing(open_link(port, **more)) as link:
        [outcome] = link.deliver([Delivery(event, 1)])
    return outcome


@contextlib.contextmanager
def serving(talk: Talk, *, reads: bool = True) -> Iterator[int]:
    """A port where each request is answered by `talk`; `reads`: the whole request first, or else only its beginning."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if not reads:
                client.recv(100)
                talk(client)
                return
            with client.makefile("rb") as request:
                while request.readline():
                    request.read(int(http.client.parse_headers(request)["Content-Length"]))
                    talk(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """Each request gets the next of these; the last one for ever."""
    left = list(answers)
    with serving(lambda client: client.sendall(left.pop(0) if len(left) > 1 else left[0])) as port:
        yield port


def answer(body: bytes, status: int = 200, *lines: bytes) -> bytes:
    head = [b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([*head, b"", b""]) + body


# ------------------------------------------------------------------------------------- informational answers (1xx)

informational = st.tuples(
    st.integers(100, 199).filter(lambda status: status != 101),
    st.lists(st.sampled_from([b"Link: </a.css>; rel=preload", b"X: y", b"Content-Length: 5", b"Connection: close"])),
).map(lambda made: b"\r\n".join([b"HTTP/1.1 %d Wait" % made[0], *made[1], b"", b""]))


@settings(max_examples=60, deadline=None)
@given(st.lists(informational, max_size=6), st.sampled_from([200, 422, 500, 503]))
def test_the_final_answer_counts_whatever_comes_before_it(before: list[bytes], status: int) -> None:
    final = answer(b"{}", status)
    with answering(b"".join(before) + final) as port, contextlib.closing(open_link(port)) as link:
        for _ in range(2):  # and the connection can be used again
            [outcome] = link.deliver([Delivery(EVENT, 1)])
            assert outcome.verdict is {200: Verdict.DONE, 422: Verdict.MESSAGE, 503: Verdict.ENDPOINT}.get(
                status, Verdict.UNCLEAR
            )


def test_a_switch_of_protocols_that_nobody_asked_for_is_final_and_no_success() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
    with answering(switch, OK) as port, contextlib.closing(open_link(port)) as link:
        [outcome] = link.deliver([Delivery(EVENT, 1)])
        assert (outcome.verdict, outcome.reason) == (Verdict.UNCLEAR, "HTTP 101")
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE], "over a new connection"


# --------------------------------------------------------------------------------------- heads too long, or too slow


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101,
        b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n",
        b"HTTP/1.1 103 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"x" * 140_000,
    ],
)
def test_a_head_beyond_all_bounds_is_judged_by_evidence(head: bytes) -> None:
    with answering(head + b"Content-Length: 0\r\n\r\n") as port:
        assert deliver(port).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize(
    "slow",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200,
    ],
    ids=["header", "informational", "body", "chunks"],
)
def test_the_whole_answer_has_one_time_limit(slow: bytes) -> None:
    def trickle(client: socket.socket) -> None:
        for at in range(len(slow)):
            client.sendall(slow[at : at + 1])
            time.sleep(0.02)

    with serving(trickle) as port:
        began = time.monotonic()
        outcome = deliver(port, HTTP_READ_TIMEOUT="0.5", HTTP_TIME_LIMIT=60)
    assert time.monotonic() - began < 5
    assert (outcome.verdict, outcome.reason) == (Verdict.UNCLEAR, "no answer in time")
    assert 55 < outcome.running < 60


def test_a_proxy_has_one_time_limit_for_its_tunnel() -> None:
    def trickle(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            client.sendall(b"x")
            time.sleep(0.02)

    with serving(trickle, reads=False) as port:
        began = time.monotonic()
        more = {"HTTP_PROXY_URL": f"http://127.0.0.1:{port}", "HTTP_CONNECT_TIMEOUT": "0.5"}
        outcome = deliver(1, HTTP_URL="https://127.0.0.1:1/", **more)
    assert time.monotonic() - began < 5
    assert (outcome.verdict, outcome.reason) == (Verdict.ENDPOINT, "no connection: timed out")


# ------------------------------------------------------------------------ connections that break, proxies that say so


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.shutdown(socket.SHUT_RD)
    client.close()


@pytest.mark.parametrize("how", [reset, lambda client: client.shutdown(socket.SHUT_RDWR)], ids=["reset", "closed"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", OK[:-1]])
def test_a_connection_that_breaks_is_judged_by_evidence(sent: bytes, how: Talk) -> None:
    def talk(client: socket.socket) -> None:
        client.sendall(sent)
        how(client)

    with serving(talk) as port:
        outcome = deliver(port)
    assert outcome.verdict is Verdict.UNCLEAR
    assert outcome.reason.startswith("the connection broke")


SURE = dict.fromkeys((400, 413, 414, 415, 422), Verdict.MESSAGE)
SURE |= dict.fromkeys((401, 407, 429, 503), Verdict.ENDPOINT)


@pytest.mark.parametrize("status", SURE)
def test_a_sure_sign_needs_no_evidence(status: int) -> None:
    with answering(answer(b"", status, b"Connection: close")) as port:
        assert deliver(port).verdict is SURE[status]


@settings(max_examples=80, deadline=None)
@given(st.integers(201, 599))
def test_only_few_statuses_are_a_sure_sign(status: int) -> None:
    with answering(answer(b"", status, b"Connection: close")) as port:
        assert deliver(port).verdict is SURE.get(status, Verdict.UNCLEAR)


@pytest.mark.parametrize("status", [502, 504, 524])
def test_a_proxy_that_gave_up_waiting_leaves_the_server_at_work(status: int) -> None:
    with answering(answer(b"", status)) as port:
        running = deliver(port, HTTP_TIME_LIMIT=60).running
    assert running == 0 if status == 502 else 55 < running <= 60


@pytest.mark.parametrize("status", [413, 401, 400])
@pytest.mark.parametrize("read", [0, 1000, 1 << 20])
@pytest.mark.parametrize("tail", [b"Content-Length: 0\r\n\r\n", b"Content-Length: 9\r\n\r\ntoo", b"\r\ntoo large"])
def test_an_answer_before_the_body_was_read_is_read(status: int, read: int, tail: bytes) -> None:
    """The server closes with unread data: its answer is followed by a reset."""

    def talk(client: socket.socket) -> None:
        left = read
        while left > 0:
            left -= len(client.recv(min(left, 65536)))
        client.sendall(b"HTTP/1.1 %d X\r\nConnection: close\r\n" % status + tail)

    large = Event(b"x" * (8 << 20), "t", id="e-1")
    with serving(talk, reads=False) as port:
        outcome = deliver(port, large)
    assert outcome.verdict is SURE[status]
    assert outcome.reason.startswith(f"HTTP {status}")


def test_the_same_over_tls(tmp_path: Any) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with context.wrap_socket(server.accept()[0], server_side=True) as client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    large = Event(b"x" * (8 << 20), "t", id="e-1")
    with server:
        port = server.getsockname()[1]
        more = {"HTTP_URL": f"https://127.0.0.1:{port}/", "HTTP_CA_FILE": tmp_path / "ca.pem"}
        outcomes = [deliver(port, large, **more) for _ in range(5)]
    # OpenSSL finds no answer behind the reset one time of ten: then evidence decides.
    assert {outcome.verdict for outcome in outcomes} <= {Verdict.MESSAGE, Verdict.UNCLEAR}
    assert "HTTP 413" in {outcome.reason for outcome in outcomes}


# ------------------------------------------------------------------------------------ bodies that come compressed

CHARSETS = ["utf-8", "UTF-8", "utf8", "us-ascii", "latin-1", "iso-8859-15", "identity", "binary", "", "8bit"]


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br", "aes128gcm"])
def test_the_encoding_of_a_body_is_passed_on(endpoint: Endpoint, name: str) -> None:
    body = gzip.compress(EVENT.body)
    event = Event(body, "t", id="e-1", content_type="application/json", content_encoding=name)
    assert deliver(endpoint.port, event) == DONE
    [request] = endpoint.completed
    assert (request.headers["Content-Encoding"], request.body) == (name, body)
    outcome = deliver(endpoint.port, event, HTTP_BODY="{event}")
    assert (outcome.verdict, outcome.reason) == (
        Verdict.MESSAGE,
        f"template: the event is not JSON, but encoded: {name}",
    )


@pytest.mark.parametrize("name", CHARSETS)
def test_a_charset_is_no_encoding(endpoint: Endpoint, name: str) -> None:
    assert deliver(endpoint.port, Event(b"{}", "t", content_encoding=name)) == DONE
    assert "Content-Encoding" not in endpoint.completed[0].headers


@given(st.text())
def test_whatever_another_publisher_writes_there_ends_no_line(name: str) -> None:
    assert coding(Event(b"", "t", content_encoding=name)).isprintable()


# ------------------------------------------------------------------------------------- a success that is none

pages = st.builds(
    lambda bom, before, start, rest: bom.encode("utf-8") + before + start + rest,
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.sampled_from([b" ", b"\r\n", b"\t", b"<!-- a > b -->", b'<?xml version="1.0"?>']), max_size=5).map(
        b"".join
    ),
    st.sampled_from([b"<!DOCTYPE html>", b"<!doctype HTML PUBLIC>", b"<!DOCTYPE  html>", b"<html>", b"<HTML lang=en>"]),
    st.sampled_from([b"", b"<title>Log in</title>", b"\xff"]),
)
TYPES = [b"text/html", b"application/json", b"text/plain"]


@settings(max_examples=60, deadline=None)
@given(pages, st.sampled_from(TYPES), st.sampled_from([200, 201, 203]))
def test_a_web_page_is_the_endpoints_failure_and_the_log_says_what_allows_it(
    page: bytes, kind: bytes, status: int
) -> None:
    with answering(answer(page, status, b"Content-Type: " + kind)) as port:
        outcome = deliver(port, SUCCESS_STATUS="200 201 203")
        assert outcome.verdict is Verdict.ENDPOINT
        assert "SUCCESS_BODY" in outcome.reason
        assert deliver(port, SUCCESS_STATUS="200 201 203", SUCCESS_BODY="<") == DONE
        assert deliver(port, SUCCESS_STATUS="200 201 203", SUCCESS_BODY="!nothing").verdict is Verdict.ENDPOINT
        assert deliver(port, SUCCESS_STATUS="200 201 203", SUCCESS_BODY="nothing").verdict is Verdict.ENDPOINT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_web_page_in_utf_16(encoding: str) -> None:
    with answering(answer("\ufeff<!doctype html>".encode(encoding))) as port:
        assert deliver(port).verdict is Verdict.ENDPOINT


@pytest.mark.parametrize("name", [b"br", b"zstd", b"compress", b"gzip, br", b"x"])
def test_a_success_in_a_coding_that_nobody_can_read_is_none(name: bytes) -> None:
    """Nobody has asked for it, and it may be a login."""
    with answering(answer(b"\x8b\x05\x80packed", 200, b"Content-Encoding: " + name)) as port:
        outcome = deliver(port)
        assert outcome.verdict is Verdict.ENDPOINT
        assert name.decode().rpartition(" ")[2] in outcome.reason
        assert "without Content-Encoding" in outcome.reason
    with answering(answer(b"", 200, b"Content-Encoding: " + name)) as port:
        assert deliver(port) == DONE


def test_an_error_of_json_rpc_in_utf_16_is_one() -> None:
    with answering(answer(json.dumps(fault("x")).encode("utf-16"))) as port:
        assert deliver(port) != DONE


@pytest.mark.parametrize(
    "body",
    [b"", b"ok", b"{}", b"null", b"OK <html>", b"<ok/>", b"<p>ok</p>", b'{"error":null}', b'{"error":"a"}', b"\xff"],
)
def test_other_bodies_of_any_type_are_a_success(body: bytes) -> None:
    for kind in TYPES:
        with answering(answer(body, 200, b"Content-Type: " + kind)) as port:
            assert deliver(port) == DONE


def test_the_body_of_a_status_that_the_operator_has_named_does_not_matter() -> None:
    event = Event(b'{"n":1}', "t", op="delete")
    with answering(answer(b"<html>not found", 404)) as port:
        assert deliver(port, event, SUCCESS_STATUS="200 delete:404", SUCCESS_BODY="ok") == DONE


def fault(name: str, message: str = "no") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": 200, "data": {"name": name, "message": message}}}


NAMES = [
    "odoo.exceptions.ValidationError",
    "odoo.exceptions.AccessDenied",
    "odoo.http.SessionExpiredException",
    "psycopg2.OperationalError",
    "psycopg2.errors.SerializationFailure",
    "builtins.KeyError",
    "werkzeug.exceptions.NotFound",
    "a.module.Error",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_json_rpc_is_judged_as_the_odoo_targets_judge_it(name: str) -> None:
    body = fault(name)
    with answering(answer(json.dumps(body).encode())) as port:
        outcome = deliver(port)
    found = fault_of(body)
    assert found is not None
    assert outcome == refusal(Answer(200, "", b"", 0.0), found).outcome
    assert outcome.verdict is not Verdict.DONE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"jsonrpc": "2.0", "error": {"code": -32601, "message": "no\x1b such"}}, "JSON-RPC error: no\\u001b such"),
        ({"jsonrpc": "2.0", "error": "broken", "id": 1}, "JSON-RPC error: broken"),
        ({"result": None, "error": {"message": "old"}, "id": 1}, "JSON-RPC error: old"),
        (
            [{"jsonrpc": "2.0", "result": 1}, {"jsonrpc": "2.0", "error": {"message": "second"}}],
            "JSON-RPC error: second",
        ),
    ],
)
def test_another_servers_error_of_json_rpc_is_judged_by_evidence(body: Any, reason: str) -> None:
    with answering(answer(json.dumps(body).encode())) as port:
        outcome = deliver(port)
    assert (outcome.verdict, outcome.reason) == (Verdict.UNCLEAR, reason)


@pytest.mark.parametrize("filler", [2 << 20, 100_000])
def test_an_error_of_json_rpc_is_found_however_long_its_traceback_is(filler: int) -> None:
    body = json.dumps(fault("odoo.exceptions.UserError") | {"debug": "x" * filler}).encode()
    with answering(answer(body)) as port:
        assert deliver(port).verdict is (Verdict.MESSAGE if filler < 1 << 20 else Verdict.UNCLEAR)


@pytest.mark.parametrize(
    "body", [{"jsonrpc": "2.0", "result": "error"}, {"jsonrpc": "2.0", "error": None, "result": 1}]
)
def test_a_result_of_json_rpc_is_a_success(body: Any) -> None:
    with answering(answer(json.dumps(body).encode())) as port:
        assert deliver(port) == DONE


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        ("ok", [b"ok", b"so ok."], [b"", b"OK", b"o", b"failed"]),
        ("!error", [b"", b"fine"], [b"an error", b'{"error":1}']),
        ('"ok":true', [b'{"ok": true}', b'{\n "ok" :true}'], [b'{"ok":false}']),
        ('"ok": true & !"warning"', [b'{"ok":true}'], [b'{"ok":true,"warning":1}', b'{"warning":1}']),
        ("a & b & !c & !d", [b"ba"], [b"a", b"b", b"abc", b"abd"]),
        ("\u00fc", ["\u00fcber".encode()], [b"\xfc"]),
    ],
)
def test_success_body_says_what_the_answer_contains_and_what_not(
    asked: str, good: list[bytes], bad: list[bytes]
) -> None:
    for body in good + bad:
        with answering(answer(body)) as port:
            outcome = deliver(port, SUCCESS_BODY=asked)
        assert (outcome == DONE) == (body in good), body
        assert outcome == DONE or (outcome.verdict is Verdict.UNCLEAR and "SUCCESS_BODY" in outcome.reason)
