"""TARGET=http: one request an event, to any endpoint: the event as it is, or through small templates."""

import base64
import dataclasses
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

import requests

from relay import urls, values
from relay.config import Endpoint, setting
from relay.delivery import DONE, NOT_TRIED, Delivery, Event, Outcome, Verdict, always
from relay.envfile import Problem
from relay.findings import Finding
from relay.targets import answer, http_check, settings, success
from relay.targets.client import Client, NotBegun, tls
from relay.targets.template import (
    Context,
    Missing,
    as_text,
    coding,
    has_fields,
    in_header,
    in_url,
    render,
    render_json,
    render_url,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(settings.OverHttp):
    """What TARGET=http reads."""

    success_status: settings.Success = setting(settings.success_status, "200")
    success_body: settings.SuccessBody = setting(settings.success_body, "")
    http_url: str = setting(urls.http_url, "")
    http_check_url: str = setting(urls.http_url, "")
    http_method: settings.PerOp = setting(settings.http_method, "POST")
    http_body: str = setting(values.text, "")
    http_headers: tuple[tuple[str, str], ...] = setting(settings.http_headers, "", secret=True)
    http_token: str = setting(settings.header_text, "", secret=True)
    http_user: str = setting(values.text, "")
    http_password: str = setting(values.text, "", secret=True)
    webhook_secret: bytes = setting(settings.webhook_secret, "", secret=True)

    def contradictions(self) -> list[Problem]:
        """See config.Common."""
        missing = [] if self.http_url else [("TARGET=http needs HTTP_URL", "set HTTP_URL=http://host:port/path")]
        return super().contradictions() + missing

    def endpoint(self) -> Endpoint:
        """See config.Receive."""
        secrets = {
            "HTTP_TOKEN": self.http_token, "HTTP_PASSWORD": self.http_password, "WEBHOOK_SECRET": self.webhook_secret,
            "HTTP_HEADERS": any(settings.SECRET_HEADER.search(name) for name, _value in self.http_headers),
        }  # fmt: skip
        sent = tuple(key for key, value in secrets.items() if value)
        return Endpoint("HTTP_URL", self.http_url, sent, self.http_proxy_url)


class HttpTarget:
    """POST the event to HTTP_URL, or what the templates make of it."""

    batch_size = 1

    def __init__(self, config: Settings) -> None:
        tls(config)
        self._config = config

    def group(self, _event: Event) -> str:
        """One event a request: the group does not matter."""
        return ""

    def open(self, may_begin: Callable[[], bool] = always) -> "HttpLink":
        """A link with a connection of its own."""
        return HttpLink(self._config, may_begin)

    def describe(self, _event: Event) -> list[str]:
        """See Target."""
        return []

    async def check(self) -> AsyncIterator[Finding]:
        """See Target. No event is sent: HTTP_CHECK_URL is asked by GET, or else HTTP_URL by OPTIONS, which is safe and
        told to most frameworks without running what is behind it (RFC 9110, 9.2.1 and 9.3.7).
        """
        config = self._config
        setting, method, url = "HTTP_CHECK_URL", "GET", config.http_check_url
        if not url:
            setting, method, url = "HTTP_URL", "OPTIONS", config.http_url
            if has_fields(url):  # then only the path before the first one: whatever lies there
                parts = urlsplit(url.partition("{")[0])
                url = f"{parts.scheme}://{parts.netloc}{parts.path.rpartition('/')[0]}/"
        prepared = requests.Request("GET", url).prepare()
        headers = {}
        if urlsplit(url)[:2] == urlsplit(config.http_url)[:2]:  # the credentials are for nobody else
            headers = _credentials(config) | {key: value for key, value in config.http_headers if not has_fields(value)}
        question = http_check.Question(
            setting, urlsplit(url).netloc, method, prepared.path_url, headers, telling=method == "GET"
        )
        async for finding in http_check.ask(config, prepared.url or url, question):
            yield finding


class HttpLink:
    """One worker's connection."""

    def __init__(self, config: Settings, may_begin: Callable[[], bool]) -> None:
        self._config = config
        self._prepared = requests.Request("POST", config.http_url).prepare()
        self._client = Client(config, self._prepared.url or "", may_begin)
        self._plain_url = not has_fields(config.http_url)
        self._headers = _credentials(config)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        return [await self._deliver(delivery) for delivery in batch]

    async def probe(self) -> Outcome | None:
        """There is no way to ask a plain endpoint."""
        return None

    def close(self) -> None:
        """See Link."""
        self._client.close()

    async def _deliver(self, delivery: Delivery) -> Outcome:
        config, event = self._config, delivery.event
        method = config.http_method.get(event.op, config.http_method[""])
        try:
            request = self._prepare(delivery, method)
        except Missing as error:
            return Outcome(Verdict.MESSAGE, f"template: {error}")
        except ValueError as error:  # requests' InvalidURL is one
            return Outcome(Verdict.MESSAGE, f"no request can be made of it: {type(error).__name__}")
        try:
            found = await self._client.send(method, request, answer.ANSWER_LIMIT)
        except NotBegun:
            return NOT_TRIED
        except answer.NO_ANSWER as error:
            # The server may go on working on what we no longer wait for, and commit late.
            return answer.judge_error(error, self._client.running())
        outcome = answer.judge(found, config.success_status.get(event.op, config.success_status[""]))
        return success.judge(found, config.success_body) if outcome is DONE else outcome

    def _prepare(self, delivery: Delivery, method: str) -> bytes:
        config, event = self._config, delivery.event
        context = Context(event)
        if not self._plain_url:
            self._prepared.prepare_url(render_url(config.http_url, context), None)
        body, kind = _body(config.http_body, event, context) if method not in ("GET", "DELETE") else (b"", "")
        headers = self._headers | ({"Content-Type": kind} if kind else {}) | _own_headers(delivery)
        if body and not config.http_body and (name := coding(event)):
            headers["Content-Encoding"] = name
        for name, value in config.http_headers:
            headers[name] = render(value, context, in_header)
        if config.webhook_secret:
            headers |= _signature(config.webhook_secret, event.id, body)
        return self._client.request(method, self._prepared.path_url, headers, body)


def _body(template: str, event: Event, context: Context) -> tuple[bytes, str]:
    """The request's body and its type."""
    if not template:
        return event.body, in_header(event.content_type) or "application/octet-stream"
    if template.lstrip()[:1] in ("{", "["):
        return render_json(template, context).encode(), "application/json"
    return render(template, context, as_text).encode(), "text/plain; charset=utf-8"


def _credentials(config: Settings) -> dict[str, str]:
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
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return "".join(c if " " <= c <= "~" and c != "%" else in_url(c) for c in text)
