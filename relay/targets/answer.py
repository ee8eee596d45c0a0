"""Reading and judging an HTTP answer. The table `BY_STATUS` is the policy, in the code and in docs/delivery.md."""

import dataclasses
import datetime
import json
import time
from collections.abc import Collection

import requests
import urllib3.exceptions

from relay.delivery import DONE, Outcome, Verdict

ANSWER_LIMIT = 65_536  # bytes of a body that are read to judge it; what follows is dropped with the connection
REASON_LIMIT = 200  # characters of a body that are quoted
RETRY_AFTER_MAX = 3600.0  # seconds: an endpoint must not be able to switch us off for a week
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")  # RFC 9110, 5.6.7

# Sure signs, whoever else succeeds or fails. Every other status is judged by evidence (Verdict.UNCLEAR).
BY_STATUS: dict[int, Verdict] = {
    400: Verdict.MESSAGE,  # it can't read it
    413: Verdict.MESSAGE,  # too large
    414: Verdict.MESSAGE,  # its URL is too long
    415: Verdict.MESSAGE,  # not a type that it takes
    422: Verdict.MESSAGE,  # it has read and refused it
    401: Verdict.ENDPOINT,  # our credentials
    407: Verdict.ENDPOINT,  # our credentials, at the proxy
    429: Verdict.ENDPOINT,  # too many requests
    502: Verdict.ENDPOINT,  # a proxy: nobody behind it
    503: Verdict.ENDPOINT,  # in maintenance or overloaded
    504: Verdict.ENDPOINT,  # a proxy: nobody answered behind it
}
_LOGIN = (401, 407)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What was read of an answer."""

    status: int
    content_type: str
    body: bytes
    retry_after: float

    def quoted(self) -> str:
        """The body's beginning for a person: decoded whatever it holds, control characters escaped."""
        text = " ".join(self.body[: 4 * REASON_LIMIT].decode("utf-8", "replace").split())[:REASON_LIMIT]
        return text if text.isprintable() else json.dumps(text)[1:-1]


def read(response: requests.Response, deadline: float, limit: int = ANSWER_LIMIT) -> Answer:
    """Read at most `limit` bytes of the body, until `deadline` (monotonic seconds).

    Raises:
        requests.RequestException, urllib3.exceptions.HTTPError: the answer broke off, or came too slowly.
    """
    pieces, size, whole = [], 0, False
    while size < limit:
        piece = response.raw.read1(min(limit - size, ANSWER_LIMIT), decode_content=True)
        if not piece:
            whole = True
            break
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > deadline:
            response.close()
            raise urllib3.exceptions.ReadTimeoutError(None, None, "the answer's body came too slowly")  # type: ignore[arg-type]
    if not whole:
        response.close()  # not drained: it may be without end
    return Answer(
        response.status_code,
        response.headers.get("Content-Type", ""),
        b"".join(pieces),
        retry_after(response.headers.get("Retry-After", ""), response.headers.get("Date", "")),
    )


def judge(answer: Answer, success: Collection[int]) -> Outcome:
    """Whose failure is it, as far as the answer itself tells?"""
    if answer.status in success:
        return DONE
    said = answer.quoted()
    return Outcome(
        BY_STATUS.get(answer.status, Verdict.UNCLEAR),
        f"HTTP {answer.status}" + (f": {said}" if said else ""),
        wait=answer.retry_after,
        login=answer.status in _LOGIN,
    )


def judge_error(error: Exception, running: float) -> Outcome:
    """The same for a request without an answer. `running`: seconds that the server may still work on it."""
    causes = list(_causes(error))
    if any(isinstance(cause, requests.ConnectTimeout | urllib3.exceptions.NewConnectionError) for cause in causes):
        return Outcome(Verdict.ENDPOINT, f"no connection: {_innermost(causes)}")
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
        return Outcome(Verdict.ENDPOINT, f"no TLS connection: {_innermost(causes)}")
    if any(isinstance(c, requests.Timeout | TimeoutError | urllib3.exceptions.ReadTimeoutError) for c in causes):
        return Outcome(Verdict.UNCLEAR, "no answer in time", running=running)
    if any(isinstance(c, requests.ConnectionError | ConnectionError | urllib3.exceptions.HTTPError) for c in causes):
        return Outcome(Verdict.ENDPOINT, f"the connection broke: {_innermost(causes)}")
    return Outcome(Verdict.UNCLEAR, f"the request failed: {type(error).__name__}")


def retry_after(text: str, date: str) -> float:
    """Seconds to wait; nonsense counts as nothing (the back-off waits by itself).

    Args:
        text: the header Retry-After: seconds, or a date.
        date: the header Date: a date is meant by the endpoint's clock, which need not agree with ours.
    """
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_MAX)
    until = _timestamp(text)
    if until is None:
        return 0.0
    now = _timestamp(date)
    return min(max(0.0, until - (time.time() if now is None else now)), RETRY_AFTER_MAX)


def _timestamp(text: str) -> float | None:
    """Seconds since the epoch; None = not a date as HTTP has it."""
    for form in _DATES:
        try:
            return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC).timestamp()
        except ValueError:
            continue
    return None


def _causes(error: BaseException | None) -> "list[BaseException]":
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = [arg for arg in error.args if isinstance(arg, BaseException)]
        error = inner[0] if inner else getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(error, BaseException):
            break
    return found


def _innermost(causes: "list[BaseException]") -> str:
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(causes[-1]).__name__
