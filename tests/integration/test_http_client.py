"""How targets send: TLS, proxies, kept connections, and what a server can do to them. The target alone, no broker."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from dev.doubles.endpoint import Answer, Endpoint
from relay import targets
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from relay.errors import ConfigError
from relay.targets.answer import ANSWER_LIMIT
from relay.targets.client import Client, _context, tls
from relay.targets.settings import OverHttp
from tests.links import Link

EVENT = Event(b'{"n":1}', "t", id="e-1", op="insert", key="t 1", content_type="application/json")
AUTHORITY = trustme.CA()
TIMEOUT = 10.0


def settings(url: str, **more: object) -> OverHttp:
    given = {"RABBITMQ_URL": "amqp://127.0.0.1", "QUEUE": "q", "HTTP_URL": url, **more}
    made = targets.load(None, {key: str(value) for key, value in given.items()})
    assert isinstance(made, OverHttp)
    return made


def deliver(url: str, event: Event = EVENT, **more: object) -> Outcome:
    with contextlib.closing(Link(targets.make(settings(url, **more)))) as link:
        [outcome] = link.deliver([Delivery(event, 1)])
    return outcome


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


class Forwarder:
    """Takes connections and passes their bytes on: to where the first line says (a proxy), or over TLS to `to`."""

    def __init__(self, to: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.first_lines: list[str] = []
        self._to = to
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._server.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, StopIteration):
            if self._context:
                client = self._context.wrap_socket(client, server_side=True)
            data = client.recv(65536)
            port = self._to or self._port_of(data)
            with socket.create_connection(("127.0.0.1", port)) as server:
                if data.startswith(b"CONNECT"):
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    server.sendall(data)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()
            client.close()

    def _port_of(self, data: bytes) -> int:
        line = data.partition(b"\r\n")[0].decode()
        self.first_lines.append(line)
        return int(line.split()[1].removeprefix("http://").partition("/")[0].rpartition(":")[2])


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def forwarding(to: int = 0, context: ssl.SSLContext | None = None) -> Iterator[Forwarder]:
    forwarder = Forwarder(to, context)
    try:
        yield forwarder
    finally:
        forwarder.close()


def server_context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


def test_tls_with_a_private_authority(endpoint: Endpoint, ca_file: Path) -> None:
    with forwarding(endpoint.port, server_context("127.0.0.1")) as front:
        assert deliver(f"https://127.0.0.1:{front.port}/x", HTTP_CA_FILE=ca_file) == DONE
    assert endpoint.completed[0].headers["Host"] == f"127.0.0.1:{front.port}"


@pytest.fixture
def system_authorities(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Sets the file that OpenSSL takes for the system's authorities; it need not exist."""

    def put(path: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        monkeypatch.setenv("SSL_CERT_DIR", str(path.parent / "none"))
        _context.cache_clear()

    yield put
    _context.cache_clear()


def test_without_a_file_the_systems_authorities_count(
    endpoint: Endpoint, ca_file: Path, system_authorities: Callable[[Path], None]
) -> None:
    system_authorities(ca_file)
    with forwarding(endpoint.port, server_context("127.0.0.1")) as front:
        assert deliver(f"https://127.0.0.1:{front.port}/") == DONE


def test_where_the_system_has_no_authorities_mozillas_count(
    tmp_path: Path, system_authorities: Callable[[Path], None]
) -> None:
    system_authorities(tmp_path / "none.pem")
    names = {str(one["subject"]) for one in tls(settings("https://127.0.0.1/")).get_ca_certs()}
    assert any("ISRG Root X1" in name for name in names), "Let's Encrypt is not trusted"


def test_an_unknown_authority_or_another_name_is_the_endpoints_failure_and_nothing_is_sent(
    endpoint: Endpoint, ca_file: Path
) -> None:
    with forwarding(endpoint.port, server_context("127.0.0.1")) as front:
        unknown = deliver(f"https://127.0.0.1:{front.port}/")
    with forwarding(endpoint.port, server_context("odoo.example.lan")) as front:
        other = deliver(f"https://127.0.0.1:{front.port}/", HTTP_CA_FILE=ca_file)
    assert (unknown.verdict, other.verdict) == (Verdict.ENDPOINT, Verdict.ENDPOINT)
    assert unknown.reason == "no TLS connection: unable to get local issuer certificate"
    assert other.reason == ("no TLS connection: IP address mismatch, certificate is not valid for '127.0.0.1'.")
    assert not endpoint.requests


def test_a_client_certificate(endpoint: Endpoint, ca_file: Path, tmp_path: Path) -> None:
    context = server_context("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    own = AUTHORITY.issue_cert("relay@example.lan")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    given = {"HTTP_CA_FILE": ca_file, "HTTP_CERT_FILE": tmp_path / "cert.pem", "HTTP_KEY_FILE": tmp_path / "key.pem"}
    with forwarding(endpoint.port, context) as front:
        url = f"https://127.0.0.1:{front.port}/"
        without = deliver(url, HTTP_CA_FILE=ca_file)
        assert deliver(url, **given) == DONE
    # With TLS 1.3 the server refuses after the handshake, in place of an answer, or by hanging up.
    by_alert = without.reason.startswith("no TLS connection")
    assert by_alert or without.reason.startswith("the connection broke")
    assert without.verdict is (Verdict.ENDPOINT if by_alert else Verdict.UNCLEAR)
    assert len(endpoint.completed) == 1


@pytest.mark.parametrize("target", ["http", "odoo-webhook", "odoo-call"])
def test_a_file_that_is_no_certificate_is_a_configuration_error(tmp_path: Path, target: str) -> None:
    """At once, and for every target: in a worker thread it would end the thread."""
    (tmp_path / "ca.pem").write_text("nothing")
    url = "https://127.0.0.1/"
    odoo = {
        "ODOO_URL": url,
        "ODOO_WEBHOOK": f"{url}web/hook/1",
        "ODOO_MODEL": "m",
        "ODOO_METHOD": "f",
        "ODOO_API_KEY": "k",
    }
    with pytest.raises(ConfigError, match="HTTP_CA_FILE"):
        targets.make(settings(url, TARGET=target, HTTP_CA_FILE=tmp_path / "ca.pem", **odoo))


def test_a_proxy_for_http_gets_the_whole_url(endpoint: Endpoint) -> None:
    with forwarding() as proxy:
        assert deliver(f"{endpoint.url}?a=1", HTTP_PROXY_URL=f"http://127.0.0.1:{proxy.port}") == DONE
    assert proxy.first_lines == [f"POST {endpoint.url}?a=1 HTTP/1.1"]


def test_a_proxy_for_https_is_a_tunnel_and_sees_nothing(endpoint: Endpoint, ca_file: Path) -> None:
    with forwarding() as proxy, forwarding(endpoint.port, server_context("127.0.0.1")) as front:
        own = {"HTTP_PROXY_URL": f"http://127.0.0.1:{proxy.port}", "HTTP_CA_FILE": ca_file, "HTTP_TOKEN": "s3cret"}
        assert deliver(f"https://127.0.0.1:{front.port}/x", **own) == DONE
    assert proxy.first_lines == [f"CONNECT 127.0.0.1:{front.port} HTTP/1.0"]
    assert endpoint.completed[0].path == "/x"


def test_a_proxy_that_refuses_is_the_endpoints_failure(endpoint: Endpoint, ca_file: Path) -> None:
    endpoint.rule = lambda _request: Answer(403)
    outcome = deliver("https://127.0.0.1:1/", HTTP_PROXY_URL=endpoint.url.rpartition("/")[0], HTTP_CA_FILE=ca_file)
    assert outcome.verdict is Verdict.ENDPOINT
    assert outcome.reason.startswith("no connection: Tunnel connection failed")


@pytest.mark.parametrize("pair", [("..", ""), (".", "."), ("%2e", "%2E"), ("%252e%252e", ""), ("", ""), ("..", "/x")])
def test_a_key_that_climbs_is_refused_and_nothing_is_sent(endpoint: Endpoint, pair: tuple[str, str]) -> None:
    """requests would send /orders/../state, and servers resolve the others."""
    url = endpoint.url.rpartition("/")[0] + "/orders/{key[a]}{key[b]}/state"
    body = json.dumps({"key": dict(zip("ab", pair, strict=True))}).encode()
    outcome = deliver(url, Event(body, "t", id="e-1", op="delete"), HTTP_METHOD="DELETE")
    assert outcome == Outcome(Verdict.MESSAGE, "template: a piece of HTTP_URL's path would be empty, . or ..")
    assert endpoint.requests == []
    body = json.dumps({"key": {"a": "..", "b": "a"}}).encode()
    assert deliver(url, Event(body, "t", id="e-2"), HTTP_METHOD="DELETE") == DONE
    assert [request.path for request in endpoint.requests] == ["/orders/..a/state"]


def test_a_connection_is_kept_and_one_that_the_server_has_closed_is_not_used_again(endpoint: Endpoint) -> None:
    with contextlib.closing(Link(targets.make(settings(endpoint.url)))) as link:
        assert list(link.deliver([Delivery(EVENT, 1)] * 3)) == [DONE] * 3
        assert endpoint.connections == 1
        endpoint.rule = lambda _request: Answer(headers={"Connection": "close"})
        assert list(link.deliver([Delivery(EVENT, 1)] * 2)) == [DONE] * 2
        assert endpoint.connections == 2
        endpoint.rule = lambda _request: Answer()
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE]
        with await_end(link):
            endpoint.stop()
        endpoint.start()
        # The loop does not know yet that it has ended: it has not turned since.
        assert list(link.deliver([Delivery(EVENT, 1)])) == [DONE], "no failure, not even one that costs no attempt"
    assert endpoint.connections == 4


@contextlib.contextmanager
def await_end(link: Link) -> Iterator[None]:
    """Until the end of its open connection has arrived here, whatever its loop knows."""
    http = link.link._client._connection  # type: ignore[attr-defined]
    yield
    assert select.select([http._sock], [], [], TIMEOUT)[0]


def raw_server(answer: bytes, *, keep: bool) -> tuple[socket.socket, str]:
    """Gives this answer; `keep`: to each request of a connection, or hangs up after the first."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = server.accept()[0]
                with client, client.makefile("rb") as request:
                    while request.readline():
                        headers = http.client.parse_headers(request)
                        request.read(int(headers["Content-Length"]))  # all of it: else the end would be a reset
                        client.sendall(answer)
                        if not keep:
                            break

    threading.Thread(target=serve, daemon=True).start()
    return server, f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "IncompleteRead"),
        (b"220 mail.example.lan ESMTP\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "LineTooLong"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_half_an_answer_or_nonsense_is_no_success(answer: bytes, reason: str) -> None:
    server, url = raw_server(answer, keep=False)
    with server:
        outcome = deliver(url)
    assert outcome.verdict is Verdict.UNCLEAR, "one event may be what breaks it: evidence decides"
    assert outcome.reason == f"the connection broke: {reason}"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 smuggled\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_each_form_of_a_whole_answer(answer: bytes) -> None:
    server, url = raw_server(answer, keep=b"HTTP/1.0" not in answer)
    client = Client(settings(url), url)

    async def send() -> int:
        return (await client.send("POST", client.request("POST", "/", {}, b""), ANSWER_LIMIT)).status

    with server, asyncio.Runner() as runner:
        for _ in range(2 if b"HTTP/1.0" not in answer else 1):
            assert runner.run(send()) == 200
        client.close()


def test_a_server_that_refuses_a_large_body_before_it_has_read_it_refuses_the_message() -> None:
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client = server.accept()[0]
        client.recv(1000)
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):  # drained, as nginx does, so that the answer is not lost to a reset
            pass
        client.close()

    threading.Thread(target=serve, daemon=True).start()
    with server:
        large = Event(b"x" * (8 << 20), "t", id="e-1")
        outcome = deliver(f"http://127.0.0.1:{server.getsockname()[1]}/", large)
    assert (outcome.verdict, outcome.reason) == (Verdict.MESSAGE, "HTTP 413")


def test_a_header_of_the_operator_replaces_ours_whatever_its_case_and_none_can_end_its_line(endpoint: Endpoint) -> None:
    own = '{"user-agent": "erp", "X-Key": "{key[id]}"}'
    evil = Event(b'{"key":{"id":"1\\r\\nX-Evil: 1"}}', "t", id="a\r\nX-Evil: 1", key="k\nX-Evil: 1")
    assert deliver(endpoint.url, evil, HTTP_HEADERS=own) == DONE
    headers = endpoint.completed[0].headers
    assert headers["user-agent"] == "erp"
    assert headers["X-Key"] == "1  X-Evil: 1"
    assert "X-Evil" not in headers
    client = Client(settings(endpoint.url), endpoint.url)
    for name, value in (("X", "a\r\nY: 1"), ("X\nY", "1"), ("X", "\u20ac")):
        with pytest.raises(ValueError, match=r"control character|latin-1"):
            client.request("POST", "/", {name: value}, b"")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("HTTP_TOKEN", "a\u20ac", "header"),
        ("ODOO_API_KEY", "a\nb", "header"),
        ("HTTP_HEADERS", '{"X": "a\\nb"}', "header"),
        ("HTTP_PROXY_URL", "https://127.0.0.1:1", "proxy"),
        ("HTTP_URL", "http://{topic}.example.lan/", "template"),
    ],
)
def test_what_no_request_can_be_made_of_is_a_configuration_error(key: str, value: str, what: str) -> None:
    target = {"url": "http://127.0.0.1/", "TARGET": "odoo-call" if key.startswith("ODOO_") else "http"}
    with pytest.raises(ConfigError, match=what) as caught:
        settings(**target | ({key: value} if key != "HTTP_URL" else {"url": value}))
    assert "a\u20ac" not in str(caught.value)


def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    secret = endpoint.url.replace("//", "//user:s3cret@") + "?token=s3cret#s3cret"
    endpoint.rule = lambda _request: Answer(302, headers={"Location": secret})
    outcome = deliver(endpoint.url)
    assert outcome.reason == f"HTTP 302, a redirect to {endpoint.url}, which is not followed: {{}}"
    assert len(endpoint.requests) == 1
    endpoint.rule = lambda _request: Answer(303, headers={"Location": "/web/login?redirect=%2F"})
    assert "a redirect to /web/login, which" in deliver(endpoint.url).reason
    endpoint.rule = lambda _request: Answer(308, headers={"Location": "//[half"})
    assert deliver(endpoint.url).reason.startswith("HTTP 308: ")


def test_http_client_sends_what_we_pack() -> None:
    """Our request's head against the one that http.client writes itself."""
    sent = bytearray()

    class Recorder(http.client.HTTPConnection):
        def send(self, data: object) -> None:
            assert isinstance(data, bytes)
            sent.extend(data)

    body, url = b"{}", "http://127.0.0.1:8069/"
    headers = {"User-Agent": "relay", "Content-Length": "2", "X-A": "b c"}
    Recorder("127.0.0.1", 8069).request("PUT", "/a?b=c", body, headers)
    ours = Client(settings(url), url).request("PUT", "/a?b=c", {"X-A": "b c"}, body)
    theirs = bytes(sent)
    assert sorted(ours.split(b"\r\n")) == sorted(theirs.split(b"\r\n"))
    assert ours.split(b"\r\n\r\n")[1] == theirs.split(b"\r\n\r\n")[1] == body
