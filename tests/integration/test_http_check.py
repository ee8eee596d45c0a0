"""`receiver.py check` for TARGET=http: what an endpoint answers, and what that is called. No event, no broker."""

from __future__ import annotations

import datetime
import email.utils
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import free_port
from relay import findings, targets
from relay.findings import Finding, Level
from relay.targets import http_check
from tests.integration.test_http_client import AUTHORITY, forwarding, server_context, settings

PAGE = b"<!DOCTYPE html><html>Not Found</html>"


def check(url: str, **more: object) -> list[Finding]:
    return list(findings.each(targets.make(settings(url, **more)).check()))


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


# What HTTP_URL answers to OPTIONS; or HTTP_CHECK_URL to GET.
ANSWERS = [
    (200, b"", "OK", "OK"),
    (204, b"", "OK", "OK"),
    (400, b"", "OK", "FAILED"),
    (401, b"", "FAILED", "FAILED"),
    (403, b"", "WARNING", "FAILED"),
    (404, PAGE, "WARNING", "FAILED"),
    (405, b"", "OK", "FAILED"),
    (301, b"", "WARNING", "FAILED"),
    (200, PAGE, "WARNING", "OK"),
    (501, PAGE, "OK", "outage"),
    (500, b"", "WARNING", "outage"),
    (429, b"", "outage", "outage"),
    (503, PAGE, "outage", "outage"),
]


@pytest.mark.parametrize(("status", "body", "to_options", "to_get"), ANSWERS)
def test_the_status_is_told_with_its_level(
    endpoint: Endpoint, status: int, body: bytes, to_options: str, to_get: str
) -> None:
    answer = Answer(status, body)
    endpoint.options, endpoint.rule = answer, lambda request: answer if request.path == "/health" else OK
    health = endpoint.url.replace("/events", "/health")
    for method, level, found in (
        ("OPTIONS", to_options, check(endpoint.url)),
        ("GET", to_get, check(endpoint.url, HTTP_CHECK_URL=health)),
    ):
        (one,) = found
        assert one.name == f"endpoint 127.0.0.1:{endpoint.port}"
        assert one.detail.startswith(f"HTTP {status} to {method}")
        assert ("with a web page" in one.detail) is (body == PAGE)
        assert ("outage" if one.outage else one.level.name) == level
        assert bool(one.remedy) is (level != "OK")


def test_where_a_redirect_leads_to_is_told(endpoint: Endpoint) -> None:
    endpoint.options = Answer(302, headers={"Location": "https://sso.lan/login?token=s3cret"})
    (one,) = check(endpoint.url)
    assert one.detail == "HTTP 302 to OPTIONS, a redirect to https://sso.lan/login"
    assert one.remedy.startswith("write where it leads to into HTTP_URL: redirects are not followed (if ")


def test_credentials_go_to_the_host_of_http_url_and_to_no_other(endpoint: Endpoint) -> None:
    own = {"HTTP_TOKEN": "s3cret", "HTTP_HEADERS": '{"X-Api-Key": "k3y", "X-Title": "{table}"}'}
    health = endpoint.url.replace("/events", "/health?a=1")
    check(endpoint.url, HTTP_CHECK_URL=health, **own)
    with Endpoint() as other:
        check(other.url, HTTP_CHECK_URL=health, **own)
    mine, others = endpoint.requests
    assert (mine.method, mine.path, mine.body) == ("GET", "/health?a=1", b"")
    assert (mine.headers["Authorization"], mine.headers["X-Api-Key"]) == ("Bearer s3cret", "k3y")
    assert "X-Title" not in mine.headers
    assert not {"Authorization", "X-Api-Key"} & others.headers.keys()


def test_of_a_url_with_fields_what_comes_before_them_is_asked(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()
    ask = http_check.ask
    monkeypatch.setattr(
        http_check, "ask", lambda config, url, question: asked.append(question.path) or ask(config, url, question)
    )
    check(f"{endpoint.url}/x{{key[id]}}/y?a=1")
    check(f"{endpoint.url}?id={{id}}")
    check(f"http://127.0.0.1:{endpoint.port}?id={{id}}")
    check(f"{endpoint.url}?a=1")
    assert asked == ["/events/", "/", "/", "/events?a=1"]


def test_the_clock_of_the_endpoint_is_compared(endpoint: Endpoint) -> None:
    def found(ahead: float) -> Finding:
        endpoint.options = Answer(headers={"Date": email.utils.formatdate(time.time() + ahead, usegmt=True)})
        return check(endpoint.url)[1]

    assert found(0) == Finding(f"clock of 127.0.0.1:{endpoint.port}", detail="as this host's")
    assert found(600).level is found(-600).level is Level.WARNING
    assert " s ahead of this host's" in found(600).detail
    assert " s behind this host's" in found(-600).detail


def test_an_endpoint_that_is_away_or_hangs_is_an_outage(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_check, "PATIENCE", 0.2)
    endpoint.options = Answer(hang=1)
    for url, said in (
        (endpoint.url, "no answer in time"),
        (f"http://127.0.0.1:{free_port()}/", "no connection: Connection refused"),
        ("http://nobody.invalid/", "no connection: "),
    ):
        (one,) = check(url)
        assert one.outage
        assert one.detail.startswith(said)
        assert "HTTP_URL" in one.remedy


@pytest.fixture
def secure(endpoint: Endpoint) -> Iterator[Callable[[ssl.SSLContext], str]]:
    """Puts TLS before the endpoint; returns its URL."""
    opened = []

    def put(context: ssl.SSLContext) -> str:
        opened.append(forwarding(endpoint.port, context))
        return f"https://127.0.0.1:{opened[-1].__enter__().port}/"

    yield put
    for one in opened:
        one.__exit__(None, None, None)


def test_what_is_wrong_with_tls_is_no_outage_and_told_with_its_remedy(
    endpoint: Endpoint, secure: Callable[[ssl.SSLContext], str], ca_file: Path
) -> None:
    expired = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(
        "127.0.0.1", not_after=email.utils.parsedate_to_datetime("Wed, 01 Jan 2020 00:00:00 GMT")
    ).configure_cert(expired)
    strange = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(strange)
    asking = server_context("127.0.0.1")
    asking.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(asking)
    asking.maximum_version = ssl.TLSVersion.TLSv1_2  # which refuses us in the handshake itself
    for url, said, remedy in (
        (secure(expired), "certificate has expired", "renew its certificate"),
        (secure(strange), "unable to get local issuer certificate", "HTTP_CA_FILE names the authority"),
        (secure(server_context("odoo.example.lan")), "IP address mismatch", "its name must be the host of HTTP_URL"),
        (secure(asking), "alert", "HTTP_CERT_FILE"),
        (endpoint.url.replace("http:", "https:"), "", "it speaks no TLS at this port"),
    ):
        (one,) = check(url, HTTP_CA_FILE=ca_file)
        assert (one.level, one.outage) == (Level.FAILED, False)
        assert one.detail.startswith("no TLS connection: ")
        assert said in one.detail
        assert remedy in one.remedy
    (one, *_) = check(secure(server_context("127.0.0.1")), HTTP_CA_FILE=ca_file)
    assert one.level is Level.OK


def test_a_certificate_that_runs_out_soon_is_told(secure: Callable[[ssl.SSLContext], str], ca_file: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for begun, left, level in ((90, 6, Level.WARNING), (90, 20, Level.OK), (2, 4, Level.OK), (5, 1, Level.WARNING)):
        ends = now + datetime.timedelta(days=left, hours=1)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        begins = now - datetime.timedelta(days=begun)
        AUTHORITY.issue_cert("127.0.0.1", not_before=begins, not_after=ends).configure_cert(server)
        (one,) = (found for found in check(secure(server), HTTP_CA_FILE=ca_file) if "certificate" in found.name)
        assert one.level is level, (begun, left)
        assert ends.date().isoformat() in one.detail
        assert one.remedy == ("renew it" if level is Level.WARNING else "")


def test_a_port_of_tls_that_is_spoken_to_without_is_told(secure: Callable[[ssl.SSLContext], str]) -> None:
    (one,) = check(secure(server_context("127.0.0.1")).replace("https:", "http:"))
    assert one.level is Level.FAILED
    assert "speak HTTP at this port" in one.remedy


def test_what_is_no_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with server.accept()[0] as client:
                client.recv(65536)
                client.sendall(b"220 mail.example.lan ESMTP\r\n")

        threading.Thread(target=talk, daemon=True).start()
        (one,) = check(f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert one.outage
    assert "the connection broke: " in one.detail
