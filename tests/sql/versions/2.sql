-- Frozen by tests/sql/freeze.py: sql/install.sql of version 2.
-- Installs or upgrades schema relay in the database you are connected to, in one transaction:
--
--     psql -d mydb -f sql/install.sql
--
-- Run it as a superuser, or (managed services) as a role with CREATEROLE and CREATE on the database.
-- PostgreSQL 13 to 18. Running it again is harmless; events in the outbox stay. Then, for each table:
--
--     select relay.watch('public.orders');
--
-- What it creates, and who may do what: docs/sql.md. To remove everything: sql/uninstall.sql.

\set ON_ERROR_STOP on
\set relay_quiet :QUIET
\set QUIET on
\set relay_version 2
begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
set local standard_conforming_strings = on;
set local check_function_bodies = on;

-- The roles (they belong to the whole server, and are shared by all databases in which relay is installed):
--   relay_owner      owns schema relay; nobody logs in as it, and no code of a user runs as it
--   relay_trigger    reads the watched tables, past row level security; no code of a user runs as it either
--   relay_compute    runs such code (casts, conditions), read-only and rolled back; has no right on anything
--   relay_listener   for listen.py: reads, marks and removes events       grant relay_listener  to listener_login;
--   relay_publisher  for applications that call relay.publish             grant relay_publisher to app;
--   relay_watcher    for owners of tables who call relay.watch            grant relay_watcher   to table_owner;
-- A role that only writes to watched tables needs none of them.

do $$
declare
    r text;
    bad text;
    remedy text;
    may_create boolean := (select rolsuper or rolcreaterole from pg_roles where rolname = current_user);
    may_set text := case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end;
begin
    if current_setting('server_version_num')::int < 130000 then
        raise exception 'relay needs PostgreSQL 13 or newer, this is %', current_setting('server_version');
    end if;
    foreach r in array array['relay_owner', 'relay_trigger', 'relay_compute', 'relay_listener', 'relay_publisher',
                            'relay_watcher'] loop
        continue when exists (select from pg_roles where rolname = r);
        if not may_create then
            raise exception 'role % does not exist, and % may not create roles', r, current_user
                using hint = format('As a superuser: alter role %I createrole;', current_user);
        end if;
        execute format('create role %I nologin', r);
    end loop;

    -- Policies are code of the tables' owners: relay_trigger passes them by instead. Where it may not be given that
    -- (a managed service), relay.watched says what it means for tables that have policies.
    if not (select rolbypassrls from pg_roles where rolname = 'relay_trigger') then
        begin
            alter role relay_trigger bypassrls;
        exception when insufficient_privilege then
            null;
        end;
    end if;

    -- What these own runs inside the statements of every writer: they must have nothing worth stealing.
    select string_agg(format('%s is %s', rolname, concat_ws(', ', case when rolsuper then 'superuser' end,
                case when rolcreaterole then 'createrole' end, case when rolcreatedb then 'createdb' end,
                case when rolreplication then 'replication' end, case when rolbypassrls and rolname <> 'relay_trigger' then 'bypassrls' end,
                case when rolcanlogin then 'login' end)), '; ')
        into bad from pg_roles
        where rolname in ('relay_owner', 'relay_trigger', 'relay_compute')
          and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin
               or rolbypassrls and rolname <> 'relay_trigger');
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'Triggers run with the rights of these roles, inside the statements of every writer.',
                hint = 'alter role relay_owner nosuperuser nocreaterole nocreatedb noreplication nobypassrls nologin; '
                    'and the same for relay_trigger (which may have bypassrls) and relay_compute.';
    end if;
    select string_agg(format('%s is a member of %s', m.member::regrole, m.roleid::regrole), '; ')
        into bad from pg_auth_members m
        where m.member in ('relay_owner'::regrole, 'relay_trigger'::regrole, 'relay_compute'::regrole);
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'Triggers run with the rights of these roles, inside the statements of every writer.',
                hint = 'revoke that membership.';
    end if;

    -- Somebody who may create roles could have made these before, and be their member since. (Who installs without being
    -- a superuser is one, and so may be those who did it before.)
    select string_agg(format('%s may become %s', m.member::regrole, m.roleid::regrole), '; '),
           string_agg(format('revoke %s from %s;', m.roleid::regrole, m.member::regrole), ' ')
        into bad, remedy from pg_auth_members m join pg_roles r on r.oid = m.member
        where m.roleid in ('relay_owner'::regrole, 'relay_trigger'::regrole, 'relay_compute'::regrole) and not r.rolsuper
          and (select rolsuper from pg_roles where rolname = current_user);
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'It could read and forge every event.', hint = remedy;
    end if;

    -- The other three may be granted to anybody, but not by somebody who has made them before; and whoever was a member
    -- of one of the six then could have left behind what it grants to others of all that it makes.
    select string_agg(p.bad, '; '), string_agg(p.remedy, ' ') into bad, remedy from (
        select format('%s may grant %s', m.member::regrole, m.roleid::regrole) as bad,
               format('revoke %s from %s cascade;', m.roleid::regrole, m.member::regrole) as remedy
            from pg_auth_members m join pg_roles r on r.oid = m.member
            where m.roleid in ('relay_listener'::regrole, 'relay_publisher'::regrole, 'relay_watcher'::regrole)
              and m.admin_option and not r.rolsuper and (select rolsuper from pg_roles where rolname = current_user)
        union all
        select format('%I can log in', rolname), format('alter role %I nologin;', rolname)
            from pg_roles where rolname in ('relay_listener', 'relay_publisher', 'relay_watcher') and rolcanlogin
        union all
        select format('%s has default privileges', d.defaclrole::regrole),
               format('drop owned by %s; (with what it owns)', d.defaclrole::regrole)
            from pg_default_acl d
            where d.defaclrole in ('relay_owner'::regrole, 'relay_trigger'::regrole, 'relay_compute'::regrole)) p;
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'Whoever that is could read, delete and forge events.', hint = remedy;
    end if;

    -- A superuser may SET ROLE as it likes; others must be members.
    foreach r in array array['relay_owner', 'relay_trigger', 'relay_compute'] loop
        continue when pg_has_role(current_user, r, may_set);
        begin
            execute format('grant %I to current_user', r);
        exception when insufficient_privilege then
            raise exception '% is not a member of %', current_user, r
                using hint = format('As a superuser, or as the role that created it: grant %I to %I;', r, current_user);
        end;
    end loop;
end $$;
create schema if not exists relay authorization relay_owner;
create schema if not exists relay_readers authorization relay_owner;
-- Is what is there ours? Whoever may create schemas could have made one named relay: to call a function in it, or to read
-- a view, would be to run that role's code with the rights of whoever runs this. relay_readers holds functions of the
-- tables' owners, but its owner could replace them all.
do $$
declare
    s record;
    foreign_object text;
begin
    for s in select n.nspname, pg_get_userbyid(n.nspowner) as owner from pg_namespace n
             where n.nspname in ('relay', 'relay_readers') and pg_get_userbyid(n.nspowner) <> 'relay_owner' loop
        raise exception 'schema % exists already and belongs to %', s.nspname, s.owner
            using hint = format('If it is something else, rename it; if an earlier install was changed by hand: '
                'alter schema %I owner to relay_owner;', s.nspname);
    end loop;
    select format('%s belongs to %I', o.name, r.rolname) into foreign_object
        from (select oid::regprocedure::text as name, proowner as owner from pg_proc where pronamespace = to_regnamespace('relay')
              union all select oid::regclass::text, relowner from pg_class where relnamespace = to_regnamespace('relay')
              union all select oid::regtype::text, typowner from pg_type where typnamespace = to_regnamespace('relay')
              union all select oid::regoperator::text, oprowner from pg_operator where oprnamespace = to_regnamespace('relay')
             ) o
        join pg_roles r on r.oid = o.owner
        where r.rolname not in ('relay_owner', 'relay_trigger', 'relay_compute', current_user) and not r.rolsuper
        order by 1 limit 1;
    if foreign_object is not null then
        raise exception 'in schema relay, %', foreign_object
            using detail = 'It could run in place of what relay has there.', hint = 'Drop it, or give it another schema.';
    end if;
end $$;
-- Which version is installed? Sets relay_fresh and relay_from (0 = none); refuses a newer one.
select current_setting('server_version_num')::int >= 0 as ok,
    to_regclass('relay.outbox') is null as relay_fresh,
    to_regclass('relay.outbox') is not null as relay_there \gset
\set relay_from 0
\if :relay_there
    -- Read, not called: who made the roles before could have made the function, too.
    select (regexp_match(prosrc, '\d+'))[1] as relay_from from pg_proc where oid = to_regprocedure('relay.version()') \gset
\endif
select set_config('relay.from', :'relay_from', true), set_config('relay.to', :'relay_version', true) \gset ignored_

do $$
begin
    if current_setting('relay.from')::int > current_setting('relay.to')::int then
        raise exception 'this database has relay schema version %, newer than this install.sql (version %)',
            current_setting('relay.from'), current_setting('relay.to')
            using hint = 'Run the install.sql of the newer release.';
    end if;
end $$;

-- From here on everything belongs to relay_owner.
set local role relay_owner;

\if :relay_fresh
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
    too_large boolean
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
\endif
-- Brings the tables of an older version up to date, one step a version. Functions, views and grants are not part of
-- a step: install.sql replaces them all afterwards. A step looks like this (its file: upgrade/2.sql):
--
--     select :relay_from > 0 and :relay_from < 2 as relay_step \gset
--     \if :relay_step
--         \ir 2.sql
--     \endif
--
-- tables.sql gets the same change, and tests/sql/test_upgrade.py shows that both ways end in the same schema.

select :relay_from > 0 and :relay_from < 2 as relay_step \gset
\if :relay_step
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
    relay.event_body(uuid, timestamptz, xid8, text, text, text, text, text, boolean);
set local role relay_owner;
drop function relay.let_read_key(regclass, text[]), relay.resend_query(regclass, text),
    relay.resend_after(regclass, text[], text), relay.may_resend(regclass, text[]),
    relay.add_snapshots(regclass, text[], text[]), relay.resend_chunk(regclass, json, int, text),
    relay.resend_row(regclass, json, text);
drop view relay.watched;
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
\endif

-- relay.version() -> int
-- The version of schema relay in this database.
--     select relay.version();
create or replace function relay.version() returns int
language sql immutable parallel safe
as $$ select 2 $$;
-- relay.sleep_key() -> bigint
-- The advisory lock that a listener holds while it sleeps ('relay' as a number). Whoever adds an event looks whether
-- it is held, and sends NOTIFY only then: NOTIFY in every transaction halves the commit rate of 16 writers.
--     select pg_try_advisory_lock(relay.sleep_key());
-- row_event, truncate_event and relay.wake have the constant inline: change it everywhere or nowhere.
create or replace function relay.sleep_key() returns bigint
language sql immutable parallel safe
as $$ select 491327873401 $$;

-- relay.notify_listener() -> void
-- The channel has a random name, which only relay_listener may read: any login may NOTIFY a channel whose name it knows,
-- and a flood of notifications costs the listener memory. None if a session that listens and idles in a transaction lets
-- PostgreSQL's queue of notifications fill up, which any login can: once it is full, whoever notifies can't commit. The
-- listener looks by itself now and then.
create or replace function relay.notify_listener() returns void
language sql
set trace_notify = off  -- it would tell the writer the channel
as $$
    select pg_catalog.pg_notify(l.channel, '') from relay.listener l where pg_catalog.pg_notification_queue_usage() < 0.5
$$;

-- relay.wake() -> void
-- Notifies the listener if it sleeps; the same expression as in the triggers. One expression, so that a statement
-- cancelled in between cannot leave the session lock behind.
create or replace function relay.wake() returns void
language plpgsql
as $$
begin
    if (case when pg_catalog.pg_try_advisory_lock_shared(491327873401)
             then not pg_catalog.pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
end $$;
-- relay.is_json(value text) -> boolean
-- Whether a text is valid JSON (null: false).
--     select relay.is_json('{"a": 1}');     -- true
-- With an exception block, since pg_input_is_valid exists only from PostgreSQL 16. Nothing is written inside it, so
-- its subtransaction takes no transaction id.
create or replace function relay.is_json(value text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return value::json is not null;
exception when invalid_text_representation or statement_too_complex then
    return false;
end $$;
-- relay.event_id(install uuid, seq bigint, xid xid8, at timestamptz) -> uuid
-- The identity of a row event: the same whenever it is asked, and no other event's. seq alone is not one, nor xid: after a
-- crash, or in a restored database, both are given out again. The first half of a sha256, as a uuid of version 8 (its
-- makers choose; md5, and uuid version 3 with it, is not there under FIPS).
--   install  relay.listener.install
-- Plain SQL without SET, so that the planner puts it in line.
create or replace function relay.event_id(install uuid, seq bigint, xid xid8, at timestamptz) returns uuid
language sql immutable parallel safe
as $$
    select pg_catalog.encode(pg_catalog.set_byte(pg_catalog.set_byte(pg_catalog.substring(pg_catalog.sha256(
        pg_catalog.uuid_send(install) operator(pg_catalog.||) pg_catalog.int8send(seq)
        operator(pg_catalog.||) pg_catalog.xid8send(xid) operator(pg_catalog.||) pg_catalog.timestamptz_send(at)),
        1, 16), 6, 136), 8, 136), 'hex')::uuid  -- 136: version 8, and the variant of all uuids
$$;
-- relay.event_body(id, at, xid, tbl, op, key, old_image, new_image, too_large) -> text
-- The message of a row event, for whoever reads the outbox.
--     {"id":"0191...","at":"2024-05-01T10:00:00+00:00","xid":91234,"table":"public.orders","op":"update",
--      "key":{"id":42},"old":{...},"new":{...}}
--   key                   as in the outbox, 'public.orders {"id":42}'; without JSON behind the table's name (a TRUNCATE, or a
--                         trigger made by hand that tells an insert as a delete without a filter) it is null in the message
--   tbl                   null, of a trigger made by hand without one, is null in the message
--   old_image, new_image  JSON; null where there is none
--   too_large             adds "too_large":true: the row could not be written as JSON
-- It reads no JSON, so nothing in a row makes it fail, and it is the same text whatever the session is set to. Plain SQL
-- without SET, so that the planner puts it in line.
create or replace function relay.event_body(
    id uuid, at timestamptz, xid xid8, tbl text, op text, key text, old_image text, new_image text, too_large boolean
) returns text
language sql stable
as $$
    select pg_catalog.concat('{"id":"', id, '","at":',
        pg_catalog.left(pg_catalog.to_json(pg_catalog.timezone('UTC', at))::text, -1), '+00:00","xid":', xid,
        ',"table":', coalesce(pg_catalog.to_json(tbl)::text, 'null'), ',"op":', pg_catalog.to_json(op),
        ',"key":', coalesce(nullif(pg_catalog.substr(key, pg_catalog.length(tbl) operator(pg_catalog.+) 2), ''), 'null'),
        ',"old":', coalesce(old_image, 'null'), ',"new":', coalesce(new_image, 'null'),
        case when too_large then ',"too_large":true' end, '}')
$$;
-- relay.check_topic(topic text) -> text
-- The topic, or an error: it becomes a routing key, and AMQP allows 255 bytes.
--     select relay.check_topic('shop.orders');
create or replace function relay.check_topic(topic text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if topic is null or topic = '' then
        raise exception 'relay: the topic is empty'
            using errcode = 'invalid_parameter_value', hint = 'Give a routing key such as ''shop.orders''.';
    elsif octet_length(convert_to(topic, 'UTF8')) > 255 then
        raise exception 'relay: the topic % is longer than 255 bytes', quote_literal(left(topic, 60) || '...')
            using errcode = 'invalid_parameter_value', hint = 'It becomes a routing key; AMQP allows 255 bytes.';
    end if;
    return topic;
end $$;
-- relay.publish(topic text, payload text | json | jsonb, key text = null, headers jsonb = null) -> uuid
-- Puts an application's own event into the outbox, in the caller's transaction: it is published if that commits.
--   topic    routing key
--   payload  JSON; it becomes the message's body as it is, character by character (jsonb: as jsonb prints it)
--   key      events with the same key are delivered in order; null = no order. The events of a row have
--            'public.orders {"id":42}'
--   headers  a JSON object of extra message headers
-- Result: the event's id, which is its message_id in RabbitMQ.
--     select relay.publish('shop.paid', '{"order": 42, "total": 10.50}', key => 'order 42');
-- Needs: grant relay_publisher to app;
create or replace function relay.publish(topic text, payload text, key text default null, headers jsonb default null)
returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    xid constant xid8 := pg_current_xact_id();  -- before seq: see tables.sql
    event constant uuid := gen_random_uuid();
begin
    if relay.is_json(payload) is not true then
        raise exception 'relay.publish: the payload for topic % is not JSON: %', quote_nullable(topic),
            coalesce(quote_literal(left(payload, 60)), 'null')
            using errcode = 'invalid_text_representation',
                hint = 'Plain text: to_json(''...''::text); a row: row_to_json(t).';
    elsif jsonb_typeof(headers) <> 'object' then
        raise exception 'relay.publish: headers must be a JSON object, not %', headers
            using errcode = 'invalid_parameter_value', hint = 'For example ''{"source": "shop"}''.';
    elsif octet_length(headers::text) > 1048576 then  -- above 1 GB even its length can't be told, nor the row be read
        raise exception 'relay.publish: the headers for topic % are larger than 1 MiB', quote_nullable(topic)
            using errcode = 'invalid_parameter_value', hint = 'RabbitMQ takes 128 kB of headers.';
    end if;
    insert into relay.outbox (xid, id, topic, op, key, body, headers)
        values (xid, event, relay.check_topic(topic), 'message', key, payload, headers);
    perform relay.wake();
    return event;
end $$;

create or replace function relay.publish(topic text, payload json, key text default null, headers jsonb default null)
returns uuid
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.publish(topic, payload::text, key, headers) $$;

create or replace function relay.publish(topic text, payload jsonb, key text default null, headers jsonb default null)
returns uuid
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.publish(topic, payload::text, key, headers) $$;
-- relay.publish_many(topics text[], payloads text[], keys text[] = null, headers jsonb[] = null) -> uuid[]
-- relay.publish for many events in one statement: arrays of the same length, or null for keys and headers. The order
-- of the arrays is the order of the events. Result: their ids, in that order.
--     select relay.publish_many(array['shop.paid', 'shop.sent'], array['{"order": 1}', '{"order": 1}'],
--         array['order 1', 'order 1']);
-- Needs: grant relay_publisher to app;
create or replace function relay.publish_many(
    topics text[], payloads text[], keys text[] default null, headers jsonb[] default null
) returns uuid[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    bad record;
    ids uuid[];
begin
    perform pg_current_xact_id();  -- before seq: see tables.sql
    if cardinality(topics) is distinct from cardinality(payloads)
       or cardinality(keys) <> cardinality(payloads) or cardinality(headers) <> cardinality(payloads) then
        raise exception 'relay.publish_many: % topics, % payloads, % keys, % headers', cardinality(topics),
            cardinality(payloads), cardinality(keys), cardinality(headers)
            using errcode = 'invalid_parameter_value', hint = 'Give arrays of the same length.';
    end if;
    select e.n, e.topic, e.payload, e.header into bad
        from unnest(topics, payloads, headers) with ordinality e (topic, payload, header, n)
        where relay.is_json(e.payload) is not true or jsonb_typeof(e.header) <> 'object'
              or octet_length(e.header::text) > 1048576 order by e.n limit 1;  -- see relay.publish
    if found then
        raise exception 'relay.publish_many: event % (topic %): % is not %', bad.n, quote_nullable(bad.topic),
            coalesce(quote_literal(left(case when relay.is_json(bad.payload) then bad.header::text
                                             else bad.payload end, 60)), 'null'),
            case when relay.is_json(bad.payload) then 'a JSON object of headers below 1 MiB' else 'JSON' end
            using errcode = 'invalid_text_representation', hint = 'No event of this call has been written.';
    end if;
    with event as materialized (
        select gen_random_uuid() as id, e.*
            from unnest(topics, payloads, keys, headers) with ordinality e (topic, payload, key, headers, n)
    ), written as (
        insert into relay.outbox (id, topic, op, key, body, headers)
            select e.id, relay.check_topic(e.topic), 'message', e.key, e.payload, e.headers
            from event e order by e.n
    )
    select array_agg(e.id order by e.n) into ids from event e;
    perform relay.wake();
    return coalesce(ids, '{}');
end $$;
-- relay.notified(channels text[], payloads text[]) -> int
-- For the listener: puts plain notifications (LISTEN_CHANNELS) into the outbox, in the order of the arrays, so that a
-- burst is one statement. The channel is the topic. A JSON payload goes as it is; other text is wrapped as
-- {"payload": "<text>"} and marked with the header "wrapped": true. Result: how many were written.
--     select relay.notified(array['orders', 'orders'], array['{"id": 1}', 'hello']);
create or replace function relay.notified(channels text[], payloads text[]) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    written int;
begin
    perform pg_current_xact_id();  -- before seq: see tables.sql
    if cardinality(channels) is distinct from cardinality(payloads) then
        raise exception 'relay.notified: % channels, % payloads', cardinality(channels), cardinality(payloads)
            using errcode = 'invalid_parameter_value', hint = 'Give two arrays of the same length.';
    end if;
    insert into relay.outbox (id, topic, op, key, body, headers)
        select gen_random_uuid(), e.channel, 'notify', concat('notify ', e.channel),
            case when e.json then e.payload else concat('{"payload": ', to_json(e.payload), '}') end,
            case when e.json then null else jsonb '{"wrapped": true}' end
        from (select u.*, relay.is_json(u.payload) as json
                from unnest(channels, payloads) with ordinality u (channel, payload, n)) e
        order by e.n;
    get diagnostics written = row_count;
    -- No wake: the caller is the listener.
    return written;
end $$;

-- relay.notified(channel text, payload text) -> int: the same for one.
create or replace function relay.notified(channel text, payload text) returns int
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.notified(array[channel], array[payload]) $$;
-- relay.column_now(tbl oid, number smallint) -> text
-- The present name of a table's column, by its number; null if it was dropped. Numbers outlive a RENAME COLUMN.
--     select relay.column_now('public.orders'::regclass, 1::smallint);
create or replace function relay.column_now(tbl oid, number smallint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select attname::text from pg_attribute where attrelid = tbl and attnum = number and not attisdropped $$;
-- relay.operator_of(type oid, strategy int) -> text
-- The = (strategy 3) or > (strategy 5) of a type, as written inside OPERATOR(...), from its default btree operator
-- class; null if it has none (json, point, xml: such a column cannot be a key).
--     select relay.operator_of('int'::regtype, 3);      -- pg_catalog.=
--     select relay.operator_of('citext'::regtype, 5);   -- public.>
create or replace function relay.operator_of(type oid, strategy int) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
begin
    select * into t from pg_type where pg_type.oid = operator_of.type;
    if t.typtype = 'd' then
        return relay.operator_of(t.typbasetype, strategy);
    elsif t.typtype in ('e', 'r', 'm', 'c') or t.oid = 'varchar'::regtype then
        return case strategy when 3 then 'pg_catalog.=' when 5 then 'pg_catalog.>' end;  -- anyenum, anyrange, record
    elsif t.typcategory = 'A' and t.typelem <> 0 then
        return case when relay.operator_of(t.typelem, strategy) is not null
                    then case strategy when 3 then 'pg_catalog.=' when 5 then 'pg_catalog.>' end end;
    end if;
    return (
        select format('%I.%s', n.nspname, o.oprname)
        from pg_opclass c
        join pg_am m on m.oid = c.opcmethod and m.amname = 'btree'
        join pg_amop s on s.amopfamily = c.opcfamily and s.amopstrategy = operator_of.strategy
            and s.amoplefttype = c.opcintype and s.amoprighttype = c.opcintype
        join pg_operator o on o.oid = s.amopopr
        join pg_namespace n on n.oid = o.oprnamespace
        where c.opcdefault and c.opcintype = t.oid
        limit 1);
end $$;

-- relay.compare(type oid, strategy int, a text, b text) -> text
-- The condition that a equals b (strategy 3) or is greater (5), of two expressions of a type, without any code of a user:
-- with an operator of PostgreSQL's own or of a default btree operator class, which only a superuser can make, and with
-- both sides cast to the type that the operator is for, so that no other one of that name fits better. An index is used
-- then. Anything else (enums, composite types) is compared as records are: by the same classes, without an index.
--     select relay.compare('int'::regtype, 3, 't.id', '7');
create or replace function relay.compare(type oid, strategy int, a text, b text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    base constant oid := relay.base_type(type);
    op constant text := relay.operator_of(base, strategy);
    of constant text := relay.type_name(base);
begin
    if op is not null and (base < 16384 or exists (
        select from pg_opclass c
        join pg_am m on m.oid = c.opcmethod and m.amname = 'btree'
        join pg_amop s on s.amopfamily = c.opcfamily and s.amopstrategy = compare.strategy
            and s.amoplefttype = base and s.amoprighttype = base
        join pg_operator o on o.oid = s.amopopr and o.oprleft = base and o.oprright = base
        where c.opcdefault and c.opcintype = base)) then
        return format('(%s)::%s operator(%s) (%s)::%s', a, of, op, b, of);
    end if;
    return format('row(%s)::record operator(pg_catalog.%s) row(%s)::record', a, case strategy when 3 then '=' else '>' end, b);
end $$;

-- relay.base_type(type oid) -> oid: what a domain, or a domain over it, is made of; text for varchar, inet for cidr, whose
-- operators these are; any other type itself.
create or replace function relay.base_type(type oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive d (oid, base) as (
        select oid, typbasetype from pg_type where oid = base_type.type
        union all
        select t.oid, t.typbasetype from d join pg_type t on t.oid = d.base
    )
    select case oid when 'varchar'::regtype then 'text'::regtype when 'cidr'::regtype then 'inet'::regtype else oid end
    from d where base = 0
$$;

-- relay.is_plain(type oid) -> boolean
-- Whether values of a type are read without code of a user: neither a domain nor a composite type is in it, whose fields
-- can be domains later. A type that is plain stays so.
create or replace function relay.is_plain(type oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
begin
    select p.typtype, p.typelem, p.typcategory, r.rngsubtype into t
        from pg_type p left join pg_range r on r.rngtypid = p.oid where p.oid = is_plain.type;
    return case when type < 16384 then true
                when t.typcategory = 'A' and t.typelem <> 0 then relay.is_plain(t.typelem)
                when t.typtype = 'r' then relay.is_plain(t.rngsubtype)
                else t.typtype in ('b', 'e') end;
end $$;

-- relay.type_name(type oid) -> text: with its schema, and no length (format_type's "character" would be character(1)).
create or replace function relay.type_name(type oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('%I.%I', n.nspname, t.typname) from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where t.oid = type_name.type
$$;

-- relay.key_part(name text, type oid, parameter text) -> text
-- One column of a key that is JSON, in the type it is made of: by the type's input function, not by a cast.
create or replace function relay.key_part(name text, type oid, parameter text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format('(select x.%1$I from pg_catalog.json_to_record(%2$s) x (%1$I %3$s))', name, parameter,
                             relay.type_name(relay.base_type(type)))
$$;
-- relay.renamers(tbl oid, columns smallint[], condition boolean) -> oid[]
-- The roles, but for superusers, that can give a name to another thing at any moment, of those by which SQL that is made here
-- means this table, the types of these columns, their operators, and, with "condition", what that of its watch is made of. No
-- lock keeps them from that: theirs would run, with the rights of whoever runs that SQL. Who owns a schema and may create schemas renames
-- that; who owns a type, a function or an operator and may create such in its schema gives the name to another one. (The
-- table itself is locked.) '{}' where all of that is a superuser's, as in pg_catalog.
create or replace function relay.renamers(tbl oid, columns smallint[], condition boolean) returns oid[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive types as (
        select relay.base_type(a.atttypid) as oid from pg_attribute a where a.attrelid = tbl and a.attnum = any (columns)
    ), condition_of as (
        select d.refclassid as class, d.refobjid as oid
        from pg_trigger g join pg_depend d on d.classid = 'pg_trigger'::regclass and d.objid = g.oid
        where condition and g.tgrelid = tbl and g.tgname like '!relay\_%' and d.refobjid <> g.tgfoid
    ), named as (
        select c.relnamespace as schema, null::oid as owner from pg_class c where c.oid = tbl
        union select t.typnamespace, t.typowner from pg_type t
            where t.oid in (select oid from types union all select oid from condition_of where class = 'pg_type'::regclass)
        union select p.pronamespace, p.proowner from condition_of d join pg_proc p on p.oid = d.oid
            where class = 'pg_proc'::regclass
        union select o.oprnamespace, o.oprowner from condition_of d join pg_operator o on o.oid = d.oid
            where class = 'pg_operator'::regclass
        union select o.oprnamespace, o.oprowner from types join pg_opclass k on k.opcintype = types.oid
            join pg_amop s on s.amopfamily = k.opcfamily join pg_operator o on o.oid = s.amopopr
    ), up as (
        select case when n.nspowner = to_regrole('pg_database_owner')
                    then (select d.datdba from pg_database d where d.datname = current_database()) else n.nspowner end as oid,
               null::oid as schema
            from named join pg_namespace n on n.oid = named.schema
        union select owner, schema from named where owner is not null
        union select m.member, up.schema from up join pg_roles r on r.oid = up.oid and not r.rolsuper
            join pg_auth_members m on m.roleid = up.oid
    )
    select coalesce(array_agg(distinct r.oid), '{}') from up join pg_roles r on r.oid = up.oid
    where not r.rolsuper
      and case when up.schema is null then has_database_privilege(r.oid, current_database(), 'CREATE')
               else has_schema_privilege(r.oid, up.schema, 'CREATE') end
      and not (r.rolcreaterole and current_setting('server_version_num')::int < 160000)  -- it may become anybody
$$;
-- relay.root_of(tbl oid) -> oid
-- The topmost partitioned table a partition belongs to; for any other table, the table itself.
--     select relay.root_of('public.orders_2024'::regclass)::regclass;     -- public.orders
create or replace function relay.root_of(tbl oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce(pg_partition_root(tbl)::oid, tbl) $$;
-- relay.check_table(tbl regclass) -> text
-- The table's name in events, schema.table without quotes; an error if it cannot be watched by the caller.
create or replace function relay.check_table(tbl regclass) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
    above regclass;
    problem text;
    remedy text;
begin
    select c.*, n.nspname into t from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = tbl;
    select inhparent into above from pg_inherits where t.relispartition and inhrelid = tbl;
    if t.nspname in ('relay', 'pg_catalog', 'information_schema') then
        problem := 'it belongs to relay or to PostgreSQL itself';
        remedy := 'Watch your own tables only.';
    elsif t.relkind not in ('r', 'p') then
        problem := case t.relkind when 'v' then 'it is a view' when 'm' then 'it is a materialized view'
                                  when 'f' then 'it is a foreign table' else 'it is not a table' end;
        remedy := 'Watch the tables that the data is written to.';
    elsif t.relpersistence = 't' then
        problem := 'it is a temporary table';
        remedy := 'Watch a permanent table.';
    elsif not pg_has_role(t.relowner, 'USAGE') then
        problem := format('it belongs to %I, not to %I', t.relowner::regrole::text, current_user);
        remedy := format('As %s or as a superuser: select relay.watch(%L);', t.relowner::regrole, tbl);
    elsif exists (select from pg_trigger where tgrelid = tbl and tgname like E'!relay\\_%' and tgparentid <> 0) then
        problem := format('it is a partition of %s, which is watched', above);
        remedy := format('Use relay.watch(%L); its partitions are included.', above);
    end if;
    if problem is not null then
        raise exception 'relay: % cannot be watched: %', tbl, problem
            using errcode = 'wrong_object_type', hint = remedy;
    end if;
    return t.nspname || '.' || t.relname;
end $$;

-- relay.check_ops(ops text[]) -> text[]: the operations in lower case, all four for null; an error if one is unknown.
create or replace function relay.check_ops(ops text[]) returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    known constant text[] := '{insert,update,delete,truncate}';
    wanted text[] := array(select lower(trim(o)) from unnest(ops) o);
begin
    if ops is null then
        return known;
    elsif not wanted <@ known or ops = '{}' then
        raise exception 'relay.watch: ops => % is not a list of insert, update, delete, truncate', quote_literal(ops)
            using errcode = 'invalid_parameter_value', hint = 'For example: ops => ''{insert,update}''.';
    end if;
    return wanted;
end $$;

-- relay.tell_children(tbl regclass) -> void
-- A notice if other tables inherit from this one: their rows are theirs, and triggers are not inherited.
create or replace function relay.tell_children(tbl regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    children constant regclass[] := array(select inhrelid::regclass from pg_inherits where inhparent = tbl order by 1);
begin
    if children <> '{}' and (select relkind from pg_class where oid = tbl) = 'r' then
        raise notice 'relay.watch: the rows of % are not included, although select from % shows them',
            array_to_string(children, ', '), tbl
            using hint = format('select relay.watch(%L);', children[1]);
    end if;
end $$;
-- relay.find_key(tbl regclass, key text[]) -> text[]
-- The columns that identify a row: those given, or the primary key; an error if there is neither.
create or replace function relay.find_key(tbl regclass, key text[]) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    bad text;
begin
    if key is null then
        select array_agg(a.attname::text order by k.n) into key
            from pg_index i
            cross join unnest(i.indkey::int2[]) with ordinality k (attnum, n)
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where i.indrelid = tbl and i.indisprimary and k.n <= i.indnkeyatts;
        if key is null then
            raise exception 'relay.watch: table % has no primary key', tbl
                using errcode = 'invalid_table_definition',
                    detail = 'The key says which events belong to one row and must keep their order.',
                    hint = format('Add one (alter table %1$s add primary key (...)), or name the columns that identify '
                        'a row: select relay.watch(%1$L, key => ''{...}'');', tbl);
        end if;
    elsif key = '{}' then
        raise exception 'relay.watch: key => ''{}'' names no column'
            using errcode = 'invalid_parameter_value', hint = 'Leave it out to use the primary key.';
    end if;
    perform relay.check_columns(tbl, 'key', key);
    select a.attname || ' ' || format_type(a.atttypid, null) into bad
        from pg_attribute a where a.attrelid = tbl and a.attname = any (key) and relay.operator_of(a.atttypid, 3) is null;
    if bad is not null then
        raise exception 'relay.watch: column % of % cannot be part of a key', bad, tbl
            using errcode = 'invalid_parameter_value', hint = 'Its type has no equality. Choose other columns.';
    end if;
    return key;
end $$;

-- relay.check_columns(tbl regclass, argument text, names text[]) -> void
-- An error if one of the names is not a column of the table, is there twice, or is a virtual generated column (which
-- PostgreSQL does not compute for triggers).
create or replace function relay.check_columns(tbl regclass, argument text, names text[]) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    bad text;
    reason text;
begin
    select n, case when a.attname is null then 'is not a column of' when a.attgenerated = 'v'
                   then 'is a virtual generated column of' else 'is named twice for' end into bad, reason
        from unnest(names) n
        left join pg_attribute a on a.attrelid = tbl and a.attname = n and a.attnum > 0 and not a.attisdropped
        group by n, a.attname, a.attgenerated
        having a.attname is null or a.attgenerated = 'v' or count(*) > 1
        limit 1;
    if bad is not null then
        raise exception 'relay.watch: % => %: % % %', argument, quote_literal(names), quote_nullable(bad), reason, tbl
            using errcode = 'undefined_column',
                hint = 'Its columns: ' || (select string_agg(quote_ident(attname), ', ' order by attnum)
                    from pg_attribute where attrelid = tbl and attnum > 0 and not attisdropped
                    and attgenerated <> 'v');
    end if;
end $$;

-- relay.column_numbers(tbl regclass, names text[]) -> smallint[]: their numbers, in the same order.
create or replace function relay.column_numbers(tbl regclass, names text[]) returns smallint[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(a.attnum order by n.n), '{}')
    from unnest(names) with ordinality n (name, n)
    join pg_attribute a on a.attrelid = tbl and a.attname = n.name and not a.attisdropped
$$;
-- relay.find_columns(tbl regclass, columns text[], ignore text[]) -> jsonb
-- The part of row_event's options that says which columns are in the images (see relay.pick); {} = all. Virtual
-- generated columns are left out always: PostgreSQL does not compute them for triggers, they would be null.
create or replace function relay.find_columns(tbl regclass, columns text[], ignore text[]) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if columns is not null and ignore is not null then
        raise exception 'relay.watch: columns and ignore exclude each other'
            using errcode = 'invalid_parameter_value', hint = 'Give the columns you want, or those you do not want.';
    end if;
    perform relay.check_columns(tbl, 'columns', columns);
    perform relay.check_columns(tbl, 'ignore', ignore);
    if columns is not null then
        return jsonb_build_object('columns', columns, 'columns_at', relay.column_numbers(tbl, columns));
    end if;
    ignore := array(select unnest(ignore) union select attname from pg_attribute
                    where attrelid = tbl and attgenerated = 'v' and not attisdropped order by 1);
    if ignore = '{}' then
        return '{}';
    end if;
    return jsonb_build_object('ignore', ignore, 'ignore_at', relay.column_numbers(tbl, ignore));
end $$;
-- relay.qualify(tbl regclass, condition text, path text) -> text[]
-- A condition on a row three times, its columns prefixed with old, new and t, everything else with its schema: for the
-- WHEN of triggers, and for a query. PostgreSQL itself does the parsing and the printing, in a temporary view. Null
-- for null.
--   path  the search_path for names in the condition
--     select relay.qualify('public.orders', 'total > 5', 'public');
--     -- {((old.total > (5)::numeric) IS TRUE), ((new.total > (5)::numeric) IS TRUE), ...}
create or replace function relay.qualify(tbl regclass, condition text, path text) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    alias constant text := 'r' || md5(condition);  -- cannot occur in the condition
    definition text;
begin
    if condition is null then
        return null;
    elsif not has_database_privilege(current_database(), 'TEMP') then
        raise exception 'relay.watch: "when" needs the right to create a temporary view'
            using errcode = 'insufficient_privilege',
                hint = format('grant temporary on database %I to %I;', current_database(), current_user);
    end if;
    begin
        perform set_config('search_path', path, true);
        execute pg_catalog.format('create temporary view relay_when as select (%s) is true as ok '
            'from only %s as %I, (values (1)) as relay_none ("relay: no column")', condition, tbl, alias);
        perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        definition := pg_get_viewdef('pg_temp.relay_when'::regclass);
        drop view pg_temp.relay_when;
    exception when syntax_error_or_access_rule_violation or data_exception then
        raise exception 'relay.watch: "when" => % does not work for %: %', quote_literal(condition), tbl, sqlerrm
            using errcode = 'invalid_parameter_value',
                hint = 'Give a condition on the columns of one row, for example "when" => ''total > 100''.';
    end;
    definition := substring(definition from E'^\\s*SELECT (.*) AS ok\\s+FROM ONLY ');
    if octet_length(replace(definition, alias, 't')) > 8000 then  -- as relay.wanted has it
        raise exception 'relay.watch: "when" is longer than 8,000 bytes'
            using errcode = 'invalid_parameter_value', hint = 'Have a function do it, or a generated column.';
    end if;
    return array(select replace(definition, alias || '.', x) from unnest('{old.,new.,t.}'::text[]) x);
end $$;
-- relay.check_bulk(tbl regclass, key text[], "when" text, always boolean) -> void
-- An error if the table cannot be watched with one trigger a statement.
create or replace function relay.check_bulk(tbl regclass, key text[], "when" text, always boolean) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    reason text := (
        select case
            when "when" is not null then 'it cannot be combined with "when"'
            when always then 'it cannot be combined with always: logical replication fires row triggers only'
            when c.relkind = 'p' then 'the table is partitioned: writes to a partition would be missed'
            when c.relispartition then 'the table is a partition: writes to its parent would be missed'
            when exists (select from pg_inherits where tbl in (inhrelid, inhparent))
                then 'the table inherits or is inherited: writes to the other would be missed or doubled'
            when not exists (select from pg_index i where i.indrelid = tbl and i.indisunique and i.indpred is null
                             and i.indnatts >= cardinality(key) and i.indnkeyatts = cardinality(key)
                             and (select array_agg(attname::text) from pg_attribute
                                  where attrelid = tbl and attnum = any (i.indkey::int2[]) and attnum > 0) @> key)
                then format('there is no unique index on (%s): images before and after could not be paired',
                            array_to_string(key, ', '))
            when exists (select from pg_constraint where contype = 'f' and conrelid = tbl and confrelid = tbl
                         and (confupdtype in ('c', 'n', 'd') or confdeltype in ('n', 'd')))
                then 'a foreign key to itself writes to rows of the same statement'
        end from pg_class c where c.oid = tbl);
    trigger_name text := (
        select tgname from pg_trigger
        where tgrelid = tbl and not tgisinternal and tgname not like E'!relay\\_%' and tgtype & 66 = 0 limit 1);
begin
    if trigger_name is not null and reason is null then
        reason := format('trigger %I fires after changes too, and may write to the same rows: its events would come '
            'before those of the statement', trigger_name);
    end if;
    if reason is not null then
        raise exception 'relay.watch: bulk => true is not possible for %: %', tbl, reason
            using errcode = 'invalid_parameter_value', hint = 'Leave bulk out: one trigger a row has no such limit.';
    end if;
end $$;
-- relay.lock_table(tbl regclass, mode text) -> void
-- Takes a lock without queueing the application behind it: whoever waits for a lock makes all later ones wait, so it
-- waits 100 ms at a time, lets the others through, and tries again for about 10 s. Then an error names the holders.
create or replace function relay.lock_table(tbl regclass, mode text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    usual constant text := current_setting('lock_timeout');
    give_up constant timestamptz := clock_timestamp() + interval '10 s';
    holders text;
begin
    while clock_timestamp() < give_up loop
        begin
            perform set_config('lock_timeout', '100ms', true);
            execute format('lock table %s in %s mode', tbl, mode);
            perform set_config('lock_timeout', usual, true);
            return;
        exception when lock_not_available then
            perform pg_sleep(0.05 + random() * 0.2);
        end;
    end loop;
    select string_agg(distinct l.pid::text, ', ') into holders
        from pg_locks l
        where l.relation in (select relid from pg_partition_tree(tbl) union select tbl) and l.granted
          and l.locktype = 'relation' and l.pid <> pg_backend_pid()
          and (lock_table.mode = 'access exclusive' or l.mode not in ('AccessShareLock', 'RowShareLock'));
    raise exception 'relay: could not lock % in 10 s, other sessions are using it: pid %', tbl, coalesce(holders, '?')
        using errcode = 'lock_not_available', detail = 'Nothing has been changed.',
            hint = 'Call it again when their transactions have ended; what they are doing: '
                'select pid, state, xact_start, query from pg_stat_activity where pid in (' || coalesce(holders, '') || ');';
end $$;
-- relay.set_trigger(tbl regclass, name text, event text, calls text, condition text, args text[]) -> void
-- Creates one trigger of relay.watch, or changes it in place.
--   event      insert, update, delete, truncate
--   calls      row_event, image_event or boxed_event (for each row), bulk_event or truncate_event (for each statement)
--   condition  its WHEN, or null
create or replace function relay.set_trigger(
    tbl regclass, name text, event text, calls text, condition text, args text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create %s trigger %I after %s on %s %s for each %s %s execute function relay.%I(%s)',
        case when current_setting('server_version_num')::int >= 140000 then 'or replace' end, name, event, tbl,
        case when calls = 'bulk_event' then concat_ws(' ', 'referencing',
            case when event <> 'insert' then 'old table as relay_old' end,
            case when event <> 'delete' then 'new table as relay_new' end) end,
        case when calls in ('row_event', 'image_event', 'boxed_event') then 'row' else 'statement' end, 'when (' || condition || ')', calls,
        (select string_agg(quote_literal(a), ', ' order by n) from unnest(args) with ordinality x (a, n)));
exception when grouping_error or windowing_error or feature_not_supported then
    raise exception 'relay.watch: "when" does not work for %: %', tbl, sqlerrm
        using errcode = 'invalid_parameter_value',
            hint = 'Give a condition on the columns of one row, for example "when" => ''total > 100''.';
end $$;

-- relay.set_always(tbl regclass, always boolean) -> void
-- Whether the triggers of relay.watch also fire for rows that arrive by logical replication.
create or replace function relay.set_always(tbl regclass, always boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Asked once: as a subquery it may be asked anew for each trigger there is, which is minutes for 1,000 partitions.
    tables constant oid[] := array(select relid from pg_partition_tree(tbl) union select tbl);
    t record;
begin
    -- One by one also for partitions: before PostgreSQL 15 they do not follow the parent.
    for t in
        select tgrelid::regclass as relation, tgname from pg_trigger
        where tgname like E'!relay\\_%' and tgenabled <> case when always then 'A' else 'O' end
          and tgrelid = any (tables)
    loop
        execute format('alter table only %s enable %s trigger %I', t.relation, case when always then 'always' end,
                       t.tgname);
    end loop;
end $$;

-- relay.drop_triggers(tbl regclass, names text[]) -> void
create or replace function relay.drop_triggers(tbl regclass, names text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    name text;
begin
    foreach name in array names loop
        execute format('drop trigger %I on %s', name, tbl);
    end loop;
end $$;
-- relay.let_read(tbl regclass, columns text[], filter text) -> void
-- Lets relay_trigger read this table, and lock its rows, for relay.resend_chunk; takes away what it could before. No code of a user ever runs as relay_trigger.
--   columns  the key; '{}' = nothing any more
--   filter   the condition, or null: if it names something of the table's schema, relay.compute needs USAGE, and all code
--            that runs in its box has it as well
create or replace function relay.let_read(tbl regclass, columns text[], filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
    grantable constant boolean := has_schema_privilege(schema, 'USAGE WITH GRANT OPTION');
    role text;
begin
    execute format('revoke all on %s from relay_trigger', tbl);  -- of its columns as well
    if exists (select from pg_policy where polrelid = tbl and polname = 'relay_trigger_reads') then
        execute format('drop policy relay_trigger_reads on %s', tbl);  -- of schema version 1
    end if;
    if columns = '{}' then
        if grantable and not exists (select from pg_trigger t join pg_class c on c.oid = t.tgrelid
                                     where c.relnamespace = schema and t.tgname like E'!relay\\_%') then
            execute format('revoke usage on schema %s from relay_trigger, relay_compute, relay_owner', schema);
        end if;
        return;
    end if;

    execute format('grant select, update on %s to relay_trigger', tbl);
    foreach role in array array['relay_trigger'] || case when strpos(filter, schema || '.') > 0 then array['relay_compute'] end
            -- bulk_event, which is relay_owner's, names the table's type.
            || case when exists (select from pg_trigger where tgrelid = tbl and tgname like E'!relay\\_%'
                                 and coalesce(tgnewtable, tgoldtable) is not null)
                    then array['relay_owner'] end loop
        continue when has_schema_privilege(role, schema, 'USAGE');
        if not grantable then
            raise exception 'relay.watch: role % may not use schema %', role, schema
                using errcode = 'insufficient_privilege',
                    hint = format('As %s: grant usage on schema %s to %I;',
                        (select nspowner::regrole from pg_namespace where oid = schema), schema, role);
        end if;
        execute format('grant usage on schema %s to %I', schema, role);
    end loop;
end $$;
-- relay.set_triggers(tbl, ops, calls, filter, whole, head, tail) -> void
-- Makes the triggers of a table those that are wanted, in one transaction and under one lock: no change slips through.
--   calls       row_event, image_event, boxed_event or bulk_event
--   filter      what relay.qualify makes of the condition, or null
--   whole       whether events have all columns: then an update that changes nothing need not call the function
--   head, tail  the triggers' arguments before and after the operation
create or replace function relay.set_triggers(
    tbl regclass, ops text[], calls text, filter text[], whole boolean, head text[], tail text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant text := filter[1];
    after constant text := filter[2];
    changed constant text := case when whole and calls <> 'bulk_event' then 'old.* operator(pg_catalog.*<>) new.*' end;
    wanted text[] := array(select '!relay_' || o from unnest(ops) o);
    there text[] := array(select tgname from pg_trigger where tgrelid = tbl and tgname like E'!relay\\_%');
    replaceable constant boolean := current_setting('server_version_num')::int >= 140000;
    surplus text[];
begin
    if filter is not null and 'update' = any (ops) then
        wanted := wanted || '{!relay_update_in,!relay_update_out}'::text[];
    end if;
    surplus := array(select unnest(there) except select unnest(wanted) where replaceable);
    -- DROP TRIGGER needs the stronger lock; so does a change before PostgreSQL 14, which has no OR REPLACE.
    perform relay.lock_table(tbl, case when surplus = '{}' then 'share row exclusive' else 'access exclusive' end);
    perform relay.drop_triggers(tbl, surplus);

    if 'insert' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_insert', 'insert', calls, after, head || 'insert'::text || tail);
    end if;
    if 'update' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_update', 'update', calls,
                                  nullif(concat_ws(' and ', changed, before, after), ''),
                                  head || 'update'::text || tail);
    end if;
    if 'update' = any (ops) and filter is not null then
        perform relay.set_trigger(tbl, '!relay_update_in', 'update', calls, format('not %s and %s', before, after),
                                  head || 'insert'::text || tail);
        perform relay.set_trigger(tbl, '!relay_update_out', 'update', calls, format('%s and not %s', before, after),
                                  head || 'delete'::text || tail);
    end if;
    if 'delete' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_delete', 'delete', calls, before, head || 'delete'::text || tail);
    end if;
    if 'truncate' = any (ops) then
        perform relay.set_trigger(tbl, '!relay_truncate', 'truncate', 'truncate_event', null, head);
    end if;
end $$;
-- relay.watch_table(...) -> text
-- relay.watch with one parameter more: path, the search_path for the names in "when".
create or replace function relay.watch_table(
    tbl regclass, topic text, ops text[], columns text[], ignore text[], "when" text, key text[], old boolean,
    always boolean, bulk boolean, path text
) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    name constant text := relay.check_table(tbl);
    options jsonb := relay.find_columns(tbl, columns, ignore);
    filter constant text[] := relay.qualify(tbl, "when", path);
    args text[];
begin
    topic := relay.check_topic(coalesce(topic, name));
    ops := relay.check_ops(ops);
    key := relay.find_key(tbl, key);
    if filter is not null then
        options := options || jsonb_build_object('when', "when", 'filter', filter[3]);
    end if;
    if old is false then
        options := options || '{"old": false}';
    end if;
    if bulk then
        perform relay.check_bulk(tbl, key, "when", always);
    end if;
    args := array[relay.column_numbers(tbl, key)::text, options::text] || key;

    perform relay.set_triggers(tbl, ops, case when bulk then 'bulk_event' when relay.is_usual(tbl, args) then 'row_event'
                                               when relay.has_own_types(tbl) then 'boxed_event' else 'image_event' end,
                               filter, columns is null and ignore is null, array[topic, name], args);
    perform relay.let_read(tbl, key, filter[3]);
    perform relay.tell_children(tbl);
    perform relay.set_always(tbl, coalesce(always, false));
    perform relay.remember(tbl, name, coalesce(always, false), filter[3]);
    return format('%s: %s to topic %s, key %s', tbl, array_to_string(ops, ', '), topic, array_to_string(key, ', '));
end $$;

-- relay.has_own_types(tbl regclass) -> boolean: whether a column has a type that is not PostgreSQL's own.
create or replace function relay.has_own_types(tbl regclass) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tbl and d.objsubid > 0
                   and d.refclassid = 'pg_type'::regclass)
$$;

-- relay.is_usual(tbl regclass, args text[]) -> boolean
-- Whether relay.row_event is the quicker trigger: it writes whole rows with a key of one column and types that are all
-- PostgreSQL's own in one statement, and everything else by relay.general_event, slower than relay.image_event.
--   args  the triggers' arguments from the fourth on
create or replace function relay.is_usual(tbl regclass, args text[]) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select cardinality(args) = 3 and args[2] = '{}' and not relay.has_own_types(tbl)
           and not exists (select from pg_partitioned_table p where p.partrelid = tbl)
$$;

-- relay.remember(tbl regclass, name text, always boolean, filter text) -> void
-- Notes what is watched now, so that a trigger that is lost is noticed (relay.watched), and makes the table's reader.
create or replace function relay.remember(tbl regclass, name text, always boolean, filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    part regclass;
    before text := (select w.reader from relay.wanted w where w.tbl = remember.tbl);
    new_reader constant text := 'r' || replace(gen_random_uuid()::text, '-', '');
    new_secret constant text := concat(gen_random_uuid(), gen_random_uuid());
begin
    insert into relay.wanted (tbl, name, triggers, always, filter, reader, secret)
        select remember.tbl, remember.name, array_agg(tgname::text order by tgname), remember.always, remember.filter,
            new_reader, new_secret
        from pg_trigger where tgrelid = remember.tbl and tgname like E'!relay\\_%' and tgparentid = 0
        on conflict on constraint wanted_pkey do update set name = excluded.name, triggers = excluded.triggers,
            always = excluded.always, filter = excluded.filter, reader = new_reader, secret = new_secret;
    perform relay.drop_reader(before);
    -- A table that was watched by itself before it became a partition has the root's triggers now.
    for part, before in
        select w.tbl, w.reader from relay.wanted w
        where w.tbl <> remember.tbl and w.tbl in (select relid from pg_partition_tree(remember.tbl))
    loop
        perform relay.drop_triggers(part, array(select tgname from pg_trigger
            where tgrelid = part and tgname like E'!relay\\_%' and tgparentid = 0));  -- that of TRUNCATE
        perform relay.drop_reader(before);
        update relay.wanted w set triggers = '{}' where w.tbl = part;  -- relay.forget
    end loop;
    perform relay.make_reader(tbl, new_reader, new_secret, filter);
end $$;

-- relay.drop_reader(reader text) -> void: also if it is gone.
create or replace function relay.drop_reader(reader text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if reader is null then
        return;
    end if;
    -- Cascade: another relay_watcher could have made a view that names them.
    execute pg_catalog.format('drop domain if exists relay_readers.%I cascade', reader);
    execute pg_catalog.format('drop function if exists relay_readers.%I(json) cascade', reader);
exception when insufficient_privilege then
    null;  -- of a former owner
end $$;
-- relay.watch(tbl, topic, ops, columns, ignore, "when", key, old, always, bulk) -> text
-- Installs triggers on a table: each change of a row becomes an event in relay.outbox, in the writer's transaction.
-- Calling it again changes the watch in place. Only the table's owner may call it, if a member of relay_watcher.
--   tbl      the table; of a partitioned table, the root: its partitions are included, also those attached later
--   topic    routing key; default schema.table
--   ops      which of '{insert,update,delete,truncate}'; default all
--   columns  the columns in the events; default all, also those added later
--   ignore   or: the columns that are not. An update that changes only these writes no event
--   "when"   a condition on the row, with the meaning of a publication's row filter: an update that makes a row enter
--            the condition is an insert, one that makes it leave is a delete
--   key      the columns that identify a row, if not the primary key: its events keep their order
--   old      false: no image of the row before
--   always   true: also rows that arrive by logical replication
--   bulk     true: one trigger a statement, for tables that are loaded in bulk (docs/sql.md, "Bulk")
-- Result: what is watched now.
--     select relay.watch('public.orders');
--     select relay.watch('public.orders', topic => 'shop.orders', ignore => '{last_seen}', "when" => 'total > 100');
create or replace function relay.watch(
    tbl regclass, topic text default null, ops text[] default null, columns text[] default null,
    ignore text[] default null, "when" text default null, key text[] default null, old boolean default true,
    always boolean default false, bulk boolean default false
) returns text
language sql  -- without SET search_path: the names in "when" are looked up with the caller's
as $$
    select relay.watch_table(tbl, topic, ops, columns, ignore, "when", key, old, always, bulk,
                             pg_catalog.current_setting('search_path'))
$$;
-- relay.unwatch(tbl regclass) -> boolean
-- Removes what relay.watch installed on a table. Events already in the outbox stay. false: it was not watched.
--     select relay.unwatch('public.orders');
create or replace function relay.unwatch(tbl regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = on
as $$
declare
    names constant text[] := array(select tgname from pg_trigger
        where tgrelid = tbl and tgname like E'!relay\\_%' and tgparentid = 0);
begin
    perform relay.drop_reader((select reader from relay.wanted where wanted.tbl = unwatch.tbl));
    update relay.wanted set triggers = '{}' where wanted.tbl = unwatch.tbl;  -- relay.forget
    if names = '{}' then
        return found;
    end if;
    perform relay.lock_table(tbl, 'access exclusive');
    perform relay.drop_triggers(tbl, names);
    perform relay.let_read(tbl, '{}', null);
    return true;
end $$;

-- relay.forget() trigger: deletes a row of relay.wanted that wants nothing any more. Its owner may not DELETE: see grants.sql.
create or replace function relay.forget() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from relay.wanted where wanted.tbl = old.tbl;
    return null;
end $$;

-- relay.owns(tbl regclass) -> boolean
-- Whether the caller owns a table, or its owner's rights are the caller's: for the policy of relay.wanted. VOLATILE, so that
-- it sees who owns it now: a statement that began while the caller did, and meets a row that was changed since, has the
-- policy looked at again for the new row, but with its old snapshot.
create or replace function relay.owns(tbl regclass) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_has_role((select relowner from pg_class where oid = tbl), 'USAGE');
end $$;
drop trigger if exists forget on relay.wanted;
create trigger forget after update on relay.wanted for each row when (new.triggers = '{}') execute function relay.forget();
drop policy if exists owners on relay.wanted;
create policy owners on relay.wanted to relay_watcher using (relay.owns(tbl));
-- relay.add_snapshots(tbl regclass, keys text[], images text[], passes boolean[], problem text) -> int
-- Puts rows of a watched table into the outbox as events with op snapshot, for relay.resend_chunk. An image that is null
-- was too large to be written as JSON; a row that does not pass the condition is left out. Result: how many.
create or replace function relay.add_snapshots(
    tbl regclass, keys text[], images text[], passes boolean[], problem text
) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    written int;
begin
    if problem is not null then
        raise exception '%', substr(problem, 7) using errcode = left(problem, 5);
    end if;
    select topic, name into strict w from relay.watches where watches.tbl = add_snapshots.tbl;
    insert into relay.outbox (topic, tbl, op, key, new_image, too_large)
        select w.topic, w.name, 'snapshot', concat(w.name, ' ', e.key), e.image, nullif(e.image is null, false)
        from unnest(keys, images, passes) with ordinality e (key, image, passes, n) where e.passes order by e.n;
    get diagnostics written = row_count;
    perform relay.wake();
    return written;
end $$;
-- relay.read_options(argument text) -> jsonb, relay.read_numbers(argument text) -> smallint[]
-- Arguments of row_event, for relay.watches: null if a trigger made by hand has something else there, which must not
-- keep anybody from reading about the other tables.
create or replace function relay.read_options(argument text) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    options jsonb;
begin
    options := argument;
    return case when jsonb_typeof(options) = 'object'
        and coalesce(jsonb_typeof(options -> 'columns'), 'array') = 'array'
        and coalesce(jsonb_typeof(options -> 'ignore'), 'array') = 'array' then options end;
exception when others then
    return null;
end $$;

create or replace function relay.read_numbers(argument text) returns smallint[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    numbers smallint[];
begin
    if octet_length(argument) < 20000 then  -- a table has 1600 columns
        numbers := argument;
    end if;
    return numbers;
exception when others then
    return null;
end $$;
-- relay.watches: the arguments of the triggers, one row a watched table; for relay.watched and relay.resend_chunk.
create or replace view relay.watches as
with recursive trigger as (
    select t.oid, t.tgrelid, t.tgname, t.tgenabled, t.tgtype & 1 = 0 and t.tgtype & 32 = 0 as bulk,
        -- The arguments are stored one after the other, each closed by a zero byte; in "escape" that is \000, once the
        -- backslashes are octal as well. That takes up to 0.4 s a megabyte, and whoever makes triggers by hand must not keep
        -- the listener waiting: of an owner's, what is above 1,000 bytes in each may be 4 MiB in all.
        array(
            select convert_from(decode(x.escaped, 'escape'), getdatabaseencoding())
            from unnest(string_to_array(replace(encode(t.tgargs, 'escape'), '\\', '\134'), '\000'))
                 with ordinality x (escaped, n)
            where x.n <= t.tgnargs and t.is_read
            order by x.n) as args
    from (
        select t.*, octet_length(t.tgargs) <= 262144 and sum(greatest(octet_length(t.tgargs) - 1000, 0))
                        over (partition by c.relowner order by t.tgrelid, t.tgname) <= 4194304 as is_read
        from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where t.tgname like '!relay\_%' and t.tgparentid = 0
    ) t
    -- Any login may name a trigger like that; the functions only a relay_watcher may use.
    where t.tgfoid in (select oid from pg_proc where pronamespace = 'relay'::regnamespace)
), each as (  -- those of partitions as well; pg_partition_tree would wait for their locks
    select oid, tgrelid as tbl, tgrelid, tgenabled from trigger
    union all
    select t.oid, e.tbl, t.tgrelid, t.tgenabled from pg_trigger t join each e on t.tgparentid = e.oid
), fires as (
    select tbl, bool_and(tgenabled = 'A') as always,
        array_agg(distinct tgrelid order by tgrelid) filter (where tgenabled in ('D', 'R')) as off  -- R: only for replicated rows
    from each
    group by tbl
)
select tgrelid as tbl, min(args[1]) as topic, min(args[2]) as name,
    array_agg(substring(tgname from 8) order by tgname) as triggers,
    bool_and(f.always) as always, max(f.off) is not null as disabled, bool_or(bulk) as bulk,
    relay.read_numbers(max(args[4])) as numbers, relay.read_options(max(args[5])) as options, max(args[6:1605]) as key,
    max(f.off) as off
from trigger
join fires f on f.tbl = tgrelid
group by tgrelid;
-- relay.watched: what is watched, and how; one row a table, read from its triggers and compared with relay.wanted.
--   note    what is not as it was when relay.watch was called; the listener logs it as an error
--   remedy  what mends the first of it
--   owner   the table's; of one that was dropped the owner it had, if that is known
--     select * from relay.watched;
create or replace view relay.watched as
with noted as (
    -- Owners of tables write these, and must not keep the listener waiting: of each the first 100 tables that were dropped are
    -- shown, and of its conditions 1 MiB is read. (A dropped table's owner is its reader's.)
    select n.tbl, n.name, n.triggers, n.always, n.reader, coalesce(c.relowner, y.typowner) as owner, c.oid as there,
        case when sum(octet_length(n.filter)) over (partition by coalesce(c.relowner, y.typowner) order by n.tbl) <= 1048576
             then n.filter end as filter,
        row_number() over (partition by coalesce(c.relowner, y.typowner), c.oid is null order by n.tbl) as number
    from relay.wanted n
    left join pg_class c on c.oid = n.tbl
    left join pg_type y on y.typname = n.reader::name and y.typnamespace = 'relay_readers'::regnamespace
), found as (
    select coalesce(w.tbl, s.tbl) as tbl, w.topic, coalesce(w.name, s.name) as name, w.key, w.triggers, w.options,
        w.always, w.bulk, w.disabled, w.numbers, w.off, s.triggers as wanted, s.always as always_wanted, s.filter, s.reader,
        s.owner
    from relay.watches w
    full join (select * from noted where there is not null or number <= 100) s on s.tbl = w.tbl
)
select
    w.tbl::regclass as tbl,
    w.topic,
    array(select o from unnest('{insert,update,delete,truncate}'::text[]) o where o = any (w.triggers)) as ops,
    w.key,
    array(select jsonb_array_elements_text(w.options -> 'columns')) as columns,
    array(select jsonb_array_elements_text(w.options -> 'ignore')) as ignore,
    w.options ->> 'when' as "when",
    w.options -> 'old' is null as old,
    w.always,
    w.bulk,
    nullif(array_to_string(n.notes, '; '), '') as note,
    n.remedies[1] as remedy,
    coalesce(c.relowner, w.owner)::regrole as owner
from found w
left join pg_class c on c.oid = w.tbl
left join pg_namespace s on s.oid = c.relnamespace
cross join lateral (
    -- Columns that the condition named at relay.watch and that are there no more; what else it says follows it in brackets.
    select string_agg(distinct x[1], ', ') as gone, ' (its condition: ' || w.filter || ')' as filter
    from regexp_matches(w.filter, '\mt\.("(?:[^"]|"")+"|\w+)', 'g') x
    where not exists (select from pg_attribute a where a.attrelid = w.tbl and not a.attisdropped
                      and a.attname = (case when x[1] like '"%' then replace(substr(x[1], 2, length(x[1]) - 2), '""', '"')
                                        else x[1] end)::name)
) condition
cross join lateral (
    select string_agg(quote_ident(t.tgname), ', ' order by t.tgname) as names,
        string_agg(format('drop trigger %I on %s; ', t.tgname, w.tbl::regclass), '' order by t.tgname) as dropped
    from pg_trigger t
    where t.tgrelid = w.tbl and t.tgname not like E'!relay\\_%' and t.tgparentid = 0 and w.wanted <> '{}'
        and t.tgfoid in (select oid from pg_proc where pronamespace = 'relay'::regnamespace)
) renamed
cross join lateral (
    select array_agg(x.note order by x.n) as notes, array_agg(x.remedy order by x.n) as remedies
    from (values
        (1, 'the table was dropped', c.oid is null,
            format('if it is not to come back: delete from relay.wanted where tbl = %s::regclass;', w.tbl::oid)),
        (2, concat('all its triggers are gone: nothing is captured', ', but by ' || renamed.names, condition.filter),
            c.oid is not null and w.triggers is null,
            concat(renamed.dropped, format('select relay.watch(%L, ...); with the arguments it had', w.tbl::regclass))),
        (3, concat('triggers are gone: ', array_to_string(array(
                select unnest(w.wanted) except select '!relay_' || unnest(w.triggers) order by 1), ', '),
                ' (there is also ' || renamed.names || ')', condition.filter),
            w.triggers is not null and not w.wanted <@ array(select '!relay_' || unnest(w.triggers)),
            concat(renamed.dropped, format('select relay.watch(%L, ...); with the arguments it had', w.tbl::regclass))),
        (4, concat('a trigger is disabled',
                ' on ' || nullif(array_to_string(array_remove(w.off, w.tbl)::regclass[], ', '), '')), w.disabled,
            format('select relay.set_always(%L, %L);', w.tbl::regclass, coalesce(w.always_wanted, w.always))),
        (5, 'it should fire for replicated rows as well (always), and does not',
            w.always_wanted and not w.always and not w.disabled,
            format('select relay.set_always(%L, true);', w.tbl::regclass)),
        (6, format('events still name it %s', w.name), w.name <> s.nspname || '.' || c.relname,
            format('select relay.watch(%L, ...); if they need not', w.tbl::regclass)),
        (7, 'a key column was renamed or dropped', exists (
                select from unnest(w.key, w.numbers) k (name, number)
                left join pg_attribute a on a.attrelid = w.tbl and a.attnum = k.number and not a.attisdropped
                where a.attname is distinct from k.name),
            format('select relay.watch(%L, ...);', w.tbl::regclass)),
        (8, 'bulk, but another trigger fires after changes: order is lost', w.bulk and exists (
                select from pg_trigger t where t.tgrelid = w.tbl and not t.tgisinternal and t.tgtype & 66 = 0
                and t.tgname not like E'!relay\\_%'),
            format('select relay.watch(%L, ...); without bulk', w.tbl::regclass)),
        (9, 'a virtual generated column was added: it is null in events', exists (
                select from pg_attribute a where a.attrelid = w.tbl and a.attgenerated = 'v' and not a.attisdropped
                and not coalesce(w.options -> 'ignore', '[]') ? a.attname::text and w.options -> 'columns' is null),
            format('select relay.watch(%L, ...); once more leaves it out', w.tbl::regclass)),
        (10, 'row level security is forced on its owner: a key that another row has taken over may be told as deleted',
            c.relrowsecurity and c.relforcerowsecurity and exists (
                select from pg_roles r where r.oid = c.relowner and not r.rolsuper and not r.rolbypassrls),
            format('alter table %s no force row level security;', w.tbl::regclass)),
        (11, format('its condition names %s, which was dropped or renamed: a key that another row has taken over may be told '
                    'as deleted', condition.gone),
            c.oid is not null and condition.gone is not null,
            format('select relay.watch(%L, ...); with a condition on the columns that there are', w.tbl::regclass)),
        (12, 'what looks up its keys is gone or not its owner''s: a key that another row has taken over may be told as deleted',
            c.oid is not null and w.reader is not null and not (has_table_privilege(c.relowner, c.oid, 'select') and exists (
                select from pg_type y where y.typname = w.reader::name and y.typowner = c.relowner
                and y.typnamespace = 'relay_readers'::regnamespace
                and exists (select from pg_constraint k where k.contypid = y.oid))),
            format('as %s or as a superuser: select relay.watch(%L, ...); with the arguments it had',
                   c.relowner::regrole, w.tbl::regclass)),
        (13, 'no trigger fires where session_replication_role is replica, and that is set for a role or for this database',
            c.oid is not null and w.wanted is not null and not w.always_wanted and exists (
                select from pg_db_role_setting d where 'session_replication_role=replica' = any (d.setconfig)
                and d.setdatabase in (0, (select oid from pg_database where datname = current_database()))),
            format('select relay.set_always(%L, true); or reset it: alter role ... reset session_replication_role;',
                   w.tbl::regclass)),
        (14, 'a partition has another owner: a key that another row has taken over may be told as deleted',
            c.relkind = 'p' and exists (
                with recursive below (oid) as (
                    select i.inhrelid from pg_inherits i where i.inhparent = w.tbl
                    union all select i.inhrelid from below b join pg_inherits i on i.inhparent = b.oid)
                select from below b join pg_class p on p.oid = b.oid where p.relowner <> c.relowner),
            format('alter table <partition> owner to %s;', c.relowner::regrole)),
        (15, 'others than its owner may rename its schema, or what its key or its condition names: a key that another row has '
             'taken over may be told as deleted', w.reader is not null and exists (
                select from unnest(relay.renamers(w.tbl, w.numbers, true)) r (role)
                where not pg_has_role(r.role, c.relowner, 'MEMBER')),
            format('alter schema (type, function) ... owner to %s; or revoke the right to create such there: revoke create on '
                   'database %I (on schema ...) from ...;', c.relowner::regrole, current_database()))
    ) x (n, note, applies, remedy)
    where x.applies
) n;
-- relay.pending: what waits in the outbox, one row a topic. It counts, so it takes a moment with a million events.
--   errors  events that the broker refused; each holds up the later ones of its key
--     select * from relay.pending;
create or replace view relay.pending as
select topic, count(*) as events, min(at) as oldest, count(error) as errors,
    (array_agg(error order by seq) filter (where error is not null))[1] as first_error
from relay.outbox
group by topic;
-- relay.backlog: the events in the outbox as they will be published, with their identity and their message.
--     select * from relay.backlog order by seq limit 20;
create or replace view relay.backlog as
select e.seq, e.id, e.at, e.xid, e.topic, e.tbl, e.op, e.key,
    coalesce(e.body, relay.event_body(e.id, e.at, e.xid, e.tbl, e.op, e.key, e.old_image, e.new_image, e.too_large)) as body,
    e.headers, e.error
from (
    select o.seq, coalesce(o.id, relay.event_id(l.install, o.seq, o.xid, o.at)) as id, o.at, o.xid, o.topic, o.tbl, o.op,
        o.key, o.body, o.headers, o.error, o.old_image, o.new_image, o.too_large
    from relay.outbox o cross join relay.listener l
) e;
-- relay.resend_chunk(tbl regclass, after json, most int, "where" text) -> copied int, last json, skipped json[]
-- Copies existing rows of a watched table into the outbox, as events with op snapshot: a first load, or a repair.
--   after    the key of the last row already looked at, {"id":42}; null = from the beginning
--   most     how many rows to look at (more, if several share the last key)
--   "where"  a condition on the row, null = none; the names of functions and types in it with their schema
--   copied   rows written to the outbox
--   last     pass it as "after" next time; null = the end was reached
--   skipped  keys of rows that others had locked: pass them to relay.resend_row
-- Call it in transactions of their own, READ COMMITTED, and commit each: the rows stay locked (FOR SHARE) until then,
-- so that no change of theirs can come before their snapshot but be older. It never waits for a lock, so it cannot make
-- the application the victim of a deadlock. The topic, the columns and the condition are those of relay.watch.
-- Rows whose key is null are left out. The rows are read with the rights that relay.watch has given relay_trigger, and
-- both conditions are looked at by relay.compute, which has none (read_rows.sql).
--     select * from relay.resend_chunk('public.orders', null, 1000, null);
create or replace function relay.resend_chunk(
    tbl regclass, after json, most int, "where" text, out copied int, out last json, out skipped json[]
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    w constant record := relay.watch_of(tbl);
    chosen text[];
    r record;
begin
    if after is not null and (json_typeof(after) <> 'object' or exists (
        select from unnest(w.names) n where after ->> n is null)) then
        raise exception 'relay: % is not a key of %', after, tbl
            using errcode = 'invalid_parameter_value',
                hint = format('A key of it looks like {%s}.',
                    (select string_agg(to_json(n) || ':...', ',') from unnest(w.names) n));
    end if;
    chosen := relay.keys_after(tbl, w.names, w.columns, after, most);
    last := chosen[cardinality(chosen)];
    copied := 0;
    skipped := '{}';
    if chosen is null then
        return;
    end if;
    select * into r from relay.read_rows(tbl, w.names, w.columns, w.options, relay.both(w.filter, "where"), after, last, false);
    copied := relay.add_snapshots(tbl, r.keys, r.images, r.passes, r.problem);
    skipped := array(select c::json from unnest(chosen) c where c <> all (coalesce(r.keys, '{}')));
    if cardinality(chosen) < most then
        last := null;
    end if;
end $$;

-- relay.resend_row(tbl regclass, key json, "where" text) -> int
-- The same for the rows with one key; waits for their locks (set lock_timeout). Result: how many were copied; 0 if there
-- is none, or it does not meet the condition. In a transaction of its own: who holds no other lock deadlocks nobody.
--     select relay.resend_row('public.orders', '{"id": 42}', null);
create or replace function relay.resend_row(tbl regclass, key json, "where" text) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    w constant record := relay.watch_of(tbl);
    r record;
begin
    select * into r from relay.read_rows(tbl, w.names, w.columns, w.options, relay.both(w.filter, "where"), null, key, true);
    return relay.add_snapshots(tbl, r.keys, r.images, r.passes, r.problem);
end $$;

-- relay.both(a text, b text) -> text: two conditions as one; null = none. Odd brackets in b do not undo a.
create or replace function relay.both(a text, b text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select case when a is null or b is null then coalesce(a, b) else format('case when (%s) then (%s) end', a, b) end $$;

-- relay.watch_of(tbl regclass) -> names text[], columns text[], options json, filter text
-- What resending needs to know of a watch; an error if the table is not watched, or can't be read.
--   names    the key's columns in events
--   columns  the same as they are called now
create or replace function relay.watch_of(
    tbl regclass, out names text[], out columns text[], out options json, out filter text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
begin
    select * into w from relay.watches where watches.tbl = watch_of.tbl;
    columns := array(select relay.column_now(tbl, n) from unnest(w.numbers) n);
    if w.topic is null then
        raise exception 'relay: % is not watched, so there is no topic to send its rows to', tbl
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('As its owner: select relay.watch(%L);', tbl);
    elsif columns <> w.key then
        raise exception 'relay: the key of % was % when relay.watch was called, and is % now', tbl, w.key, columns
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('As its owner: select relay.watch(%L, ...) once more.', tbl);
    elsif not (has_schema_privilege('relay_trigger', schema, 'USAGE') and has_table_privilege('relay_trigger', tbl, 'SELECT')
               and has_table_privilege('relay_trigger', tbl, 'UPDATE')) then
        raise exception 'relay: relay_trigger may not read and lock the rows of %', tbl
            using errcode = 'insufficient_privilege', detail = 'A row that is locked for copying needs a right to UPDATE.',
                hint = format('As its owner: grant usage on schema %s to relay_trigger; '
                    'grant select, update on %s to relay_trigger;', schema, tbl);
    end if;
    if exists (select from pg_attribute where attrelid = tbl and attnum = any (w.numbers)
               and not relay.is_plain(relay.base_type(atttypid))) then
        raise exception 'relay: the rows of % cannot be resent: its key has a composite type, or a domain inside another',
            tbl using errcode = 'feature_not_supported', detail = 'Reading such a key back runs the checks of domains.';
    end if;
    names := w.key;
    options := w.options;
    filter := w.options ->> 'filter';
end $$;
-- relay.pick(r json, options json, tbl oid) -> json
-- The row without the columns that relay.watch(columns => ..., ignore => ...) leaves out. The text of the values
-- stays as it is.
--   r        must hold no escape \u: some of them can't be read (relay.compute does without)
--   options  {"columns": ["a", "b"], "columns_at": [1, 2]} or {"ignore": [...], "ignore_at": [...]}; the numbers find
--            a column again that was renamed since, otherwise the renamed password column would be published.
create or replace function relay.pick(r json, options json, tbl oid) returns json
language plpgsql stable
as $$
declare
    keep constant boolean := options -> 'columns' is not null;
    names text[] := array(select json_array_elements_text(coalesce(options -> 'columns', options -> 'ignore')));
    seen int;
    picked text;
begin
    if r is null or names = '{}' then
        return r;
    end if;
    for attempt in 1..2 loop
        select concat('{', string_agg(concat(to_json(e.key), ':', e.value), ',')
                               filter (where (e.key = any (names)) = keep), '}'),
               count(*) filter (where e.key = any (names))
            into picked, seen from json_each(r) e;
        exit when seen = cardinality(names);
        -- A column was renamed or dropped after relay.watch: look for it by its number.
        names := array(
            select c from json_array_elements_text(coalesce(options -> 'columns_at', options -> 'ignore_at')) n,
                relay.column_now(relay.root_of(tbl), n::smallint) c
            where c is not null);
    end loop;
    return picked;
end $$;
-- relay.key_of(image json, names text[], numbers smallint[], tbl oid) -> text
-- The key of a row as JSON, {"a":1,"b":"x"}, from its image: for row_event, where the short way does not do, a key of
-- several columns, or a column that is not found under the name it had at relay.watch. Then its number finds it, and in
-- the key it keeps its old name, so that the order of a row's events outlives a RENAME COLUMN. A dropped column is null.
--   image           must hold no escape \u: some of them can't be read (relay.compute does without)
--   names, numbers  the key's columns; the numbers are those of tbl, or of the partitioned table above it
create or replace function relay.key_of(image json, names text[], numbers smallint[], tbl oid) returns text
language plpgsql stable
as $$
declare
    result text := '{';
begin
    for i in 1..pg_catalog.cardinality(names) loop
        -- One expression: each is prepared anew in each transaction.
        result := pg_catalog.concat(result, case when i operator(pg_catalog.>) 1 then ',' end, pg_catalog.to_json(names[i]), ':',
            coalesce((image operator(pg_catalog.->) names[i])::text,
                     (image operator(pg_catalog.->) relay.column_now(relay.root_of(tbl), numbers[i]))::text, 'null'));
    end loop;
    return pg_catalog.concat(result, '}');
end $$;
-- The order of events when a trigger of the application changes a row whose own event is still to come:
--
--     insert into address values (1, true), (2, true);    -- and an AFTER ROW trigger that, for each new default
--                                                         -- address, sets the others to false
--
-- Row 1's trigger updates row 2 before the triggers of row 2's insert have run: the event of the update is written
-- first. To put the insert before it, an event written by a nested trigger about a row version of its own transaction
-- leaves numbers free below its own, and remembers that version (from_row). The event that made the version finds it
-- replaced already (xmax is set), and takes the number below.

-- relay.take_number(depth int) -> bigint
-- A number for an event, with two (a change of the key is two events) below it free for each level of triggers around
-- this one. Taken until so many have followed one another: other sessions take numbers meanwhile, and one in between
-- would be another's.
create or replace function relay.take_number(depth int) returns bigint
language plpgsql
as $$
declare
    number bigint := pg_catalog.nextval('relay.outbox_seq_seq');
    before bigint;
    in_a_row int := 1;
begin
    while in_a_row < 2 * depth - 1 loop
        before := number;
        number := pg_catalog.nextval('relay.outbox_seq_seq');
        in_a_row := case when number = before + 1 then in_a_row + 1 else 1 end;
    end loop;
    return number;
end $$;

-- relay.row_version(tbl oid, at tid) -> text
-- What tells a row version from all others of a transaction: a ctid does so only within one file. Each partition has a
-- file of its own, and a table gets another by TRUNCATE.
create or replace function relay.row_version(tbl oid, at tid) returns text
language sql stable
as $$ select pg_catalog.concat(tbl, '/', pg_catalog.pg_relation_filenode(tbl), '/', at) $$;

-- relay.later_event(xid xid8, made text) -> bigint
-- seq of the event, already written in this transaction, that began with the row version "made"; null if there is none
-- (xmax is also set by a mere lock). "at": after a restore, another transaction may have had the same id.
create or replace function relay.later_event(xid xid8, made text) returns bigint
language sql stable
as $$
    select o.seq from relay.outbox o
    where o.xid = later_event.xid and o.from_row = made and o.from_row is not null and o.at >= pg_catalog.now()
    order by o.seq limit 1
$$;

-- relay.write_event(...) -> void
-- One event into the outbox, on row_event's rare paths: with a given number if seq is not null.
create or replace function relay.write_event(
    seq bigint, from_row text, at timestamptz, xid xid8, topic text, tbl text, op text, key text, old json, new json,
    too_large boolean
) returns void
language plpgsql
as $$
#variable_conflict use_column
begin
    insert into relay.outbox (seq, from_row, xid, at, topic, tbl, op, key, old_image, new_image, too_large)
        overriding system value
        values (coalesce(write_event.seq, pg_catalog.nextval('relay.outbox_seq_seq')), write_event.from_row,
                write_event.xid, write_event.at, write_event.topic, write_event.tbl, write_event.op,
                pg_catalog.concat(write_event.tbl, ' ', write_event.key), old::text, new::text, write_event.too_large);
end $$;
-- relay.key_taken(tbl oid, was record, numbers smallint[]) -> boolean
-- Whether a watched row has the key of "was" now, after the statement. For row_event, when an update moves a row to
-- another key: after a swap, or id = id + 1, the old key belongs to another row and is no delete.
--   numbers  the key's column numbers in tbl
-- A row outside the condition of the watch does not count. The table is read as its owner, as PostgreSQL reads it for a
-- foreign key: a query of ours would have the planner run functions of the owner's with our rights (those of constants,
-- in indexes and statistics), and policies as well.
-- false where it can't be said: the event is a delete then, and the writer's statement goes on.
create or replace function relay.key_taken(tbl oid, was record, numbers smallint[]) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    condition text;
    columns text[];
begin
    select n.reader, n.secret, case when c.relkind <> 'p' then 'only ' end as itself into w
        from relay.wanted n
        join pg_catalog.pg_class c on c.oid = n.tbl
        -- A former owner has no say in it, nor has who makes something of a name that was dropped.
        join pg_catalog.pg_type y on y.typname = n.reader::name and y.typnamespace = 'relay_readers'::regnamespace
            and y.typowner = c.relowner
        where n.tbl = key_taken.tbl
        -- What the condition names could have been dropped with its triggers, and made anew by somebody else.
        and n.triggers <@ array(select g.tgname::text from pg_catalog.pg_trigger g where g.tgrelid = n.tbl)
        -- The planner runs functions of constants in indexes and statistics, those of partitions as well: with an owner
        -- of their own, that one's code would run as this table's.
        and not exists (select from pg_catalog.pg_partition_tree(n.tbl) p join pg_catalog.pg_class b on b.oid = p.relid
                        where b.relowner <> c.relowner)
        and not exists (select from pg_catalog.unnest(relay.renamers(n.tbl, numbers, true)) r (role)
                        where not pg_catalog.pg_has_role(r.role, c.relowner, 'MEMBER'));
    if not found then
        return false;  -- triggers made by hand
    end if;
    -- Equal for the index, and then bit by bit: 1.0 and 1.00 are equal but different keys in JSON.
    select pg_catalog.string_agg(pg_catalog.format('%s and row(%s)::record operator(pg_catalog.*=) row(%s)::record',
                relay.compare(c.base, 3, c.here, c.there), c.here, c.there), ' and '),
           pg_catalog.array_agg(c.name)
        into condition, columns
        from (select a.attname::text as name, relay.base_type(a.atttypid) as base,
                  pg_catalog.format('(t.%I)::%s', a.attname, relay.type_name(relay.base_type(a.atttypid))) as here,
                  relay.key_part(a.attname, a.atttypid, '$1') as there
              from pg_catalog.pg_attribute a
              where a.attrelid = tbl and a.attnum = any (numbers) and not a.attisdropped offset 0) c;
    return relay.ask_reader(w.reader, w.secret, pg_catalog.format(
        -- Without what inherits from it: rows of other tables, and maybe of other owners.
        'select exists (select from %s%s t where %s', w.itself, tbl::regclass, condition), columns, was);
end $$;

-- relay.make_reader(tbl regclass, reader text, secret text, filter text) -> void
-- The function that looks up a key in a table, owned by the table's owner: it runs a query of relay.key_taken's. Only who
-- knows the secret may have it run one, and only relay.ask_reader may call it. It is called as the check of a domain:
-- others may create functions in relay_readers as well, and whoever made one of the same name whose arguments fit better
-- would be called instead, with the secret. Of a domain's name there is one, and its check calls what it was made with.
--   filter  the condition on a row t, or null. The function ends each query with it itself: what relay.wanted says may have
--           been written by another owner of the table, earlier or later.
create or replace function relay.make_reader(tbl regclass, reader text, secret text, filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner constant regrole := (select c.relowner from pg_catalog.pg_class c where c.oid = tbl);
begin
    execute pg_catalog.format(
        'create function relay_readers.%I(question json) returns boolean '
        'language plpgsql security definer set search_path = pg_catalog, pg_temp as %L', reader, pg_catalog.format(
        'declare taken boolean; begin '
        'if pg_catalog.md5(pg_catalog.json_extract_path_text(question, ''secret'')) is distinct from %L then '
        'raise exception ''relay: not for you''; end if; '
        'execute pg_catalog.concat(pg_catalog.json_extract_path_text(question, ''query''), %L) into taken '
        'using pg_catalog.json_extract_path(question, ''key''); return taken; end', pg_catalog.md5(secret),
        pg_catalog.format(' and %s)', coalesce(filter, 'true'))));
    execute pg_catalog.format('comment on function relay_readers.%I(json) is %L', reader,
                              pg_catalog.format('relay: whether another row of %s has a key', tbl));
    execute pg_catalog.format('revoke all on function relay_readers.%I(json) from public', reader);
    execute pg_catalog.format('grant execute on function relay_readers.%I(json) to relay_compute', reader);
    execute pg_catalog.format('create domain relay_readers.%1$I as json check (relay_readers.%1$I(value))', reader);
    execute pg_catalog.format('revoke all on domain relay_readers.%I from public', reader);
    if owner <> current_user::regrole then
        execute pg_catalog.format('alter function relay_readers.%I(json) owner to %s', reader, owner);
        execute pg_catalog.format('alter domain relay_readers.%I owner to %s', reader, owner);
    end if;
exception when insufficient_privilege then
    raise notice 'relay.watch: keys of % that rows exchange are told as deleted and inserted: %', tbl, sqlerrm
        using hint = pg_catalog.format('As %s or as a superuser: select relay.watch(%L, ...);', owner, tbl);
end $$;
-- relay.general_event(was, now, fired, relation, depth, args, was_at, now_at, was_ours, now_replaced) -> void
-- What relay.row_event does where it is not the usual case.
--   was, now      the row before and after; null where there is none
--   fired         tg_op: the event that fires the trigger
--   relation      tg_relid
--   depth         pg_trigger_depth()
--   args          tg_argv, from 1
--   was_at, now_at  ctid of both
--   was_ours      whether "was" is a row version of this transaction
--   now_replaced  whether "now" has been replaced or locked already
create or replace function relay.general_event(
    was record, now record, fired text, relation oid, depth int, args text[], was_at tid, now_at tid,
    was_ours boolean, now_replaced boolean
) returns void
language plpgsql  -- with row_event's settings
as $$
declare
    xid constant xid8 := pg_catalog.pg_current_xact_id();  -- before seq: see tables.sql
    at constant timestamptz := pg_catalog.clock_timestamp();
    topic constant text := args[1];
    tbl constant text := args[2];
    op text := args[3];
    numbers constant smallint[] := args[4];
    options constant json := args[5];
    names constant text[] := args[6:];
    old_image json;
    new_image json;
    key text;
    key_was text;
    too_large boolean;
    in_box boolean := greatest(pg_column_size(was), pg_column_size(now)) > 262144 or not relay.may_be_json(relation);
    later bigint;  -- for these two see in_order.sql
    from_row text;
    number bigint;
begin
    if not in_box then
        old_image := row_to_json(was);
        new_image := row_to_json(now);
        in_box := strpos(concat(old_image, new_image), E'\\u') > 0;  -- a query in this expression would cost 15 µs
        if greatest(octet_length(old_image::text), octet_length(new_image::text)) > 8192 then
            in_box := in_box or exists (select from pg_attribute where attrelid = relation
                                        and atttypid = any ('{json,json[],jsonb,jsonb[]}'::regtype[]));
        end if;
    end if;
    if in_box then
        select c.old_image, c.new_image, c.old_key, c.new_key, c.too_large
            into old_image, new_image, key_was, key, too_large
            from relay.compute(was, now, names, numbers, relation, options, null) c;
    else
        key_was := old_image -> names[1];
        key := new_image -> names[1];
        if cardinality(names) = 1 and coalesce(key_was, key) is not null and coalesce(key, key_was) is not null then
            key_was := case when key_was is not null then concat('{', to_json(names[1]), ':', key_was, '}') end;
            key := case when key is not null then concat('{', to_json(names[1]), ':', key, '}') end;
        else
            key_was := case when old_image is not null then relay.key_of(old_image, names, numbers, relation) end;
            key := case when new_image is not null then relay.key_of(new_image, names, numbers, relation) end;
        end if;
        if args[5] <> '{}' then
            old_image := relay.pick(old_image, options, relation);
            new_image := relay.pick(new_image, options, relation);
        end if;
    end if;
    if op = 'update' and args[5] <> '{}' and old_image::text = new_image::text and key = key_was then
        return;  -- only ignored columns have changed
    end if;

    if now_replaced then
        later := relay.later_event(xid, relay.row_version(relation, now_at));
    end if;
    if depth > 1 and was_ours then
        from_row := relay.row_version(relation, was_at);
        number := relay.take_number(depth);
    end if;

    if op = 'delete' then
        if fired = 'UPDATE' and key <> key_was
           and relay.key_taken(relay.root_of(relation), was, numbers) then
            return;  -- this row left the condition, and its key is another row's now
        end if;
        key := key_was;
        new_image := null;
    elsif op = 'insert' then
        old_image := null;
    elsif key <> key_was then
        -- The row moved to another key: a delete and an insert. No delete if the old key is another row's now.
        if not relay.key_taken(relay.root_of(relation), was, numbers) then
            perform relay.write_event(coalesce(later - 2, number), from_row, at, xid, topic, tbl, 'delete', key_was,
                                      case when options ->> 'old' is distinct from 'false' then old_image end, null,
                                      too_large);
            from_row := null;
            number := null;
        end if;
        op := 'insert';
        old_image := null;
    end if;
    if options ->> 'old' = 'false' then
        old_image := null;
    end if;
    number := coalesce(later - 1, number);
    if number is not null then
        perform relay.write_event(number, from_row, at, xid, topic, tbl, op, key, old_image, new_image, too_large);
    else
        insert into relay.outbox (xid, at, topic, tbl, op, key, old_image, new_image, too_large)
            values (xid, at, topic, tbl, op, concat(tbl, ' ', key), old_image, new_image, too_large);
    end if;

    -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
    if (case when pg_try_advisory_lock_shared(491327873401)
             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
end $$;
-- relay.row_event() trigger: writes the event of one row into the outbox. Made by relay.watch, where relay.is_usual says so
-- (else relay.image_event or relay.boxed_event, of the same arguments); by hand:
--
--     create trigger "!relay_insert" after insert on public.orders for each row execute function
--         relay.row_event('public.orders', 'public.orders', 'insert', '{1}', '{}', 'id');
--     create trigger "!relay_update" after update on public.orders for each row when (old.* *<> new.*)
--         execute function relay.row_event('public.orders', 'public.orders', 'update', '{1}', '{}', 'id');
--     create trigger "!relay_delete" after delete on public.orders for each row execute function
--         relay.row_event('public.orders', 'public.orders', 'delete', '{1}', '{}', 'id');
--
-- Arguments: topic; the table's name in events; insert, update or delete; numbers of the key's columns; options
-- ({"old": false}, {"columns": [...]}, see relay.pick); names of the key's columns. Where the operation is not that of the
-- event that fires the trigger (an update told as a delete), the options are never '{}' but '{"filter": "true"}'.
-- The names begin with "!" because triggers fire in order of their names: after a trigger that updates the same row
-- again, the events would be in the wrong order.
--
-- It runs inside every writer's statement, as relay_owner, so it runs no code that a user has made: relay.compute makes
-- images and keys, in its box, where the type of a column could bring such code along (a cast to json), and where
-- reading JSON again could fail. PL/pgSQL prepares each expression anew in each transaction, which takes longer than to
-- compute it: so the usual case is one condition and one statement. Columns are never named in
-- the code (a RENAME COLUMN must not abort the writer), and there is no exception block (a subtransaction a row).
-- What look like system columns are read by concat alone, which takes any type and casts none: a view may have columns of
-- these names, and their types casts to xid and the like, which would run here.
-- What is not usual goes to relay.general_event: PL/pgSQL compiles a trigger function anew for each trigger, that is for
-- each partition in each session, and keeps the result, so this one is as small as it can be.
-- The settings below are those of the writer's session that change how values look as text.
--
-- What makes "no type but PostgreSQL's own" certain: a table depends on each other type of its columns, in pg_depend; the
-- writer's lock keeps its columns as they are; and in READ COMMITTED the query sees what is committed now. In the other
-- isolation levels it sees what was committed when the transaction began, so everything goes through the box there.
create or replace function relay.row_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
begin
    -- Usual: a key of one column, no options, a row version that nobody has replaced or locked meanwhile, not a nested
    -- trigger's change of its own transaction's row (in_order.sql), images that cannot become too large: those of rows
    -- of more than 256 KiB as stored (decompressed at most 255 times, escaped six times as long).
    if (tg_nargs > 6 or tg_argv[4] <> '{}' or concat(new.xmax) > '0' or pg_trigger_depth() > 1 and age(nullif(concat(old.xmin), '')::xid) <= 0
        or greatest(pg_column_size(old), pg_column_size(new)) > 262144
        or current_setting('transaction_isolation') not like 'read %') is not true then
        if tg_argv[3] = '{1}' then
            -- The key is the first column, so it is what stands before the first comma: reading JSON to find it costs as much
            -- as to make it. No row if that is not a whole value without escapes, if the column was renamed, or if the key has
            -- changed.
            insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
                select tg_argv[0], k.tbl, tg_argv[2], concat(k.tbl, ' ', k.key, '}'), k.was, k.now
                from (select e.*, split_part(coalesce(e.now, e.was), ',', 1) as key
                      from (select tg_argv[1] as tbl, row_to_json(old)::text as was, row_to_json(new)::text as now
                            -- Invariant: no JSON is made here, as relay_owner, of a type that isn't PostgreSQL's own.
                            where not exists (
                                select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tg_relid
                                and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass)
                            offset 0) e  -- computed once, not wherever it is used
                      offset 0) k
                where starts_with(k.key, concat('{"', tg_argv[5], '":'))
                    and starts_with(coalesce(k.was, k.now), k.key || ',')
                    and k.key ~ '^\{"[^"\\]+":("[^"\\]*"|[^"\\{}[]+)$';
        else
            insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
                select tg_argv[0], tg_argv[1], tg_argv[2],
                    concat(tg_argv[1], ' {', to_json(tg_argv[5]), ':', coalesce(e.now, e.was) -> tg_argv[5], '}'), e.was, e.now
                from (select row_to_json(old) as was, row_to_json(new) as now
                      -- The same invariant.
                      where not exists (
                          select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tg_relid
                          and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass)
                      offset 0) e
                -- No row if the key has changed, or if its column was renamed: both are null then. Nor if a json
                -- column has an escape: some of those ("\u0000") PostgreSQL writes, but cannot read again.
                -- Nor if it could be nested so deeply that to read it takes more stack than is left.
                where case when greatest(octet_length(e.was::text), octet_length(e.now::text)) <= 8192
                           and strpos(concat(e.was, e.now), E'\\u') = 0
                      then (coalesce(e.was, e.now) -> tg_argv[5])::text = (coalesce(e.now, e.was) -> tg_argv[5])::text end;
        end if;
        if found then
            -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
            if (case when pg_try_advisory_lock_shared(491327873401)
                     then not pg_advisory_unlock_shared(491327873401) else true end) then
                perform relay.notify_listener();
            end if;
            return null;
        end if;
    end if;
    perform relay.general_event(old, new, tg_op, tg_relid, pg_trigger_depth(), tg_argv[0:], nullif(concat(old.ctid), '')::tid,
                                nullif(concat(new.ctid), '')::tid, age(nullif(concat(old.xmin), '')::xid) <= 0,
                                concat(new.xmax) > '0');
    return null;
end $$;
-- relay.image_event() trigger: relay.row_event for all that is not usual there (a key of several columns, options), and for
-- partitions; same arguments, same events. PL/pgSQL compiles a trigger function anew for each
-- partition that a session writes to, and any other function for each type of a record that it is given, and keeps the
-- result: row_event takes 180 KiB a partition. This one takes as much as a plain audit trigger: what it does with a row is
-- to make JSON of it, and what is done with JSON is the same function for all.
create or replace function relay.image_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
begin
    -- Usual: as in row_event, but for the number of the key's columns and the options. concat: see there.
    -- Invariant: no JSON is made here, as relay_owner, of a type that isn't PostgreSQL's own.
    if (case when (concat(new.xmax) > '0' or pg_trigger_depth() > 1 and age(nullif(concat(old.xmin), '')::xid) <= 0
                   or greatest(pg_column_size(old), pg_column_size(new)) > 262144) is true then false
             when relay.may_be_json(tg_relid)
             then relay.write_images(row_to_json(old), row_to_json(new), tg_op, tg_relid, tg_argv[0:], false)
             else relay.write_images(relay.boxed(old), relay.boxed(new), tg_op, tg_relid, tg_argv[0:], true) end)
    then
        return new;  -- "null" would be an expression, 6 KiB
    end if;
    perform relay.general_event(old, new, tg_op, tg_relid, pg_trigger_depth(), tg_argv[0:], nullif(concat(old.ctid), '')::tid,
                                nullif(concat(new.ctid), '')::tid, age(nullif(concat(old.xmin), '')::xid) <= 0,
                                concat(new.xmax) > '0');
    return new;
end $$;

-- relay.boxed_event() trigger: relay.image_event for a table with types of a user's own: it need not ask for them, and makes all
-- JSON in the box. Same arguments, same events.
create or replace function relay.boxed_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
begin
    if (case when (concat(new.xmax) > '0' or pg_trigger_depth() > 1 and age(nullif(concat(old.xmin), '')::xid) <= 0
                   or greatest(pg_column_size(old), pg_column_size(new)) > 262144) is true then false
             else relay.write_images(relay.boxed(old), relay.boxed(new), tg_op, tg_relid, tg_argv[0:], true) end)
    then
        return new;
    end if;
    perform relay.general_event(old, new, tg_op, tg_relid, pg_trigger_depth(), tg_argv[0:], nullif(concat(old.ctid), '')::tid,
                                nullif(concat(new.ctid), '')::tid, age(nullif(concat(old.xmin), '')::xid) <= 0,
                                concat(new.xmax) > '0');
    return new;
end $$;

-- relay.may_be_json(relation oid) -> boolean
-- Whether no type but PostgreSQL's own is in a row of this table: see row_event.
create or replace function relay.may_be_json(relation oid) returns boolean
language plpgsql  -- with the trigger's settings
as $$
begin
    return current_setting('transaction_isolation') like 'read %' and not exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = relation
        and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass);
end $$;

-- relay.write_images(was json, now json, fired text, relation oid, args text[], in_box boolean) -> boolean
-- Writes the event of a row of which nothing but its images is needed. false: it was not written, since an image could
-- not be made, since reading it again could fail (as in general_event), or since the key has changed.
--   was, now  the row before and after, whole; null where there is none
--   fired     tg_op: the event that fires the trigger
--   args      tg_argv, from 1
--   in_box    made by relay.boxed
create or replace function relay.write_images(
    was json, now json, fired text, relation oid, args text[], in_box boolean
) returns boolean
language plpgsql  -- with the trigger's settings
as $$
declare
    tbl constant text := args[2];
    op constant text := args[3];
    key text;
begin
    if strpos(concat(was, now), E'\\u') > 0 or fired <> 'INSERT' and was is null or fired <> 'DELETE' and now is null then
        return false;
    elsif greatest(octet_length(was::text), octet_length(now::text)) > 8192 then
        if in_box or exists (select from pg_attribute where attrelid = relation
                   and atttypid = any ('{json,json[],jsonb,jsonb[]}'::regtype[])) then
            return false;
        end if;
    end if;
    -- Few expressions: each is prepared anew in each transaction.
    if cardinality(args) = 6 and (coalesce(now, was) -> args[6]) is not null then
        if (was -> args[6])::text <> (now -> args[6])::text then
            return false;
        end if;
        key := concat('{', to_json(args[6]), ':', coalesce(now, was) -> args[6], '}');
    else
        key := relay.key_of(coalesce(now, was), args[6:], args[4]::smallint[], relation);
        if was is not null and now is not null and key <> relay.key_of(was, args[6:], args[4]::smallint[], relation) then
            return false;
        end if;
    end if;
    if args[5] <> '{}' then
        was := relay.pick(was, args[5]::json, relation);
        now := relay.pick(now, args[5]::json, relation);
        if op = 'update' and was::text = now::text then
            return true;  -- only ignored columns have changed
        end if;
        -- The row left the condition of the watch, or entered it; or no image before is wanted.
        now := case when op <> 'delete' then now end;
        was := case when op <> 'insert' and args[5]::json ->> 'old' is distinct from 'false' then was end;
    end if;
    insert into relay.outbox (topic, tbl, op, key, old_image, new_image)
        values (args[1], tbl, op, concat(tbl, ' ', key), was, now);
    -- NOTIFY only if the listener sleeps (it holds this lock then). One expression: see relay.wake.
    if (case when pg_try_advisory_lock_shared(491327873401)
             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
    return true;
end $$;
-- relay.bulk_event() trigger: writes the events of a whole statement into the outbox, for relay.watch(bulk => true).
-- By hand:
--
--     create trigger "!relay_insert" after insert on public.orders referencing new table as relay_new
--         for each statement execute function
--         relay.bulk_event('public.orders', 'public.orders', 'insert', '{1}', '{}', 'id');
--
-- update: referencing old table as relay_old new table as relay_new; delete: old table as relay_old.
-- Arguments: those of row_event. The images before and after an update are paired by their key: a key that is gone is
-- a delete, a new one an insert, and after a swap of two keys there are two updates (row_event: two inserts).
-- Like row_event it makes no JSON itself where code of a user could run, or reading JSON again could fail.
create or replace function relay.bulk_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    xid constant xid8 := pg_current_xact_id();  -- before seq: see tables.sql
    was constant text := relay.bulk_images('relay_old', tg_relid, tg_argv[5:], tg_argv[3]::smallint[], tg_argv[4]::json);
    now constant text := relay.bulk_images('relay_new', tg_relid, tg_argv[5:], tg_argv[3]::smallint[], tg_argv[4]::json);
    written bigint;
begin
    -- Invariant: the two names are the trigger's own tables. A trigger made by hand without REFERENCING would read a
    -- temporary view of the session instead, whose functions run as relay_owner.
    if coalesce(to_regclass('pg_temp.relay_old'), to_regclass('pg_temp.relay_new')) is not null then
        raise exception 'relay: a temporary relation must not be named relay_old or relay_new'
            using errcode = 'reserved_name', hint = 'Drop it, or give it another name.';
    end if;
    execute format(
        'insert into relay.outbox (xid, at, topic, tbl, op, key, old_image, new_image, too_large) '
        'select $1, $2, $3, $4, e.op, concat($4, '' '', e.key), e.was::text, e.now::text, nullif(e.too_large, false) '
        'from (%s) e',
        case tg_argv[2]
            when 'insert' then format(
                'select key, ''insert'' as op, null::json as was, image as now, image is null as too_large from %s i', now)
            when 'delete' then format(
                'select key, ''delete'' as op, image as was, null::json as now, image is null as too_large from %s i', was)
            else format(
                'select coalesce(now.key, was.key) as key, '
                '  case when was.key is null then ''insert'' when now.key is null then ''delete'' else ''update'' end as op, '
                '  case when (was.key is null or was.image is not null) and (now.key is null or now.image is not null) '
                '       and (now.key is null or $5) then was.image end as was, '
                '  case when was.key is null or was.image is not null then now.image end as now, '
                '  was.key is not null and was.image is null or now.key is not null and now.image is null as too_large '
                'from %s was full join %s now on now.key = was.key '
                'where (was.image::text = now.image::text) is not true', was, now)
        end)
        using xid, clock_timestamp(), tg_argv[0], tg_argv[1], tg_argv[4]::json ->> 'old' is null, tg_argv[4]::json;
    get diagnostics written = row_count;
    if written > 0 and (case when pg_try_advisory_lock_shared(491327873401)
                             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
    return null;
end $$;

-- relay.bulk_images(rows text, tbl oid, names text[], numbers smallint[], options json) -> text
-- A subquery for bulk_event: key and image (json; null: too large) of each row of a transition table.
--   rows            the transition table's name
--   names, numbers  the key's columns, as in relay.key_of
--   options         the columns of the images, as in relay.pick; $6 in the subquery
-- The columns are written out: PostgreSQL reads them itself, and needs no function call a row for them. No type of a user
-- and no table is named: whoever owns its schema could give the name to another one between here and there, and casts of
-- its would run as relay_owner.
create or replace function relay.bulk_images(
    rows text, tbl oid, names text[], numbers smallint[], options json
) returns text
language plpgsql volatile  -- a snapshot of its own, for what row_event says of types
set search_path = pg_catalog, pg_temp
as $$
declare
    keep constant boolean := options -> 'columns' is not null;
    listed constant json := coalesce(options -> 'columns_at', options -> 'ignore_at');
    -- JSON of a record of columns, in the box; else of a record of their texts, without casts of users; else null.
    boxed constant text := 'coalesce((select relay.boxed(x.*) from (select %s) x), (select relay.boxed(x.*) from (select %s) x))';
    as_text constant text := 'case when num_nulls(r.%1$I) = 0 then format(''%%s'', r.%1$I) end as %2$I';
    key text;
    boxed_key text;
    columns text;
    image text;
begin
    select string_agg(
            format('%L, %s', concat(case when k.n > 1 then ',' end, to_json(k.name), ':'),
                   case when a.attname is null then quote_literal('null')
                        else format('coalesce(to_json(r.%I)::text, %L)', a.attname, 'null') end), ', ' order by k.n),
           format(boxed, string_agg(
                case when a.attname is null then format('null::text as %I', k.name)
                     else format('r.%I as %I', a.attname, k.name) end, ', ' order by k.n),
                string_agg(
                case when a.attname is null then format('null::text as %I', k.name)
                     else format(as_text, a.attname, k.name) end, ', ' order by k.n))
        into key, boxed_key
        from unnest(names, numbers) with ordinality k (name, number, n)
        left join pg_attribute a on a.attrelid = tbl and a.attnum = k.number and not a.attisdropped;
    select coalesce(string_agg(format('r.%I', attname), ', ' order by attnum), ''),
           -- null above 256 MiB, as in relay.compute
           format('(select case when octet_length(b.image::text) <= 268435456 then b.image end from (select %s as image '
                  'offset 0) b)', format(boxed, string_agg(format('r.%I', attname), ', ' order by attnum),
                string_agg(case when atttypid < 16384 then format('r.%I', attname)
                                else format(as_text, attname, attname) end, ', ' order by attnum)))
        into columns, image
        from pg_attribute
        where attrelid = tbl and attnum > 0 and not attisdropped
          and (attnum in (select n::smallint from json_array_elements_text(listed) n)) = keep;
    if current_setting('transaction_isolation') not like 'read %' or exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tbl
        and d.refclassid = 'pg_type'::regclass) then
        return format('(select %s::text as key, %s as image from %I r offset 0)', boxed_key, image, rows);
    end if;
    return format('(select concat(''{'', %s, ''}'') as key, case when pg_column_size(r.*) <= 262144 then %s '
                  'else %s end as image from %I r offset 0)', key,
        case when listed is null then 'row_to_json(r.*)'
             else format('(select row_to_json(c.*) from (select %s) c)', columns) end, image, rows);
end $$;
-- relay.truncate_event() trigger: one event for a TRUNCATE, with the table as its key. Made by relay.watch; by hand:
--
--     create trigger "!relay_truncate" after truncate on public.orders for each statement
--         execute function relay.truncate_event('public.orders', 'public.orders');
--
-- Arguments: topic; the table's name in events.
create or replace function relay.truncate_event() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into relay.outbox (topic, tbl, op, key) values (tg_argv[0], tg_argv[1], 'truncate', tg_argv[1]);
    if (case when pg_try_advisory_lock_shared(491327873401)
             then not pg_advisory_unlock_shared(491327873401) else true end) then
        perform relay.notify_listener();
    end if;
    return null;
end $$;

-- What reads the users' tables, and what may meet their code, each belongs to a role that can do nothing else.
grant usage, create on schema relay to relay_trigger;
set local role relay_trigger;
-- Reading the rows of a watched table, for relay.resend_chunk and relay.resend_row: as relay_trigger, to whom relay.watch
-- has granted SELECT and UPDATE (a row that is locked FOR SHARE needs it, and the lock on the table). No code
-- of a user runs as relay_trigger: conditions, and the images of types that are not PostgreSQL's own, are made in the box
-- of relay.compute, and policies are passed by (or are an error: then the role may not pass them by).

-- relay.key_text(tbl regclass, names text[], columns text[]) -> text
-- The expression of the key of a row t as JSON.
--   names    the key's columns in events
--   columns  the same in the table
create or replace function relay.key_text(tbl regclass, names text[], columns text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case when bool_and(a.atttypid < 16384)
        then format('concat(''{'', %s, ''}'')', string_agg(format('%L, to_json(t.%I)',
            concat(case when k.n > 1 then ',' end, to_json(k.name), ':'), k.col), ', ' order by k.n))
        else format('(relay.compute(null, t.*, %L, %L, %s, ''{}'', null)).new_key', names,
                    relay.column_numbers(tbl, columns), tbl::oid) end
    from unnest(names, columns) with ordinality k (name, col, n)
    join pg_attribute a on a.attrelid = tbl and a.attname = k.col
$$;

-- relay.key_after(tbl regclass, names text[], columns text[], parameter text) -> text
-- The condition that the key of t is greater than the one that is the parameter, as JSON. As one row comparison, which an
-- index understands, if its types are PostgreSQL's own; otherwise column by column.
create or replace function relay.key_after(tbl regclass, names text[], columns text[], parameter text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with c as (
        select k.n, a.atttypid as type, relay.base_type(a.atttypid) < 16384 as own, format('t.%I', k.col) as here,
            relay.key_part(k.name, a.atttypid, parameter) as there,
            format('(t.%I)::%s', k.col, relay.type_name(relay.base_type(a.atttypid))) as here_based
        from unnest(names, columns) with ordinality k (name, col, n)
        join pg_attribute a on a.attrelid = tbl and a.attname = k.col
    )
    select case when bool_and(own)
        then format('(%s) > (%s)', string_agg(here_based, ', ' order by n), string_agg(there, ', ' order by n))
        else '(' || string_agg(concat_ws(' and ',
            (select string_agg(relay.compare(b.type, 3, b.here, b.there), ' and ') from c b where b.n < c.n),
            relay.compare(c.type, 5, c.here, c.there)), ' or ') || ')' end
    from c
$$;

-- relay.key_same(tbl regclass, names text[], columns text[], parameter text) -> text: the same for "equal".
create or replace function relay.key_same(tbl regclass, names text[], columns text[], parameter text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(relay.compare(a.atttypid, 3, format('t.%I', k.col), relay.key_part(k.name, a.atttypid, parameter)),
                      ' and ')
    from unnest(names, columns) with ordinality k (name, col, n)
    join pg_attribute a on a.attrelid = tbl and a.attname = k.col
$$;

-- relay.rows_of(tbl regclass) -> text: a watched table in FROM, as t: its own rows, of a partitioned one all.
create or replace function relay.rows_of(tbl regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select format('%s%s t', case when relkind <> 'p' then 'only ' end, tbl) from pg_class where oid = tbl $$;

-- relay.lock_plain(tbl regclass, columns text[]) -> void
-- An error if somebody could have another table read in its place, who may not read all that relay_trigger reads; or if
-- planning a query on the table, or running it, could run code of its owner, as whoever does that: a function of constants in
-- an index, in statistics or in a partition key, of the table or of one below it; a foreign table. The lock keeps away those
-- who would add one (writers are not held up), and keeps the columns what they are: see row_event.sql.
create or replace function relay.lock_plain(tbl regclass, columns text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found text;
begin
    if current_setting('transaction_isolation') not like 'read %' then
        raise exception 'relay: rows are resent in READ COMMITTED only' using errcode = 'invalid_transaction_state';
    end if;
    select string_agg(distinct r.role::regrole::text, ', ') into found
        from unnest(relay.renamers(tbl, relay.column_numbers(tbl, columns), false)) r (role)
        where exists (select from pg_class c, aclexplode(c.relacl) a
                      where a.grantee = 'relay_trigger'::regrole and not pg_has_role(r.role, c.relowner, 'MEMBER'));
    if found is not null then
        raise exception 'relay: the rows of % cannot be resent: % may rename its schema, or what its key names', tbl, found
            using errcode = 'object_not_in_prerequisite_state',
                detail = 'Other tables than theirs are watched, and something of theirs could be read in its place with the same rights.',
                hint = format('Revoke the right to create schemas from them: revoke create on database %I from ...; or, of a type: '
                              'revoke create on schema ... from ...; or give it to another: alter type ... owner to ...;',
                              current_database());
    end if;
    execute format('lock table %s in share update exclusive mode', tbl);
    -- If it was renamed while this waited, something else has its name now, and was locked.
    if not exists (select from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and relation = tbl
                   and mode = 'ShareUpdateExclusiveLock' and granted) then
        raise exception 'relay: % has another name now', tbl using errcode = 'lock_not_available';
    end if;
    -- What a foreign table brings is read by input functions, that is with the checks of domains.
    select string_agg(relid::text, ', ') into found
        from pg_partition_tree(tbl) join pg_class c on c.oid = relid where c.relkind = 'f';
    if found is not null then
        raise exception 'relay: the rows of % cannot be resent: % is a foreign table', tbl, found
            using errcode = 'object_not_in_prerequisite_state', hint = 'Resend the rows where they are.';
    end if;
    with recursive tree (oid) as (
        select tbl::oid union select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid
    ), planned (class, oid) as (
        select 'pg_class'::regclass, i.indexrelid from pg_index i join tree t on i.indrelid = t.oid
        union all select 'pg_statistic_ext'::regclass, s.oid from pg_statistic_ext s join tree t on s.stxrelid = t.oid
        union all select 'pg_class'::regclass, t.oid from tree t
    ), used (function, type) as (
        select case d.refclassid when 'pg_proc'::regclass then d.refobjid
                                 when 'pg_operator'::regclass then (select oprcode from pg_operator where oid = d.refobjid) end,
               case when d.refclassid = 'pg_type'::regclass and p.oid not in (select oid from tree) then d.refobjid end
        from planned p join pg_depend d on d.classid = p.class and d.objid = p.oid
    )
    select string_agg(distinct coalesce('function ' || f.oid::regprocedure::text, 'type ' || u.type::regtype::text), ', ')
        into found from used u left join pg_proc f on f.oid = u.function
        where not (select rolsuper from pg_roles r where r.oid = f.proowner) or not relay.is_plain(u.type);
    if found is not null then
        raise exception 'relay: the rows of % cannot be resent: an index, statistics or a partition key uses %', tbl, found
            using errcode = 'object_not_in_prerequisite_state',
                detail = 'Planning a query could run that code with the rights of relay_trigger.',
                hint = 'Give the function to a superuser who trusts it: alter function ... owner to ...;';
    end if;
end $$;

-- relay.keys_after(tbl regclass, names text[], columns text[], after json, most int) -> text[]
-- The keys of the rows behind "after" (null: from the beginning), as many as "most", in order; more, if several rows share
-- the last one. Rows whose key is null are left out.
create or replace function relay.keys_after(tbl regclass, names text[], columns text[], after json, most int) returns text[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set constraint_exclusion = off
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    in_order constant text := (select string_agg(format('t.%I', c), ', ' order by n) from unnest(columns) with ordinality u (c, n));
    keys text[];
begin
    perform relay.lock_plain(tbl, columns);
    execute format('select array_agg(k.key order by k.n) from (select %s as key, row_number() over (order by %2$s) as n '
                   'from %s where %s and num_nulls(%2$s) = 0 order by %2$s fetch first $2 rows with ties) k',
                   relay.key_text(tbl, names, columns), in_order, relay.rows_of(tbl),
                   case when after is null then 'true' else relay.key_after(tbl, names, columns, '$1') end)
        into keys using after, most;
    return keys;
end $$;

-- relay.read_rows(tbl regclass, names text[], columns text[], options json, condition text, after json, last json,
--                 wait boolean, out keys text[], out images text[], out passes boolean[], out problem text)
-- Locks rows FOR SHARE until the transaction ends, and reads them: those whose key is greater than "after" (null: from the
-- beginning) and not greater than "last"; if "wait", those with the key "last", waiting for the locks of others, which are
-- skipped otherwise.
--   options    columns or ignore, as in relay.pick
--   condition  on a row t, or null; "passes" says which rows meet it, "problem" what it raised ("<SQLSTATE> <message>")
--   images     null: too large to be written as JSON
create or replace function relay.read_rows(
    tbl regclass, names text[], columns text[], options json, condition text, after json, last json, wait boolean,
    out keys text[], out images text[], out passes boolean[], out problem text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set row_security = off
set constraint_exclusion = off
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    numbers constant smallint[] := relay.column_numbers(tbl, columns);
    in_order constant text := (select string_agg(format('t.%I', c), ', ' order by n) from unnest(columns) with ordinality u (c, n));
    rows text;
begin
    perform relay.lock_plain(tbl, columns);
    rows := case when wait then format('from %s where %s for share of t', relay.rows_of(tbl), relay.key_same(tbl, names, columns, '$2'))
        else format('from %s where %s and not (%s) and num_nulls(%4$s) = 0 order by %4$s for share of t skip locked',
            relay.rows_of(tbl), case when after is null then 'true' else relay.key_after(tbl, names, columns, '$1') end,
            relay.key_after(tbl, names, columns, '$2'), in_order) end;
    if condition is null and options -> 'columns' is null and options -> 'ignore' is null
       and current_setting('transaction_isolation') like 'read %'
       and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = tbl
                       and d.refclassid = 'pg_type'::regclass) then
        execute format('select array_agg(r.key), array_agg(r.image) from (select %s as key, '
                       'case when pg_column_size(t.*) <= 262144 then row_to_json(t.*)::text '
                       'else (relay.compute(null, t.*, $3, $4, $5, $6, null)).new_image::text end as image %s) r',
                       relay.key_text(tbl, names, columns), rows)
            into keys, images using after, last, names, numbers, tbl::oid, options;
        passes := array_fill(true, array[coalesce(cardinality(keys), 0)]);
    else
        execute format('select array_agg(c.new_key), array_agg(c.new_image::text), array_agg(coalesce(c.passes, true)), '
                       'min(c.problem) from (select (t.*)::%s as whole %s) x '
                       'cross join lateral relay.compute(null, x.whole, $3, $4, $5, $6, $7) c', tbl, rows)
            into keys, images, passes, problem using after, last, names, numbers, tbl::oid, options, condition;
    end if;
end $$;
set local role relay_owner;
revoke create on schema relay from relay_trigger;
grant usage, create on schema relay to relay_compute;
set local role relay_compute;
-- relay.compute(was record, now record, names text[], numbers smallint[], tbl oid, options json, filter text)
--     -> old_image json, new_image json, old_key text, new_key text, too_large boolean, passes boolean, problem text
-- The images and keys of a row before and after, and whether it meets a condition, where code of a user may run: the
-- cast to json of a column's type, a function in "when". The box that such code runs in:
--   - relay_compute owns this function. It has no right on anything, and can't name anything in schema relay.
--   - Read-only, so that the code can create, alter, drop, grant and write nothing, not even as relay_compute: no DDL,
--     DROP OWNED and REASSIGN OWNED included, no INSERT, no nextval. (Before PostgreSQL 16 RESET ends that.)
--   - All of it is rolled back, so that no set_config, LISTEN, NOTIFY or SET outlives it. (What PostgreSQL never rolls
--     back stays in the session: advisory locks, PREPARE and DEALLOCATE. A trigger of the table's owner could do these too.)
--   - Its error is no error of the writer's: the row is then written without such code (user types by their output
--     functions, which only a superuser can make), so that no event is lost and no statement fails.
-- PL/pgSQL variables keep their values over the rollback; that is how the result gets out.
--   names, numbers  the key's columns; the numbers are those of tbl, or of the partitioned table above it
--   options         columns or ignore, as in relay.pick
--   filter          a condition on a row t, or null
--   passes          whether "now" meets filter; null: it can't be said, see problem
--   problem         what the condition raised: "<SQLSTATE> <message>"
-- It costs tens of microseconds; for columns of PostgreSQL's own types row_event does without it.
create or replace function relay.compute(
    was record, now record, names text[], numbers smallint[], tbl oid, options json, filter text,
    out old_image json, out new_image json, out old_key text, out new_key text, out too_large boolean,
    out passes boolean, out problem text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$
declare
    root constant oid := coalesce(pg_catalog.pg_partition_root(tbl)::oid, tbl);
    keep constant boolean := options -> 'columns' is not null;
    listed constant json := coalesce(options -> 'columns', options -> 'ignore');
    listed_at constant json := coalesce(options -> 'columns_at', options -> 'ignore_at');
    -- A column's value in a query, without casts of users, and null where it is null (a row of nulls is not).
    plain constant text := 'case when pg_catalog.num_nulls(($1).%1$I) = 0 then pg_catalog.format(''%%s'', ($1).%1$I) end';
    hidden text[] := '{}';
    columns text;
    key text;
    stage text;  -- whose error it was
begin
    too_large := false;
    if listed is not null then
        hidden := array(
            select a.attname::text from pg_catalog.pg_attribute a
            where a.attrelid = root and a.attnum > 0 and not a.attisdropped
              and (case when listed_at is null then a.attname::text in (select pg_catalog.json_array_elements_text(listed))
                        else a.attnum in (select n::smallint from pg_catalog.json_array_elements_text(listed_at) n) end)
                  <> keep);
    end if;
    -- 1: as PostgreSQL writes JSON, the key read from it. If that fails, 2: key and columns named in queries, which take
    -- ten times as long. 3: these without casts of users.
    for attempt in 1..3 loop
        continue when attempt = 1 and hidden <> '{}';
        if attempt > 1 then
            select pg_catalog.concat('select pg_catalog.row_to_json(x.*) from (select ', pg_catalog.string_agg(pg_catalog.concat(
                        pg_catalog.format(case when attempt = 2 or a.atttypid < 16384 then '($1).%1$I' else plain end, a.attname),
                        pg_catalog.format(' as %I', a.attname)), ', ' order by a.attnum), ') x')
                into columns
                from pg_catalog.pg_attribute a
                where a.attrelid = tbl and a.attnum > 0 and not a.attisdropped and a.attname <> all (hidden);
            select pg_catalog.concat('select pg_catalog.concat(''{'', ', pg_catalog.string_agg(
                        pg_catalog.format('%L, coalesce(pg_catalog.to_json(%s)::text, ''null'')',
                            pg_catalog.concat(case when k.n > 1 then ',' end, pg_catalog.to_json(k.name), ':'),
                            case when a.attname is null then 'null::text'
                                 when attempt = 2 or a.atttypid < 16384 then pg_catalog.format('($1).%I', a.attname)
                                 else pg_catalog.format(plain, a.attname) end),
                        ', ' order by k.n), ', ''}'')')
                into key
                from unnest(names, numbers) with ordinality k (name, number, n)
                left join pg_catalog.pg_attribute a on a.attrelid = root and a.attnum = k.number and not a.attisdropped;
        end if;
        begin
            perform pg_catalog.set_config('transaction_read_only', 'on', true);
            if attempt = 1 then
                stage := 'image';
                old_image := pg_catalog.row_to_json(was);
                new_image := pg_catalog.row_to_json(now);
                stage := 'key';
                for i in 1..pg_catalog.cardinality(names) loop
                    if (old_image -> names[i]) is null and old_image is not null
                       or (new_image -> names[i]) is null and new_image is not null then
                        raise exception using errcode = 'RELAY';  -- renamed, or dropped
                    end if;
                    key := pg_catalog.concat(case when i > 1 then ',' else '{' end, pg_catalog.to_json(names[i]), ':');
                    old_key := case when old_image is not null then pg_catalog.concat(
                        case when i > 1 then old_key end, key, old_image -> names[i]) end;
                    new_key := case when new_image is not null then pg_catalog.concat(
                        case when i > 1 then new_key end, key, new_image -> names[i]) end;
                end loop;
                old_key := old_key || '}';
                new_key := new_key || '}';
            else
                stage := 'key';
                old_key := null;
                new_key := null;
                if pg_catalog.pg_column_size(was) is not null then
                    execute key into old_key using was;
                end if;
                if pg_catalog.pg_column_size(now) is not null then
                    execute key into new_key using now;
                end if;
                stage := 'image';
                if not too_large and old_key is not null then
                    execute columns into old_image using was;
                end if;
                if not too_large and new_key is not null then
                    execute columns into new_image using now;
                end if;
            end if;
            stage := 'condition';
            if filter is not null then
                execute pg_catalog.format('select exists (select from (select ($1).*) t where %s)', filter)
                    into passes using now;
            end if;
            stage := 'done';
            raise exception using errcode = 'RELAY';
        exception when others or assert_failure then
            if stage = 'condition' then
                problem := pg_catalog.concat(sqlstate, ' ', sqlerrm);
            elsif stage = 'image' and (attempt = 3 or sqlstate in ('54000', '53200', 'XX000')) then
                too_large := true;  -- PostgreSQL's text ends at 1 GB; "invalid memory alloc request size" is XX000
            end if;
        end;
        exit when stage in ('condition', 'done');
    end loop;
    if greatest(pg_catalog.octet_length(old_image::text), pg_catalog.octet_length(new_image::text)) > 268435456 then
        too_large := true;  -- 256 MiB for one image: twice what RabbitMQ takes at most
    end if;
    if too_large then
        old_image := null;
        new_image := null;
    end if;
end $$;
-- relay.boxed(r record) -> json
-- row_to_json in the box of relay.compute, and nothing else of it, for relay.boxed_event: PL/pgSQL compiles a function
-- with a record anew for each partition. null if it fails: relay.compute knows what to do.
create or replace function relay.boxed(r record) returns json
language plpgsql strict security definer  -- with the other settings of the trigger
set search_path = pg_catalog, pg_temp
as $$
declare
    image json;
begin
    -- One expression, and no PERFORM, which is a query: each is prepared anew in each transaction.
    image := case when pg_catalog.set_config('transaction_read_only', 'on', true) is not null then pg_catalog.row_to_json(r) end;
    raise sqlstate 'RELAY';  -- rolls back
exception when others or assert_failure then
    return image;
end $$;
-- relay.ask_reader(reader text, secret text, query text, columns text[], was record) -> boolean
-- What a table's reader says (relay.make_reader). It runs code of the table's owner, as that owner, in somebody else's
-- statement: so in the box of relay.compute, by a role that can do nothing, read-only, rolled back. false if it fails.
--   query    without its end, which is the condition: the reader has that
--   columns  of the key in "was"; the query gets them as a JSON object of texts
create or replace function relay.ask_reader(reader text, secret text, query text, columns text[], was record) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set debug_print_plan = off  -- it would tell the writer the secret
as $$
declare
    taken boolean := false;
    key json;
    asked boolean;
begin
    perform pg_catalog.set_config('transaction_read_only', 'on', true);
    -- By output functions, not casts: those of a user would run.
    execute pg_catalog.format('select pg_catalog.json_build_object(%s)', (
        select pg_catalog.string_agg(pg_catalog.format('%1$L, case when pg_catalog.num_nulls(($1).%1$I) = 0 '
                                                       'then pg_catalog.format(''%%s'', ($1).%1$I) end', c.name), ', ')
        from pg_catalog.unnest(columns) c (name))) into key using was;
    execute pg_catalog.format('select ($1)::relay_readers.%I is not null', reader) into asked
        using pg_catalog.json_build_object('secret', secret, 'query', query, 'key', key);
    taken := true;  -- else the check has failed
    raise exception using errcode = 'RELAY';  -- rolls back
exception when others or assert_failure then
    return taken;  -- the owner has changed, a column of the condition was renamed, the key's dropped
end $$;
set local role relay_owner;

-- Who may do what. Nothing for PUBLIC: a role that writes to watched tables needs no right here.
-- PostgreSQL gives PUBLIC the right to execute every new function; what an earlier version granted goes as well.
do $$
declare
    f regprocedure;
    r text;
    usual constant text := current_user;
begin
    for f in select oid from pg_proc where pronamespace = 'relay'::regnamespace order by proowner loop
        execute format('set local role %s', (select proowner::regrole from pg_proc where oid = f));
        foreach r in array '{public,relay_owner,relay_trigger,relay_listener,relay_publisher,relay_watcher}'::text[] loop
            continue when r = (select proowner::regrole::text from pg_proc where oid = f);
            execute format('revoke all on function %s from %s', f, r);
        end loop;
    end loop;
    execute format('set local role %I', usual);
end $$;

grant usage on schema relay to relay_trigger, relay_listener, relay_publisher, relay_watcher;

-- relay_trigger: read tables that are watched; what it has made of theirs, it makes of relay_compute's box.
grant execute on function
    relay.column_numbers(regclass, text[]), relay.renamers(oid, smallint[], boolean), relay.compare(oid, int, text, text), relay.operator_of(oid, int),
    relay.base_type(oid), relay.type_name(oid), relay.is_plain(oid), relay.key_part(text, oid, text)
    to relay_trigger;

-- relay_listener: read, remove, mark, and put plain notifications in.
grant select, delete, update (error) on relay.outbox to relay_listener;
grant select, update (turn) on relay.listener to relay_listener;
grant select on relay.watched, relay.pending, relay.backlog to relay_listener;
grant execute on function
    relay.read_options(text), relay.read_numbers(text), relay.renamers(oid, smallint[], boolean), relay.base_type(oid),  -- in relay.watched
    relay.event_id(uuid, bigint, xid8, timestamptz),
    relay.event_body(uuid, timestamptz, xid8, text, text, text, text, text, boolean),
    relay.version(), relay.sleep_key(), relay.notified(text, text), relay.notified(text[], text[]),
    relay.resend_chunk(regclass, json, int, text), relay.resend_row(regclass, json, text)
    to relay_listener;

-- relay_publisher: put own events in.
grant execute on function
    relay.publish(text, text, text, jsonb), relay.publish(text, json, text, jsonb),
    relay.publish(text, jsonb, text, jsonb), relay.publish_many(text[], text[], text[], jsonb[])
    to relay_publisher;

-- relay_watcher: watch own tables. These run with the caller's rights; CREATE TRIGGER needs EXECUTE on its function.
grant select on relay.watched to relay_watcher;
-- Columns: whoever may DELETE from a table, or UPDATE all of it, may LOCK it, and every writer whose rows change their keys
-- would wait, and the listener. (Of a note, relay.forget makes an end.) Nobody reads a secret:
-- with it a table's new owner could have the old one's reader run any query, as the old one.
revoke select on relay.wanted from relay_watcher;
grant select (tbl, name, triggers, always, filter, reader), insert, update (name, triggers, always, filter, reader, secret)
    on relay.wanted to relay_watcher;
grant execute on function
    relay.read_options(text), relay.read_numbers(text), relay.renamers(oid, smallint[], boolean), relay.base_type(oid), relay.version(),
    relay.watch(regclass, text, text[], text[], text[], text, text[], boolean, boolean, boolean),
    relay.watch_table(regclass, text, text[], text[], text[], text, text[], boolean, boolean, boolean, text),
    relay.set_triggers(regclass, text[], text, text[], boolean, text[], text[]), relay.is_usual(regclass, text[]), relay.has_own_types(regclass),
    relay.unwatch(regclass),
    relay.check_columns(regclass, text, text[]), relay.column_numbers(regclass, text[]),
    relay.check_table(regclass), relay.tell_children(regclass), relay.check_topic(text), relay.check_ops(text[]),
    relay.find_key(regclass, text[]), relay.find_columns(regclass, text[], text[]),
    relay.column_now(oid, smallint), relay.root_of(oid), relay.operator_of(oid, int),
    relay.qualify(regclass, text, text), relay.lock_table(regclass, text), relay.check_bulk(regclass, text[], text, boolean),
    relay.set_trigger(regclass, text, text, text, text, text[]), relay.drop_triggers(regclass, text[]),
    relay.let_read(regclass, text[], text), relay.set_always(regclass, boolean),
    relay.remember(regclass, text, boolean, text), relay.make_reader(regclass, text, text, text), relay.drop_reader(text), relay.owns(regclass),
    relay.row_event(), relay.image_event(), relay.boxed_event(), relay.bulk_event(), relay.truncate_event()
    to relay_watcher;

-- What the functions of relay_owner call of the others', and the one that relay_trigger calls.
set local role relay_trigger;
grant execute on function
    relay.keys_after(regclass, text[], text[], json, int),
    relay.read_rows(regclass, text[], text[], json, text, json, json, boolean)
    to relay_owner;
set local role relay_compute;
grant execute on function relay.compute(record, record, text[], smallint[], oid, json, text)
    to relay_owner, relay_trigger;
grant execute on function relay.ask_reader(text, text, text, text[], record), relay.boxed(record) to relay_owner;
set local role relay_owner;
grant usage, create on schema relay_readers to relay_watcher;
grant usage on schema relay_readers to relay_compute;
revoke all on schema relay from relay_compute;  -- it can't name anything here

\if :relay_step
-- The watches of version 1 get what relay.watch does since version 2, as far as whoever installs may do that.
set local role none;
do $$
declare
    w record;
begin
    for w in select tbl::regclass, name, key, options, always from relay.watches loop
        begin
            perform relay.let_read(w.tbl, w.key, w.options ->> 'filter');
            perform relay.remember(w.tbl, w.name, w.always, w.options ->> 'filter');
            -- The condition is read from the triggers, and who has made them is not known: an owner of the table before
            -- this one, or whoever had the right TRIGGER then. As this owner it is not run.
            if w.options ->> 'filter' is not null then
                perform relay.drop_reader((select n.reader from relay.wanted n where n.tbl = w.tbl));
                raise warning 'relay: % has a condition: keys that its rows exchange are told as deleted', w.tbl
                    using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
            end if;
        exception when insufficient_privilege or undefined_column or check_violation then
            raise warning 'relay: % is watched as by version 1: %', w.tbl, sqlerrm
                using hint = format('As its owner, with the arguments it had: select relay.watch(%L, ...);', w.tbl);
        end;
    end loop;
end $$;
set local role relay_owner;
\endif

comment on schema relay is 'relay: outbox of row changes for RabbitMQ, schema version 2';
comment on table relay.outbox is 'Events that RabbitMQ has not confirmed yet, in order of seq. relay schema version 2';
select :relay_from = :relay_version as relay_same \gset
commit;

-- One line of what was done, and what comes next.
\set QUIET :relay_quiet
\if :relay_fresh
    \set relay_next 'create role relay_listen login password ''...'' in role relay_listener; select relay.watch(''public.orders'');'
    \echo relay: schema version :relay_version installed in database :DBNAME. Next, for example: :relay_next
\elif :relay_same
    \echo relay: schema version :relay_version installed again in database :DBNAME. Nothing else to do.
\else
    \echo relay: schema in database :DBNAME upgraded from version :relay_from to :relay_version. Next: restart listen.py.
\endif
