"""TARGET=http: the recipes of docs/delivery.md, each against an endpoint that checks what it gets as the documentation
of the real one says; credentials, signature, headers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from standardwebhooks.webhooks import Webhook

from dev.doubles.endpoint import Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import settings

Make = Callable[..., Script]
AIRPORT = {"id": 7, "name": 'Zürich "Kloten"\n', "lat": 47.46470000000000000001}


def recipe(title: str) -> dict[str, str]:
    """The settings that docs/delivery.md shows below this heading."""
    text = (ROOT / "docs" / "delivery.md").read_text()
    block = text.split(f"### {title}\n", 1)[1].split("```ini\n", 1)[1].split("```", 1)[0]
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def deliver(
    vhost: Vhost, script: Make, endpoint: Endpoint, more: dict[str, str], *ops: str, path: str = ""
) -> list[Request]:
    """Deliver one event of each op with these settings; HTTP_URL's host is the endpoint's."""
    if "HTTP_URL" in more:
        path = "/" + more["HTTP_URL"].split("://", 1)[1].partition("/")[2]
        more = more | {"HTTP_URL": endpoint.url.rpartition("/")[0] + path}
    receiver = script("receiver.py", {**settings(vhost, endpoint), **more})
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for op in ops:
        row: dict[str, Any] = {
            "table": "public.airports",
            "key": {"id": 7},
            "new": None if op == "delete" else AIRPORT,
            "old": AIRPORT,
        }
        publisher.event('public.airports {"id":7}', table="public.airports", op=op, body=row)
    wait_until(lambda: vhost.queue_depth("odoo") == 0 and len(endpoint.completed) >= len(ops), 10, "the events")
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == 0, "every answer was a success"
    return endpoint.requests


def test_recipe_odoo_controller(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """A type='http' controller reads the body itself, and the token from the header."""
    [request] = deliver(vhost, script, endpoint, recipe("An Odoo controller"), "insert")
    assert (request.method, request.path) == ("POST", "/relay/event")
    assert request.headers["Authorization"] == "Bearer change-me"
    assert request.headers["Content-Type"] == "application/json"
    assert request.json["new"]["name"] == AIRPORT["name"]
    assert request.headers["Relay-Event"] == request.json["id"]
    assert request.headers["Relay-Key"] == 'public.airports {"id":7}'
    assert request.headers["Relay-Attempt"] == "1"


def test_recipe_ntfy(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """docs.ntfy.sh/publish: JSON to the root URL; topic required, priority a number, tags a list of strings."""
    [request] = deliver(vhost, script, endpoint, recipe("ntfy"), "insert")
    assert (request.method, request.path) == ("POST", "/")
    found = request.json
    assert set(found) <= {"topic", "title", "message", "priority", "tags"}
    assert found["topic"] == "airports"
    assert found["title"] == "public.airports: insert"
    assert found["message"] == f"{AIRPORT['name']} has changed"
    assert found["priority"] in range(1, 6)
    assert all(isinstance(tag, str) for tag in found["tags"])


def test_recipe_elasticsearch(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Index API: PUT /<index>/_doc/<id> answers 201, then 200; DELETE answers 200, or 404 when it is not there."""
    stored: dict[str, Any] = {}

    def rule(request: Request) -> Answer:
        _, index, kind, name = request.path.split("/")
        assert (index, kind) == ("airports", "_doc")
        name = unquote(name)
        if request.method == "PUT":
            assert request.headers["Content-Type"] == "application/json"
            status = 200 if name in stored else 201
            stored[name] = request.body
        else:
            assert request.method == "DELETE"
            assert not request.body
            status = 200 if stored.pop(name, None) else 404
        return Answer(status, b'{"result":"x"}', commit=True)

    endpoint.rule = rule
    requests = deliver(vhost, script, endpoint, recipe("Elasticsearch"), "insert", "update", "delete", "delete")
    assert [request.status for request in requests] == [201, 200, 200, 404]
    assert json.loads(requests[0].body) == AIRPORT
    assert b"47.4647" in requests[0].body


def test_recipe_plain_webhook_with_signature(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Standard Webhooks: checked with that project's own library."""
    own = recipe("A plain webhook")
    tries = iter([Answer(500), Answer(500)])
    endpoint.rule = lambda _request: next(tries, Answer())
    requests = deliver(vhost, script, endpoint, own, "insert")
    for request in requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        Webhook(own["WEBHOOK_SECRET"]).verify(request.body, headers)
    assert len({request.headers["webhook-id"] for request in requests}) == 1, "one id over all attempts"


def test_basic_credentials_and_templated_headers(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    own = {"HTTP_USER": "odoo", "HTTP_PASSWORD": "p$w:ü", "HTTP_HEADERS": '\'{"X-Name": "{new[name]}"}\''}
    [request] = deliver(vhost, script, endpoint, own, "insert")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode("odoo:p$w:ü".encode()).decode()
    assert request.headers["X-Name"].startswith("=?UTF-8?B?")


def test_secrets_from_files_and_no_proxy_of_the_environment(
    vhost: Vhost, script: Make, endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    own = {**settings(vhost, endpoint), "HTTP_TOKEN_FILE": tmp_path / "token"}
    receiver = script(
        "receiver.py", own, environment={"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    )
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("t 1")
    wait_until(lambda: endpoint.completed, 10, "the event")
    assert endpoint.completed[0].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in receiver.log()
