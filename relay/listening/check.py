"""`listen.py check`: do PostgreSQL, RabbitMQ and the settings fit each other? It looks, and changes nothing."""

import time
from collections.abc import Iterator

import pika
import pika.exceptions
import psycopg2
from pika.adapters.blocking_connection import BlockingConnection
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from relay.amqp import rights
from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED
from relay.amqp.replies import refusal as amqp_refusal
from relay.amqp.topology import NO_QUEUE, OTHER_EXCHANGE
from relay.cli import plural
from relay.config import Listen
from relay.errors import ConfigError, RelayError
from relay.findings import Finding
from relay.listening import operate, outbox
from relay.listening.database import first_line, refusal

# What the listener and its commands do; the rest is in SESSION. They come with relay_listener (sql/grants.sql).
_RIGHTS = """
select r.name from (values
    ('select on relay.outbox', has_table_privilege('relay.outbox', 'select')),
    ('delete on relay.outbox', has_table_privilege('relay.outbox', 'delete')),
    ('update (error) on relay.outbox', has_column_privilege('relay.outbox', 'error', 'update')),
    ('select on relay.listener', has_table_privilege('relay.listener', 'select')),
    ('update (turn) on relay.listener', has_column_privilege('relay.listener', 'turn', 'update')),
    ('select on relay.pending', has_table_privilege('relay.pending', 'select')),
    ('select on relay.watched', has_table_privilege('relay.watched', 'select')),
    ('execute on relay.notified', has_function_privilege('relay.notified(text[], text[])', 'execute'))
) as r (name, given) where not r.given
"""

# What keeps the listener from deleting what is confirmed: it publishes nothing then.
_READ_ONLY = "select from pg_settings where name = 'default_transaction_read_only' and reset_val = 'on'"
_LOCKS = """
select l.relation::regclass::text, l.mode,
       concat('pid ', l.pid, ' (', concat_ws(', ', a.usename, a.application_name), ')'), l.pid
from pg_locks l left join pg_stat_activity a using (pid)
where l.relation in ('relay.outbox'::regclass, 'relay.listener'::regclass) and l.granted
  and l.database = (select oid from pg_database where datname = current_database())
  and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
order by l.pid
"""
_KEPT = """
select format('trigger %I', tgname) from pg_trigger
where tgrelid = 'relay.outbox'::regclass and not tgisinternal and tgenabled <> 'D'
  and tgtype & 11 = 11  -- for each row, before delete
union all
select format('rule %I', rulename) from pg_rewrite where ev_class = 'relay.outbox'::regclass and ev_type = '4'
union all
select 'row level security' from pg_class where oid = 'relay.outbox'::regclass and relrowsecurity
"""


def postgres(db: Connection, settings: Listen) -> Iterator[Finding]:
    """Look at the server, the schema, the user's rights, and what is watched and waits.

    Args:
        db: open; it is made read-only.
        settings: DATABASE_URL, NOTIFY, LISTEN_CHANNELS.
    """
    version = db.info.parameter_status("server_version")
    yield Finding("PostgreSQL", ok=True, detail=f"{settings.database_url.shown()}, version {version}")
    try:
        db.set_session(readonly=True, autocommit=True)
        yield from _schema(db, settings)
    except psycopg2.errors.InsufficientPrivilege as error:
        yield _rights(db, first_line(error))
    except psycopg2.Error as error:
        yield _trouble(refusal(error))
    except RelayError as error:
        yield _trouble(error)


def _trouble(error: RelayError) -> Finding:
    name = "schema relay" if isinstance(error, ConfigError) else "PostgreSQL"
    return Finding(name, ok=False, detail=error.what, remedy=error.remedy)


def _rights(db: Connection, missing: str) -> Finding:
    return Finding("rights", ok=False, detail=missing, remedy=f'grant relay_listener to "{db.info.user}";')


def _schema(db: Connection, settings: Listen) -> Iterator[Finding]:
    with db.cursor() as cursor:
        cursor.execute(outbox.SESSION)
        outbox.judge(cursor.fetchall()[0], settings.database_url.shown())
        yield Finding("schema relay", ok=True, detail=f"version {outbox.SCHEMA_VERSION}")
        cursor.execute(_RIGHTS)
        missing = ", ".join(name for (name,) in cursor.fetchall())
        if missing:
            yield _rights(db, f"{db.info.user} lacks {missing}")
            return
        yield Finding("rights", ok=True, detail=f"{db.info.user} may do what the listener does")
        yield from _deleting(cursor)
        cursor.execute("select current_setting('max_prepared_transactions')::int")
        ((prepared,),) = cursor.fetchall()
    yield from _notify(settings, prepared)
    yield from _outbox(db)


def _deleting(cursor: Cursor) -> Iterator[Finding]:
    """What would keep confirmed events in the outbox."""
    cursor.execute(_READ_ONLY)
    if cursor.fetchall():
        detail = "default_transaction_read_only is on: nothing can be deleted from the outbox"
        yield Finding("writing", ok=False, detail=detail, remedy="switch it off for the user of DATABASE_URL")
    cursor.execute(_LOCKS)
    for table, mode, who, pid in cursor.fetchall():
        remedy = f"wait for it, or as a superuser: select pg_terminate_backend({pid});"
        yield Finding(
            f"lock on {table}", ok=False, detail=f"{who} holds a {mode}: nothing can be deleted", remedy=remedy
        )
    cursor.execute(_KEPT)
    for (what,) in cursor.fetchall():
        detail = f"{what} of somebody else may keep what is to be deleted"
        yield Finding("relay.outbox", ok=False, detail=detail, remedy="take it away: \\d relay.outbox")


def _notify(settings: Listen, prepared: int) -> Iterator[Finding]:
    """What is in order, and still has a limit to know of."""
    if prepared and settings.notify:
        detail = f"max_prepared_transactions = {prepared}; a transaction that wakes the listener can't be prepared"
        remedy = "if your application uses PREPARE TRANSACTION: NOTIFY=off and a short POLL_INTERVAL"
        yield Finding("NOTIFY", ok=True, detail=detail, remedy=remedy)
    if settings.listen_channels:
        detail = (
            f"{','.join(settings.listen_channels)}; what is notified while no listener runs is lost, PostgreSQL "
            "refuses 8,000 bytes or more, and any login of the database may notify"
        )
        remedy = "select relay.watch('<schema.table>'); has none of these limits"
        yield Finding("LISTEN_CHANNELS", ok=True, detail=detail, remedy=remedy)


def _outbox(db: Connection) -> Iterator[Finding]:
    found = operate.status(db)
    tables = len(found["watched"])
    remedy = "" if tables else "select relay.watch('<schema.table>');"
    yield Finding("watched", ok=True, detail=plural(tables, "table") if tables else "no table", remedy=remedy)
    for table in found["watched"]:
        if table["note"]:
            yield Finding(f"watched {table['tbl']}", ok=False, detail=table["note"], remedy=table["remedy"])
    waiting = sum(topic["events"] for topic in found["pending"])
    detail = plural(waiting, "event")
    if waiting:
        oldest = min(topic["oldest"] for topic in found["pending"]).timestamp()
        detail += f", the oldest for {operate.age(time.time() - oldest)}"
    yield Finding("outbox", ok=True, detail=detail)
    if refused := sum(topic["errors"] for topic in found["pending"]):
        remedy = "listen.py status shows them; listen.py release ID (or --all) tries again, listen.py drop ID gives up"
        yield Finding("refused", ok=False, detail=f"{plural(refused, 'event')} refused by the broker", remedy=remedy)


def rabbitmq(handle: BlockingConnection, settings: Listen, source: str) -> Iterator[Finding]:
    """Look at the exchange, the required queues, and whether a listener is at work.

    Args:
        handle: open.
        settings: RABBITMQ_URL, EXCHANGE, EXCHANGE_TYPE, REQUIRED_QUEUES.
        source: whose lease to look for; empty = not known.

    Raises:
        pika.exceptions.AMQPError: an answer that was not foreseen.
    """
    yield Finding("RabbitMQ", ok=True, detail=settings.rabbitmq_url.shown())
    yield (exchange := _exchange(handle, settings))
    if exchange.ok and (missing := _may_not_publish(handle, settings)):
        yield Finding(f"publishing to {settings.exchange}", ok=False, detail=missing, remedy=rights.command(settings))
    for queue in settings.required_queues:
        there = not _queue(handle, queue)
        remedy = "" if there else NO_QUEUE
        yield Finding(f"queue {queue}", ok=there, detail="" if there else "required, and not there", remedy=remedy)
    if source:
        yield _lease(handle, rights.lease(source))


def _exchange(handle: BlockingConnection, settings: Listen) -> Finding:
    """Ask with a declaration that RabbitMQ refuses in any case: a passive one would not compare the type.

    An alternate exchange must be a text. Of an exchange that is there RabbitMQ compares the arguments last, after
    the type and the flags; one that is not there it does not make (3.10 and 4.0).
    """
    name, kind = settings.exchange, settings.exchange_type
    code, detail = amqp_refusal(
        handle,
        lambda channel: channel.exchange_declare(name, kind, durable=True, arguments={"alternate-exchange": 0}),
        ACCESS_REFUSED,
        PRECONDITION_FAILED,
    )
    if code == ACCESS_REFUSED:
        return _exchange_of_others(handle, settings, detail)
    if "invalid type" in detail:
        return Finding(f"exchange {name}", ok=True, detail="not there yet; listen.py makes it when it runs")
    if "inequivalent arg 'alternate-exchange'" in detail and "current is none" in detail:
        return Finding(f"exchange {name}", ok=True, detail=kind)
    return Finding(f"exchange {name}", ok=False, detail=detail, remedy=OTHER_EXCHANGE)


def _may_not_publish(handle: BlockingConnection, settings: Listen) -> str:
    """Return RabbitMQ's words if the user may not publish to the exchange.

    Asked with a message that it refuses in any case, after having looked at the right to the exchange: an expiration
    must be a number (3.10 and 4.0).
    """
    channel = handle.channel()
    properties = pika.BasicProperties(expiration="none")
    try:
        channel.basic_publish(settings.exchange, "relay.check", b"", properties)
        channel.exchange_declare(settings.exchange, passive=True)  # whose answer comes after the refusal
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code == ACCESS_REFUSED and "access to topic" not in error.reply_text:
            return str(error.reply_text)
    return ""


def _exchange_of_others(handle: BlockingConnection, settings: Listen, refusal: str) -> Finding:
    """Look for one that we may not configure; RabbitMQ has not compared its type then."""
    name = settings.exchange
    if amqp_refusal(handle, lambda channel: channel.exchange_declare(name, passive=True), NOT_FOUND)[0]:
        return Finding(f"exchange {name}", ok=False, detail=refusal, remedy=rights.command(settings))
    detail = "there; whether its type is EXCHANGE_TYPE is told only to a user who may configure it"
    return Finding(f"exchange {name}", ok=True, detail=detail)


def _lease(handle: BlockingConnection, name: str) -> Finding:
    code = _queue(handle, name)
    if code:
        return Finding(
            "lease", ok=True, detail=f"{name}: {'a' if code == RESOURCE_LOCKED else 'no'} listener is at work"
        )
    return Finding("lease", ok=False, detail=f"a queue {name} is in its place", remedy=f"delete the queue {name}")


def _queue(handle: BlockingConnection, name: str) -> int:
    """Return 0 if a queue is there, NOT_FOUND, or RESOURCE_LOCKED: another connection's alone."""
    return amqp_refusal(handle, lambda channel: channel.queue_declare(name, passive=True), NOT_FOUND, RESOURCE_LOCKED)[
        0
    ]
