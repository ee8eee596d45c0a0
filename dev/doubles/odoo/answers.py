"""What Odoo answers to each request, status by status and body by body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dev.doubles.odoo import methods
from dev.doubles.odoo.errors import DatabaseDown, OdooError, access_denied
from dev.doubles.odoo.model import like
from dev.doubles.odoo.store import Store, now
from dev.doubles.odoo.trouble import Troubles
from dev.doubles.odoo.wire import (
    BAD_REQUEST,
    HTML,
    JSON,
    JSON_14,
    NOT_FOUND,
    UNSUPPORTED,
    Answer,
    Request,
    User,
    serialized,
    session_expired,
    users,
)


class Odoo:
    """One Odoo server with its databases.

    Args:
        series: "14", "17" or "19".
        databases: their names. With one of them it is chosen by itself; with several by X-Odoo-Database (19) or by
            the first label of the host (as `dbfilter = ^%d$` does).
        key_days: how long the API keys live (Odoo 19 tells).
    """

    def __init__(self, series: str, databases: tuple[str, ...] = ("odoo",), expires: str = "") -> None:
        self.series = series
        self.version = version = like(series)
        self.troubles = Troubles()
        self.databases = {name: Store(series) for name in databases}
        self.hooks: dict[str, str] = {}  # uuid -> database
        self.users = {name: users() for name in databases}
        for name, store in self.databases.items():
            with store.transaction():
                for user in self.users[name]:
                    row = {"name": f"{user.login}'s key", "user_id": user.uid, "scope": "rpc"}
                    store.create(
                        "res.users.apikeys", row | ({"expiration_date": expires or False} if version != "17" else {})
                    )

    def answer(self, request: Request) -> Answer:
        """Do the work of one request."""
        path, _, query = request.path.partition("?")
        if path == "/jsonrpc" or path in {"/web/webclient/version_info", "/web/database/list"}:
            return self._json_rpc_page(path, request)
        if path == "/web/health" and request.method == "GET" and self.series != "14":
            return self._health(query)
        if path in {"/web/version", "/json/version"} and self.version != "17":
            return Answer(200, json.dumps({"version_info": [19, 0, 0, "final", 0, ""], "version": "19.0"}))
        if path.startswith("/web/hook/") and self.series != "14":
            return self._hook(path.rpartition("/")[2], request)
        if path.startswith("/json/2") and self.version != "17":
            return self._json2(path, request)
        return self._nowhere(request)

    # Databases and users

    def _store(self, name: str | None, request: Request) -> Store:
        if not request.admin_view and self.troubles.take("database"):
            raise DatabaseDown(
                'connection to server at "127.0.0.1", port 5432 failed: Connection refused\n\tIs the server running '
                "on that host and accepting TCP/IP connections?\n"
            )
        if name not in self.databases:
            raise DatabaseDown(
                f'connection to server at "127.0.0.1", port 5432 failed: FATAL:  database "{name}" does not exist\n'
            )
        return self.databases[name]

    def _chosen(self, request: Request) -> str | None:
        """The database of a request whose path and body name none."""
        if self.version != "17" and (named := request.headers.get("X-Odoo-Database")):
            return named
        label = request.headers.get("Host", "").partition(":")[0].partition(".")[0]
        if label in self.databases:
            return label
        return next(iter(self.databases)) if len(self.databases) == 1 else None

    def _user(
        self, request: Request, db: str | None, secret: str, *, uid: int | None = None, login: str | None = None
    ) -> User | None:
        """Who it is, by API key (without uid and login) or by password or key."""
        if not request.admin_view and self.troubles.take("key"):
            return None
        for user in self.users[db or ""]:
            named = user.uid == uid or user.login == login or (uid is None and login is None)
            secrets_ = {user.key} if uid is None and login is None else {user.key, user.password}
            if named and secret in secrets_:
                return user
        return None

    # JSON-RPC

    def _json_rpc_page(self, path: str, request: Request) -> Answer:
        if request.method != "POST" or "json" not in request.headers.get("Content-Type", ""):
            if self.version == "17":
                return Answer(
                    400, f"{BAD_REQUEST}<p>Request inferred type is compatible with [&#39;http&#39;]</p>\n", HTML
                )
            return Answer(415, UNSUPPORTED, HTML)
        if not isinstance(request.parsed, dict):
            return Answer(400, "Invalid JSON data", HTML)
        try:
            if path == "/web/database/list":
                self._store(next(iter(self.databases)), request)
                return self._result(request, [*self.databases])
            params = request.parsed.get("params") or {}
            result = self._version() if path != "/jsonrpc" else self._dispatch(request, **params)
        except DatabaseDown as error:
            return self._rpc_error(request, OdooError("psycopg2.OperationalError", str(error)))
        except OdooError as error:
            return self._rpc_error(request, error)
        except (TypeError, ValueError) as error:
            return self._rpc_error(request, OdooError(f"builtins.{type(error).__name__}", str(error)))
        return self._result(request, result)

    def _result(self, request: Request, result: Any) -> Answer:
        whole = {"jsonrpc": "2.0", "id": request.parsed.get("id")}
        # A method that returns nothing has no result, and that is a success.
        return Answer(200, json.dumps(whole if result is None else {**whole, "result": result}))

    def _rpc_error(self, request: Request, error: OdooError) -> Answer:
        code, message = (200 if self.version == "17" else 0), "Odoo Server Error"
        if error.name == "odoo.http.SessionExpiredException":
            code, message = 100, "Odoo Session Expired"
        told = {"code": code, "message": message, "data": serialized(error)}
        return Answer(200, json.dumps({"jsonrpc": "2.0", "id": request.parsed.get("id"), "error": told}))

    def _dispatch(self, request: Request, service: str, method: str, args: list[Any]) -> Any:
        if not request.admin_view and self.troubles.take("session"):
            raise session_expired()
        if service == "common":
            return self._common(request, method, args)
        if service != "object":
            raise OdooError("builtins.UnboundLocalError" if self.series == "14" else "builtins.KeyError", service)
        if method != "execute_kw":
            raise OdooError("builtins.NameError", f"Method not available {method}")
        return self._execute(request, *args)

    def _version(self) -> dict[str, Any]:
        series = f"{self.series}.0"
        info = [int(self.series), 0, 0, "final", 0, ""]
        return {"server_version": series, "server_version_info": info, "server_serie": series, "protocol_version": 1}

    def _common(self, request: Request, method: str, args: list[Any]) -> Any:
        if method == "version":
            return self._version()
        if method not in {"login", "authenticate"}:
            raise OdooError("builtins.Exception", f"Method not found: {method}")
        self._store(args[0], request)
        user = self._user(request, args[0], args[2], login=args[1])
        return user.uid if user else False

    def _execute(
        self, request: Request, db: str, uid: int, secret: str, model: str, method: str, args: Any, kw: Any = None
    ) -> Any:
        store = self._store(db, request)
        user = self._user(request, db, secret, uid=uid)
        if user is None:
            raise access_denied()
        named = dict(kw or {})
        env = self._environment(store, user, named.pop("context", None) or {}, request)
        methods.find(env, model, method, json2=False)
        positional = list(args)
        if method == "create" and not positional:
            raise OdooError("builtins.IndexError", f"{'tuple' if self.version == '17' else 'list'} index out of range")
        ids: Any = []
        if method not in methods.OF_THE_MODEL or self.troubles.take("records", model, method):
            if not positional:
                raise OdooError("builtins.IndexError", "list index out of range")
            ids = positional.pop(0)
        return methods.call(env, model, method, [ids] if isinstance(ids, int) else ids, positional, named)

    def _environment(
        self, store: Store, user: User, context: Mapping[str, Any], request: Request
    ) -> methods.Environment:
        troubles = Troubles() if request.admin_view else self.troubles
        return methods.Environment(store, user.uid, user.admin, context, troubles)

    # JSON-2

    def _json2(self, path: str, request: Request) -> Answer:
        if request.body and "application/json" not in request.headers.get("Content-Type", ""):
            return Answer(415, UNSUPPORTED, HTML, {"Accept": "application/json"})
        try:
            store = self._store(self._chosen(request), request)
            return self._json2_call(store, path, request)
        except DatabaseDown:
            return self._nowhere()
        except OdooError as error:
            more = {"WWW-Authenticate": "Bearer "} if error.status == 401 else {}
            return Answer(error.status, json.dumps(serialized(error)), JSON, more)

    def _json2_call(self, store: Store, path: str, request: Request) -> Answer:
        parts = path.split("/")[3:]
        if request.method != "POST" or len(parts) != 2:
            raise methods.not_found("Did you mean POST /json/2/<model>/<method>?")
        if request.body and request.parsed is None:
            told = "could not parse the body as json: Expecting value: line 1 column 1 (char 0)"
            raise OdooError("werkzeug.exceptions.BadRequest", told, 400)
        user = self._bearer(request)
        arguments = dict(request.parsed) if isinstance(request.parsed, dict) else {}
        ids, context = arguments.pop("ids", ()), arguments.pop("context", {})
        env = self._environment(store, user, context, request)
        function = methods.find(env, parts[0], parts[1], json2=True)
        if ids and parts[1] in methods.OF_THE_MODEL:
            text = f"cannot call {parts[0]}.{parts[1]} with ids"
            raise OdooError("werkzeug.exceptions.UnprocessableEntity", text, 422)
        methods.bind(function, arguments)
        return Answer(200, json.dumps(methods.call(env, parts[0], parts[1], ids, (), arguments)))

    def _bearer(self, request: Request) -> User:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if not request.admin_view and self.troubles.take("session"):
            raise session_expired()
        if scheme.lower() != "bearer":
            told = "User not authenticated, use an API Key with a Bearer Authorization header."
            raise OdooError("werkzeug.exceptions.Unauthorized", told, 401)
        user = self._user(request, self._chosen(request), secret)
        if user is None:
            raise OdooError("werkzeug.exceptions.Unauthorized", "Invalid apikey", 401)
        return user

    # Pages

    def _health(self, query: str) -> Answer:
        if "db_server_status" not in query:
            return Answer(200, json.dumps({"status": "pass"}), "application/json")
        if self.troubles.take("database"):
            return Answer(500, json.dumps({"status": "fail", "db_server_status": False}), "application/json")
        return Answer(200, json.dumps({"status": "pass", "db_server_status": True}), "application/json")

    def _hook(self, uuid: str, request: Request) -> Answer:
        """An automation rule that creates a contact of the payload's `name`, and then fails if that has a `fail`."""
        try:
            name = self._chosen(request)
            store = self._store(name, request)
        except DatabaseDown:
            return self._nowhere()
        if self.hooks.get(uuid) != name:
            return Answer(404, json.dumps({"status": "error"}))
        payload = request.parsed if isinstance(request.parsed, dict) else {}
        with store.transaction():
            store.create("res.partner", {"name": payload.get("name") or f"hook {now()}"})
        failed = request.parsed is None or payload.get("fail") or self.troubles.take("error")
        return Answer(500 if failed else 200, json.dumps({"status": "error" if failed else "ok"}))

    def _nowhere(self, request: Request | None = None) -> Answer:
        """No such page; 14 tells what was sent as JSON in JSON."""
        if self.series == "14" and request and "json" in request.headers.get("Content-Type", ""):
            text = "404 Not Found: The requested URL was not found on the server."
            error = {"code": 404, "message": "404: Not Found", "http_status": 404}
            data = serialized(OdooError("werkzeug.exceptions.NotFound", text))
            return Answer(404, json.dumps({"jsonrpc": "2.0", "id": None, "error": {**error, "data": data}}), JSON_14)
        return Answer(404, NOT_FOUND[self.version], HTML)
