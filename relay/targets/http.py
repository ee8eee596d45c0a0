"""TARGET=http: one request an event, to any endpoint.

Built on requests' transport adapter (connection pool, TLS, proxies) without its Session: the Session's cookies,
redirects and environment are what we must not have, and they take a third of its time (1,700/s against 2,550/s).
"""

import time
import urllib.parse
from collections.abc import Sequence

import requests
import requests.adapters
import urllib3.exceptions

from relay.config import Receive
from relay.delivery import Delivery, Event, Outcome
from relay.targets import answer


class HttpTarget:
    """POST the event's body to HTTP_URL."""

    batch_size = 1

    def __init__(self, config: Receive) -> None:
        self._config = config

    def group(self, _event: Event) -> str:
        """One event a request: the group does not matter."""
        return ""

    def open(self) -> "HttpLink":
        """A link with a connection of its own."""
        return HttpLink(self._config)


class HttpLink:
    """One thread's connection."""

    def __init__(self, config: Receive) -> None:
        self._config = config
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._template = requests.Request("POST", config.http_url).prepare()

    def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        return [self._deliver(delivery) for delivery in batch]

    def probe(self) -> Outcome | None:
        """There is no way to ask a plain endpoint."""
        return None

    def close(self) -> None:
        """See Link."""
        self._adapter.close()

    def _deliver(self, delivery: Delivery) -> Outcome:
        config, started = self._config, time.monotonic()
        request = self._template.copy()
        request.body = delivery.event.body
        request.headers["Content-Length"] = str(len(delivery.event.body))
        request.headers.update(_headers(delivery))
        try:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=(config.http_connect_timeout, config.http_read_timeout),
                verify=True,
            )
            try:
                read = answer.read(response, started + config.http_connect_timeout + config.http_read_timeout)
            finally:
                response.raw.release_conn()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return answer.judge_error(error, running=0.0)
        return answer.judge(read, (200,))


def _headers(delivery: Delivery) -> dict[str, str]:
    event = delivery.event
    headers = {
        "Content-Type": event.content_type or "application/octet-stream",
        "User-Agent": "relay",
        "Relay-Attempt": str(delivery.attempt),
    }
    if event.id:
        headers["Relay-Event"] = _printable(event.id)
    if event.key:
        headers["Relay-Key"] = _printable(event.key)
    return headers


def _printable(text: str) -> str:
    """Header values are latin-1 without control characters: anything else is percent-encoded."""
    return urllib.parse.quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~")
