"""What `listen.py check` looks at in PostgreSQL: the schema, rights, what is in the way, and how much waits. It changes
nothing.
"""

import contextlib
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Iterator

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from relay.checks import Limits, flow, of_certificate, of_clock, size
from relay.cli import duration
from relay.config import Listen
from relay.errors import ConfigError, RelayError
from relay.findings import Finding, Level, failed, of_error
from relay.listening import check_outbox, operate, outbox, schema
from relay.listening.postgres_errors import first_line, refusal

# What the listener and its commands do; the rest is in SESSION. They come with relay_listener (sql/grants.sql).
_RIGHTS = """
select r.name from (values
    ('select on relay.outbox', has_table_privilege('relay.outbox', 'select')),
    ('delete on relay.outbox', has_table_privilege('relay.outbox', 'delete')),
    ('update (error) on relay.outbox', has_column_privilege('relay.outbox', 'error', 'update')),
    ('select on relay.listener', has_table_privilege('relay.listener', 'select')),
    ('update (turn, wakes) on relay.listener', has_column_privilege('relay.listener', 'turn', 'update')
     and has_column_privilege('relay.listener', 'wakes', 'update')),
    ('select on relay.pending', has_table_privilege('relay.pending', 'select')),
    ('select on relay.watched', has_table_privilege('relay.watched', 'select')),
    ('execute on relay.notified', has_function_privilege('relay.notified(text[], text[])', 'execute'))
) as r (name, given) where not r.given
"""

# Of a schema that was restored without its owners: code of users is no longer in a box, and is not run at all.
_BOX = """
select format('%s belongs to %s', p.oid::regproc, p.proowner::regrole) from pg_proc p
where p.pronamespace = 'relay'::regnamespace and p.proname in ('compute', 'boxed', 'ask_reader')
  and p.proowner is distinct from to_regrole('relay_compute') order by 1 limit 1
"""

# What keeps the listener from deleting what is confirmed: it publishes nothing then.
_READ_ONLY = "select from pg_settings where name = 'default_transaction_read_only' and reset_val = 'on'"
_KEPT = f"""
select {outbox.shown("what")} from (
select format('trigger %I', tgname) from pg_trigger
where tgrelid = 'relay.outbox'::regclass and not tgisinternal and tgenabled <> 'D'
  and tgtype & 11 = 11  -- for each row, before delete
union all
select format('rule %I', rulename) from pg_rewrite where ev_class = 'relay.outbox'::regclass and ev_type = '4'
union all
select 'row level security' from pg_class where oid = 'relay.outbox'::regclass and relrowsecurity
) kept (what)
"""  # noqa: S608


# Sessions of listeners: that at work, and perhaps standbys (connection.open_postgres names them).
_SESSION = """concat('pid ', pid, ' (', concat_ws(', ', usename, coalesce(host(client_addr), 'this host')), ') since ',
    to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'))"""
_LISTENERS = f"""
select {outbox.shown(_SESSION)}
from pg_stat_activity
where datname = current_database() and application_name = 'relay listen'
order by backend_start limit 5
"""  # noqa: S608
_HIDDEN = 10_000  # transactions begun since: how old one is whose beginning only pg_read_all_stats would show
_OPEN = f"""
select {outbox.shown("concat(who, ' in database ' || nullif(datname, current_database()))")}, since,
       {outbox.shown("remedy")}, datname = current_database()
from (
select concat('pid ', pid, ' (', concat_ws(', ', usename, nullif(application_name, ''), client_addr), ')'), datname,
       extract(epoch from now() - xact_start), format('select pg_terminate_backend(%%s);', pid)
from pg_stat_activity
where pid <> pg_backend_pid() and (backend_xid is not null or backend_xmin is not null and datname = current_database())
  and (xact_start < now() - make_interval(secs => %(seconds)s)
       or xact_start is null and age(coalesce(backend_xid, backend_xmin)) > %(hidden)s)
union all
select format('the prepared transaction %%L of %%s', gid, owner), database, extract(epoch from now() - prepared),
       format('rollback prepared %%L;', gid)
from pg_prepared_xacts
where prepared < now() - make_interval(secs => %(seconds)s)
order by 3 desc nulls last
limit 5
) found (who, datname, since, remedy)
"""  # noqa: S608
RATE_SECONDS = 1.0  # between two looks at how much waits


def postgres(db: Connection, settings: Listen, limits: Limits) -> Iterator[Finding]:
    """Look at the server, the schema, the user's rights, and what is watched and waits.

    Args:
        db: open; it is made read-only.
        settings: DATABASE_URL, NOTIFY, LISTEN_CHANNELS.
        limits: from which on what waits is too much.
    """
    version = db.info.parameter_status("server_version")
    yield Finding("PostgreSQL", detail=f"{settings.database_url.shown()}, version {version}")
    try:
        db.set_session(readonly=True, autocommit=True)
        yield from _certificate(db, settings)
        yield from _schema(db, settings, limits)
    except psycopg2.errors.InsufficientPrivilege as error:
        yield _rights(db, first_line(error))
    except psycopg2.Error as error:
        yield _trouble(refusal(error, db))
    except RelayError as error:
        yield _trouble(error)


def _certificate(db: Connection, settings: Listen) -> Iterator[Finding]:
    """When PostgreSQL's runs out; only of one that is verified is it known."""
    options = db.info.dsn_parameters
    if db.info.ssl_in_use and options.get("sslmode", "").startswith("verify-"):
        with contextlib.suppress(OSError):  # libpq has another notion of the file
            context = ssl.create_default_context(cafile=options.get("sslrootcert"))
            context.check_hostname = options["sslmode"] == "verify-full"
            address = db.info.host, db.info.port
            yield from of_certificate("PostgreSQL", address, context, settings.connect_timeout, _ask_for_tls)


def _ask_for_tls(plain: socket.socket) -> None:
    """As libpq does (PostgreSQL's documentation: SSL Session Encryption)."""
    plain.sendall(struct.pack("!ii", 8, 80877103))
    plain.recv(1)


def _trouble(error: RelayError) -> Finding:
    return of_error("schema relay" if isinstance(error, ConfigError) else "PostgreSQL", error)


def _rights(db: Connection, missing: str) -> Finding:
    return failed("rights", detail=missing, remedy=f'grant relay_listener to "{db.info.user}";')


def known(db: Connection) -> check_outbox.Known:
    """See there. Raises RelayError."""
    found = operate.status(db)
    with db.cursor() as cursor:
        cursor.execute(_LISTENERS)
        return check_outbox.known(found, cursor.rowcount)


def _schema(db: Connection, settings: Listen, limits: Limits) -> Iterator[Finding]:
    with db.cursor() as cursor:
        cursor.execute(schema.PATH)
        cursor.execute(schema.SESSION)
        schema.judge(cursor.fetchall()[0], settings.database_url.shown())
        yield Finding("schema relay", detail=f"version {schema.SCHEMA_VERSION}")
        cursor.execute(_BOX)
        for (owner,) in cursor.fetchall():
            said = f"{owner}: it was restored without its owners, and types of users are told as text"
            remedy = "restore it with them (install.sql makes the roles), or drop it, install.sql, and watch again"
            yield failed("owners of schema relay", said, remedy)
        cursor.execute(_RIGHTS)
        missing = ", ".join(name for (name,) in cursor.fetchall())
        if missing:
            yield _rights(db, f"{db.info.user} lacks {missing}")
            return
        yield Finding("rights", detail=f"{db.info.user} may do what the listener does")
        cursor.execute(_LISTENERS)
        sessions = "; ".join(who for (who,) in cursor.fetchall())
        yield Finding("listeners", detail=f"in PostgreSQL {sessions}" if sessions else "none is in PostgreSQL")
        yield from _deleting(cursor)
        yield from _long_transactions(cursor, limits)
        yield _clock(cursor)
        cursor.execute("select current_setting('max_prepared_transactions')::int")
        ((prepared,),) = cursor.fetchall()
    yield from _notify(settings, prepared)
    yield from _outbox(db, limits)


def _deleting(cursor: Cursor) -> Iterator[Finding]:
    """What would keep confirmed events in the outbox."""
    cursor.execute(_READ_ONLY)
    if cursor.fetchall():
        said = "default_transaction_read_only is on: nothing can be deleted from the outbox"
        yield failed("writing", detail=said, remedy="switch it off for the user of DATABASE_URL")
    cursor.execute(operate.LOCKS)
    for lock in itertools.starmap(operate.Lock, cursor.fetchall()):
        if lock.is_granted:
            remedy = f"wait for it, or as a superuser: {lock.ends}"
            said = f"{lock.who} holds a {lock.mode}: nothing can be deleted"
            yield failed(f"lock on {lock.table}", said, remedy)
    cursor.execute(_KEPT)
    for (what,) in cursor.fetchall():
        said = f"{what} of somebody else may keep what is to be deleted"
        yield failed("relay.outbox", detail=said, remedy="take it away: \\d relay.outbox")


def _long_transactions(cursor: Cursor, limits: Limits) -> Iterator[Finding]:
    """What holds gaps in the outbox open (gaps.py), and keeps VACUUM from cleaning up behind the listener."""
    warn, fail = limits.transaction
    bounds = [limit for limit in (warn, fail) if limit is not None]
    if not bounds:
        return
    cursor.execute(_OPEN, {"seconds": min(bounds), "hidden": _HIDDEN})
    for who, seconds, end, here in cursor.fetchall():
        since = f"for more than {_HIDDEN} transactions" if seconds is None else f"for {duration(seconds)}"
        level = Level.FAILED if fail is not None and (seconds or 0) > fail else Level.WARNING
        said = f"{who} has been open {since}: the outbox can't be cleaned up behind it"
        if not here:  # a snapshot's xmin is the whole server's
            said = f"{who} has been open {since}: numbers that are missing in the outbox are looked for until it ends"
        yield Finding("long transaction", level, said, f"end it; as a superuser: {end}")


def _clock(cursor: Cursor) -> Finding:
    before = time.time()
    cursor.execute("select extract(epoch from clock_timestamp())::float8")
    ((theirs,),) = cursor.fetchall()
    return of_clock("PostgreSQL", theirs, before, time.time())


def _notify(settings: Listen, prepared: int) -> Iterator[Finding]:
    """What is in order, and still has a limit to know of."""
    if prepared and settings.notify:
        said = f"max_prepared_transactions = {prepared}; a transaction that wakes the listener can't be prepared"
        remedy = "if your application uses PREPARE TRANSACTION: NOTIFY=off and a short POLL_INTERVAL"
        yield Finding("NOTIFY", detail=said, remedy=remedy)
    if settings.listen_channels:
        said = (
            f"{','.join(settings.listen_channels)}; what is notified while no listener runs is lost, PostgreSQL "
            "refuses 8,000 bytes or more, and any login of the database may notify"
        )
        remedy = "select relay.watch('<schema.table>'); has none of these limits"
        yield Finding("LISTEN_CHANNELS", detail=said, remedy=remedy)


def _outbox(db: Connection, limits: Limits) -> Iterator[Finding]:
    found = operate.status(db)
    yield from check_outbox.watched(found, "select relay.watch('<schema.table>');")
    waiting = sum(topic["events"] for topic in found["pending"])
    yield from check_outbox.waiting(found, limits, f", {_size(db)}, {_flow(db, waiting)}" if waiting else "")


def _size(db: Connection) -> str:
    """What the outbox takes on the server's disk."""
    with db.cursor() as cursor:
        cursor.execute("select pg_total_relation_size('relay.outbox')")
        ((octets,),) = cursor.fetchall()
    return f"{size(octets)} on disk"


def _flow(db: Connection, waiting: int) -> str:
    """How the outbox fills and empties, seen for a second."""
    (before, began), (after, ended) = _newest(db), _newest(db, RATE_SECONDS)
    with db.cursor() as cursor:
        cursor.execute("select coalesce(sum(events), 0)::bigint from relay.pending")
        ((left,),) = cursor.fetchall()
    if not after:
        return "going"
    come, seconds = after - before, ended - began
    return flow(come / seconds, (come + waiting - left) / seconds, left)


def _newest(db: Connection, wait: float = 0.0) -> tuple[int, float]:
    """The number of the newest event, and when it was looked at."""
    with db.cursor() as cursor:
        cursor.execute("select pg_sleep(%s)", (wait,))
        cursor.execute("select coalesce(max(seq), 0) from relay.outbox")
        return int(cursor.fetchall()[0][0]), time.monotonic()
