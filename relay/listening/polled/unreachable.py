"""What it means that a polled source can't be reached, lets us not in, or refuses a statement: what a person reads."""

import ssl

from relay.database_url import MYSQL, PolledUrl
from relay.errors import ConfigError, RelayError, Unavailable
from relay.transport import wants_tls

_QUOTING = {1062, 1064, 1265, 1292, 1366, 1411, 1586}  # errors whose text quotes a statement or a value
# Numbers of MariaDB's and MySQL's errors, and what a person has to do.
_REFUSALS = {
    1044: "grant it: sql/mariadb/install.sql shows the listener's rights",
    1045: "correct the user or password in DATABASE_URL",
    1698: "correct the user in DATABASE_URL, or let it log in with a password: alter user ... identified by",
    1049: "install the relay's tables: sql/mariadb/install.sql",
    1054: "install or upgrade the relay's tables: sql/mariadb/install.sql",
    1103: "correct OUTBOX_TABLE",
    1142: "grant it: sql/mariadb/install.sql shows the listener's rights",
    1143: "grant it: sql/mariadb/install.sql shows the listener's rights",
    1146: "install the relay's tables: sql/mariadb/install.sql",
    1176: "it needs a primary key, of the column that OUTBOX_COLUMNS names as seq",
    1227: "grant it: sql/mariadb/install.sql shows the listener's rights",
    1251: "this driver does not know how that user logs in: alter user ... identified via mysql_native_password",
    1305: "install or upgrade the relay's tables: sql/mariadb/install.sql",
    1370: "grant it: sql/mariadb/install.sql shows the listener's rights",
    1524: "this driver does not know how that user logs in: alter user ... identified via mysql_native_password",
    2026: "switch TLS on there, or correct ssl_ca; in clear text only with ssl=off in DATABASE_URL",
    2059: "this driver does not know how that user logs in: alter user ... identified via mysql_native_password",
    2061: "say in DATABASE_URL who gets it: ssl_ca=/path/to/ca.pem, or unix_socket=PATH; whoever answers: ssl=on",
}
DENIED = 1045
_CRYPTOGRAPHY = "'cryptography' package is required"
_MISNAMED = "write the host's name as its certificate has it into DATABASE_URL"
_UNTRUSTED = "correct ssl_ca in DATABASE_URL, or renew the certificate if it has expired"
_HINTS = {
    1040: "raise max_connections; whose they are: show processlist",
    1203: "raise max_user_connections of the user",
    1205: "somebody has it locked: select * from information_schema.innodb_trx",
    1290: "is the server read_only?",
    1836: "is the server read_only?",
}
_GONE = {2006, 2013}  # the connection has ended: MariaDB says no other word to a certificate that it does not trust
_SQLITE = {  # what sqlite3 says, and what a person has to do
    "no such table": "install the relay's tables: sql/sqlite/",
    "no such column": "install or upgrade the relay's tables: sql/sqlite/",
    "readonly": "the user of this program must be able to write the file and its directory",
    "unable to open": "correct DATABASE_URL; its user must be able to write the file and its directory",
    "not a database": "correct DATABASE_URL",
    "malformed": "pragma integrity_check; restore it from a backup",
}


def is_of_driver(error: BaseException) -> bool:
    """Is it a driver's, or the network's? Else it is a defect of ours. (PEP 249: each driver has an `Error`.)"""
    return isinstance(error, OSError) or any(kind.__name__ == "Error" for kind in type(error).__mro__)


def number(error: BaseException) -> int:
    """MariaDB's or MySQL's number of an error; 0 = it has none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def detail(error: BaseException) -> str:
    """What the server or the driver says, in one line, if it quotes nobody's values."""
    if number(error) in _QUOTING:
        return f"error {number(error)}"
    text = str(error.args[1]) if number(error) and len(error.args) > 1 else str(error)
    return " ".join(text.split())[:1000] or type(error).__name__


def of_driver(url: PolledUrl, error: BaseException) -> RelayError:
    """Sort an error of a driver, at connecting or of a statement. Drivers never quote the password.

    Any other is raised again.
    """
    if isinstance(error, RelayError):
        return error
    if _CRYPTOGRAPHY in str(error):  # PyMySQL's RuntimeError
        return ConfigError((f"{url.product} {url.shown()}: this way of logging in must be encrypted", _REFUSALS[2061]))
    if not is_of_driver(error):
        raise error
    where, said, code = f"{url.product} {url.shown()}", detail(error), number(error)
    if url.kind == MYSQL:
        return _of_mysql(url, error, where, f"{said} ({code})" if code else said, code)
    for text, remedy in _SQLITE.items():
        if text in said:
            return ConfigError((f"{where}: {said}", remedy))
    return Unavailable(f"{where}: {said}", "is it locked by somebody who does not end?" * ("locked" in said))


def _of_mysql(url: PolledUrl, error: BaseException, where: str, said: str, code: int) -> RelayError:
    cause = getattr(error, "original_exception", None)  # PyMySQL's
    if isinstance(cause, ssl.SSLCertVerificationError):
        mend = _MISNAMED if "not valid for" in cause.verify_message else _UNTRUSTED
        return ConfigError((f"{where}: certificate not accepted: {cause.verify_message}", mend))
    if code == DENIED:
        return ConfigError((f"{where} refuses: {said}", _REFUSALS[code] + _missing(url)))
    if remedy := _REFUSALS.get(code):
        return ConfigError((f"{where} refuses: {said}", url.scripts(remedy)))
    if code in _GONE and "ssl_cert" in url.options:
        return Unavailable(f"{where}: {said}", "does it trust the certificate in ssl_cert, and has that not expired?")
    return Unavailable(f"{where}: {said}", _HINTS.get(code, ""))


def _missing(url: PolledUrl) -> str:
    """What an account may want beside the password; MariaDB does not say that it does."""
    if not wants_tls(url):
        return "; the account may require TLS: ssl_ca=/path/to/ca.pem, or ssl=on"
    return "" if "ssl_cert" in url.options else "; the account may require a certificate: ssl_cert and ssl_key"
