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
\set relay_version 3
begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
set local standard_conforming_strings = on;
set local check_function_bodies = on;
set local quote_all_identifiers = off;
-- Who waits for a lock has all others wait behind him: whoever may read relay.watched could keep writers waiting.
set local lock_timeout = '5s';

\ir roles.sql
create schema if not exists relay authorization relay_owner;
create schema if not exists relay_readers authorization relay_owner;
\ir ours.sql
\ir versions.sql

-- From here on everything belongs to relay_owner.
set local role relay_owner;

\if :relay_fresh
    \ir tables.sql
\endif
\ir upgrade/all.sql
alter table relay.wanted drop constraint if exists wanted_check;  -- it comes back below
\ir unsampled.sql

\ir functions/version.sql
\ir functions/sleep_key.sql
\ir functions/is_json.sql
\ir functions/event_id.sql
\ir functions/event_body.sql
\ir functions/check_topic.sql
\ir functions/publish.sql
\ir functions/publish_many.sql
\ir functions/notified.sql
\ir functions/column_now.sql
\ir functions/operator_of.sql
\ir functions/renamers.sql
\ir functions/told.sql
\ir functions/root_of.sql
\ir functions/unasked.sql
\ir functions/check_table.sql
\ir functions/find_key.sql
\ir functions/find_columns.sql
\ir functions/qualify.sql
\ir functions/check_bulk.sql
\ir functions/lock_table.sql
\ir functions/set_trigger.sql
\ir functions/let_read.sql
\ir functions/set_triggers.sql
\ir functions/watch_table.sql
\ir functions/watch.sql
\ir functions/unwatch.sql
drop trigger if exists forget on relay.wanted;
create trigger forget after update on relay.wanted for each row when (new.triggers = '{}') execute function relay.forget();
drop trigger if exists own_reader on relay.wanted;
create trigger own_reader after insert or update of reader on relay.wanted for each row execute function relay.own_reader();
drop policy if exists owners on relay.wanted;
create policy owners on relay.wanted to relay_watcher using (relay.owns(tbl));
\ir functions/add_snapshots.sql
\ir functions/read_options.sql
\ir views/arguments.sql
\ir views/watches.sql
\ir views/watched.sql
\ir views/pending.sql
\ir views/backlog.sql
\ir functions/resend_chunk.sql
\ir functions/present_rows.sql
\ir functions/pick.sql
\ir functions/key_of.sql
\ir functions/in_order.sql
\ir functions/key_taken.sql
\ir functions/general_event.sql
\ir functions/row_event.sql
\ir functions/image_event.sql
\ir functions/bulk_event.sql
\ir functions/truncate_event.sql

-- What reads the users' tables, and what may meet their code, each belongs to a role that can do nothing else.
grant usage, create on schema relay to relay_trigger;
set local role relay_trigger;
\ir functions/read_rows.sql
set local role relay_owner;
revoke create on schema relay from relay_trigger;
grant usage, create on schema relay to relay_compute;
set local role relay_compute;
\ir functions/compute.sql
\ir functions/boxed.sql
\ir functions/ask_reader.sql
set local role relay_owner;

\ir grants.sql

\if :relay_to_2
    \ir upgrade/2_watches.sql
\endif
\if :relay_from_2
    \ir upgrade/3_readers.sql
\endif

-- The owners of tables write here, and the listener reads all of it now and then. Lengths as they are read, not as stored
-- (pg_column_size): a million nulls are 2,000 bytes there. Last, and NOT VALID: of notes that are there already, which hold no
-- install up, relay.watched reads no more than this.
alter table relay.wanted add constraint wanted_check check (
    octet_length(name) <= 255 and cardinality(triggers) <= 20 and octet_length(array_to_string(triggers, '')) <= 1260
    and octet_length(reader) <= 63 and octet_length(filter) <= 8000 and octet_length(secret) <= 100) not valid;

comment on schema relay is 'relay: outbox of row changes for RabbitMQ, schema version 3';
comment on table relay.outbox is 'Events that RabbitMQ has not confirmed yet, in order of seq. relay schema version 3';
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
