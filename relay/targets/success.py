"""An answer whose status says success: does its body agree? For TARGET=http, whose endpoint may be anything."""

import re

from relay.delivery import DONE, Outcome, Verdict
from relay.targets.answer import Answer
from relay.targets.settings import SuccessBody, without_space

# Whatever the Content-Type says: Flask, PHP and Odoo answer `ok` as text/html. A comment or XML's own may precede.
_PAGE = re.compile(rb"(?>\s+|<!--.*?-->|<\?.*?\?>)*+<(?:!doctype\s+html|html)", re.IGNORECASE | re.DOTALL)
_PAGE_HEAD = 4096  # bytes of a body in which a page must have begun


def judge(answer: Answer, wanted: SuccessBody) -> Outcome:
    """Whose failure is it, if it is one after all?"""
    if not 200 <= answer.status < 300:
        return DONE  # SUCCESS_STATUS names it: a 404 of what is to be deleted comes with any body
    if answer.coding:
        what = f"HTTP {answer.status} with a body in {answer.coding}, which nobody can read here"
        return Outcome(Verdict.ENDPOINT, f"{what}: let it answer without Content-Encoding", likely=True)
    refused = _rpc_error(answer)
    if refused is not None:
        return refused
    body = without_space(answer.body) if wanted.has or wanted.lacks else b""
    has = all(text in body for text in wanted.has)
    if is_page(answer.body) and not (wanted.has and has):
        remedy = "a login, a captive portal? If it is right, SUCCESS_BODY can name a text of it"
        return Outcome(Verdict.ENDPOINT, f"HTTP {answer.status} with a web page: {remedy}", likely=True)
    if has and not any(text in body for text in wanted.lacks):
        return DONE
    return Outcome(Verdict.UNCLEAR, f"HTTP {answer.status}, but not what SUCCESS_BODY asks for: {answer.quoted()}")


def is_page(body: bytes) -> bool:
    """Is it a web page, whatever its type says?"""
    return _PAGE.match(body[:_PAGE_HEAD]) is not None


def _rpc_error(answer: Answer) -> Outcome | None:
    """An error of JSON-RPC is judged as the Odoo targets judge it: a controller of type="json" answers 200 to all."""
    if b'"error"' not in answer.body:
        return None
    from relay.targets.odoo.failures import fault_of, parse, refusal, short  # few endpoints ever need it

    parsed = parse(answer.body)
    if parsed is None and b'"jsonrpc"' in answer.body:  # too long, too deep
        return Outcome(Verdict.UNCLEAR, f"HTTP {answer.status} with an error that can't be read: {answer.quoted()}")
    for body in parsed if isinstance(parsed, list) else [parsed]:
        if not isinstance(body, dict) or not ("jsonrpc" in body or {"result", "error", "id"} <= body.keys()):
            continue
        error, fault = body.get("error"), fault_of(body)
        if error and fault:
            return refusal(answer, fault).outcome
        if error:
            said = error.get("message") if isinstance(error, dict) else error
            return Outcome(Verdict.UNCLEAR, f"JSON-RPC error: {short(str(said))}")
    return None
