"""The kinds of value a setting can have: text in, a checked value out, or `Invalid` with what to write instead."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psycopg2
import psycopg2.extensions

from relay import files
from relay.ops import OPS

TOKEN_MIN = 16  # characters of a token: nobody counts how often it is guessed
NAME_MAX = 255  # bytes of a name or a key in AMQP 0-9-1


class Invalid(ValueError):
    """A value that won't do.

    Args:
        what: what is wrong with it, without repeating it (it may be a secret).
        remedy: what to write instead.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class Dsn(str):
    """A libpq connection string, URL or key=value. `repr` and logs get `shown()`."""

    __slots__ = ()

    def shown(self) -> str:
        """Where it points to: user@host:port/dbname, nothing else."""
        part = psycopg2.extensions.parse_dsn(self)
        host, port = part.get("host", "localhost"), part.get("port", "5432")
        return f"{part.get('user', '')}@{host}:{port}/{part.get('dbname', '')}"

    def __repr__(self) -> str:
        return f"<Dsn {self.shown()}>"


def masked(text: str) -> str:
    """A secret for an error message: the scheme and what follows the last @ of a URL, otherwise nothing."""
    scheme, separator, rest = text.partition("://")
    before, at, after = rest.rpartition("@")
    if separator and at and scheme.isalnum() and "?" not in before:  # else the @ may be that of an option's password
        return f"{scheme}://***@{after.partition('?')[0]}"
    return "***"


def text(value: str) -> str:
    """Any text."""
    return value


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise Invalid("unknown value", f"write one of: {', '.join(allowed)}")
        return value

    return parse


def on_off(value: str) -> bool:
    """A switch."""
    if value not in ("on", "off"):
        raise Invalid("neither on nor off", "write on or off")
    return value == "on"


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """A whole number between `minimum` and `maximum`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not minimum <= int(value) <= maximum:
            raise Invalid("out of range or no whole number", f"write a whole number from {minimum} to {maximum}")
        return int(value)

    return parse


def seconds(minimum: float, maximum: float) -> Callable[[str], float]:
    """A time in seconds between `minimum` and `maximum`; fractions are allowed."""

    return _decimal(minimum, maximum, f"write seconds, from {minimum:g} to {maximum:.10g}, without a unit")


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """A number between `minimum` and `maximum`; fractions are allowed."""
    return _decimal(minimum, maximum, f"write a number from {minimum:g} to {maximum:g}")


def _decimal(minimum: float, maximum: float, remedy: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or not minimum <= float(value) <= maximum:
            raise Invalid("out of range or no number", remedy)
        return float(value)

    return parse


def shared_secret(value: str) -> bytes:
    """A secret that two programs share; empty = none."""
    if value and len(value.encode()) < 24:
        raise Invalid("too short", "write at least 24 characters that nobody can guess: openssl rand -base64 32")
    return value.encode()


class Condition(NamedTuple):
    """A part of ONLY.

    Args:
        name: op, table, topic; or, with a field of it, key, old, new, event.
        values: texts, of which it is one; or, not `wanted`, none.
    """

    name: str
    field: str
    values: frozenset[str]
    wanted: bool


_CONDITION = re.compile(r"(?:(op|table|topic)|(key|old|new|event)\[([^\[\]]+)\])(!?)[=:](.*)", re.DOTALL)


def conditions(value: str) -> tuple[Condition, ...]:
    """Conditions separated by spaces, all of which must hold; empty = none: `op:insert,update new[state]=confirmed`."""
    wanted = "write op:insert,update new[state]=confirmed old[state]!=confirmed; a value with spaces in quotes"
    try:
        parts = shlex.split(value)
    except ValueError:
        raise Invalid("has an open quote, or ends with a backslash", wanted) from None
    found = []
    for part in parts:
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise Invalid(f"{part[:60]} is no condition", wanted)
        plain, image, field, negated, texts = match.groups()
        condition = Condition(plain or image, field or "", frozenset(texts.split(",")), not negated)
        unknown = sorted(condition.values - {*OPS}) if plain == "op" else []
        if unknown:
            raise Invalid(f"{part[:60]}: {unknown[0][:20] or 'nothing'} is no op", f"ops: {' '.join(OPS)}")
        found.append(condition)
    return tuple(found)


def existing_file(value: str) -> str:
    """The path of a file that exists; empty = none."""
    try:
        if value:
            files.content(Path(value))
    except files.Unreadable as error:
        raise Invalid(str(error), files.WANTED) from None
    return value


def names(value: str) -> tuple[str, ...]:
    """Names separated by commas; empty = none."""
    found = tuple(name.strip() for name in value.split(",") if name.strip())
    if any(len(name.encode()) > NAME_MAX for name in found):
        raise Invalid("a name is longer than 255 bytes", "write names separated by commas")
    return found


def amqp_name(value: str) -> str:
    """The name of an exchange or a queue (AMQP: at most 255 bytes; `amq.` is the broker's own)."""
    if not value or len(value.encode()) > NAME_MAX or value.startswith("amq."):
        raise Invalid("no usable name", "write 1 to 255 bytes, not beginning with amq.")
    return value


LANES_MAX = 32  # more would cost the broker more than they give: each has a quorum queue of its own


class Lane(NamedTuple):
    """Which one of how many."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def lane(value: str) -> Lane | None:
    """A lane of several, counted from 0: `0/4`; empty = there are none."""
    wanted = f"write which one of how many, counted from 0, e.g. 0/4, of 2 to {LANES_MAX}"
    if not value:
        return None
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", value)
    if match is None:
        raise Invalid("is no lane", wanted)
    found = Lane(int(match[1]), int(match[2]))
    if not 2 <= found.total <= LANES_MAX or found.number >= found.total:
        raise Invalid("there is no such lane", wanted)
    return found


def source_name(value: str) -> str:
    """The name that tells this database's lease from others; empty = made from the database."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,100}", value):
        raise Invalid("no usable name", "write letters, digits, _ . - (at most 100)")
    return value


def dsn(value: str) -> Dsn:
    """A libpq URL or DSN with a database name.

    libpq's own message is not shown: it quotes pieces of the string, which may be pieces of the password.
    """
    try:
        parts = psycopg2.extensions.parse_dsn(value)
    except (psycopg2.ProgrammingError, UnicodeDecodeError):  # the latter: %FF
        raise Invalid(
            "libpq can't read it",
            "write postgresql://user:password@host:5432/dbname, special characters of the password as %XX",
        ) from None
    address = value.partition("://")[2].partition("?")[0]
    if "@" in address.partition("@")[2] or "@" in address.partition("/")[2]:
        # libpq takes the first @, or a / before it, for the end of the password: the rest would be shown as the host.
        raise Invalid("has an @ or / in its password", "write %40 for @ and %2F for / there")
    if not parts.get("dbname") and not parts.get("service"):
        raise Invalid("names no database", "write postgresql://user:password@host:5432/dbname")
    if not re.fullmatch(r"[0-9,]*", parts.get("port", "")):
        raise Invalid("its port is no number", "write postgresql://user:password@host:5432/dbname")
    return Dsn(value)


def token(value: str) -> str:
    """What stands for a password; empty = none."""
    if value and (not value.isascii() or not value.isprintable() or " " in value or len(value) < TOKEN_MIN):
        raise Invalid("is too short, or has other characters than visible ASCII", "openssl rand -base64 32")
    return value


def command(value: str) -> tuple[str, ...]:
    """A program and its arguments, as a shell takes them apart; no shell is used. Empty = none."""
    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise Invalid("has an open quote, or ends with a backslash", "write: /etc/relay/alert 'an argument'") from None
