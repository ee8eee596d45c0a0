"""examples/bitrix24.py against a server that answers as apidocs.bitrix24.com says of crm.company.list, add ..."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

from dev.doubles.endpoint import Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import ROOT
from dev.vhost import Vhost
from tests.handling import Make
from tests.messages import Publisher
from tests.receiving import done, run

WEBHOOK = "/rest/1/s3cr3tw3bh00k"


class Portal:
    """Companies by their ID. `limited`: so many calls are refused for their number first."""

    def __init__(self) -> None:
        self.companies: dict[str, dict[str, Any]] = {}
        self.limited = 2
        self._numbers = itertools.count(1)  # none twice, of one that was deleted neither
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            return self._answer(request)

    def _answer(self, request: Request) -> Answer:
        assert request.headers["Content-Type"] == "application/json"
        assert request.path.startswith(f"{WEBHOOK}/")
        if self.limited:
            self.limited -= 1
            return self._error(503, "QUERY_LIMIT_EXCEEDED")
        asked = request.json
        match request.path.removeprefix(f"{WEBHOOK}/"):
            case "crm.company.list.json":
                assert set(asked["filter"]) == {"ORIGINATOR_ID", "ORIGIN_ID"}
                found = [
                    {"ID": number}
                    for number, one in self.companies.items()
                    if all(one.get(name) == value for name, value in asked["filter"].items())
                ]
                return self._result(found)
            case "crm.company.add.json":
                if not asked["fields"]["TITLE"]:
                    return self._error(400, "ERROR_CORE")
                number = str(next(self._numbers))
                self.companies[number] = asked["fields"]
                return self._result(int(number))
            case "crm.company.update.json":
                self.companies[asked["id"]] |= asked["fields"]
                return self._result(True)  # noqa: FBT003
            case "crm.company.delete.json":
                del self.companies[asked["id"]]
                return self._result(True)  # noqa: FBT003
        return self._error(404, "ERROR_METHOD_NOT_FOUND")

    @staticmethod
    def _result(result: object) -> Answer:
        return Answer(200, json.dumps({"result": result}).encode(), commit=True)

    @staticmethod
    def _error(status: int, code: str) -> Answer:
        return Answer(status, json.dumps({"error": code, "error_description": "..."}).encode(), commit=False)


def test_customers_become_companies_once(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = portal = Portal()
    settings = {
        "RABBITMQ_URL": vhost.url, "QUEUE": "crm", "TARGET": "python", "PYTHON_HANDLERS": "bitrix24",
        "HANDLER_PATH": ROOT / "examples", "MAX_ATTEMPTS": 2, "RETRY_MIN": "0.1", "RETRY_MAX": "0.2",
    }  # fmt: skip
    url = endpoint.url.rpartition("/")[0] + WEBHOOK + "/"
    receiver = script("receiver.py", settings, environment={"BITRIX24_WEBHOOK": url})
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)

    def customer(number: int, op: str, name: str = "") -> None:
        new = None if op == "delete" else {"id": number, "name": name, "note": None}
        body = {"table": "public.customers", "key": {"id": number}, "new": new, "old": None}
        publisher.event(f"public.customers {number}", table="public.customers", op=op, body=body)

    customer(1, "insert", "Müller & Sons")
    customer(2, "insert", "Gone")
    customer(1, "update", "Müller & Daughters")
    customer(2, "delete")
    customer(3, "insert", "")
    customer(4, "insert", "Twice")
    customer(4, "insert", "Twice")
    wait_until(lambda: vhost.queue_depth("crm") == 0 and "event refused and parked" in receiver.log(), 20, "the events")
    wait_until(
        lambda: sorted(one["TITLE"] for one in portal.companies.values()) == ["Müller & Daughters", "Twice"],
        20, "the companies",
    )  # fmt: skip
    assert {one["ORIGIN_ID"] for one in portal.companies.values()} == {"1", "4"}
    [parked] = json.loads(done(run(receiver, "parked", "--json")))
    assert parked["reason"].endswith("crm.company.add: ERROR_CORE")
    endpoint.stop()
    customer(5, "insert", "Later")
    receiver.wait_for_log("endpoint does not work")
    assert "s3cr3t" not in receiver.log()
    endpoint.start()
    wait_until(
        lambda: "Later" in {one["TITLE"] for one in portal.companies.values()}, 20, "what came while it was down"
    )
