"""What it means that PostgreSQL can't be reached, or lets us not in: the error that a person reads."""

import psycopg2.extensions

from relay.errors import ConfigError, RelayError, Unavailable
from relay.values import Dsn

_LOGIN = "correct user or password in DATABASE_URL; expired? alter role \"{user}\" valid until 'infinity';"
# Messages of libpq about TLS, and FATAL messages of a server that answers, but will not let us in until a person
# changes something. libpq gives no SQLSTATE before a connection stands, and these texts come before lc_messages is
# read, mostly in English.
_POSTGRES_REFUSALS = (
    ("channel binding", "say in DATABASE_URL how TLS is used: sslmode=verify-full and sslrootcert=/path/to/ca.pem"),
    ("does not match host name", "write the host's name as its certificate has it into DATABASE_URL"),
    ("root certificate file", "write sslrootcert=/path/to/ca.pem into DATABASE_URL"),
    ("requires a valid client certificate", "write sslcert=/path/to/cert.pem and sslkey=/path/to/key.pem into it"),
    ("password authentication failed", _LOGIN),
    ("no password supplied", "put the password into DATABASE_URL (or use DATABASE_URL_FILE)"),
    ("invalid response to SSL negotiation", "that is another program's port: correct host and port in DATABASE_URL"),
    ("pg_hba.conf rejects", "take away or change the line with reject for this host, user and database, then reload"),
    ("no pg_hba.conf entry", "add a line for this host, user and database to pg_hba.conf, then reload"),
    ("authentication failed", "compare pg_hba.conf with the user in DATABASE_URL"),
    ("permission denied for database", 'grant connect on database "{dbname}" to "{user}";'),
    ("does not exist", "create it, or correct DATABASE_URL"),
    ("server does not support SSL", "switch TLS on there; in clear text only with sslmode=disable in DATABASE_URL"),
    ("certificate verify failed", "correct sslrootcert in DATABASE_URL, or renew the certificate if it has expired"),
    ("is not permitted to log in", 'alter role "{user}" login;'),
    ("invalid ", "correct that option of DATABASE_URL"),
)
# The same of a server that lets nobody in for now.
_FULL = ("too many connections", "too many clients", "remaining connection slots")


def of_postgres(url: Dsn, message: str) -> RelayError:
    """Sort libpq's message at connecting. It never quotes the password."""
    detail = " ".join(message.split())
    if "authentication method requirement" in detail:  # it may be somebody else, while PostgreSQL is down
        remedy = "is that PostgreSQL? If it asks for passwords by LDAP or PAM: require_auth=password in DATABASE_URL"
        return Unavailable(f"PostgreSQL {url.shown()} is not believed: {detail}", remedy)
    for text, remedy in _POSTGRES_REFUSALS:
        if text in detail and "Is the server running" not in detail:
            names = {"user": "USER", "dbname": "DATABASE"} | psycopg2.extensions.parse_dsn(url)
            return ConfigError((f"PostgreSQL {url.shown()} refuses: {detail}", remedy.format_map(names)))
    remedy = "is it running, and DATABASE_URL right?"
    if any(text in detail for text in _FULL):
        remedy = "raise max_connections, or the role's CONNECTION LIMIT; whose they are: pg_stat_activity"
    return Unavailable(f"PostgreSQL {url.shown()} is not reachable: {detail}", remedy)
