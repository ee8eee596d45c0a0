"""How a polled source is opened: dialect, driver, and what it is told. SQLAlchemy is imported here only.

Nothing that runs for PostgreSQL comes here: SQLAlchemy and the drivers are extras.
"""

import importlib
import importlib.util
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.database_url import MYSQL, ORACLE, SQLITE, PolledUrl
from relay.errors import ConfigError
from relay.listening.polled import login
from relay.transport import wants_tls

if TYPE_CHECKING:
    from sqlalchemy import Engine

DEADLINE = 60.0  # seconds for the answer to a statement; a server that hangs must not hold the session for ever
LOCK_WAIT = 2  # seconds that a statement of ours waits for somebody's lock
_DRIVERS = {MYSQL: "pymysql", SQLITE: "pysqlite", ORACLE: "oracledb"}
_MODULES = {"pymysql": "pymysql", "mysqldb": "MySQLdb", "oracledb": "oracledb", "pysqlite": "sqlite3"}
_INSTALL = {
    MYSQL: "pip install -r requirements-mysql.txt",
    SQLITE: "pip install -r requirements-sqlite.txt",
    ORACLE: "pip install -r requirements-sqlite.txt oracledb",
}
# What a server is set to for its sessions must not change what we read, or end ours.
_SESSION = (
    "set session time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
    f"innodb_lock_wait_timeout = {LOCK_WAIT}, wait_timeout = 28800"
)


def engine(url: PolledUrl, *, name: str, timeout: float) -> "Engine":
    """Make an engine without a pool: each of its connections is a session of its own, READ COMMITTED.

    Args:
        url: DATABASE_URL.
        name: of the program, where the server shows it.
        timeout: seconds until a connection is given up.

    Raises:
        ConfigError: SQLAlchemy or the driver is not installed, or the SQLite file is not there.
    """
    driver = _driver(url)
    create_engine, URL, NullPool = _sqlalchemy(url, driver)
    made = URL.create(
        f"{url.kind}+{driver}", url.user or None, url.password or None, url.host or None, url.port or None
    )
    more: dict[str, Any] = {"poolclass": NullPool}
    if url.kind == SQLITE:
        if not Path(url.database).is_file():
            raise ConfigError((f"SQLite {url.shown()}: there is no such file", "correct DATABASE_URL"))
        # uri: with mode=rw a file that has gone meanwhile is not made anew, and empty.
        path = Path(url.database).resolve().as_uri()
        made = made.set(database=path, query={"mode": "rw", "uri": "true"})
        more["connect_args"] = {"timeout": LOCK_WAIT, "check_same_thread": False}
    elif url.kind == MYSQL:
        more["connect_args"] = _mysql(url, driver, name, timeout)
        more["isolation_level"] = "READ COMMITTED"
    else:
        made = made.set(database=url.database or None, query=dict(url.options))
    opened: Engine = create_engine(made, **more)
    if driver == "pymysql":
        _then_wait(opened)
    if driver == "pymysql" and login.is_strict(url):
        login.guard(opened)
    return opened


def _then_wait(opened: "Engine") -> None:
    """Once it has let us in, a server has DEADLINE for an answer."""
    from sqlalchemy import event

    @event.listens_for(opened, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection._read_timeout = DEADLINE  # PyMySQL reads it before each read, and has no other place for it


def _driver(url: PolledUrl) -> str:
    """The one that DATABASE_URL names behind a plus; or mysqlclient, if it is installed: PyMySQL takes 8 us a row more.

    Where TLS is wanted it is PyMySQL: what mysqlclient can ask of TLS depends on the library that it was built with.
    """
    if said := url.scheme.partition("+")[2]:
        return said
    if url.kind == MYSQL and not wants_tls(url) and importlib.util.find_spec("MySQLdb"):
        return "mysqldb"
    return _DRIVERS[url.kind]


def _sqlalchemy(url: PolledUrl, driver: str) -> tuple[Any, Any, Any]:
    try:
        importlib.import_module(_MODULES.get(driver, driver))
        from sqlalchemy import URL, create_engine
        from sqlalchemy.pool import NullPool
    except ImportError as error:
        what = f"{url.product} needs Python's module {error.name}, which is not installed here"
        raise ConfigError((what, f"in the environment of this program: {_INSTALL[url.kind]}")) from None
    return create_engine, URL, NullPool


def _mysql(url: PolledUrl, driver: str, name: str, timeout: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "connect_timeout": max(1, int(timeout)), "read_timeout": int(DEADLINE), "write_timeout": int(DEADLINE),
        "charset": "utf8mb4", "init_command": _SESSION,
    }  # fmt: skip
    if "unix_socket" in url.options:
        told["unix_socket"] = url.options["unix_socket"]
    tls = wants_tls(url)
    if driver == "pymysql":
        told["program_name"] = name
        # Its connect_timeout ends with TCP: who takes the connection, and says nothing, would be waited for.
        told["read_timeout"] = told["connect_timeout"]
        told["password"] = url.password.encode()  # of text it sends the Latin-1, and none of what has no Latin-1
        told |= {"ssl": context(url)} if tls else {"ssl_disabled": True}
    elif tls:
        told |= {"ssl_mode": "VERIFY_IDENTITY" if "ssl_ca" in url.options else "REQUIRED", "ssl": _of_mysqlclient(url)}
    return told


def context(url: PolledUrl) -> ssl.SSLContext:
    """What TLS asks for: with ssl_ca the server must be the one that is meant, without one whoever answers will do.

    Raises:
        ConfigError: a file can't be read.
    """
    said = url.options
    try:
        made = ssl.create_default_context(cafile=said.get("ssl_ca"))
        if "ssl_ca" not in said:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if "ssl_cert" in said:
            made.load_cert_chain(said["ssl_cert"], said["ssl_key"])
    except (OSError, ssl.SSLError):
        files = ", ".join(said[key] for key in ("ssl_ca", "ssl_cert", "ssl_key") if key in said)
        raise ConfigError((f"DATABASE_URL: {files} can't be read, or is no PEM file", "correct the path")) from None
    return made


def _of_mysqlclient(url: PolledUrl) -> dict[str, str]:
    return {key.removeprefix("ssl_"): text for key, text in url.options.items() if key.startswith("ssl_")}
