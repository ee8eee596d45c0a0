"""What follows from what a function did: whose failure is it, and what may be said of it? Pure.

No exception's text is shown unless its type is known to hold nothing that it was given: a KeyError quotes the event, an
OperationalError may quote a DSN with its password. What a person may read is Refuse's and Retry's reason, written for
that; the type, the place, and of databases the SQLSTATE.
"""

import contextlib
import errno
import socket
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from relay.delivery import DONE, Outcome, Verdict
from relay.errors import one_line
from relay.handlers import Misuse, Refuse, Retry

LATER = 30.0  # seconds that a mail server which says "later" is left alone with an event
REASON_MAX = 500  # characters of a reason that a function gives

_NETWORK = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EADDRNOTAVAIL, errno.ENOTCONN,
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE,
}  # fmt: skip
_SMTP_DOWN = {"SMTPServerDisconnected", "SMTPConnectError", "SMTPHeloError", "SMTPNotSupportedError"}
_DATABASE = {"OperationalError", "InterfaceError"}
_AGAIN = {"40001", "40P01", "55P03", "1205", "1213", "SQLITE_BUSY", "SQLITE_LOCKED"}  # a deadlock, a lock, a conflict
_DOWN_CLASSES = ("08", "28", "53", "57P", "58", "3D", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL")
_MARIADB_DOWN = {1040, 1044, 1045, 1049, 1053, 1077, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1290}


def of_return(returned: object) -> Outcome:
    """It has returned this, and nothing that is to be awaited."""
    if isinstance(returned, Iterator) and hasattr(returned, "send"):
        return Outcome(Verdict.MESSAGE, "the function returned a generator: nothing of it has run")
    if hasattr(returned, "asend"):
        return Outcome(Verdict.MESSAGE, "the function returned an asynchronous generator: nothing of it has run")
    return DONE


def of_error(error: BaseException, file: str) -> Outcome:
    """It has raised this. `file`: where the function stands, for the place that is told."""
    if isinstance(error, Refuse):
        return Outcome(Verdict.MESSAGE, _own(error.reason) or "refused by the function", final=True)
    if isinstance(error, Retry):
        return Outcome(Verdict.CONFLICT, _own(error.reason) or "the function asks for a later try", wait=error.after)
    if isinstance(error, Misuse):
        return Outcome(Verdict.UNCLEAR, str(error))
    reason = f"{_said(error)} at {_place(error.__traceback__, file)}"
    if isinstance(error, BaseExceptionGroup):
        return _of_group(error, reason, file)
    return _of_smtp(error, reason) or _of_database(error, reason) or _of_system(error, reason)


def _own(text: object) -> str:
    said = " ".join(text.split()) if isinstance(text, str) else ""
    return said if len(said) <= REASON_MAX else f"{said[:REASON_MAX]}..."


def _of_group(error: BaseExceptionGroup[BaseException], reason: str, file: str) -> Outcome:
    """Of a TaskGroup: the endpoint's if all in it are."""
    verdicts = {of_error(one, file).verdict for one in error.exceptions}
    return Outcome(Verdict.ENDPOINT if verdicts == {Verdict.ENDPOINT} else Verdict.UNCLEAR, reason)


def _of_smtp(error: BaseException, reason: str) -> Outcome | None:
    """smtplib's are OSErrors, also those of a single bad address."""
    names = {base.__name__ for base in type(error).__mro__ if base.__module__ == "smtplib"}
    if not names:
        return None
    if "SMTPAuthenticationError" in names:
        return Outcome(Verdict.ENDPOINT, reason, login=True)
    codes = list(_smtp_codes(error))
    reason = f"{codes[0]} {reason}" if codes else reason
    if names & _SMTP_DOWN or 421 in codes:
        return Outcome(Verdict.ENDPOINT, reason)
    if codes and all(400 <= code < 500 for code in codes):
        return Outcome(Verdict.CONFLICT, reason, wait=LATER)  # greylisting, a full mailbox
    return Outcome(Verdict.UNCLEAR, reason)


def _smtp_codes(error: BaseException) -> Iterator[int]:
    recipients = getattr(error, "recipients", None)
    if isinstance(recipients, dict):
        yield from (answer[0] for answer in recipients.values() if isinstance(answer, tuple) and answer)
    code = getattr(error, "smtp_code", None)
    if isinstance(code, int):
        yield code


def _of_database(error: BaseException, reason: str) -> Outcome | None:
    """By PEP 249's names, whatever the driver, and whatever wraps it: SQLAlchemy (`orig`), Django (`__cause__`)."""
    if not _DATABASE & {base.__name__ for base in type(error).__mro__}:
        return None
    code = sql_code(error)
    reason = f"{code} {reason}" if code else reason
    if code in _AGAIN:
        return Outcome(Verdict.CONFLICT, reason)
    return Outcome(Verdict.ENDPOINT, reason, likely=bool(code) and not _is_down(code))


def sql_code(error: BaseException) -> str:
    """SQLSTATE, MariaDB's number or SQLite's name; empty = none: the connection could not be made, or is lost."""
    for one in (error, getattr(error, "orig", None), error.__cause__):
        for name in ("sqlstate", "pgcode", "sqlite_errorname"):
            code = getattr(one, name, None)
            if isinstance(code, str) and code.replace("_", "").isalnum() and len(code) <= 40:
                return code
        first = one.args[0] if isinstance(one, BaseException) and one.args else None
        if isinstance(first, int) and not isinstance(first, bool) and 1000 <= first < 10_000:
            return str(first)
    return ""


def _is_down(code: str) -> bool:
    if code.isdecimal() and len(code) == 4:
        return 2000 <= int(code) < 3000 or int(code) in _MARIADB_DOWN
    return code.startswith(_DOWN_CLASSES)


def _of_system(error: BaseException, reason: str) -> Outcome:
    """A network's failure is the endpoint's; of another OSError (a file, an HTTP library's) it is so by all signs."""
    if not isinstance(error, OSError):
        return Outcome(Verdict.UNCLEAR, reason)
    sure = isinstance(error, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError) or error.errno in _NETWORK
    return Outcome(Verdict.ENDPOINT, reason, likely=not (sure or _is_connection(error)))


def _is_connection(error: OSError) -> bool:
    """What requests and its like raise where there is no answer; what they raise of an answer is named HTTPError."""
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"ConnectionError", "Timeout", "ConnectTimeout", "ReadTimeout"}:
        return True
    cause: Any = getattr(error, "reason", None)  # urllib's URLError
    return isinstance(cause, OSError) and (cause.errno in _NETWORK or isinstance(cause, TimeoutError | socket.gaierror))


def _said(error: BaseException) -> str:
    name, text = type(error).__name__, ""
    with contextlib.suppress(Exception):  # whatever a class of the user's does when it is asked
        text = one_line(error)
    return f"{name}: {text}" if text and text != name else name


def _place(trace: TracebackType | None, file: str) -> str:
    """The innermost line of the function's own file; of what stands elsewhere the innermost."""
    found = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(trace)]
    own = [one for one in found if one[0] == file] or found
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else Path(file).name
