"""The project's own errors. Driver errors (psycopg2, pika, requests) are translated to these where they arise.

Two questions decide what happens to an error, and each class answers one of them: can it mend itself
(`Unavailable`: wait and try again), or must a person act (`ConfigError`: exit status 78 before the first
successful session, wait and say so afterwards)?
"""

import os
import re
import socket
import ssl
import traceback
from collections.abc import Sequence
from pathlib import Path

# Names of hosts: getaddrinfo's own numbers, which os.strerror does not know.
_NAMES = {
    socket.EAI_NONAME: "no host of this name is known",
    socket.EAI_NODATA: "the host has no address",
    socket.EAI_ADDRFAMILY: "the host has no address of this kind",
    socket.EAI_AGAIN: "the name server does not answer",
    socket.EAI_FAIL: "the name server fails",
}
# pika's errors whose texts are its own or RabbitMQ's; the others quote a frame or a value, so perhaps a message.
_PIKA = {"AMQPConnectionError", "AMQPConnectorException", "ChannelClosed", "ChannelWrongStateError"}


class RelayError(Exception):
    """Something went wrong that we foresaw. The text says what happened and to what; `remedy` says what to do.

    Args:
        what: what happened, naming the event, table, queue or server. Never holds a secret.
        remedy: the next command, SQL or setting; may be empty.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} -> {self.remedy}" if self.remedy else self.what


class Unavailable(RelayError):
    """A server is away, starting, blocked or held by somebody else: it will mend itself. Wait and try again."""


class Standby(Unavailable):
    """Another process of the same role holds the lease. Not a failure: try again at short, even intervals.

    Args:
        alarming: it holds it, and does nothing with it: a person should look.
    """

    def __init__(self, what: str, remedy: str = "", *, alarming: bool = False) -> None:
        super().__init__(what, remedy)
        self.alarming = alarming


class Ousted(Unavailable):
    """Another process has begun to do our work. Stay away for a while: it would be ousted in turn."""


class ConfigError(RelayError):
    """Only a person can mend it: a wrong URL, password, permission, a missing schema.

    Args:
        problems: one (what, remedy) for each thing that is wrong; all of them are reported together.
        log_file: of settings that can't be used, what they say of LOG_FILE.
    """

    def __init__(self, *problems: tuple[str, str], log_file: str = "") -> None:
        what, remedy = problems[0] if len(problems) == 1 else (f"{len(problems)} problems", "")
        super().__init__(what, remedy)
        self.problems: Sequence[tuple[str, str]] = problems
        self.log_file = log_file


class NotFound(RelayError):
    """What a command names is not there: a table, an event. To try again would not help."""


def one_line(error: BaseException | None) -> str:
    """All that may be shown of an exception, on one line: the one place that says it.

    Its str and repr quote what it was given: a request with its password, a row, a line of a file. So only the types
    that are known to carry none of that say more than their name.
    """
    said = type(error).__name__
    if isinstance(error, RelayError) or any(
        kind.__module__.startswith("pika.") and kind.__name__ in _PIKA for kind in type(error).__mro__
    ):
        said = str(error)
    elif isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""  # OpenSSL's, as WRONG_VERSION_NUMBER
        said = getattr(error, "verify_message", "") or reason.replace("_", " ").lower()
    elif isinstance(error, UnicodeDecodeError):
        said = "not UTF-8"
    elif isinstance(error, TimeoutError) and error.errno is None:
        said = "timed out"
    elif isinstance(error, OSError):
        said = _of_the_system(error)
    return " ".join(said.split()) or type(error).__name__


def _of_the_system(error: OSError) -> str:
    """By its number; its words may be anybody's."""
    if isinstance(error, socket.gaierror):
        return _NAMES.get(error.errno or 0, "the host's name can't be resolved")
    if isinstance(error.errno, int):
        return os.strerror(error.errno)
    if type(error).__name__ == "RemoteDisconnected":  # http.client's: a megabyte, which a listener does without
        return "Remote end closed connection without response"
    tunnel = re.match(
        r"Tunnel connection failed: \d{3}\b", str(error)
    )  # relay/targets/dial.py's, with the proxy's status
    return tunnel[0] if tunnel else type(error).__name__


def place(error: BaseException) -> str:
    """Where an exception arose, for whoever mends it: the innermost lines of the code, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
