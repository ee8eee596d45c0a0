"""A client of Odoo for tests: it asks a real server and the stand-in alike, by JSON-2 (19) or JSON-RPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

SECONDS = 60


class Refused(Exception):
    """An error of Odoo's: its `name` and message, the HTTP `status`."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.status = status
        self.name = name
        self.message = message


@dataclass
class Client:
    """One user of one database; `headers` go with every request."""

    url: str
    database: str
    login: str
    secret: str  # API key or password
    json2: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SECONDS
    _uid: int | None = None

    def call(self, model: str, method: str, ids: Sequence[int] | None = None, /, **arguments: Any) -> Any:
        """Call a method, its arguments by name. Raises Refused."""
        return self._json2(model, method, ids, arguments) if self.json2 else self._rpc(model, method, ids, arguments)

    def load(self, model: str, fields: Sequence[str], rows: Sequence[Sequence[Any]], **context: Any) -> dict[str, Any]:
        """The whole answer of `load`."""
        more = {"context": context} if context else {}
        return dict(self.call(model, "load", fields=list(fields), data=[list(row) for row in rows], **more))

    def version(self) -> dict[str, Any]:
        return dict(self._json_rpc("common", "version", []))

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=self.seconds, **options)

    def _json2(self, model: str, method: str, ids: Sequence[int] | None, arguments: Mapping[str, Any]) -> Any:
        headers = {**self.headers, "Authorization": f"bearer {self.secret}", "X-Odoo-Database": self.database}
        body = {**arguments, **({"ids": list(ids)} if ids is not None else {})}
        response = self.post(f"/json/2/{model}/{method}", json=body, headers=headers)
        if response.status_code != 200:
            told = response.json() if "json" in response.headers["Content-Type"] else {}
            raise Refused(response.status_code, told.get("name", ""), told.get("message", response.text[:200]))
        return response.json()

    def _rpc(self, model: str, method: str, ids: Sequence[int] | None, arguments: Mapping[str, Any]) -> Any:
        if self._uid is None:
            self._uid = self._json_rpc("common", "authenticate", [self.database, self.login, self.secret, {}])
        args: list[Any] = [] if ids is None else [list(ids)]
        # Its name differs between models (create) and versions (search).
        first = {"create": "vals_list", "search": "domain", "search_count": "domain"}.get(method, "")
        if first in arguments:
            args.append(arguments[first])
            arguments = {name: value for name, value in arguments.items() if name != first}
        return self._json_rpc(
            "object", "execute_kw", [self.database, self._uid, self.secret, model, method, args, arguments]
        )

    def _json_rpc(self, service: str, method: str, args: Sequence[Any]) -> Any:
        params = {"service": service, "method": method, "args": args}
        body = {"jsonrpc": "2.0", "method": "call", "id": 1, "params": params}
        response = self.post("/jsonrpc", json=body, headers=dict(self.headers))
        told = response.json()
        if error := told.get("error"):
            raise Refused(response.status_code, error["data"]["name"], error["data"]["message"])
        return told.get("result")
