-- To version 2: nothing that a user has made runs any more as a role that owns something. The trigger functions change
-- their owner (the triggers keep them); what else was relay_trigger's is made again under its new owner.
set local role none;
alter function relay.row_event() owner to relay_owner;
alter function relay.bulk_event() owner to relay_owner;
alter function relay.truncate_event() owner to relay_owner;
drop function relay.key_taken(oid, record, smallint[], text), relay.big_row(record), relay.pick(json, json, oid),
    relay.key_of(json, record, text[], smallint[], oid), relay.key_image(record, smallint[], oid), relay.reserve(int),
    relay.later_event(xid8, text, tid),
    relay.write_event(bigint, tid, uuid, timestamptz, xid8, text, text, text, text, json, json, boolean),
    relay.bulk_images(text, oid, text[], smallint[], json),
    relay.event_body(uuid, timestamptz, xid8, text, text, text, text, text, boolean) cascade;
set local role relay_owner;
drop function relay.let_read_key(regclass, text[]), relay.resend_query(regclass, text),
    relay.resend_after(regclass, text[], text), relay.may_resend(regclass, text[]),
    relay.add_snapshots(regclass, text[], text[]), relay.resend_chunk(regclass, json, int, text),
    relay.resend_row(regclass, json, text) cascade;
drop view relay.watched cascade;
revoke insert, select (seq, xid, at, tbl, from_tid) on relay.outbox from relay_trigger;
revoke select on relay.watches from relay_listener;
revoke usage on sequence relay.outbox_seq_seq from relay_trigger;

drop index relay.outbox_from_tid;
alter table relay.outbox drop column from_tid, add column from_row text, alter column id drop default,
    alter column id drop not null, alter column body drop not null,
    add column old_image text, add column new_image text, add column too_large boolean;
create index outbox_from_row on relay.outbox (xid, from_row) where from_row is not null;
comment on column relay.outbox.from_row is 'row version an event of a nested trigger began with; for relay.later_event';
comment on column relay.outbox.old_image is 'row before the change, as JSON';
comment on column relay.outbox.new_image is 'row after the change, as JSON';
comment on column relay.outbox.too_large is 'the row could not be written as JSON; both images are null';
comment on column relay.outbox.id is 'identity: message_id in RabbitMQ, "id" in the body of a row event; null: see relay.backlog';
comment on column relay.outbox.body is 'the message, complete: JSON as text; null: see relay.backlog';

-- What the listener's sessions share with each other and with the triggers; one row.
create table relay.listener (
    only_row boolean primary key default true check (only_row),
    turn     bigint  not null default 0,
    channel  text    not null default concat('relay_', replace(gen_random_uuid()::text, '-', '')),
    -- Never another one, or events that wait would change their identity.
    install  uuid    not null default gen_random_uuid()
);
insert into relay.listener default values;

comment on table  relay.listener         is 'what the sessions of the listener share; one row';
comment on column relay.listener.turn    is 'raised by each session that takes the outbox; only the last one may delete from it';
comment on column relay.listener.channel is 'what the triggers NOTIFY; not guessable, so that no stranger can';
comment on column relay.listener.install is 'what the identity of events is made of, beside their numbers and times';

-- What should be watched: the triggers of relay.watch as it left them, so that their loss is noticed.
create table relay.wanted (
    tbl      regclass primary key,
    name     text     not null,
    triggers text[]   not null,
    always   boolean  not null,
    filter   text,
    -- unique: else a superuser's relay.unwatch could be made to drop somebody else's.
    reader   text     not null unique,
    secret   text     not null,
    -- The owners of tables write here, and the listener reads all of it now and then.
    check (octet_length(name) <= 255 and pg_column_size(triggers) <= 2000 and octet_length(reader) <= 63
           and octet_length(filter) <= 8000)
);
alter table relay.wanted enable row level security;

comment on table  relay.wanted          is 'what relay.watch was asked for; relay.watched compares the triggers with it';
comment on column relay.wanted.name     is 'the table''s name in events';
comment on column relay.wanted.triggers is 'the names of its triggers';
comment on column relay.wanted.always   is 'whether they fire for replicated rows as well';
comment on column relay.wanted.filter   is 'the condition on a row t, for what relay.watched says of it; the reader has its own';
comment on column relay.wanted.reader   is 'the function in schema relay_readers that looks up a key in it, as its owner';
comment on column relay.wanted.secret   is 'what that function wants to hear; nobody but relay may read it: it outlives a change of the owner';
