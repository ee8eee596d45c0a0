-- The outbox. One row = one event that RabbitMQ has not confirmed yet.
create table relay.outbox (
    -- First: defaults are evaluated in column order, and a reader that meets a hole in seq relies on this: whoever
    -- took a number had a transaction id before.
    xid     xid8        not null default pg_current_xact_id(),
    -- Order. cache 1: a session with numbers in reserve would write its events into the past.
    seq     bigint      generated always as identity (cache 1) primary key,
    -- Identity. (A sequence value can be given out twice after a crash; a uuid is not.) null: relay.event_id makes it.
    id      uuid,
    at      timestamptz not null default clock_timestamp(),
    topic   text        not null,
    tbl     text,
    op      text        not null,  -- no CHECK: PostgreSQL parses it anew for each statement, 6 µs an event
    key     text,
    body    text,                  -- null: relay.event_body makes it
    headers jsonb,
    error   text,
    -- Only where a trigger writes to a row again: see functions/in_order.sql.
    from_row text,
    -- A row event is written thin: to make its id and body when it is read is cheaper, and not the writer's time. As text,
    -- whose length is known without reading it.
    old_image text,
    new_image text,
    too_large boolean,
    -- Written by relay.resend_chunk and relay.resend_row alone.
    queue   text
) with (
    -- A queue: every row dies soon. Vacuum by the number of dead rows, not by a share of the table, and at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    -- Giving the empty end of the file back takes an exclusive lock: writers would wait for it.
    vacuum_truncate = false,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false
);

create index outbox_from_row on relay.outbox (xid, from_row) where from_row is not null;

comment on column relay.outbox.from_row is 'row version an event of a nested trigger began with; for relay.later_event';
comment on column relay.outbox.old_image is 'row before the change, as JSON';
comment on column relay.outbox.new_image is 'row after the change, as JSON';
comment on column relay.outbox.too_large is 'the row could not be written as JSON; both images are null';
comment on column relay.outbox.queue   is 'the one queue that it is for; null: all that are bound';
comment on column relay.outbox.xid     is 'transaction that wrote the event';
comment on column relay.outbox.seq     is 'order';
comment on column relay.outbox.id      is 'identity: message_id in RabbitMQ, "id" in the body of a row event; null: see relay.backlog';
comment on column relay.outbox.at      is 'when it was written';
comment on column relay.outbox.topic   is 'routing key';
comment on column relay.outbox.tbl     is 'schema.table of the watched table; null for relay.publish and NOTIFY';
comment on column relay.outbox.op      is 'insert, update, delete, truncate, snapshot, message (relay.publish), notify';
comment on column relay.outbox.key     is 'events with the same key are delivered in order; null = no order';
comment on column relay.outbox.body    is 'the message, complete: JSON as text; null: see relay.backlog';
comment on column relay.outbox.headers is 'extra headers of the message';
comment on column relay.outbox.error   is 'why the broker refused it; null = waiting for its turn';

-- What the listener's sessions share with each other and with the triggers; one row.
create table relay.listener (
    only_row boolean primary key default true check (only_row),
    turn     bigint  not null default 0,
    channel  text    not null default concat('relay_', replace(gen_random_uuid()::text, '-', '')),
    -- Never another one, or events that wait would change their identity.
    install  uuid    not null default gen_random_uuid(),
    wakes    boolean not null default true
);
insert into relay.listener default values;

comment on table  relay.listener         is 'what the sessions of the listener share; one row';
comment on column relay.listener.turn    is 'raised by each session that takes the outbox; only the last one may delete from it';
comment on column relay.listener.channel is 'what the triggers NOTIFY; not guessable, so that no stranger can';
comment on column relay.listener.install is 'what the identity of events is made of, beside their numbers and times';
comment on column relay.listener.wakes   is 'whether writers notify the listener when it sleeps (NOTIFY); false: never, whoever holds the lock';

-- What should be watched: the triggers of relay.watch as it left them, so that their loss is noticed.
create table relay.wanted (
    tbl      regclass primary key,
    name     text     not null,
    triggers text[]   not null,
    always   boolean  not null,
    filter   text,
    -- unique: else a superuser's relay.unwatch could be made to drop somebody else's.
    reader   text     not null unique,
    secret   text     not null  -- with what install.sql ends: how long all this may be
);
alter table relay.wanted enable row level security;

comment on table  relay.wanted          is 'what relay.watch was asked for; relay.watched compares the triggers with it';
comment on column relay.wanted.name     is 'the table''s name in events';
comment on column relay.wanted.triggers is 'the names of its triggers';
comment on column relay.wanted.always   is 'whether they fire for replicated rows as well';
comment on column relay.wanted.filter   is 'the condition on a row t, for what relay.watched says of it; the reader has its own';
comment on column relay.wanted.reader   is 'the function in schema relay_readers that looks up a key in it, as its owner';
comment on column relay.wanted.secret   is 'what that function wants to hear; nobody but relay may read it: it outlives a change of the owner';
