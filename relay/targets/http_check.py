"""`receiver.py check` for TARGET=http: what the endpoint answers to a question that changes nothing there."""

import dataclasses
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

from relay.checks import of_clock
from relay.findings import Finding, failed, warning
from relay.targets.answer import NO_ANSWER, Answer, NoConnection, judge_error, timestamp
from relay.targets.client import Client, certificate
from relay.targets.settings import OverHttp
from relay.targets.success import is_page

PATIENCE = 10.0  # seconds for the answer
BODY_LIMIT = 4096

_DATE_STEP = 1.0  # seconds: a Date is cut off
_CREDENTIALS = "correct the credentials: HTTP_TOKEN, HTTP_USER and HTTP_PASSWORD, HTTP_HEADERS"
_REMEDIES = {
    401: _CREDENTIALS,
    403: "may this host, with these credentials, send there?",
    404: "is the path right?",
    407: "the proxy of HTTP_PROXY_URL wants a login",
    410: "is the path right?",
    429: "it takes no more for now; MAX_RATE limits what is sent",
    503: "it is in maintenance, or overloaded",
}
_LATER = (429, 503)  # it may be over by itself


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        setting: the one that names the URL.
        host: and port, for people.
        method, path, headers: of the request.
        telling: the answer says for certain whether events would be taken; else only some answers say something.
    """

    setting: str
    host: str
    method: str
    path: str
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    telling: bool


async def ask(config: OverHttp, url: str, question: Question) -> AsyncIterator[Finding]:
    """Ask, and tell what the answer means, and how the endpoint's clock goes."""
    client = _client(config, url)
    request = client.request(question.method, question.path, question.headers, b"")
    before = time.time()
    try:
        answer = await client.send(question.method, request, BODY_LIMIT)
    except NO_ANSWER as error:
        yield _no_answer(question, error)
        return
    finally:
        client.close()
    yield _judged(question, answer)
    theirs = timestamp(answer.date)
    if theirs is not None:
        yield of_clock(question.host, theirs, before - _DATE_STEP, time.time())
    for one in certificate(config, url):
        yield one


def _client(config: OverHttp, url: str) -> Client:
    return Client(dataclasses.replace(config, http_read_timeout=min(PATIENCE, config.http_read_timeout)), url)


def _no_answer(question: Question, error: Exception) -> Finding:
    name, reason = f"endpoint {question.host}", judge_error(error, 0.0).reason
    if isinstance(error, NoConnection) and error.tls:
        return failed(name, reason, _tls_remedy(error.__cause__, question))
    remedy = f"is {question.setting} right, and it up?"
    if not isinstance(error, NoConnection):
        remedy = f"does it work, and speak HTTP at this port, as {question.setting} says?"
    return dataclasses.replace(failed(name, reason, remedy), outage=True)


def _tls_remedy(error: BaseException | None, question: Question) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "expired" in error.verify_message:
            return "renew its certificate"
        return f"HTTP_CA_FILE names the authority that signed it; its name must be the host of {question.setting}"
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"it speaks no TLS at this port: correct the port in {question.setting}, or write http://"
    return "does it want a client certificate? HTTP_CERT_FILE and HTTP_KEY_FILE"


def _judged(question: Question, answer: Answer) -> Finding:
    """What is no refusal of the question itself says something of events, too."""
    name, status, page = f"endpoint {question.host}", answer.status, is_page(answer.body)
    said = f"HTTP {status} to {question.method}" + (" with a web page" if page else "")
    said += f", a redirect to {answer.leads_to}" if answer.leads_to else ""
    remedy = _REMEDIES.get(status, "")
    if 300 <= status < 400:
        remedy = f"write where it leads to into {question.setting}: redirects are not followed"
    elif status >= 500 and (question.telling or status != HTTPStatus.NOT_IMPLEMENTED):
        remedy = remedy or "look at its log"
    if status in _LATER or (question.telling and status >= 500):
        return dataclasses.replace(failed(name, said, remedy), outage=True)
    if question.telling and not 200 <= status < 300:
        return failed(name, said, remedy or f"is {question.setting} right?")
    if status in (401, 407):
        return failed(name, said, remedy)
    if not question.telling and (remedy or (page and status < 300)):
        why = remedy or "a login, a captive portal?"
        return warning(
            name, said, f"{why} (if events are taken all the same, HTTP_CHECK_URL names what to ask instead)"
        )
    return Finding(name, detail=said)
