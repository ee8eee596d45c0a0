"""DATABASE_URL of what is not PostgreSQL: MariaDB, MySQL, SQLite, Oracle. Text in, a checked value out."""

import dataclasses
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from relay.urls import is_host, unquoted
from relay.values import Dsn, Invalid, dsn

MYSQL, SQLITE, ORACLE = "mysql", "sqlite", "oracle"
_KINDS = {"mysql": MYSQL, "mariadb": MYSQL, "sqlite": SQLITE, "oracle": ORACLE}
_NAMES = {MYSQL: "MySQL", SQLITE: "SQLite", ORACLE: "Oracle"}
_PORTS = {MYSQL: 3306, ORACLE: 1521}
_OPTIONS = {
    MYSQL: ("ssl", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket"),
    SQLITE: (),
    ORACLE: ("service_name",),
}
_WANTED = {
    MYSQL: "write mysql://user:password@host:3306/database (mariadb:// is the same), special characters as %XX",
    SQLITE: "write sqlite:////path/to/the.db, with four slashes for an absolute path",
    ORACLE: "write oracle+oracledb://user:password@host:1521/?service_name=NAME, special characters as %XX",
}
SSL = ("on", "off")


@dataclasses.dataclass(frozen=True)
class PolledUrl:
    """Where a polled source is, taken apart."""

    scheme: str
    """As it was written: mariadb, mysql, sqlite, oracle; a driver may follow a plus."""
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    database: str = ""
    """MySQL: the application's; SQLite: the file's path; Oracle: the service, if the options do not say it."""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """MYSQL (MariaDB, too), SQLITE or ORACLE."""
        return _KINDS[self.scheme.partition("+")[0]]

    @property
    def product(self) -> str:
        """What a person calls it."""
        return "MariaDB" if self.scheme.startswith("mariadb") else _NAMES[self.kind]

    def scripts(self, text: str) -> str:
        """What says where MariaDB's scripts are, for this product: MySQL has its own."""
        return text.replace("sql/mariadb/", f"sql/{self.product.lower()}/")

    @property
    def name(self) -> str:
        """What tells this source from others, if SOURCE does not."""
        if self.kind == SQLITE:
            return self.database.rpartition("/")[2].partition(".")[0]
        return self.database or self.options.get("service_name", "")

    def shown(self) -> str:
        """Where it points to, nothing secret."""
        if self.kind == SQLITE:
            return self.database
        host = f"[{self.host}]" if ":" in self.host else self.host
        where = self.options.get("unix_socket") or f"{host}:{self.port}"
        return f"{self.user}@{where}/{self.name}"


def source_url(value: str) -> Dsn | PolledUrl:
    """What DATABASE_URL says: PostgreSQL's URL or DSN, or the URL of a polled source."""
    scheme, separator, rest = value.partition("://")
    family = scheme.partition("+")[0]
    if not separator or not family.isalnum() or family in ("postgresql", "postgres"):
        return dsn(value)
    if family == "mssql":
        raise Invalid("SQL Server is not served", "docs/sources.md says what would have to be done")
    if family not in _KINDS:
        raise Invalid(
            "of no database that is known", "write postgresql://, mariadb://, mysql://, sqlite:/// or oracle://"
        )
    return _sqlite(scheme, rest) if family == "sqlite" else _server(scheme, value)


def _sqlite(scheme: str, rest: str) -> PolledUrl:
    path = unquoted(rest[1:])
    if not rest.startswith("/") or not path.strip("/") or "?" in rest or path == ":memory:":
        raise Invalid("names no file", _WANTED[SQLITE])
    return PolledUrl(scheme, database=path)


def _server(scheme: str, value: str) -> PolledUrl:
    kind = _KINDS[scheme.partition("+")[0]]
    wanted = _WANTED[kind]
    try:
        parts = urlsplit(value)
        port = _PORTS[kind] if parts.port is None else parts.port
        if not port:
            raise ValueError
    except ValueError:
        raise Invalid("not a URL, or its port is no number", wanted) from None
    if "@" in parts.path or "@" in parts.query:
        raise Invalid("has an @ or / in its password", "write %40 for @ and %2F for / there")
    if parts.fragment or set(value) & set("\t\r\n") or "/" in parts.path[1:]:
        raise Invalid("not a URL of a database", wanted)
    options = _options(kind, parts.query)
    made = PolledUrl(
        scheme, parts.hostname or "", port, unquoted(parts.username), unquoted(parts.password),
        unquoted(parts.path[1:]), options,
    )  # fmt: skip
    if not made.user:
        raise Invalid("names no user", wanted)
    if not is_host(made.host or ".") and not options.get("unix_socket"):
        raise Invalid("names no host", wanted)
    if not made.name:
        raise Invalid("names no database", wanted)
    return made


def _options(kind: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = _OPTIONS[kind]
    if unknown := sorted(options.keys() - set(known)):
        raise Invalid(f"has an unknown option {unknown[0][:40]!r}", f"these are known: {', '.join(known)}")
    if options.get("ssl", "on") not in SSL:
        raise Invalid("its ssl is neither on nor off", "write ssl=on or ssl=off, or ssl_ca=/path/to/ca.pem")
    if options.get("ssl") == "off" and (more := sorted({"ssl_ca", "ssl_cert", "ssl_key"} & options.keys())):
        raise Invalid(f"has {more[0]}, and ssl=off", "keep one of them")
    if ("ssl_cert" in options) != ("ssl_key" in options):
        raise Invalid("has only one of ssl_cert and ssl_key", "write both, or none")
    return options
