"""Reading and judging an HTTP answer. The table `BY_STATUS` is the policy, in the code and in docs/delivery.md."""

import codecs
import contextlib
import dataclasses
import datetime
import http.client
import json
import ssl
import time
import zlib
from collections.abc import Collection
from urllib.parse import urlsplit, urlunsplit

from relay.delivery import DONE, Outcome, Verdict
from relay.errors import one_line

ANSWER_LIMIT = 1 << 20  # bytes of a body that are read to judge it; what follows is dropped with the connection
CODINGS_MAX, CODING_MAX = 3, 40  # Content-Encoding: names of which a body is freed; characters of one that are quoted
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
    503: Verdict.ENDPOINT,  # in maintenance or overloaded
    # Not 502 and 504, as no broken connection: what a proxy says of a worker that one event has killed.
}
_ZLIB_OR_GZIP, _RAW = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
TIMED_OUT = (504, 524)  # a proxy gave up waiting (524: Cloudflare)
_LOGIN = (401, 407)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What was read of an answer."""

    status: int
    content_type: str
    body: bytes
    retry_after: float
    running: float = 0.0  # the request may still run on the server: seconds until it surely does not
    date: str = ""  # when it says that it answered, as `timestamp` reads it
    coding: str = ""  # of the body, where that can't be read
    leads_to: str = ""  # of a redirect: where to, as it may be shown

    def quoted(self) -> str:
        """The body's beginning for a person: decoded whatever it holds, control characters escaped."""
        text = " ".join(self.body[: 4 * REASON_LIMIT].decode("utf-8", "replace").split())[:REASON_LIMIT]
        return text if text.isprintable() else json.dumps(text)[1:-1]


class NoConnection(Exception):
    """None could be opened; the cause says why. `tls`: the server is there, but not as one we trust, or trusts us."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__()
        self.tls = tls


NO_ANSWER = (NoConnection, OSError, http.client.HTTPException)
"""What a request without a whole answer raises."""


def judge(answer: Answer, success: Collection[int]) -> Outcome:
    """Whose failure is it, as far as the answer itself tells?"""
    if answer.status in success:
        return DONE
    said, status = answer.quoted(), f"HTTP {answer.status}"
    if answer.leads_to:
        status += f", a redirect to {answer.leads_to}, which is not followed"
    return Outcome(
        BY_STATUS.get(answer.status, Verdict.UNCLEAR),
        status + (f": {said}" if said else ""),
        wait=answer.retry_after,
        login=answer.status in _LOGIN,
        running=answer.running,
    )


def judge_error(error: Exception, running: float) -> Outcome:
    """The same for a request without an answer. `running`: seconds that the server may still work on it."""
    if isinstance(error, NoConnection):
        what = "no TLS connection" if error.tls else "no connection"
        return Outcome(Verdict.ENDPOINT, f"{what}: {one_line(error.__cause__)}")
    if isinstance(error, TimeoutError):
        return Outcome(Verdict.UNCLEAR, "no answer in time", running=running)
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        # TLS 1.3 refuses us after the handshake. What breaks later may break by this one event.
        return Outcome(Verdict.ENDPOINT, f"no TLS connection: {one_line(error)}", likely=True)
    return Outcome(Verdict.UNCLEAR, f"the connection broke: {one_line(error)}")


def shown(location: str) -> str:
    """Where a redirect leads to, for a person: without what may be a secret of it."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    where = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:REASON_LIMIT]
    return where if where.isprintable() else ""


def decoded(body: bytes, codings: str) -> tuple[bytes, str]:
    """A body without its Content-Encoding, which nobody has asked for: what it says counts all the same.

    At most ANSWER_LIMIT bytes, in UTF-8 where a byte order mark tells of another encoding; as it came, where it is
    not what the header says. And the coding that can't be read, or "".
    """
    names = codings.lower().split(",") if body else []
    if len(names) > CODINGS_MAX:  # a header holds ten thousand, and each takes as long as a megabyte does
        return body, f"{len(names)} codings"
    for coding in reversed(names):  # RFC 9110, 8.4: in the order they were applied
        match coding.strip():
            case "" | "identity":
                pass
            case "gzip" | "x-gzip" | "deflate":
                body = _unpacked(body)
            case other:
                return body, other[:CODING_MAX]
    for bom, encoding in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(encoding, "replace").encode()[:ANSWER_LIMIT], ""
    return body, ""


def _unpacked(body: bytes) -> bytes:
    for wbits in (_ZLIB_OR_GZIP, _RAW):  # some servers' "deflate" is the latter
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(wbits).decompress(body, ANSWER_LIMIT)
    return body


def retry_after(text: str, date: str) -> float:
    """Seconds to wait; nonsense counts as nothing (the back-off waits by itself).

    Args:
        text: the header Retry-After: seconds, or a date.
        date: the header Date: a date is meant by the endpoint's clock, which need not agree with ours.
    """
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_MAX)
    until = timestamp(text)
    if until is None:
        return 0.0
    now = timestamp(date)
    return min(max(0.0, until - (time.time() if now is None else now)), RETRY_AFTER_MAX)


def timestamp(text: str) -> float | None:
    """Seconds since the epoch; None = not a date as HTTP has it."""
    for form in _DATES:
        try:
            return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC).timestamp()
        except ValueError:
            continue
    return None
