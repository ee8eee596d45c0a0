"""Calling methods of Odoo's models: JSON-2 (from 19) or JSON-RPC (14 to 18), chosen by asking the server.

Arguments have names, so that both APIs are called alike. `Login` is shared by all workers: one of them asks for the
version and logs in, and after a refused login none of them knocks again for a while.
"""

import asyncio
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from relay.delivery import Outcome, Verdict, always
from relay.targets.bisection import Refused
from relay.targets.odoo.failures import fault_of, parse, refusal, unfinished
from relay.targets.odoo.http import Wire
from relay.targets.odoo.settings import OdooLogin
from relay.targets.template import as_json

KNOCK_SECONDS = 50.0  # after a refused login nothing is sent for so long: Odoo locks out for 60 s after five of them
JSON2_SINCE = 19  # major version
READS = ("check_access_rights", "check_object_reference", "context_get", "default_get", "fields_get", "has_access",
         "search", "search_read")  # methods of ours that change nothing  # fmt: skip

_CLOSED = "no request was sent: the login was refused a moment ago"
_VERSION_BODY = b'{"jsonrpc":"2.0","method":"call","params":{}}'


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """What was found out about it."""

    version: str  # as it says: 17.0, saas~18.2
    major: int
    json2: bool  # the API to be used
    uid: int = 0  # JSON-RPC: who we are


class Login:
    """What all workers share of one Odoo: which API, who we are, and whether the door is shut."""

    def __init__(self, config: OdooLogin) -> None:
        self._config = config
        self._lock = asyncio.Lock()
        self._server: Server | None = None
        self._shut_until = 0.0
        self._shut: Refused | None = None

    async def server(self, wire: Wire) -> Server:
        """Ask once; log in, where the API has a login. Raises Refused."""
        self._guard()
        if self._server is None:
            async with self._lock:
                self._guard()
                if self._server is None:
                    try:
                        self._server = await self._log_in(wire, await self.ask_version(wire))
                    except Refused as refused:
                        self.noticed(refused)
                        raise
        return self._server

    def noticed(self, refused: Refused) -> None:
        """A request was refused: if it was for the login, the door is shut for all workers."""
        if refused.outcome.login:
            self._shut, self._shut_until = refused, time.monotonic() + KNOCK_SECONDS
            self._server = None

    def _guard(self) -> None:
        if self._shut is not None and time.monotonic() < self._shut_until:
            raise Refused(dataclasses.replace(self._shut.outcome, reason=f"{self._shut.outcome.reason} ({_CLOSED})"))

    async def ask_version(self, wire: Wire) -> Server:
        """Ask the server, and choose the API. Raises Refused."""
        config = self._config
        read = await wire.send("/web/webclient/version_info", _VERSION_BODY, {}, reads=True)
        body = parse(read.body)
        found = body.get("result") if isinstance(body, dict) else None
        parts = found.get("server_version_info") if isinstance(found, dict) else None
        if read.status != 200 or not isinstance(found, dict) or not isinstance(parts, list) or not parts:
            raise refusal(read, fault_of(body))
        major = _major(parts[0])
        chosen = {"json2": True, "jsonrpc": False}.get(config.odoo_api)
        if chosen is None:
            chosen = major >= JSON2_SINCE and bool(config.odoo_api_key)
        return Server(str(found.get("server_version", major)), major, chosen)

    async def _log_in(self, wire: Wire, server: Server) -> Server:
        if server.json2:
            return server
        config = self._config
        missing = [
            key
            for key, value in (("ODOO_DATABASE", config.odoo_database), ("ODOO_USER", config.odoo_user))
            if not value
        ]
        if missing:
            reason = f"Odoo {server.version} is spoken to by JSON-RPC, which needs {' and '.join(missing)}"
            raise Refused(Outcome(Verdict.ENDPOINT, reason, login=True))
        arguments = [config.odoo_database, config.odoo_user, secret(config), {}]
        uid = await rpc(wire, "common", "authenticate", json.dumps(arguments), reads=True)
        if not isinstance(uid, int) or isinstance(uid, bool):
            raise Refused(Outcome(Verdict.ENDPOINT, "Odoo refused user and password or key", login=True))
        return dataclasses.replace(server, uid=uid)


def secret(config: OdooLogin) -> str:
    """What stands for the password: a key serves as one."""
    return config.odoo_api_key or config.odoo_password


def _major(part: object) -> int:
    """17, or "saas~17"."""
    digits = str(part).rpartition("~")[2][:4]
    return int(digits) if digits.isdecimal() else 0


_number = itertools.count(1)


async def rpc(wire: Wire, service: str, method: str, arguments: str, *, reads: bool) -> Any:
    """A call by JSON-RPC; `arguments` is a JSON array. Raises Refused: its answers are 200 whatever happens."""
    head = f'{{"jsonrpc":"2.0","method":"call","id":{next(_number)},"params":{{"service":"{service}",'
    request = f'{head}"method":"{method}","args":{arguments}}}}}'.encode()
    read = await wire.send("/jsonrpc", request, {}, reads=reads)
    body = parse(read.body)
    if read.status != 200 or not isinstance(body, dict) or "jsonrpc" not in body or body.get("error"):
        raise refusal(read, fault_of(body))
    return body.get("result")  # a method that returns None has none


class Api:
    """One worker's way to call methods."""

    def __init__(self, config: OdooLogin, login: Login, may_begin: Callable[[], bool] = always) -> None:
        self._config = config
        self._login = login
        self.wire = Wire(config, config.odoo_url, may_begin)

    async def server(self) -> Server:
        """Which server it is; asks, and logs in, if nobody has yet. Raises Refused."""
        return await self._login.server(self.wire)

    async def ask_version(self) -> Server:
        """Ask without a login. Raises Refused."""
        return await self._login.ask_version(self.wire)

    async def call(
        self,
        model: str,
        method: str,
        arguments: Mapping[str, Any],
        *,
        ids: list[int] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a method.

        Args:
            arguments: by name, as in Odoo 19; numbers of class Digits keep every digit.
            ids: of the records that it is a method of; None = of the model.

        Raises:
            Refused: whose failure it is.
        """
        server = await self.server()
        named = dict(arguments) | ({"context": context} if context is not None else {})
        try:
            if server.json2:
                return await self._json2(model, method, named | ({"ids": ids} if ids is not None else {}))
            config = self._config
            head = json.dumps([config.odoo_database, server.uid, secret(config), model, method])[:-1]
            positional: list[Any] = [] if ids is None else [ids]
            if len(arguments) == 1:
                # Before JSON-2 its name meant nothing: `write` alone is overridden with `values` 67 times in Odoo 17.
                positional.append(named.pop(next(iter(arguments))))
            whole = f"{head},{as_json(positional)},{as_json(named)}]"
            return await rpc(self.wire, "object", "execute_kw", whole, reads=method in READS)
        except Refused as refused:
            self._login.noticed(refused)
            raise

    async def perform(self, model: str, method: str, arguments: Mapping[str, Any], **more: Any) -> None:
        """`call` a method that is to do something. Raises Refused, also if it has asked a person instead."""
        asked = unfinished(await self.call(model, method, arguments, **more))
        if asked:
            detail = f"{model}.{method} answered with {asked} for a person to act on: nothing says that it did its work"
            raise Refused(Outcome(Verdict.MESSAGE, detail), splits=True, unfinished=True)

    async def _json2(self, model: str, method: str, named: Mapping[str, Any]) -> Any:
        headers = {"Authorization": f"bearer {self._config.odoo_api_key}"} | self.wire.database
        request = as_json(named).encode()
        read = await self.wire.send(f"/json/2/{model}/{method}", request, headers, reads=method in READS)
        body = parse(read.body)
        if read.status != 200 or (body is None and read.body.strip() != b"null"):
            raise refusal(read, fault_of(body))
        return body

    async def probe(self) -> Outcome:
        """Does it work, and does it know us? The cheapest call that needs the database."""
        try:
            await self.call("res.users", "context_get", {})
        except Refused as refused:
            return refused.outcome
        return Outcome(Verdict.DONE)

    def close(self) -> None:
        """Close the connection."""
        self.wire.close()
