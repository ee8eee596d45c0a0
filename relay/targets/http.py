"""TARGET=http: one request an event, to any endpoint: the event as it is, or through small templates.

Built on requests' transport adapter (connection pool, TLS, proxies) without its Session: the Session's cookies,
redirects and environment are what we must not have, and they take a third of its time (1,700/s against 2,550/s).
"""

import base64
import hashlib
import hmac
import socket
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from relay.config import Receive
from relay.delivery import Delivery, Event, Finding, Outcome, Verdict
from relay.targets import answer
from relay.targets.template import Context, Missing, as_text, has_fields, in_header, in_url, render, render_json


class HttpTarget:
    """POST the event to HTTP_URL, or what the templates make of it."""

    batch_size = 1

    def __init__(self, config: Receive) -> None:
        self._config = config

    def group(self, _event: Event) -> str:
        """One event a request: the group does not matter."""
        return ""

    def open(self) -> "HttpLink":
        """A link with a connection of its own."""
        return HttpLink(self._config)

    def check(self) -> Iterator[Finding]:
        """See Target. Nothing is sent: only whether somebody listens there."""
        parts = urlsplit(self._config.http_proxy_url or self._config.http_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        name = f"{parts.hostname}:{port}"
        try:
            socket.create_connection((parts.hostname or "", port), self._config.http_connect_timeout).close()
        except OSError as error:
            yield Finding(name, ok=False, said=error.strerror or str(error), remedy="is HTTP_URL right, and it up?")
        else:
            yield Finding(name, ok=True, said="takes connections")


class HttpLink:
    """One thread's connection."""

    def __init__(self, config: Receive) -> None:
        self._config = config
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._template = requests.Request("POST", config.http_url, headers=_credentials(config)).prepare()
        self._plain_url = not has_fields(config.http_url)
        self._proxies = {"http": config.http_proxy_url, "https": config.http_proxy_url} if config.http_proxy_url else {}
        self._cert = (config.http_cert_file, config.http_key_file) if config.http_cert_file else None

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
        try:
            request = self._prepare(delivery)
        except Missing as error:
            return Outcome(Verdict.MESSAGE, f"template: {error}")
        except (requests.RequestException, UnicodeError, ValueError) as error:
            return Outcome(Verdict.MESSAGE, f"no request can be made of it: {type(error).__name__}")
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
                read = answer.read(response, started + config.http_connect_timeout + config.http_read_timeout)
            finally:
                response.raw.release_conn()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # The server may go on working on what we no longer wait for, and commit late.
            left = config.http_time_limit - (time.monotonic() - started)
            return answer.judge_error(error, running=max(0.0, left))
        success = config.success_status.get(delivery.event.op, config.success_status[""])
        return answer.judge(read, success)

    def _prepare(self, delivery: Delivery) -> requests.PreparedRequest:
        config, event, request = self._config, delivery.event, self._template.copy()
        context = Context(event)
        request.method = config.http_method.get(event.op, config.http_method[""])
        if not self._plain_url:
            request.prepare_url(render(config.http_url, context, in_url), None)
        body, kind = _body(config.http_body, event, context) if request.method not in ("GET", "DELETE") else (b"", "")
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        request.headers["User-Agent"] = "relay"
        if kind:
            request.headers["Content-Type"] = kind
        request.headers.update(_own_headers(delivery))
        for name, value in config.http_headers:
            request.headers[name] = render(value, context, in_header)
        if config.webhook_secret:
            request.headers.update(_signature(config.webhook_secret, event.id, body))
        return request


def _body(template: str, event: Event, context: Context) -> tuple[bytes, str]:
    """The request's body and its type."""
    if not template:
        return event.body, in_header(event.content_type) or "application/octet-stream"
    if template.lstrip()[:1] in ("{", "["):
        return render_json(template, context).encode(), "application/json"
    return render(template, context, as_text).encode(), "text/plain; charset=utf-8"


def _credentials(config: Receive) -> dict[str, str]:
    if config.http_token:
        return {"Authorization": f"Bearer {config.http_token}"}
    if config.http_user:
        pair = f"{config.http_user}:{config.http_password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _own_headers(delivery: Delivery) -> dict[str, str]:
    event = delivery.event
    headers = {"Relay-Attempt": str(delivery.attempt)}
    if event.id:
        headers["Relay-Event"] = _readable(event.id)
    if event.key:
        headers["Relay-Key"] = _readable(event.key)
    return headers


def _signature(secret: bytes, event_id: str, body: bytes) -> dict[str, str]:
    """Standard Webhooks 1.0: HMAC-SHA256 over id, time and body. The id stays the same over all attempts."""
    sent, name = str(int(time.time())), _readable(event_id)
    digest = hmac.new(secret, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": sent,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _readable(text: str) -> str:
    """A header's value: printable ASCII as it is, `%` and all else percent-encoded as UTF-8."""
    return "".join(c if " " <= c <= "~" and c != "%" else in_url(c) for c in text)
