"""`receiver.py try`: what it shows, what it sends, what it ends with, and that it leaves everything as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from dev import forkserver
from dev.doubles.endpoint import Answer, Endpoint
from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.odoo_rows import PARTNERS, credentials, write_mapping
from tests.receiving import bare, done, run, settings

EVENT = {
    "id": "5cfb6e63",
    "table": "public.orders",
    "op": "update",
    "key": {"id": 42},
    "old": None,
    "new": {"t": 10.50},
}
TEXT = json.dumps(EVENT).replace("10.5", "10.500000000000000000001")
SECRETS = {
    "HTTP_TOKEN": "s3cret/t&ken",
    "HTTP_HEADERS": '{"X-Key": "s3cret-key", "X-Title": "{table}"}',
    "CONTROL_SECRET": "s3cret-control-0123456789",
}


def tried(script: Script, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(script.env_file), "try", *arguments]
    found = forkserver.run(command, given=text, timeout=60, env=bare())
    assert "Traceback" not in found.stderr
    assert "s3cret" not in found.stdout + found.stderr
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "event.json"
    made.write_text(TEXT)
    return made


def nowhere(endpoint: Endpoint, **more: object) -> dict[str, object]:
    """Settings for which no RabbitMQ is needed."""
    own = {"RABBITMQ_URL": "amqp://u:s3cret@127.0.0.1:9/", "QUEUE": "q", "HTTP_URL": endpoint.url}
    return own | {"HTTP_TIME_LIMIT": 1, **more}


def test_a_file_is_sent_as_it_is_and_shown_without_a_secret(
    script: Callable[..., Script], endpoint: Endpoint, file: Path
) -> None:
    endpoint.rule = lambda request: Answer(body=b'{"echo": "%b"}' % request.headers["Authorization"].encode())
    url = f"{endpoint.url}/T0123456789abcdef/{{key[id]}}?token=s3cret&id={{id}}"
    made = script("receiver.py", nowhere(endpoint, **SECRETS | {"HTTP_URL": url}))
    found = tried(made, str(file))
    assert found.returncode == 0, found.stdout + found.stderr
    (request,) = endpoint.requests
    assert request.body.decode() == TEXT, "every digit"
    assert request.path == "/events/T0123456789abcdef/42?token=s3cret&id=5cfb6e63"
    assert request.headers["Relay-Key"] == 'public.orders {"id":42}'
    for line in (
        "event    5cfb6e63 update public.orders\n",
        "request  POST /events/***/42?token=***&id=5cfb6e63\n",
        "         Authorization: ***\n",
        "         X-Key: ***\n",
        "         X-Title: public.orders\n",
        '           "new": {\n',
        '             "t": 10.500000000000000000001\n',
        "answer   200\n",
        '           "echo": "Bearer ***"\n',
        "verdict  delivered\n",
    ):
        assert line in found.stdout, found.stdout
    assert tried(made, "-", text=TEXT).stdout.replace(request.headers["Host"], "") == found.stdout.replace(
        request.headers["Host"], ""
    )


def test_nothing_is_sent_by_a_dry_run_not_even_to_an_endpoint_that_is_down(
    script: Callable[..., Script], endpoint: Endpoint, file: Path
) -> None:
    made = script("receiver.py", nowhere(endpoint, HTTP_METHOD="PUT", HTTP_BODY="{new}"))
    endpoint.stop()
    found = tried(made, str(file), "--dry-run")
    endpoint.start()
    assert found.returncode == 0
    assert "request  PUT /events\n" in found.stdout
    assert found.stdout.endswith("verdict  not sent (--dry-run)\n")
    assert not endpoint.requests


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (Answer(422, b"no such unit\x1b[2J"), 1, "verdict  refused: HTTP 422: no such unit\\u001b[2J\n"),
        (Answer(503), 75, "verdict  the endpoint does not work: HTTP 503: {}\n"),
        (Answer(500), 75, "verdict  unclear: HTTP 500: {}\n"),
        (Answer(reset=True), 75, "verdict  unclear: the connection broke"),
        (Answer(200, b"<html>login", {"Content-Type": "text/html"}), 75, "verdict  the endpoint does not work: "),
    ],
    ids=["422", "503", "500", "reset", "page"],
)
def test_the_verdict_is_the_receiver_s_and_the_exit_status_says_it(
    script: Callable[..., Script], endpoint: Endpoint, file: Path, answer: Answer, status: int, said: str
) -> None:
    endpoint.rule = lambda _request: answer
    found = tried(script("receiver.py", nowhere(endpoint)), str(file))
    assert (found.returncode, said in found.stdout) == (status, True), found.stdout
    assert found.stdout.isascii()
    assert len(endpoint.requests) == 1


def test_what_no_request_can_be_made_of_would_be_refused(
    script: Callable[..., Script], endpoint: Endpoint, file: Path
) -> None:
    found = tried(script("receiver.py", nowhere(endpoint, HTTP_BODY="{new[x]}")), str(file), "--dry-run")
    assert found.returncode == 1
    assert "verdict  refused: template: the event has no new[x]; nothing was sent for it\n" in found.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("directory", "Is a directory"),
        (b"{", "that is no JSON"),
        (b"\xff", "not UTF-8"),
        (b"", "that is no JSON"),
        (b"[" * 100_000, "that is no JSON"),
        (b'{"handle": "x", "body": "abc", "size": 2000000}', "too large to be shown"),
        (b'{"handle": "x", "body_base64": "a"}', "can't be read"),
        (b'{"handle": "x", "body": "abc", "size": "many"}', "can't be read"),
        (b'{"handle": "x", "body": "abc", "size": [1]}', "can't be read"),
        (b'{"handle": "x", "body": "\\ud83d"}', "can't be read"),
        (b'{"table": "t", "key": {"a": "\\ud83d"}}', "half of a character"),
        (b'{"table": "t", "key": ' + b'{"a":' * 500 + b"1" + b"}" * 501, ""),
    ],
)
def test_a_bad_file_is_one_clear_error(
    script: Callable[..., Script], endpoint: Endpoint, tmp_path: Path, content: bytes | str | None, said: str
) -> None:
    path = tmp_path / "e.json"
    if content == "directory":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    found = tried(script("receiver.py", nowhere(endpoint)), str(path))
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"receiver.py try: {path}: ")
    assert said in found.stderr
    assert found.stderr.count("\n") == 1
    assert not endpoint.requests


@pytest.mark.parametrize("text", ["[1, 2]", "3", '"x"', '{"id": 7, "table": ["a"], "key": 1}', "\ufeff{}", "null"])
def test_any_json_can_be_an_event(script: Callable[..., Script], endpoint: Endpoint, text: str) -> None:
    found = tried(script("receiver.py", nowhere(endpoint)), "-", text=text)
    assert found.returncode == 0, found.stderr
    assert endpoint.requests[0].body.decode() == text.lstrip("\ufeff")


def test_a_configuration_error_ends_with_78(script: Callable[..., Script], endpoint: Endpoint, file: Path) -> None:
    found = tried(script("receiver.py", nowhere(endpoint, HTTP_METHOD="pOST")), str(file))
    assert found.returncode == 78
    assert "HTTP_METHOD=pOST" in found.stderr


def publish(vhost: Vhost, body: bytes, **properties: Any) -> None:
    vhost.channel().basic_publish("", "odoo", body, pika.BasicProperties(**properties))


def parked(made: Script) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done(run(made, "parked", "--json")))
    return found


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_parked_event_is_sent_by_its_name_and_stays_parked(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, running: bool
) -> None:
    endpoint.rule = lambda _request: Answer(422)
    made = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1))
    made.start()
    made.wait_for_log("consuming")
    headers = {"relay-key": 'public.orders {"id":42}', "relay-seq": 7, "relay-table": "public.orders"}
    publish(vhost, TEXT.encode(), message_id="e-1", type="update", content_type="application/json", headers=headers)
    publish(vhost, b'"later"', message_id="e-2", headers=headers)
    made.wait_for_log("event refused and parked")
    wait_until(lambda: parked(made)[0]["events"] == 2, 20, "the later one")
    if not running:
        made.terminate()
        assert made.wait() == 0
    before, number = parked(made), len(endpoint.requests)
    assert tried(made, before[0]["handle"], "--dry-run").returncode == 0
    assert len(endpoint.requests) == number
    assert tried(made, "e-1").returncode == 1
    endpoint.rule = lambda _request: Answer()
    found = tried(made, before[0]["handle"])
    assert found.returncode == 0, found.stdout + found.stderr
    first, *_, last = endpoint.requests
    assert last.body == first.body == TEXT.encode()
    assert {k: v for k, v in last.headers.items() if k != "Host"} == {
        k: v for k, v in first.headers.items() if k != "Host"
    }
    assert parked(made) == before
    found = tried(made, "nobody")
    assert found.returncode == 1
    assert "event nobody is not in the parking lot" in found.stderr
    assert "receiver.py try" in found.stderr


def test_an_event_that_is_not_signed_is_not_sent(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint
) -> None:
    made = script("receiver.py", settings(vhost, endpoint, SIGN_EVENTS="s3cret-0123456789-0123456789"))
    made.start()
    made.wait_for_log("consuming")
    publish(vhost, b"{}", message_id="e-1")
    made.wait_for_log("event refused and parked")
    found = tried(made, parked(made)[0]["handle"])
    assert (found.returncode, endpoint.requests) == (1, [])
    assert (
        "verdict  refused: it is not signed with the secret of SIGN_EVENTS; nothing was sent for it\n" in found.stdout
    )


def odoo_settings(odoo: Odoo, directory: Path, **more: object) -> dict[str, object]:
    own = {"RABBITMQ_URL": "amqp://u:s3cret@127.0.0.1:9/", "QUEUE": "q", **credentials(odoo)}
    return own | {"ODOO_MAPPING": write_mapping(directory, odoo, PARTNERS), "TARGET": "odoo-load", **more}


def customer(op: str = "insert", **columns: object) -> str:
    new = None if op == "delete" else {"id": 7, "parent": None, **columns}
    return json.dumps({"id": "e", "table": "public.customers", "op": op, "key": {"id": 7}, "old": None, "new": new})


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
def test_the_rows_made_of_an_event_are_shown_and_loaded(
    script: Callable[..., Script], odoo: Odoo, tmp_path: Path
) -> None:
    made = script("receiver.py", odoo_settings(odoo, tmp_path))
    text, name = customer(name="Ä & Co.", email="a@b"), f"{odoo.unique}customers_7"
    found = tried(made, "-", "--dry-run", text=text)
    assert found.returncode == 0, found.stdout + found.stderr
    for line in (
        f"row      load: res.partner {name}\n",
        "row        name = Ä & Co.\n",
        '"load"',
        "not sent (--dry-run)\n",
    ):
        assert line in found.stdout or (line == '"load"' and "/load\n" in found.stdout), found.stdout
    assert odoo.records("res.partner", odoo.unique) == {}
    assert odoo.api_key not in found.stdout
    found = tried(made, "-", text=text)
    assert found.returncode == 0, found.stdout + found.stderr
    assert odoo.api_key not in found.stdout
    assert odoo.records("res.partner", odoo.unique)[name]["name"] == "Ä & Co."
    found = tried(made, "-", text=customer(name=None, email=""))
    assert found.returncode == 1
    assert "verdict  refused: " in found.stdout
    found = tried(made, "-", "--dry-run", text=customer("delete"))
    assert f"row      archive: res.partner {name}\n" in found.stdout
    assert odoo.records("res.partner", odoo.unique)[name]["active"]
    assert tried(made, "-", text=customer("delete")).returncode == 0
    assert not odoo.records("res.partner", odoo.unique)[name]["active"]


def test_what_the_mapping_does_not_name_or_an_odoo_that_is_away(
    script: Callable[..., Script], odoo: Odoo, tmp_path: Path
) -> None:
    made = script("receiver.py", odoo_settings(odoo, tmp_path))
    found = tried(made, "-", text='{"table": "public.nothing", "op": "insert", "new": {}}')
    assert found.returncode == 1
    assert "row      none: table public.nothing is not in the mapping" in found.stdout
    away = odoo_settings(odoo, tmp_path, ODOO_URL="http://127.0.0.1:9")
    found = tried(script("receiver.py", away), "-", "--dry-run", text=customer(name="x", email=""))
    assert found.returncode == 75
    assert (
        "verdict  the endpoint does not work: no connection: Connection refused; nothing was sent for it\n"
        in found.stdout
    )


def test_a_method_is_called_and_a_webhook_only_without_dry_run(
    script: Callable[..., Script], odoo: Odoo, endpoint: Endpoint, tmp_path: Path, file: Path
) -> None:
    call = odoo_settings(odoo, tmp_path, TARGET="odoo-call", ODOO_MODEL="res.partner", ODOO_METHOD="relay_event")
    found = tried(script("receiver.py", call), str(file), "--dry-run")
    assert found.returncode == 0, found.stdout + found.stderr
    assert odoo.api_key not in found.stdout
    assert "not sent (--dry-run)" in found.stdout
    hook = f"http://127.0.0.1:{endpoint.port}/web/hook/01234567-s3cret-89ab-cdef-0123456789ab"
    endpoint.rule = lambda _request: Answer(body=b'{"status": "ok"}')
    made = script("receiver.py", nowhere(endpoint, TARGET="odoo-webhook", ODOO_WEBHOOK=hook))
    assert "request  POST /web/hook/***\n" in tried(made, str(file), "--dry-run").stdout
    assert not endpoint.requests
    assert tried(made, str(file)).returncode == 0
    assert endpoint.requests[0].path.startswith("/web/hook/0123")
