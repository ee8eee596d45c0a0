"""Customers become companies of Bitrix24 (docs/python.md).

PYTHON_HANDLERS=bitrix24, and in the environment BITRIX24_WEBHOOK=https://portal.bitrix24.com/rest/1/...
A company is found by ORIGINATOR_ID and ORIGIN_ID, which are there for that: what comes twice makes no second one.
"""

import os
from typing import Any

import requests

from relay.handlers import Refuse, Retry, handles

ORIGIN = "ORIGINATOR_ID", "ORIGIN_ID"


def call(method: str, **parameters: Any) -> Any:
    """Call a method of the REST API. What is raised names no URL: the webhook's is a secret."""
    try:
        answer = requests.post(
            f"{os.environ['BITRIX24_WEBHOOK'].rstrip('/')}/{method}.json", json=parameters, timeout=60
        )
        said = answer.json()
    except requests.RequestException as error:  # no connection, no answer, none in JSON
        raise ConnectionError(f"{method}: {type(error).__name__}") from None
    code = said.get("error")
    if code == "QUERY_LIMIT_EXCEEDED":
        raise Retry(after=2)
    if code and answer.status_code == 400:
        raise Refuse(f"{method}: {code}")
    if code or answer.status_code != 200:
        raise ConnectionError(f"{method}: HTTP {answer.status_code} {code}")
    return said["result"]


@handles("public.customers")
def company(op: str, key: dict[str, Any], new: dict[str, Any] | None) -> None:
    if op == "truncate":
        raise Refuse("a TRUNCATE names no company")
    origin = dict(zip(ORIGIN, ("relay", str(key["id"])), strict=True))
    found = call("crm.company.list", filter=origin, select=["ID"])
    if new is None:
        for one in found:
            call("crm.company.delete", id=one["ID"])
        return
    fields = {"TITLE": new["name"], "COMMENTS": new["note"]}
    if found:
        call("crm.company.update", id=found[0]["ID"], fields=fields)
    else:
        call("crm.company.add", fields=fields | origin)
