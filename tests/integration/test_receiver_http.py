"""TARGET=http: the recipes of docs/delivery.md, each against an endpoint that checks what it gets as the documentation
of the real one says; credentials, signature, headers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from standardwebhooks.webhooks import Webhook

from dev.doubles.endpoint import Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher, properties
from tests.receiving import run, settings

Make = Callable[..., Script]
AIRPORT = {"id": 7, "name": 'Zürich "Kloten"\n', "lat": 47.46470000000000000001}


def recipe(title: str) -> dict[str, str]:
    """The settings that docs/delivery.md shows below this heading."""
    text = (ROOT / "docs" / "delivery.md").read_text()
    block = text.split(f"### {title}\n", 1)[1].split("```ini\n", 1)[1].split("```", 1)[0]
    return dict(re.findall(r"^([A-Z_]+)=('[^']*'|.*)$", block, re.MULTILINE))


def deliver(
    vhost: Vhost, script: Make, endpoint: Endpoint, more: dict[str, str], *ops: str, path: str = "", **columns: object
) -> list[Request]:
    """Deliver one event of each op with these settings; HTTP_URL's host is the endpoint's. `columns` of the row."""
    if "HTTP_URL" in more:
        path = "/" + more["HTTP_URL"].split("://", 1)[1].partition("/")[2]
        more = more | {"HTTP_URL": endpoint.url.rpartition("/")[0] + path}
    receiver = script("receiver.py", {**settings(vhost, endpoint), **more})
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher, wanted = Publisher(vhost), len(endpoint.completed) + len(ops)
    for op in ops:
        row: dict[str, Any] = {
            "table": "public.airports",
            "key": {"id": 7},
            "new": None if op == "delete" else AIRPORT | columns,
            "old": AIRPORT,
        }
        publisher.event('public.airports {"id":7}', table="public.airports", op=op, body=row)
    wait_until(lambda: vhost.queue_depth("odoo") == 0 and len(endpoint.completed) >= wanted, 10, "the events")
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


@pytest.mark.parametrize(
    ("kind", "priority", "tag"), [("express", 5, "rocket"), ("normal", 3, "package"), (None, 1, "package")]
)
def test_recipe_ntfy_by_type(
    vhost: Vhost, script: Make, endpoint: Endpoint, kind: str | None, priority: int, tag: str
) -> None:
    """priority is an integer from 1 to 5."""
    own = recipe("ntfy, by type of order")
    [request] = deliver(vhost, script, endpoint, own, "insert", type=kind, customer=None, total=12.5)
    assert request.json == {
        "topic": "orders", "title": "Order 7", "message": "somebody: 12.5", "priority": priority, "tags": [tag],
    }  # fmt: skip


def test_recipe_slack(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """api.slack.com/messaging/webhooks: JSON with text; `&`, `<` and `>` are control characters. It answers `ok`."""
    endpoint.rule = lambda _request: Answer(200, b"ok", commit=True)
    own = recipe("Slack, Mattermost")
    insert, delete = deliver(vhost, script, endpoint, own, "insert", "delete", name="<!channel> & co")
    assert insert.path == "/services/T000/B000/XXXX"
    assert insert.headers["Content-Type"] == "application/json"
    assert insert.json == {"text": "*public.airports*: insert of &lt;!channel&gt; &amp; co"}
    assert delete.json == {"text": "*public.airports*: delete of a row"}


def test_recipe_elasticsearch_bulk(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Bulk API: an action a line, a document behind `index`, none behind `delete`, an end behind the last line; items
    in the order of the actions, each with its status."""
    stored: dict[str, Any] = {}
    refusals = iter([429])

    def rule(request: Request) -> Answer:
        assert (request.method, request.path) == ("POST", "/_bulk")
        assert request.headers["Content-Type"] == "application/x-ndjson"
        assert request.body.endswith(b"\n")
        lines = list(map(json.loads, request.body.decode().rstrip("\n").split("\n")))
        items = []
        while lines:
            [(what, about)] = lines.pop(0).items()
            assert about == {"_index": "airports", "_id": "7"}
            assert what in ("index", "delete")
            document = lines.pop(0) if what == "index" else None
            status = next(refusals, 0)
            if not status:
                status = 200 if about["_id"] in stored else 201 if document else 404
                stored.pop(about["_id"], None)
                if document:
                    stored[about["_id"]] = document
            items.append({what: {**about, "status": status}})
        refused = any(one["status"] == 429 for item in items for one in item.values())
        return Answer(200, json.dumps({"took": 3, "errors": refused, "items": items}).encode(), commit=not refused)

    endpoint.rule = rule
    own = recipe("Elasticsearch, `_bulk`")
    requests = deliver(vhost, script, endpoint, own, "insert", "update")
    assert stored["7"] == AIRPORT
    assert len(requests) == 3, "what it refuses behind a 200 comes again"
    deliver(vhost, script, endpoint, own, "delete", "delete")
    assert not stored


def test_recipe_pubsub(vhost: Vhost, script: Make, endpoint: Endpoint, tmp_path: Path) -> None:
    """projects.topics.publish: data is base64, attributes are texts. 401 with an old token."""
    token = tmp_path / "token"
    token.write_text("first\n")

    def renew(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(token)

    def rule(request: Request) -> Answer:
        assert request.path == "/v1/projects/PROJECT/topics/TOPIC:publish"
        if request.headers["Authorization"] != "Bearer second":
            renew("second\n")
            return Answer(401, b'{"error": {"code": 401, "status": "UNAUTHENTICATED"}}')
        return Answer(200, b'{"messageIds": ["1"]}', commit=True)

    endpoint.rule = rule
    own = recipe("Google Pub/Sub") | {"HTTP_TOKEN_FILE": str(token)}
    requests = deliver(vhost, script, endpoint, own, "insert")
    assert [request.status for request in requests] == [401, 200]
    [message] = requests[-1].json["messages"]
    sent = json.loads(base64.b64decode(message["data"], validate=True))
    assert sent["new"] == AIRPORT
    assert message["attributes"] == {"table": "public.airports", "op": "insert"}
    assert message["orderingKey"] == 'public.airports {"id":7}'


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


def test_a_publishers_headers_go_on_to_the_endpoint(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Also out of the parking lot."""
    endpoint.rule = lambda _request: Answer(200 if len(endpoint.requests) > 1 else 422)
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    given = {"tenant": "north", "n": 3, "who": "Zoë", "Relay-Attempt": "9", "list": [1, True]}
    vhost.channel().basic_publish("relay", "shop.paid", b"{}", properties("id", "k", None, "message", given))
    receiver.wait_for_log("event refused and parked")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 10, "it in the parking lot")
    assert run(receiver, "replay", "--all").returncode == 0
    assert len(endpoint.requests) == 2
    for request in endpoint.requests:
        found = {name: text for name, text in request.headers.items() if name.startswith("Relay-Header-")}
        assert found == {
            "Relay-Header-tenant": "north", "Relay-Header-n": "3", "Relay-Header-who": "Zo%C3%AB",
            "Relay-Header-list": "[1, true]",
        }  # fmt: skip
        assert request.headers["Relay-Attempt"] == "1"
