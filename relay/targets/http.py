"""TARGET=http: one request an event, to any endpoint: the event as it is, or through small templates."""

import base64
import dataclasses
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

import requests

from relay import files, urls, values
from relay.config import Endpoint
from relay.delivery import NOT_TRIED, Delivery, Event, Outcome, Verdict, always
from relay.envfile import Problem
from relay.findings import Finding
from relay.setting import setting
from relay.targets import answer, http_batch, http_check, settings, success
from relay.targets.answer import Answer
from relay.targets.client import Client, NotBegun, check_tls_files
from relay.targets.headers import readable, sent
from relay.targets.http_batch import FORMATS, MOST, Batches, Part
from relay.targets.template import (
    Context,
    Missing,
    as_text,
    coding,
    has_fields,
    in_header,
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
    http_body: str = setting(settings.template, "")
    http_body_delete: str = setting(settings.template, "")
    http_batch: int = setting(values.whole(1, MOST), "1")
    http_batch_format: str = setting(values.one_of(*FORMATS), "array")
    http_batch_answer: str = setting(values.one_of("whole", "items"), "whole")
    http_headers: tuple[tuple[str, str], ...] = setting(settings.http_headers, "", secret=True)
    http_token: files.Secret = setting(settings.header_text, "", secret=True, reread=True)
    http_user: str = setting(values.text, "")
    http_password: str = setting(values.text, "", secret=True)
    webhook_secret: bytes = setting(settings.webhook_secret, "", secret=True)

    def contradictions(self) -> list[Problem]:
        """See config.Common."""
        found = super().contradictions()
        if not self.http_url:
            found.append(("TARGET=http needs HTTP_URL", "set HTTP_URL=http://host:port/path"))
        try:
            settings.template(self.http_url)
        except values.Invalid as error:
            found.append((f"HTTP_URL: {error.what}", error.remedy))
        if self.http_batch > 1:
            found += http_batch.problems(
                self.order, self.http_url, self.http_headers, self.http_method, (self.http_body, self.http_body_delete)
            )
        return found

    def template_for(self, event: Event) -> str:
        """Of the body; empty = the event as it is."""
        return (event.op == "delete" and self.http_body_delete) or self.http_body

    def is_success(self, op: str, status: int) -> bool:
        """Is the status of an answer a success, for an event of this op?"""
        return status in self.success_status.get(op, self.success_status[""])

    def endpoint(self) -> Endpoint:
        """See config.Receive."""
        secrets = {
            "HTTP_TOKEN": self.http_token.now(), "HTTP_PASSWORD": self.http_password,
            "WEBHOOK_SECRET": self.webhook_secret,
            "HTTP_HEADERS": any(settings.SECRET_HEADER.search(name) for name, _value in self.http_headers),
        }  # fmt: skip
        sent = tuple(key for key, value in secrets.items() if value)
        return Endpoint("HTTP_URL", self.http_url, sent, self.http_proxy_url)


class HttpTarget:
    """POST the event to HTTP_URL, or what the templates make of it."""

    def __init__(self, config: Settings) -> None:
        check_tls_files(config)
        self._config = config
        self.batch_size = config.http_batch
        self._batches = Batches(by_item=config.http_batch_answer == "items", is_success=config.is_success)

    def group(self, _event: Event) -> str:
        """Any may share a request."""
        return ""

    def open(self, may_begin: Callable[[], bool] = always) -> "HttpLink":
        """A link with a connection of its own."""
        return HttpLink(self._config, self._batches, may_begin)

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

    def __init__(self, config: Settings, batches: Batches, may_begin: Callable[[], bool]) -> None:
        self._config = config
        self._batches = batches
        self._prepared = requests.Request("POST", config.http_url).prepare()
        self._client = Client(config, self._prepared.url or "", may_begin)
        self._plain_url = not has_fields(config.http_url)
        self._credentials = _credentials(config)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        if self._config.http_batch == 1:
            return [await self._deliver(delivery) for delivery in batch]
        outcomes, parts = dict[int, Outcome](), dict[int, Part]()
        for at, delivery in enumerate(batch):
            try:
                parts[at] = http_batch.part_of(delivery, self._config.template_for(delivery.event))
            except Missing as error:
                outcomes[at] = Outcome(Verdict.MESSAGE, f"template: {error}")
        sent = await self._batches.send(list(parts.values()), self._send_together)
        outcomes |= dict(zip(parts, sent, strict=True))
        return [outcomes[at] for at in range(len(batch))]

    async def _send_together(self, parts: Sequence[Part]) -> tuple[Answer | None, Outcome]:
        config = self._config
        body, kind = http_batch.body_of(parts, config.http_batch_format)
        ids = [part.delivery.event.id for part in parts]
        headers = (
            _credentials(config) | {"Content-Type": kind} | http_batch.own_headers(parts) | dict(config.http_headers)
        )
        if config.webhook_secret:
            headers |= _signature(config.webhook_secret, http_batch.name_of(ids), body)
        request = self._client.request(config.http_method[""], self._prepared.path_url, headers, body)
        return await self._send(config.http_method[""], request, "")

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
        return (await self._send(method, request, event.op))[1]

    async def _send(self, method: str, request: bytes, op: str) -> tuple[Answer | None, Outcome]:
        """The answer, if there is one, and what it means. `op`: whose SUCCESS_STATUS counts; empty = that of all."""
        config = self._config
        try:
            found = await self._client.send(method, request, answer.ANSWER_LIMIT)
        except NotBegun:
            return None, NOT_TRIED
        except answer.NO_ANSWER as error:
            # The server may go on working on what we no longer wait for, and commit late.
            return None, answer.judge_error(error, self._client.running())
        if config.is_success(op, found.status):
            return found, success.judge(found, config.success_body)
        outcome = answer.judge(found, ())
        if config.http_token.renewed:  # what is wrong now may be right the next time
            outcome = dataclasses.replace(outcome, login=False)
        return found, outcome

    def _own(self) -> dict[str, str]:
        """Our credentials; made anew where they may have changed."""
        return _credentials(self._config) if self._config.http_token.renewed else self._credentials

    def _prepare(self, delivery: Delivery, method: str) -> bytes:
        config, event = self._config, delivery.event
        context = Context(event)
        if not self._plain_url:
            self._prepared.prepare_url(render_url(config.http_url, context), None)
        template = config.template_for(event)
        body, kind = _body(template, event, context) if method not in ("GET", "DELETE") else (b"", "")
        headers = self._own() | ({"Content-Type": kind} if kind else {})
        headers |= sent(event) | _own_headers(delivery)
        if body and not template and (name := coding(event)):
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
    if token := config.http_token.now():
        return {"Authorization": f"Bearer {token}"}
    if config.http_user:
        pair = f"{config.http_user}:{config.http_password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _own_headers(delivery: Delivery) -> dict[str, str]:
    event = delivery.event
    headers = {"Relay-Attempt": str(delivery.attempt)}
    if event.id:
        headers["Relay-Event"] = readable(event.id)
    if event.key:
        headers["Relay-Key"] = readable(event.key)
    return headers


def _signature(secret: bytes, event_id: str, body: bytes) -> dict[str, str]:
    """Standard Webhooks 1.0: HMAC-SHA256 over id, time and body. The id stays the same over all attempts."""
    sent, name = str(int(time.time())), readable(event_id)
    digest = hmac.new(secret, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": sent,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
