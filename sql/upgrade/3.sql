-- To version 3: an event may be for one queue. What writes such gets an argument more (version 1 had others: 2.sql).
drop function if exists relay.add_snapshots(regclass, text[], text[], boolean[], text) cascade;
drop function if exists relay.resend_chunk(regclass, json, int, text) cascade;
drop function if exists relay.resend_row(regclass, json, text) cascade;
alter table relay.outbox add column queue text;
comment on column relay.outbox.queue   is 'the one queue that it is for; null: all that are bound';

-- Any login can hold the lock by which the listener says that it sleeps: whether it wants to be woken stands here.
alter table relay.listener add column wakes boolean not null default true;
comment on column relay.listener.wakes   is 'whether writers notify the listener when it sleeps (NOTIFY); false: never, whoever holds the lock';

-- No function of a user's runs as a table's owner any more, nor a cast of a type that is somebody else's.
drop function if exists relay.compute(record, record, text[], smallint[], oid, json, text) cascade;
-- The condition of who resends is not the watch's: it reaches no column that the watch leaves out.
drop function if exists relay.read_rows(regclass, text[], text[], json, text, json, json, boolean) cascade;
drop function if exists relay.both(text, text) cascade;
