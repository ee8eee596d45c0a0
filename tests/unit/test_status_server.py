"""STATUS_ADDR's server: who gets an answer, and that nobody can do more than ask. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric

from relay.findings import Level
from relay.log import Log
from relay.status import server as module
from relay.status.board import Board
from relay.status.history import Flow
from relay.status.report import Fact, Report
from relay.status.server import Answer, Server

ROUTES = {"/": lambda: Answer("<p>ok</p>", "text/html; charset=utf-8"), "/healthz": lambda: Answer("ok\n")}


@contextlib.asynccontextmanager
async def serving(token: str = "", host: str = "127.0.0.1") -> AsyncIterator[int]:
    server = Server(host, 0, token, ROUTES, Log("test"))
    server.start()
    while not server.port:
        await asyncio.sleep(0.001)
    try:
        yield server.port
    finally:
        await server.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def get(path: str, host: str = "127.0.0.1", **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_a_path_is_answered_once_and_the_connection_closed() -> None:
    async def go() -> None:
        async with serving() as port:
            answer = await ask(port, get("/?x=1"))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert (status(answer), body) == (200, b"<p>ok</p>")
            assert b"Cache-Control: no-store" in head
            assert b"Connection: close" in head
            head_only = await ask(port, get("/").replace(b"GET", b"HEAD"))
            assert head_only.endswith(b"\r\n\r\n")
            assert b"Content-Length: 9" in head_only
            assert status(await ask(port, get("/no"))) == HTTPStatus.NOT_FOUND
            assert status(await ask(port, get("/").replace(b"GET", b"DELETE"))) == HTTPStatus.METHOD_NOT_ALLOWED

    asyncio.run(go())


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:9464", "localhost.evil"])
def test_a_foreign_host_header_is_refused(host: str) -> None:
    """A page of elsewhere, whose name was made to lead to this address, sends its own name."""

    async def go() -> None:
        async with serving() as port:
            assert status(await ask(port, get("/", host))) == HTTPStatus.MISDIRECTED_REQUEST

    asyncio.run(go())


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "[::1]", "10.0.0.7"])
def test_ones_own_names_and_addresses_are_taken(host: str) -> None:
    async def go() -> None:
        async with serving() as port:
            assert status(await ask(port, get("/", host))) == HTTPStatus.OK
            assert status(await ask(port, get("/", socket.gethostname()))) == HTTPStatus.OK

    asyncio.run(go())


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("Bearer s3cret", 200), ("bearer s3cret", 200), (basic("anyone:s3cret"), 200), (basic(":s3cret"), 200),
     ("", 401), ("Bearer s3cre", 401), ("Bearer s3cret2", 401), (basic("s3cret:"), 401), ("Basic ###", 401),
     ("s3cret", 401), ("Digest s3cret", 401)],
)  # fmt: skip
def test_with_a_token_only_who_brings_it_is_answered(given: str, wanted: int) -> None:
    async def go() -> None:
        async with serving("s3cret") as port:
            for path in ("/", "/healthz", "/no"):
                answer = await ask(port, get(path, **({"Authorization": given} if given else {})))
                assert status(answer) == (wanted if path != "/no" or wanted == HTTPStatus.UNAUTHORIZED else 404)
                assert b"s3cret" not in answer
                if wanted == HTTPStatus.UNAUTHORIZED:
                    assert b"WWW-Authenticate: Basic" in answer

    asyncio.run(go())


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"G" * 20_000, b"\r\n" * 9000],
)  # fmt: skip
def test_nonsense_is_refused_and_ends_nothing(request_: bytes) -> None:
    async def go() -> None:
        async with serving() as port:
            assert status(await ask(port, request_)) in (0, HTTPStatus.BAD_REQUEST)
            assert status(await ask(port, get("/"))) == HTTPStatus.OK

    asyncio.run(go())


def test_who_says_nothing_is_sent_away_and_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened so many again and again had /healthz answer nobody, and the daemon taken for dead."""
    monkeypatch.setattr(module, "SECONDS", 0.5)
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 3)

    async def go() -> None:
        async with serving() as port:
            for _ in range(3):
                idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
                assert status(await ask(port, get("/"))) == HTTPStatus.OK
            for reader, writer in idle:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()

    asyncio.run(go())


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []

    def make() -> Answer:
        made.append(1)
        return Answer("ok")

    monkeypatch.setitem(ROUTES, "/", make)
    return made


def test_many_requests_in_one_piece_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was computed, on the daemon's loop: 440 pages in 16 kB, that is seconds in which it did nothing else."""
    made = counted(monkeypatch)
    monkeypatch.setattr(module, "SHARE", 1e9)

    async def go() -> None:
        async with serving() as port:
            assert (await ask(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 400)).count(b"HTTP/1.1 ") <= 1

    asyncio.run(go())
    assert len(made) == 1


def test_who_asks_again_and_again_costs_no_more_than_who_asks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    monkeypatch.setattr(module, "SHARE", 1e-9)

    async def go() -> None:
        async with serving() as port:
            for _ in range(20):
                assert status(await ask(port, get("/"))) == HTTPStatus.OK

    asyncio.run(go())
    assert len(made) == 1
    monkeypatch.setattr(module, "SHARE", 1e9)
    asyncio.run(go())
    assert len(made) == 21, "what took no time is made anew"


@given(st.text())
def test_what_is_foreign_has_no_power_over_a_terminal_that_asks_for_healthz(text: str) -> None:
    class Shown:
        def report(self) -> Report:
            return Report("t", "s", [Fact("f", text, Level.FAILED)])

        def flow(self) -> Flow:
            return Flow(0, 0, 0, 0)

        def metrics(self) -> list[Metric]:
            return []

    answer = Board(Shown(), "127.0.0.1", 0, "", Log("test"))._health()
    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.body.removesuffix("\n").isprintable()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "can't be used" in record.getMessage()]


def test_an_address_that_is_taken_is_a_line_and_is_taken_over_when_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = Server("127.0.0.1", port, "", ROUTES, Log("test"))
            server.start()
            while not said(caplog):
                await asyncio.sleep(0.01)
            assert not server.port
        while not server.port:
            await asyncio.sleep(0.01)
        assert status(await ask(port, get("/"))) == HTTPStatus.OK
        await server.close()

    asyncio.run(go())
    assert len(said(caplog)) == 1
    assert "Address already in use" in said(caplog)[0]
