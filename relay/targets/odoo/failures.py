"""Whose failure is it? Odoo's answers, by what was measured on real servers. The tables are the policy.

Status alone says little: JSON-RPC answers 200 to everything, JSON-2 answers 500 to a bad integer, and with the
database down 404. So the name of the exception in the body comes first, and the status only where there is none.
"""

import dataclasses
import json
from typing import Any

from relay.delivery import Outcome, Verdict
from relay.targets import answer
from relay.targets.answer import REASON_LIMIT, Answer
from relay.targets.bisection import Refused

MESSAGE, ENDPOINT, UNCLEAR, CONFLICT = Verdict.MESSAGE, Verdict.ENDPOINT, Verdict.UNCLEAR, Verdict.CONFLICT

LOGIN_NAMES = (
    "odoo.exceptions.AccessDenied",  # wrong user, password or key; an expired key
    "odoo.http.SessionExpiredException",
    "werkzeug.exceptions.Unauthorized",
)

# The exception's name as the body gives it; the first line that it begins with counts.
BY_NAME: tuple[tuple[str, Verdict], ...] = (
    *((name, ENDPOINT) for name in LOGIN_NAMES),  # and knock seldom: five failed logins lock the account for 60 s
    ("odoo.exceptions.AccessError", UNCLEAR),  # may be one model's rule: does anything else succeed?
    ("odoo.exceptions.LockError", CONFLICT),
    ("odoo.exceptions.ConcurrencyError", CONFLICT),
    ("odoo.exceptions.", MESSAGE),  # UserError, ValidationError, MissingError, RedirectWarning
    ("psycopg2.OperationalError", ENDPOINT),  # the database is down, or there is none of this name
    ("psycopg2.InterfaceError", ENDPOINT),
    ("psycopg2.pool.PoolError", ENDPOINT),
    ("psycopg2.errors.SerializationFailure", CONFLICT),
    ("psycopg2.errors.DeadlockDetected", CONFLICT),
    ("psycopg2.errors.LockNotAvailable", CONFLICT),
    ("psycopg2.errors.AdminShutdown", ENDPOINT),
    ("psycopg2.errors.CrashShutdown", ENDPOINT),
    ("psycopg2.errors.CannotConnectNow", ENDPOINT),
    ("psycopg2.errors.TooManyConnections", ENDPOINT),
    ("psycopg2.errors.ReadOnlySqlTransaction", ENDPOINT),
    ("psycopg2.errors.DiskFull", ENDPOINT),
    ("psycopg2.errors.OutOfMemory", ENDPOINT),
    ("psycopg2.errors.QueryCanceled", UNCLEAR),
    ("psycopg2.", MESSAGE),  # a constraint, or a value that the column can't hold
    ("werkzeug.exceptions.TooManyRequests", ENDPOINT),
    ("werkzeug.exceptions.ServiceUnavailable", ENDPOINT),
    ("werkzeug.exceptions.Forbidden", UNCLEAR),
    ("werkzeug.exceptions.InternalServerError", UNCLEAR),
    ("werkzeug.exceptions.", MESSAGE),  # NotFound: no such model or method; BadRequest, UnprocessableEntity ...
    # Permanent, and with status 500: a bad integer, an unknown field, an unknown model.
    ("builtins.ValueError", MESSAGE),
    ("builtins.KeyError", MESSAGE),
    ("builtins.TypeError", MESSAGE),
    ("builtins.AttributeError", MESSAGE),
    ("builtins.OverflowError", MESSAGE),
    ("builtins.UnicodeError", MESSAGE),
)

# What differs from relay.targets.answer.BY_STATUS, for answers without an exception's name.
BY_STATUS: dict[int, Verdict] = {
    200: ENDPOINT,  # not Odoo's: a page of a proxy, or of another server
    301: ENDPOINT,  # to https, or to the choice of a database: ODOO_URL or ODOO_DATABASE is wrong
    302: ENDPOINT,
    303: ENDPOINT,
    307: ENDPOINT,
    308: ENDPOINT,
    404: ENDPOINT,  # HTML: the database is down or unknown, or this Odoo does not have the API
    409: CONFLICT,
}

LOST = (502, 504, 524)  # a proxy: its server went away while it worked, or took too long

# In the messages of `load`, which answers 200 to these and does not try again. PostgreSQL's own English words.
CONFLICT_TEXTS = (
    "could not serialize access",
    "deadlock detected",
    "could not obtain lock",
    "current transaction is aborted",
)


def not_odoos(method: str) -> Refused:
    """For an answer that has not the shape of Odoo's."""
    return Refused(Outcome(Verdict.UNCLEAR, f"{method}: an answer that is not Odoo's"))


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """The exception that a body describes."""

    name: str
    message: str


def parse(body: bytes) -> Any:
    """The body's JSON; None if it is none. Numbers are Python's: nothing of an answer goes on anywhere."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def fault_of(body: Any) -> Fault | None:
    """The exception in a body of JSON-RPC (`error.data`) or JSON-2; None if it tells of none."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body)
    if not isinstance(error, dict):
        return None
    inner = error.get("data")
    data = inner if isinstance(inner, dict) else error
    name, message = data.get("name"), data.get("message") or error.get("message")
    return Fault(name, str(message or "")) if isinstance(name, str) and name else None


def refusal(read: Answer, fault: Fault | None) -> Refused:
    """Judge an answer that is a failure."""
    if fault is None:
        return _without_name(read)
    verdict = next((verdict for start, verdict in BY_NAME if fault.name.startswith(start)), UNCLEAR)
    if fault.name.startswith("builtins.") and is_conflict(fault.message):
        verdict = CONFLICT
    status = "" if read.status == 200 else f"HTTP {read.status}: "
    outcome = Outcome(
        verdict,
        f"{status}{fault.name.rpartition('.')[2]}: {short(fault.message)}".removesuffix(": "),
        wait=read.retry_after,
        login=fault.name in LOGIN_NAMES,
    )
    return Refused(outcome, fault.name, splits=verdict in (MESSAGE, UNCLEAR))


def _without_name(read: Answer) -> Refused:
    html = "html" in read.content_type.lower()
    if read.status in BY_STATUS and (read.status != 404 or html):
        kind = "a web page" if html else "an answer that is not Odoo's"
        outcome = Outcome(BY_STATUS[read.status], f"HTTP {read.status} with {kind}", wait=read.retry_after)
        return Refused(outcome)
    outcome = answer.judge(read, ())
    if read.status in LOST:
        return Refused(outcome, lost=True)
    too_large = read.status == 413
    # A 500 without a name says nothing: it may be one row's.
    splits = too_large or (outcome.verdict in (MESSAGE, UNCLEAR) and not html)
    return Refused(outcome, splits=splits, too_large=too_large)


def unfinished(answer: Any) -> str:
    """What a method has answered instead of doing its work: an action, for the screen to show; else nothing.

    `action_cancel` of a confirmed order opens a window in which a person has to say yes (17), and cancels nothing.
    """
    kind = answer.get("type") if isinstance(answer, dict) else None
    if not isinstance(kind, str) or not kind.startswith("ir.actions."):
        return ""
    of = answer.get("res_model") or answer.get("tag") or ""
    return short(f"{kind} {of}".strip())


def of_rights(refused: Refused, what: str) -> Refused:
    """The same; if a right to external ids is missing, in words that say which, and what needs it."""
    if refused.name != "odoo.exceptions.AccessError":
        return refused
    reason = f'{what}: the user may not read, create or delete ir.model.data: give it the right "Access Rights"'
    return Refused(dataclasses.replace(refused.outcome, reason=reason), refused.name)


def is_conflict(text: str) -> bool:
    """Does PostgreSQL say that another transaction was in the way?"""
    return any(sign in text for sign in CONFLICT_TEXTS)


def short(text: str) -> str:
    """The beginning of Odoo's words, on one line."""
    line = " ".join(text.split())[:REASON_LIMIT]
    return line if line.isprintable() else json.dumps(line, ensure_ascii=False)[1:-1]
