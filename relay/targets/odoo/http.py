"""HTTP to Odoo: one connection of a worker; what goes wrong on the way becomes `Refused`."""

from collections.abc import Callable
from urllib.parse import urlsplit

import requests

from relay.delivery import NOT_TRIED, Outcome, Verdict, always
from relay.targets import answer
from relay.targets.answer import Answer
from relay.targets.bisection import Refused
from relay.targets.client import Client, NotBegun
from relay.targets.odoo.settings import OdooServer

BODY_LIMIT = 8 << 20  # bytes: `fields_get` of a large model takes some hundred kilobytes, a traceback not much less


class Wire:
    """Requests below `base`.

    Args:
        config: timeouts, TLS, proxy, Host header.
        base: a URL without query; paths are appended to it.
        may_begin: as Client's.
    """

    def __init__(self, config: OdooServer, base: str, may_begin: Callable[[], bool] = always) -> None:
        self._config = config
        url = requests.Request("GET", base).prepare().url or ""
        self._base = urlsplit(url.rstrip("/"))
        self._client = Client(config, url, may_begin)

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return self._base.netloc

    @property
    def database(self) -> dict[str, str]:
        """The header that chooses the database, where a path or a body does not. Odoo 19 and newer read it."""
        return {"X-Odoo-Database": self._config.odoo_database} if self._config.odoo_database else {}

    async def send(self, path: str, body: bytes | None, headers: dict[str, str], *, reads: bool = False) -> Answer:
        """POST a JSON body, or GET if there is none. `reads`: see Client. Raises Refused: no whole answer."""
        config = self._config
        # Odoo chooses the database by the Host header where dbfilter says so.
        own = {"Host": config.odoo_host} if config.odoo_host else {}
        if body is not None:
            own["Content-Type"] = "application/json"
        method = "GET" if body is None else "POST"
        try:
            request = self._client.request(method, self._base.path + path, own | headers, body or b"")
        except ValueError:
            detail = "ODOO_DATABASE can't be sent in a header: it takes ASCII and Western European letters"
            raise Refused(Outcome(Verdict.ENDPOINT, detail)) from None
        try:
            return await self._client.send(method, request, BODY_LIMIT, reads=reads or body is None)
        except NotBegun:
            raise Refused(NOT_TRIED) from None
        except answer.NO_ANSWER as error:
            # A client that has gone does not stop Odoo: it goes on until limit_time_real, and commits late.
            lost = not isinstance(error, answer.NoConnection)
            raise Refused(answer.judge_error(error, self._client.running()), lost=lost) from None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
