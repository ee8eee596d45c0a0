"""HTTP to Odoo: one connection of a thread; what goes wrong on the way becomes `Refused`."""

import time
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from relay.config import Receive
from relay.targets import answer
from relay.targets.answer import Answer
from relay.targets.odoo.failures import Refused

BODY_LIMIT = 8 << 20  # bytes: `fields_get` of a large model takes some hundred kilobytes, a traceback not much less


class Wire:
    """Requests below `base`.

    Args:
        config: timeouts, TLS, proxy, Host header.
        base: a URL without query; paths are appended to it.
    """

    def __init__(self, config: Receive, base: str) -> None:
        self._config = config
        self._base = base.rstrip("/")
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._proxies = {"http": config.http_proxy_url, "https": config.http_proxy_url} if config.http_proxy_url else {}
        self._cert = (config.http_cert_file, config.http_key_file) if config.http_cert_file else None

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return urlsplit(self._base).netloc

    @property
    def database(self) -> dict[str, str]:
        """The header that chooses the database, where a path or a body does not. Odoo 19 and newer read it."""
        return {"X-Odoo-Database": self._config.odoo_database} if self._config.odoo_database else {}

    def send(self, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """POST a JSON body, or GET if there is none. Raises Refused if there is no whole answer."""
        config, started = self._config, time.monotonic()
        # Odoo chooses the database by the Host header where dbfilter says so.
        own = {"User-Agent": "relay"} | ({"Host": config.odoo_host} if config.odoo_host else {})
        if body is not None:
            own["Content-Type"] = "application/json"
        method = "GET" if body is None else "POST"
        request = requests.Request(method, self._base + path, headers=own | headers, data=body).prepare()
        try:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=(config.http_connect_timeout, config.http_read_timeout),
                verify=config.http_ca_file or True,
                cert=self._cert,
                proxies=self._proxies,
            )
            try:
                deadline = started + config.http_connect_timeout + config.http_read_timeout
                return answer.read(response, deadline, limit=BODY_LIMIT)
            finally:
                response.raw.release_conn()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # A client that has gone does not stop Odoo: it goes on until limit_time_real, and commits late.
            left = config.http_time_limit - (time.monotonic() - started)
            raise Refused(answer.judge_error(error, running=max(0.0, left))) from None

    def close(self) -> None:
        """Close the connection."""
        self._adapter.close()
