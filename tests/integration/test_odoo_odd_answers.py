"""Whatever JSON an endpoint answers, and wherever, it is a verdict and a reason: no defect, no loop, no traceback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relay import targets
from relay.delivery import Delivery, Event, Outcome
from relay.findings import Finding
from relay.targets.odoo.load import OdooLoadTarget
from tests.odoo_rows import row

MAPPING = """
[table."public.customers"]
model = "res.partner"
id = "customers_{id}"
[table."public.customers".fields]
name = "{name}"
kind = "{kind}"
"country_id/id" = "countries_{country}"
"""
ODD: list[Any] = [None, True, 10**400, float("inf"), float("nan"), "²", "x\u202e", [], [None], [[]], [{}], {}, {"x": 1}]
GOOD: dict[str, Any] = {
    "authenticate": 2,
    "context_get": {},
    "fields_get": {
        "name": {"type": "char", "required": True},
        "kind": {"type": "selection", "selection": [["a", "A"]]},
        "country_id": {"type": "many2one", "relation": "res.country"},
        "active": {"type": "boolean"},
        "template": {"type": "many2one", "related": ["x.y"], "required": True},
    },
    "load": {
        "ids": False,
        "messages": [{"type": "error", "record": 0, "message": "No countries_AT", "field": "country_id"}],
    },
    "search_read": [
        {"id": 1, "module": "__import__", "name": "customers_1", "res_id": 5, "expiration_date": "2030-01-01"},
    ],
    "default_get": {},
}
VERSIONS = {"17": [17, 0, 0, "final", 0, ""], "19": ["saas~19", 2]}


def mutants(good: Any) -> Iterator[Any]:
    """An answer with something odd in each place."""
    yield from ODD
    if isinstance(good, dict):
        yield from ({**good, key: odd} for key, value in good.items() for odd in mutants(value))
    elif isinstance(good, list):
        yield from ([*good[:at], odd, *good[at + 1 :]] for at, value in enumerate(good) for odd in mutants(value))


class Odd(ThreadingHTTPServer):
    """Answers what `answer` makes of the method that is called."""

    daemon_threads = True
    answer: Callable[[str], Any]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Odd
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        words = asked.get("params", {}).get("args", []) if self.path == "/jsonrpc" else []
        called = self.path.rpartition("/")[2] if not words else "authenticate" if len(words) == 4 else words[4]
        answer = self.server.answer(called)
        body = json.dumps(answer if self.path.startswith("/json/2") else {"jsonrpc": "2.0", "result": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Odd]:
    made = Odd()
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["version_info", *GOOD])
def test_an_odd_answer_is_a_verdict(server: Odd, tmp_path: Path, version: str, method: str) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    settings = {
        "RABBITMQ_URL": "amqp://nobody@localhost/", "QUEUE": "odoo", "TARGET": "odoo-load", "ODOO_DATABASE": "odoo",
        "ODOO_MAPPING": str(tmp_path / "mapping.toml"), "ODOO_URL": f"http://127.0.0.1:{server.server_port}",
        "ODOO_USER": "u", "ODOO_API_KEY": "k",
    }  # fmt: skip
    good = {"version_info": {"server_version": version, "server_version_info": VERSIONS[version]}, **GOOD}
    events = [
        row("customers", 1, name="x", kind="a", country="AT"),
        row("customers", 1, "delete", old={"id": 1, "name": "x", "kind": "a", "country": "AT"}),
        row("customers", 1, "truncate"),
    ]

    async def go(odd: Any) -> None:
        made = targets.make(targets.load(None, settings))
        assert isinstance(made, OdooLoadTarget)
        pages = iter([GOOD["search_read"]] * 3)

        def answer(called: str) -> Any:
            if called == "search_read" and method != "search_read":
                return next(pages, [])
            return odd if called == method else good.get(called, True)

        server.answer = answer
        found = [finding async for finding in made.check()]
        assert found
        assert all(isinstance(one, Finding) for one in found)
        link = made.open()
        for event in events:
            assert await _deliver(link, event)
        link.close()

    async def all_of_them() -> None:
        for odd in mutants(good[method]):
            async with asyncio.timeout(10):
                await go(odd)

    asyncio.run(all_of_them())


async def _deliver(link: Any, event: Event) -> list[Outcome]:
    outcomes = list(await link.deliver([Delivery(event, 1)]))
    assert len(outcomes) == 1
    return outcomes
