"""The project's own errors. Driver errors (psycopg2, pika, requests) are translated to these where they arise.

Two questions decide what happens to an error, and each class answers one of them: can it mend itself
(`Unavailable`: wait and try again), or must a person act (`ConfigError`: exit status 78 before the first
successful session, wait and say so afterwards)?
"""

from collections.abc import Sequence


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


class ConfigError(RelayError):
    """Only a person can mend it: a wrong URL, password, permission, a missing schema.

    Args:
        problems: one (what, remedy) for each thing that is wrong; all of them are reported together.
    """

    def __init__(self, *problems: tuple[str, str]) -> None:
        what, remedy = problems[0] if len(problems) == 1 else (f"{len(problems)} problems", "")
        super().__init__(what, remedy)
        self.problems: Sequence[tuple[str, str]] = problems


def one_line(error: BaseException) -> str:
    """A driver's words without line breaks; its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
