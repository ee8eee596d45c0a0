"""What can happen to a connection: while it is opened, in the moment of use, between two requests. Real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay import targets
from relay.delivery import DONE, NOT_TRIED, Delivery, Event, Verdict
from relay.targets import client, dial
from relay.targets.answer import NO_ANSWER, NoConnection
from relay.targets.answer_reader import AnswerReader
from relay.targets.client import OPENINGS, Client
from relay.targets.http_connection import HttpConnection, open_connection
from relay.targets.settings import OverHttp
from tests import receiving
from tests.links import Link
from tests.messages import Publisher

EVENT = Event(b'{"n":1}', "t", id="e-1", op="insert", key="t 1", content_type="application/json")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LARGE = Event(b"x" * (16 << 20), "t", id="e-2")


def settings(url: str, **more: object) -> OverHttp:
    given = {"RABBITMQ_URL": "amqp://127.0.0.1", "QUEUE": "q", "HTTP_URL": url, **more}
    made = targets.load(None, {key: str(value) for key, value in given.items()})
    assert isinstance(made, OverHttp)
    return made


@contextlib.contextmanager
def serving(*talks: Callable[[socket.socket], None]) -> Iterator[str]:
    """A URL; the first connection gets the first of these, and so on, the last one for ever."""
    server = socket.create_server(("127.0.0.1", 0))
    left = list(talks)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = server.accept()[0]
                talk = left.pop(0) if len(left) > 1 else left[0]
                threading.Thread(target=serve, args=(talk, client), daemon=True).start()

    def serve(talk: Callable[[socket.socket], None], client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            talk(client)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def read_request(client: socket.socket) -> bool:
    """Read one, whole. Return whether there was one."""
    with client.makefile("rb") as stream:
        if not stream.readline():
            return False
        stream.read(int(http.client.parse_headers(stream)["Content-Length"]))
        return True


def answer_all(client: socket.socket) -> None:
    while read_request(client):
        client.sendall(OK)


# ------------------------------------------------------------------------------------------------ while it is opened


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives names these addresses, in this order: what a name server says is nobody's to arrange here."""

    def put(*hosts: str) -> None:
        async def resolve(_host: str, port: int) -> list[dial.Address]:
            return [one for host in hosts for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr(dial, "resolve", resolve)

    return put


@contextlib.contextmanager
def mute(host: str, port: int) -> Iterator[None]:
    """An address that answers no attempt to connect: its queue is full."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, port), family=family, backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket(family))
            client.setblocking(False)  # noqa: FBT003
            client.connect_ex(server.getsockname()[:2])
        yield


def test_an_address_that_does_not_answer_does_not_keep_the_next_one_waiting(
    endpoint: Endpoint, addresses: Callable[..., None]
) -> None:
    addresses("127.0.0.2", "127.0.0.1")
    with mute("127.0.0.2", endpoint.port), contextlib.closing(Link(targets.make(settings(endpoint.url)))) as link:
        began = time.monotonic()
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE]
        assert dial.ATTEMPT_DELAY <= time.monotonic() - began < 4, "HTTP_CONNECT_TIMEOUT is 5"


def test_of_two_families_one_that_works_is_enough_and_none_says_why(
    endpoint: Endpoint, addresses: Callable[..., None]
) -> None:
    addresses("::1", "127.0.0.1")
    with contextlib.closing(Link(targets.make(settings(endpoint.url)))) as link:
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE]
    endpoint.stop()
    with contextlib.closing(Link(targets.make(settings(endpoint.url)))) as link:
        [outcome] = link.deliver([Delivery(EVENT, 1)])
    assert outcome.verdict is Verdict.ENDPOINT
    assert outcome.reason.startswith("no connection: ")
    assert "OSError" not in outcome.reason, "of several errors, one is said"


def test_families_take_turns() -> None:
    def found(host: str) -> dial.Address:
        return socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]

    six, four = [found(f"fd00::{n}") for n in (1, 2, 3)], [found("127.0.0.1")]
    assert dial._by_turns([*six, *four]) == [six[0], four[0], six[1], six[2]]


def test_an_address_of_ipv6(endpoint: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError:
            pytest.skip("this host has no IPv6")
        hosts: list[bytes] = []

        def serve() -> None:
            client = server.accept()[0]
            hosts.extend(line for line in client.recv(65536).split(b"\r\n") if line.startswith(b"Host"))
            client.sendall(OK)

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        link = stack.enter_context(contextlib.closing(Link(targets.make(settings(f"http://[::1]:{port}/")))))
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE]
        assert hosts == [f"Host: [::1]:{port}".encode()]


def test_a_name_server_that_is_silent_costs_the_time_limit_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the loop turns meanwhile."""
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: answer.wait(30) and [])
    monkeypatch.setattr(dial, "_literal", lambda _host, _port: ())
    client = Client(settings("http://a.mute.example/", HTTP_CONNECT_TIMEOUT="0.5"), "http://a.mute.example/")

    async def send() -> int:
        turns, sending = 0, asyncio.create_task(client.send("POST", b"", 10))
        while not sending.done():
            turns += 1
            await asyncio.sleep(0.01)
        with pytest.raises(NoConnection) as caught:
            await sending
        assert isinstance(caught.value.__cause__, TimeoutError)
        return turns

    began = time.monotonic()
    assert asyncio.run(send()) >= 5
    assert time.monotonic() - began < 5, "Python joins the executor's threads, not ours"
    answer.set()


def test_a_silent_name_server_does_not_hold_up_the_receiver(script: Callable[..., Script], vhost: Vhost) -> None:
    given: dict[str, Any] = {"HTTP_URL": "http://a.mute.example/", "HTTP_CONNECT_TIMEOUT": "60", "SHUTDOWN_GRACE": "1"}
    environment = {"PYTHONPATH": f"{ROOT / 'tests' / 'mute'}:{ROOT}"}
    with Endpoint() as endpoint:
        receiver = script("receiver.py", {**receiving.settings(vhost, endpoint), **given}, environment=environment)
        receiver.start()
        receiver.wait_for_log("consuming")
        Publisher(vhost).event("k 1")
        receiver.wait_for_log("asked for a.mute.example")
        began = time.monotonic()
        receiver.terminate()
        assert receiver.wait(20) == 0
        assert time.monotonic() - began < 10


# -------------------------------------------------------------------------------------------- in the moment of use


def test_what_the_server_closes_in_the_moment_of_use_is_not_sent_again_by_itself() -> None:
    """It may have done its work."""
    requests: list[int] = []

    def once_and_away(client: socket.socket) -> None:
        while read_request(client):
            requests.append(1)
            if len(requests) > 1:
                return
            client.sendall(OK)

    with serving(once_and_away) as url, contextlib.closing(Link(targets.make(settings(url)))) as link:
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE]
        [outcome] = link.deliver([Delivery(EVENT, 1)])
    assert outcome.verdict is Verdict.UNCLEAR
    assert outcome.reason == "the connection broke: Remote end closed connection without response"
    assert len(requests) == 2


@pytest.mark.parametrize("refused", [1, OPENINGS - 1, OPENINGS])
def test_what_is_closed_before_it_was_asked_anything_is_opened_again(
    refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Odoo's workers, which wait two seconds: on a busy machine the loop has not come to the request by then."""
    closed = threading.Semaphore(0)
    opened: list[HttpConnection] = []

    def impatient(client: socket.socket) -> None:
        client.close()
        closed.release()

    async def late(*args: Any, **options: Any) -> HttpConnection:
        opened.append(await open_connection(*args, **options))
        assert len(opened) > refused or closed.acquire(timeout=30)
        return opened[-1]

    monkeypatch.setattr(client, "open_connection", late)
    with (
        serving(*[impatient] * refused, answer_all) as url,
        contextlib.closing(Link(targets.make(settings(url)))) as link,
    ):
        [outcome] = link.deliver([Delivery(EVENT, 1)])
    assert len(opened) == min(refused + 1, OPENINGS)
    if refused < OPENINGS:
        assert outcome == DONE
    else:
        assert outcome.verdict is Verdict.ENDPOINT, "no event can be the reason"
        assert outcome.reason == "no connection: Remote end closed connection without response"


def test_bytes_that_nobody_asked_for_are_nobodys_answer() -> None:
    said = threading.Event()

    def talkative(client: socket.socket) -> None:
        read_request(client)
        client.sendall(OK)
        client.sendall(b"HTTP/1.1 500 smuggled\r\nContent-Length: 0\r\n\r\n")
        said.set()
        answer_all(client)

    with serving(talkative, answer_all) as url:
        client = Client(settings(url), url)

        async def send() -> list[int]:
            request = client.request("POST", "/", {}, b"")
            statuses = [(await client.send("POST", request, 10)).status]
            while client._connection is not None and client._connection.is_usable():
                await asyncio.sleep(0.01)
            return [*statuses, (await client.send("POST", request, 10)).status]

        assert asyncio.run(send()) == [200, 200]
        assert said.is_set()


def test_what_is_not_ours_any_more_once_the_connection_is_open_is_not_written(endpoint: Endpoint) -> None:
    """The process stood still while the connection was being made."""
    links = targets.make(settings(endpoint.url)).open(lambda: False)
    assert asyncio.run(links.deliver([Delivery(EVENT, 1)])) == [NOT_TRIED]
    wait_until(lambda: endpoint.connections == 1, 5, "the connection")
    assert endpoint.requests == []


def test_a_task_that_is_cancelled_leaves_no_answer_for_the_next_request(endpoint: Endpoint) -> None:
    endpoint.rule = lambda request: Answer(body=request.body, work=0.3 if request.body == b"1" else 0)
    client = Client(settings(endpoint.url), endpoint.url)

    async def send() -> bytes:
        first = asyncio.create_task(client.send("POST", client.request("POST", "/", {}, b"1"), 10))
        while not endpoint.requests:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await client.send("POST", client.request("POST", "/", {}, b"2"), 10)).body

    assert asyncio.run(send()) == b"2"
    assert endpoint.connections == 2


def test_a_defect_in_reading_an_answer_is_the_requests_and_not_the_loops(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_reader: AnswerReader, _data: bytes) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(AnswerReader, "feed", broken)
    client, met = Client(settings(endpoint.url), endpoint.url), list[object]()

    async def send() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: met.append(context))
        with pytest.raises(KeyError):
            await client.send("POST", client.request("POST", "/", {}, b""), 10)

    asyncio.run(send())
    assert met == []


# ------------------------------------------------------------------------------------------------------ time limits


def seconds_of(awaitable: Callable[[], Awaitable[object]]) -> tuple[float, BaseException | None]:
    async def run() -> tuple[float, BaseException | None]:
        began, problem = time.monotonic(), None
        try:
            await awaitable()
        except NO_ANSWER as error:
            problem = error
        return time.monotonic() - began, problem

    return asyncio.run(run())


def test_sending_and_answering_have_a_limit_each() -> None:
    def slow(client: socket.socket) -> None:
        time.sleep(0.8)
        read_request(client)
        time.sleep(0.8)
        client.sendall(OK)

    with serving(slow) as url, contextlib.closing(Link(targets.make(settings(url, HTTP_READ_TIMEOUT="1.2")))) as link:
        began = time.monotonic()
        assert list(link.deliver([Delivery(LARGE, 1)])) == [DONE]
        assert time.monotonic() - began > 1.2


def test_a_server_that_takes_nothing_runs_into_the_limit() -> None:
    with serving(lambda _client: time.sleep(5)) as url:
        client = Client(settings(url, HTTP_READ_TIMEOUT="0.5", HTTP_TIME_LIMIT="60"), url)
        took, problem = seconds_of(lambda: client.send("POST", client.request("POST", "/", {}, LARGE.body), 10))
        assert isinstance(problem, TimeoutError)
        assert 0.5 <= took < 4
        assert 59 < client.running() <= 60, "it may begin with what it has"


def test_one_timer_serves_all_requests_of_a_connection_and_ends_with_it(endpoint: Endpoint) -> None:
    client = Client(settings(endpoint.url), endpoint.url)
    request = client.request("POST", "/", {}, b"")

    def timers() -> int:
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        return sum(not timer.cancelled() and timer.when() - time.monotonic() > 60 for timer in scheduled)

    async def send() -> tuple[int, int]:
        for _ in range(20):
            await client.send("POST", request, 10)
        before = timers()
        client.close()
        return before, timers()

    assert asyncio.run(send()) == (1, 0)
