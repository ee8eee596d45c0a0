"""What `listen.py check` looks at in a polled source: the server, the outbox, rights, and how much waits."""

import time
from collections.abc import Iterator

from relay.checks import Limits, of_clock, size
from relay.cli import duration
from relay.database_url import MYSQL, SQLITE
from relay.errors import ConfigError, RelayError
from relay.findings import Finding, Level, failed, of_error, warning
from relay.listening import check_outbox
from relay.listening.event import Row
from relay.listening.polled import look
from relay.listening.polled.operate import Commands
from relay.listening.polled.source import execute, rows

PACKET = 16 << 20  # bytes of max_allowed_packet that nobody needs to think about
SQLITE_MIN = (3, 38)
_VARIABLES = (
    "version", "log_bin", "binlog_format", "log_bin_trust_function_creators", "max_allowed_packet", "read_only",
    "innodb_autoinc_lock_mode",
)  # fmt: skip
_PROCESSES = """
select t.trx_mysql_thread_id, timestampdiff(second, t.trx_started, now()) from information_schema.innodb_trx t
where t.trx_mysql_thread_id <> connection_id() order by t.trx_started limit 5
"""


def polled(db: Commands, limits: Limits) -> Iterator[Finding]:
    """Look at everything; it changes nothing.

    Args:
        db: open.
        limits: from which on what waits is too much.
    """
    url = db.url
    try:
        with db.translated():
            yield from _server(db)
            if (version := db.version()) is not None:
                look.judge(url, version)
                yield Finding("relay's tables", detail=f"version {version}")
            yield from _deleting(db)
            yield from _queue(db)
            yield from _long_transactions(db, limits)
            yield _clock(db)
            yield from _outbox(db, limits)
            yield from _keys(db)
    except RelayError as error:
        yield of_error("relay's tables" if isinstance(error, ConfigError) else url.product, error)


def _server(db: Commands) -> Iterator[Finding]:
    url = db.url
    if url.kind == SQLITE:
        ((version,),) = rows(db.driver, "select sqlite_version()")
        ((journal,),) = rows(db.driver, "pragma journal_mode")
        yield Finding("SQLite", detail=f"{url.shown()}, version {look.plain(version)}")
        if tuple(int(part) for part in look.plain(version).split(".")[:2]) < SQLITE_MIN:
            yield failed("SQLite", f"{look.plain(version)} is too old", "the relay needs 3.38 or newer")
        if look.plain(journal) != "wal":
            said = f"journal_mode is {look.plain(journal)}: while one writes nobody reads, and the other way round"
            yield warning("journal_mode", said, "pragma journal_mode = wal; it is kept in the file")
    elif url.kind == MYSQL:
        yield from _mysql(db)
    else:
        yield Finding(url.product, detail=url.shown())


def _mysql(db: Commands) -> Iterator[Finding]:
    found = {name: rows(db.driver, f"select @@global.{name}")[0][0] for name in _VARIABLES}
    yield Finding(db.url.product, detail=f"{db.url.shown()}, version {found['version']}")
    if found["log_bin"] and found["binlog_format"] == "STATEMENT":
        said = "binlog_format is STATEMENT: what is READ COMMITTED, as the listener is, may not write (error 1665)"
        yield failed("binlog_format", said, "set global binlog_format = 'ROW', and in the server's configuration")
    if found["log_bin"] and not found["log_bin_trust_function_creators"]:
        said = "the binlog is on: who makes triggers needs SUPER (error 1419)"
        yield Finding("binlog", detail=said, remedy="log_bin_trust_function_creators = 1, or watch as an administrator")
    if found["read_only"]:
        yield failed("read_only", "it is read_only: nothing can be deleted", "is it a replica? name the primary")
    if not int(found["innodb_autoinc_lock_mode"]):
        said = "innodb_autoinc_lock_mode is 0: who writes to watched tables waits for each other at the outbox"
        yield warning("innodb_autoinc_lock_mode", said, "innodb_autoinc_lock_mode = 1 (its default), and restart it")
    packet = int(found["max_allowed_packet"])
    said = f"{size(packet)}: of a row whose JSON is larger, an event holds the key only"
    if packet < PACKET:
        yield warning("max_allowed_packet", said, f"set global max_allowed_packet = {PACKET}")
    else:
        yield Finding("max_allowed_packet", detail=said)


def _deleting(db: Commands) -> Iterator[Finding]:
    """May, and can, what was confirmed be deleted? Of no row: nothing changes."""
    text, values = db.statements.deletion({0: Row("", 0, 0)}, -1)
    execute(db.driver, text, values)
    if (refuse := db.statements.refuse) is not None:
        execute(db.driver, refuse.text, refuse.values({"seq0": 0, "id0": "", "reason": ""}))
    yield Finding("rights", detail=f"what was confirmed can leave {db.table.shown}")


def _queue(db: Commands) -> Iterator[Finding]:
    """Of a firm's queue: what it costs, and which order it has."""
    if db.table.is_own:
        return
    if "key" not in db.table.columns:
        said = "no key in OUTBOX_COLUMNS: all rows keep their order, one waits for the other"
        yield Finding("order", detail=said, remedy="write key=COLUMN, the rows of one value keep their order")
    if db.table.pending and not look.index(db.url, db.table, db.driver):
        column = db.table.pending.split()[0]
        said = f"no index begins with a column of OUTBOX_PENDING ({db.table.pending}): each read looks at all rows"
        yield failed("index", said, f"create index relay_pending on {db.table.shown} ({column});")


def _long_transactions(db: Commands, limits: Limits) -> Iterator[Finding]:
    warn, fail = limits.transaction
    bounds = [limit for limit in (warn, fail) if limit is not None]
    if db.url.kind != MYSQL or not bounds:
        return
    try:
        found = rows(db.driver, _PROCESSES)
    except Exception:  # noqa: BLE001 - the right PROCESS is not the listener's
        yield Finding("transactions", detail="not looked at: grant process on *.* to the user of DATABASE_URL")
        return
    for thread, seconds in found:
        if seconds > min(bounds):
            level = Level.FAILED if fail is not None and seconds > fail else Level.WARNING
            said = f"connection {thread} has been open for {duration(seconds)}: reads look at all deleted since"
            yield Finding("long transaction", level, said, f"end it; as an administrator: kill {thread};")


def _clock(db: Commands) -> Finding:
    before = time.time()
    ((theirs,),) = rows(db.driver, look.now(db.url))
    return of_clock(db.url.product, look.moment(theirs) or 0.0, before, time.time())


def _keys(db: Commands) -> Iterator[Finding]:
    """Texts that the database finds equal are two keys to whoever reads the events."""
    if not db.table.is_own or db.url.kind != MYSQL:
        return
    from relay.listening.polled import capture  # here: a firm's queue needs none of it

    if found := capture.loose_keys(db.url, db.driver):
        said = f"{', '.join(found[:10])}: their collation ignores case; to the reader 'a' and 'A' are two keys"
        yield Finding("keys", detail=said)


def _outbox(db: Commands, limits: Limits) -> Iterator[Finding]:
    found = db.status()
    if db.table.is_own:
        yield from check_outbox.watched(found, "listen.py watch SCHEMA.TABLE")
    yield from check_outbox.waiting(found, limits)
