"""Requests and answers as they go over the wire, and what stands in them whatever they are about."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from dev.doubles.odoo.errors import OdooError

HTML, JSON = "text/html; charset=utf-8", "application/json; charset=utf-8"
JSON_14 = "application/json"
NOT_FOUND = {
    "17": (
        "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was "
        "not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n"
    ),
    "19": (
        "<!DOCTYPE html>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>No database is selected and the "
        "requested URL was not found in the server-wide controllers.</p>\n<p>Please verify the hostname, "
        "<a href=/web/login>login</a> and try again.</p>\n"
    ),
}
UNSUPPORTED = (
    "<!doctype html>\n<html lang=en>\n<title>415 Unsupported Media Type</title>\n<h1>Unsupported Media Type</h1>\n"
)
BAD_REQUEST = "<!doctype html>\n<html lang=en>\n<title>400 Bad Request</title>\n<h1>Bad Request</h1>\n"


@dataclass
class Request:
    """A request that has arrived; `call` names what it asks for, where it can be read."""

    method: str
    path: str
    headers: Message
    body: bytes
    model: str | None = None
    name: str | None = None  # of the model's method
    rows: int = 1
    firsts: tuple[object, ...] = ()  # the first column of `load`'s rows: their external ids, mostly
    parsed: Any = None

    @property
    def admin_view(self) -> bool:
        """Whether the test itself looks: nothing is broken for it, and nobody counts it."""
        return "Standin-View" in self.headers


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class User:
    login: str
    uid: int
    password: str
    key: str
    admin: bool


def read(request: Request) -> None:
    """See what a request asks for, so that it can be broken, timed and counted."""
    try:
        request.parsed = json.loads(request.body) if request.body else None
    except ValueError:
        return
    path = request.path.partition("?")[0].split("/")
    if path[1:3] == ["json", "2"] and len(path) == 5:
        request.model, request.name = path[3:]
        arguments = request.parsed if isinstance(request.parsed, dict) else {}
        request.rows = len(arguments.get("data") or arguments.get("vals_list") or [None])
        request.firsts = _firsts(arguments.get("data"))
    elif path[1:] == ["jsonrpc"] and isinstance(request.parsed, dict):
        params = request.parsed.get("params") or {}
        if params.get("service") == "object" and len(params.get("args", ())) >= 6:
            request.model, request.name, args = params["args"][3:6]
            given = [*args, *(params["args"][6] or {}).values()] if len(params["args"]) > 6 else args
            if request.name == "load":
                given = given[1:2]
                request.firsts = _firsts(given[0] if given else None)
            request.rows = max([1, *(len(one) for one in given if isinstance(one, list))])


def _firsts(data: object) -> tuple[object, ...]:
    return tuple(row[0] for row in data if isinstance(row, list) and row) if isinstance(data, list) else ()


def users() -> list[User]:
    """Those of a database: one may do all, the other may read."""
    return [
        User("admin", 2, "admin", secrets.token_hex(20), admin=True),
        User("plain", 3, "plain", secrets.token_hex(20), admin=False),
    ]


def serialized(error: OdooError) -> dict[str, Any]:
    """An exception as both protocols show it."""
    arguments: list[Any] = [error.message]
    if error.name.startswith("werkzeug."):
        arguments.append(error.status)
    debug = f"Traceback (most recent call last):\n{error.name.rpartition('.')[2]}: {error.message}\n"
    return {"name": error.name, "message": error.message, "arguments": arguments, "context": {}, "debug": debug}


def session_expired() -> OdooError:
    return OdooError("odoo.http.SessionExpiredException", "Session expired", 403)
