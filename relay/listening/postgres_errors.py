"""What PostgreSQL's errors mean, and the remedy."""

import shlex
from pathlib import Path

import psycopg2
import psycopg2.extensions

from relay.errors import ConfigError, RelayError, Unavailable
from relay.values import Dsn

A_DATABASE, _USER = "<database>", "<the user of DATABASE_URL>"  # where a real name comes in
INSTALL = f"psql -v ON_ERROR_STOP=1 -f {Path(__file__).parents[2] / 'sql' / 'install.sql'} -d {A_DATABASE}"

_REMEDIES = {  # SQLSTATE: what a person has to do
    "3F000": f"install the schema: {INSTALL}",
    "42P01": f"install or upgrade the schema: {INSTALL}",
    "42883": f"install or upgrade the schema: {INSTALL}",
    "42703": f"install or upgrade the schema: {INSTALL}",
    "42501": f"grant relay_listener to {_USER};",
}
_HINTS = {  # SQLSTATE of what may end by itself: where to look, if it does not
    "25006": "default_transaction_read_only, of the server, the database or the role",
    "55P03": "listen.py check names who has it locked",
    "57014": "is the outbox very long, or the server busy?",
}


def first_line(error: psycopg2.Error) -> str:
    """What the server, or libpq, says happened, without its advice."""
    return str(error).strip().partition("\n")[0] or "connection lost"


def refusal(error: psycopg2.Error, handle: psycopg2.extensions.connection) -> RelayError:
    """Sort an error of a statement. The server's message is one line and holds no row values here.

    Args:
        handle: whose names the remedy gets.
    """
    detail = first_line(error)
    remedy = _REMEDIES.get(error.pgcode or "")
    if remedy:
        if not handle.closed:
            remedy = remedy.replace(A_DATABASE, shlex.quote(handle.info.dbname)).replace(_USER, f'"{handle.info.user}"')
        return ConfigError((f"PostgreSQL: {detail}", remedy))
    return Unavailable(f"PostgreSQL: {detail}", _HINTS.get(error.pgcode or "", ""))


def pooler(url: Dsn, *, transactions: bool = False) -> ConfigError:
    """Word that DATABASE_URL leads through a pooler; transactions: each may get another session of PostgreSQL's."""
    mode = ", in transaction mode" if transactions else ""
    problem = f"PostgreSQL {url.shown()} is reached through a pooler (pgbouncer or the like){mode}"
    why = "LISTEN, session locks and settings need a session of their own"
    return ConfigError((problem, f"{why}: write PostgreSQL's own host and port into DATABASE_URL, mostly 5432"))
